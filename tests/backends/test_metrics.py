"""Where the guard's numbers come from, in good and bad days: pages of metrics, a prober, and a Prometheus."""

import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.metric_servers import ServerAnswer, serve_answer
from tests.support.sample_pods import StartPod
from zdd_tui.backends.metrics import prometheus
from zdd_tui.backends.metrics.probe import Prober
from zdd_tui.backends.metrics.scrape import build_reader, scrape_all
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.guard.series import CounterSample, WindowStats
from zdd_tui.model.plan.guard import Probe, PrometheusServer, Scrape
from zdd_tui.service.metrics import RequestMetrics
from zdd_tui.testbed.processes import free_port

PAGE = """\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="GET",code="200"} 90
http_requests_total{method="GET",code="503"} 7
http_requests_total{method="POST",code="500",path="/a \\"b\\" {c}"} 3
http_requests_total_by_day 12345
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1"} 80
http_request_duration_seconds_bucket{le="+Inf"} 100
http_request_duration_seconds_sum 12.5
http_request_duration_seconds_count 100
"""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


# --- pages of metrics -------------------------------------------------------------------------------------------


def test_a_page_is_read() -> None:
    found = build_reader(Scrape())(PAGE)
    assert (found.requests, found.errors) == (100, 10)
    assert found.buckets == {0.1: 80, float("inf"): 100}
    assert found.available == {"requests", "duration"}


def test_the_service_library_exports_what_the_guard_reads() -> None:
    metrics = RequestMetrics()
    assert build_reader(Scrape())(metrics.render(0)).available == {"requests", "duration"}, (
        "also before the first request"
    )
    for code, seconds in ((200, 0.004), (200, 0.3), (503, 0.02)):
        metrics.observe("GET", code, seconds)
    found = build_reader(Scrape())(metrics.render(1))
    assert (found.requests, found.errors, found.buckets[0.025]) == (3, 1, 2)


def test_names_and_labels_come_from_the_plan() -> None:
    spec = Scrape(requests="hits_total", code="status", errors="5..|429", duration="took")
    page = 'hits_total{status="429"} 2\nhits_total{status="200"} 8\ntook_bucket{le="1"} 5\ntook_bucket{le="+Inf"} 9\n'
    found = build_reader(spec)(page)
    assert (found.requests, found.errors, found.buckets[1.0]) == (10, 2, 5)


def test_requests_without_status_codes_have_no_error_rate() -> None:
    assert (
        "requests"
        not in build_reader(Scrape())("# TYPE http_requests_total counter\nhttp_requests_total 7\n").available
    )


@pytest.mark.parametrize(
    "page",
    [
        "<html><body>login</body></html>",
        'http_requests_total{code="200"} NaN\n',
        'http_requests_total{code="200"} -1\n',
        'http_requests_total{code="200"} lots\n',
        'http_requests_total{code="200" 5\n',
        'http_request_duration_seconds_bucket{le="x"} 5\n',
        "\x00\x01",
    ],
)
def test_an_invalid_page_of_metrics_is_an_error_and_not_zero(page: str) -> None:
    with pytest.raises(MetricsError):
        build_reader(Scrape())(page)


async def test_each_pod_is_scraped_independently(session: aiohttp.ClientSession) -> None:
    async with (
        serve_answer(ServerAnswer(body=PAGE)) as good,
        serve_answer(ServerAnswer(status=404)) as gone,
        serve_answer(ServerAnswer(body=PAGE, wait=5)) as slow,
        serve_answer(ServerAnswer(body="<html>")) as other,
    ):
        nobody = f"http://127.0.0.1:{free_port()}"
        addresses = {"good": good, "gone": gone, "slow": slow, "other": other, "nobody": nobody}
        began = time.monotonic()
        found = await scrape_all(session, addresses, Scrape(timeout=0.3))
    assert time.monotonic() - began < 3
    assert isinstance(found["good"], CounterSample)
    assert found["gone"] == "status 404"
    assert found["slow"] == "no response within 0.3 s"
    assert found["other"] == "not a page of metrics"
    assert found["nobody"] == "Connection refused"


async def test_a_real_pod_of_the_sample_application(session: aiohttp.ClientSession, start_pod: StartPod) -> None:
    pod = await start_pod(1)
    before = (await scrape_all(session, {"pod": pod.url}, Scrape()))["pod"]
    assert isinstance(before, CounterSample)
    for _ in range(5):
        assert (await pod.call("GET", "/users/1"))[0] == 404
    after = (await scrape_all(session, {"pod": pod.url}, Scrape()))["pod"]
    assert isinstance(after, CounterSample)
    gained = after.since(before)
    assert (gained.requests, gained.errors) == (5, 0)
    assert WindowStats("v1", buckets=gained.buckets).quantile(0.99) is not None


# --- prober -----------------------------------------------------------------------------------------------------


async def test_the_prober_counts_its_results(session: aiohttp.ClientSession) -> None:
    answer = ServerAnswer()
    async with serve_answer(answer) as url:
        prober = Prober(session, Probe(path="/ready", timeout=0.2))
        await prober.probe_all({"a": url})
        answer.status = 503
        await prober.probe_all({"a": url})
        answer.status, answer.wait = 200, 5
        found = await prober.probe_all({"a": url, "b": f"http://127.0.0.1:{free_port()}"})
    assert isinstance(found["a"], CounterSample)
    assert isinstance(found["b"], CounterSample)
    assert (found["a"].requests, found["a"].errors, found["b"].errors) == (3, 2, 1)
    # What gave no good answer in time is slower than every bound.
    assert max(count for bound, count in found["a"].buckets.items() if bound <= 0.2) == 1
    assert found["a"].buckets[float("inf")] == 3
    assert set(await prober.probe_all({})) == set(), "a target that is gone is forgotten"


# --- Prometheus -------------------------------------------------------------------------------------------------


def vector(*values: object, at: str = "NOW") -> str:
    result = ", ".join(f'{{"metric": {{}}, "value": [{at}, "{value}"]}}' for value in values)
    return f'{{"status": "success", "data": {{"resultType": "vector", "result": [{result}]}}}}'


def failure(kind: str, text: str) -> str:
    return json.dumps({"status": "error", "errorType": kind, "error": text})


def plain(kind: str, result: object) -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


async def run_query(session: aiohttp.ClientSession, answer: ServerAnswer, query: str = "up", **parts: object) -> float:
    async with serve_answer(answer) as url:
        server = PrometheusServer.model_validate({"url": url, "timeout": 0.5} | parts)
        return await prometheus.query_value(session, server, query, now=time.time())


async def test_a_number(session: aiohttp.ClientSession) -> None:
    answer = ServerAnswer(body=vector(0.25))
    assert await run_query(session, answer, "sum(up)", token="t0ken") == 0.25
    assert answer.form is not None
    assert answer.headers is not None
    assert (answer.form["query"], answer.headers["Authorization"]) == ("sum(up)", "Bearer t0ken")
    assert await run_query(session, ServerAnswer(body=plain("scalar", [time.time(), "7"]))) == 7.0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            ServerAnswer(400, failure("bad_data", '1:5: parse error: unexpected ")"')),
            "refuses the query: bad_data: 1:5",
        ),
        (ServerAnswer(422, failure("execution", "too many samples")), "refuses the query: execution"),
        (ServerAnswer(503, failure("timeout", "query timed out")), "refuses the query: timeout"),
        (ServerAnswer(body=vector()), "the query returns no series: up"),
        (ServerAnswer(body=vector(1, 2, 3)), "returns 3 series, not one: up"),
        (ServerAnswer(body=plain("matrix", [])), "returns a matrix, not one number"),
        (ServerAnswer(body=plain("string", [0, "x"])), "returns a string, not one number"),
        (ServerAnswer(body=vector("NaN")), "the query returns nan"),
        (ServerAnswer(body=vector("+Inf")), "the query returns inf"),
        (ServerAnswer(body=vector("many")), "does not match its API"),
        (ServerAnswer(body=plain("vector", [{"value": [1]}])), "does not match its API"),
        (ServerAnswer(body=vector(1, at="1700000000.5")), "in the past: compare the clocks"),
        (ServerAnswer(body=vector(1, at="17000000000")), "in the future"),
        (ServerAnswer(body=vector(1), wait=5), "no response within 0.5 s"),
        (ServerAnswer(body="<html>"), "is not a Prometheus API: status 200"),
        (ServerAnswer(404, "not found"), "is not a Prometheus API: status 404"),
        (ServerAnswer(401, "who are you"), "refuses access: status 401"),
    ],
)
async def test_a_result_that_is_not_a_number_has_a_reason(
    session: aiohttp.ClientSession, answer: ServerAnswer, words: str
) -> None:
    with pytest.raises(MetricsError) as caught:
        await run_query(session, answer)
    assert words in caught.value.title
    assert "\n" not in caught.value.title


async def test_an_unreachable_server_is_named_without_secrets(session: aiohttp.ClientSession) -> None:
    address = f"http://ana:s3cret@127.0.0.1:{free_port()}/prom"
    with pytest.raises(MetricsError, match=r"Prometheus 127.0.0.1:\d+ is unreachable: Connection refused") as caught:
        await prometheus.query_value(session, PrometheusServer.model_validate({"url": address}), "up", now=time.time())
    assert "s3cret" not in str(caught.value)

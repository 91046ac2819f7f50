"""`zdd check` runs the guard's queries once: a query without a number is refused with place and hint, exit code 2."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command_line import CliEnvironment, make_environment
from tests.support.metric_servers import ServerAnswer, serve_answer
from zdd_tui.testbed.processes import free_port

pytestmark = pytest.mark.timeout(300)

GUARD = """
guard:
  sources:
    prometheus: {{url: "{url}", timeout: 2s}}
  rules:
    - {{name: orders, metric: query, query: "sum(rate(orders_failed_total[1m]))", limit: 3}}
"""
VECTOR = '{"status": "success", "data": {"resultType": "vector", "result": [%s]}}'
MATRIX = VECTOR.replace("vector", "matrix") % ""
ELEMENT = '{"metric": {}, "value": [NOW, "%s"]}'


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def test_queries_are_tried_before_the_release_begins(here: CliEnvironment) -> None:
    answer = ServerAnswer(body=VECTOR % (ELEMENT % "0.5"))
    async with serve_answer(answer) as url:
        plain = here.plan_file.read_text().split("\nguard:")[0]
        here.plan_file.write_text(plain + GUARD.format(url=url))
        good = await here.run_zdd("check")
        assert good.code == 0, good.err
        assert "guard rule orders: query 0.5" in good.out

        for body, words, hint in (
            (VECTOR % ", ".join([ELEMENT % 1] * 2), "the query returns 2 series, not one", "put sum() or max()"),
            (VECTOR % (ELEMENT % "NaN"), "the query returns nan", "or vector(0)"),
            ('{"status": "error", "errorType": "bad_data", "error": "parse error"}', "bad_data: parse error", "page"),
            (VECTOR % "", "the query returns no series", "check its metric names and labels"),
            (
                VECTOR.replace("vector", "matrix") % "",
                "the query returns a matrix, not one number",
                "put rate() or sum()",
            ),
        ):
            answer.body = body
            bad = await here.run_zdd("check")
            assert (bad.code, bad.out) == (2, "")
            assert here.line_of("guard.rules") in bad.err
            assert "rule orders: query: " in bad.err
            assert words in bad.err
            assert hint in bad.err.partition("Fix: ")[2]

        # The server is at fault, not the query: the hint names the server.
        answer.body = VECTOR % ELEMENT.replace("NOW", "1700000000") % 1
        past = await here.run_zdd("check")
        assert (past.code, past.out) == (2, "")
        assert "the result of Prometheus is" in past.err
        assert "in the past: compare the clocks" in past.err
        assert "Fix: check guard.sources.prometheus" in past.err
        answer.body, answer.wait = VECTOR % (ELEMENT % 1), 30.0
        slow = await here.run_zdd("check")
        assert (slow.code, slow.out) == (2, "")
        assert "no response within 2 s" in slow.err
        answer.wait = 0.0

    here.plan_file.write_text(plain + GUARD.format(url=f"http://127.0.0.1:{free_port()}"))
    away = await here.run_zdd("check")
    assert away.code == 2
    assert "is unreachable: Connection refused" in away.err
    assert "Fix: check guard.sources.prometheus" in away.err
    assert await here.fetchval("SELECT to_regnamespace('zdd')") is None

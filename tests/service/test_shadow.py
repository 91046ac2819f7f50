"""Shadow reads: requests are not affected, and the counters are correct."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from zdd_tui.model.plan.strategies import Dark
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.shadow import FAILED_RESULTS, METRIC_FAMILIES, ShadowCounters, evaluate_agreement, evaluate_latency
from zdd_tui.service.differences import differing_fields
from zdd_tui.service.flags import FlagClient, FlagState
from zdd_tui.service.shadow import RESULTS, ShadowComparison


@dataclass(frozen=True)
class SampleUser:
    id: int
    name: str


def make(shadow: int = 100, read: int = 0, **options: object) -> ShadowComparison[SampleUser | None]:
    flags = FlagClient("redis://127.0.0.1:1/0", ["shadow", "read"])  # never started: it holds the values of the test
    flags._flags = {"shadow": FlagState(shadow), "read": FlagState(read)}
    return ShadowComparison("users", flags, shadow_key="shadow", read_key="read", **options)  # type: ignore[arg-type]


def answers(*values: SampleUser | Exception | None) -> Callable[[], Awaitable[SampleUser | None]]:
    """Returns one after the other, and then the last one again."""
    left = list(values)

    async def answer() -> SampleUser | None:
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return value

    return answer


async def never_return() -> SampleUser | None:
    await asyncio.Event().wait()
    return None


async def wait_and_scrape(shadow: ShadowComparison[SampleUser | None]) -> ShadowCounters:
    """Waits for the comparisons and scrapes the metrics."""
    async with asyncio.timeout(5):
        await asyncio.gather(*shadow._running)
    families = text_string_to_metric_families(shadow.render())
    samples = [(s.name, s.labels, float(s.value)) for family in families for s in family.samples]
    assert {name for name in METRIC_FAMILIES if any(s[0].startswith(name) for s in samples)} >= {
        METRIC_FAMILIES[0],
        METRIC_FAMILIES[2],
    }
    return ShadowCounters.from_samples(samples, "users")


ANA, BOB = SampleUser(1, "Ana"), SampleUser(1, "Bob")


async def test_equal_results_match_and_the_old_one_is_returned() -> None:
    shadow = make()
    assert await shadow.run(1, old=answers(ANA), new=answers(ANA)) is ANA
    counts = await wait_and_scrape(shadow)
    assert counts.results["match"] == 1
    assert (counts.new.requests, counts.new.errors) == (1, 0)
    assert counts.old.buckets[float("inf")] == counts.new.buckets[float("inf")] == 1


async def test_a_mismatch_names_the_field_and_no_value(caplog: pytest.LogCaptureFixture) -> None:
    shadow = make()
    assert await shadow.run(7, old=answers(ANA), new=answers(BOB)) is ANA
    counts = await wait_and_scrape(shadow)
    assert (counts.results["mismatch"], dict(counts.fields)) == (1, {"name": 1})
    assert [(sample.unit, sample.field_names) for sample in shadow.samples] == [("7", ("name",))]
    assert "Bob" not in shadow.render() + repr(shadow.samples) + caplog.text


async def test_a_row_that_moved_between_the_reads_is_no_mismatch() -> None:
    shadow = make()
    await shadow.run(1, old=answers(ANA, BOB), new=answers(BOB))
    counts = await wait_and_scrape(shadow)
    assert (counts.results["moved"], counts.results["mismatch"], counts.new.requests) == (1, 0, 0)


async def test_errors_and_timeouts_of_the_new_path_affect_no_request() -> None:
    shadow = make(timeout=0.01)
    assert await shadow.run(1, old=answers(ANA), new=answers(ValueError("secret"))) is ANA
    assert await shadow.run(1, old=answers(ANA), new=never_return) is ANA
    counts = await wait_and_scrape(shadow)
    assert (counts.results["error"], counts.results["timeout"], counts.new.errors) == (1, 1, 2)


async def test_comparisons_above_the_limit_are_skipped() -> None:
    shadow = make(max_concurrent=2, timeout=0.05)
    for _ in range(5):
        assert await shadow.run(1, old=answers(ANA), new=never_return) is ANA
    assert len(shadow._running) == 2
    counts = await wait_and_scrape(shadow)
    assert (counts.results["skipped"], counts.results["timeout"]) == (3, 2)


async def test_the_old_paths_own_error_is_the_requests_error() -> None:
    shadow = make()
    with pytest.raises(LookupError):
        await shadow.run(1, old=answers(LookupError()), new=answers(ANA))
    assert not shadow._running


async def test_nothing_is_compared_while_the_share_is_zero() -> None:
    shadow = make(shadow=0)
    await shadow.run(1, old=answers(ANA), new=answers(RuntimeError()))
    assert sum((await wait_and_scrape(shadow)).results.values()) == 0


async def test_with_the_read_flag_the_new_path_serves_and_the_old_one_is_compared() -> None:
    shadow = make(read=100)
    assert await shadow.run(1, old=answers(ANA), new=answers(BOB)) is BOB
    counts = await wait_and_scrape(shadow)
    assert counts.results["mismatch"] == 1
    assert counts.old.buckets[float("inf")] == 1


@pytest.mark.parametrize("new", [answers(ValueError()), never_return])
async def test_the_old_path_serves_when_the_new_one_fails(
    new: Callable[[], Awaitable[SampleUser | None]],
) -> None:
    shadow = make(read=100, timeout=0.01)
    assert await shadow.run(1, old=answers(ANA), new=new) is ANA
    assert 'shadow_fallbacks_total{path="users"} 1' in shadow.render()
    assert (await wait_and_scrape(shadow)).new.errors == 1


async def test_stop_cancels_running_comparisons() -> None:
    shadow = make(timeout=60)
    await shadow.run(1, old=answers(ANA), new=never_return)
    await shadow.stop()
    assert not shadow._running


def test_flags_must_be_declared() -> None:
    with pytest.raises(ValueError, match="unknown"):
        ShadowComparison("users", FlagClient("redis://x", ["read"]), shadow_key="unknown", read_key="read")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (ANA, SampleUser(1, "Ana"), ()),
        (ANA, None, ("presence",)),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ("b", "c")),
        (1, 2, ("value",)),
    ],
)
def test_fields_that_differ_are_named(old: object, new: object, expected: tuple[str, ...]) -> None:
    assert differing_fields(old, new) == expected


# The evaluation of the counters by the gates

DARK = Dark(path="users", min_sample=10, max_mismatch=10, max_latency_ratio=2, latency_quantile=0.5)


def counted(match: float, buckets: dict[str, dict[float, float]] | None = None, **bad: float) -> ShadowCounters:
    samples = [
        ("shadow_comparisons_total", {"path": "users", "result": r}, v) for r, v in {"match": match, **bad}.items()
    ]
    for side, each in (buckets or {}).items():
        for bound, value in each.items():
            labels = {"path": "users", "side": side, "le": str(bound)}
            samples.append(("shadow_duration_seconds_bucket", labels, value))
    samples.append(("shadow_comparisons_total", {"path": "another", "result": "mismatch"}, 99.0))
    return ShadowCounters.from_samples(samples, "users")


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        (ShadowCounters(), Verdict.INCONCLUSIVE),
        (counted(9), Verdict.INCONCLUSIVE),
        (counted(10), Verdict.PASS),
        (counted(9, mismatch=1), Verdict.PASS),
        (counted(8, mismatch=1, error=1), Verdict.FAIL),
        (counted(0, timeout=2), Verdict.FAIL),  # too many already, whatever follows
        (counted(1000, moved=500, skipped=500), Verdict.PASS),
    ],
)
def test_agreement(counts: ShadowCounters, verdict: Verdict) -> None:
    assert evaluate_agreement(counts, DARK)[0] is verdict


FAST = {0.001: 20.0, 0.01: 20.0, float("inf"): 20.0}
SLOW = {0.001: 0.0, 0.01: 20.0, float("inf"): 20.0}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (FAST, FAST, Verdict.PASS),
        (SLOW, FAST, Verdict.PASS),
        (FAST, SLOW, Verdict.FAIL),
        ({}, FAST, Verdict.INCONCLUSIVE),
        ({float("inf"): 20.0}, FAST, Verdict.INCONCLUSIVE),
    ],
)
def test_speed(old: dict[float, float], new: dict[float, float], verdict: Verdict) -> None:
    assert evaluate_latency(counted(20, {"old": old, "new": new}), DARK)[0] is verdict


def test_a_phase_counts_from_its_base_and_a_restarted_pod_from_zero() -> None:
    before = counted(100, {"old": FAST, "new": FAST}, mismatch=3)
    base = ShadowCounters.from_json(before.as_json())
    later = counted(107, {"old": FAST, "new": FAST}, mismatch=4)
    assert later.since(base).results == {"match": 7, "mismatch": 1}
    assert later.since(base).new.buckets[float("inf")] == 0
    assert counted(5).since(base).results == {"match": 5}
    both = later.since(base) + counted(5)
    assert (both.new.requests, both.new.errors) == (13, 1)


def test_the_gate_knows_the_results_that_the_library_counts() -> None:
    assert set(FAILED_RESULTS) < set(RESULTS)

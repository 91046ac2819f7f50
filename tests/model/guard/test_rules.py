"""What rules say: limits, comparisons, burn rates, queries; and what happens over time."""

import math
from dataclasses import replace
from typing import Any

import pytest

from zdd_tui.model.guard.reading import GuardAction, GuardReading
from zdd_tui.model.guard.rule_state import Course, resumed, step
from zdd_tui.model.guard.rules import Finding, Look, judge, judge_query, show
from zdd_tui.model.guard.series import Tally
from zdd_tui.model.plan.guard import Rule, Unit
from zdd_tui.model.release.gate import Verdict

ORDER = ("v1", "v2", "v3")
KNOWN = frozenset({"requests", "duration"})


def rule(**parts: Any) -> Rule:
    return Rule.model_validate({"name": "rule", "metric": "error-rate"} | parts)


def tally(version: str, requests: float = 1000, errors: float = 0, **parts: Any) -> Tally:
    given = {"targets": 4, "rotating": True, "live": True, "known": KNOWN} | parts
    return Tally(version, requests, errors, **given)


def slow(version: str, seconds: float, count: int = 100, **parts: Any) -> Tally:
    bounds = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, math.inf)
    buckets = {bound: float(count if seconds <= bound else 0) for bound in bounds}
    return tally(version, count, buckets=buckets, **parts)


def look(a_rule: Rule, *tallies: Tally, pairs: Any = ()) -> Finding:
    window = {one.version: one for one in tallies}
    return judge(a_rule, [window] * len(a_rule.windows), ORDER, pairs)


# --- one look ---------------------------------------------------------------------------------------------------


def test_the_worst_version_counts() -> None:
    found = look(rule(limit="1%"), tally("v1", 100_000, 10), tally("v2", 1000, 124))
    assert (found.look, found.value, found.limit, found.samples) == (Look.OVER, 0.124, 0.01, 1000)
    assert found.reason == "v2 errors 12.4%, limit 1% (1,000 requests in 1m00s)"
    assert look(rule(limit="1%", version="all"), tally("v1", 100_000, 10), tally("v2", 1000, 124)).look is Look.FINE


def test_exactly_the_limit_is_fine() -> None:
    assert look(rule(limit="10%"), tally("v1", 100, 10)).look is Look.FINE
    assert look(rule(limit="10%"), tally("v1", 100, 11)).look is Look.OVER


def test_too_few_samples_are_thin_whatever_they_say() -> None:
    for errors in (0, 19):
        found = look(rule(limit="1%"), tally("v1"), tally("v2", 19, errors))
        assert (found.look, found.reason) == (Look.THIN, "v2: 19 of 20 samples in 1m00s")


def test_a_version_that_takes_no_traffic_need_not_have_samples() -> None:
    assert look(rule(limit="1%"), tally("v1"), tally("v2", 0, rotating=False)).look is Look.FINE
    assert look(rule(limit="1%"), tally("v1"), tally("v2", 3, live=False, rotating=False)).look is Look.FINE
    found = look(rule(limit="1%"), tally("v1", 0, rotating=False))
    assert (found.look, found.reason) == (Look.DARK, "no pod takes traffic")


def test_a_new_version_that_serves_nothing_is_dark_only_when_nobody_else_serves() -> None:
    gone = tally("v2", 0, live=True, rotating=False)
    assert look(rule(limit="1%", version="new"), tally("v1"), gone).look is Look.IDLE
    alone = look(rule(limit="1%", version="new"), tally("v1", 0, live=False, rotating=False), gone)
    assert (alone.look, alone.reason) == (Look.DARK, "no pod takes traffic")


def test_silence_is_no_health_and_a_breach_is_one_all_the_same() -> None:
    quiet = {"silent": 2, "why_silent": "pod-x: no answer"}
    found = look(rule(limit="1%"), tally("v1"), tally("v2", **quiet))
    assert (found.look, found.reason) == (Look.DARK, "2 of 4 v2 targets are silent (pod-x: no answer)")
    assert look(rule(limit="1%"), tally("v1"), tally("v2", errors=500, **quiet)).look is Look.OVER
    assert look(rule(limit="1%")).look is Look.DARK


def test_a_metric_that_nobody_shows_is_no_data() -> None:
    found = look(rule(limit="1%"), tally("v1", 0, known=frozenset({"duration"})))
    assert (found.look, "guard.sources.scrape.requests" in found.reason) == (Look.DARK, True)


def test_latency() -> None:
    p99 = rule(metric="latency", limit="200ms")
    assert look(p99, slow("v1", 0.04)).look is Look.FINE
    found = look(p99, slow("v1", 0.04), slow("v2", 0.4))
    assert found.look is Look.OVER
    assert found.reason.startswith("v2 p99 497ms, limit 200ms (100 requests")


def test_a_limit_above_the_largest_bucket_could_never_be_seen() -> None:
    found = look(rule(metric="latency", limit="2s"), slow("v1", 0.04))
    assert (found.look, "ends at 1.0s" in found.reason) == (Look.DARK, True)


def test_restarts_are_counted_also_of_pods_without_traffic() -> None:
    crashes = rule(metric="restarts", limit=2)
    crashed = tally("v2", restarts=3, rotating=False, targets=1, watched=1)
    assert look(crashes, tally("v1", watched=4), crashed).look is Look.OVER
    assert look(crashes, tally("v1", watched=4), replace(crashed, restarts=2)).look is Look.FINE


def test_one_look_at_restarts_proves_nothing() -> None:
    """What was before it, nobody has seen: a gap must not count as healthy."""
    found = look(rule(metric="restarts", limit=2), tally("v1"))
    assert (found.look, found.reason) == (Look.THIN, "v1: 0 of 1 samples in 1m00s")


def test_the_new_version_alone() -> None:
    new = rule(limit="1%", version="new")
    assert look(new, tally("v1", errors=900)).look is Look.IDLE
    assert look(new, tally("v1", errors=900), tally("v2")).look is Look.FINE
    assert look(new, tally("v1"), tally("v2", errors=900), tally("v3", live=False)).look is Look.OVER


def test_both_windows_of_a_burn_rate_must_say_so() -> None:
    burn = rule(burn={"objective": "99.9%"})
    calm, bad = {"v1": tally("v1", 100_000, 100)}, {"v1": tally("v1", 10_000, 300)}
    assert judge(burn, [bad, bad], ORDER).look is Look.OVER
    assert judge(burn, [bad, calm], ORDER).look is Look.FINE
    assert judge(burn, [calm, bad], ORDER).look is Look.FINE
    assert judge(burn, [bad, {"v1": tally("v1", 0)}], ORDER).look is Look.THIN


# --- new against old ----------------------------------------------------------------------------------------------


def test_a_ratio_and_a_difference() -> None:
    twice, more = rule(compare={"ratio": 2}, limit="1%"), rule(compare={"difference": "5%"})
    old = tally("v1", 1000, 20)
    found = look(twice, old, tally("v2", 1000, 41))
    assert (found.look, found.value, found.baseline, found.limit) == (Look.OVER, 0.041, 0.02, 0.04)
    assert "old 2%" in found.reason
    assert look(twice, old, tally("v2", 1000, 40)).look is Look.FINE
    assert look(twice, tally("v1"), tally("v2", 1000, 10)).look is Look.FINE, "under the limit nobody minds"
    assert look(more, old, tally("v2", 1000, 71)).look is Look.OVER
    assert look(more, old, tally("v2", 1000, 69)).look is Look.FINE


def test_one_version_alone_is_not_compared() -> None:
    compare = rule(compare={"ratio": 2})
    for tallies in ([tally("v1")], [tally("v2")], [tally("v2"), tally("v1", 3, live=False, rotating=False)]):
        assert look(compare, *tallies).look is Look.IDLE
    assert look(compare, tally("v1"), tally("v2", 5)).look is Look.THIN
    assert look(compare, tally("v1", 5), tally("v2")).look is Look.THIN
    assert look(compare, tally("v1", silent=4), tally("v2")).look is Look.DARK


def test_the_older_versions_count_together() -> None:
    found = look(rule(compare={"ratio": 2}), tally("v1", 100, 10), tally("v2", 100, 0), tally("v3", 100, 9))
    assert (found.look, found.baseline) == (Look.FINE, 0.05)


def test_a_rank_test_tells_worse_from_chance() -> None:
    ranked = rule(metric="latency", compare={"rank_test": 0.01})
    tallies = slow("v1", 0.04), slow("v2", 0.08)
    worse = [(0.080 + number / 1000, 0.040 + number / 1000) for number in range(10)]
    same = [(0.040 + number / 1000, 0.0401 + number / 1000) for number in range(10)]
    found = look(ranked, *tallies, pairs=worse)
    assert found.look is Look.OVER
    assert "chance" in found.reason
    assert look(ranked, *tallies, pairs=same).look is Look.FINE
    assert look(ranked, *tallies, pairs=[(0.05, 0.05)] * 10).look is Look.FINE
    assert look(ranked, *tallies, pairs=worse[:3]).look is Look.THIN, "three moments can prove nothing"


def test_queries() -> None:
    orders = rule(metric="query", query="up", limit=3)
    assert judge_query(orders, 3.0).look is Look.FINE
    assert judge_query(orders, 3.5).look is Look.OVER
    found = judge_query(orders, "the query finds nothing")
    assert (found.look, found.reason) == (Look.DARK, "the query finds nothing")
    sampled = rule(metric="query", query="a", samples="b", limit=3, min_samples=10)
    assert judge_query(sampled, 9.0, None, 9.0).look is Look.THIN
    assert judge_query(sampled, 9.0, None, 10.0).look is Look.OVER
    compared = rule(metric="query", query="a", baseline="b", compare={"ratio": 2})
    assert judge_query(compared, 9.0, 4.0).look is Look.OVER
    assert judge_query(compared, 9.0, "away").look is Look.DARK


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.124, Unit.RATIO, "12.4%"), (0.0421, Unit.SECONDS, "42.1ms"), (3.2, Unit.SECONDS, "3.2s"), (4, Unit.COUNT, "4")],
)
def test_numbers_are_shown_in_their_unit(value: float, unit: Unit, text: str) -> None:
    assert show(value, unit) == text


# --- over time ----------------------------------------------------------------------------------------------------

FINE, OVER, THIN, DARK = (Finding(one, "told", 0.5) for one in (Look.FINE, Look.OVER, Look.THIN, Look.DARK))


def course(a_rule: Rule, *looks: tuple[float, Finding], begin: Course | None = None) -> list[GuardReading]:
    state, said = begin or Course(), []
    for at, found in looks:
        state, reading = step(a_rule, state, found, at, interval=1.0)
        said.append(reading)
    return said


def test_a_breach_must_last() -> None:
    said = course(rule(limit="1%", **{"for": "3s"}), *((at, OVER) for at in range(5)))
    assert [one.verdict for one in said] == [Verdict.INCONCLUSIVE] * 3 + [Verdict.FAIL] * 2
    assert [one.acting for one in said] == [False] * 3 + [True] * 2
    assert said[1].reason == "told, for 1.0s of 3.0s"


def test_a_good_look_begins_the_count_anew_and_no_look_neither_adds_nor_ends() -> None:
    three = rule(limit="1%", **{"for": "3s"})
    assert not any(one.acting for one in course(three, (0, OVER), (2, OVER), (3, FINE), (4, OVER), (6, OVER)))
    said = course(three, (0, OVER), (2, OVER), (3, DARK), (4, THIN), (5, OVER), (6, OVER))
    assert [one.acting for one in said] == [False] * 5 + [True]


def test_time_that_nobody_saw_does_not_count() -> None:
    said = course(rule(limit="1%", **{"for": "10s"}), (0, OVER), (3600, OVER))
    assert not said[-1].acting
    unseen = rule(limit="1%", no_data={"after": "10s", "action": "rollback"})
    assert not course(unseen, (0, DARK), (3600, DARK))[-1].acting


def test_no_data_acts_after_its_own_time() -> None:
    unseen = rule(limit="1%", action="rollback", no_data={"after": "2s", "action": "pause"})
    said = course(unseen, (0, DARK), (1, DARK), (2, DARK))
    assert [one.verdict for one in said] == [Verdict.UNKNOWN] * 3
    assert [one.acting for one in said] == [False, False, True]
    assert (said[-1].action, said[-1].reason) == (GuardAction.PAUSE, "no data for 2.0s: told")
    assert not any(one.acting for one in course(rule(limit="1%"), *((at, DARK) for at in range(100))))


def test_what_was_done_is_remembered_until_the_rule_passes() -> None:
    done = resumed(GuardReading("rule", Verdict.FAIL, "", acted="pause", series=(0.1,)))
    said = course(rule(limit="1%"), (0, OVER), (1, DARK), (2, FINE), (3, OVER), begin=done)
    assert [one.acted for one in said] == ["pause", "pause", "", ""]
    assert said[0].series == (0.1, 0.5)


def test_the_strip_is_as_long_as_the_screen_wants() -> None:
    assert len(course(rule(limit="1%"), *((at, FINE) for at in range(100)))[-1].series) == 60

"""Rules of the guard: limits, comparisons, burn rates, queries; and their state over time."""

import math
from dataclasses import replace
from typing import Any

import pytest

from zdd_tui.model.guard.decisions import evaluate_guard_gate
from zdd_tui.model.guard.rule_state import RuleState, resume_rule_state, update_rule_state
from zdd_tui.model.guard.rules import RuleEvaluation, RuleOutcome, evaluate_query_rule, evaluate_rule, format_value
from zdd_tui.model.guard.series import WindowStats
from zdd_tui.model.plan.guard import GuardAction, GuardRule, MetricUnit
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading

ORDER = ("v1", "v2", "v3")
KNOWN = frozenset({"requests", "duration"})


def rule(**parts: Any) -> GuardRule:
    return GuardRule.model_validate({"name": "rule", "metric": "error-rate"} | parts)


def window_stats(version: str, requests: float = 1000, errors: float = 0, **parts: Any) -> WindowStats:
    given = {"targets": 4, "in_rotation": True, "is_live": True, "available": KNOWN} | parts
    return WindowStats(version, requests, errors, **given)


def slow(version: str, seconds: float, count: int = 100, **parts: Any) -> WindowStats:
    bounds = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, math.inf)
    buckets = {bound: float(count if seconds <= bound else 0) for bound in bounds}
    return window_stats(version, count, buckets=buckets, **parts)


def evaluate(a_rule: GuardRule, *tallies: WindowStats, pairs: Any = ()) -> RuleEvaluation:
    window = {one.version: one for one in tallies}
    return evaluate_rule(a_rule, [window] * len(a_rule.windows), ORDER, pairs)


# --- one evaluation ---------------------------------------------------------------------------------------------------


def test_the_worst_version_counts() -> None:
    found = evaluate(rule(limit="1%"), window_stats("v1", 100_000, 10), window_stats("v2", 1000, 124))
    assert (found.outcome, found.value, found.limit, found.samples) == (RuleOutcome.BREACHED, 0.124, 0.01, 1000)
    assert found.reason == "v2 errors 12.4%, limit 1% (1,000 requests in 1m00s)"
    assert (
        evaluate(
            rule(limit="1%", version="all"), window_stats("v1", 100_000, 10), window_stats("v2", 1000, 124)
        ).outcome
        is RuleOutcome.OK
    )


def test_exactly_the_limit_is_fine() -> None:
    assert evaluate(rule(limit="10%"), window_stats("v1", 100, 10)).outcome is RuleOutcome.OK
    assert evaluate(rule(limit="10%"), window_stats("v1", 100, 11)).outcome is RuleOutcome.BREACHED


def test_too_few_samples_decide_nothing() -> None:
    for errors in (0, 19):
        found = evaluate(rule(limit="1%"), window_stats("v1"), window_stats("v2", 19, errors))
        assert (found.outcome, found.reason) == (RuleOutcome.TOO_FEW, "v2: 19 of 20 samples in 1m00s")


def test_a_version_that_takes_no_traffic_need_not_have_samples() -> None:
    assert (
        evaluate(rule(limit="1%"), window_stats("v1"), window_stats("v2", 0, in_rotation=False)).outcome
        is RuleOutcome.OK
    )
    assert (
        evaluate(rule(limit="1%"), window_stats("v1"), window_stats("v2", 3, is_live=False, in_rotation=False)).outcome
        is RuleOutcome.OK
    )
    found = evaluate(rule(limit="1%"), window_stats("v1", 0, in_rotation=False))
    assert (found.outcome, found.reason) == (RuleOutcome.NO_DATA, "no pod takes traffic")


def test_a_new_version_without_traffic_has_no_data_only_when_no_version_serves() -> None:
    gone = window_stats("v2", 0, is_live=True, in_rotation=False)
    assert evaluate(rule(limit="1%", version="new"), window_stats("v1"), gone).outcome is RuleOutcome.NOT_APPLICABLE
    alone = evaluate(rule(limit="1%", version="new"), window_stats("v1", 0, is_live=False, in_rotation=False), gone)
    assert (alone.outcome, alone.reason) == (RuleOutcome.NO_DATA, "no pod takes traffic")


def test_silent_targets_mean_no_data_unless_the_limit_is_broken() -> None:
    quiet = {"silent_targets": 2, "silent_reason": "pod-x: no response"}
    found = evaluate(rule(limit="1%"), window_stats("v1"), window_stats("v2", **quiet))
    assert (found.outcome, found.reason) == (RuleOutcome.NO_DATA, "2 of 4 v2 targets without data (pod-x: no response)")
    assert (
        evaluate(rule(limit="1%"), window_stats("v1"), window_stats("v2", errors=500, **quiet)).outcome
        is RuleOutcome.BREACHED
    )
    assert evaluate(rule(limit="1%")).outcome is RuleOutcome.NO_DATA


def test_a_metric_that_no_target_exposes_is_no_data() -> None:
    found = evaluate(rule(limit="1%"), window_stats("v1", 0, available=frozenset({"duration"})))
    assert (found.outcome, "guard.sources.scrape.requests" in found.reason) == (RuleOutcome.NO_DATA, True)


def test_latency() -> None:
    p99 = rule(metric="latency", limit="200ms")
    assert evaluate(p99, slow("v1", 0.04)).outcome is RuleOutcome.OK
    found = evaluate(p99, slow("v1", 0.04), slow("v2", 0.4))
    assert found.outcome is RuleOutcome.BREACHED
    assert found.reason.startswith("v2 p99 497ms, limit 200ms (100 requests")


def test_a_limit_above_the_largest_bucket_could_never_be_seen() -> None:
    found = evaluate(rule(metric="latency", limit="2s"), slow("v1", 0.04))
    assert (found.outcome, "ends at 1.0s" in found.reason) == (RuleOutcome.NO_DATA, True)


def test_restarts_are_counted_also_of_pods_without_traffic() -> None:
    crashes = rule(metric="restarts", limit=2)
    crashed = window_stats("v2", restarts=3, in_rotation=False, targets=1, compared_targets=1)
    assert evaluate(crashes, window_stats("v1", compared_targets=4), crashed).outcome is RuleOutcome.BREACHED
    assert (
        evaluate(crashes, window_stats("v1", compared_targets=4), replace(crashed, restarts=2)).outcome
        is RuleOutcome.OK
    )


def test_one_sample_of_restarts_proves_nothing() -> None:
    """What came before it is unknown: a gap must not count as healthy."""
    found = evaluate(rule(metric="restarts", limit=2), window_stats("v1"))
    assert (found.outcome, found.reason) == (RuleOutcome.TOO_FEW, "v1: 0 of 1 sample in 1m00s")


def test_the_new_version_alone() -> None:
    new = rule(limit="1%", version="new")
    assert evaluate(new, window_stats("v1", errors=900)).outcome is RuleOutcome.NOT_APPLICABLE
    assert evaluate(new, window_stats("v1", errors=900), window_stats("v2")).outcome is RuleOutcome.OK
    assert (
        evaluate(new, window_stats("v1"), window_stats("v2", errors=900), window_stats("v3", is_live=False)).outcome
        is RuleOutcome.BREACHED
    )


def test_both_windows_of_a_burn_rate_must_be_over() -> None:
    burn = rule(burn={"objective": "99.9%"})
    normal, bad = {"v1": window_stats("v1", 100_000, 100)}, {"v1": window_stats("v1", 10_000, 300)}
    assert evaluate_rule(burn, [bad, bad], ORDER).outcome is RuleOutcome.BREACHED
    assert evaluate_rule(burn, [bad, normal], ORDER).outcome is RuleOutcome.OK
    assert evaluate_rule(burn, [normal, bad], ORDER).outcome is RuleOutcome.OK
    assert evaluate_rule(burn, [bad, {"v1": window_stats("v1", 0)}], ORDER).outcome is RuleOutcome.TOO_FEW


# --- new against old ----------------------------------------------------------------------------------------------


def test_a_ratio_and_a_difference() -> None:
    twice, more = rule(compare={"ratio": 2}, limit="1%"), rule(compare={"difference": "5%"})
    old = window_stats("v1", 1000, 20)
    found = evaluate(twice, old, window_stats("v2", 1000, 41))
    assert (found.outcome, found.value, found.baseline, found.limit) == (RuleOutcome.BREACHED, 0.041, 0.02, 0.04)
    assert "old 2%" in found.reason
    assert evaluate(twice, old, window_stats("v2", 1000, 40)).outcome is RuleOutcome.OK
    assert evaluate(twice, window_stats("v1"), window_stats("v2", 1000, 10)).outcome is RuleOutcome.OK, (
        "under the absolute limit a ratio does not matter"
    )
    assert evaluate(more, old, window_stats("v2", 1000, 71)).outcome is RuleOutcome.BREACHED
    assert evaluate(more, old, window_stats("v2", 1000, 69)).outcome is RuleOutcome.OK


def test_one_version_alone_is_not_compared() -> None:
    compare = rule(compare={"ratio": 2})
    for tallies in (
        [window_stats("v1")],
        [window_stats("v2")],
        [window_stats("v2"), window_stats("v1", 3, is_live=False, in_rotation=False)],
    ):
        assert evaluate(compare, *tallies).outcome is RuleOutcome.NOT_APPLICABLE
    assert evaluate(compare, window_stats("v1"), window_stats("v2", 5)).outcome is RuleOutcome.TOO_FEW
    assert evaluate(compare, window_stats("v1", 5), window_stats("v2")).outcome is RuleOutcome.TOO_FEW
    assert evaluate(compare, window_stats("v1", silent_targets=4), window_stats("v2")).outcome is RuleOutcome.NO_DATA


def test_the_older_versions_count_together() -> None:
    found = evaluate(
        rule(compare={"ratio": 2}), window_stats("v1", 100, 10), window_stats("v2", 100, 0), window_stats("v3", 100, 9)
    )
    assert (found.outcome, found.baseline) == (RuleOutcome.OK, 0.05)


def test_a_rank_test_separates_worse_from_chance() -> None:
    ranked = rule(metric="latency", compare={"rank_test": 0.01})
    tallies = slow("v1", 0.04), slow("v2", 0.08)
    worse = [(0.080 + number / 1000, 0.040 + number / 1000) for number in range(10)]
    same = [(0.040 + number / 1000, 0.0401 + number / 1000) for number in range(10)]
    found = evaluate(ranked, *tallies, pairs=worse)
    assert found.outcome is RuleOutcome.BREACHED
    assert "p-value" in found.reason
    assert evaluate(ranked, *tallies, pairs=same).outcome is RuleOutcome.OK
    assert evaluate(ranked, *tallies, pairs=[(0.05, 0.05)] * 10).outcome is RuleOutcome.OK
    assert evaluate(ranked, *tallies, pairs=worse[:3]).outcome is RuleOutcome.TOO_FEW, "three points prove nothing"


def test_queries() -> None:
    orders = rule(metric="query", query="up", limit=3)
    assert evaluate_query_rule(orders, 3.0).outcome is RuleOutcome.OK
    assert evaluate_query_rule(orders, 3.5).outcome is RuleOutcome.BREACHED
    found = evaluate_query_rule(orders, "the query finds nothing")
    assert (found.outcome, found.reason) == (RuleOutcome.NO_DATA, "the query finds nothing")
    sampled = rule(metric="query", query="a", samples="b", limit=3, min_samples=10)
    assert evaluate_query_rule(sampled, 9.0, None, 9.0).outcome is RuleOutcome.TOO_FEW
    assert evaluate_query_rule(sampled, 9.0, None, 10.0).outcome is RuleOutcome.BREACHED
    compared = rule(metric="query", query="a", baseline="b", compare={"ratio": 2})
    assert evaluate_query_rule(compared, 9.0, 4.0).outcome is RuleOutcome.BREACHED
    assert evaluate_query_rule(compared, 9.0, "away").outcome is RuleOutcome.NO_DATA


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.124, MetricUnit.RATIO, "12.4%"),
        (0.0421, MetricUnit.SECONDS, "42.1ms"),
        (3.2, MetricUnit.SECONDS, "3.2s"),
        (4, MetricUnit.COUNT, "4"),
    ],
)
def test_numbers_are_shown_in_their_unit(value: float, unit: MetricUnit, text: str) -> None:
    assert format_value(value, unit) == text


# --- over time ----------------------------------------------------------------------------------------------------

OK, BREACHED, TOO_FEW, NO_DATA = (
    RuleEvaluation(one, "reason", 0.5)
    for one in (RuleOutcome.OK, RuleOutcome.BREACHED, RuleOutcome.TOO_FEW, RuleOutcome.NO_DATA)
)


def run_rule(
    a_rule: GuardRule, *evaluations: tuple[float, RuleEvaluation], begin: RuleState | None = None
) -> list[GuardReading]:
    state, output = begin or RuleState(), []
    for at, found in evaluations:
        state, reading = update_rule_state(a_rule, state, found, at, interval=1.0)
        output.append(reading)
    return output


def test_a_breach_must_last() -> None:
    output = run_rule(rule(limit="1%", **{"for": "3s"}), *((at, BREACHED) for at in range(5)))
    assert [one.verdict for one in output] == [Verdict.INCONCLUSIVE] * 3 + [Verdict.FAIL] * 2
    assert [one.should_act for one in output] == [False] * 3 + [True] * 2
    assert output[1].reason == "reason, for 1.0s of 3.0s"


def test_an_ok_value_resets_the_count_and_missing_data_does_not() -> None:
    three = rule(limit="1%", **{"for": "3s"})
    assert not any(
        one.should_act for one in run_rule(three, (0, BREACHED), (2, BREACHED), (3, OK), (4, BREACHED), (6, BREACHED))
    )
    output = run_rule(three, (0, BREACHED), (2, BREACHED), (3, NO_DATA), (4, TOO_FEW), (5, BREACHED), (6, BREACHED))
    assert [one.should_act for one in output] == [False] * 5 + [True]


def test_time_without_observation_does_not_count() -> None:
    output = run_rule(rule(limit="1%", **{"for": "10s"}), (0, BREACHED), (3600, BREACHED))
    assert not output[-1].should_act
    unseen = rule(limit="1%", no_data={"after": "10s", "action": "rollback"})
    assert not run_rule(unseen, (0, NO_DATA), (3600, NO_DATA))[-1].should_act


def test_no_data_acts_after_its_own_time() -> None:
    unseen = rule(limit="1%", action="rollback", no_data={"after": "2s", "action": "pause"})
    output = run_rule(unseen, (0, NO_DATA), (1, NO_DATA), (2, NO_DATA))
    assert [one.verdict for one in output] == [Verdict.UNKNOWN] * 3
    assert [one.should_act for one in output] == [False, False, True]
    assert (output[-1].action, output[-1].reason) == (GuardAction.PAUSE, "no data for 2.0s: reason")
    assert not any(one.should_act for one in run_rule(rule(limit="1%"), *((at, NO_DATA) for at in range(100))))


def test_the_action_is_kept_until_the_rule_passes() -> None:
    done = resume_rule_state(GuardReading("rule", Verdict.FAIL, "", action_taken="pause", series=(0.1,)))
    output = run_rule(rule(limit="1%"), (0, BREACHED), (1, NO_DATA), (2, OK), (3, BREACHED), begin=done)
    assert [one.action_taken for one in output] == ["pause", "pause", "", ""]
    assert output[0].series == (0.1, 0.5)


def test_the_series_keeps_as_many_points_as_the_screen_shows() -> None:
    assert len(run_rule(rule(limit="1%"), *((at, OK) for at in range(100)))[-1].series) == 60


@pytest.mark.parametrize(
    "a_rule", [rule(limit="1%"), rule(limit="1%", version="new"), rule(compare={"ratio": 2}, limit="1%")]
)
def test_b9_counters_that_go_back_and_forth_give_no_verdict_but_a_hint(a_rule: GuardRule) -> None:
    unsteady = window_stats("v2", 3000, 3000, unsteady_targets=4, unsteady_target="users-abc")
    found = evaluate(a_rule, window_stats("v1", 1000, 1), unsteady)
    assert found.outcome is RuleOutcome.TOO_FEW
    assert "counters of users-abc go back and forth" in found.reason
    assert "PROMETHEUS_MULTIPROC_DIR" in found.reason
    one_of_many = replace(unsteady, targets=50, unsteady_targets=1)
    assert evaluate(rule(limit="1%"), one_of_many).outcome is RuleOutcome.BREACHED


@pytest.mark.parametrize("parts", [{"version": "new"}, {"compare": {"ratio": 2}}])
def test_errors_of_the_old_version_alone_are_said_and_not_acted_on(parts: dict[str, Any]) -> None:
    a_rule = rule(limit="2%", **parts)
    fine = evaluate(a_rule, window_stats("v1", 1000, 10))
    assert (fine.outcome, fine.baseline) == (RuleOutcome.NOT_APPLICABLE, None)
    found = evaluate(a_rule, window_stats("v1", 1000, 450))
    assert (found.outcome, found.value, found.baseline) == (RuleOutcome.NOT_APPLICABLE, None, 0.45)
    assert found.reason.startswith("v1 errors 45%, limit 2% (1,000 requests in 1m00s); no action: ")
    _, reading = update_rule_state(a_rule, RuleState(), found, 100.0, 1.0)
    assert reading.is_old_above_limit
    assert not reading.should_act
    reading = replace(reading, observed_at=100.0)
    verdict, reason = evaluate_guard_gate({"rule": GuardAction.ROLLBACK}, {"rule": reading}, 100.0)
    assert (verdict, "v1 errors 45%" in reason) == (Verdict.PASS, True)
    assert not reading.withdrawn("no agent").is_old_above_limit

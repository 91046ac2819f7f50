"""Counters over time: resets, gaps, pods that come and go, quantiles."""

import math

import pytest

from zdd_tui.model.guard.series import CounterSample, MetricSeries, MetricTarget, WindowStats, merge_stats

OLD = MetricTarget("pod-a", "v1")
NEW = MetricTarget("pod-b", "v2")


def counts(requests: float, errors: float = 0.0) -> CounterSample:
    return CounterSample(requests, errors, available=frozenset({"requests"}))


def buckets(*observed: float) -> CounterSample:
    bounds = (0.1, 0.2, 0.5, math.inf)
    return CounterSample(buckets={bound: float(sum(one <= bound for one in observed)) for bound in bounds})


def test_a_window_is_what_was_counted_in_it() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    for at, total in ((0, 1000), (10, 1100), (20, 1150), (30, 1150)):
        series.observe(at, [OLD], {"pod-a": counts(total, total / 10)})
    assert series.window_stats(30, 20)["v1"].requests == 50
    assert series.window_stats(30, 30)["v1"].requests == 150
    assert series.window_stats(30, 30)["v1"].error_rate == pytest.approx(0.1)


def test_counts_before_the_first_sample_are_ignored() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    series.observe(0, [OLD], {"pod-a": counts(1_000_000, 500_000)})
    assert series.window_stats(0, 60)["v1"].error_rate is None


def test_a_pod_that_starts_while_observed_counts_from_zero() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    series.observe(0, [OLD], {"pod-a": counts(100)})
    series.observe(2, [OLD, NEW], {"pod-a": counts(110), "pod-b": counts(8, 8)})
    assert series.window_stats(2, 60)["v2"].error_rate == 1.0


def test_a_pod_that_appears_after_a_gap_is_not_taken_for_new() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    series.observe(0, [OLD], {"pod-a": counts(100)})
    series.observe(50, [OLD, NEW], {"pod-a": counts(110), "pod-b": counts(5000, 5000)})
    assert series.window_stats(50, 60)["v2"].error_rate is None


def test_a_reset_counter_counts_from_zero() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    for at, total, restarts in ((0, 900, 0), (1, 1000, 0), (2, 30, 1), (3, 50, 1)):
        series.observe(at, [MetricTarget("pod-a", "v1", restarts=restarts)], {"pod-a": counts(total)})
    assert series.window_stats(3, 60)["v1"].requests == 100 + 30 + 20


@pytest.mark.parametrize("order", ["abababab", "babababa", "aabbabba", "bbbaabab"])
def test_b9_counters_of_two_processes_that_answer_by_turns_count_nothing(order: str) -> None:
    """Two gunicorn workers of one pod: 3,000 requests and 30 errors would be invented."""
    series = MetricSeries(retention=60, silence_timeout=5)
    totals = {"a": 3000.0, "b": 1500.0}
    for at, process in enumerate(order):
        totals[process] += 1
        series.observe(at, [OLD], {"pod-a": counts(totals[process], totals[process] / 100)})
        stats = series.window_stats(at, 60)["v1"]
        assert stats.requests <= at, "requests were invented"
        assert stats.errors <= at / 100
    assert (stats.unsteady_target, stats.is_unsteady) == ("pod-a", True)


def test_b9_the_start_time_of_the_process_tells_a_worker_from_a_restart() -> None:
    def sample(total: float, started: float) -> CounterSample:
        return CounterSample(total, available=frozenset({"requests"}), process_started=started)

    workers, restarted = MetricSeries(60, 5), MetricSeries(60, 5)
    for at in range(4):
        workers.observe(at, [OLD], {"pod-a": sample(100 + at, 1000.0)})
        restarted.observe(at, [OLD], {"pod-a": sample(100 + at, 1000.0)})
    workers.observe(4, [OLD], {"pod-a": sample(110, 1000.4)})  # more requests, but of a process of the same age
    restarted.observe(4, [OLD], {"pod-a": sample(5, 1010.0)})  # began after the other was seen
    assert workers.window_stats(4, 60)["v1"].unsteady_target == "pod-a"
    stats = restarted.window_stats(4, 60)["v1"]
    assert (stats.requests, stats.is_unsteady) == (3 + 5, False)


def test_b9_traffic_that_grows_at_once_counts_after_some_samples() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    for at, total in enumerate((1000, 1010, 1020, 1030, *range(2000, 9001, 1000))):
        series.observe(at, [OLD], {"pod-a": counts(total)})
        assert series.window_stats(at, 60)["v1"].unsteady_target == ""
    assert series.window_stats(11, 60)["v1"].requests == 8000


def test_b9_a_process_that_restarts_once_counts_again_after_some_samples() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    totals = (100, 110, 120, 5, 15, 25, 35, 45, 55, 65)
    for at, total in enumerate(totals):
        series.observe(at, [OLD], {"pod-a": counts(total)})
        assert series.window_stats(at, 60)["v1"].unsteady_target == ""
    assert series.window_stats(9, 60)["v1"].requests == 20 + 65


def test_a_gap_longer_than_the_window_gives_no_data() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    series.observe(0, [OLD], {"pod-a": counts(100)})
    series.observe(1, [OLD], {"pod-a": counts(200, 90)})
    series.observe(500, [OLD], {"pod-a": counts(10_000, 9_000)})
    assert series.window_stats(500, 60)["v1"].error_rate is None


def test_deleted_pods_count_until_the_window_has_passed() -> None:
    series = MetricSeries(retention=10, silence_timeout=5)
    series.observe(0, [OLD], {"pod-a": counts(0)})
    series.observe(1, [OLD], {"pod-a": counts(6)})
    series.observe(2, [OLD], {"pod-a": counts(10)})
    series.observe(3, [], {})
    window_stats = series.window_stats(3, 10)["v1"]
    assert (window_stats.requests, window_stats.is_live, window_stats.targets) == (10, False, 0)
    series.observe(30, [], {})
    assert series.window_stats(30, 10) == {}


def test_a_silent_target_leaves_its_version_without_data_unless_it_is_starting() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    starting = MetricTarget("pod-c", "v2", in_rotation=False, must_answer=False)
    series.observe(0, [OLD, starting], {"pod-a": counts(1)})
    series.observe(4, [OLD, starting], {"pod-a": "no response within 1 s"})
    assert not series.window_stats(4, 60)["v1"].is_missing_data
    series.observe(6, [OLD, starting], {"pod-a": "no response within 1 s"})
    tallies = series.window_stats(6, 60)
    assert (tallies["v1"].is_missing_data, tallies["v1"].silent_reason) == (True, "pod-a: no response within 1 s")
    assert not tallies["v2"].is_missing_data


def test_one_silent_pod_of_many_is_tolerated() -> None:
    pods = [MetricTarget(f"pod-{number}", "v1") for number in range(50)]
    series = MetricSeries(retention=60, silence_timeout=5)
    for at in (0, 6, 12):
        series.observe(at, pods, {pod.key: counts(at) for pod in pods[1:]})
    assert (series.window_stats(12, 60)["v1"].silent_targets, series.window_stats(12, 60)["v1"].is_missing_data) == (
        1,
        False,
    )


def test_quantiles_are_interpolated_and_end_at_the_largest_bound() -> None:
    window_stats = WindowStats("v1", buckets=buckets(*[0.05] * 50, *[0.15] * 40, *[0.3] * 9, 7.0).buckets)
    assert window_stats.quantile(0.5) == pytest.approx(0.1)
    assert window_stats.quantile(0.9) == pytest.approx(0.2)
    assert window_stats.quantile(0.999) == 0.5
    assert (window_stats.observations, window_stats.highest_bound) == (100, 0.5)
    assert WindowStats("v1").quantile(0.5) is None


def test_a_histogram_whose_bounds_change_restarts() -> None:
    series = MetricSeries(retention=60, silence_timeout=5)
    series.observe(0, [OLD], {"pod-a": buckets(*[0.05] * 10)})
    restarted = MetricTarget("pod-a", "v1", restarts=1)
    series.observe(1, [restarted], {"pod-a": CounterSample(buckets={1.0: 3.0, math.inf: 3.0})})
    series.observe(2, [restarted], {"pod-a": CounterSample(buckets={1.0: 5.0, math.inf: 6.0})})
    assert series.window_stats(2, 1.5)["v1"].buckets == {1.0: 2.0, math.inf: 3.0}


def test_old_points_are_thinned() -> None:
    series = MetricSeries(retention=3600, silence_timeout=5)
    for at in range(0, 7200, 2):
        series.observe(at, [OLD], {"pod-a": counts(at * 3)})
    assert series.window_stats(7198, 3600)["v1"].requests == pytest.approx(3600 * 3, rel=0.02)
    assert series.window_stats(7198, 10)["v1"].requests == 30
    line = series.histories["pod-a"]
    assert len(line.recent_points) + len(line.coarse_points) < 300


def test_merged_versions() -> None:
    both = merge_stats(
        [WindowStats("v1", 90, 9, buckets(0.05).buckets), WindowStats("v2", 10, 1, buckets(0.3).buckets)]
    )
    assert (both.requests, both.error_rate, both.observations) == (100, 0.1, 2)

"""Sizes of batches, rates and the time left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.states import EPOCH, backfill
from zdd_tui.model.backfill import (
    BatchSizer,
    EtaEstimator,
    ThroughputRate,
    batch_rates,
    estimate_eta,
    format_eta,
)
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.release.fills import late_seconds
from zdd_tui.model.release.records import BatchRecord
from zdd_tui.model.tuning import pause_seconds

limits = st.builds(
    Backfill,
    batch_rows=st.just(1),
    max_rows_per_second=st.none() | st.integers(1, 10**6),
    batch_rows_max=st.integers(1, 100_000),
    batch_budget=st.floats(0.001, 10),
    speed=st.integers(10, 100),
)


@given(st.integers(1, 100_000), limits, st.lists(st.tuples(st.floats(0, 100), st.booleans())))
def test_a_batch_never_leaves_its_bounds(start: int, limit: Backfill, events: list[tuple[float, bool]]) -> None:
    sizer = BatchSizer(start)
    for seconds, fails in events:
        rows = sizer.clamp(limit)
        assert 1 <= rows <= limit.batch_rows_max
        assert limit.max_rows_per_second is None or rows <= limit.max_rows_per_second
        after = sizer.halve(rows) if fails else sizer.after_batch(rows, seconds, limit)
        if fails or seconds > limit.batch_budget:
            assert after.rows <= max(1, rows // 2)
        else:
            assert after.rows <= max(sizer.rows + 1, sizer.rows * 1.25)
        sizer = after


@given(limits, st.floats(1e-6, 0.1))
def test_it_settles_within_the_budget_when_a_row_costs_the_same(limit: Backfill, cost: float) -> None:
    sizer, late = BatchSizer(1000), 0
    for number in range(200):
        rows = sizer.clamp(limit)
        seconds = rows * cost
        late += number > 100 and seconds > limit.batch_budget and rows > 1
        sizer = sizer.after_batch(rows, seconds, limit)
    assert late == 0


def test_a_fast_batch_grows_to_the_bound_and_no_further() -> None:
    limit = Backfill()
    sizer = BatchSizer(1)
    for _ in range(100):
        sizer = sizer.after_batch(sizer.clamp(limit), 0.001, limit)
    assert sizer.rows == 5000


def test_a_ceiling_lowered_while_it_runs_counts_at_once() -> None:
    sizer = BatchSizer(5000)
    assert sizer.clamp(Backfill(max_rows_per_second=100)) == 100
    assert sizer.clamp(Backfill(batch_rows=20, batch_rows_max=20)) == 20


@given(limits, st.integers(1, 10_000), st.floats(0.001, 100))
def test_a_rest_keeps_ceiling_and_speed(limit: Backfill, rows: int, seconds: float) -> None:
    whole = seconds + pause_seconds(rows, seconds, limit)
    assert whole == pytest.approx(
        max(seconds, rows / limit.max_rows_per_second if limit.max_rows_per_second else 0) / (limit.speed / 100)
    )
    assert pause_seconds(rows, seconds, Backfill()) == 0


@given(st.floats(1, 1e6), st.lists(st.floats(0.01, 10), min_size=1))
def test_a_steady_rate_is_found_exactly(speed: float, seconds: list[float]) -> None:
    rate = ThroughputRate()
    for each in seconds:
        rate = rate.after_batch(round(speed * each * 1e6), each * 1e6)
    assert rate.value == pytest.approx(speed, rel=1e-3)


def test_a_rate_follows_a_change_within_two_half_lives() -> None:
    rate = ThroughputRate().after_batch(1000, 1.0)
    for _ in range(10):
        rate = rate.after_batch(100, 1.0)
    assert 100 < rate.value < 400


# --- time left ------------------------------------------------------------------------------------------------------


def test_the_range_of_the_time_left_grows_with_the_spread_of_the_rates() -> None:
    assert format_eta(estimate_eta(450_000, 41_000, ())) == "~11s"
    steady = [41_000.0] * 10
    assert format_eta(estimate_eta(450_000, 41_000, steady)) == "~11s"
    uneven = [10_000.0, 20_000.0, 40_000.0, 41_000.0, 41_000.0, 42_000.0, 60_000.0, 80_000.0]
    assert format_eta(estimate_eta(450_000, 41_000, uneven)) == "8-23s"
    assert format_eta(estimate_eta(450_000, 41_000, [0.0] * 4 + [41_000.0] * 4)) == ">11s"
    assert format_eta(estimate_eta(4_000_000, 41_000, uneven)) == "67s-4m"
    assert format_eta(estimate_eta(450_000, 41_000, uneven, ceiling=25_000)) == "18-23s", "not faster than the limit"
    assert format_eta(estimate_eta(450_000, 41_000, uneven, ceiling=10_000)) == "~45s"
    assert format_eta(estimate_eta(450_000, 0, uneven)) == "?"
    assert estimate_eta(0, 41_000, uneven) is None


@given(st.floats(1, 1e9), st.floats(0.1, 1e6), st.lists(st.floats(0, 1e6), max_size=30))
def test_the_range_includes_the_current_rate(left: float, rate: float, rates: list[float]) -> None:
    found = estimate_eta(left, rate, rates)
    assert found is not None
    least, most = found
    assert least <= left / rate * 1.000001
    assert most >= left / rate * 0.999999
    assert format_eta(found)


def test_rates_come_from_samples_or_from_batches_while_there_are_few() -> None:
    eta_estimator = EtaEstimator()
    batches = tuple(BatchRecord(EPOCH + 0.5 * number, 2000, 0.1) for number in range(4))
    first = backfill(recent=batches, updated_at=EPOCH)
    eta_estimator.add_reading(first)
    assert eta_estimator.rates(first) == (4000.0, 4000.0, 4000.0)
    for second in range(1, 8):
        for part in (0, 1):
            at = EPOCH + second + 0.5 * part
            eta_estimator.add_reading(backfill(rate=1000.0 * second + part, rows_done=second + part, updated_at=at))
    eta_estimator.add_reading(backfill(status="paused", rate=0.0, updated_at=EPOCH + 9))
    assert eta_estimator.rates(first) == (41_000.0, *[1000.0 * second + 1 for second in range(1, 8)])
    eta_estimator.add_reading(backfill(rate=5.0, updated_at=EPOCH - 100))
    assert eta_estimator.rates(backfill()) == (5.0,)
    assert batch_rates(()) == ()


def test_a_rate_without_rows_is_no_sample() -> None:
    estimator = EtaEstimator()
    for second in range(8):
        estimator.add_reading(backfill(rate=5400.0, rows_done=1000 + second, updated_at=EPOCH + second))
    before = estimator.rates(backfill())
    for second in range(8, 20):
        estimator.add_reading(backfill(rate=5400.0, rows_done=1007, updated_at=EPOCH + second))
    assert estimator.rates(backfill()) == before


@pytest.mark.parametrize(
    ("speed", "idle", "is_late"), [(100, 2.0, False), (100, 4.0, True), (10, 12.0, False), (10, 15.0, True)]
)
def test_the_next_batch_is_late_by_the_pace_that_the_limits_ask_for(speed: int, idle: float, is_late: bool) -> None:
    seen = backfill(recent=(BatchRecord(EPOCH, 1000, 1.0),), updated_at=EPOCH)
    found = late_seconds(seen, Backfill(speed=speed), EPOCH + idle)
    assert found == (idle if is_late else None)

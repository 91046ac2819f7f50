"""Sizes of batches, rates and the time left."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.backfill import BatchSizer, Eta, ThroughputRate, eta_seconds, fraction_done, pause_seconds
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.release.records import BackfillRecord

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
    eta = rate.eta(1000)
    assert eta is not None
    assert eta.seconds == pytest.approx(1000 / speed, rel=1e-3)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 100)), min_size=1), st.integers(-5, 10**9))
def test_the_time_left_is_bracketed_by_its_bounds(batches: list[tuple[int, float]], left: int) -> None:
    rate = ThroughputRate()
    for rows, seconds in batches:
        rate = rate.after_batch(rows, seconds)
        assert rate.value >= 0
        assert rate.variance >= 0
    eta = rate.eta(left)
    if eta is not None:
        assert 0 <= eta.low <= eta.seconds <= eta.high
        assert math.isfinite(eta.high)


def test_a_rate_follows_a_change_within_two_half_lives() -> None:
    rate = ThroughputRate().after_batch(1000, 1.0)
    for _ in range(10):
        rate = rate.after_batch(100, 1.0)
    assert 100 < rate.value < 400
    eta, narrow = rate.eta(1000), ThroughputRate().after_batch(1000, 1.0).eta(1000)
    assert narrow == Eta(1.0, 1.0, 1.0)
    assert eta is not None
    assert eta.high > 1.5 * eta.seconds > eta.seconds


def test_the_share_reaches_one_only_when_done() -> None:
    record = BackfillRecord("running", rows_total=100, rows_done=300, rate=10.0)
    assert fraction_done(record) == 0.999
    assert eta_seconds(record) == 0.0
    assert fraction_done(BackfillRecord("done", rows_total=0)) == 1.0
    assert fraction_done(BackfillRecord("running", rows_total=0, rows_done=5)) == 0.0
    assert eta_seconds(BackfillRecord("running", rows_total=100, rows_done=40, rate=20.0)) == 3.0
    assert eta_seconds(BackfillRecord("running", rows_total=100)) is None

"""How often something may happen: against a plain count of what was let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.rate_limiter import RateLimiter


def allowed_times(limiter: RateLimiter, requested: list[float]) -> list[float]:
    """The times at which consecutive requests are allowed."""
    now, happened = 0.0, []
    for at in requested:
        now = max(now, at)
        now += limiter.seconds_until_allowed(now)
        limiter.record(now)
        happened.append(now)
    return happened


@given(
    st.lists(st.floats(0, 0.3), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.05, 0.1]),
)
def test_never_more_than_its_rate_and_one_that_is_early(gaps: list[float], slack: float) -> None:
    requested = [sum(gaps[: at + 1]) for at in range(len(gaps))]
    happened = allowed_times(RateLimiter(0.1, slack), requested)
    assert all(after >= wanted for after, wanted in zip(happened, requested, strict=True))
    for first in range(len(happened)):
        for last in range(first + 1, len(happened)):
            assert happened[last] - happened[first] >= 0.1 * (last - first) - slack - 1e-9


@given(st.lists(st.floats(-0.049, 0.049), min_size=1, max_size=60))
def test_a_steady_stream_of_that_rate_is_not_held_up(jitter: list[float]) -> None:
    requested = [1 + 0.1 * at + early for at, early in enumerate(jitter)]
    assert allowed_times(RateLimiter(0.1, 0.1), requested) == pytest.approx(requested)


def test_at_once_after_a_rest_and_no_more_than_one_interval_after_many_that_were_forced() -> None:
    limiter = RateLimiter(1.0)
    assert limiter.seconds_until_allowed(5.0) == 0
    for at in range(20):
        limiter.record(5.0 + at / 100)
    assert limiter.seconds_until_allowed(5.19) == pytest.approx(1.0)
    assert limiter.seconds_until_allowed(7.0) == 0

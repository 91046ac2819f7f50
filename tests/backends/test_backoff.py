"""Pauses grow up to a limit, are random within their share, and start again after a success."""

import asyncio
import random
import time

import pytest

from zdd_tui.backends.backoff import Backoff


@pytest.fixture
def upper_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


@pytest.mark.usefixtures("upper_bounds")
def test_pauses_double_up_to_the_longest_and_start_again_after_a_success() -> None:
    backoff = Backoff(0.2, 1.0)
    assert [backoff.next_delay() for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_delay() == 0.2


@pytest.mark.parametrize(("jitter", "low"), [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_the_share_that_is_random(jitter: float, low: float) -> None:
    backoff = Backoff(1.0, 1.0, jitter=jitter)
    delays = [backoff.next_delay() for _ in range(200)]
    assert low <= min(delays) <= max(delays) <= 1.0
    assert len(set(delays)) == (1 if jitter == 0 else 200)


def test_thousands_of_failures_do_not_overflow() -> None:
    backoff = Backoff(0.1, 4.0)
    assert max(backoff.next_delay() for _ in range(5000)) <= 4.0


@pytest.mark.usefixtures("upper_bounds")
async def test_a_long_attempt_counts_as_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    backoff = Backoff(1.0, 8.0, reset_after=10.0)
    for attempt in (0.0, 0.0, 9.0, 11.0, 0.0):
        now += attempt
        await backoff.sleep()
    assert slept == [1.0, 2.0, 4.0, 1.0, 2.0]

"""Readiness and drain, without HTTP."""

import asyncio
import math

import pytest

from zdd_tui.service.lifecycle import Check, Lifecycle, LifecycleStage
from zdd_tui.service.metrics import RequestMetrics


class Dependency:
    """A dependency that can be unavailable or slow."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = False

    async def probe(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ConnectionError("postgresql://u:s3cret@host is away")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_not_ready_before_it_has_started() -> None:
    lifecycle = Lifecycle()
    assert not (await lifecycle.check_readiness()).ready
    lifecycle.mark_started()
    assert (await lifecycle.check_readiness()).ready


async def test_a_check_must_pass_once_whatever_its_tolerance() -> None:
    dependency = Dependency()
    dependency.away = True
    lifecycle = Lifecycle([Check("db", dependency.probe, tolerance=math.inf)])
    lifecycle.mark_started()
    state = await lifecycle.check_readiness()
    assert not state.ready
    assert state.checks[0].error == "ConnectionError"
    assert "s3cret" not in repr(state)
    dependency.away = False
    assert (await lifecycle.check_readiness()).ready
    dependency.away = True
    assert (await lifecycle.check_readiness()).ready


async def test_a_tolerance_runs_out() -> None:
    dependency, clock = Dependency(), Clock()
    lifecycle = Lifecycle([Check("db", dependency.probe, tolerance=10)], clock=clock)
    lifecycle.mark_started()
    assert (await lifecycle.check_readiness()).ready
    dependency.away = True
    clock.now += 9.9
    state = await lifecycle.check_readiness()
    assert state.ready
    assert state.checks[0].tolerated
    clock.now += 0.2
    assert not (await lifecycle.check_readiness()).ready
    dependency.away = False
    assert (await lifecycle.check_readiness()).ready


async def test_without_tolerance_the_first_failure_counts() -> None:
    dependency = Dependency()
    lifecycle = Lifecycle([Check("db", dependency.probe)], clock=Clock())
    lifecycle.mark_started()
    assert (await lifecycle.check_readiness()).ready
    dependency.away = True
    assert not (await lifecycle.check_readiness()).ready


async def test_a_hanging_check_times_out() -> None:
    dependency = Dependency()
    dependency.hangs = True
    lifecycle = Lifecycle([Check("db", dependency.probe, timeout=0.02)])
    lifecycle.mark_started()
    state = await lifecycle.check_readiness()
    assert (state.ready, state.checks[0].error) == (False, "TimeoutError")


async def test_sigterm_during_the_checks_makes_not_ready() -> None:
    lifecycle: Lifecycle

    async def probe() -> None:
        lifecycle.start_draining()

    lifecycle = Lifecycle([Check("db", probe)])
    lifecycle.mark_started()
    assert not (await lifecycle.check_readiness()).ready


async def test_drain_serves_late_requests_and_waits_for_those_in_flight() -> None:
    lifecycle = Lifecycle(drain_seconds=0.02, grace_seconds=5)
    lifecycle.mark_started()
    drained = asyncio.create_task(lifecycle.serve_until_drained())
    release = asyncio.Event()

    async def request() -> None:
        with lifecycle.track_request():
            await release.wait()

    early = asyncio.create_task(request())
    await asyncio.sleep(0)
    lifecycle.start_draining()
    assert lifecycle.is_draining
    assert not (await lifecycle.check_readiness()).ready
    late = asyncio.create_task(request())
    done, _ = await asyncio.wait([drained], timeout=0.1)
    assert not done
    assert lifecycle.in_flight == 2
    release.set()
    assert await drained is True
    assert lifecycle.stage is LifecycleStage.STOPPED
    await asyncio.gather(early, late)


async def test_drain_ends_after_the_grace_period() -> None:
    lifecycle = Lifecycle(drain_seconds=0, grace_seconds=0.02)
    lifecycle.mark_started()
    with lifecycle.track_request():
        lifecycle.start_draining()
        lifecycle.start_draining()
        assert await lifecycle.serve_until_drained() is False


async def test_a_drain_may_begin_before_the_start() -> None:
    lifecycle = Lifecycle(drain_seconds=0)
    lifecycle.start_draining()
    lifecycle.mark_started()
    assert not (await lifecycle.check_readiness()).ready
    assert await lifecycle.serve_until_drained() is True


def test_a_request_that_raises_is_not_in_flight_any_more() -> None:
    lifecycle = Lifecycle()
    with pytest.raises(ValueError, match="x"), lifecycle.track_request():
        raise ValueError("x")
    assert lifecycle.in_flight == 0


def test_metrics_are_cumulative_histograms() -> None:
    metrics = RequestMetrics()
    metrics.observe("GET", 200, 0.001)
    metrics.observe("GET", 200, 0.0011)
    metrics.observe("PUT", 503, 9.0)
    lines = metrics.render(in_flight=3).splitlines()
    assert 'http_requests_total{method="GET",code="200"} 2' in lines
    assert 'http_requests_total{method="PUT",code="503"} 1' in lines
    assert 'http_request_duration_seconds_bucket{le="0.001"} 1' in lines
    assert 'http_request_duration_seconds_bucket{le="0.0025"} 2' in lines
    assert 'http_request_duration_seconds_bucket{le="5.0"} 2' in lines
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 3' in lines
    assert "http_request_duration_seconds_count 3" in lines
    assert "http_requests_in_flight 3" in lines

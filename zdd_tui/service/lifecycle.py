"""Health, readiness and drain of a service process, for any HTTP framework.

**Health** (liveness) means that this process responds. It checks no dependency: restarting every pod because the
database is unreachable cures nothing and loses connections.

**Readiness** means that this pod should receive requests. During the start every check must pass once. Later a check
may fail for its ``tolerance`` before the pod leaves rotation: all pods share their dependencies, and if each of them
left at the first failure, no endpoint would remain.

**Drain**, on SIGTERM: the pod is not ready at once. It serves requests for another ``drain_seconds``, because routers
learn about the change a little later; every response has ``Connection: close``, so that pooled connections move to
other pods. Then the process ends as soon as no request is in flight, or after ``grace_seconds``.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class LifecycleStage(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Check:
    """A dependency that readiness checks.

    Attributes:
        name: for /ready.
        probe: returns if the dependency is available, else raises. Only the *type* of the error is shown, because its
            text could contain a secret.
        timeout: of the probe, in seconds.
        tolerance: seconds that a check which has passed once may fail before the pod is not ready; ``math.inf`` for a
            dependency that is only needed at the start.
    """

    name: str
    probe: Callable[[], Awaitable[object]]
    timeout: float = 1.0
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    name: str
    ok: bool
    error: str = ""
    tolerated: bool = False


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool
    stage: LifecycleStage
    checks: tuple[CheckResult, ...] = ()


class Lifecycle:
    """The state of one service process; a framework's adapter calls it.

    Args:
        checks: the dependencies of readiness.
        drain_seconds: seconds that requests are served after :meth:`start_draining`.
        grace_seconds: seconds after that for requests in flight to end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        checks: Sequence[Check] = (),
        *,
        drain_seconds: float = 5.0,
        grace_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.checks = tuple(checks)
        self.drain_seconds = drain_seconds
        self.grace_seconds = grace_seconds
        self.stage = LifecycleStage.STARTING
        self.in_flight = 0
        self._clock = clock
        self._passed_at: dict[str, float] = {}
        self._drain_requested = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_draining(self) -> bool:
        return self.stage in (LifecycleStage.DRAINING, LifecycleStage.STOPPED)

    def mark_started(self) -> None:
        """Call it when the application is initialized; from now on the checks decide about readiness."""
        if self.stage is LifecycleStage.STARTING:
            self.stage = LifecycleStage.RUNNING

    def start_draining(self) -> None:
        """The handler of SIGTERM. Safe to call again."""
        if not self.is_draining:
            self.stage = LifecycleStage.DRAINING
        self._drain_requested.set()

    async def check_readiness(self) -> Readiness:
        """Runs the checks concurrently, each within its timeout."""
        if self.stage is not LifecycleStage.RUNNING:
            return Readiness(False, self.stage)
        results = tuple(await asyncio.gather(*map(self._run_check, self.checks)))
        # SIGTERM may have arrived during the checks.
        ready = self.stage is LifecycleStage.RUNNING and all(result.ok or result.tolerated for result in results)
        return Readiness(ready, self.stage, results)

    @contextlib.contextmanager
    def track_request(self) -> Iterator[None]:
        """Wrap every request in it, so that the drain knows when the last one has ended."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()

    async def serve_until_drained(self) -> bool:
        """Returns when the process may end: True if no request is in flight, False after the grace period."""
        await self._drain_requested.wait()
        await asyncio.sleep(self.drain_seconds)
        clean = True
        try:
            async with asyncio.timeout(self.grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            clean = False
        self.stage = LifecycleStage.STOPPED
        return clean

    async def _run_check(self, check: Check) -> CheckResult:
        try:
            async with asyncio.timeout(check.timeout):
                await check.probe()
        except Exception as error:
            last = self._passed_at.get(check.name, -math.inf)
            # "<" and not "<=": a tolerance of 0 tolerates nothing.
            tolerated = check.name in self._passed_at and self._clock() - last < check.tolerance
            return CheckResult(check.name, False, type(error).__name__, tolerated)
        self._passed_at[check.name] = self._clock()
        return CheckResult(check.name, True)

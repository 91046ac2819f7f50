"""The pace of a backfill, shared by its workers: limits, throttle, the size of the next batch, the rate."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zdd_tui.backends.store import backfill as rows
from zdd_tui.engine.backfill.throttle import Throttle, ThrottleSignal
from zdd_tui.engine.backfill.transaction import FencedStore
from zdd_tui.model.backfill import BatchSizer, ThroughputRate
from zdd_tui.model.ddl.jobs import BackfillJob
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.tuning import pause_seconds

CHECK_INTERVAL = 0.25
"""Seconds between two checks of pause and limits while nothing is written."""

RECENT_BATCHES = 40
"""Batches whose durations are stored for the screens."""


async def sleep_until(
    total_seconds: Callable[[], float], is_paused: Callable[[], bool], sleep: Callable[[float], Awaitable[Any]]
) -> bool:
    """Sleeps for a time that may change meanwhile, or until a pause begins. Returns whether it slept for all of
    it."""
    slept = 0.0
    while (left := total_seconds() - slept) > 0 and not is_paused():
        await sleep(min(left, CHECK_INTERVAL))
        slept += min(left, CHECK_INTERVAL)
    return left <= 0


class BackfillPacer:
    """Decides when the next batch may start and how large it is.

    Args:
        clock: seconds, monotonic.
        signals: reasons to wait, in order of priority.

    Attributes:
        read_limits: returns the effective limits; called before every batch and during pauses.
        must_stop: returns whether the workers stop before their next batch.
        is_paused: while it returns True, nothing is written and no lock is held.
        limits: of the next batch.
        workers: number of running workers.
    """

    def __init__(
        self,
        store: FencedStore,
        job: BackfillJob,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[Any]],
        signals: Sequence[ThrottleSignal],
    ) -> None:
        limits = job.limits
        self._store = store
        self._job = job.name
        self.clock = clock
        self.sleep = sleep
        self._throttle = Throttle(clock, signals)
        self.limits = limits
        self.read_limits: Callable[[], Backfill] = lambda: limits
        self.is_paused: Callable[[], bool] = lambda: False
        self.must_stop: Callable[[], bool] = lambda: False
        self.workers = 0
        self.sizer = BatchSizer(limits.batch_rows)
        self._rate = ThroughputRate()
        self._rate_updated_at: float | None = None
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=RECENT_BATCHES)

    def resume(self, batch_rows: int, recent: Sequence[Sequence[float]]) -> None:
        """Continues with the batch size and durations of the last run."""
        self.sizer = BatchSizer(max(1, batch_rows))
        self._recent.extend((at, int(count), seconds) for at, count, seconds in recent)

    def refresh_limits(self) -> None:
        """Applies changes of the operator. A new ``batch_rows`` restarts the batch size."""
        before, self.limits = self.limits, self.read_limits()
        if self.limits.batch_rows != before.batch_rows:
            self.sizer = BatchSizer(self.limits.batch_rows)

    @property
    def next_batch_rows(self) -> int:
        return self.sizer.clamp(self.limits)

    @property
    def has_too_many_workers(self) -> bool:
        return self.workers > self.limits.workers

    async def wait_if_blocked(self) -> bool:
        """Waits once, for CHECK_INTERVAL, if paused or throttled. Returns whether it waited."""
        paused = self.is_paused()
        reason = "" if paused else self._throttle.reason
        if paused or self._throttle.is_due():
            async with self._store.fenced() as conn:
                reason = "" if paused else await self._throttle.evaluate(conn, self.limits)
                if paused or reason:
                    status = "paused" if paused else "running"
                    await rows.set_status(conn, self._store.release_id, status, reason, job=self._job)
        if paused:
            self._rate_updated_at = None
        if paused or reason:
            await self.sleep(CHECK_INTERVAL)
            return True
        return False

    async def pause_after_batch(self, row_count: int, seconds: float) -> bool:
        """Pauses for max_rows_per_second or a speed below 100 %. A change of either applies at once.

        Returns whether the whole time has passed; where a pause begins meanwhile, it has not.
        """

        def is_interrupted() -> bool:
            return self.is_paused() or self.must_stop()

        return await sleep_until(lambda: self._pause_seconds(row_count, seconds), is_interrupted, self.sleep)

    def _pause_seconds(self, row_count: int, seconds: float) -> float:
        """max_rows_per_second is for all workers together."""
        return pause_seconds(row_count * max(1, self.workers), seconds, self.read_limits())

    def build_progress(self, row_count: int, seconds: float, size: int, throttle: str) -> rows.BatchProgress:
        """The progress that a batch writes with its checkpoint. The pause after the first one counts already:
        without it the rate after each start would be that of a batch without limits."""
        paused = seconds + self._pause_seconds(row_count, seconds)
        rate = self._rate.value or self._rate.after_batch(row_count, paused).value
        recent = (*self._recent, (round(time.time(), 3), row_count, round(seconds, 4)))
        return rows.BatchProgress(row_count, seconds, size, rate, throttle, recent[-RECENT_BATCHES:])

    def record_committed(self, progress: rows.BatchProgress) -> None:
        """Call it after the batch has committed."""
        at, row_count, seconds = progress.recent[-1]
        self._recent.append((at, int(row_count), seconds))

    def record_rate(self, row_count: int, started_at: float) -> None:
        """Updates the rate. The time of failed attempts and throttling counts; pauses do not."""
        now = self.clock()
        self._rate = self._rate.after_batch(
            row_count, now - (started_at if self._rate_updated_at is None else self._rate_updated_at)
        )
        self._rate_updated_at = now

"""What the workers of one backfill share: limits and throttle, the size of the next batch, the rate."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zdd_tui.backends.store import backfill as rows
from zdd_tui.engine.backfill.throttle import Throttle, ThrottleSignal
from zdd_tui.engine.backfill.transaction import FencedStore
from zdd_tui.model.backfill import BatchSizer, ThroughputRate, pause_seconds
from zdd_tui.model.plan.base import Backfill

CHECK_INTERVAL = 0.25
"""Seconds between two looks at pause and limits while nothing is written."""

RECENT_BATCHES = 40
"""Batches whose times are kept for the screens."""


async def sleep_until(
    wanted_seconds: Callable[[], float], is_paused: Callable[[], bool], sleep: Callable[[float], Awaitable[Any]]
) -> None:
    """Sleeps until it has slept as long as is wanted now, or there is a pause."""
    rested = 0.0
    while (left := wanted_seconds() - rested) > 0 and not is_paused():
        await sleep(min(left, CHECK_INTERVAL))
        rested += min(left, CHECK_INTERVAL)


class BackfillPacer:
    """When the next batch may begin, and how large it is.

    Args:
        clock: seconds, monotonic.
        signals: reasons to wait, asked in order.

    Attributes:
        read_limits: what is allowed now; asked before every batch and while a worker rests.
        is_paused: while it says yes, nothing is written and no lock is held.
        limits: those of the next batch.
        workers: how many are at work.
    """

    def __init__(
        self,
        store: FencedStore,
        limits: Backfill,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[Any]],
        signals: Sequence[ThrottleSignal],
    ) -> None:
        self._store = store
        self.clock = clock
        self.sleep = sleep
        self._throttle = Throttle(clock, signals)
        self.limits = limits
        self.read_limits: Callable[[], Backfill] = lambda: limits
        self.is_paused: Callable[[], bool] = lambda: False
        self.workers = 0
        self.sizer = BatchSizer(limits.batch_rows)
        self._rate = ThroughputRate()
        self._rate_updated_at: float | None = None  # when the rate was last told
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=RECENT_BATCHES)

    def resume(self, batch_rows: int, recent: Sequence[Sequence[float]]) -> None:
        """Goes on where the last run stood."""
        self.sizer = BatchSizer(max(1, batch_rows))
        self._recent.extend((at, int(count), seconds) for at, count, seconds in recent)

    def refresh_limits(self) -> None:
        """Takes what an operator has changed; a new first size is begun with."""
        before, self.limits = self.limits, self.read_limits()
        if self.limits.batch_rows != before.batch_rows:
            self.sizer = BatchSizer(self.limits.batch_rows)

    @property
    def next_batch_rows(self) -> int:
        """Rows of the next batch."""
        return self.sizer.clamp(self.limits)

    @property
    def has_too_many_workers(self) -> bool:
        """More are at work than may be."""
        return self.workers > self.limits.workers

    async def wait_if_blocked(self) -> bool:
        """Waits a moment when paused or throttled, and tells so."""
        paused = self.is_paused()
        reason = "" if paused else self._throttle.reason
        if paused or self._throttle.is_due():
            async with self._store.fenced() as conn:
                reason = "" if paused else await self._throttle.evaluate(conn, self.limits)
                if paused or reason:
                    await rows.set_status(conn, self._store.release_id, "paused" if paused else "running", reason)
        if paused:
            self._rate_updated_at = None
        if paused or reason:
            await self.sleep(CHECK_INTERVAL)
            return True
        return False

    async def pause_after_batch(self, row_count: int, seconds: float) -> None:
        """The pause that a ceiling or a speed below 100 % asks for; a change of either counts at once."""

        def wanted() -> float:  # the ceiling holds for all workers together
            return pause_seconds(row_count * max(1, self.workers), seconds, self.read_limits())

        await sleep_until(wanted, self.is_paused, self.sleep)

    def build_progress(self, row_count: int, seconds: float, size: int, throttle: str) -> rows.BatchProgress:
        """What a batch writes with its checkpoint."""
        rate = self._rate.after_batch(row_count, seconds).value if self._rate.value == 0 else self._rate.value
        recent = (*self._recent, (round(time.time(), 3), row_count, round(seconds, 4)))
        return rows.BatchProgress(row_count, seconds, size, rate, throttle, recent[-RECENT_BATCHES:])

    def record_committed(self, progress: rows.BatchProgress) -> None:
        """The batch is in the database."""
        at, moved, seconds = progress.recent[-1]
        self._recent.append((at, int(moved), seconds))

    def record_rate(self, row_count: int, started_at: float) -> None:
        """Counts a batch into the rate. Tries that failed and waits for a throttle belong to it; pauses do not."""
        now = self.clock()
        self._rate = self._rate.after_batch(
            row_count, now - (started_at if self._rate_updated_at is None else self._rate_updated_at)
        )
        self._rate_updated_at = now

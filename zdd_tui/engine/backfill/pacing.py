"""What the workers of one backfill share: limits and throttle, the size of the next batch, the rate."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zdd_tui.backends.store import backfill as rows
from zdd_tui.engine.backfill.throttle import Signal, Throttle
from zdd_tui.engine.backfill.transaction import FencedStore
from zdd_tui.model.backfill import Rate, Sizer, rest_seconds
from zdd_tui.model.plan.base import Backfill

LOOK_EVERY = 0.25
"""Seconds between two looks at pause and limits while nothing is written."""

RECENT = 40
"""Batches whose times are kept for the screens."""


async def rest(
    wanted: Callable[[], float], paused: Callable[[], bool], sleep: Callable[[float], Awaitable[Any]]
) -> None:
    """Sleeps until it has slept as long as is wanted now, or there is a pause."""
    rested = 0.0
    while (left := wanted() - rested) > 0 and not paused():
        await sleep(min(left, LOOK_EVERY))
        rested += min(left, LOOK_EVERY)


class Pace:
    """When the next batch may begin, and how large it is.

    Args:
        clock: seconds, monotonic.
        signals: reasons to wait, asked in order.

    Attributes:
        limits_now: what is allowed now; asked before every batch and while a worker rests.
        paused: while it says yes, nothing is written and no lock is held.
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
        signals: Sequence[Signal],
    ) -> None:
        self._store = store
        self.clock = clock
        self.sleep = sleep
        self._throttle = Throttle(clock, signals)
        self.limits = limits
        self.limits_now: Callable[[], Backfill] = lambda: limits
        self.paused: Callable[[], bool] = lambda: False
        self.workers = 0
        self.sizer = Sizer(limits.batch_rows)
        self._rate = Rate()
        self._since: float | None = None  # when the rate was last told
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=RECENT)

    def resume(self, batch_rows: int, recent: Sequence[Sequence[float]]) -> None:
        """Goes on where the last run stood."""
        self.sizer = Sizer(max(1, batch_rows))
        self._recent.extend((at, int(count), seconds) for at, count, seconds in recent)

    def look(self) -> None:
        """Takes what an operator has changed; a new first size is begun with."""
        before, self.limits = self.limits, self.limits_now()
        if self.limits.batch_rows != before.batch_rows:
            self.sizer = Sizer(self.limits.batch_rows)

    @property
    def size(self) -> int:
        """Rows of the next batch."""
        return self.sizer.bounded(self.limits)

    @property
    def too_many(self) -> bool:
        """More are at work than may be."""
        return self.workers > self.limits.workers

    async def must_wait(self) -> bool:
        """Waits a moment when paused or throttled, and tells so."""
        paused = self.paused()
        reason = "" if paused else self._throttle.reason
        if paused or self._throttle.due():
            async with self._store.fenced() as conn:
                reason = "" if paused else await self._throttle.ask(conn, self.limits)
                if paused or reason:
                    await rows.set_status(conn, self._store.release_id, "paused" if paused else "running", reason)
        if paused:
            self._since = None
        if paused or reason:
            await self.sleep(LOOK_EVERY)
            return True
        return False

    async def rest(self, moved: int, seconds: float) -> None:
        """The pause that a ceiling or a speed below 100 % asks for; a change of either counts at once."""

        def wanted() -> float:  # the ceiling holds for all workers together
            return rest_seconds(moved * max(1, self.workers), seconds, self.limits_now())

        await rest(wanted, self.paused, self.sleep)

    def progress(self, moved: int, seconds: float, size: int, busy: str) -> rows.Progress:
        """What a batch writes with its checkpoint."""
        rate = self._rate.after(moved, seconds).value if self._rate.value == 0 else self._rate.value
        recent = (*self._recent, (round(time.time(), 3), moved, round(seconds, 4)))
        return rows.Progress(moved, seconds, size, rate, busy, recent[-RECENT:])

    def committed(self, progress: rows.Progress) -> None:
        """The batch is in the database."""
        at, moved, seconds = progress.recent[-1]
        self._recent.append((at, int(moved), seconds))

    def told(self, moved: int, began: float) -> None:
        """Counts a batch into the rate. Tries that failed and waits for a throttle belong to it; pauses do not."""
        now = self.clock()
        self._rate = self._rate.after(moved, now - (began if self._since is None else self._since))
        self._since = now

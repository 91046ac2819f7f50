"""Backfill: progress, rate, time left and size of the next batch. Pure; the caller passes the time."""

import math
from dataclasses import dataclass, replace

from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.release.records import BackfillRecord

GROWTH = 1.25
"""After a batch well within its budget, the next one is larger by a quarter."""


@dataclass(frozen=True, slots=True)
class BatchSizer:
    """The number of rows of the next batch: it grows slowly, and halves when a batch is late or fails."""

    rows: int

    def clamp(self, limits: Backfill) -> int:
        """Rows of the next batch within the current limits. A rate limit also bounds one batch to the rows of one
        second, so that a change of limits, or a pause, never waits longer."""
        maximum = limits.batch_rows_max
        if limits.max_rows_per_second is not None:
            maximum = min(maximum, math.ceil(limits.max_rows_per_second))
        return max(1, min(self.rows, maximum))

    def after_batch(self, rows: int, seconds: float, limits: Backfill) -> "BatchSizer":
        """The sizer after a batch of ``rows`` that took ``seconds``."""
        if seconds > limits.batch_budget:
            return self.halve(rows)
        if rows < self.rows:
            return self  # a partial batch does not show how long a full one takes
        larger = min(max(self.rows + 1, int(self.rows * GROWTH)), max(self.rows, limits.batch_rows_max))
        # Grow only where the larger batch would have stayed within the budget at the same cost for each row.
        return BatchSizer(larger) if seconds * larger <= limits.batch_budget * rows else self

    def halve(self, rows: int | None = None) -> "BatchSizer":
        """The sizer after a batch that was late, failed, or blocked a session."""
        return BatchSizer(max(1, min(self.rows, rows or self.rows) // 2))


def pause_seconds(rows: int, seconds: float, limits: Backfill) -> float:
    """Seconds to pause after a batch of ``rows`` that took ``seconds``: for the rate limit, then for the speed."""
    least = seconds if limits.max_rows_per_second is None else max(seconds, rows / limits.max_rows_per_second)
    return least * (100 / limits.speed) - seconds


@dataclass(frozen=True, slots=True)
class ThroughputRate:
    """Rows a second, smoothed over time, with its spread.

    Attributes:
        value: rows a second; 0 before the first observation.
        variance: of single observations around it.
        half_life: seconds after which an observation counts half.
    """

    value: float = 0.0
    variance: float = 0.0
    half_life: float = 5.0

    def after_batch(self, rows: int, seconds: float) -> "ThroughputRate":
        """The rate after ``rows`` in ``seconds``, pauses for limits included."""
        if seconds < 1e-6:  # below the clock's resolution
            return self
        observed = rows / seconds
        if self.value == 0:
            return replace(self, value=observed)
        weight = 1 - 0.5 ** (seconds / self.half_life)
        difference = observed - self.value
        return replace(
            self,
            value=self.value + weight * difference,
            variance=(1 - weight) * (self.variance + weight * difference * difference),
        )

    def eta(self, rows_left: int) -> "Eta | None":
        """The time that ``rows_left`` take at this rate; None while it is unknown."""
        if self.value <= 0:
            return None
        spread = min(math.sqrt(self.variance) / self.value, 0.9)
        seconds = max(rows_left, 0) / self.value
        return Eta(seconds, seconds / (1 + spread), seconds / (1 - spread))


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds left: the estimate, and its bounds by one standard deviation of the rate."""

    seconds: float
    low: float
    high: float


def fraction_done(record: BackfillRecord) -> float:
    """0 to 1; less than 1 until it is done, also where the estimated total was too low."""
    if record.status == "done":
        return 1.0
    if record.rows_total <= 0:
        return 0.0
    return min(record.rows_done / record.rows_total, 0.999)


def eta_seconds(record: BackfillRecord) -> float | None:
    """Seconds left at the stored rate; None while the rate is unknown, or nothing is left."""
    if record.status == "done" or record.rate <= 0:
        return None
    return max(record.rows_total - record.rows_done, 0) / record.rate

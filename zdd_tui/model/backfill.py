"""Backfill: how far it is, how fast, how long yet, and how large the next batch is. Pure; time comes in."""

import math
from dataclasses import dataclass, replace

from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.release.records import BackfillRecord

GROWTH = 1.25
"""A batch well within its budget is followed by one that is larger by a quarter."""


@dataclass(frozen=True, slots=True)
class BatchSizer:
    """How many rows the next batch takes: it grows slowly, and halves when a batch is late or fails."""

    rows: int

    def clamp(self, limits: Backfill) -> int:
        """The next batch, within the limits that hold now. A ceiling on rows a second also bounds one batch to a
        second's worth, so that a change of limits, or a pause, never waits for longer."""
        most = limits.batch_rows_max
        if limits.max_rows_per_second is not None:
            most = min(most, math.ceil(limits.max_rows_per_second))
        return max(1, min(self.rows, most))

    def after_batch(self, rows: int, seconds: float, limits: Backfill) -> "BatchSizer":
        """After a batch of ``rows`` that took ``seconds``."""
        if seconds > limits.batch_budget:
            return self.halve(rows)
        if rows < self.rows:
            return self  # it says nothing of a full one
        larger = min(max(self.rows + 1, int(self.rows * GROWTH)), max(self.rows, limits.batch_rows_max))
        # A larger one is tried only where it would have stayed within the budget at the same cost for each row.
        return BatchSizer(larger) if seconds * larger <= limits.batch_budget * rows else self

    def halve(self, rows: int | None = None) -> "BatchSizer":
        """After a batch that was late, failed, or stood in somebody's way."""
        return BatchSizer(max(1, min(self.rows, rows or self.rows) // 2))


def pause_seconds(rows: int, seconds: float, limits: Backfill) -> float:
    """The pause after a batch of ``rows`` that took ``seconds``: for the ceiling, and then for the speed."""
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
        """With ``rows`` done in ``seconds``, pauses for the sake of a limit included."""
        if seconds < 1e-6:  # below what a clock can tell
            return self
        seen = rows / seconds
        if self.value == 0:
            return replace(self, value=seen)
        weight = 1 - 0.5 ** (seconds / self.half_life)
        difference = seen - self.value
        return replace(
            self,
            value=self.value + weight * difference,
            variance=(1 - weight) * (self.variance + weight * difference * difference),
        )

    def eta(self, rows_left: int) -> "Eta | None":
        """How long ``rows_left`` take at this rate; None while there is none."""
        if self.value <= 0:
            return None
        spread = min(math.sqrt(self.variance) / self.value, 0.9)
        seconds = max(rows_left, 0) / self.value
        return Eta(seconds, seconds / (1 + spread), seconds / (1 - spread))


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds left: the estimate, and the bounds that one standard deviation of the rate gives."""

    seconds: float
    low: float
    high: float


def fraction_done(record: BackfillRecord) -> float:
    """0 to 1; less than 1 until it is done, however wrong the estimate of the total was."""
    if record.status == "done":
        return 1.0
    if record.rows_total <= 0:
        return 0.0
    return min(record.rows_done / record.rows_total, 0.999)


def eta_seconds(record: BackfillRecord) -> float | None:
    """Seconds left by the stored rate; None while there is none, or nothing is left."""
    if record.status == "done" or record.rate <= 0:
        return None
    return max(record.rows_total - record.rows_done, 0) / record.rate

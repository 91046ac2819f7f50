"""Backfill: how far it is, how fast, how long yet, and how large the next batch is. Pure; time comes in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, overload

from zdd_tui.model.plan import Backfill
from zdd_tui.model.records import BackfillRecord

GROWTH = 1.25
"""A batch well within its budget is followed by one that is larger by a quarter."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be changed while the backfill runs.

    Attributes:
        max_rows_per_second: a ceiling, or None.
        max_replica_lag: seconds.
        batch_budget: seconds that a batch may take.
    """

    max_rows_per_second: int | None
    batch_rows_max: int
    max_replica_lag: float
    batch_budget: float

    @classmethod
    def of(cls, backfill: Backfill) -> Self:
        """As the plan has them."""
        return cls(
            backfill.max_rows_per_second, backfill.batch_rows_max, backfill.max_replica_lag, backfill.batch_budget
        )

    def changed(self, stored: Mapping[str, Any]) -> Self:
        """With what an operator has changed; what is not understood is left as it is."""
        ceiling: float | None = None
        if stored.get("max_rows_per_second", 0) is not None:  # null lifts the ceiling, no key leaves it
            ceiling = _number(stored.get("max_rows_per_second"), self.max_rows_per_second)
        return replace(
            self,
            max_rows_per_second=None if ceiling is None else max(1, int(ceiling)),
            batch_rows_max=max(1, int(_number(stored.get("batch_rows_max"), self.batch_rows_max))),
            max_replica_lag=_number(stored.get("max_replica_lag"), self.max_replica_lag),
            batch_budget=_number(stored.get("batch_budget"), self.batch_budget),
        )


@overload
def _number(value: Any, otherwise: float) -> float: ...
@overload
def _number(value: Any, otherwise: float | None) -> float | None: ...
def _number(value: Any, otherwise: float | None) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return value
    return otherwise


@dataclass(frozen=True, slots=True)
class Sizer:
    """How many rows the next batch takes: it grows slowly, and halves when a batch is late or fails."""

    rows: int

    def bounded(self, limits: Limits) -> int:
        """The next batch, within the limits that hold now. A ceiling on rows a second also bounds one batch to a
        second's worth, so that a change of limits, or a pause, never waits for longer."""
        most = limits.batch_rows_max
        if limits.max_rows_per_second is not None:
            most = min(most, math.ceil(limits.max_rows_per_second))
        return max(1, min(self.rows, most))

    def after(self, rows: int, seconds: float, limits: Limits) -> "Sizer":
        """After a batch of ``rows`` that took ``seconds``."""
        if seconds > limits.batch_budget:
            return self.halved(rows)
        if rows < self.rows:
            return self  # it says nothing of a full one
        larger = min(max(self.rows + 1, int(self.rows * GROWTH)), max(self.rows, limits.batch_rows_max))
        # A larger one is tried only where it would have stayed within the budget at the same cost for each row.
        return Sizer(larger) if seconds * larger <= limits.batch_budget * rows else self

    def halved(self, rows: int | None = None) -> "Sizer":
        """After a batch that was late, failed, or stood in somebody's way."""
        return Sizer(max(1, min(self.rows, rows or self.rows) // 2))


@dataclass(frozen=True, slots=True)
class Rate:
    """Rows a second, smoothed over time, with its spread.

    Attributes:
        value: rows a second; 0 before the first observation.
        variance: of single observations around it.
        half_life: seconds after which an observation counts half.
    """

    value: float = 0.0
    variance: float = 0.0
    half_life: float = 5.0

    def after(self, rows: int, seconds: float) -> "Rate":
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


def share_done(record: BackfillRecord) -> float:
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

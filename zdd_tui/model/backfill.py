"""Backfill: progress, rate, time left and size of the next batch. Pure; the caller passes the time."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.release.records import BackfillRecord, BatchRecord

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


RATE_HALF_LIFE = 5.0
"""Seconds after which an observation of the rate counts half."""


@dataclass(frozen=True, slots=True)
class ThroughputRate:
    """Rows a second, smoothed over time.

    Attributes:
        value: rows a second; 0 before the first observation.
    """

    value: float = 0.0

    def after_batch(self, rows: int, seconds: float) -> "ThroughputRate":
        """The rate after ``rows`` in ``seconds``, pauses for limits included."""
        if seconds < 1e-6:  # below the clock's resolution
            return self
        observed = rows / seconds
        if self.value == 0:
            return ThroughputRate(observed)
        weight = 1 - 0.5 ** (seconds / RATE_HALF_LIFE)
        return ThroughputRate(self.value + weight * (observed - self.value))


MAX_SAMPLES = 120
"""Samples of the rate that are kept, one per second."""

_MIN_SAMPLES = 5
"""With fewer samples the rates of single batches are used, and the estimate has no range."""

_SLOW_QUANTILE, _FAST_QUANTILE = 0.2, 0.8
"""Quantiles of the samples that bound the estimate."""

_SAME_RATIO = 1.15
"""Bounds whose ratio is lower are shown as one number."""


class EtaEstimator:
    """Samples of the rate of a running backfill."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float]] = deque(maxlen=MAX_SAMPLES)
        self._limits: Backfill | None = None
        self._rows = 0

    def add_reading(self, backfill: BackfillRecord | None, limits: Backfill | None = None) -> None:
        """Adds a sample; one per second is kept, and none while no row is written: its rate is that of before.

        Args:
            limits: in effect now. A sample from before a change of them says nothing about what comes.
        """
        if limits != self._limits:
            self._limits = limits
            self._samples.clear()
        if backfill is None or backfill.status != "running" or (self._samples and backfill.rows_done == self._rows):
            return
        self._rows = backfill.rows_done
        second = int(backfill.updated_at)
        if self._samples and second < self._samples[-1][0]:
            self._samples.clear()  # another backfill
        if self._samples and self._samples[-1][0] == second:
            self._samples.pop()
        self._samples.append((second, backfill.rate))

    def rates(self, backfill: BackfillRecord) -> tuple[float, ...]:
        """Rows per second, the oldest first."""
        rates = tuple(rate for _, rate in self._samples)
        return rates if len(rates) >= _MIN_SAMPLES else batch_rates(backfill.recent) or rates


class RateHistory:
    """Rows per second of a release's backfill since this object exists. Where it gets long, every second sample is
    left out."""

    def __init__(self) -> None:
        self._release: int | None = None
        self._samples: list[tuple[float, float]] = []
        self._last: tuple[float, int] | None = None
        """Time and rows done of the last sample; None while the backfill does not run."""
        self._spacing = 1.0

    def add_reading(self, release: int, backfill: BackfillRecord | None) -> None:
        """Adds what was done since the last sample; nothing while the backfill does not run: a pause is a gap.

        Args:
            release: its id; the samples of another release are dropped.
        """
        if release != self._release:
            self._release, self._last, self._spacing = release, None, 1.0
            self._samples.clear()
        if backfill is None or backfill.status != "running":
            self._last = None
            return
        at, rows = backfill.updated_at, backfill.rows_done
        if self._last is None or at < self._last[0] or rows < self._last[1]:  # it begins, continues, or is another one
            self._last = at, rows
        elif (seconds := at - self._last[0]) >= self._spacing:
            self._samples.append((at, (rows - self._last[1]) / seconds))
            self._last = at, rows
        if len(self._samples) > 2 * MAX_SAMPLES:
            del self._samples[1::2]
            self._spacing *= 2

    @property
    def samples(self) -> tuple[tuple[float, float], ...]:
        """Seconds since the epoch by the database's clock, and rows per second; the oldest first."""
        return tuple(self._samples)

    @property
    def max_gap(self) -> float:
        """Seconds between two samples from which no batch was committed in between."""
        return 3 * self._spacing


def batch_rates(batches: Sequence[BatchRecord]) -> tuple[float, ...]:
    """Rows per second from batch to batch, pauses included."""
    return tuple(after.rows / (after.at - before.at) for before, after in pairwise(batches) if after.at > before.at)


def max_rate(limits: Backfill | None) -> float:
    """The highest rate in rows per second that the limits allow; infinite without a limit."""
    if limits is None or limits.max_rows_per_second is None:
        return math.inf
    return limits.max_rows_per_second * limits.speed / 100


def estimate_eta(
    left: float, rate: float, rates: Sequence[float], ceiling: float = math.inf
) -> tuple[float, float] | None:
    """Lower and upper bound in seconds for the rows that are left; None while the rate is 0 or no row is left.

    Args:
        left: number of rows.
        rate: current rows per second.
        rates: rows per second over time; with few of them both bounds are equal.
        ceiling: rows per second that the limits allow: it does not get faster than that.
    """
    if left <= 0 or rate <= 0:
        return None
    known = sorted(rates)
    slow = fast = rate
    if len(known) >= _MIN_SAMPLES:
        slow = min(rate, known[int(_SLOW_QUANTILE * (len(known) - 1))])
        fast = max(rate, known[math.ceil(_FAST_QUANTILE * (len(known) - 1))])
    fast, slow = min(fast, ceiling), min(slow, ceiling)
    return left / fast, left / slow if slow > 0 else math.inf


def format_eta(eta: tuple[float, float] | None) -> str:
    """``11-19s``, ``50s-2m``, ``~3m``, ``>5m``; ``?`` without an estimate."""
    if eta is None:
        return "?"
    least, most = eta
    if math.isinf(most):
        return f">{_round_estimate(least)}"
    if most <= least * _SAME_RATIO or _round_estimate(least) == _round_estimate(most):
        return f"~{_round_estimate(most)}"
    first, last = _round_estimate(least), _round_estimate(most)
    if first[-1] == last[-1] and first[:-1].isdigit() and last[:-1].isdigit():
        return f"{first[:-1]}-{last}"
    return f"{first}-{last}"


def _round_estimate(seconds: float) -> str:
    """Rounds to the precision of an estimate."""
    if seconds < 100:
        return f"{math.ceil(seconds)}s"
    if seconds < 100 * 60:
        return f"{math.ceil(seconds / 60)}m"
    return format_duration(seconds)

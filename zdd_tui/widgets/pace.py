"""How fast the backfill has been, and what that says about its end: a range, because the pace is no constant."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from zdd_tui.model.duration import human_duration
from zdd_tui.model.records import BackfillRecord, BatchRecord

REMEMBERED = 120
"""Readings of the rate that are kept, one a second."""

_FEW = 5
"""With fewer readings than this the batches themselves tell more."""

_SLOW, _FAST = 0.2, 0.8
"""Shares of the readings that were slower: the range leaves out the worst and the best fifth."""

_ALIKE = 1.15
"""Ends of a range that differ by less are one figure."""


class Pace:
    """The rate of one backfill over time, as this dashboard has seen it."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def see(self, backfill: BackfillRecord | None) -> None:
        """Takes a reading; one a second is kept, and none while it does not run."""
        if backfill is None or backfill.status != "running":
            return
        second = int(backfill.updated_at)
        if self._seconds and second < self._seconds[-1][0]:
            self._seconds.clear()  # another backfill
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds.pop()
        self._seconds.append((second, backfill.rate))

    def rates(self, backfill: BackfillRecord) -> tuple[float, ...]:
        """Rows a second, oldest first."""
        seen = tuple(rate for _, rate in self._seconds)
        return seen if len(seen) >= _FEW else batch_rates(backfill.recent) or seen


def batch_rates(batches: Sequence[BatchRecord]) -> tuple[float, ...]:
    """Rows a second from batch to batch, the waits between them included."""
    return tuple(after.rows / (after.at - before.at) for before, after in pairwise(batches) if after.at > before.at)


def eta_range(left: float, rate: float, rates: Sequence[float]) -> tuple[float, float] | None:
    """The least and the most seconds that so many rows may take; None where nothing moves.

    Args:
        rate: of now.
        rates: of the time before; without any, the range is one figure.
    """
    if left <= 0 or rate <= 0:
        return None
    known = sorted(rates)
    slow = fast = rate
    if len(known) >= _FEW:
        slow = min(rate, known[int(_SLOW * (len(known) - 1))])
        fast = max(rate, known[math.ceil(_FAST * (len(known) - 1))])
    return left / fast, left / slow if slow > 0 else math.inf


def eta_text(found: tuple[float, float] | None) -> str:
    """``11-19s``, ``50s-2m``, ``~3m``, ``>5m``; ``?`` where nothing moves."""
    if found is None:
        return "?"
    least, most = found
    if math.isinf(most):
        return f">{_rough(least)}"
    if most <= least * _ALIKE or _rough(least) == _rough(most):
        return f"~{_rough(most)}"
    first, last = _rough(least), _rough(most)
    if first[-1] == last[-1] and first[:-1].isdigit() and last[:-1].isdigit():
        return f"{first[:-1]}-{last}"
    return f"{first}-{last}"


def _rough(seconds: float) -> str:
    """As exact as an estimate can be."""
    if seconds < 100:
        return f"{math.ceil(seconds)}s"
    if seconds < 100 * 60:
        return f"{math.ceil(seconds / 60)}m"
    return human_duration(seconds)

"""The values of the guard's rules over time, by version: what charts are drawn from."""

import base64
import json
import math
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from zdd_tui.model.queries import MetricPoint

HISTORY_POINTS = 240
"""Points that are kept of each rule."""

HISTORY_SPACING = 5.0
"""Seconds from one point to the next, at least: a guard with a shorter interval keeps 20 minutes too."""

_SPACING_TOLERANCE = 0.5
"""Seconds that a point may be early, because evaluations are not exact."""

_DIGITS = 4
"""Significant digits of a stored value; a chart shows fewer."""


RuleHistories = Mapping[str, Sequence[MetricPoint]]
"""Points by rule, the oldest first."""


def pack_histories(histories: RuleHistories, now: float) -> str:
    """The points as text, with ages in place of times: a monotonic clock has no meaning in another process."""
    ages = {
        rule: [[round(now - point.at, 1), _rounded(point.new), _rounded(point.old)] for point in points]
        for rule, points in histories.items()
    }
    return base64.b64encode(zlib.compress(json.dumps(ages, separators=(",", ":")).encode(), 1)).decode()


def unpack_histories(packed: str, base: float) -> dict[str, tuple[MetricPoint, ...]]:
    """
    Args:
        base: when they were packed, by the clock of the result.

    Raises:
        ValueError, TypeError, AttributeError, zlib.error: not what :func:`pack_histories` makes.
    """
    ages: Mapping[str, Sequence[Sequence[Any]]] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return {
        rule: tuple(MetricPoint(base - float(age), _rounded(new), _rounded(old)) for age, new, old in points)
        for rule, points in ages.items()
    }


def add_point(points: deque[MetricPoint], point: MetricPoint) -> None:
    """Adds a point, unless the one before it is too near."""
    if not points or point.at - points[-1].at >= HISTORY_SPACING - _SPACING_TOLERANCE:
        points.append(point)


def last_known_at(points: Sequence[MetricPoint]) -> float | None:
    """Time of the last point with a value; None without one."""
    return next((point.at for point in reversed(points) if point.new is not None or point.old is not None), None)


def _rounded(value: float | None) -> float | None:
    """To the stored digits; None for what no chart can show."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")

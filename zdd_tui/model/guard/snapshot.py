"""What a guard keeps so that the next agent goes on judging where it was: courses, pairs and counters.

Clocks that never jump begin anew with every process, so moments are kept as ages, in seconds before the moment of
keeping; whoever recalls them adds the time that has passed since, by the database's clock.
"""

import json
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from zdd_tui.model.guard.rule_state import Course
from zdd_tui.model.guard.rules import Look
from zdd_tui.model.guard.series import Counts, Line, Point, Series, Target

FORMAT = 1
"""Of both; what was kept in another is forgotten, and the guard begins with nothing."""

POINTS = 2000
"""About how many are kept of all targets; of many targets each one needs fewer, because they add up."""
MOST = 16
"""Of one target and window."""

Moments = Sequence[tuple[float, float, float]]
"""Moment, new and old, of a rule with a rank test."""


# --- courses ----------------------------------------------------------------------------------------------------


def keep_courses(courses: Mapping[str, Course], pairs: Mapping[str, Moments], now: float) -> bytes:
    """By rule: how long it has been broken and dark, what it saw last, and the pairs of its rank test. What was done
    stands in the stored readings."""
    rules = {
        name: {
            "broken": course.broken,
            "dark": course.dark,
            "last": course.last.name,
            "age": None if course.at is None else now - course.at,
            "pairs": [(now - at, new, old) for at, new, old in pairs.get(name, ())],
        }
        for name, course in courses.items()
    }
    return json.dumps({"format": FORMAT, "rules": rules}).encode()


def recall_courses(kept: bytes, since: float, now: float) -> tuple[dict[str, Course], dict[str, Moments]]:
    """
    Args:
        since: seconds since they were kept.
    """
    body = json.loads(kept)
    if body.get("format") != FORMAT:
        return {}, {}
    base = now - since
    courses: dict[str, Course] = {}
    pairs: dict[str, Moments] = {}
    for name, rule in body["rules"].items():
        at = None if rule["age"] is None else base - rule["age"]
        courses[name] = Course(rule["broken"], rule["dark"], Look[rule["last"]], at)
        pairs[name] = [(base - age, new, old) for age, new, old in rule["pairs"]]
    return courses, pairs


# --- counters ---------------------------------------------------------------------------------------------------


def keep_series(series: Mapping[str, Series], windows: Sequence[float], now: float) -> bytes:
    """By source: of each target its last counters, and some points of each window.

    Args:
        windows: seconds, of every rule.
    """
    bounds: dict[tuple[float, ...], int] = {}
    sources = {
        name: {
            "looked": None if one.looked is None else now - one.looked,
            "lines": [_line(line, _moments(windows, now, len(one.lines)), now, bounds) for line in one.lines.values()],
        }
        for name, one in series.items()
    }
    body = {"format": FORMAT, "sources": sources, "bounds": list(bounds)}
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)


def recall_series(kept: bytes, series: Mapping[str, Series], since: float, now: float) -> None:
    """Fills series that have not looked yet.

    Args:
        since: seconds since they were kept.
    """
    body = json.loads(zlib.decompress(kept))
    if body.get("format") != FORMAT:
        return
    base = now - since
    for name, source in body["sources"].items():
        if name in series:
            lines = [_line_from(packed, base, body["bounds"]) for packed in source["lines"]]
            looked = None if source["looked"] is None else base - source["looked"]
            series[name].recall({line.target.key: line for line in lines}, looked)


def _moments(windows: Sequence[float], now: float, targets: int) -> list[float]:
    """After which the next point of each target is kept, the oldest first."""
    count = min(MOST, max(1, POINTS // max(1, targets)))
    return sorted({now - window * part / count for window in windows for part in range(1, count + 1)})


def _line(line: Line, moments: Sequence[float], now: float, bounds: dict[tuple[float, ...], int]) -> list[Any]:
    target = line.target
    return [
        [target.key, target.version, target.rotating, target.expected],
        now - line.first_seen,
        [line.born, line.live, line.error],
        None if line.raw is None else _counts(line.raw, bounds),
        [[now - at, *_counts(counts, bounds)] for at, counts in _points(line, moments)],
    ]


def _points(line: Line, moments: Sequence[float]) -> list[Point]:
    """The first after each moment, and the last."""
    found: list[Point] = []
    wanted = iter(moments)
    moment = next(wanted, None)
    for point in chain(line.older, line.points):
        taken = False
        while moment is not None and point[0] >= moment:
            taken, moment = True, next(wanted, None)
        if taken or point is line.points[-1]:
            found.append(point)
    return found


def _counts(counts: Counts, bounds: dict[tuple[float, ...], int]) -> list[Any]:
    order = tuple(counts.buckets)
    index = bounds.setdefault(order, len(bounds))
    known = sorted(counts.known)
    return [counts.requests, counts.errors, counts.restarts, known, index, list(counts.buckets.values())]


def _line_from(packed: Sequence[Any], base: float, bounds: Sequence[Sequence[float]]) -> Line:
    target, first_seen, (born, live, error), raw, points = packed
    return Line(
        target=Target(*target),
        first_seen=base - first_seen,
        born=born,
        raw=None if raw is None else _counts_from(raw, bounds),
        points=deque((base - age, _counts_from(counts, bounds)) for age, *counts in points),
        live=live,
        error=error,
    )


def _counts_from(packed: Sequence[Any], bounds: Sequence[Sequence[float]]) -> Counts:
    requests, errors, restarts, known, index, counted = packed
    buckets = dict(zip(bounds[index], counted, strict=True))
    return Counts(requests, errors, buckets, restarts, frozenset(known))

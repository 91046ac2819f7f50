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

from zdd_tui.model.guard.rule_state import RuleState
from zdd_tui.model.guard.rules import RuleOutcome
from zdd_tui.model.guard.series import CounterSample, MetricSeries, MetricTarget, TargetHistory, TimedSample

SNAPSHOT_FORMAT = 1
"""Of both; what was kept in another is forgotten, and the guard begins with nothing."""

MAX_POINTS_TOTAL = 2000
"""About how many are kept of all targets; of many targets each one needs fewer, because they add up."""
MAX_POINTS_PER_TARGET = 16
"""Of one target and window."""

PairSamples = Sequence[tuple[float, float, float]]
"""Moment, new and old, of a rule with a rank test."""


# --- courses ----------------------------------------------------------------------------------------------------


def save_rule_states(states: Mapping[str, RuleState], pairs: Mapping[str, PairSamples], now: float) -> bytes:
    """By rule: how long it has been broken and dark, what it saw last, and the pairs of its rank test. What was done
    stands in the stored readings."""
    rules = {
        name: {
            "broken": course.breached_seconds,
            "dark": course.no_data_seconds,
            "last": course.last_outcome.name,
            "age": None if course.observed_at is None else now - course.observed_at,
            "pairs": [(now - at, new, old) for at, new, old in pairs.get(name, ())],
        }
        for name, course in states.items()
    }
    return json.dumps({"format": SNAPSHOT_FORMAT, "rules": rules}).encode()


def load_rule_states(
    saved: bytes, seconds_ago: float, now: float
) -> tuple[dict[str, RuleState], dict[str, PairSamples]]:
    """
    Args:
        seconds_ago: seconds since they were kept.
    """
    body = json.loads(saved)
    if body.get("format") != SNAPSHOT_FORMAT:
        return {}, {}
    base = now - seconds_ago
    courses: dict[str, RuleState] = {}
    pairs: dict[str, PairSamples] = {}
    for name, rule in body["rules"].items():
        at = None if rule["age"] is None else base - rule["age"]
        courses[name] = RuleState(rule["broken"], rule["dark"], RuleOutcome[rule["last"]], at)
        pairs[name] = [(base - age, new, old) for age, new, old in rule["pairs"]]
    return courses, pairs


# --- counters ---------------------------------------------------------------------------------------------------


def save_series(series: Mapping[str, MetricSeries], windows: Sequence[float], now: float) -> bytes:
    """By source: of each target its last counters, and some points of each window.

    Args:
        windows: seconds, of every rule.
    """
    bounds: dict[tuple[float, ...], int] = {}
    sources = {
        name: {
            "looked": None if one.observed_at is None else now - one.observed_at,
            "lines": [
                _pack_history(line, _sample_times(windows, now, len(one.histories)), now, bounds)
                for line in one.histories.values()
            ],
        }
        for name, one in series.items()
    }
    body = {"format": SNAPSHOT_FORMAT, "sources": sources, "bounds": list(bounds)}
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)


def load_series(saved: bytes, series: Mapping[str, MetricSeries], seconds_ago: float, now: float) -> None:
    """Fills series that have not looked yet.

    Args:
        seconds_ago: seconds since they were kept.
    """
    body = json.loads(zlib.decompress(saved))
    if body.get("format") != SNAPSHOT_FORMAT:
        return
    base = now - seconds_ago
    for name, source in body["sources"].items():
        if name in series:
            lines = [_unpack_history(packed, base, body["bounds"]) for packed in source["lines"]]
            looked = None if source["looked"] is None else base - source["looked"]
            series[name].restore({line.target.key: line for line in lines}, looked)


def _sample_times(windows: Sequence[float], now: float, targets: int) -> list[float]:
    """After which the next point of each target is kept, the oldest first."""
    count = min(MAX_POINTS_PER_TARGET, max(1, MAX_POINTS_TOTAL // max(1, targets)))
    return sorted({now - window * part / count for window in windows for part in range(1, count + 1)})


def _pack_history(
    history: TargetHistory, sample_times: Sequence[float], now: float, bounds: dict[tuple[float, ...], int]
) -> list[Any]:
    target = history.target
    return [
        [target.key, target.version, target.in_rotation, target.must_answer],
        now - history.first_seen,
        [history.born_while_observed, history.is_live, history.error],
        None if history.last_sample is None else _pack_sample(history.last_sample, bounds),
        [[now - at, *_pack_sample(counts, bounds)] for at, counts in _select_samples(history, sample_times)],
    ]


def _select_samples(history: TargetHistory, sample_times: Sequence[float]) -> list[TimedSample]:
    """The first after each moment, and the last."""
    found: list[TimedSample] = []
    wanted = iter(sample_times)
    moment = next(wanted, None)
    for point in chain(history.coarse_points, history.recent_points):
        taken = False
        while moment is not None and point[0] >= moment:
            taken, moment = True, next(wanted, None)
        if taken or point is history.recent_points[-1]:
            found.append(point)
    return found


def _pack_sample(sample: CounterSample, bounds: dict[tuple[float, ...], int]) -> list[Any]:
    order = tuple(sample.buckets)
    index = bounds.setdefault(order, len(bounds))
    known = sorted(sample.available)
    return [sample.requests, sample.errors, sample.restarts, known, index, list(sample.buckets.values())]


def _unpack_history(packed: Sequence[Any], base: float, bounds: Sequence[Sequence[float]]) -> TargetHistory:
    target, first_seen, (born, live, error), raw, points = packed
    return TargetHistory(
        target=MetricTarget(*target),
        first_seen=base - first_seen,
        born_while_observed=born,
        last_sample=None if raw is None else _unpack_sample(raw, bounds),
        recent_points=deque((base - age, _unpack_sample(counts, bounds)) for age, *counts in points),
        is_live=live,
        error=error,
    )


def _unpack_sample(packed: Sequence[Any], bounds: Sequence[Sequence[float]]) -> CounterSample:
    requests, errors, restarts, known, index, counted = packed
    buckets = dict(zip(bounds[index], counted, strict=True))
    return CounterSample(requests, errors, buckets, restarts, frozenset(known))

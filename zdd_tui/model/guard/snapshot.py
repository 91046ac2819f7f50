"""The snapshot of a guard that the next agent continues with: rule states, pairs of the rank tests, counters.

A monotonic clock starts at an arbitrary value in every process, so times are saved as ages in seconds before the
snapshot. Loading adds the seconds since then, by the database's clock.
"""

import json
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

from zdd_tui.model.guard.history import RuleHistories, pack_histories, unpack_histories
from zdd_tui.model.guard.rule_state import RuleState
from zdd_tui.model.guard.rules import RuleOutcome
from zdd_tui.model.guard.series import (
    CounterSample,
    MetricSeries,
    MetricTarget,
    Steadiness,
    TargetHistory,
    TimedSample,
)
from zdd_tui.model.queries import MetricPoint

SNAPSHOT_FORMAT = 2
"""Of both parts. A snapshot in another format is ignored, and the guard starts without one."""

MAX_POINTS_TOTAL = 2000
"""About how many points are saved of all targets; of many targets each needs fewer, because they add up."""
MAX_POINTS_PER_TARGET = 16
"""For each window."""

PairSamples = Sequence[tuple[float, float, float]]
"""Time, value of the new version, value of the old one; of a rule with a rank test."""


# --- rule states ------------------------------------------------------------------------------------------------


def save_rule_states(
    states: Mapping[str, RuleState],
    pairs: Mapping[str, PairSamples],
    now: float,
    histories: RuleHistories = MappingProxyType({}),
) -> bytes:
    """The states and rank-test pairs by rule, without what the stored readings have: action and series; and the
    histories that charts are drawn from."""
    rules = {
        name: {
            "breached": state.breached_seconds,
            "no_data": state.no_data_seconds,
            "last": state.last_outcome.name,
            "age": None if state.observed_at is None else now - state.observed_at,
            "pairs": [(now - at, new, old) for at, new, old in pairs.get(name, ())],
        }
        for name, state in states.items()
    }
    document = {"format": SNAPSHOT_FORMAT, "rules": rules, "histories": pack_histories(histories, now)}
    return json.dumps(document).encode()


def load_rule_states(
    saved: bytes, seconds_ago: float, now: float
) -> tuple[dict[str, RuleState], dict[str, PairSamples]]:
    """
    Args:
        seconds_ago: seconds since they were saved.
    """
    body = json.loads(saved)
    if body.get("format") != SNAPSHOT_FORMAT:
        return {}, {}
    base = now - seconds_ago
    states: dict[str, RuleState] = {}
    pairs: dict[str, PairSamples] = {}
    for name, rule in body["rules"].items():
        at = None if rule["age"] is None else base - rule["age"]
        states[name] = RuleState(rule["breached"], rule["no_data"], RuleOutcome[rule["last"]], at)
        pairs[name] = [(base - age, new, old) for age, new, old in rule["pairs"]]
    return states, pairs


def load_histories(saved: bytes, saved_at: float) -> dict[str, tuple[MetricPoint, ...]]:
    """The histories in a snapshot of the rule states; empty where an older version has saved it.

    Args:
        saved_at: when it was saved, by the clock of the result.

    Raises:
        ValueError, TypeError, AttributeError, zlib.error: the snapshot is damaged.
    """
    body = json.loads(saved)
    if body.get("format") != SNAPSHOT_FORMAT or "histories" not in body:
        return {}
    return unpack_histories(body["histories"], saved_at)


# --- counters ---------------------------------------------------------------------------------------------------


def save_series(series: Mapping[str, MetricSeries], windows: Sequence[float], now: float) -> bytes:
    """By source, the last counters of each target and some points of each window.

    Args:
        windows: seconds, of every rule.
    """
    bounds: dict[tuple[float, ...], int] = {}
    sources = {
        name: {
            "observed": None if one.observed_at is None else now - one.observed_at,
            "histories": [
                _pack_history(history, _sample_times(windows, now, len(one.histories)), now, bounds)
                for history in one.histories.values()
            ],
        }
        for name, one in series.items()
    }
    body = {"format": SNAPSHOT_FORMAT, "sources": sources, "bounds": list(bounds)}
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)


def load_series(saved: bytes, series: Mapping[str, MetricSeries], seconds_ago: float, now: float) -> None:
    """Fills series that are still empty.

    Args:
        seconds_ago: seconds since they were saved.
    """
    body = json.loads(zlib.decompress(saved))
    if body.get("format") != SNAPSHOT_FORMAT:
        return
    base = now - seconds_ago
    for name, source in body["sources"].items():
        if name in series:
            histories = [_unpack_history(packed, base, body["bounds"]) for packed in source["histories"]]
            observed_at = None if source["observed"] is None else base - source["observed"]
            series[name].restore({history.target.key: history for history in histories}, observed_at)


def _sample_times(windows: Sequence[float], now: float, targets: int) -> list[float]:
    """The next point after each of these times is saved, the oldest first."""
    count = min(MAX_POINTS_PER_TARGET, max(1, MAX_POINTS_TOTAL // max(1, targets)))
    return sorted({now - window * part / count for window in windows for part in range(1, count + 1)})


def _pack_history(
    history: TargetHistory, sample_times: Sequence[float], now: float, bounds: dict[tuple[float, ...], int]
) -> list[Any]:
    target = history.target
    return [
        [target.key, target.version, target.in_rotation, target.must_answer, target.restarts],
        now - history.first_seen,
        [history.born_while_observed, history.is_live, history.error, *_pack_steadiness(history.steadiness, now)],
        None if history.last_sample is None else _pack_sample(history.last_sample, bounds),
        [[now - at, *_pack_sample(sample, bounds)] for at, sample in _select_samples(history, sample_times)],
    ]


def _select_samples(history: TargetHistory, sample_times: Sequence[float]) -> list[TimedSample]:
    """The first point after each time, and the last point."""
    selected: list[TimedSample] = []
    times = iter(sample_times)
    time = next(times, None)
    for point in chain(history.coarse_points, history.recent_points):
        is_selected = False
        while time is not None and point[0] >= time:
            is_selected, time = True, next(times, None)
        if is_selected or point is history.recent_points[-1]:
            selected.append(point)
    return selected


def _pack_sample(sample: CounterSample, bounds: dict[tuple[float, ...], int]) -> list[Any]:
    order = tuple(sample.buckets)
    index = bounds.setdefault(order, len(bounds))
    available = sorted(sample.available)
    numbers = [sample.requests, sample.errors, sample.restarts, sample.process_started]
    return [*numbers, available, index, list(sample.buckets.values())]


def _unpack_history(packed: Sequence[Any], base: float, bounds: Sequence[Sequence[float]]) -> TargetHistory:
    target, first_seen, (born, live, error, *steadiness), raw, points = packed
    return TargetHistory(
        target=MetricTarget(*target),
        first_seen=base - first_seen,
        born_while_observed=born,
        last_sample=None if raw is None else _unpack_sample(raw, bounds),
        recent_points=deque((base - age, _unpack_sample(values, bounds)) for age, *values in points),
        is_live=live,
        error=error,
        steadiness=_unpack_steadiness(steadiness, base),
    )


def _pack_steadiness(one: Steadiness, now: float) -> list[float]:
    return [
        one.samples,
        one.fallen_from,
        one.doubtful_samples,
        now - one.alternates_until if one.alternates_until else 0.0,
        now - one.process_seen_at,
        one.highest_rate,
        now - one.observed_at,
    ]


def _unpack_steadiness(packed: Sequence[float], base: float) -> Steadiness:
    samples, fallen_from, doubtful, alternates_age, process_age, rate, observed_age = packed
    until = base - alternates_age if alternates_age else 0.0
    return Steadiness(int(samples), fallen_from, int(doubtful), until, base - process_age, rate, base - observed_age)


def _unpack_sample(packed: Sequence[Any], bounds: Sequence[Sequence[float]]) -> CounterSample:
    requests, errors, restarts, started, available, index, counts = packed
    buckets = dict(zip(bounds[index], counts, strict=True))
    return CounterSample(requests, errors, buckets, restarts, frozenset(available), started)

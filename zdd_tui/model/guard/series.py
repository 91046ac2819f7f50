"""Counters of many targets over time, and what they say about each version in a window.

A counter that falls was reset: its process began anew, so the whole new value came since (Prometheus, "increase").
Nothing is extrapolated over a gap: two looks at a target inside the window are needed, or it says nothing.

Times are seconds of any clock that never jumps.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Buckets = Mapping[float, float]
"""Upper bound in seconds (infinity for the last), to how many observations were at most that."""

MAX_SILENT_FRACTION = 0.1
"""A larger share of silent targets than this leaves a version without data."""

FINE_SECONDS = 300.0
"""Every look is kept for this long; older ones are thinned, or an hour of 500 pods would fill the memory."""
COARSE_POINTS = 120


@dataclass(frozen=True, slots=True)
class CounterSample:
    """Counters of one target at one moment, all since its process began.

    Attributes:
        available: which of `requests`, `duration` and `restarts` the target has at all.
    """

    requests: float = 0.0
    errors: float = 0.0
    buckets: Buckets = field(default_factory=dict)
    restarts: float = 0.0
    available: frozenset[str] = frozenset()

    def since(self, before: "CounterSample") -> "CounterSample":
        """What came between two looks; never negative, whatever was reset."""
        reset = self.requests < before.requests
        rebucketed = _total(self.buckets) < _total(before.buckets) or set(self.buckets) != set(before.buckets)
        return CounterSample(
            requests=self.requests if reset else self.requests - before.requests,
            errors=self.errors if reset or self.errors < before.errors else self.errors - before.errors,
            buckets=self.buckets
            if rebucketed
            else {bound: max(0.0, count - before.buckets[bound]) for bound, count in self.buckets.items()},
            restarts=max(0.0, self.restarts - before.restarts),
            available=self.available,
        )


def _total(buckets: Buckets) -> float:
    return buckets.get(math.inf, max(buckets.values(), default=0.0))


@dataclass(frozen=True, slots=True)
class WindowStats:
    """What the targets of one version counted together in a window.

    Attributes:
        buckets: only bounds that all targets with observations share.
        targets: how many were looked at or should have been.
        compared_targets: how many were looked at twice, so that what came in between is known.
        silent_targets: how many of those gave no answer for too long.
        in_rotation: some of them take traffic.
        is_live: some of them exist now.
        available: as :attr:`CounterSample.available`, of any target.
        silent_reason: what the first silent one said.
    """

    version: str
    requests: float = 0.0
    errors: float = 0.0
    buckets: Buckets = field(default_factory=dict)
    restarts: float = 0.0
    targets: int = 0
    compared_targets: int = 0
    silent_targets: int = 0
    in_rotation: bool = False
    is_live: bool = False
    available: frozenset[str] = frozenset()
    silent_reason: str = ""

    @property
    def is_missing_data(self) -> bool:
        """Too many of its targets are silent for the others to speak for them."""
        return self.silent_targets > MAX_SILENT_FRACTION * self.targets

    @property
    def error_rate(self) -> float | None:
        """A share of 1; None without a request."""
        return min(1.0, self.errors / self.requests) if self.requests > 0 else None

    @property
    def observations(self) -> float:
        """How many latencies were observed."""
        return _total(self.buckets)

    def quantile(self, wanted: float) -> float | None:
        """Seconds, interpolated inside the bucket; None without an observation.

        What lies above the largest finite bound reads as that bound (Prometheus, "histogram_quantile").
        """
        bounds = sorted(self.buckets)
        finite = [bound for bound in bounds if math.isfinite(bound)]
        total = self.observations
        if not finite or total <= 0:
            return None
        rank, below, lower = wanted * total, 0.0, 0.0
        for bound in bounds:
            count = max(below, self.buckets[bound])
            if count >= rank and count > below:
                if not math.isfinite(bound):
                    break
                return lower + (bound - lower) * (rank - below) / (count - below)
            below = count
            lower = bound if math.isfinite(bound) else lower
        return finite[-1]

    @property
    def highest_bound(self) -> float:
        """The largest latency that the buckets can tell, seconds."""
        return max((bound for bound in self.buckets if math.isfinite(bound)), default=0.0)


@dataclass(frozen=True, slots=True)
class MetricTarget:
    """Something that is looked at: a pod, or one address.

    Attributes:
        in_rotation: it takes traffic.
        must_answer: it should answer; a pod that is only starting need not.
    """

    key: str
    version: str
    in_rotation: bool = True
    must_answer: bool = True


TimedSample = tuple[float, CounterSample]


@dataclass(slots=True)
class TargetHistory:
    """One target's history: its counters with the resets taken out, so that a window is one subtraction.

    Attributes:
        last_sample: the counters as they were last.
        coarse_points: thinned points, before those of `points`.
        born_while_observed: it began while we looked on, so that all it has ever counted came since.
    """

    target: MetricTarget
    first_seen: float
    born_while_observed: bool
    last_sample: CounterSample | None = None
    recent_points: deque[TimedSample] = field(default_factory=deque)
    coarse_points: deque[TimedSample] = field(default_factory=deque)
    is_live: bool = True
    error: str = ""

    def add(self, now: float, sample: CounterSample) -> None:
        if self.last_sample is None or not self.recent_points:
            self.recent_points.append((now, sample))
        else:
            self.recent_points.append((now, _add_samples(self.recent_points[-1][1], sample.since(self.last_sample))))
        self.last_sample = sample
        self.error = ""

    def expire(self, now: float, retention: float) -> None:
        spacing = retention / COARSE_POINTS
        # The newest point stays for as long as the target lives: what comes next is counted from there.
        while len(self.recent_points) > 1 and self.recent_points[0][0] < now - min(retention, FINE_SECONDS):
            point = self.recent_points.popleft()
            if retention > FINE_SECONDS and (not self.coarse_points or point[0] - self.coarse_points[-1][0] >= spacing):
                self.coarse_points.append(point)
        while self.coarse_points and self.coarse_points[0][0] < now - retention:
            self.coarse_points.popleft()

    def increase(self, since: float) -> CounterSample | None:
        """What came since; None where fewer than two looks were."""
        if not self.recent_points or self.recent_points[-1][0] < since:
            return None
        last = self.recent_points[-1]
        first = next(point for point in (*self.coarse_points, *self.recent_points) if point[0] >= since)
        return None if first is last else last[1].since(first[1])


def _add_samples(total: CounterSample, increase: CounterSample) -> CounterSample:
    return CounterSample(
        requests=total.requests + increase.requests,
        errors=total.errors + increase.errors,
        buckets={bound: total.buckets.get(bound, 0.0) + count for bound, count in increase.buckets.items()},
        restarts=total.restarts + increase.restarts,
        available=increase.available,
    )


class MetricSeries:
    """Remembers the counters of all targets for as long as the longest window.

    Args:
        retention: seconds.
        silence_timeout: seconds without an answer after which a target is silent.
    """

    def __init__(self, retention: float, silence_timeout: float) -> None:
        self._retention = retention
        self._silence_timeout = silence_timeout
        self._histories: dict[str, TargetHistory] = {}
        self._observed_at: float | None = None

    @property
    def observed_at(self) -> float | None:
        """When it looked last; None before the first look."""
        return self._observed_at

    @property
    def histories(self) -> Mapping[str, TargetHistory]:
        """The history of each target by its key, for who keeps it."""
        return self._histories

    def restore(self, histories: Mapping[str, TargetHistory], observed_at: float | None) -> None:
        """Goes on where another has stopped; the times are by the clock of the looks to come."""
        self._histories, self._observed_at = dict(histories), observed_at

    def observe(self, now: float, targets: Sequence[MetricTarget], results: Mapping[str, CounterSample | str]) -> None:
        """Takes one round in.

        Args:
            targets: all that exist now.
            results: by key: the counters, or why there are none. A target may be missing in it.
        """
        looked_on = self._observed_at is not None and now - self._observed_at <= self._silence_timeout
        self._observed_at = now
        keys = {target.key for target in targets}
        for key, line in self._histories.items():
            line.is_live = key in keys
        for target in targets:
            line = self._histories.setdefault(target.key, TargetHistory(target, now, looked_on))
            line.target = target
            answer = results.get(target.key)
            if isinstance(answer, CounterSample):
                self._add_sample(line, now, answer)
            elif answer:
                line.error = answer
        self._expire(now)

    @staticmethod
    def _add_sample(history: TargetHistory, now: float, sample: CounterSample) -> None:
        if not history.recent_points and history.born_while_observed:
            nothing = dict.fromkeys(sample.buckets, 0.0)
            history.add(min(history.first_seen, now), CounterSample(buckets=nothing, available=sample.available))
        history.add(now, sample)

    def _expire(self, now: float) -> None:
        for key, line in list(self._histories.items()):
            line.expire(now, self._retention)
            if not line.is_live and (not line.recent_points or line.recent_points[-1][0] < now - self._retention):
                del self._histories[key]

    def window_stats(self, now: float, window: float) -> dict[str, WindowStats]:
        """By version, what was counted in the last `window` seconds."""
        grouped: dict[str, list[TargetHistory]] = {}
        for line in self._histories.values():
            grouped.setdefault(line.target.version, []).append(line)
        return {version: self._version_stats(version, lines, now, now - window) for version, lines in grouped.items()}

    def _version_stats(self, version: str, histories: Sequence[TargetHistory], now: float, since: float) -> WindowStats:
        gained: list[CounterSample] = []
        targets = silent = 0
        live = rotating = False
        why = ""
        for line in histories:
            if (more := line.increase(since)) is not None:
                gained.append(more)
            live |= line.is_live
            rotating |= line.is_live and line.target.in_rotation
            if line.is_live and line.target.must_answer:
                targets += 1
                last = line.recent_points[-1][0] if line.recent_points else line.first_seen
                if now - last > self._silence_timeout:
                    silent += 1
                    why = why or f"{line.target.key}: {line.error or 'no answer'}"
        known = frozenset(
            name for line in histories if line.recent_points for name in line.recent_points[-1][1].available
        )
        return WindowStats(
            version=version,
            requests=sum(one.requests for one in gained),
            errors=sum(one.errors for one in gained),
            buckets=_merge_buckets([one.buckets for one in gained if _total(one.buckets) > 0]),
            restarts=sum(one.restarts for one in gained),
            targets=targets,
            compared_targets=len(gained),
            silent_targets=silent,
            in_rotation=rotating,
            is_live=live,
            available=known,
            silent_reason=why,
        )


def _merge_buckets(all_buckets: Sequence[Buckets]) -> Buckets:
    if not all_buckets:
        return {}
    shared = set(all_buckets[0]).intersection(*all_buckets)
    return {bound: sum(buckets[bound] for buckets in all_buckets) for bound in shared}


def merge_stats(stats: Iterable[WindowStats], version: str = "all") -> WindowStats:
    """Several versions as one."""
    found = list(stats)
    return WindowStats(
        version=version,
        requests=sum(one.requests for one in found),
        errors=sum(one.errors for one in found),
        buckets=_merge_buckets([one.buckets for one in found if one.observations > 0]),
        restarts=sum(one.restarts for one in found),
        targets=sum(one.targets for one in found),
        compared_targets=sum(one.compared_targets for one in found),
        silent_targets=sum(one.silent_targets for one in found),
        in_rotation=any(one.in_rotation for one in found),
        is_live=any(one.is_live for one in found),
        available=frozenset().union(*(one.available for one in found)),
        silent_reason=next((one.silent_reason for one in found if one.silent_reason), ""),
    )

"""Counters of many targets over time, and statistics of each version in a window.

A counter that falls was reset: its process restarted, and all of the new value was counted since (Prometheus,
"increase"). Nothing is extrapolated over a gap: a target needs two samples inside the window, or it has no data.

Where several processes of one pod answer by turns, each with counters of its own, the counters go back and forth, and
most of every increase is invented. Such a target is found by :class:`Steadiness` and counts nothing.

Times are seconds of a monotonic clock.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Buckets = Mapping[float, float]
"""Upper bound in seconds (infinity for the last), and how many observations were at most that."""

MAX_SILENT_FRACTION = 0.1
"""With a larger share of silent targets a version counts as without data."""

FINE_SECONDS = 300.0
"""Seconds for which every sample is kept; older ones are thinned, or an hour of 500 pods would fill the memory."""
COARSE_POINTS = 120


@dataclass(frozen=True, slots=True)
class CounterSample:
    """Counters of one target at one time, all since its process started.

    Attributes:
        available: which of `requests`, `duration` and `restarts` the target has at all.
        process_started: when the process that answered started, in seconds since 1970; 0 where it does not say.
    """

    requests: float = 0.0
    errors: float = 0.0
    buckets: Buckets = field(default_factory=dict)
    restarts: float = 0.0
    available: frozenset[str] = frozenset()
    process_started: float = 0.0

    def since(self, before: "CounterSample") -> "CounterSample":
        """The increase between two samples; never negative, whatever was reset."""
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
    """What the targets of one version counted in a window.

    Attributes:
        buckets: only bounds that all targets with observations share.
        targets: how many should have answered.
        compared_targets: how many have two samples, so that the increase between them is known.
        silent_targets: how many of them gave no answer for too long.
        in_rotation: some take traffic.
        is_live: some exist now.
        available: as :attr:`CounterSample.available`, of any target.
        silent_reason: the error of the first silent one.
        unsteady_targets: how many may answer from several processes by turns; their counters are left out.
        unsteady_target: the first of them that certainly does, else empty.
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
    unsteady_targets: int = 0
    unsteady_target: str = ""

    @property
    def is_unsteady(self) -> bool:
        """So many targets' counters cannot be trusted that the others do not represent the version."""
        return self.unsteady_targets > MAX_SILENT_FRACTION * self.targets

    @property
    def is_missing_data(self) -> bool:
        """So many targets are silent that the others do not represent the version."""
        return self.silent_targets > MAX_SILENT_FRACTION * self.targets

    @property
    def error_rate(self) -> float | None:
        """0 to 1; None without a request."""
        return min(1.0, self.errors / self.requests) if self.requests > 0 else None

    @property
    def observations(self) -> float:
        """How many latencies were measured."""
        return _total(self.buckets)

    def quantile(self, wanted: float) -> float | None:
        """Seconds, interpolated inside the bucket; None without an observation.

        Values above the largest finite bound read as that bound (Prometheus, "histogram_quantile").
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
        """The largest latency that the buckets can measure, seconds."""
        return max((bound for bound in self.buckets if math.isfinite(bound)), default=0.0)


@dataclass(frozen=True, slots=True)
class MetricTarget:
    """Something with counters: a pod, or one address.

    Attributes:
        in_rotation: it takes traffic.
        must_answer: it should answer; a pod that is only starting need not.
        restarts: of its containers; a change explains counters that fall.
    """

    key: str
    version: str
    in_rotation: bool = True
    must_answer: bool = True
    restarts: int = 0


HOLD_SAMPLES = 6
"""Samples after a fall without an explanation until it counts as a restart: that two processes answer by chance with
the same one so often in a row is rare, one in 32."""

MIN_JUMP, JUMP_SHARE, JUMP_FACTOR = 500.0, 0.2, 5.0
"""A rise is in doubt like a fall where the counter was at least the first, the rise is at least the second as a share
of it, and its rate is more than the third times every rate before: another process answers, or traffic has grown."""

MIN_SAMPLES = 3
"""The first increase of a target may be the difference of two processes; a third sample shows it."""


@dataclass(slots=True)
class Steadiness:
    """Whether the counters of one target come from one process.

    A fall is explained by a restart of a container, or by a process that started after the last sample of the one
    before. Any other fall is in doubt; a return to the value from before the fall proves that there are several.

    Attributes:
        samples: how many there are.
        fallen_from: the counter before the last fall that is in doubt.
        doubtful_samples: samples until that fall counts as a restart, or that jump as traffic.
        highest_rate: a second, between two samples.
        observed_at: monotonic time of the last sample.
        alternates_until: monotonic time until which the target counts as several processes; 0 for one.
    """

    samples: int = 0
    fallen_from: float = 0.0
    doubtful_samples: int = 0
    alternates_until: float = 0.0
    process_seen_at: float = 0.0
    highest_rate: float = 0.0
    observed_at: float = 0.0

    def observe(
        self, now: float, last: CounterSample | None, sample: CounterSample, *, has_restarted: bool, memory: float
    ) -> None:
        """
        Args:
            memory: seconds for which a target stays known to alternate without another sign of it.
        """
        self.samples += 1
        if last is None or has_restarted:
            self.fallen_from, self.doubtful_samples, self.alternates_until, self.highest_rate = 0.0, 0, 0.0, 0.0
            self.process_seen_at = now
        elif sample.process_started and last.process_started:
            self._observe_process(now, last.process_started, sample.process_started, memory)
        else:
            self._observe_value(now, _size(last), _size(sample), memory)
        self.observed_at = now

    def _observe_process(self, now: float, before: float, started: float, memory: float) -> None:
        if started == before:
            return
        age, self.process_seen_at = now - self.process_seen_at, now
        if started - before <= max(1.0, age):  # else it started after the other one was seen: a restart
            self.alternates_until = now + memory

    def _observe_value(self, now: float, before: float, value: float, memory: float) -> None:
        rise = value - before
        rate = rise / max(now - self.observed_at, 0.001)
        is_jump = before >= MIN_JUMP and rise >= JUMP_SHARE * before and rate > JUMP_FACTOR * self.highest_rate
        if rise < 0:
            if self.doubtful_samples or self.alternates_until > now:
                self.alternates_until = now + memory
            self.fallen_from, self.doubtful_samples = before, HOLD_SAMPLES
            return
        if self.doubtful_samples:
            self.doubtful_samples -= 1
            if 0 < self.fallen_from <= value:
                self.alternates_until, self.doubtful_samples = now + memory, 0
        elif is_jump:
            self.fallen_from, self.doubtful_samples = 0.0, HOLD_SAMPLES
        if not is_jump:
            self.highest_rate = max(self.highest_rate, rate)

    def is_doubtful(self, now: float) -> bool:
        return bool(self.doubtful_samples) or self.alternates_until > now


def _size(sample: CounterSample) -> float:
    return max(sample.requests, _total(sample.buckets))


TimedSample = tuple[float, CounterSample]


@dataclass(slots=True)
class TargetHistory:
    """One target's counters with the resets removed, so that a window is one subtraction.

    Attributes:
        born_while_observed: the target started while it was observed, so that everything it counted is an increase.
        last_sample: the counters as the target reported them last.
        coarse_points: thinned points, older than `recent_points`.
    """

    target: MetricTarget
    first_seen: float
    born_while_observed: bool
    last_sample: CounterSample | None = None
    recent_points: deque[TimedSample] = field(default_factory=deque)
    coarse_points: deque[TimedSample] = field(default_factory=deque)
    is_live: bool = True
    error: str = ""
    steadiness: Steadiness = field(default_factory=Steadiness)

    def is_doubtful(self, now: float) -> bool:
        """Its counters may come from several processes."""
        has_first_increase = self.steadiness.samples < MIN_SAMPLES and not self.born_while_observed
        return has_first_increase or self.steadiness.is_doubtful(now)

    def add(self, now: float, sample: CounterSample) -> None:
        if self.last_sample is None or not self.recent_points:
            self.recent_points.append((now, sample))
        else:
            self.recent_points.append((now, _add_samples(self.recent_points[-1][1], sample.since(self.last_sample))))
        self.last_sample = sample
        self.error = ""

    def expire(self, now: float, retention: float) -> None:
        spacing = retention / COARSE_POINTS
        # The newest point stays for as long as the target lives: the next increase is counted from there.
        while len(self.recent_points) > 1 and self.recent_points[0][0] < now - min(retention, FINE_SECONDS):
            point = self.recent_points.popleft()
            if retention > FINE_SECONDS and (not self.coarse_points or point[0] - self.coarse_points[-1][0] >= spacing):
                self.coarse_points.append(point)
        while self.coarse_points and self.coarse_points[0][0] < now - retention:
            self.coarse_points.popleft()

    def increase(self, since: float) -> CounterSample | None:
        """The increase since a time; None with fewer than two samples."""
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
    """Keeps the counters of all targets.

    Args:
        retention: seconds for which they are kept; at least the longest window.
        silence_timeout: seconds without an answer after which a target is silent.
    """

    def __init__(self, retention: float, silence_timeout: float) -> None:
        self._retention = retention
        self._silence_timeout = silence_timeout
        self.histories: dict[str, TargetHistory] = {}
        """By the key of the target."""
        self.observed_at: float | None = None
        """The time of the last round; None before the first."""

    def restore(self, histories: Mapping[str, TargetHistory], observed_at: float | None) -> None:
        """Continues with saved histories; their times are by this process's clock."""
        self.histories, self.observed_at = dict(histories), observed_at

    def observe(self, now: float, targets: Sequence[MetricTarget], results: Mapping[str, CounterSample | str]) -> None:
        """Adds one round of samples.

        Args:
            targets: all that exist now.
            results: by key, the counters or an error. A target may be missing.
        """
        was_observing = self.observed_at is not None and now - self.observed_at <= self._silence_timeout
        self.observed_at = now
        keys = {target.key for target in targets}
        for key, history in self.histories.items():
            history.is_live = key in keys
        for target in targets:
            history = self.histories.setdefault(target.key, TargetHistory(target, now, was_observing))
            has_restarted = history.target.restarts != target.restarts
            history.target = target
            result = results.get(target.key)
            if isinstance(result, CounterSample):
                history.steadiness.observe(
                    now, history.last_sample, result, has_restarted=has_restarted, memory=self._retention
                )
                self._add_sample(history, now, result)
            elif result:
                history.error = result
        self._expire(now)

    @staticmethod
    def _add_sample(history: TargetHistory, now: float, sample: CounterSample) -> None:
        if not history.recent_points and history.born_while_observed:
            zero = CounterSample(buckets=dict.fromkeys(sample.buckets, 0.0), available=sample.available)
            history.add(min(history.first_seen, now), zero)
        history.add(now, sample)

    def _expire(self, now: float) -> None:
        for key, history in list(self.histories.items()):
            history.expire(now, self._retention)
            last = history.recent_points[-1][0] if history.recent_points else -math.inf
            if not history.is_live and last < now - self._retention:
                del self.histories[key]

    def window_stats(self, now: float, window: float) -> dict[str, WindowStats]:
        """Statistics of the last `window` seconds by version."""
        grouped: dict[str, list[TargetHistory]] = {}
        for history in self.histories.values():
            grouped.setdefault(history.target.version, []).append(history)
        return {version: self._version_stats(version, group, now, now - window) for version, group in grouped.items()}

    def _version_stats(self, version: str, histories: Sequence[TargetHistory], now: float, since: float) -> WindowStats:
        increases: list[CounterSample] = []
        targets = silent = unsteady = 0
        silent_reason = unsteady_target = ""
        for history in histories:
            if (increase := history.increase(since)) is not None:
                if history.is_doubtful(now):
                    unsteady += 1
                    is_known = history.steadiness.alternates_until > now
                    unsteady_target = unsteady_target or (history.target.key if is_known else "")
                else:
                    increases.append(increase)
            if history.is_live and history.target.must_answer:
                targets += 1
                last = history.recent_points[-1][0] if history.recent_points else history.first_seen
                if now - last > self._silence_timeout:
                    silent += 1
                    silent_reason = silent_reason or f"{history.target.key}: {history.error or 'no response'}"
        return WindowStats(
            version=version,
            requests=sum(one.requests for one in increases),
            errors=sum(one.errors for one in increases),
            buckets=_merge_buckets([one.buckets for one in increases if _total(one.buckets) > 0]),
            restarts=sum(one.restarts for one in increases),
            targets=targets,
            compared_targets=len(increases),
            silent_targets=silent,
            in_rotation=any(each.is_live and each.target.in_rotation for each in histories),
            is_live=any(each.is_live for each in histories),
            available=frozenset().union(
                *(each.recent_points[-1][1].available for each in histories if each.recent_points)
            ),
            silent_reason=silent_reason,
            unsteady_targets=unsteady,
            unsteady_target=unsteady_target,
        )


def _merge_buckets(all_buckets: Sequence[Buckets]) -> Buckets:
    if not all_buckets:
        return {}
    shared = set(all_buckets[0]).intersection(*all_buckets)
    return {bound: sum(buckets[bound] for buckets in all_buckets) for bound in shared}


def merge_stats(stats: Iterable[WindowStats], version: str = "all") -> WindowStats:
    """Several versions merged into one."""
    merged = list(stats)
    return WindowStats(
        version=version,
        requests=sum(one.requests for one in merged),
        errors=sum(one.errors for one in merged),
        buckets=_merge_buckets([one.buckets for one in merged if one.observations > 0]),
        restarts=sum(one.restarts for one in merged),
        targets=sum(one.targets for one in merged),
        compared_targets=sum(one.compared_targets for one in merged),
        silent_targets=sum(one.silent_targets for one in merged),
        in_rotation=any(one.in_rotation for one in merged),
        is_live=any(one.is_live for one in merged),
        available=frozenset().union(*(one.available for one in merged)),
        silent_reason=next((one.silent_reason for one in merged if one.silent_reason), ""),
        unsteady_targets=sum(one.unsteady_targets for one in merged),
        unsteady_target=next((one.unsteady_target for one in merged if one.unsteady_target), ""),
    )

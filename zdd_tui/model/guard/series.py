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

MANY_SILENT = 0.1
"""A larger share of silent targets than this leaves a version without data."""

FINE_SECONDS = 300.0
"""Every look is kept for this long; older ones are thinned, or an hour of 500 pods would fill the memory."""
COARSE_POINTS = 120


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters of one target at one moment, all since its process began.

    Attributes:
        known: which of `requests`, `duration` and `restarts` the target has at all.
    """

    requests: float = 0.0
    errors: float = 0.0
    buckets: Buckets = field(default_factory=dict)
    restarts: float = 0.0
    known: frozenset[str] = frozenset()

    def since(self, before: "Counts") -> "Counts":
        """What came between two looks; never negative, whatever was reset."""
        reset = self.requests < before.requests
        rebucketed = _total(self.buckets) < _total(before.buckets) or set(self.buckets) != set(before.buckets)
        return Counts(
            requests=self.requests if reset else self.requests - before.requests,
            errors=self.errors if reset or self.errors < before.errors else self.errors - before.errors,
            buckets=self.buckets
            if rebucketed
            else {bound: max(0.0, count - before.buckets[bound]) for bound, count in self.buckets.items()},
            restarts=max(0.0, self.restarts - before.restarts),
            known=self.known,
        )


def _total(buckets: Buckets) -> float:
    return buckets.get(math.inf, max(buckets.values(), default=0.0))


@dataclass(frozen=True, slots=True)
class Tally:
    """What the targets of one version counted together in a window.

    Attributes:
        buckets: only bounds that all targets with observations share.
        targets: how many were looked at or should have been.
        watched: how many were looked at twice, so that what came in between is known.
        silent: how many of those gave no answer for too long.
        rotating: some of them take traffic.
        live: some of them exist now.
        known: as :attr:`Counts.known`, of any target.
        why_silent: what the first silent one said.
    """

    version: str
    requests: float = 0.0
    errors: float = 0.0
    buckets: Buckets = field(default_factory=dict)
    restarts: float = 0.0
    targets: int = 0
    watched: int = 0
    silent: int = 0
    rotating: bool = False
    live: bool = False
    known: frozenset[str] = frozenset()
    why_silent: str = ""

    @property
    def dark(self) -> bool:
        """Too many of its targets are silent for the others to speak for them."""
        return self.silent > MANY_SILENT * self.targets

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
    def highest(self) -> float:
        """The largest latency that the buckets can tell, seconds."""
        return max((bound for bound in self.buckets if math.isfinite(bound)), default=0.0)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that is looked at: a pod, or one address.

    Attributes:
        rotating: it takes traffic.
        expected: it should answer; a pod that is only starting need not.
    """

    key: str
    version: str
    rotating: bool = True
    expected: bool = True


Point = tuple[float, Counts]


@dataclass(slots=True)
class Line:
    """One target's history: its counters with the resets taken out, so that a window is one subtraction.

    Attributes:
        raw: the counters as they were last.
        older: thinned points, before those of `points`.
        born: it began while we looked on, so that all it has ever counted came since.
    """

    target: Target
    first_seen: float
    born: bool
    raw: Counts | None = None
    points: deque[Point] = field(default_factory=deque)
    older: deque[Point] = field(default_factory=deque)
    live: bool = True
    error: str = ""

    def add(self, now: float, counts: Counts) -> None:
        if self.raw is None or not self.points:
            self.points.append((now, counts))
        else:
            self.points.append((now, _plus(self.points[-1][1], counts.since(self.raw))))
        self.raw = counts
        self.error = ""

    def forget(self, now: float, keep: float) -> None:
        spacing = keep / COARSE_POINTS
        # The newest point stays for as long as the target lives: what comes next is counted from there.
        while len(self.points) > 1 and self.points[0][0] < now - min(keep, FINE_SECONDS):
            point = self.points.popleft()
            if keep > FINE_SECONDS and (not self.older or point[0] - self.older[-1][0] >= spacing):
                self.older.append(point)
        while self.older and self.older[0][0] < now - keep:
            self.older.popleft()

    def gained(self, since: float) -> Counts | None:
        """What came since; None where fewer than two looks were."""
        if not self.points or self.points[-1][0] < since:
            return None
        last = self.points[-1]
        first = next(point for point in (*self.older, *self.points) if point[0] >= since)
        return None if first is last else last[1].since(first[1])


def _plus(total: Counts, more: Counts) -> Counts:
    return Counts(
        requests=total.requests + more.requests,
        errors=total.errors + more.errors,
        buckets={bound: total.buckets.get(bound, 0.0) + count for bound, count in more.buckets.items()},
        restarts=total.restarts + more.restarts,
        known=more.known,
    )


class Series:
    """Remembers the counters of all targets for as long as the longest window.

    Args:
        keep: seconds.
        patience: seconds without an answer after which a target is silent.
    """

    def __init__(self, keep: float, patience: float) -> None:
        self._keep = keep
        self._patience = patience
        self._lines: dict[str, Line] = {}
        self._looked: float | None = None

    @property
    def looked(self) -> float | None:
        """When it looked last; None before the first look."""
        return self._looked

    @property
    def lines(self) -> Mapping[str, Line]:
        """The history of each target by its key, for who keeps it."""
        return self._lines

    def recall(self, lines: Mapping[str, Line], looked: float | None) -> None:
        """Goes on where another has stopped; the times are by the clock of the looks to come."""
        self._lines, self._looked = dict(lines), looked

    def look(self, now: float, targets: Sequence[Target], found: Mapping[str, Counts | str]) -> None:
        """Takes one round in.

        Args:
            targets: all that exist now.
            found: by key: the counters, or why there are none. A target may be missing in it.
        """
        looked_on = self._looked is not None and now - self._looked <= self._patience
        self._looked = now
        keys = {target.key for target in targets}
        for key, line in self._lines.items():
            line.live = key in keys
        for target in targets:
            line = self._lines.setdefault(target.key, Line(target, now, looked_on))
            line.target = target
            answer = found.get(target.key)
            if isinstance(answer, Counts):
                self._add(line, now, answer)
            elif answer:
                line.error = answer
        self._forget(now)

    @staticmethod
    def _add(line: Line, now: float, counts: Counts) -> None:
        if not line.points and line.born:
            nothing = dict.fromkeys(counts.buckets, 0.0)
            line.add(min(line.first_seen, now), Counts(buckets=nothing, known=counts.known))
        line.add(now, counts)

    def _forget(self, now: float) -> None:
        for key, line in list(self._lines.items()):
            line.forget(now, self._keep)
            if not line.live and (not line.points or line.points[-1][0] < now - self._keep):
                del self._lines[key]

    def tallies(self, now: float, window: float) -> dict[str, Tally]:
        """By version, what was counted in the last `window` seconds."""
        grouped: dict[str, list[Line]] = {}
        for line in self._lines.values():
            grouped.setdefault(line.target.version, []).append(line)
        return {version: self._tally(version, lines, now, now - window) for version, lines in grouped.items()}

    def _tally(self, version: str, lines: Sequence[Line], now: float, since: float) -> Tally:
        gained: list[Counts] = []
        targets = silent = 0
        live = rotating = False
        why = ""
        for line in lines:
            if (more := line.gained(since)) is not None:
                gained.append(more)
            live |= line.live
            rotating |= line.live and line.target.rotating
            if line.live and line.target.expected:
                targets += 1
                last = line.points[-1][0] if line.points else line.first_seen
                if now - last > self._patience:
                    silent += 1
                    why = why or f"{line.target.key}: {line.error or 'no answer'}"
        known = frozenset(name for line in lines if line.points for name in line.points[-1][1].known)
        return Tally(
            version=version,
            requests=sum(one.requests for one in gained),
            errors=sum(one.errors for one in gained),
            buckets=_merged([one.buckets for one in gained if _total(one.buckets) > 0]),
            restarts=sum(one.restarts for one in gained),
            targets=targets,
            watched=len(gained),
            silent=silent,
            rotating=rotating,
            live=live,
            known=known,
            why_silent=why,
        )


def _merged(all_buckets: Sequence[Buckets]) -> Buckets:
    if not all_buckets:
        return {}
    shared = set(all_buckets[0]).intersection(*all_buckets)
    return {bound: sum(buckets[bound] for buckets in all_buckets) for bound in shared}


def together(tallies: Iterable[Tally], version: str = "all") -> Tally:
    """Several versions as one."""
    found = list(tallies)
    return Tally(
        version=version,
        requests=sum(one.requests for one in found),
        errors=sum(one.errors for one in found),
        buckets=_merged([one.buckets for one in found if one.observations > 0]),
        restarts=sum(one.restarts for one in found),
        targets=sum(one.targets for one in found),
        watched=sum(one.watched for one in found),
        silent=sum(one.silent for one in found),
        rotating=any(one.rotating for one in found),
        live=any(one.live for one in found),
        known=frozenset().union(*(one.known for one in found)),
        why_silent=next((one.why_silent for one in found if one.why_silent), ""),
    )

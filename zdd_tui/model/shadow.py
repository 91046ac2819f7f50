"""What a dark launch's counters say: does the new path agree with the old one, and is it fast enough?

The counters are those of :mod:`zdd_tui.service.shadow`, which stands alone; a test compares the names.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from zdd_tui.model.gate import Verdict
from zdd_tui.model.guard_series import Counts, Tally
from zdd_tui.model.plans import Dark

FAMILIES = ("shadow_comparisons_total", "shadow_mismatched_fields_total", "shadow_duration_seconds")
BAD = ("mismatch", "error", "timeout")
Sample = tuple[str, Mapping[str, str], float]
Finding = tuple[Verdict, str]


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """Counters of one pod, or of many together, since their processes began or since a look before.

    Attributes:
        old, new: ``requests`` are comparisons, ``errors`` those that went badly; each with its side's latencies.
        results: comparisons by result.
        fields: mismatches by the field that differs.
    """

    old: Counts = field(default_factory=Counts)
    new: Counts = field(default_factory=Counts)
    results: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, samples: Iterable[Sample], path: str) -> Self:
        """From the lines of a pod's /metrics."""
        results: dict[str, float] = {}
        fields: dict[str, float] = {}
        buckets: dict[str, dict[float, float]] = {"old": {}, "new": {}}
        for name, labels, value in samples:
            if labels.get("path") != path:
                continue
            if name == "shadow_comparisons_total":
                results[labels.get("result", "")] = value
            elif name == "shadow_mismatched_fields_total":
                fields[labels.get("field", "")] = value
            elif name == "shadow_duration_seconds_bucket" and labels.get("side") in buckets:
                buckets[labels["side"]][float(labels.get("le", math.inf))] = value
        return cls(_counts(results, buckets["old"]), _counts(results, buckets["new"]), results, fields)

    def since(self, before: "ShadowCounts") -> "ShadowCounts":
        """What came after an earlier look at the same pod; a pod that began anew counts from zero."""
        if sum(self.results.values()) < sum(before.results.values()):
            return self
        return ShadowCounts(
            self.old.since(before.old),
            self.new.since(before.new),
            _less(self.results, before.results),
            _less(self.fields, before.fields),
        )

    def __add__(self, other: "ShadowCounts") -> "ShadowCounts":
        results = _more(self.results, other.results)
        return ShadowCounts(
            _counts(results, _more(self.old.buckets, other.old.buckets)),
            _counts(results, _more(self.new.buckets, other.new.buckets)),
            results,
            _more(self.fields, other.fields),
        )

    def as_json(self) -> dict[str, Any]:
        """For the record of a step. Infinity has no JSON: bounds are texts."""
        return {
            "results": dict(self.results),
            "fields": dict(self.fields),
            "old": {str(bound): count for bound, count in self.old.buckets.items()},
            "new": {str(bound): count for bound, count in self.new.buckets.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        results = stored["results"]
        old, new = ({float(bound): count for bound, count in stored[side].items()} for side in ("old", "new"))
        return cls(_counts(results, old), _counts(results, new), results, stored["fields"])


def agreement(counts: ShadowCounts, dark: Dark) -> Finding:
    """Whether few enough comparisons went badly."""
    total, bad = counts.new.requests, counts.new.errors
    if total < dark.min_sample and bad <= _allowed(dark, dark.min_sample):
        return Verdict.INCONCLUSIVE, f"{total:.0f} comparisons in this phase; wanted: {dark.min_sample}"
    share = 100 * bad / total
    told = ", ".join(f"{counts.results[name]:.0f} {name}" for name in BAD if counts.results.get(name))
    where = ", ".join(name for name, count in sorted(counts.fields.items()) if count)
    reason = f"{bad:.0f} of {total:.0f} comparisons went badly ({share:.3g}%, limit {dark.max_mismatch:g}%)"
    reason += f": {told}" if told else ""
    reason += f"; differs: {where}" if where else ""
    return (Verdict.PASS if share <= dark.max_mismatch else Verdict.FAIL), reason


def speed(counts: ShadowCounts, dark: Dark) -> Finding:
    """Whether the new path's latency is not too many times the old one's."""
    old = Tally("old", buckets=counts.old.buckets)
    new = Tally("new", buckets=counts.new.buckets)
    if min(old.observations, new.observations) < dark.min_sample:
        seen = min(old.observations, new.observations)
        return Verdict.INCONCLUSIVE, f"{seen:.0f} latencies in this phase; wanted: {dark.min_sample}"
    before, after = old.quantile(dark.latency_quantile), new.quantile(dark.latency_quantile)
    if not before or after is None:
        return Verdict.INCONCLUSIVE, "the latencies cannot be told from the buckets"
    ratio = after / before
    reason = f"p{100 * dark.latency_quantile:g} {1000 * after:.1f} ms, old path {1000 * before:.1f} ms: "
    reason += f"{ratio:.2f} times, limit {dark.max_latency_ratio:g}"
    return (Verdict.PASS if ratio <= dark.max_latency_ratio else Verdict.FAIL), reason


def _allowed(dark: Dark, total: float) -> float:
    return total * dark.max_mismatch / 100


def _counts(results: Mapping[str, float], buckets: Mapping[float, float]) -> Counts:
    bad = sum(results.get(name, 0.0) for name in BAD)
    return Counts(requests=bad + results.get("match", 0.0), errors=bad, buckets=dict(buckets))


def _less(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: max(0.0, value - before.get(name, 0.0)) for name, value in now.items()}


def _more(one: Mapping[Any, float], other: Mapping[Any, float]) -> dict[Any, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in one.keys() | other.keys()}

"""Counters and samples of a dark launch: whether the new path agrees with the old one, and is fast enough.

:mod:`zdd_tui.service.shadow` writes both and imports nothing of zdd; a test compares the names.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from zdd_tui.model.counting import count_noun
from zdd_tui.model.guard.series import CounterSample, WindowStats
from zdd_tui.model.json_access import JsonObject, get_number, get_object, get_text
from zdd_tui.model.masking import is_secret_name, mask_text
from zdd_tui.model.plan.strategies import Dark
from zdd_tui.model.queries import Query
from zdd_tui.model.release.gate import Verdict

METRIC_FAMILIES = ("shadow_comparisons_total", "shadow_mismatched_fields_total", "shadow_duration_seconds")
ComparisonFailure = Literal["mismatch", "error", "timeout"]
FAILED_RESULTS: tuple[ComparisonFailure, ...] = ("mismatch", "error", "timeout")
MetricSample = tuple[str, Mapping[str, str], float]
GateResult = tuple[Verdict, str]


@dataclass(frozen=True, slots=True)
class ShadowCounters:
    """Counters of one pod, or the sum of many, since their processes started or since an earlier sample.

    Attributes:
        old, new: ``requests`` are comparisons, ``errors`` the failed ones; each with the latencies of its side.
        results: comparisons by result.
        fields: mismatches by the field that differs.
    """

    old: CounterSample = field(default_factory=CounterSample)
    new: CounterSample = field(default_factory=CounterSample)
    results: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_samples(cls, samples: Iterable[MetricSample], path: str) -> Self:
        """Reads the samples of a pod's /metrics."""
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
        return cls(
            _build_counter_sample(results, buckets["old"]),
            _build_counter_sample(results, buckets["new"]),
            results,
            fields,
        )

    def since(self, before: "ShadowCounters") -> "ShadowCounters":
        """The difference from an earlier sample of the same pod; a restarted pod counts from zero."""
        if sum(self.results.values()) < sum(before.results.values()):
            return self
        return ShadowCounters(
            self.old.since(before.old),
            self.new.since(before.new),
            _subtract_counters(self.results, before.results),
            _subtract_counters(self.fields, before.fields),
        )

    def __add__(self, other: "ShadowCounters") -> "ShadowCounters":
        results = _add_counters(self.results, other.results)
        return ShadowCounters(
            _build_counter_sample(results, _add_counters(self.old.buckets, other.old.buckets)),
            _build_counter_sample(results, _add_counters(self.new.buckets, other.new.buckets)),
            results,
            _add_counters(self.fields, other.fields),
        )

    def as_json(self) -> dict[str, Any]:
        """For the detail of a step. JSON has no infinity, so bounds are texts."""
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
        return cls(_build_counter_sample(results, old), _build_counter_sample(results, new), results, stored["fields"])


def evaluate_agreement(counters: ShadowCounters, dark: Dark) -> GateResult:
    """The gate for the share of failed comparisons."""
    total, bad = counters.new.requests, counters.new.errors
    if total < dark.min_sample and bad <= dark.min_sample * dark.max_mismatch / 100:
        return (
            Verdict.INCONCLUSIVE,
            f"{count_noun(round(total), 'comparison')} in this phase; required: {dark.min_sample}",
        )
    share = 100 * bad / total
    counts = ", ".join(f"{counters.results[name]:.0f} {name}" for name in FAILED_RESULTS if counters.results.get(name))
    fields = ", ".join(name for name, count in sorted(counters.fields.items()) if count)
    reason = (
        f"{bad:,.0f} of {count_noun(round(total), 'comparison')} failed ({share:.3g}%, limit {dark.max_mismatch:g}%)"
    )
    reason += f": {counts}" if counts else ""
    reason += f"; differs: {fields}" if fields else ""
    return (Verdict.PASS if share <= dark.max_mismatch else Verdict.FAIL), reason


def evaluate_latency(counters: ShadowCounters, dark: Dark) -> GateResult:
    """The gate for the new path's latency, relative to the old one's."""
    old = WindowStats("old", buckets=counters.old.buckets)
    new = WindowStats("new", buckets=counters.new.buckets)
    if min(old.observations, new.observations) < dark.min_sample:
        count = min(old.observations, new.observations)
        return (
            Verdict.INCONCLUSIVE,
            f"{count_noun(round(count), 'latency', 'latencies')} in this phase; required: {dark.min_sample}",
        )
    before, after = old.quantile(dark.latency_quantile), new.quantile(dark.latency_quantile)
    if not before or after is None:
        return Verdict.INCONCLUSIVE, "the buckets do not determine the latency"
    ratio = after / before
    reason = f"p{100 * dark.latency_quantile:g} {1000 * after:.1f} ms, old path {1000 * before:.1f} ms: "
    reason += f"{ratio:.2f} times, limit {dark.max_latency_ratio:g}"
    return (Verdict.PASS if ratio <= dark.max_latency_ratio else Verdict.FAIL), reason


def _build_counter_sample(results: Mapping[str, float], buckets: Mapping[float, float]) -> CounterSample:
    bad = sum(results.get(name, 0.0) for name in FAILED_RESULTS)
    return CounterSample(requests=bad + results.get("match", 0.0), errors=bad, buckets=dict(buckets))


def _subtract_counters(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: max(0.0, value - before.get(name, 0.0)) for name, value in now.items()}


def _add_counters(one: Mapping[Any, float], other: Mapping[Any, float]) -> dict[Any, float]:
    return {key: one.get(key, 0.0) + other.get(key, 0.0) for key in one.keys() | other.keys()}


# Samples of a dark launch: which results differ. The service library writes them to the pods' logs.
#
# :mod:`zdd_tui.service.shadow` decides what a line may hold: values only of fields that the application allows, of all
# others their shape. Secrets are masked here all the same.


LOG_PREFIX = "shadow-sample "
"""Precedes a JSON object in a line of a log."""

MAX_SAMPLES = 20
"""Number of samples that are stored and shown, the newest ones."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field whose values differ: as JSON or as shapes, and the kind of difference."""

    name: str
    old: str
    new: str
    difference: str = ""


@dataclass(frozen=True, slots=True)
class ShadowSample:
    """One failed comparison.

    Attributes:
        at: seconds since 1970 by the pod's clock.
        number: mismatches, or failures, of the pod's process so far.
        unit: the unit of the request, such as a user's id.
        omitted_fields: number of further fields that differ.
        error: the exception's type, where the new path failed or timed out.
    """

    pod: str
    at: float
    kind: ComparisonFailure
    number: int
    unit: str
    fields: tuple[FieldDifference, ...] = ()
    omitted_fields: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class ShadowSamples:
    """The samples in the logs of all pods.

    Attributes:
        samples: the newest ones, newest first.
        total_failures: failed comparisons according to the samples; more may have followed.
        logs_read: number of logs that were read.
        logs_not_read: number of logs that could not be read; ``not_read_reason`` is the first reason.
        lines_per_log: number of last lines of each log that were read first.
    """

    samples: tuple[ShadowSample, ...] = ()
    total_failures: int = 0
    logs_read: int = 0
    logs_not_read: int = 0
    not_read_reason: str = ""
    lines_per_log: int = 0


@dataclass(frozen=True, slots=True)
class ShadowQuery(Query[ShadowSamples]):
    """The samples of the shown dark launch."""


def parse_sample(line: str, pod: str, path: str) -> ShadowSample | None:
    """The sample in a line of a log; None where it has none, or one of another path.

    An application that logs in JSON has the sample in one of its strings.
    """
    found = _find_sample_json(line)
    if not found or get_text(found, "path") != path:
        return None
    what, at = get_text(found, "what"), found.get("at")
    if what not in FAILED_RESULTS or isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return ShadowSample(
        pod,
        float(at),
        what,
        get_number(found, "n"),
        mask_text(get_text(found, "unit")),
        tuple(_parse_fields(found.get("fields"))),
        get_number(found, "more"),
        get_text(found, "error"),
    )


def select_newest_samples(samples: Iterable[ShadowSample]) -> tuple[ShadowSample, ...]:
    """The newest samples without duplicates."""
    return tuple(sorted(set(samples), key=lambda each: (each.at, each.pod, each.number), reverse=True)[:MAX_SAMPLES])


def _find_sample_json(line: str) -> JsonObject:
    place = line.find(LOG_PREFIX)
    if place < 0:
        return {}
    try:
        return get_object(json.JSONDecoder().raw_decode(line, place + len(LOG_PREFIX))[0])
    except (ValueError, RecursionError):
        pass
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    values = (value for value in get_object(whole).values() if isinstance(value, str) and value != line)
    return next((found for value in values if (found := _find_sample_json(value))), {})


def _parse_fields(raw_fields: Any) -> Iterable[FieldDifference]:
    for each in raw_fields if isinstance(raw_fields, list) else ():
        if isinstance(each, list) and len(each) == 4 and all(isinstance(part, str) for part in each):
            name, old, new, how = each
            yield FieldDifference(name, _mask_unless_shape(name, old), _mask_unless_shape(name, new), how)


def _mask_unless_shape(name: str, value: str) -> str:
    """Masks a value, but not a shape: that holds no data, and JSON never begins with ``<``."""
    return "***" if is_secret_name(name) and not value.startswith("<") else mask_text(value)

"""What a dark launch's counters say: does the new path agree with the old one, and is it fast enough?

The counters are those of :mod:`zdd_tui.service.shadow`, which stands alone; a test compares the names.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from zdd_tui.model.guard.series import Counts, Tally
from zdd_tui.model.json_access import Json, number, obj, text
from zdd_tui.model.masking import mask_text, secret_name
from zdd_tui.model.plan.strategies import Dark
from zdd_tui.model.queries import Query
from zdd_tui.model.release.gate import Verdict

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


# --- Samples of a dark launch: which answers differ. The service library writes them to the pods' logs.
#
# What a line may hold is decided where it is written (:mod:`zdd_tui.service.shadow`): values only of fields that the
# application says may be shown, of all others their shape. Here whatever looks like a secret is masked all the same.
# A test holds the two sides together.


MARK = "shadow-sample "
"""In a line of a log: a JSON object follows."""

SHOWN = 20
"""Samples that are kept and shown, the newest."""

Kind = Literal["mismatch", "error", "timeout"]
_KINDS = ("mismatch", "error", "timeout")


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A field whose values differ: as JSON, or their shapes, and what tells the two apart."""

    name: str
    old: str
    new: str
    how: str = ""


@dataclass(frozen=True, slots=True)
class ShadowSample:
    """One comparison that went badly.

    Attributes:
        at: seconds since 1970 by the pod's clock.
        number: how many mismatches, or failures, the pod's process had by then.
        unit: whose request it was, such as a user's id.
        more: fields that differ too and are not told.
        error: the exception's type, where the new path failed or was late.
    """

    pod: str
    at: float
    what: Kind
    number: int
    unit: str
    fields: tuple[FieldDifference, ...] = ()
    more: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class ShadowSamples:
    """What the logs of all pods hold.

    Attributes:
        samples: the newest, newest first.
        known: how many went badly by what the samples say; there may have been more since.
        pods: how many logs were read.
        unread: how many were not; `why` is the first reason.
        lines: how many of each log's last lines were looked at to begin with.
    """

    samples: tuple[ShadowSample, ...] = ()
    known: int = 0
    pods: int = 0
    unread: int = 0
    why: str = ""
    lines: int = 0


@dataclass(frozen=True, slots=True)
class ShadowQuery(Query[ShadowSamples]):
    """The samples of the dark launch on the board."""


def sample_of(line: str, pod: str, path: str) -> ShadowSample | None:
    """The sample that a line of a log holds; None where it holds none, or one of another path.

    An application that logs in JSON has it in one of its texts.
    """
    found = _object(line)
    if not found or text(found, "path") != path:
        return None
    what, at = text(found, "what"), found.get("at")
    if what not in _KINDS or isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return ShadowSample(
        pod,
        float(at),
        cast(Kind, what),
        number(found, "n"),
        mask_text(text(found, "unit")),
        tuple(_fields(found.get("fields"))),
        number(found, "more"),
        text(found, "error"),
    )


def newest(samples: Iterable[ShadowSample]) -> tuple[ShadowSample, ...]:
    """The newest, each once."""
    return tuple(sorted(set(samples), key=lambda each: (each.at, each.pod, each.number), reverse=True)[:SHOWN])


def _object(line: str) -> Json:
    place = line.find(MARK)
    if place < 0:
        return {}
    try:
        return obj(json.JSONDecoder().raw_decode(line, place + len(MARK))[0])
    except (ValueError, RecursionError):
        pass
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    values = (value for value in obj(whole).values() if isinstance(value, str) and value != line)
    return next((found for value in values if (found := _object(value))), {})


def _fields(told: Any) -> Iterable[FieldDifference]:
    for each in told if isinstance(told, list) else ():
        if isinstance(each, list) and len(each) == 4 and all(isinstance(part, str) for part in each):
            name, old, new, how = each
            yield FieldDifference(name, _masked(name, old), _masked(name, new), how)


def _masked(name: str, value: str) -> str:
    """A shape holds no data and stays as it is; JSON never begins like one."""
    return "***" if secret_name(name) and not value.startswith("<") else mask_text(value)

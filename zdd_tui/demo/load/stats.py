"""Counts and latencies in bounded memory, and the report file in JSON.

The file (schema version 1):
  seconds, rate (requested, per second), requests, failures, wrong (results), final
  operations        requests by kind
  failure_kinds     failures by kind; failure_samples, wrong_samples: the first 20 of each
  total, last_10s   requests, failures, per_second, p50_ms, p99_ms, max_ms
  per_second        the last 60 whole seconds: at (Unix time), requests, failures
  endpoints         host:port that receive requests now
  services          requests by Service

A latency counts from the time when the request was *due*, so that a stall counts for every request that it delays.
"""

import json
import math
import os
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

MAX_SAMPLES = 20
KEPT_SECONDS = 60
_FIRST, _GROWTH, _BUCKETS = 0.0001, 1.08, 160
"""Buckets from 0.1 ms to 22 s, each 8 % wider than the one before: a percentile is exact within 8 %."""


class Histogram:
    """Latencies in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total = 0
        self.maximum = 0.0

    def add(self, seconds: float) -> None:
        place = 0 if seconds <= _FIRST else math.ceil(math.log(seconds / _FIRST, _GROWTH))
        self.counts[min(place, _BUCKETS - 1)] += 1
        self.total += 1
        self.maximum = max(self.maximum, seconds)

    def merge(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def quantile(self, share: float) -> float | None:
        """Upper bound in seconds of the bucket that contains this quantile; None when empty."""
        rank = math.ceil(share * self.total)
        seen = 0
        for place, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                return float(min(_FIRST * _GROWTH**place, self.maximum))
        return None


class _Second:
    def __init__(self, at: int) -> None:
        self.at = at
        self.histogram = Histogram()
        self.failures = 0


class LoadStats:
    """Everything that the load counts.

    Args:
        rate: requested requests per second, for the report.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.failures = 0
        self.wrong = 0
        self._began = time.time()
        self._operations: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._failure_samples: list[dict[str, Any]] = []
        self._wrong_samples: list[dict[str, Any]] = []
        self._total = Histogram()
        self._seconds: deque[_Second] = deque(maxlen=KEPT_SECONDS + 1)

    @property
    def request_count(self) -> int:
        return self._total.total

    def count_request(self, operation: str, seconds: float) -> None:
        """Counts one request, whatever its outcome."""
        self._operations[operation] += 1
        self._total.add(seconds)
        self._now().histogram.add(seconds)

    def count_failure(self, kind: str, request: str, endpoint: str, detail: str) -> None:
        """Counts a request without a response, or with an error status. :meth:`count_request` counts it too."""
        self.failures += 1
        self._kinds[kind] += 1
        self._now().failures += 1
        _add_sample(self._failure_samples, kind=kind, request=request, endpoint=endpoint, detail=detail)

    def count_wrong_result(self, request: str, endpoint: str, expected: str, got: str) -> None:
        """Counts a response that contradicts what was written before."""
        self.wrong += 1
        _add_sample(self._wrong_samples, request=request, endpoint=endpoint, expected=expected, got=got)

    def report(self, endpoints: list[str], *, final: bool) -> dict[str, Any]:
        """The content of the report file, except ``services``."""
        now = time.time()
        recent, recent_failures = Histogram(), 0
        for second in self._seconds:
            if now - 10 <= second.at:
                recent.merge(second.histogram)
                recent_failures += second.failures
        seconds = now - self._began
        return {
            "version": 1,
            "final": final,
            "updated_at": now,
            "seconds": round(seconds, 3),
            "rate": self.rate,
            "requests": self.request_count,
            "failures": self.failures,
            "wrong": self.wrong,
            "operations": dict(self._operations),
            "failure_kinds": dict(self._kinds),
            "failure_samples": self._failure_samples,
            "wrong_samples": self._wrong_samples,
            "total": _summary(self._total, self.failures, seconds),
            "last_10s": _summary(recent, recent_failures, min(10.0, seconds)),
            "per_second": [
                {"at": second.at, "requests": second.histogram.total, "failures": second.failures}
                for second in self._seconds
                if second.at < int(now)
            ],
            "endpoints": endpoints,
        }

    def _now(self) -> _Second:
        at = int(time.time())
        if not self._seconds or self._seconds[-1].at < at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]


def _add_sample(samples: list[dict[str, Any]], **fields: str) -> None:
    if len(samples) < MAX_SAMPLES:
        samples.append({"at": time.time(), **fields})


def _summary(histogram: Histogram, failures: int, seconds: float) -> dict[str, Any]:
    def milliseconds(value: float | None) -> float | None:
        return None if value is None else round(value * 1000, 2)

    return {
        "requests": histogram.total,
        "failures": failures,
        "per_second": round(histogram.total / seconds, 1) if seconds > 0 else 0.0,
        "p50_ms": milliseconds(histogram.quantile(0.5)),
        "p99_ms": milliseconds(histogram.quantile(0.99)),
        "max_ms": milliseconds(histogram.maximum) if histogram.total else None,
    }


def write_load_report(path: Path, report: dict[str, Any]) -> None:
    """Replaces the file atomically, so that a reader never sees half of it."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(report, ensure_ascii=False, indent=1))
    os.replace(new, path)

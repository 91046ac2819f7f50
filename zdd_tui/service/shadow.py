"""Dark launch: a new path runs beside the old one without being seen, is compared, and then answers more and more.

How to use it, for a read that is safe to repeat::

    shadow = Shadow("users_name", flags, shadow_key="users_sql_name_shadow", read_key="users_sql_name_read")
    attach(app, lifecycle, shadow.render)          # its counters stand on /metrics

    async def read(user_id):
        return await shadow.run(user_id, old=lambda: read_old(user_id), new=lambda: read_new(user_id))

**Shares.** The shadow flag's percentage is a share of *requests*, drawn anew for each; the read flag's is a share of
*units* (users), who keep their answer while it grows.

**The answered request is never hurt.** The comparison begins after the answer, in the background, with a time limit
of its own, and only so many run at once; what is over that is skipped and counted. Where the new path answers and
fails or is late, the old one answers instead, and that counts as an error of the new path.

**Rows move.** Between two reads somebody may write. What differs is therefore read again by the first path: only
a new answer that agrees with neither is a mismatch; the other is counted as moved.

**No data leaves.** Metrics name fields that differ, never values. Samples hold the unit, and of each field its shape
(``<text of 14>``) and how the two differ; values only of fields that `show` names. The newest ones are lines of the
log, from where the dashboard reads them: plain ASCII, at most :data:`MAX_SAMPLES` at once and then one a second.
"""

import asyncio
import dataclasses
import json
import logging
import random
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Generic, TypeVar

from zdd_tui.service.differences import Difference, compare_results, differing_fields
from zdd_tui.service.flags import FlagClient
from zdd_tui.service.metrics import BUCKET_BOUNDS

T = TypeVar("T")

MAX_SAMPLES = 20
"""Samples that are kept, and lines of the log that may be written at once."""

LOG_PREFIX = "shadow-sample "
"""In a line of the log: a JSON object follows."""

MAX_LINE_BYTES = 3000
"""A sample's line is no longer: what runs containers splits long ones."""

MAX_UNIT_CHARS = 80

MAX_FIELDS = 50
"""Names of fields that become series on /metrics; others are counted as ``other``."""
RESULTS = ("match", "mismatch", "error", "timeout", "moved", "skipped")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowMismatch:
    """One comparison that failed.

    Attributes:
        unit: whose request it was.
        differences: by field; of fields that may not be shown, no values.
        number: how many mismatches this process had by then, this one included.
        at: seconds since 1970.
    """

    unit: str
    differences: tuple[Difference, ...]
    number: int
    at: float

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of what differs."""
        return tuple(each.field for each in self.differences)


class ShadowComparison(Generic[T]):
    """One path of the application in two versions.

    Args:
        path: its name on /metrics.
        flags: a running client that declares both keys.
        shadow_key: for this share of requests both versions run.
        read_key: this share of units is answered by the new one.
        timeout: seconds that the new version may take.
        max_concurrent: comparisons that may run at the same time; leave enough database connections for the rest.
        visible_fields: fields whose values may stand in samples, which are written to the log: nothing personal, nothing secret.
    """

    def __init__(
        self,
        path: str,
        flags: FlagClient,
        *,
        shadow_key: str,
        read_key: str,
        timeout: float = 0.5,
        max_concurrent: int = 4,
        visible_fields: Collection[str] = (),
    ) -> None:
        unknown = {shadow_key, read_key} - set(flags.keys)
        if unknown:
            raise ValueError(f"the flag client does not know {', '.join(sorted(unknown))}; declare it there")
        self.path = path
        self._flags = flags
        self._shadow_key = shadow_key
        self._read_key = read_key
        self._timeout = timeout
        self._max_concurrent = max_concurrent
        self._visible_fields = frozenset(visible_fields)
        self._running: set[asyncio.Task[None]] = set()
        self._results = Counter(dict.fromkeys(RESULTS, 0))
        self._fields: Counter[str] = Counter()
        self._durations = {"old": _DurationHistogram(), "new": _DurationHistogram()}
        self._fallbacks = 0
        self._log_limiters = {"mismatch": _LogRateLimiter(), "failure": _LogRateLimiter()}
        self.samples: deque[ShadowMismatch] = deque(maxlen=MAX_SAMPLES)

    async def run(self, unit: str | int, *, old: Callable[[], Awaitable[T]], new: Callable[[], Awaitable[T]]) -> T:
        """The answer: the old version's, or the new one's for units that the read flag is on for.

        Both callables must be safe to run more than once and have no effect.
        """
        compared = self._flags.is_on(self._shadow_key, random.getrandbits(32))
        if not self._flags.is_on(self._read_key, unit):
            began = time.perf_counter()
            answer = await old()
            if compared:
                self._start_comparison(str(unit), "old", answer, time.perf_counter() - began, old, new)
            return answer
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await new()
        except Exception as error:
            self._record_failure(str(unit), error)
            self._fallbacks += 1
            return await old()
        if compared:
            self._start_comparison(str(unit), "new", answer, time.perf_counter() - began, new, old)
        return answer

    async def stop(self) -> None:
        """Ends the comparisons that are under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start_comparison(
        self,
        unit: str,
        side: str,
        result: T,
        seconds: float,
        first: Callable[[], Awaitable[T]],
        second: Callable[[], Awaitable[T]],
    ) -> None:
        """In the background: runs the other version, and the first one again where they differ."""
        if len(self._running) >= self._max_concurrent:
            self._results["skipped"] += 1
            return
        task = asyncio.create_task(self._run_comparison(unit, side, result, seconds, first, second))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run_comparison(
        self,
        unit: str,
        side: str,
        result: T,
        seconds: float,
        first: Callable[[], Awaitable[T]],
        second: Callable[[], Awaitable[T]],
    ) -> None:
        try:
            began = time.perf_counter()
            async with asyncio.timeout(self._timeout):
                other = await second()
            taken = time.perf_counter() - began
            fields = differing_fields(result, other)
            if fields:
                async with asyncio.timeout(self._timeout):
                    again = await first()
                if not differing_fields(again, other):
                    self._results["moved"] += 1
                    return
        except Exception as error:
            # Whatever it raises: nobody waits for this task, and the request has its answer.
            self._record_failure(unit, error)
            return
        self._durations[side].observe(seconds)
        self._durations["old" if side == "new" else "new"].observe(taken)
        if fields:
            self._record_mismatch(unit, *((result, other) if side == "old" else (other, result)))
        else:
            self._results["match"] += 1

    def _record_failure(self, unit: str, error: Exception) -> None:
        result = "timeout" if isinstance(error, TimeoutError) else "error"
        self._results[result] += 1
        number = self._results["timeout"] + self._results["error"]
        self._log_sample("failure", {"what": result, "n": number, "unit": unit, "error": type(error).__name__})

    def _record_mismatch(self, unit: str, old: T, new: T) -> None:
        self._results["mismatch"] += 1
        found = compare_results(old, new, self._visible_fields)
        for each in found:
            known = each.field in self._fields or len(self._fields) < MAX_FIELDS
            self._fields[each.field if known else "other"] += 1
        sample = ShadowMismatch(unit, found, self._results["mismatch"], time.time())
        self.samples.append(sample)
        told = [dataclasses.astuple(each) for each in found]
        self._log_sample("mismatch", {"what": "mismatch", "n": sample.number, "unit": unit, "fields": told})

    def _log_sample(self, kind: str, sample: dict[str, Any]) -> None:
        """A line of the log, unless there were too many of late: the next one's number tells how many were not."""
        if not self._log_limiters[kind].try_acquire(time.monotonic()):
            return
        sample |= {"path": self.path, "at": round(time.time(), 3), "unit": sample["unit"][:MAX_UNIT_CHARS]}
        text = json.dumps(sample)
        while len(text) > MAX_LINE_BYTES and sample.get("fields"):
            sample["fields"] = sample["fields"][:-1]
            sample["more"] = sample.get("more", 0) + 1
            text = json.dumps(sample)
        _log.warning("%s%s", LOG_PREFIX, text)

    def render(self) -> str:
        """Prometheus' text format: comparisons by result, fields that differ, durations of both versions."""
        path = _escape_label(self.path)
        lines = ["# HELP shadow_comparisons_total Runs of the new version beside the old one, by result."]
        lines.append("# TYPE shadow_comparisons_total counter")
        for result, count in self._results.items():
            lines.append(f'shadow_comparisons_total{{path="{path}",result="{result}"}} {count}')
        lines.append("# HELP shadow_mismatched_fields_total Mismatches by the field that differs.")
        lines.append("# TYPE shadow_mismatched_fields_total counter")
        for field, count in sorted(self._fields.items()):
            lines.append(f'shadow_mismatched_fields_total{{path="{path}",field="{_escape_label(field)}"}} {count}')
        lines.append("# HELP shadow_fallbacks_total Requests that the old version answered for the new one.")
        lines.append("# TYPE shadow_fallbacks_total counter")
        lines.append(f'shadow_fallbacks_total{{path="{path}"}} {self._fallbacks}')
        lines.append("# HELP shadow_duration_seconds Time of each version, for the comparisons that ended.")
        lines.append("# TYPE shadow_duration_seconds histogram")
        for side, durations in self._durations.items():
            lines += durations.lines("shadow_duration_seconds", f'path="{path}",side="{side}"')
        return "\n".join(lines) + "\n"


class _LogRateLimiter:
    """So many at once, then one a second."""

    def __init__(self) -> None:
        self._left = float(MAX_SAMPLES)
        self._at: float | None = None

    def try_acquire(self, now: float) -> bool:
        """Whether one may be had at this moment, in monotonic seconds."""
        if self._at is not None:
            self._left = min(float(MAX_SAMPLES), self._left + now - self._at)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _DurationHistogram:
    """A histogram with the bounds of the requests'."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKET_BOUNDS) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._buckets[bisect_left(BUCKET_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def lines(self, name: str, labels: str) -> list[str]:
        found, total = [], 0
        for bound, count in zip((*map(str, BUCKET_BOUNDS), "+Inf"), self._buckets, strict=True):
            total += count
            found.append(f'{name}_bucket{{{labels},le="{bound}"}} {total}')
        return [*found, f"{name}_sum{{{labels}}} {self._seconds}", f"{name}_count{{{labels}}} {total}"]


def _escape_label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

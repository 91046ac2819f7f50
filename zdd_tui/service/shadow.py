"""Dark launch: a new path runs unseen beside the old one, is compared with it, and then serves more and more users.

How to use it, for a read that is safe to repeat::

    shadow = ShadowComparison("users_name", flags, shadow_key="users_sql_name_shadow", read_key="users_sql_name_read")
    attach(app, lifecycle, shadow.render)          # adds its counters to /metrics

    async def read(user_id):
        return await shadow.run(user_id, old=lambda: read_old(user_id), new=lambda: read_new(user_id))

**Shares.** The shadow flag's percentage is a share of *requests*, chosen at random for each; the read flag's is a share
of *units* (users), who keep their path while it grows.

**Requests are never affected.** The comparison starts after the response, in the background, with a timeout of its own
and limited concurrency; comparisons above the limit are skipped and counted. If the new path serves a request and
fails or is late, the old one serves it instead, and that counts as an error of the new path.

**Rows change.** Another client may write between the two reads. If the results differ, the first path therefore reads
again: only if that result also differs, it is a mismatch; otherwise it counts as moved.

**No data leaves the process.** Metrics contain the names of fields that differ, never values. Samples contain the unit,
and of each field its shape (``<text of 14>``) and the kind of difference; values only of `visible_fields`. The newest
samples are lines of the log, where the dashboard reads them: plain ASCII, a burst of :data:`MAX_SAMPLES`, then one per
second.
"""

import asyncio
import dataclasses
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Generic, TypeVar

from zdd_tui.service.differences import Difference, compare_results, differing_fields
from zdd_tui.service.flags import FlagClient
from zdd_tui.service.metrics import DurationHistogram

T = TypeVar("T")

MAX_SAMPLES = 20
"""Samples in memory, and the largest burst of lines in the log."""

LOG_PREFIX = "shadow-sample "
"""The start of a sample in a log line; a JSON object follows."""

MAX_LINE_BYTES = 3000
"""The longest line of a sample: container runtimes split longer lines."""

MAX_UNIT_CHARS = 80

MAX_FIELDS = 50
"""Fields with a series of their own on /metrics; the rest is counted as ``other``."""
RESULTS = ("match", "mismatch", "error", "timeout", "moved", "skipped")

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowMismatch:
    """One comparison with different results.

    Attributes:
        unit: of the request, such as a user's id.
        differences: by field; without values for fields that are not visible.
        number: mismatches of this process so far, this one included.
        at: seconds since 1970.
    """

    unit: str
    differences: tuple[Difference, ...]
    number: int
    at: float

    @property
    def field_names(self) -> tuple[str, ...]:
        return tuple(difference.field for difference in self.differences)


class ShadowComparison(Generic[T]):
    """One path of the application in two versions.

    Args:
        path: its name on /metrics.
        flags: a running client that declares both keys.
        shadow_key: flag for the share of requests that run both versions.
        read_key: flag for the share of units that get the new version's result.
        timeout: of the new version, in seconds.
        max_concurrent: concurrent comparisons; leave enough database connections for requests.
        visible_fields: fields whose values may be written to the log in samples: neither personal nor secret.
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
        self._durations = {"old": DurationHistogram(), "new": DurationHistogram()}
        self._fallbacks = 0
        self._log_limiters = {"mismatch": _LogRateLimiter(), "failure": _LogRateLimiter()}
        self.samples: deque[ShadowMismatch] = deque(maxlen=MAX_SAMPLES)

    async def run(self, unit: str | int, *, old: Callable[[], Awaitable[T]], new: Callable[[], Awaitable[T]]) -> T:
        """Returns the old version's result, or the new one's for units for which the read flag is on.

        Both callables must be safe to repeat and have no effect.
        """
        compared = self._flags.is_on(self._shadow_key, random.getrandbits(32))
        side = "new" if self._flags.is_on(self._read_key, unit) else "old"
        started_at = time.perf_counter()
        if side == "old":
            result = await old()
        else:
            try:
                async with asyncio.timeout(self._timeout):
                    result = await new()
            except Exception as error:
                self._record_failure(str(unit), error)
                self._fallbacks += 1
                return await old()
        seconds = time.perf_counter() - started_at
        if compared and len(self._running) >= self._max_concurrent:
            self._results["skipped"] += 1
        elif compared:
            first, second = (old, new) if side == "old" else (new, old)
            task = asyncio.create_task(self._run_comparison(str(unit), side, result, seconds, first, second))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return result

    async def stop(self) -> None:
        """Cancels the running comparisons."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run_comparison(
        self,
        unit: str,
        side: str,
        result: T,
        seconds: float,
        first: Callable[[], Awaitable[T]],
        second: Callable[[], Awaitable[T]],
    ) -> None:
        """Runs the other version, and the first one again if the results differ."""
        try:
            started_at = time.perf_counter()
            async with asyncio.timeout(self._timeout):
                other = await second()
            other_seconds = time.perf_counter() - started_at
            fields = differing_fields(result, other)
            if fields:
                async with asyncio.timeout(self._timeout):
                    again = await first()
                if not differing_fields(again, other):
                    self._results["moved"] += 1
                    return
        except Exception as error:
            # Any error: no caller waits for this task, and the request has its response.
            self._record_failure(unit, error)
            return
        self._durations[side].observe(seconds)
        self._durations["old" if side == "new" else "new"].observe(other_seconds)
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
        differences = compare_results(old, new, self._visible_fields)
        for difference in differences:
            has_series = difference.field in self._fields or len(self._fields) < MAX_FIELDS
            self._fields[difference.field if has_series else "other"] += 1
        sample = ShadowMismatch(unit, differences, self._results["mismatch"], time.time())
        self.samples.append(sample)
        fields = [dataclasses.astuple(difference) for difference in differences]
        self._log_sample("mismatch", {"what": "mismatch", "n": sample.number, "unit": unit, "fields": fields})

    def _log_sample(self, kind: str, sample: dict[str, Any]) -> None:
        """Writes a line to the log within the rate limit. The next line's number shows how many were left out."""
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
        lines = ["# HELP shadow_comparisons_total Comparisons of the new version with the old one, by result."]
        lines.append("# TYPE shadow_comparisons_total counter")
        for result, count in self._results.items():
            lines.append(f'shadow_comparisons_total{{path="{path}",result="{result}"}} {count}')
        lines.append("# HELP shadow_mismatched_fields_total Mismatches by the field that differs.")
        lines.append("# TYPE shadow_mismatched_fields_total counter")
        for field, count in sorted(self._fields.items()):
            lines.append(f'shadow_mismatched_fields_total{{path="{path}",field="{_escape_label(field)}"}} {count}')
        lines.append("# HELP shadow_fallbacks_total Requests that the old version served because the new one failed.")
        lines.append("# TYPE shadow_fallbacks_total counter")
        lines.append(f'shadow_fallbacks_total{{path="{path}"}} {self._fallbacks}')
        lines.append("# HELP shadow_duration_seconds Duration of each version, for finished comparisons.")
        lines.append("# TYPE shadow_duration_seconds histogram")
        for side, durations in self._durations.items():
            lines += durations.lines("shadow_duration_seconds", f'path="{path}",side="{side}"')
        return "\n".join(lines) + "\n"


class _LogRateLimiter:
    """A burst of MAX_SAMPLES, then one per second."""

    def __init__(self) -> None:
        self._left = float(MAX_SAMPLES)
        self._at: float | None = None

    def try_acquire(self, now: float) -> bool:
        """Takes one from the bucket, if there is one. ``now`` is in monotonic seconds."""
        if self._at is not None:
            self._left = min(float(MAX_SAMPLES), self._left + now - self._at)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _escape_label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

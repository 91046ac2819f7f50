"""Records the states of an open dashboard, in a thread of its own."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, cast

from zdd_tui import __version__
from zdd_tui.dashboard.recording.codec import Encoder
from zdd_tui.dashboard.recording.delta import Json, compute_delta
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError
from zdd_tui.model.guard.history import HISTORY_SPACING
from zdd_tui.model.queries import MetricHistory

FORMAT_VERSION = 2
"""Increased when a field of a state is renamed or changes its meaning; older recordings are refused."""

MIN_INTERVAL = 0.2
"""Minimum seconds between two lines."""

MAX_CPU_SHARE = 0.05
"""Of one core: after an expensive line the pause is longer."""

MAX_INTERVAL = 2.0
"""Maximum seconds between two checks of the state."""

FULL_STATE_INTERVAL = 60.0
"""Seconds between two lines with the whole state: a seek starts at such a line."""

FETCH_INTERVAL = HISTORY_SPACING
"""Seconds between two readings of the values of the guard."""

MAX_BYTES = 1 << 30
"""Bytes of JSON at which a recording ends."""


class RecordingWriter:
    """Writes a recording until it is closed.

    The state is polled five times a second: a source whose age alone has changed sends no notification.

    Args:
        get_state: returns the newest state; cheap, from any thread.
        file: must not exist. JSON lines, compressed if the name ends in ``.gz``.
        ready: returns after the first paint.
        fetch_history: starts to read the values of the guard over time; None: they are not recorded.

    Attributes:
        error: why the recording has stopped; empty without an error.

    Raises:
        ZddError: the file cannot be created.
    """

    def __init__(
        self,
        get_state: Callable[[], DashboardState],
        file: Path,
        *,
        ready: Callable[[], object] = lambda: None,
        fetch_history: "Callable[[], Future[MetricHistory]] | None" = None,
    ) -> None:
        self._get_state = get_state
        self._fetch_history = fetch_history
        self._pending_history: Future[MetricHistory] | None = None
        self._next_fetch_at = 0.0
        self._last_points: dict[str, float] = {}
        self._ready = ready
        self._file = file
        self.error = ""
        self._stopped = threading.Event()
        self._encoder = Encoder()
        self._last_fields: dict[str, Json] = {}
        self._last_full_at = float("-inf")
        self._size = 0
        self._started_at = time.monotonic()
        self._stream = _open_file(file)
        self._thread = threading.Thread(target=self._run, name="zdd-recorder", daemon=True)
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Writes the last state and ends, within the given seconds."""
        self._stopped.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with self._stream:
                self._ready()
                self._write_header()
                pause = 0.0
                while not self._stopped.wait(pause):
                    pause = min(max(MIN_INTERVAL, self._record_change() / MAX_CPU_SHARE), MAX_INTERVAL)
                self._record_change()
        except (OSError, ValueError) as error:
            self.error = f"{self._file}: {getattr(error, 'strerror', None) or error}"

    def _write_header(self) -> None:
        self._write(
            {
                "zdd": "recording",
                "version": FORMAT_VERSION,
                "by": __version__,
                "plan": self._get_state().plan.name,
                "wall": time.time() - (time.monotonic() - self._started_at),
                "monotonic": self._started_at,
            }
        )

    def _record_change(self) -> float:
        """Writes what has changed; returns the seconds of processor time used."""
        began, cpu_before = time.monotonic(), time.thread_time()
        fields = self._encoder.encode(self._get_state())
        line: dict[str, Any] = {"t": round(began - self._started_at, 3)}
        points = self._new_points(began)
        if began - self._last_full_at >= FULL_STATE_INTERVAL:
            self._last_full_at = began
            line["all"] = fields
        elif (change := compute_delta(self._last_fields, fields)) or points:
            line["d"] = change
        if len(line) > 1:
            self._write(line | ({"points": points} if points else {}))
        self._last_fields = fields
        return time.thread_time() - cpu_before

    def _new_points(self, now: float) -> dict[str, list[list[float | None]]]:
        """Points of the guard's rules that are not recorded yet: time, new version, old version.

        Args:
            now: monotonic seconds.
        """
        pending = self._pending_history
        if pending is None:
            if self._fetch_history is not None and now >= self._next_fetch_at:
                self._next_fetch_at = now + FETCH_INTERVAL
                self._pending_history = self._fetch_history()
            return {}
        if not pending.done():
            return {}
        self._pending_history = None
        if pending.cancelled() or pending.exception() is not None:
            return {}  # the next one brings what this one lacks
        found: dict[str, list[list[float | None]]] = {}
        for rule, points in pending.result().points.items():
            last = self._last_points.get(rule, float("-inf"))
            # The times are stored as ages: a point that is read again may differ by a rounding.
            if new := [point for point in points if point.at > last + HISTORY_SPACING / 2]:
                found[rule] = [[round(point.at, 1), point.new, point.old] for point in new]
                self._last_points[rule] = new[-1].at
        return found

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._size += len(text)
        if self._size > MAX_BYTES:
            raise ValueError("the recording has reached its maximum size, 1 GiB")
        self._stream.write(text.encode())
        self._stream.flush()


def _open_file(file: Path) -> IO[bytes]:
    """Creates a file that only its owner can read."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ZddError(f"{file} exists already", "record into another file, or move this one") from None
    except OSError as error:
        raise ZddError(f"{file} cannot be written: {error.strerror}", "check its folder and permissions") from None
    raw = os.fdopen(descriptor, "wb")
    if file.suffix != ".gz":
        return raw
    return cast(IO[bytes], _CompressedFile(raw))


class _CompressedFile(gzip.GzipFile):
    """Also closes the file that it writes to. A flushed line survives a crash."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        super().__init__(fileobj=raw, mode="wb", compresslevel=6, filename="")

    def close(self) -> None:
        super().close()
        self._raw.close()

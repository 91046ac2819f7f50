"""Records what the board says while a dashboard is open, from a thread of its own."""

import gzip
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from zdd_tui import __version__
from zdd_tui.dashboard.recording.codec import Encoder
from zdd_tui.dashboard.recording.delta import Json, compute_delta
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError

FORMAT_VERSION = 1

MIN_INTERVAL = 0.2
"""Seconds between two lines at least."""

MAX_CPU_SHARE = 0.05
"""Of one core: after a board that took much of it to write, so much longer is waited."""

MAX_INTERVAL = 2.0
"""Seconds that it waits at most, whatever a board has cost."""

FULL_STATE_INTERVAL = 60.0
"""Seconds between two lines with the whole board: from there a seek begins."""

MAX_BYTES = 1 << 30
"""Bytes of JSON after which a recording ends."""


class RecordingWriter:
    """Writes a recording until it is closed.

    The board is looked at five times a second: that also catches sources that only got older or were confirmed, of
    which nobody calls back.

    Args:
        board: gives the newest board; cheap, from any thread.
        file: must not exist. JSON lines; compressed where the name ends in ``.gz``.
        ready: waits until the first paint is over.

    Attributes:
        error: why it ended before its time; empty while all is well.

    Raises:
        ZddError: the file cannot be made.
    """

    def __init__(
        self, board: Callable[[], DashboardState], file: Path, *, ready: Callable[[], object] = lambda: None
    ) -> None:
        self._board = board
        self._ready = ready
        self._file = file
        self.error = ""
        self._stopped = threading.Event()
        self._encoder = Encoder()
        self._last_parts: dict[str, Json] = {}
        self._last_full_at = float("-inf")
        self._size = 0
        self._started_at = time.monotonic()
        self._stream = _open_file(file)
        self._thread = threading.Thread(target=self._run, name="zdd-recorder", daemon=True)
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Writes the last board and ends."""
        self._stopped.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with self._stream:
                self._ready()
                self._write_header()
                while not self._stopped.wait(
                    min(max(MIN_INTERVAL, self._record_change() / MAX_CPU_SHARE), MAX_INTERVAL)
                ):
                    pass
                self._record_change()
        except (OSError, ValueError) as error:
            self.error = f"{self._file}: {getattr(error, 'strerror', None) or error}"

    def _write_header(self) -> None:
        plan = self._board().plan
        self._write(
            {
                "zdd": "recording",
                "version": FORMAT_VERSION,
                "by": __version__,
                "plan": plan.name,
                "wall": time.time() - (time.monotonic() - self._started_at),
                "monotonic": self._started_at,
            }
        )

    def _record_change(self) -> float:
        """Writes what is new, and returns the seconds of processor time that it took."""
        began, used = time.monotonic(), time.thread_time()
        parts = self._encoder.encode(self._board())
        line: dict[str, Any] = {"t": round(began - self._started_at, 3)}
        if began - self._last_full_at >= FULL_STATE_INTERVAL:
            self._last_full_at = began
            self._write(line | {"all": parts})
        elif change := compute_delta(self._last_parts, parts):
            self._write(line | {"d": change})
        self._last_parts = parts
        return time.thread_time() - used

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._size += len(text)
        if self._size > MAX_BYTES:
            raise ValueError("the recording has reached its largest size, 1 GiB")
        self._stream.write(text.encode())
        self._stream.flush()


def _open_file(file: Path) -> IO[bytes]:
    """For its owner alone: what a board says is not for everybody on a bastion."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ZddError(f"{file} exists already", "record into another file, or move that one away") from None
    except OSError as error:
        raise ZddError(f"{file} cannot be written: {error.strerror}", "check its folder and permissions") from None
    raw = os.fdopen(descriptor, "wb")
    if file.suffix != ".gz":
        return raw
    return cast(IO[bytes], _CompressedFile(raw))


class _CompressedFile(gzip.GzipFile):
    """Closes the file below as well; each line is on disk when it is written, whatever happens next."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        super().__init__(fileobj=raw, mode="wb", compresslevel=6, filename="")

    def close(self) -> None:
        super().close()
        self._raw.close()

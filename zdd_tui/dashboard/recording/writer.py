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
from zdd_tui.dashboard.recording.delta import Json, delta
from zdd_tui.dashboard.state import Board
from zdd_tui.model.errors import ZddError

VERSION = 1

EVERY = 0.2
"""Seconds between two lines at least."""

SHARE = 0.05
"""Of one core: after a board that took much of it to write, so much longer is waited."""

LONGEST = 2.0
"""Seconds that it waits at most, whatever a board has cost."""

WHOLE_EVERY = 60.0
"""Seconds between two lines with the whole board: from there a seek begins."""

LIMIT = 1 << 30
"""Bytes of JSON after which a recording ends."""


class Recorder:
    """Writes a recording until it is closed.

    The board is looked at five times a second: that also catches sources that only got older or were confirmed, of
    which nobody calls back.

    Args:
        board: gives the newest board; cheap, from any thread.
        file: must not exist. JSON lines; compressed where the name ends in ``.gz``.
        ready: waits until the first paint is over.

    Attributes:
        problem: why it ended before its time; empty while all is well.

    Raises:
        ZddError: the file cannot be made.
    """

    def __init__(self, board: Callable[[], Board], file: Path, *, ready: Callable[[], object] = lambda: None) -> None:
        self._board = board
        self._ready = ready
        self._file = file
        self.problem = ""
        self._over = threading.Event()
        self._encoder = Encoder()
        self._before: dict[str, Json] = {}
        self._whole_at = float("-inf")
        self._size = 0
        self._began = time.monotonic()
        self._stream = _opened(file)
        self._thread = threading.Thread(target=self._run, name="zdd-recorder", daemon=True)
        self._thread.start()

    def close(self, seconds: float = 5.0) -> None:
        """Writes the last board and ends."""
        self._over.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with self._stream:
                self._ready()
                self._header()
                while not self._over.wait(min(max(EVERY, self._look() / SHARE), LONGEST)):
                    pass
                self._look()
        except (OSError, ValueError) as error:
            self.problem = f"{self._file}: {getattr(error, 'strerror', None) or error}"

    def _header(self) -> None:
        plan = self._board().plan
        self._write(
            {
                "zdd": "recording",
                "version": VERSION,
                "by": __version__,
                "plan": plan.name,
                "wall": time.time() - (time.monotonic() - self._began),
                "monotonic": self._began,
            }
        )

    def _look(self) -> float:
        """Writes what is new, and returns the seconds of processor time that it took."""
        began, used = time.monotonic(), time.thread_time()
        parts = self._encoder.encode(self._board())
        line: dict[str, Any] = {"t": round(began - self._began, 3)}
        if began - self._whole_at >= WHOLE_EVERY:
            self._whole_at = began
            self._write(line | {"all": parts})
        elif change := delta(self._before, parts):
            self._write(line | {"d": change})
        self._before = parts
        return time.thread_time() - used

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._size += len(text)
        if self._size > LIMIT:
            raise ValueError("the recording has reached its largest size, 1 GiB")
        self._stream.write(text.encode())
        self._stream.flush()


def _opened(file: Path) -> IO[bytes]:
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
    return cast(IO[bytes], _Compressed(raw))


class _Compressed(gzip.GzipFile):
    """Closes the file below as well; each line is on disk when it is written, whatever happens next."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        super().__init__(fileobj=raw, mode="wb", compresslevel=6, filename="")

    def close(self) -> None:
        super().close()
        self._raw.close()

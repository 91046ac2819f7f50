"""Writes to a terminal that may stop reading, without ever making the caller wait."""

import os
import subprocess
import threading
import time
from collections import deque

CHUNK_BYTES = 1024
"""Bytes written at once: what is under way cannot be taken back, and may block."""

_CANCEL = "\x18"
"""Ends an escape sequence that was cut in the middle."""


def restore_when_readable(descriptor: int, text: str) -> subprocess.Popen[bytes]:
    """Leaves a shell behind that writes to a stalled terminal when it reads again, and ends with it otherwise.

    The kernel keeps some 20 KB that nobody has read, and lets nobody add to them.
    """
    words = ["/bin/sh", "-c", 'printf %s "$1"', "zdd-last-words", _CANCEL + text]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=subprocess.DEVNULL)


class OutputQueue:
    """A queue of bytes and the thread that writes it out.

    Args:
        descriptor: the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._changed = threading.Condition()
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._busy_since: float | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Queues; returns at once."""
        if not data:
            return
        with self._changed:
            now = time.monotonic()
            self._chunks.extend((now, data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES))
            self._size += len(data)
            if self._thread is None:
                self._is_closing, self._busy_since = False, None
                self._thread = threading.Thread(target=self._run, name="zdd-outlet", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def pending_bytes(self) -> int:
        """Bytes that are not written yet."""
        return self._size

    def pending_seconds(self) -> float:
        """Seconds that the oldest of them has waited; 0 where there are none."""
        with self._changed:
            since = self._busy_since if self._busy_since is not None else self._chunks[0][0] if self._chunks else None
        return 0.0 if since is None else time.monotonic() - since

    def close(self, seconds: float, last: bytes = b"") -> bool:
        """Ends the thread once all is written, `last` after it; may be used again afterwards.

        Returns:
            Whether everything was written in the time. Where it was not, the rest is given up, `last` too; see
            :func:`restore_when_readable`.
        """
        self.write(last)
        with self._changed:
            thread, self._thread = self._thread, None
            self._is_closing = True
            self._changed.notify_all()
        if thread is None:
            return True
        thread.join(seconds)
        with self._changed:
            self._chunks.clear()
            self._size = 0
        return not thread.is_alive()

    def _run(self) -> None:
        while (piece := self._next_chunk()) is not None:
            try:
                while piece:
                    piece = piece[os.write(self.descriptor, piece) :]
            except OSError:
                return  # the terminal is gone; whoever watches it ends the program

    def _next_chunk(self) -> bytes | None:
        with self._changed:
            self._busy_since = None
            while not self._chunks:
                if self._is_closing:
                    return None
                self._changed.wait()
            since, piece = self._chunks.popleft()
            self._size -= len(piece)
            self._busy_since = since
            return piece

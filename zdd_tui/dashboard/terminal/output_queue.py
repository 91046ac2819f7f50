"""Writes to a terminal that may stop reading, without blocking the caller."""

import os
import subprocess
import threading
import time
from collections import deque

CHUNK_BYTES = 1024
"""Bytes of one write: a started write cannot be cancelled, and may block."""

_CANCEL = "\x18"
"""Ends an incomplete escape sequence."""


def restore_when_readable(descriptor: int, text: str) -> subprocess.Popen[bytes]:
    """Starts a shell that writes to a stalled terminal when it reads again, and ends when the terminal is closed.

    A write by this process would block: the kernel's buffer for unread output, some 20 KB, is full.
    """
    command = ["/bin/sh", "-c", 'printf %s "$1"', "zdd-restore-terminal", _CANCEL + text]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=subprocess.DEVNULL)


class OutputQueue:
    """A queue of bytes and the thread that writes them to the terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._changed = threading.Condition()
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._busy_since: float | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Queues data and returns at once."""
        if not data:
            return
        with self._changed:
            now = time.monotonic()
            self._chunks.extend((now, data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES))
            self._size += len(data)
            if self._thread is None:
                self._is_closing, self._busy_since = False, None
                self._thread = threading.Thread(target=self._run, name="zdd-output", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def pending_bytes(self) -> int:
        """Bytes that no write has started for."""
        return self._size

    def pending_seconds(self) -> float:
        """Age of the oldest unwritten chunk in seconds; 0 without one."""
        with self._changed:
            since = self._busy_since if self._busy_since is not None else self._chunks[0][0] if self._chunks else None
        return 0.0 if since is None else time.monotonic() - since

    def close(self, seconds: float, last: bytes = b"") -> bool:
        """Writes what is queued, then `last`, and ends the thread. The queue may be used again afterwards.

        Returns:
            False after the timeout in seconds: the rest is dropped, `last` too; see :func:`restore_when_readable`.
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
        while (chunk := self._next_chunk()) is not None:
            try:
                while chunk:
                    chunk = chunk[os.write(self.descriptor, chunk) :]
            except OSError:
                return  # the terminal is closed; TerminalWatcher ends the program

    def _next_chunk(self) -> bytes | None:
        with self._changed:
            self._busy_since = None
            while not self._chunks:
                if self._is_closing:
                    return None
                self._changed.wait()
            self._busy_since, chunk = self._chunks.popleft()
            self._size -= len(chunk)
            return chunk

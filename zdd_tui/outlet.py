"""Writes to a terminal that may stop reading, without ever making the caller wait."""

import contextlib
import os
import select
import termios
import threading
import time
from collections import deque

PIECE = 1024
"""Bytes written at once: what is under way cannot be taken back, and may block."""

_CANCEL = b"\x18"
"""Ends an escape sequence that was cut in the middle."""


class Outlet:
    """A queue of bytes and the thread that writes it out.

    Args:
        descriptor: the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._busy_since: float | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Queues; returns at once."""
        if not data:
            return
        with self._changed:
            now = time.monotonic()
            self._pieces.extend((now, data[at : at + PIECE]) for at in range(0, len(data), PIECE))
            self._size += len(data)
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="zdd-outlet", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._size

    def waited(self) -> float:
        """Seconds that the oldest of them has waited; 0 where there are none."""
        with self._changed:
            since = self._busy_since if self._busy_since is not None else self._pieces[0][0] if self._pieces else None
        return 0.0 if since is None else time.monotonic() - since

    def close(self, seconds: float, last: bytes = b"") -> bool:
        """Ends the thread once all is written, and `last` after it; may be used again afterwards.

        What a terminal has not read in the time is thrown away, also out of its own buffer, so that there is room for
        `last`: whoever reads again finds a terminal as it was before.

        Returns:
            Whether everything was written.
        """
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(seconds)
        done = thread is None or not thread.is_alive()
        if not done:
            last = _CANCEL + last
            with self._changed:
                self._pieces.clear()
                self._size = 0
            with contextlib.suppress(termios.error, OSError):
                termios.tcflush(self._descriptor, termios.TCOFLUSH)
            assert thread is not None
            thread.join(0.2)  # its piece has room now
        self._thread = None
        self._put(last)
        return done

    def _put(self, data: bytes) -> None:
        """Writes as long as there is room."""
        with contextlib.suppress(OSError):
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            while data and poll.poll(100):
                data = data[os.write(self._descriptor, data[:PIECE]) :]

    def _run(self) -> None:
        while (piece := self._next()) is not None:
            try:
                while piece:
                    piece = piece[os.write(self._descriptor, piece) :]
            except OSError:
                return  # the terminal is gone; whoever watches it ends the program

    def _next(self) -> bytes | None:
        with self._changed:
            self._busy_since = None
            while not self._pieces:
                if self._closing:
                    return None
                self._changed.wait()
            since, piece = self._pieces.popleft()
            self._size -= len(piece)
            self._busy_since = since
            return piece

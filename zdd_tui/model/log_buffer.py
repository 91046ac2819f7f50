"""The newest lines of a log in bounded room, whatever comes: a flood, a line without end, bytes that are no text."""

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from zdd_tui.model.queries import LogLine, LogView

KEPT_LINES = 2000
LINE_BYTES = 4096
"""A longer line is cut there, and says by how much."""

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?")


class LogBuffer:
    """Takes bytes in one thread and shows lines to another.

    Args:
        clean: what becomes of a line's text before it is kept, such as the masking of secrets.
        stamped: each line begins with the time at which it was written (RFC 3339), as the API does it.
    """

    def __init__(self, clean: Callable[[str], str] = str, *, stamped: bool = False, lines: int = KEPT_LINES) -> None:
        self._clean = clean
        self._stamped = stamped
        self._lines: deque[LogLine] = deque(maxlen=lines)
        self._rest = b""
        self._overlong = 0  # bytes of the unfinished line that are not kept
        self._lock = threading.Lock()
        self._view = LogView()
        self._stale = False
        self._total = 0
        self.last_stamp = ""
        """Of the newest stamped line, as it was written."""

    def feed(self, chunk: bytes, *, after: str = "") -> None:
        """Takes what has come; lines that no reader could see any more are counted, not decoded.

        Args:
            after: lines stamped at this moment or earlier are had already.
        """
        *whole, rest = (self._rest + chunk).split(b"\n")
        if after:
            whole = [line for line in whole if not _had(line, after)]
        skipped = max(0, len(whole) - (self._lines.maxlen or 0))
        made = [
            self._line(raw, self._overlong if at == 0 and not skipped else 0) for at, raw in enumerate(whole[skipped:])
        ]
        if whole:
            self._overlong = 0
        self._overlong += max(0, len(rest) - LINE_BYTES)
        self._rest = rest[:LINE_BYTES]
        with self._lock:
            self._lines.extend(made)
            self._total += skipped + len(made)
            self._stale = self._stale or bool(whole)

    def end(self) -> None:
        """The stream has ended: an unfinished line is one all the same."""
        if self._rest:
            self.feed(b"\n")

    def note(self, text: str) -> None:
        """A line of our own about the stream."""
        with self._lock:
            self._lines.append(LogLine(text, note=True))
            self._total += 1
            self._stale = True

    def tell(self, state: Literal["connecting", "following", "ended", "lost"], error: str = "", mend: str = "") -> None:
        """How the stream is."""
        with self._lock:
            if (self._view.state, self._view.error, self._view.mend) != (state, error, mend):
                self._view = replace(self._view, state=state, error=error, mend=mend)
                self._stale = True

    def view(self) -> LogView:
        """The kept lines; the very same object while nothing has changed."""
        with self._lock:
            if self._stale:
                self._stale = False
                lines = tuple(self._lines)
                self._view = replace(self._view, lines=lines, total=self._total, dropped=self._total - len(lines))
            return self._view

    def _line(self, raw: bytes, beyond: int) -> LogLine:
        beyond += max(0, len(raw) - LINE_BYTES)
        text = raw[:LINE_BYTES].rstrip(b"\r").decode("utf-8", "replace")
        at: float | None = None
        if self._stamped and (found := _STAMP.match(text)):
            at = _seconds(found[1])
            self.last_stamp = found[1]
            text = text[found.end() :]
        cut = f" … and {beyond:,} bytes more" if beyond else ""
        return LogLine(self._clean(text) + cut, at)


def _had(line: bytes, after: str) -> bool:
    found = _STAMP.match(line[:64].decode("utf-8", "replace"))
    if found is None:
        return False
    at, limit = _seconds(found[1]), _seconds(after)
    return at is not None and limit is not None and (at, found[1]) <= (limit, after)


def _seconds(stamp: str) -> float | None:
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None

"""The newest lines of a log in bounded memory, also for endless lines and bytes that are not text."""

import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from zdd_tui.model.json_access import get_timestamp
from zdd_tui.model.queries import LogLine, LogView

MAX_LINES = 2000
MAX_LINE_BYTES = 4096
"""A longer line is truncated, and shows by how much."""

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?")


class LogBuffer:
    """Takes bytes in one thread and returns lines to another.

    Args:
        sanitize: transforms the text of a line before it is stored, such as masking secrets.
        has_timestamps: each line begins with its RFC 3339 time, as the Kubernetes API writes it.
    """

    def __init__(
        self, sanitize: Callable[[str], str] = str, *, has_timestamps: bool = False, max_lines: int = MAX_LINES
    ) -> None:
        self._sanitize = sanitize
        self._has_timestamps = has_timestamps
        self._lines: deque[LogLine] = deque(maxlen=max_lines)
        self._partial_line = b""
        self._dropped_bytes = 0  # of the unfinished line
        self._lock = threading.Lock()
        self._view = LogView()
        self._is_dirty = False
        self._total = 0
        self.last_timestamp = ""
        """The time of the newest line, as it was written."""

    def append(self, chunk: bytes, *, after: str = "") -> None:
        """Appends bytes of the stream; lines beyond the buffer's size are counted, not decoded.

        Args:
            after: skip lines with this RFC 3339 time or an earlier one; they are stored already.
        """
        *whole, rest = (self._partial_line + chunk).split(b"\n")
        if after:
            whole = [line for line in whole if not _is_duplicate(line, after)]
        skipped = max(0, len(whole) - (self._lines.maxlen or 0))
        lines = [
            self._decode_line(raw, self._dropped_bytes if at == 0 and not skipped else 0)
            for at, raw in enumerate(whole[skipped:])
        ]
        if whole:
            self._dropped_bytes = 0
        self._dropped_bytes += max(0, len(rest) - MAX_LINE_BYTES)
        self._partial_line = rest[:MAX_LINE_BYTES]
        with self._lock:
            self._lines.extend(lines)
            self._total += skipped + len(lines)
            self._is_dirty = self._is_dirty or bool(whole)

    def flush(self) -> None:
        """Ends the unfinished line, because the stream has ended."""
        if self._partial_line:
            self.append(b"\n")

    def set_state(
        self, state: Literal["connecting", "following", "ended", "lost"], error: str = "", hint: str = ""
    ) -> None:
        with self._lock:
            if (self._view.state, self._view.error, self._view.hint) != (state, error, hint):
                self._view = replace(self._view, state=state, error=error, hint=hint)
                self._is_dirty = True

    def snapshot(self) -> LogView:
        """The stored lines; the same object while nothing has changed."""
        with self._lock:
            if self._is_dirty:
                self._is_dirty = False
                lines = tuple(self._lines)
                self._view = replace(self._view, lines=lines, total=self._total, dropped=self._total - len(lines))
            return self._view

    def _decode_line(self, raw: bytes, dropped_bytes: int) -> LogLine:
        dropped_bytes += max(0, len(raw) - MAX_LINE_BYTES)
        text = raw[:MAX_LINE_BYTES].rstrip(b"\r").decode("utf-8", "replace")
        at: float | None = None
        if self._has_timestamps and (found := _TIMESTAMP.match(text)):
            at = get_timestamp(found[1])
            self.last_timestamp = found[1]
            text = text[found.end() :]
        suffix = f" … and {dropped_bytes:,} bytes more" if dropped_bytes else ""
        return LogLine(self._sanitize(text) + suffix, at)


def _is_duplicate(line: bytes, after: str) -> bool:
    found = _TIMESTAMP.match(line[:64].decode("utf-8", "replace"))
    if found is None:
        return False
    at, limit = get_timestamp(found[1]), get_timestamp(after)
    return at is not None and limit is not None and (at, found[1]) <= (limit, after)

"""Reads a recording, and gives the board of any moment of it."""

import gzip
import json
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zdd_tui.dashboard.recording.codec import Decoder
from zdd_tui.dashboard.recording.delta import Json, apply_delta
from zdd_tui.dashboard.recording.writer import FORMAT_VERSION
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError


@dataclass(frozen=True, slots=True)
class RecordingHeader:
    """The first line.

    Attributes:
        wall: seconds since the epoch at which it began.
        monotonic: the recording machine's monotonic seconds at the same moment.
    """

    plan: str
    wall: float
    monotonic: float


@dataclass(slots=True)
class Recording:
    """A recording in memory.

    Attributes:
        times: seconds since the start of each line, never falling.
        marks: moments at which something happened: a line of the audit, another state, phase or pause.
        events: every line of the audit that some board had, by its number.
    """

    file: str
    header: RecordingHeader
    times: list[float]
    lines: list[dict[str, Any]]
    marks: list[float]
    events: dict[int, Json] = field(default_factory=dict)
    _decoder: Decoder = field(default_factory=Decoder)
    _decoded_index: int = -1
    _parts: dict[str, Json] = field(default_factory=dict)

    @property
    def length(self) -> float:
        """Seconds."""
        return self.times[-1]

    def index_at(self, seconds: float) -> int:
        """Which line tells what was so many seconds after the start."""
        return max(0, bisect_right(self.times, seconds) - 1)

    def board_at(self, seconds: float) -> DashboardState:
        """The board as it was so many seconds after the start; the first one before it.

        Raises:
            ZddError: a line holds what no board can hold.
        """
        wanted = self.index_at(seconds)
        if wanted != self._decoded_index:
            start = self._decoded_index + 1 if 0 <= self._decoded_index < wanted else 0
            whole = next((at for at in range(wanted, start - 1, -1) if "all" in self.lines[at]), start)
            for at in range(whole, wanted + 1):
                self._parts = apply_line(self._parts, self.lines[at])
            self._decoded_index = wanted
        try:
            return self._decoder.decode(self._parts)
        except (TypeError, ValueError) as error:
            raise ZddError(
                f"{self.file} line {wanted + 2} cannot be shown: {error}",
                "it was made by another version of zdd, or changed since",
            ) from None


def apply_line(parts: dict[str, Json], line: dict[str, Any]) -> dict[str, Json]:
    """The parts of the board after a line."""
    made: dict[str, Json] = line["all"] if "all" in line else apply_delta(parts, line["d"])
    return made


def load_recording(path: Path) -> Recording:
    """Reads a whole recording.

    Raises:
        ZddError: it cannot be read, or is none; with the line.
    """
    lines = _read_lines(path)
    header = _parse_header(path, next(lines, ""))
    times: list[float] = []
    kept: list[dict[str, Any]] = []
    marks: list[float] = []
    events: dict[int, Json] = {}
    parts: dict[str, Json] = {}
    seen: Json = None
    pending: tuple[int, str] | None = None
    for number, text in enumerate(lines, start=2):
        if pending is not None:
            raise _damaged_line_error(path, *pending)
        try:
            line = json.loads(text)
            if not times and "all" not in line:
                raise ValueError("the first board is not whole")
            if times and line["t"] < times[-1]:
                raise ValueError("time runs backwards")
            at = float(line["t"])
            parts = apply_line(parts, line)
        except (KeyError, TypeError, ValueError) as error:
            pending = (number, f"no {error}" if isinstance(error, KeyError) else str(error))
            continue  # as the very last line it is one that a crash has cut
        times.append(at)
        kept.append(line)
        if (happened := _mark_key(parts)) != seen:
            events |= {event["id"]: event for event in parts["release"]["value"]["events"]} if happened else {}
            if seen is not None:
                marks.append(at)
            seen = happened
    if not times:
        raise (
            _damaged_line_error(path, *pending)
            if pending
            else ZddError(f"{path} holds no board", "it ended before the first paint")
        )
    return Recording(str(path), header, times, kept, marks, events)


def _damaged_line_error(path: Path, number: int, reason: str) -> ZddError:
    return ZddError(f"{path} line {number} is not part of a recording: {reason}", "it was changed, or is damaged")


def _mark_key(parts: dict[str, Json]) -> Json:
    """What makes a moment worth a jump; None before the release was read."""
    record = (parts.get("release") or {}).get("value")
    if record is None:
        return None
    release = record["release"]
    newest = max((event["id"] for event in record["events"]), default=0)
    return [newest, release["state"], release["phase"], release["paused"]]


def _parse_header(path: Path, text: str) -> RecordingHeader:
    try:
        found = json.loads(text)
        if found["zdd"] != "recording":
            raise ValueError
        version = found["version"]
        header = RecordingHeader(found["plan"], float(found["wall"]), float(found["monotonic"]))
    except (KeyError, TypeError, ValueError):
        raise ZddError(
            f"{path} line 1 is not the header of a recording", "make one with `zdd open PLAN --record FILE`"
        ) from None
    if version != FORMAT_VERSION:
        raise ZddError(
            f"{path} is a recording of version {version}; this zdd reads {FORMAT_VERSION}", "use the zdd that made it"
        )
    return header


def _read_lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            for line in stream:
                yield line.decode(errors="replace")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return  # a crash has cut it: what came before is whole
    except FileNotFoundError:
        raise ZddError(f"there is no recording at {path}", "make one with `zdd open PLAN --record FILE`") from None
    except OSError as error:
        raise ZddError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None

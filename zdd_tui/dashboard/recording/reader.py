"""Reads a recording, and restores the state at any time of it."""

import gzip
import json
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zdd_tui.backends.files import open_regular
from zdd_tui.dashboard.recording.codec import Decoder
from zdd_tui.dashboard.recording.delta import Json, apply_delta
from zdd_tui.dashboard.recording.writer import FORMAT_VERSION
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import MetricPoint

_RECORD_HINT = "record one with `zdd open PLAN --record FILE`"

MAX_BYTES = 256 << 20
"""Of a whole recording, unpacked; a day of a busy release has a tenth of it."""
MAX_LINE_BYTES = 32 << 20
"""Of one line; a state with 5,000 pods has a tenth of it."""


@dataclass(frozen=True, slots=True)
class RecordingHeader:
    """The first line.

    Attributes:
        wall: start of the recording, in seconds since the epoch.
        monotonic: the same time in monotonic seconds of the recording machine.
    """

    plan: str
    wall: float
    monotonic: float


@dataclass(slots=True)
class Recording:
    """A recording in memory.

    Attributes:
        times: of each line, in seconds since the start; never decreasing.
        marks: times of an audit event or a change of state, phase or pause, in seconds since the start.
        events: every audit event in any of the states, by id.
        points: what the charts are drawn from, by rule, the oldest first; None where none are recorded.
    """

    file: str
    header: RecordingHeader
    times: list[float]
    lines: list[dict[str, Any]]
    marks: list[float]
    events: dict[int, Json] = field(default_factory=dict)
    points: dict[str, list[MetricPoint]] | None = None
    _decoder: Decoder = field(default_factory=Decoder)
    _decoded_index: int = -1
    _fields: dict[str, Json] = field(default_factory=dict)

    @property
    def length(self) -> float:
        """Seconds."""
        return self.times[-1]

    def index_at(self, seconds: float) -> int:
        """Index of the line that holds the state at a time in seconds since the start."""
        return max(0, bisect_right(self.times, seconds) - 1)

    def state_at(self, seconds: float) -> DashboardState:
        """The state at a time in seconds since the start; the first state for an earlier time.

        Raises:
            ZddError: a line holds an invalid value.
        """
        wanted = self.index_at(seconds)
        if wanted != self._decoded_index:
            start = self._decoded_index + 1 if 0 <= self._decoded_index < wanted else 0
            full = next((at for at in range(wanted, start - 1, -1) if "all" in self.lines[at]), start)
            for at in range(full, wanted + 1):
                self._fields = apply_line(self._fields, self.lines[at])
            self._decoded_index = wanted
        try:
            return self._decoder.decode(self._fields)
        except (TypeError, ValueError) as error:
            raise ZddError(
                f"{self.file} line {wanted + 2} cannot be shown: {error}",
                "replay it with the zdd that recorded it; the file may also be damaged",
            ) from None


def apply_line(fields: dict[str, Json], line: dict[str, Any]) -> dict[str, Json]:
    """The fields of the state after a line."""
    result: dict[str, Json] = line["all"] if "all" in line else apply_delta(fields, line["d"])
    return result


def load_recording(path: Path) -> Recording:
    """Reads a whole recording.

    Raises:
        ZddError: it cannot be read or is not a recording; with the number of the line.
    """
    lines = _read_lines(path)
    header = _parse_header(path, next(lines, ""))
    times: list[float] = []
    valid: list[dict[str, Any]] = []
    marks: list[float] = []
    events: dict[int, Json] = {}
    fields: dict[str, Json] = {}
    last_mark: Json = None
    points: dict[str, list[MetricPoint]] | None = None
    pending: tuple[int, str] | None = None
    for number, text in enumerate(lines, start=2):
        if pending is not None:
            raise _damaged_line_error(path, *pending)
        try:
            line = json.loads(text)
            if not times and "all" not in line:
                raise ValueError("the first line does not hold a whole state")
            if times and line["t"] < times[-1]:
                raise ValueError("time runs backwards")
            at = float(line["t"])
            fields = apply_line(fields, line)
            points = _add_points(points, line.pop("points", None))
        except (KeyError, TypeError, ValueError, RecursionError, AttributeError, IndexError) as error:
            pending = (number, f"no {error}" if isinstance(error, KeyError) else str(error))
            continue  # the last line may be truncated by a crash
        times.append(at)
        valid.append(line)
        if (mark := _mark_key(fields)) != last_mark:
            events |= {event["id"]: event for event in fields["release"]["value"]["events"]} if mark else {}
            if last_mark is not None:
                marks.append(at)
            last_mark = mark
    if not times:
        raise (_damaged_line_error(path, *pending) if pending else ZddError(f"{path} holds no state", _RECORD_HINT))
    return Recording(str(path), header, times, valid, marks, events, points)


def _add_points(
    known: dict[str, list[MetricPoint]] | None, line: dict[str, list[Any]] | None
) -> dict[str, list[MetricPoint]] | None:
    """
    Raises:
        ValueError, TypeError, AttributeError: not what a recorder writes.
    """
    if line is None:
        return known
    known = known if known is not None else {}
    for rule, points in line.items():
        parsed = [
            MetricPoint(float(at), *(None if value is None else float(value) for value in values))
            for at, *values in points
        ]
        known.setdefault(rule, []).extend(parsed)
    return known


def _damaged_line_error(path: Path, number: int, reason: str) -> ZddError:
    return ZddError(
        f"{path} line {number} is not part of a recording: {reason}",
        "the file is damaged: record again with `zdd open PLAN --record FILE`",
    )


def _mark_key(fields: dict[str, Json]) -> Json:
    """Where it changes is a mark; None before the release was read."""
    record = (fields.get("release") or {}).get("value")
    if record is None:
        return None
    release = record["release"]
    newest = max((event["id"] for event in record["events"]), default=0)
    return [newest, release["state"], release["phase"], release["paused"]]


def _parse_header(path: Path, text: str) -> RecordingHeader:
    try:
        fields = json.loads(text)
        if fields["zdd"] != "recording":
            raise ValueError
        version = fields["version"]
        header = RecordingHeader(fields["plan"], float(fields["wall"]), float(fields["monotonic"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ZddError(f"{path} line 1 is not the header of a recording", _RECORD_HINT) from None
    if version != FORMAT_VERSION:
        raise ZddError(
            f"{path} is a recording in format {version}; this zdd reads format {FORMAT_VERSION}",
            "replay it with the zdd that recorded it, or record again with `zdd open PLAN --record FILE`",
        )
    return header


def _read_lines(path: Path) -> Iterator[str]:
    remaining = MAX_BYTES
    with open_regular(path, missing_hint=_RECORD_HINT, error_type=ZddError) as raw:
        is_compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.open(raw) if is_compressed else raw as stream:
                while line := stream.readline(min(remaining, MAX_LINE_BYTES) + 1):
                    remaining -= len(line)
                    if remaining < 0 or len(line) > MAX_LINE_BYTES:
                        raise ZddError(
                            f"{path} is no recording: it unpacks to more than {MAX_BYTES >> 20} MB,"
                            f" or has a line of more than {MAX_LINE_BYTES >> 20} MB",
                            _RECORD_HINT,
                        )
                    yield line.decode(errors="replace")
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return  # truncated by a crash: the lines before are whole
        except OSError as error:
            raise ZddError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None

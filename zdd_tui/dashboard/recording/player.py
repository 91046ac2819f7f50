"""Plays a recording: a source of states whose clock can be paused, set and run at another speed."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from zdd_tui.dashboard.recording.reader import Recording
from zdd_tui.dashboard.state import DashboardState, UnavailableLog
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.errors import ZddError
from zdd_tui.model.guard.history import HISTORY_POINTS
from zdd_tui.model.queries import (
    AuditLog,
    AuditLogQuery,
    BackfillQuery,
    LogQuery,
    LogTail,
    LogView,
    MetricHistory,
    MetricHistoryQuery,
    ObjectQuery,
    PlanQuery,
    PlanText,
    Query,
)
from zdd_tui.model.release.records import CommandRequest, Event, StoredCommand
from zdd_tui.model.shadow import ShadowQuery

T = TypeVar("T")

PLAYBACK_SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

_EVENTS_ADAPTER: TypeAdapter[tuple[Event, ...]] = TypeAdapter(tuple[Event, ...])

_LIVE_HINT = "`zdd open PLAN` shows live data"


class Player:
    """Implements :class:`zdd_tui.dashboard.state.StateSource` and :class:`zdd_tui.dashboard.state.Clock`.

    Its clock is that of the recording, so ages are as recorded.

    Args:
        at: start position, in seconds since the start of the recording.
        now: monotonic seconds of this machine.
    """

    def __init__(
        self, recording: Recording, *, speed: float = 1.0, at: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.recording = recording
        self._now = now
        self.speed = speed
        self.playing = True
        self._start_position = min(max(0.0, at), recording.length)
        self._started_at = now()
        self._callbacks: list[Callable[[], None]] = []

    # --- the clock -----------------------------------------------------------------------------------------------

    @property
    def position(self) -> float:
        """Seconds since the start of the recording."""
        if not self.playing:
            return self._start_position
        return min(self._start_position + (self._now() - self._started_at) * self.speed, self.recording.length)

    @property
    def is_ended(self) -> bool:
        return self.position >= self.recording.length

    def monotonic(self) -> float:
        return self.recording.header.monotonic + self.position

    def wall(self) -> float:
        return self.recording.header.wall + self.position

    def time_of_day(self, at: float) -> str:
        return time.strftime("%H:%M:%S", time.localtime(at))

    @property
    def length(self) -> float:
        """Seconds."""
        return self.recording.length

    def start_clock(self) -> None:
        """Starts the clock at its position: the time until the first paint does not count."""
        self._set_position(self._start_position, playing=self.playing)

    # --- keys ----------------------------------------------------------------------------------------------------

    def toggle(self) -> None:
        """Pauses or resumes; at the end it restarts."""
        if self.is_ended:
            self._set_position(0.0, playing=True)
        else:
            self._set_position(self.position, playing=not self.playing)

    def seek(self, seconds: float) -> None:
        """Sets the position, in seconds since the start."""
        self._set_position(seconds, playing=self.playing)

    def faster(self) -> None:
        self._set_speed(PLAYBACK_SPEEDS[min(bisect_right(PLAYBACK_SPEEDS, self.speed), len(PLAYBACK_SPEEDS) - 1)])

    def slower(self) -> None:
        self._set_speed(PLAYBACK_SPEEDS[max(bisect_left(PLAYBACK_SPEEDS, self.speed) - 1, 0)])

    def next_mark(self) -> None:
        """Seeks to the next mark, or to the end."""
        marks = self.recording.marks
        later = bisect_right(marks, self.position)
        self.seek(marks[later] if later < len(marks) else self.recording.length)

    def previous_mark(self) -> None:
        """Seeks to the previous mark, or to the start."""
        earlier = bisect_left(self.recording.marks, self.position) - 1
        self.seek(self.recording.marks[earlier] if earlier >= 0 else 0.0)

    def _set_speed(self, speed: float) -> None:
        self._set_position(self.position, playing=self.playing)
        self.speed = speed

    def _set_position(self, position: float, *, playing: bool) -> None:
        self._start_position = min(max(0.0, position), self.recording.length)
        self._started_at, self.playing = self._now(), playing
        for callback in self._callbacks:
            callback()

    # --- the source ----------------------------------------------------------------------------------------------

    def state(self) -> DashboardState:
        return self.recording.state_at(self.position)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back, in the thread of the caller, when the position or speed is set."""
        self._callbacks.append(callback)

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        refused: Future[StoredCommand] = Future()
        refused.set_exception(ZddError("this is a recording: it accepts no commands"))
        return refused

    def stop_session(self, request: StopRequest) -> "Future[bool]":
        refused: Future[bool] = Future()
        refused.set_exception(ZddError("this is a recording: it has no sessions"))
        return refused

    def run_doctor(self) -> None:
        """Does nothing: the recording holds the reports of its time."""

    def start_agent(self) -> None:
        """Does nothing: a recording is read-only."""

    def fetch(self, query: "Query[T]") -> "Future[T]":
        """The audit log and the plan come from the recorded states; any other query fails with a ZddError."""
        result: Future[Any] = Future()
        try:
            state = self.state()
            if isinstance(query, MetricHistoryQuery):
                result.set_result(_metric_history(state.server_now(self.monotonic()), self.recording))
            else:
                result.set_result(answer_query(query, state, self.recording))
        except ZddError as error:
            result.set_exception(error)
        return result

    def follow_log(self, query: LogQuery) -> LogTail:
        return UnavailableLog(LogView(state="ended", error="the recording has no logs", hint=_LIVE_HINT))


def answer_query(query: Query[Any], state: DashboardState, recording: Recording) -> Any:
    """The result of a query at a recorded state.

    Raises:
        ZddError: the data is not recorded.
    """
    missing = "these details"
    match query:
        case AuditLogQuery():
            return _audit_log(query, state, recording)
        case PlanQuery():
            record = state.release.value
            if record is not None and record.plan_text:
                return PlanText(record.plan_text, record.created_at, record.release.plan_hash)
            missing = "text of the plan"
        case ObjectQuery(kind=kind):
            missing = f"API object of the {kind.lower()}"
        case BackfillQuery():
            missing = "ranges, rows and SQL of the backfill"
        case ShadowQuery():
            missing = "samples of differences"
    raise ZddError(f"the recording has no {missing}", _LIVE_HINT)


def _metric_history(server_now: float | None, recording: Recording) -> MetricHistory:
    """What the charts showed at a time.

    Args:
        server_now: seconds since the epoch, by the database's clock; None before the release was read.

    Raises:
        ZddError: no values are recorded.
    """
    if recording.points is None:
        raise ZddError("the recording has no values of the guard over time", _LIVE_HINT)
    if server_now is None:
        return MetricHistory()
    known = {rule: [point for point in points if point.at <= server_now] for rule, points in recording.points.items()}
    return MetricHistory({rule: tuple(points[-HISTORY_POINTS:]) for rule, points in known.items()})


def _audit_log(query: AuditLogQuery, state: DashboardState, recording: Recording) -> AuditLog:
    """The audit log up to the newest event of a state, as far back as the recording goes."""
    record = state.release.value
    if record is None:
        raise ZddError("the release was not read yet at this position", "move forward in the recording")
    last = max((event.id for event in record.events), default=0)
    known = sorted(event_id for event_id in recording.events if event_id <= last)
    selected = known[-query.limit :]
    try:
        events = _EVENTS_ADAPTER.validate_python([recording.events[event_id] for event_id in selected])
    except ValidationError as error:
        raise ZddError(f"{recording.file} has an event that cannot be shown: {error.errors()[0]['msg']}") from None
    earlier = len(known) - len(selected)
    is_whole = earlier or (events and events[0].kind == "release")
    since = None if is_whole else events[0].at if events else record.now
    return AuditLog(events, tuple(sorted(record.commands, key=lambda command: command.id)), earlier, since)

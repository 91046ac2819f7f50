"""Plays a recording: a source of boards whose clock can be stopped, sped up and set."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from zdd_tui.dashboard.recording.queries import LIVE_HINT, answer_query, not_recorded_text
from zdd_tui.dashboard.recording.reader import Recording
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import LogQuery, LogTail, LogView, Query
from zdd_tui.model.release.records import CommandRequest, StoredCommand

T = TypeVar("T")

PLAYBACK_SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Player:
    """A :class:`zdd_tui.dashboard.state.StateSource` and :class:`zdd_tui.dashboard.state.Clock` in one.

    Ages are those of the recording.

    Args:
        at: seconds after the start at which it begins.
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
        """Seconds after the recording's start."""
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
        """Seconds that the recording is long."""
        return self.recording.length

    def start_clock(self) -> None:
        """Starts the clock where it was set: what passed before the first paint does not count."""
        self._set_position(self._start_position, playing=self.playing)

    # --- keys ----------------------------------------------------------------------------------------------------

    def toggle(self) -> None:
        """Pauses, or goes on; from the end it begins again."""
        if self.is_ended:
            self._set_position(0.0, playing=True)
        else:
            self._set_position(self.position, playing=not self.playing)

    def seek(self, seconds: float) -> None:
        """To so many seconds after the start."""
        self._set_position(seconds, playing=self.playing)

    def faster(self) -> None:
        self._set_speed(PLAYBACK_SPEEDS[min(bisect_right(PLAYBACK_SPEEDS, self.speed), len(PLAYBACK_SPEEDS) - 1)])

    def slower(self) -> None:
        self._set_speed(PLAYBACK_SPEEDS[max(bisect_left(PLAYBACK_SPEEDS, self.speed) - 1, 0)])

    def next_mark(self) -> None:
        """To the next moment at which something happened; to the end where there is none."""
        later = bisect_right(self.recording.marks, self.position)
        marks = self.recording.marks
        self.seek(marks[later] if later < len(marks) else self.recording.length)

    def previous_mark(self) -> None:
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
        return self.recording.board_at(self.position)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back, from the caller's own thread, when somebody has set the clock."""
        self._callbacks.append(callback)

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        return _refused_command()

    def run_doctor(self) -> None:
        """The recording has what was examined then."""

    def fetch(self, query: "Query[T]") -> "Future[T]":
        """What the recorded boards tell: the audit and the plan; of everything else why there is none."""
        answer: Future[Any] = Future()
        try:
            answer.set_result(answer_query(query, self.state(), self.recording))
        except ZddError as error:
            answer.set_exception(error)
        return answer

    def follow_log(self, query: LogQuery) -> LogTail:
        return _EmptyLogTail()


def _refused_command() -> "Future[T]":
    failed: Future[T] = Future()
    failed.set_exception(ZddError("this is a recording: nothing can be changed in it"))
    return failed


class _EmptyLogTail:
    """Logs are not on the board."""

    _view = LogView(state="ended", error=not_recorded_text("logs"), hint=LIVE_HINT)

    def snapshot(self) -> LogView:
        return self._view

    def close(self) -> None:
        """Nothing is open."""

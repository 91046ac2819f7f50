"""Plays a recording: a source of boards whose clock can be stopped, sped up and set."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from zdd_tui.dashboard.recording.queries import LIVE, absent, answered
from zdd_tui.dashboard.recording.reader import Recording
from zdd_tui.dashboard.state import Board
from zdd_tui.model.errors import ZddError
from zdd_tui.model.queries import LogQuery, LogTail, LogView, Query
from zdd_tui.model.release.records import CommandRequest, StoredCommand

T = TypeVar("T")

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Player:
    """A :class:`zdd_tui.dashboard.state.BoardSource` and :class:`zdd_tui.dashboard.state.Clock` in one.

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
        self._from = min(max(0.0, at), recording.length)
        self._since = now()
        self._callbacks: list[Callable[[], None]] = []

    # --- the clock -----------------------------------------------------------------------------------------------

    @property
    def position(self) -> float:
        """Seconds after the recording's start."""
        if not self.playing:
            return self._from
        return min(self._from + (self._now() - self._since) * self.speed, self.recording.length)

    @property
    def ended(self) -> bool:
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

    def begin(self) -> None:
        """Starts the clock where it was set: what passed before the first paint does not count."""
        self._set(self._from, playing=self.playing)

    # --- keys ----------------------------------------------------------------------------------------------------

    def toggle(self) -> None:
        """Pauses, or goes on; from the end it begins again."""
        if self.ended:
            self._set(0.0, playing=True)
        else:
            self._set(self.position, playing=not self.playing)

    def seek(self, seconds: float) -> None:
        """To so many seconds after the start."""
        self._set(seconds, playing=self.playing)

    def faster(self) -> None:
        self._pace(SPEEDS[min(bisect_right(SPEEDS, self.speed), len(SPEEDS) - 1)])

    def slower(self) -> None:
        self._pace(SPEEDS[max(bisect_left(SPEEDS, self.speed) - 1, 0)])

    def next_mark(self) -> None:
        """To the next moment at which something happened; to the end where there is none."""
        later = bisect_right(self.recording.marks, self.position)
        marks = self.recording.marks
        self.seek(marks[later] if later < len(marks) else self.recording.length)

    def previous_mark(self) -> None:
        earlier = bisect_left(self.recording.marks, self.position) - 1
        self.seek(self.recording.marks[earlier] if earlier >= 0 else 0.0)

    def _pace(self, speed: float) -> None:
        self._set(self.position, playing=self.playing)
        self.speed = speed

    def _set(self, position: float, *, playing: bool) -> None:
        self._from = min(max(0.0, position), self.recording.length)
        self._since, self.playing = self._now(), playing
        for callback in self._callbacks:
            callback()

    # --- the source ----------------------------------------------------------------------------------------------

    def board(self) -> Board:
        return self.recording.board_at(self.position)

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back, from the caller's own thread, when somebody has set the clock."""
        self._callbacks.append(callback)

    def send(self, request: CommandRequest) -> "Future[StoredCommand]":
        return _refused()

    def examine(self) -> None:
        """The recording has what was examined then."""

    def ask(self, query: "Query[T]") -> "Future[T]":
        """What the recorded boards tell: the audit and the plan; of everything else why there is none."""
        answer: Future[Any] = Future()
        try:
            answer.set_result(answered(query, self.board(), self.recording))
        except ZddError as error:
            answer.set_exception(error)
        return answer

    def follow(self, query: LogQuery) -> LogTail:
        return _NoLog()


def _refused() -> "Future[T]":
    failed: Future[T] = Future()
    failed.set_exception(ZddError("this is a recording: nothing can be changed in it"))
    return failed


class _NoLog:
    """Logs are not on the board."""

    _view = LogView(state="ended", error=absent("logs"), mend=LIVE)

    def view(self) -> LogView:
        return self._view

    def close(self) -> None:
        """Nothing is open."""

"""A container's log, followed: it may come as fast as it likes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look
from zdd_tui.dashboard.screens.dialog import Page
from zdd_tui.dashboard.state import Board, BoardSource, Clock, Moment, Sourced
from zdd_tui.dashboard.terminal.display_options import Look as TerminalLook
from zdd_tui.dashboard.widgets.drawing.line import Line, Rows, Tone, clip, outside, wrap
from zdd_tui.model.queries import LogLine, LogQuery, LogTail, LogView

LOOK_EVERY = 0.25
"""Seconds between two looks at the log: faster than this nobody reads."""

SLOW_EVERY = 1.0
"""The same on a slow line."""

WRAPPED_LINES = 300
"""So many of the newest lines are shown while they are wrapped."""


class LogScreen(DetailScreen):
    """Follows the end, or stands still while lines go on to come."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f,space", "follow", "Follow the end, or stand still", show=False, id="log.follow"),
        Binding("b", "before", "The container that ran before, or the present one", show=False, id="log.before"),
        Binding("t", "times", "Show times, or not", show=False, id="log.times"),
    ]

    def __init__(self, source: BoardSource, look: Look, pod: str) -> None:
        super().__init__(source, look)
        self.wrapped = False
        self._query = LogQuery(pod)
        self._tail: LogTail | None = None
        self._shown = LogView()
        self._followed = True
        self._times = True

    def on_mount(self) -> None:
        self._open()
        look = getattr(self.app, "look", None)
        slow = isinstance(look, TerminalLook) and look.low_bandwidth
        self.set_interval(SLOW_EVERY if slow else LOOK_EVERY, self._news)
        self.call_after_refresh(self._to_end)

    def _to_end(self) -> None:
        self.query_one(Page).scroll_end(animate=False)

    def on_unmount(self) -> None:
        self._close()

    def _open(self) -> None:
        self._close()
        self._tail = self._source.follow(self._query)
        self._shown = self._tail.view()

    def _close(self) -> None:
        if self._tail is not None:
            self._tail.close()

    def _news(self) -> None:
        """While it stands still only the count of what waits is drawn anew."""
        terminal = getattr(self.app, "terminal", None)
        if self._tail is None or (terminal is not None and terminal.behind):
            return  # a terminal that does not read is not written to
        view = self._tail.view()
        if self._followed and view is not self._shown:
            self._shown = view
            self.redraw()
            self._to_end()
        elif not self._followed:
            self.redraw()

    def heading(self, board: Board) -> str:
        before = "  the container before" if self._query.previous else ""
        return f"log of {self._query.pod}{before}"

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        return board.pods, 15.0

    def title_line(self, board: Board, moment: Moment, cells: int) -> Line:
        newest = self._newest()
        head: Line = ((outside(self.heading(board)) + "  ", Tone.STRONG),)
        if self._followed:
            return clip((*head, *log_state(newest)), cells)
        still = f"‖ standing still, {newest.total - self._shown.total:,} newer lines"
        return clip((*head, (still, Tone.WARN), *_dropped(newest)), cells)

    def _newest(self) -> LogView:
        return self._tail.view() if self._tail is not None else self._shown

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        view = self._shown
        head: list[Line] = []
        if view.error:
            head += wrap(f"✗ {view.error}", cells, Tone.WARN)
            head += wrap(f"→ {view.mend}", cells, Tone.STRONG) if view.mend else []
        if not view.lines and view.state == "following":
            head.append((("nothing has been written yet", Tone.DIM),))
        if view.dropped:
            head.append(((f"… {view.dropped:,} older lines are not kept", Tone.DIM),))
        clock = moment.clock if self._times else None
        if self.wrapped:
            kept = view.lines[-WRAPPED_LINES:]
            return head + [piece for line in kept for piece in _pieces(log_line(line, clock), cells)]
        return Rows(head, len(view.lines), lambda at: log_line(view.lines[at], clock))

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        follow = "stand still" if self._followed else "follow"
        return (("f", follow), ("b", "present" if self._query.previous else "before"), ("t", "times"), ("y", "copy"))

    def action_follow(self) -> None:
        self._followed = not self._followed
        if self._followed and self._tail is not None:
            self._shown = self._tail.view()
        self.redraw()
        if self._followed:
            self._to_end()

    def action_match(self, step: int) -> None:
        """Who searches reads: the page stands still."""
        self._followed = False
        super().action_match(step)

    def action_times(self) -> None:
        self._times = not self._times
        self.redraw()

    def action_before(self) -> None:
        self._query = replace(self._query, previous=not self._query.previous)
        self._followed = True
        self._open()
        self.redraw()


def log_state(view: LogView) -> Line:
    """``▶ following  1,204 lines, 204 dropped``."""
    glyph, tone = _STATES[view.state]
    return ((f"{glyph} {view.state}", tone), (f"  {view.total:,} lines", Tone.NORMAL), *_dropped(view))


def _dropped(view: LogView) -> Line:
    return ((f", {view.dropped:,} dropped", Tone.WARN),) if view.dropped else ()


_STATES = {
    "connecting": ("…", Tone.DIM),
    "following": ("▶", Tone.BUSY),
    "ended": ("·", Tone.NORMAL),
    "lost": ("✗", Tone.WARN),
}


def log_line(line: LogLine, clock: Clock | None) -> Line:
    """A line with the time at which it was written, where that is known and wanted."""
    if line.note:
        return ((outside(line.text), Tone.DIM),)
    when = f"{clock.time_of_day(line.at)} " if clock is not None and line.at is not None else ""
    return ((when, Tone.DIM), (outside(line.text), Tone.NORMAL))


def _pieces(line: Line, cells: int) -> list[Line]:
    text = "".join(part for part, _ in line)
    return [((text[at : at + cells], Tone.NORMAL),) for at in range(0, len(text), max(1, cells))] or [()]

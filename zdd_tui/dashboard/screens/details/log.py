"""A container's log, followed at any rate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.screens.dialog import FollowingStopped, PageView
from zdd_tui.dashboard.state import PODS_STALE_SECONDS, Clock, DashboardState, Observed, RenderContext, StateSource
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.drawing.line import (
    LazyLines,
    Line,
    TextStyle,
    error_lines,
    sanitize,
    truncate_start,
)
from zdd_tui.model.counting import count_noun
from zdd_tui.model.queries import LogLine, LogQuery, LogTail, LogView
from zdd_tui.model.release.claims import format_silence
from zdd_tui.model.workload.rollout import WorkloadSnapshot

REFRESH_INTERVAL = 0.5
"""Seconds between two updates of the page: nobody reads faster, and lines that scroll are sent again."""

SLOW_REFRESH_INTERVAL = 1.0
"""The same on a slow connection."""

_MIN_POD_CELLS = 6

MAX_WRAPPED_LINES = 300
"""Lines shown while they are wrapped, the newest ones."""


class LogScreen(DetailScreen):
    """Follows the end of the log, or stays where it is while new lines are counted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f,space", "follow", "Follow, or stop following", show=False, id="log.follow"),
        Binding("b", "previous", "Previous container, or the current one", show=False, id="log.previous"),
        Binding("t", "times", "Toggle times", show=False, id="log.times"),
    ]

    def __init__(self, source: StateSource, get_context: ContextSource, pod: str) -> None:
        super().__init__(source, get_context)
        self.is_wrapped = False
        self._query = LogQuery(pod)
        self._tail: LogTail | None = None
        self._shown = LogView()
        self._is_following = True
        self._shows_times = True
        self._news = LogNews()

    def on_mount(self) -> None:
        self._open()
        display_options = getattr(self.app, "display_options", None)
        slow = isinstance(display_options, DisplayOptions) and display_options.low_bandwidth
        self.set_interval(SLOW_REFRESH_INTERVAL if slow else REFRESH_INTERVAL, self._refresh_new_lines)
        self._follow(True)

    def _follow(self, is_following: bool) -> None:
        self._is_following = self.query_one(PageView).follows_end = is_following

    def on_following_stopped(self, message: FollowingStopped) -> None:
        self._follow(False)
        self.redraw()

    def on_unmount(self) -> None:
        self._close()

    def _open(self) -> None:
        self._close()
        self._tail = self._source.follow_log(self._query)
        self._shown = self._tail.snapshot()
        self._news.observe(self._shown.total, self._get_context().now)

    def _close(self) -> None:
        if self._tail is not None:
            self._tail.close()

    def _refresh_new_lines(self) -> None:
        """Shows new lines; while it does not follow, only their number."""
        terminal = getattr(self.app, "terminal", None)
        if self._tail is None or not self.is_in_front or (terminal is not None and terminal.is_behind):
            return  # nobody sees it, or the terminal does not read
        view = self._tail.snapshot()
        self._news.observe(view.total, self._get_context().now)
        if self._is_following and view is not self._shown:
            self._shown = view
            self.redraw()
        elif not self._is_following:
            self.redraw()

    def heading(self, board: DashboardState) -> str:
        return self._kind + self._query.pod

    def short_heading(self, board: DashboardState, cells: int) -> str:
        """The end of a pod's name tells it apart."""
        return self._kind + truncate_start(self._query.pod, max(_MIN_POD_CELLS, cells - len(self._kind)))

    @property
    def _kind(self) -> str:
        return "previous log of " if self._query.previous else "log of "

    def title_line(self, board: DashboardState, context: RenderContext, cells: int) -> Line:
        newest = self._tail.snapshot() if self._tail is not None else self._shown
        watch = board.watch_of_pod(self._query.pod)
        silence = self._news.silence(watch, context.now, is_connecting=newest.state == "connecting")
        status = log_status_line(newest, silence)
        if not self._is_following:
            dropped = f", {newest.dropped:,} dropped" if newest.dropped else ""
            stopped = f"not following, {newest.total - self._shown.total:,} newer{dropped}"
            status = ((f"‖ {', '.join(filter(None, (silence, stopped)))}", TextStyle.WARN),)
        return self.status_title(board, context, cells, status)

    def page_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return (self._shown,)

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        view = self._shown
        head: list[Line] = []
        if view.error:
            head += error_lines(view.error, view.hint, formatter.cells, TextStyle.WARN)
        if not view.lines and view.state == "following":
            head.append((("no lines yet", TextStyle.DIM),))
        if view.dropped:
            head.append(((f"… {count_noun(view.dropped, 'older line')} discarded", TextStyle.DIM),))
        clock = context.clock if self._shows_times else None
        if self.is_wrapped:
            lines = view.lines[-MAX_WRAPPED_LINES:]
            return head + [piece for line in lines for piece in _wrap_log_line(log_line(line, clock), formatter.cells)]
        return LazyLines(head, len(view.lines), lambda at: log_line(view.lines[at], clock))

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        follow = "stop following" if self._is_following else "follow"
        return (
            ("f", follow),
            ("b", "current" if self._query.previous else "previous"),
            ("t", "times"),
            ("y", "copy"),
        )

    def action_follow(self) -> None:
        self._follow(not self._is_following)
        if self._is_following and self._tail is not None:
            self._shown = self._tail.snapshot()
        self.redraw()

    def action_match(self, step: int) -> None:
        """Stops following: the match must stay visible."""
        self._follow(False)
        super().action_match(step)

    def action_times(self) -> None:
        self._shows_times = not self._shows_times
        self.redraw()

    def action_previous(self) -> None:
        self._query = replace(self._query, previous=not self._query.previous)
        self._follow(True)
        self._open()
        self.redraw()


class LogNews:
    """When a log last had new lines: a log without any may be quiet, or may not be read any more."""

    def __init__(self) -> None:
        self._total = 0
        self._heard_at = float("-inf")
        self._opened_at: float | None = None

    def observe(self, total: int, now: float) -> None:
        """Takes the number of lines that were received; of another container it starts anew.

        Args:
            now: monotonic seconds.
        """
        if self._opened_at is None:
            self._opened_at = now
        if total > self._total:
            self._heard_at = now
        self._total = total

    def silence(self, watch: Observed[WorkloadSnapshot], now: float, *, is_connecting: bool = False) -> str:
        """``no response for 12s from Kubernetes``; empty while the watch of the pod or the log itself has had news.

        Args:
            now: monotonic seconds.
            is_connecting: the log was not opened yet: what the watch says is nothing about it.
        """
        age = watch.age(now)
        waited = None if self._opened_at is None else now - max(self._opened_at, self._heard_at)
        seconds = waited if is_connecting or age is None else min(age, now - self._heard_at)
        if seconds is None or seconds <= PODS_STALE_SECONDS:
            return ""
        return f"no response for {format_silence(seconds)} from Kubernetes"  # a narrow title ends behind the age


def log_status_line(view: LogView, silence: str) -> Line:
    """``▶ following  204 dropped of 1,204 lines``: what is missing comes first, because a narrow title ends there.

    Args:
        silence: why nobody knows whether it is followed; empty where it is.
    """
    glyph, style = _STATES[view.state]
    state: str = view.state
    if silence and view.state in ("connecting", "following"):
        glyph, state, style = "?", silence, TextStyle.WARN
    dropped: Line = ((f"{view.dropped:,} dropped of ", TextStyle.WARN),) if view.dropped else ()
    return (
        (f"{glyph} {state}  ", style),
        *dropped,
        (count_noun(view.total, "line"), TextStyle.NORMAL),
    )


_STATES = {
    "connecting": ("…", TextStyle.DIM),
    "following": ("▶", TextStyle.RUNNING),
    "ended": ("·", TextStyle.NORMAL),
    "lost": ("✗", TextStyle.WARN),
}


def log_line(line: LogLine, clock: Clock | None) -> Line:
    """A line with its time, where that is known and shown."""
    when = f"{clock.time_of_day(line.at)} " if clock is not None and line.at is not None else ""
    return ((when, TextStyle.DIM), (sanitize(line.text), TextStyle.NORMAL))


def _wrap_log_line(line: Line, cells: int) -> list[Line]:
    text = "".join(part for part, _ in line)
    return [((text[at : at + cells], TextStyle.NORMAL),) for at in range(0, len(text), max(1, cells))] or [()]

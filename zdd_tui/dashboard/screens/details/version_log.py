"""The logs of all pods of a version, merged by time."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.screens.details.log import REFRESH_INTERVAL, SLOW_REFRESH_INTERVAL, LogNews
from zdd_tui.dashboard.screens.dialog import FollowingStopped, PageView
from zdd_tui.dashboard.state import PODS_STALE_SECONDS, Clock, DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.drawing.line import LazyLines, Line, Span, TextStyle, fit, sanitize
from zdd_tui.dashboard.widgets.panes.pod_rows import build_pod_rows, shown_version
from zdd_tui.model.counting import count_noun
from zdd_tui.model.merged_log import MergedLog, PodLine, filter_lines, select_pods
from zdd_tui.model.queries import LogQuery, LogTail, LogView

LINES_PER_POD = 100
"""Existing lines that are read of each pod."""

ALL_VERSIONS = "all versions"

_POD_STYLES = (TextStyle.KEY, TextStyle.RUNNING, TextStyle.GOOD, TextStyle.WARN, TextStyle.STRONG, TextStyle.NORMAL)
_NAME_WIDTH = 6


class VersionLogScreen(DetailScreen):
    """Follows the end of all logs, or stays where it is while new lines are counted. ``/`` filters."""

    field_effect: ClassVar[str] = "filter"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f,space", "follow", "Follow, or stop following", show=False, id="logs.follow"),
        Binding("b", "previous", "Previous containers, or the current ones", show=False, id="logs.previous"),
        Binding("v", "version", "The next version, then all versions", show=False, id="logs.version"),
        Binding("e", "errors", "Errors only, or every line", show=False, id="logs.errors"),
        Binding("t", "times", "Toggle times", show=False, id="logs.times"),
    ]

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self.is_wrapped = False
        self._version = self._versions()[-2] if len(self._versions()) > 1 else ALL_VERSIONS
        self._previous = False
        self._errors_only = False
        self._filter = ""
        self._shows_times = True
        self._is_following = True
        self._left_out = 0
        self._tails: dict[str, LogTail] = {}
        self._news: dict[str, LogNews] = {}
        self._log = MergedLog()
        self._shown: list[PodLine] = []
        self._styles: dict[str, TextStyle] = {}

    def on_mount(self) -> None:
        self._follow(True)
        self._refresh_lines()
        display_options = getattr(self.app, "display_options", None)
        slow = isinstance(display_options, DisplayOptions) and display_options.low_bandwidth
        self.set_interval(SLOW_REFRESH_INTERVAL if slow else REFRESH_INTERVAL, self._refresh_lines)

    def _follow(self, is_following: bool) -> None:
        self._is_following = self.query_one(PageView).follows_end = is_following

    def on_following_stopped(self, message: FollowingStopped) -> None:
        self._follow(False)
        self.redraw()

    def on_unmount(self) -> None:
        self._close_tails()

    # --- pods --------------------------------------------------------------------------------------------------------

    def _versions(self) -> list[str]:
        """The versions that have pods, as the pods pane names them, the oldest first; then all of them."""
        board = self._source.state()
        born: dict[str, float] = {}
        for pod, _ in build_pod_rows(board.plan, board.workloads):
            at, version = pod.created_at or 0.0, shown_version(board.plan, pod)
            born[version] = min(born.get(version, at), at)
        return [*sorted(born, key=lambda version: born[version]), ALL_VERSIONS]

    def _follow_pods(self) -> None:
        """Follows pods that are new; the log of one that is gone stays as it is."""
        board = self._source.state()
        wanted = sorted(
            pod.name
            for pod, _ in build_pod_rows(board.plan, board.workloads)
            if self._version in (ALL_VERSIONS, shown_version(board.plan, pod))
        )
        names, self._left_out = select_pods([*self._tails, *(name for name in wanted if name not in self._tails)])
        for name in names:
            if name not in self._tails:
                self._styles.setdefault(name, _POD_STYLES[len(self._styles) % len(_POD_STYLES)])
                query = LogQuery(name, previous=self._previous, tail=LINES_PER_POD)
                self._tails[name] = self._source.follow_log(query)

    def _close_tails(self) -> None:
        for tail in self._tails.values():
            tail.close()
        self._tails, self._news = {}, {}

    def _reopen(self) -> None:
        self._close_tails()
        self._log, self._shown = MergedLog(), []
        self._follow(True)
        self._refresh_lines()
        self.redraw()

    def _refresh_lines(self) -> None:
        """Takes new lines, and shows them while it follows."""
        terminal = getattr(self.app, "terminal", None)
        if not self.is_in_front or (terminal is not None and terminal.is_behind):
            return  # nobody sees it, or the terminal does not read
        self._follow_pods()
        views = {name: tail.snapshot() for name, tail in self._tails.items()}
        now = self._get_context().now
        for name, view in views.items():
            self._news.setdefault(name, LogNews()).observe(view.total, now)
        has_new = self._log.update(views)
        if has_new and self._is_following:
            self._show_lines()
        elif has_new:
            self.redraw()

    def _show_lines(self) -> None:
        self._shown = filter_lines(self._log.lines, self._filter, errors_only=self._errors_only)
        self.redraw()

    def escape_effect(self) -> str:
        return "end filter" if self._filter else "back"

    # --- drawing -----------------------------------------------------------------------------------------------------

    def heading(self, board: DashboardState) -> str:
        version = self._version if self._version == ALL_VERSIONS else f"version {self._version}"
        return f"logs of {version}"

    def _silence(self, board: DashboardState, now: float) -> str:
        """Why nobody knows whether the logs are followed; empty where each of them is."""
        connecting = {name for name, tail in self._tails.items() if tail.snapshot().state == "connecting"}
        if not connecting and not any(watch.is_stale(now, PODS_STALE_SECONDS) for watch in board.pod_watches):
            return ""
        each = (
            news.silence(board.watch_of_pod(name), now, is_connecting=name in connecting)
            for name, news in self._news.items()
        )
        return next(filter(None, each), "")

    def title_line(self, board: DashboardState, context: RenderContext, cells: int) -> Line:
        parts = ["errors only"] if self._errors_only else []  # first, because it hides lines
        parts += [f"filter “{sanitize(self._filter)}”"] if self._filter else []
        parts += ["previous containers"] if self._previous else []
        dropped = f"{self._log.dropped:,} dropped of " if self._log.dropped else ""
        parts += [dropped + count_noun(self._log.total, "line")]
        parts += [count_noun(len(self._tails), "pod")]
        parts += [f"{self._left_out} pods not followed"] if self._left_out else []
        state = following_state(self._silence(board, context.now), is_following=self._is_following)
        return self.status_title(board, context, cells, (state, (f"  {', '.join(parts)}", TextStyle.NORMAL)))

    def page_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return self._shown, tuple((name, tail.snapshot().error) for name, tail in self._tails.items())

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        head = [line for name, tail in self._tails.items() for line in _problem_lines(name, tail.snapshot(), formatter)]
        if not self._tails:
            head.append((("no pod has this version", TextStyle.DIM),))
        elif not self._shown:
            head.append(((self._empty_text(), TextStyle.DIM),))
        clock = context.clock if self._shows_times else None
        return LazyLines(head, len(self._shown), lambda at: self._draw_line(self._shown[at], clock))

    def _empty_text(self) -> str:
        """Why no line is shown."""
        if not self._log.lines:
            return "no lines yet"
        lines = f"{'error ' if self._errors_only else ''}line"
        return f"no {lines} contains “{sanitize(self._filter)}”" if self._filter else f"no {lines}"

    def _draw_line(self, each: PodLine, clock: Clock | None) -> Line:
        when = f"{clock.time_of_day(each.line.at)} " if clock is not None and each.line.at is not None else ""
        name = fit(each.short_name, _NAME_WIDTH)
        style = TextStyle.BAD if each.is_error else TextStyle.NORMAL
        return (
            (when, TextStyle.DIM),
            (f"{name} ", self._styles.get(each.pod, TextStyle.NORMAL)),
            (sanitize(each.line.text), style),
        )

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (
            ("f", "stop following" if self._is_following else "follow"),
            ("e", "all lines" if self._errors_only else "errors"),
            ("v", "version"),
            ("b", "current" if self._previous else "previous"),
            ("t", "times"),
        )

    # --- keys --------------------------------------------------------------------------------------------------------

    def action_follow(self) -> None:
        self._follow(not self._is_following)
        if self._is_following:
            self._show_lines()
        self.redraw()

    def action_previous(self) -> None:
        self._previous = not self._previous
        self._reopen()

    def action_version(self) -> None:
        versions = self._versions()
        at = versions.index(self._version) if self._version in versions else -1
        self._version = versions[(at + 1) % len(versions)]
        self._reopen()

    def action_errors(self) -> None:
        self._errors_only = not self._errors_only
        self._show_lines()

    def action_times(self) -> None:
        self._shows_times = not self._shows_times
        self.redraw()

    def action_search(self) -> None:
        """The field holds the filter."""
        super().action_search()
        self.query_one("#search", Input).value = self._filter

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        event.prevent_default()  # the base searches
        self._filter = event.value.strip()
        self.query_one("#search", Input).remove_class("-open")
        self.query_one(PageView).focus()
        self._show_lines()

    def action_leave(self) -> None:
        """Clears the filter first, then closes the screen."""
        if self._filter and not self.query_one("#search", Input).has_class("-open"):
            self._filter = ""
            self._show_lines()
        else:
            super().action_leave()


def following_state(silence: str, *, is_following: bool) -> Span:
    """Whether the end of the logs is shown.

    Args:
        silence: why it is not known whether they are followed; empty where each of them is.
    """
    if not is_following:
        return f"‖ {', '.join(filter(None, (silence, 'not following')))}", TextStyle.WARN
    return (f"? {silence}", TextStyle.WARN) if silence else ("▶ following", TextStyle.RUNNING)


def _problem_lines(name: str, view: LogView, formatter: TextFormatter) -> list[Line]:
    return [formatter.clip(((f"✗ {sanitize(name)}: {sanitize(view.error)}", TextStyle.WARN),))] if view.error else []

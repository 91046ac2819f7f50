"""The fleet: every release of every database, filtered and sorted; Enter opens one."""

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message

from zdd_tui.dashboard.fleet_source import NO_PLAN, FleetSource
from zdd_tui.dashboard.screens.actions import CopyRequested, QuitRequested
from zdd_tui.dashboard.screens.base import ActionRequested, PaintedScreen, action_bindings
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import FILTER_KEYS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, join, justify, line_width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.drawing.timed_text import TimedText
from zdd_tui.dashboard.widgets.panes.filter import FilterInput
from zdd_tui.dashboard.widgets.panes.fleet import (
    BackRequested,
    CursorMoved,
    FleetCellContext,
    FleetPane,
    fleet_detail_lines,
)
from zdd_tui.dashboard.widgets.panes.pane import RowSelected
from zdd_tui.model.actions import find_action, key_name
from zdd_tui.model.fleet.rows import FleetRow, summarize_fleet

_GAP = ("  ", TextStyle.NORMAL)


class ReleaseChosen(Message):
    """The operator opens a release of the fleet."""

    def __init__(self, row: FleetRow) -> None:
        super().__init__()
        self.row = row


class FleetClosed(Message):
    """The operator goes back to the release that is open."""


class _FleetLine(LineView):
    """A line of the fleet's screen."""

    @property
    def fleet_screen(self) -> "FleetScreen":
        screen = self.screen
        assert isinstance(screen, FleetScreen)
        return screen


class FleetHeader(_FleetLine):
    """What there is, and what needs a person."""

    def lines(self, state: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        screen = self.fleet_screen
        total, needs = summarize_fleet(screen.source.fleet(), is_history=screen.has_history)
        left: Line = (("zdd ", TextStyle.DIM), ("fleet", TextStyle.STRONG))
        right = join((((text, TextStyle.WARN),) for text in needs), _GAP)
        longer: Line = (*left, _GAP, (total, TextStyle.NORMAL))
        left = longer if line_width(longer) + line_width(right) < cells else left
        return [justify(left, right, cells)]


class FleetDetail(_FleetLine):
    """The row under the cursor in full; or why a release cannot be opened."""

    auto_height = 4

    def lines(self, state: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        screen = self.fleet_screen
        lines = screen.message.lines(context.now, cells) if screen.message is not None else []
        return lines or fleet_detail_lines(screen.selected_row, screen.cell_context(context), cells)


class FleetFooter(_FleetLine):
    """The keys."""

    def lines(self, state: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if isinstance(self.fleet_screen.focused, FilterInput):
            return [FILTER_KEYS]
        hints = self.fleet_screen.key_hints()
        line: Line = ()
        for key, text in hints:
            hint: Line = ((key, TextStyle.KEY), (f" {text}", TextStyle.NORMAL))
            longer = (*line, _GAP, *hint) if line else hint
            if key and line_width(longer) <= cells:
                line = longer
        return [clip(line, cells)]


class FleetScreen(PaintedScreen[None]):
    """The list. It changes nothing: commands are sent from the screen of a release.

    Args:
        get_context: provides the time for drawing.
        has_release: a release is open, to which Escape returns.
    """

    AUTO_FOCUS = "FleetPane"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "history", "Ended releases, and back", show=False, id="fleet.history"),
        Binding("f,escape", "close", "Back to the open release", show=False, id="fleet.close"),
        Binding("y", "copy", "Copy the row under the cursor, or the list", show=False, id="fleet.copy"),
        Binding("question_mark", "help", "Keys", show=False, id="fleet.help"),
        Binding("q", "quit", "Quit", show=False, id="fleet.quit"),
        *action_bindings((find_action("rollback"),)),  # of the release that is being opened
    ]

    DEFAULT_CSS = """
    FleetScreen {
        FleetHeader, FleetDetail, FleetFooter { padding: 0 1; }
    }
    """

    def __init__(self, source: FleetSource, get_context: Callable[[], RenderContext], *, has_release: bool) -> None:
        super().__init__()
        self.source = source
        self._get_context = get_context
        self.has_release = has_release
        self._pane = FleetPane()
        self._state = DashboardState(NO_PLAN)
        self.message: TimedText | None = None
        """Shown instead of the row under the cursor, until the next key or until it is old."""

    def compose(self) -> ComposeResult:
        yield FleetHeader()
        yield self._pane
        yield FleetDetail()
        yield FleetFooter()

    def on_mount(self) -> None:
        self.redraw()

    def on_descendant_focus(self) -> None:
        """The footer has other keys while a filter is typed."""
        self.redraw()

    def redraw(self) -> None:
        """Shows the newest fleet; each view repaints only what has changed."""
        if not self.views:
            return  # not composed yet; `on_mount` shows it
        self._pane.fleet, self._pane.colours = self.source.fleet(), self.source.colours
        self._pane.answered_at, self._pane.lease_ends = self.source.answered_at, self.source.lease_ends
        context = self._get_context()
        with self.painted() as views:
            for view in views:
                view.show(self._state, context)

    def cell_context(self, context: RenderContext) -> FleetCellContext:
        """What the rows are drawn with."""
        return self._pane.cell_context(self._state, context)

    @property
    def selected_row(self) -> FleetRow | None:
        return self._pane.selected_row

    @property
    def has_history(self) -> bool:
        """The releases that have ended are listed."""
        return self._pane.has_history

    def key_hints(self) -> list[tuple[str, str]]:
        """Keys and their effects, the most important ones first."""
        keys = {each.binding.id: key_name(key) for key, each in reversed(self.active_bindings.items())}
        back = [(keys.get("fleet.close", ""), "back")] if self.has_release else []
        return [
            (keys.get("pane.open", "") if self._pane.selected_row is not None else "", "open"),
            *back,
            (keys.get("table.filter", ""), "filter"),
            (keys.get("table.sort", ""), "sort"),
            (keys.get("table.columns", ""), "columns"),
            (keys.get("fleet.history", ""), "releases" if self._pane.has_history else "history"),
            (keys.get("fleet.help", ""), "help"),
            (keys.get("fleet.quit", ""), "quit"),
        ]

    def show_message(self, text: str, style: TextStyle = TextStyle.BAD) -> None:
        """Shows a text until the next key, or until it is old."""
        self.message = TimedText(text, style, self._get_context().now)
        self.redraw()

    def on_screen_resume(self) -> None:
        self.redraw()

    # --- keys --------------------------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        self.message = None
        self._pane.is_cursor_moved = True

    def on_cursor_moved(self, message: CursorMoved) -> None:
        message.stop()
        self.redraw()

    def on_back_requested(self, message: BackRequested) -> None:
        message.stop()
        self.action_close()

    def forward_to_filter(self, event: events.Key) -> None:
        """Types a character into the filter's field that was on its way to the table when the field opened."""
        if isinstance(self.focused, FilterInput) and event.is_printable and event.character is not None:
            event.stop()
            event.prevent_default()
            self.focused.insert_text_at_cursor(event.character)

    def on_row_selected(self, message: RowSelected) -> None:
        message.stop()
        row = message.row
        if not isinstance(row, FleetRow):
            return
        if row.release_id is None:
            hint = f". Fix: {row.hint}" if row.hint and not row.database else ""
            self.show_message(f"{row.database or row.name}: {row.error or 'not read yet'}{hint}", TextStyle.WARN)
        else:
            self.show_message(f"opening {row.name}{f', region {row.region}' if row.region else ''} …", TextStyle.DIM)
            self.post_message(ReleaseChosen(row))

    def action_history(self) -> None:
        self._pane.has_history = not self._pane.has_history
        self.redraw()

    def action_close(self) -> None:
        if self.has_release:
            self.post_message(FleetClosed())
        else:
            self.show_message("no release is open; Enter opens one", TextStyle.DIM)

    def action_copy(self) -> None:
        self.post_message(CopyRequested())

    def action_help(self) -> None:
        self.post_message(ActionRequested("help"))

    def action_act(self, action_id: str) -> None:
        self.post_message(ActionRequested(action_id))

    def action_quit(self) -> None:
        self.post_message(QuitRequested())

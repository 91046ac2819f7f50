"""The main screen: one release."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType

from zdd_tui.dashboard.screens.base import Acting, bindings_of
from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.bars.command_progress import Course, MessageLine
from zdd_tui.dashboard.widgets.bars.footer import Footer
from zdd_tui.dashboard.widgets.bars.gates import GateLine
from zdd_tui.dashboard.widgets.bars.header import HeaderLine
from zdd_tui.dashboard.widgets.bars.stepper import Stepper
from zdd_tui.dashboard.widgets.bars.summary import NowLines
from zdd_tui.dashboard.widgets.drawing.cached_widget import ThinCompositor
from zdd_tui.dashboard.widgets.drawing.cell_painter import Painter
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.container import Panes
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.actions import ACTIONS, Action, action


class ReleaseScreen(Acting[None]):
    """Header, stepper, gates, what happens now, panes, the course of commands, keys."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(ACTIONS)

    DEFAULT_CSS = """
    ReleaseScreen {
        GateLine, NowLines, MessageLine, HeaderLine, Stepper, Footer { padding: 0 1; }
    }
    /* Production has a frame: bars above and below, edges where other environments have a blank. It takes no cell. */
    ReleaseScreen.-production {
        HeaderLine, Footer { background: $error; color: ansi_bright_white; }
        GateLine, NowLines, MessageLine, Stepper {
            padding: 0;
            border-left: heavy $error;
            border-right: heavy $error;
        }
    }
    """

    def __init__(self, board: Board, moment: Moment, notice: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._compositor = ThinCompositor()
        self._painter = Painter(self)
        self._last = (board, moment)
        self._notice = notice
        self._views: list[LineView] = []
        self._panes: Panes | None = None
        self._course: Course | None = None

    def compose(self) -> ComposeResult:
        yield HeaderLine()
        yield Stepper()
        yield NowLines()
        yield GateLine()
        yield Panes()
        message = MessageLine()
        message.notice = self._notice
        yield message
        yield Footer()

    def on_mount(self) -> None:
        self._views, self._panes = list(self.query(LineView)), self.query_one(Panes)
        for view in self._views:
            view.painter = self._painter
        self.show(*self._last)

    def show(self, board: Board, moment: Moment) -> None:
        """Hands the board to every widget; each repaints only what changed."""
        self._last = (board, moment)
        if self._panes is None:
            return  # it is still being made, and begins with this
        self._panes.place(board, self.size.height)
        with self._painter.gathering([*self._views, self._panes]):
            for widget in self._views:
                widget.show(board, moment)

    def on_resize(self) -> None:
        if self._panes is not None:  # else it is still being made
            self._panes.place(self._last[0], self.size.height)

    def late(self, event: events.Key) -> None:
        """A key that was under way to another widget when a filter began is the filter's."""
        if isinstance(self.focused, TablePane) and self.focused.typing:
            self.focused.on_key(event)

    def action_act(self, action_id: str) -> None:
        """At once where a pane is concerned: the next key may lie in the same heap, and is for that pane."""
        each = action(action_id)
        if not each.on_panes:
            super().action_act(action_id)
        else:
            self.on_panes(each)

    def on_panes(self, each: Action) -> None:
        """Moves among the panes, or does something in one; tells why not where it cannot."""
        if self._panes is not None and (told := self._panes.act(each)):
            self.notify(told, markup=False, timeout=3)

    def tell(self, course: Course | None) -> None:
        """Shows what has become of the last command."""
        if course is self._course:
            return  # the line has been shown it with everything else
        for line in self.query(MessageLine):  # none while the screen is still being made
            self._course = line.course = course
            line.show(*self._last)

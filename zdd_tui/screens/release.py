"""The main screen: one release."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical

from zdd_tui.board import Board, Moment
from zdd_tui.model.action import ACTIONS
from zdd_tui.screens.acting import Acting, bindings_of
from zdd_tui.widgets.backfill import BackfillPane
from zdd_tui.widgets.course import Course
from zdd_tui.widgets.events import EventPane
from zdd_tui.widgets.flags import FlagPane
from zdd_tui.widgets.footer import Footer
from zdd_tui.widgets.gate_line import GateLine
from zdd_tui.widgets.guard import GuardPane
from zdd_tui.widgets.header_line import HeaderLine
from zdd_tui.widgets.layout import Layout, layout
from zdd_tui.widgets.line_view import LineView
from zdd_tui.widgets.message import MessageLine
from zdd_tui.widgets.now import NowLines
from zdd_tui.widgets.pods import PodPane
from zdd_tui.widgets.stepper import Stepper
from zdd_tui.widgets.thin import ThinCompositor


class ReleaseScreen(Acting[None]):
    """Header, stepper, gates, what happens now, panes, the course of commands, keys."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(ACTIONS)

    DEFAULT_CSS = """
    ReleaseScreen {
        #body { height: 2fr; min-height: 3; }
        #right { width: 2fr; }
        PodPane { width: 3fr; }
        BackfillPane { height: 1fr; min-height: 3; max-height: 7; }
        FlagPane { height: auto; min-height: 4; max-height: 6; }
        GuardPane { height: 1fr; min-height: 3; }
        EventPane { height: 1fr; min-height: 5; max-height: 14; }
        GateLine, NowLines, MessageLine, HeaderLine, Stepper, Footer { padding: 0 1; }
    }
    """

    def __init__(self, board: Board, moment: Moment, notice: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._compositor = ThinCompositor()
        self._last = (board, moment)
        self._notice = notice
        self._places: Layout | None = None

    def compose(self) -> ComposeResult:
        yield HeaderLine()
        yield Stepper()
        yield NowLines()
        yield GateLine()
        with Horizontal(id="body"):
            yield PodPane()
            with Vertical(id="right"):
                yield BackfillPane()
                yield FlagPane()
                yield GuardPane()
        yield EventPane()
        message = MessageLine()
        message.notice = self._notice
        yield message
        yield Footer()

    def on_mount(self) -> None:
        self.show(*self._last)

    def show(self, board: Board, moment: Moment) -> None:
        """Hands the board to every widget; each repaints only what changed."""
        self._last = (board, moment)
        self._arrange(board)
        for widget in self.query(LineView):
            widget.show(board, moment)

    def on_resize(self) -> None:
        self._arrange(self._last[0])

    def _arrange(self, board: Board) -> None:
        """Gives the panes that there are their place."""
        wanted = layout(board, self.size.height)
        if wanted == self._places:
            return
        self._places = wanted
        guard = self.query_one(GuardPane)
        guard.compact = wanted.compact
        guard.styles.max_height = wanted.guard_rows + 2
        self.query_one(BackfillPane).display = wanted.backfill
        self.query_one(FlagPane).display = wanted.flags
        guard.display = wanted.guard
        self.query_one("#right").display = wanted.right

    def tell(self, course: Course | None) -> None:
        """Shows what has become of the last command."""
        line = self.query_one(MessageLine)
        line.course = course
        line.show(*self._last)

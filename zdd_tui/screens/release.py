"""The main screen: one release."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen

from zdd_tui.board import Board, BoardSource, Moment
from zdd_tui.model.action import ACTIONS, action
from zdd_tui.model.records import StoredCommand
from zdd_tui.model.release import CommandKind, Expected
from zdd_tui.screens.confirm import Answer, ConfirmScreen
from zdd_tui.screens.details import DetailsScreen
from zdd_tui.screens.doctor import DoctorScreen
from zdd_tui.screens.help import HelpScreen
from zdd_tui.widgets.backfill import BackfillPane
from zdd_tui.widgets.events import EventPane
from zdd_tui.widgets.flags import FlagPane
from zdd_tui.widgets.footer import Footer, why_not
from zdd_tui.widgets.gate_line import GateLine
from zdd_tui.widgets.guard import GuardPane
from zdd_tui.widgets.header_line import HeaderLine
from zdd_tui.widgets.layout import Layout, layout
from zdd_tui.widgets.line_view import LineView
from zdd_tui.widgets.message import Course, MessageLine
from zdd_tui.widgets.now import NowLines
from zdd_tui.widgets.pods import PodPane
from zdd_tui.widgets.stepper import Stepper
from zdd_tui.widgets.thin import ThinCompositor


def _bindings() -> list[BindingType]:
    """One binding a key; pause and resume share theirs."""
    made: dict[str, Binding] = {}
    for each in ACTIONS:
        made.setdefault(each.key, Binding(each.key, f"act('{each.id}')", each.label, id=f"zdd.{each.id}", show=False))
    return list(made.values())


class ReleaseScreen(Screen[None]):
    """Header, stepper, gates, what happens now, panes, the course of commands, keys."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = _bindings()

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

    class Settled(Message):
        """A command that was sent has been answered."""

        def __init__(self, course: Course, future: "Future[StoredCommand]") -> None:
            super().__init__()
            self.course = course
            self.future = future

    def __init__(self, source: BoardSource, moment: Callable[[], Moment], *, read_only: bool = False) -> None:
        super().__init__()
        self._compositor = ThinCompositor()
        self._source = source
        self._moment = moment
        self._read_only = read_only
        self._last: tuple[Board, Moment] = (source.board(), moment())
        self._places: Layout | None = None

    def compose(self) -> ComposeResult:
        header, footer = HeaderLine(), Footer()
        header.read_only = footer.read_only = self._read_only
        yield header
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
        yield MessageLine()
        yield footer

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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In read-only the mutating keys do not exist."""
        return not (self._read_only and action == "act" and str(parameters[0]) in _MUTATING)

    def action_act(self, action_id: str) -> None:
        board = self._source.board()
        match action_id:
            case "help":
                self.app.push_screen(HelpScreen(board, self._moment(), read_only=self._read_only))
            case "details":
                self.app.push_screen(DetailsScreen(board, self._moment(), self.query_one(MessageLine).course))
            case "doctor":
                self.app.push_screen(DoctorScreen(board, self._moment(), self._source.examine))
            case "quit":
                self.post_message(QuitAsked())
            case "pause":
                record = board.release.value
                paused = record is not None and record.release.paused
                self._ask(board, CommandKind.RESUME if paused else CommandKind.PAUSE)
            case _:
                self._ask(board, CommandKind(action_id))

    def _ask(self, board: Board, kind: CommandKind) -> None:
        """Sends a command, after a dialog where it changes more than the pace."""
        moment = self._moment()
        reason = why_not(board, moment, kind)
        if reason:
            self._tell(Course(kind, moment.now, f"refused: {reason}", bad=True))
            return
        if kind in (CommandKind.PAUSE, CommandKind.RESUME):
            self._send(kind)
            return
        expected = board.expected()

        def decided(answer: Answer | None) -> None:
            if answer is not None and answer.yes:
                self._send(kind, expected, answer.typed, board.previews.get(kind, ()))

        self.app.push_screen(ConfirmScreen(board, moment, action(kind.value)), decided)

    def _send(
        self,
        kind: CommandKind,
        expected: Expected | None = None,
        typed: str | None = None,
        shown: tuple[str, ...] = (),
    ) -> None:
        course = Course(kind, self._moment().now)
        self._tell(course)
        future = self._source.send(kind, expected=expected, typed=typed, shown=shown)
        future.add_done_callback(lambda done: self.post_message(self.Settled(course, done)))

    def on_release_screen_settled(self, message: Settled) -> None:
        """Shows the outcome, unless a later command has taken the line."""
        if self.query_one(MessageLine).course is not message.course or message.future.cancelled():
            return
        error = message.future.exception()
        course = message.course
        self._tell(course.failed(error) if error else course.answered(message.future.result(), self._moment().now))

    def _tell(self, course: Course) -> None:
        line = self.query_one(MessageLine)
        line.course = course
        line.show(self._source.board(), self._moment())


class QuitAsked(Message):
    """The operator leaves."""


_MUTATING = frozenset(each.id for each in ACTIONS if each.mutating)

"""The operator's hand: carries out what the keys, the palette and the help ask for, whatever screen is in front.

One table leads from an action's id to what does it; there is no dispatcher. Commands go to the agent by the board's
source; what has become of the last one is told on the main screen.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from textual.app import App
from textual.message import Message
from textual.screen import Screen

from zdd_tui.dashboard.screens.confirm import Answer, ConfirmScreen, fields
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.base import DetailScreen, Look
from zdd_tui.dashboard.screens.details.flag import FlagScreen
from zdd_tui.dashboard.screens.details.gate import OneGateScreen
from zdd_tui.dashboard.screens.details.pod import PodScreen
from zdd_tui.dashboard.screens.details.rule import RuleScreen
from zdd_tui.dashboard.screens.doctor import DoctorScreen
from zdd_tui.dashboard.screens.help import HelpScreen, sections
from zdd_tui.dashboard.screens.palette import PaletteScreen
from zdd_tui.dashboard.screens.status_details import DetailsScreen
from zdd_tui.dashboard.screens.tune import TuneScreen, Wish
from zdd_tui.dashboard.screens.unlock import UnlockScreen
from zdd_tui.dashboard.state import Board, BoardSource, Clock, FlagView, Moment
from zdd_tui.dashboard.widgets.bars.command_progress import Course
from zdd_tui.dashboard.widgets.bars.footer import why_not
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowChosen
from zdd_tui.model.actions import ACTIONS, Action, action, default_keys
from zdd_tui.model.errors import PlanError
from zdd_tui.model.guard.reading import GuardReading
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.production_lock import OPEN, Access
from zdd_tui.model.release.gate_rows import GateRow
from zdd_tui.model.release.records import CommandRequest, FailedRow, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Expected
from zdd_tui.model.tuning import Tuning, faster, retuned, slower
from zdd_tui.model.workload.pod import Pod

# --- Which screen there is behind a row of a pane.


def opened(chosen: RowChosen, source: BoardSource, look: Look) -> DetailScreen | None:
    """None where the row has no screen of its own."""
    match chosen.row:
        case Pod(name=name):
            return PodScreen(source, look, name)
        case FlagView(key=key):
            return FlagScreen(source, look, key)
        case GuardReading(rule=rule):
            return RuleScreen(source, look, rule)
        case GateRow(phase=phase, gate=gate):
            return OneGateScreen(source, look, phase, gate.name)
        case FailedRow():
            return BackfillScreen(source, look)
    return BackfillScreen(source, look, search=chosen.search) if chosen.pane == "backfill" else None


# --- end


_DETAILS = {
    "timeline": ("timeline", "TimelineScreen"),
    "picture": ("diagram", "PictureScreen"),
    "gates": ("gate", "GateScreen"),
    "backfill-detail": ("backfill", "BackfillScreen"),
    "plan": ("plan", "PlanScreen"),
}


@runtime_checkable
class HasPanes(Protocol):
    """A screen with panes."""

    def on_panes(self, each: Action) -> None:
        """Moves among the panes, or does something in one; tells why not where it cannot."""
        ...


class QuitAsked(Message):
    """The operator leaves."""


class CopyAsked(Message):
    """The operator wants what is in front in the clipboard."""


class Settled(Message):
    """A command that was sent has been answered."""

    def __init__(self, course: Course, future: "Future[StoredCommand]") -> None:
        super().__init__()
        self.course = course
        self.future = future


class Operator:
    """Knows what may be done now, and does it.

    Args:
        app: where screens are pushed; it hands :class:`Settled` back to :meth:`settle`.
        access: what may be changed from this dashboard.
        keys: what each action's key is called, by the action's id.
    """

    def __init__(
        self,
        app: App[Any],
        source: BoardSource,
        clock: Clock,
        access: Access = OPEN,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self._app, self._source, self._clock = app, source, clock
        self.access = access
        self.keys = keys or default_keys()
        self.course: Course | None = None
        self._handlers: dict[str, Callable[[], None]] = {
            "advance": partial(self._ask, CommandKind.ADVANCE),
            "pause": partial(self._ask, CommandKind.PAUSE),
            "resume": partial(self._ask, CommandKind.RESUME),
            "rollback": partial(self._ask, CommandKind.ROLLBACK),
            "slower": partial(self._pace, slower),
            "faster": partial(self._pace, faster),
            "tune": self._tune,
            "unlock": self._unlock,
            "lock": self._lock,
            "palette": lambda: self._push(PaletteScreen(*self._seen())),
            "help": lambda: self._push(HelpScreen(*self._seen(), sections(self._app.screen))),
            "details": lambda: self._push(DetailsScreen(*self._seen(), self.course)),
            "doctor": lambda: self._push(DoctorScreen(*self._seen(), self._source.examine)),
            "copy": lambda: self._tell_app(CopyAsked()),
            "quit": lambda: self._tell_app(QuitAsked()),
            **{each: partial(self._detail, *place) for each, place in _DETAILS.items()},
            **{each.id: partial(self._on_panes, each) for each in ACTIONS if each.on_panes},
        }

    def moment(self) -> Moment:
        return Moment.of(self._clock, self.access, self.keys)

    def offers(self, action_id: str) -> bool:
        """Whether an action exists for the operator now; pause and resume, unlock and lock take turns."""
        moment = self.moment()
        record = self._source.board().release.value
        paused = record is not None and record.release.paused
        if action_id in ("pause", "resume") and paused is not (action_id == "resume"):
            return False
        return moment.access.shows(action(action_id), moment.now)

    def act(self, action_id: str) -> None:
        """Does it, or says why not. What does not exist now is not done, however it was asked for."""
        if self.offers(action_id):
            self._handlers[action_id]()

    # --- commands ------------------------------------------------------------------------------------------------

    def _ask(self, kind: CommandKind) -> None:
        """Sends a command, after a dialog where it changes more than the pace or where something must be typed."""
        board, moment = self._seen()
        front = self._app.screen
        if isinstance(front, ConfirmScreen):
            if front.kind is kind:
                return
            front.action_no()
        reason = why_not(board, moment, kind)
        if reason:
            self._refuse(kind, reason)
            return
        expected = board.expected()
        if kind in (CommandKind.PAUSE, CommandKind.RESUME) and not fields(board, moment, kind):
            self._send(CommandRequest(kind), expected)
            return

        def decided(answer: Answer | None) -> None:
            if answer is None or not answer.yes:
                return
            if not self.offers(kind.value):
                self._refuse(kind, "the unlock has run out meanwhile; nothing was sent")
            else:
                self._home()
                targets = board.previews.get(kind, ())
                self._send(CommandRequest(kind, answer.reason, expected, answer.typed, targets), expected)

        self._app.push_screen(ConfirmScreen(board, moment, action(kind.value)), decided)

    def _pace(self, step: "Callable[[Backfill], dict[str, object]]") -> None:
        """One step slower or faster; asks only where the plan wants a reason."""
        board, moment = self._seen()
        record = board.release.value
        reason = why_not(board, moment, CommandKind.TUNE)
        limits = record.limits if record is not None else None
        if not reason and limits is None:
            reason = "nothing is known of the backfill's limits yet"
        asked = step(limits) if limits is not None else {}
        if not reason and limits is not None and not asked:
            reason = f"it is at {limits.speed}% already, and there is no further step"
        if reason:
            self._refuse(CommandKind.TUNE, reason)
        elif CommandKind.TUNE.value in board.plan.reasons:
            self._tune(asked)
        else:
            self._send_tuning(Wish(asked, f"speed {limits.speed if limits else '?'}% -> {asked['speed']}%"))

    def _tune(self, asked: dict[str, object] | None = None) -> None:
        board, moment = self._seen()
        if reason := why_not(board, moment, CommandKind.TUNE):
            self._refuse(CommandKind.TUNE, reason)
            return

        def decided(wish: Wish | None) -> None:
            if wish is None:
                return
            if not self.offers("tune"):
                self._refuse(CommandKind.TUNE, "the unlock has run out meanwhile; nothing was sent")
            else:
                self._send_tuning(wish)

        self._app.push_screen(TuneScreen(board, moment, asked), decided)

    def _send_tuning(self, wish: Wish) -> None:
        board = self._source.board()
        before = board.expected()
        self._home()
        self._send(CommandRequest(CommandKind.TUNE, wish.reason, before, None, (wish.told,), tuning=wish.asked), before)

    def _refuse(self, kind: CommandKind, reason: str) -> None:
        now = self._clock.monotonic()
        self._home()
        self._tell(Course(kind, now).refused(reason, now))

    def _send(self, request: CommandRequest, before: Expected | None) -> None:
        """Sends a command and follows it.

        Args:
            before: what the board showed when it was sent; a request of a plain key does not insist on it.
        """
        record = self._source.board().release.value
        wanted = _wanted(record, request.tuning) if record is not None and request.tuning is not None else None
        course = Course(request.kind, self._clock.monotonic(), before, wanted=wanted)
        self._tell(course)
        future = self._source.send(request)
        future.add_done_callback(lambda done: self._tell_app(Settled(course, done)))

    def settle(self, message: Settled) -> None:
        """Shows the outcome, unless a later command has taken the line."""
        if self.course is not message.course or message.future.cancelled():
            return
        now = self._clock.monotonic()
        error = message.future.exception()
        course = message.course
        self._tell(course.failed(error, now) if error else course.answered(message.future.result(), now))

    def follow(self, board: Board, moment: Moment) -> None:
        """Looks what has become of the last command."""
        if self.course is not None:
            self.course = self.course.followed(board, moment)

    def _tell(self, course: Course) -> None:
        self.course = course
        self._tell_app(Renewed())

    # --- lock ----------------------------------------------------------------------------------------------------

    def _unlock(self) -> None:
        def typed(right: bool | None) -> None:
            if right:
                self.access = self.access.unlock(self._clock.monotonic())
                self._tell_app(Renewed())

        self._app.push_screen(UnlockScreen(*self._seen()), typed)

    def _lock(self) -> None:
        self.access = self.access.lock()
        self._tell_app(Renewed())

    def open(self, chosen: RowChosen) -> None:
        """Shows what there is behind a row; what has no screen of its own is told among the details."""
        screen = opened(chosen, self._source, self.moment)
        if screen is None:
            self.act("details")
        else:
            self._push(screen)

    # --- screens -------------------------------------------------------------------------------------------------

    def _seen(self) -> tuple[Board, Moment]:
        return self._source.board(), self.moment()

    def _push(self, screen: Screen[Any]) -> None:
        """A screen is in front once only."""
        if type(self._app.screen) is not type(screen):
            self._app.push_screen(screen)

    def _detail(self, module: str, name: str) -> None:
        """A detail screen; loaded when it is asked for, because the first paint must not wait for it."""
        made: Callable[[BoardSource, Callable[[], Moment]], Screen[Any]]
        made = getattr(import_module(f"zdd_tui.dashboard.screens.details.{module}"), name)
        self._push(made(self._source, self.moment))

    def _on_panes(self, each: Action) -> None:
        """Among the panes of the main screen, from whatever screen it was asked for."""
        self._home()
        screen = self._app.screen
        if isinstance(screen, HasPanes):
            screen.on_panes(each)

    def _home(self) -> None:
        """Back to the main screen: there the course of a command is told."""
        while len(self._app.screen_stack) > 1:
            self._app.pop_screen()

    def _tell_app(self, message: Message) -> None:
        """From any thread."""
        self._app.post_message(message)


def _wanted(record: ReleaseRecord, asked: Mapping[str, object]) -> Tuning | None:
    """The tuning that the agent will come to; None where it will refuse."""
    if record.plan_limits is None:
        return None
    try:
        return retuned(record.plan_limits, record.tuning, asked)
    except PlanError:
        return None


class Renewed(Message):
    """Something that the screens show has changed here: paint it."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Renewed)


# --- What `y` copies: what the cursor is on, else the pane in focus, else everything on the screen.


@dataclass(frozen=True, slots=True)
class Copied:
    """A text, and what it is the text of."""

    what: str
    text: str


def copied(screen: Screen[Any]) -> Copied:
    """The text that an operator means on a screen."""
    focused = screen.focused
    if isinstance(focused, LineView):
        row = focused.under_cursor()
        name = focused.name_of_pane if isinstance(focused, Pane) else "page"
        return Copied(f"a row of {name}", row) if row else Copied(name, focused.plain())
    shown = [view.plain() for view in screen.query(LineView) if view.display]
    return Copied("the screen", "\n".join(text for text in shown if text))

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

from zdd_tui.dashboard.screens.confirm import ConfirmResult, ConfirmScreen, confirm_fields
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen
from zdd_tui.dashboard.screens.details.flag import FlagScreen
from zdd_tui.dashboard.screens.details.gate import GateDetailScreen
from zdd_tui.dashboard.screens.details.pod import PodScreen
from zdd_tui.dashboard.screens.details.rule import RuleScreen
from zdd_tui.dashboard.screens.doctor import DoctorScreen
from zdd_tui.dashboard.screens.help import HelpScreen, help_sections
from zdd_tui.dashboard.screens.palette import PaletteScreen
from zdd_tui.dashboard.screens.status_details import StatusDetailsScreen
from zdd_tui.dashboard.screens.tune import TuneRequest, TuneScreen
from zdd_tui.dashboard.screens.unlock import UnlockScreen
from zdd_tui.dashboard.state import Clock, DashboardState, FlagView, RenderContext, StateSource
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress
from zdd_tui.dashboard.widgets.bars.footer import disabled_reason
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowSelected
from zdd_tui.model.actions import ACTIONS, Action, default_keys, find_action
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.production_lock import UNRESTRICTED, ProductionLock
from zdd_tui.model.release.gate_rows import GateRow
from zdd_tui.model.release.next_commands import pause_or_resume
from zdd_tui.model.release.records import CommandRequest, FailedRow, GuardReading, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Precondition
from zdd_tui.model.tuning import Tuning, apply_tuning, slow_down, speed_up
from zdd_tui.model.workload.pod import Pod

# --- Which screen there is behind a row of a pane.


def screen_for_row(message: RowSelected, source: StateSource, get_context: ContextSource) -> DetailScreen | None:
    """None where the row has no screen of its own."""
    match message.row:
        case Pod(name=name):
            return PodScreen(source, get_context, name)
        case FlagView(key=key):
            return FlagScreen(source, get_context, key)
        case GuardReading(rule=rule):
            return RuleScreen(source, get_context, rule)
        case GateRow(phase=phase, gate=gate):
            return GateDetailScreen(source, get_context, phase, gate.name)
        case FailedRow():
            return BackfillScreen(source, get_context)
    return BackfillScreen(source, get_context, search=message.search) if message.pane == "backfill" else None


# --- end


_DETAIL_SCREENS = {
    "timeline": ("timeline", "TimelineScreen"),
    "picture": ("diagram", "DiagramScreen"),
    "gates": ("gate", "GateScreen"),
    "backfill-detail": ("backfill", "BackfillScreen"),
    "plan": ("plan", "PlanScreen"),
}


@runtime_checkable
class HasPanes(Protocol):
    """A screen with panes."""

    def run_pane_action(self, action: Action) -> None:
        """Moves among the panes, or does something in one; tells why not where it cannot."""
        ...


class QuitRequested(Message):
    """The operator leaves."""


class CopyRequested(Message):
    """The operator wants what is in front in the clipboard."""


class CommandAnswered(Message):
    """A command that was sent has been answered."""

    def __init__(self, progress: CommandProgress, future: "Future[StoredCommand]") -> None:
        super().__init__()
        self.progress = progress
        self.future = future


class ActionController:
    """Knows what may be done now, and does it.

    Args:
        app: where screens are pushed; it hands :class:`CommandAnswered` back to :meth:`show_result`.
        access: what may be changed from this dashboard.
        keys: what each action's key is called, by the action's id.
    """

    def __init__(
        self,
        app: App[Any],
        source: StateSource,
        clock: Clock,
        access: ProductionLock = UNRESTRICTED,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self._app, self._source, self._clock = app, source, clock
        self.access = access
        self.keys = keys or default_keys()
        self.progress: CommandProgress | None = None
        self._handlers: dict[str, Callable[[], None]] = {
            "advance": partial(self._confirm_and_send, CommandKind.ADVANCE),
            "pause": partial(self._confirm_and_send, CommandKind.PAUSE),
            "resume": partial(self._confirm_and_send, CommandKind.RESUME),
            "rollback": partial(self._confirm_and_send, CommandKind.ROLLBACK),
            "slower": partial(self._step_speed, slow_down),
            "faster": partial(self._step_speed, speed_up),
            "tune": self._open_tuning,
            "unlock": self._unlock,
            "lock": self._lock,
            "palette": lambda: self._push_once(PaletteScreen(*self._state_and_context())),
            "help": lambda: self._push_once(HelpScreen(*self._state_and_context(), help_sections(self._app.screen))),
            "details": lambda: self._push_once(StatusDetailsScreen(*self._state_and_context(), self.progress)),
            "doctor": lambda: self._push_once(DoctorScreen(*self._state_and_context(), self._source.run_doctor)),
            "copy": lambda: self._post(CopyRequested()),
            "quit": lambda: self._post(QuitRequested()),
            **{each: partial(self._open_detail, *place) for each, place in _DETAIL_SCREENS.items()},
            **{each.id: partial(self._run_pane_action, each) for each in ACTIONS if each.is_pane_action},
        }

    def render_context(self) -> RenderContext:
        return RenderContext.at_clock(self._clock, self.access, self.keys)

    def is_offered(self, action_id: str) -> bool:
        """Whether an action exists for the operator now; pause and resume, unlock and lock take turns."""
        context = self.render_context()
        record = self._source.state().release.value
        if action_id in ("pause", "resume") and action_id != pause_or_resume(record.release if record else None):
            return False
        return context.production_lock.is_available(find_action(action_id), context.now)

    def run_action(self, action_id: str) -> None:
        """Does it, or says why not. What does not exist now is not done, however it was asked for."""
        if self.is_offered(action_id):
            self._handlers[action_id]()

    # --- commands ------------------------------------------------------------------------------------------------

    def _confirm_and_send(self, kind: CommandKind) -> None:
        """Sends a command, after a dialog where it changes more than the pace or where something must be typed."""
        board, context = self._state_and_context()
        front = self._app.screen
        if isinstance(front, ConfirmScreen):
            if front.kind is kind:
                return
            front.action_no()
        reason = disabled_reason(board, context, kind)
        if reason:
            self._refuse(kind, reason)
            return
        expected = board.build_precondition()
        if kind in (CommandKind.PAUSE, CommandKind.RESUME) and not confirm_fields(board, context, kind):
            self._send(CommandRequest(kind), expected)
            return

        def decided(answer: ConfirmResult | None) -> None:
            if answer is None or not answer.is_confirmed:
                return
            if not self.is_offered(kind.value):
                self._refuse(kind, "the unlock has run out meanwhile; nothing was sent")
            else:
                self._close_screens()
                targets = board.previews.get(kind, ())
                self._send(CommandRequest(kind, answer.reason, expected, answer.typed, targets), expected)

        self._app.push_screen(ConfirmScreen(board, context, find_action(kind.value)), decided)

    def _step_speed(self, change: "Callable[[Backfill], dict[str, object]]") -> None:
        """One step slower or faster; asks only where the plan wants a reason."""
        board, context = self._state_and_context()
        record = board.release.value
        reason = disabled_reason(board, context, CommandKind.TUNE)
        limits = record.limits if record is not None else None
        if not reason and limits is None:
            reason = "nothing is known of the backfill's limits yet"
        requested = change(limits) if limits is not None else {}
        if not reason and limits is not None and not requested:
            reason = f"it is at {limits.speed}% already, and there is no further step"
        if reason:
            self._refuse(CommandKind.TUNE, reason)
        elif CommandKind.TUNE.value in board.plan.commands_needing_reason:
            self._open_tuning(requested)
        else:
            self._send_tuning(
                TuneRequest(requested, f"speed {limits.speed if limits else '?'}% -> {requested['speed']}%")
            )

    def _open_tuning(self, changes: dict[str, object] | None = None) -> None:
        board, context = self._state_and_context()
        if reason := disabled_reason(board, context, CommandKind.TUNE):
            self._refuse(CommandKind.TUNE, reason)
            return

        def decided(request: TuneRequest | None) -> None:
            if request is None:
                return
            if not self.is_offered("tune"):
                self._refuse(CommandKind.TUNE, "the unlock has run out meanwhile; nothing was sent")
            else:
                self._send_tuning(request)

        self._app.push_screen(TuneScreen(board, context, changes), decided)

    def _send_tuning(self, request: TuneRequest) -> None:
        board = self._source.state()
        before = board.build_precondition()
        self._close_screens()
        self._send(
            CommandRequest(CommandKind.TUNE, request.reason, before, None, (request.text,), tuning=request.changes),
            before,
        )

    def _refuse(self, kind: CommandKind, reason: str) -> None:
        now = self._clock.monotonic()
        self._close_screens()
        self._show_progress(CommandProgress(kind, now).with_refusal(reason, now))

    def _send(self, request: CommandRequest, expected: Precondition | None) -> None:
        """Sends a command and follows it.

        Args:
            expected: what the board showed when it was sent; a request of a plain key does not insist on it.
        """
        record = self._source.state().release.value
        wanted = (
            _resulting_tuning(record, request.tuning) if record is not None and request.tuning is not None else None
        )
        progress = CommandProgress(request.kind, self._clock.monotonic(), expected, target_tuning=wanted)
        self._show_progress(progress)
        future = self._source.send_command(request)
        future.add_done_callback(lambda done: self._post(CommandAnswered(progress, done)))

    def show_result(self, message: CommandAnswered) -> None:
        """Shows the outcome, unless a later command has taken the line."""
        if self.progress is not message.progress or message.future.cancelled():
            return
        now = self._clock.monotonic()
        error = message.future.exception()
        progress = message.progress
        self._show_progress(
            progress.with_send_error(error, now) if error else progress.with_result(message.future.result(), now)
        )

    def update_progress(self, board: DashboardState, context: RenderContext) -> None:
        """Looks what has become of the last command."""
        if self.progress is not None:
            self.progress = self.progress.with_board(board, context)

    def _show_progress(self, progress: CommandProgress) -> None:
        self.progress = progress
        self._post(RepaintRequested())

    # --- lock ----------------------------------------------------------------------------------------------------

    def _unlock(self) -> None:
        def typed(right: bool | None) -> None:
            if right:
                self.access = self.access.unlock(self._clock.monotonic())
                self._post(RepaintRequested())

        self._app.push_screen(UnlockScreen(*self._state_and_context()), typed)

    def _lock(self) -> None:
        self.access = self.access.lock()
        self._post(RepaintRequested())

    def open_row(self, message: RowSelected) -> None:
        """Shows what there is behind a row; what has no screen of its own is told among the details."""
        screen = screen_for_row(message, self._source, self.render_context)
        if screen is None:
            self.run_action("details")
        else:
            self._push_once(screen)

    # --- screens -------------------------------------------------------------------------------------------------

    def _state_and_context(self) -> tuple[DashboardState, RenderContext]:
        return self._source.state(), self.render_context()

    def _push_once(self, screen: Screen[Any]) -> None:
        """A screen is in front once only."""
        if type(self._app.screen) is not type(screen):
            self._app.push_screen(screen)

    def _open_detail(self, module: str, name: str) -> None:
        """A detail screen; loaded when it is asked for, because the first paint must not wait for it."""
        made: Callable[[StateSource, Callable[[], RenderContext]], Screen[Any]]
        made = getattr(import_module(f"zdd_tui.dashboard.screens.details.{module}"), name)
        self._push_once(made(self._source, self.render_context))

    def _run_pane_action(self, action: Action) -> None:
        """Among the panes of the main screen, from whatever screen it was asked for."""
        self._close_screens()
        screen = self._app.screen
        if isinstance(screen, HasPanes):
            screen.run_pane_action(action)

    def _close_screens(self) -> None:
        """Back to the main screen: there the course of a command is told."""
        while len(self._app.screen_stack) > 1:
            self._app.pop_screen()

    def _post(self, message: Message) -> None:
        """From any thread."""
        self._app.post_message(message)


def _resulting_tuning(record: ReleaseRecord, changes: Mapping[str, object]) -> Tuning | None:
    """The tuning that the agent will come to; None where it will refuse."""
    if record.plan_limits is None:
        return None
    try:
        return apply_tuning(record.plan_limits, record.tuning, changes)
    except PlanError:
        return None


class RepaintRequested(Message):
    """Something that the screens show has changed here: paint it."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, RepaintRequested)


# --- What `y` copies: what the cursor is on, else the pane in focus, else everything on the screen.


@dataclass(frozen=True, slots=True)
class CopiedText:
    """A text, and what it is the text of."""

    label: str
    text: str


def text_to_copy(screen: Screen[Any]) -> CopiedText:
    """The text that an operator means on a screen."""
    focused = screen.focused
    if isinstance(focused, LineView):
        row = focused.text_under_cursor()
        name = focused.pane_name if isinstance(focused, Pane) else "page"
        return CopiedText(f"a row of {name}", row) if row else CopiedText(name, focused.plain_text())
    shown = [view.plain_text() for view in screen.query(LineView) if view.display]
    return CopiedText("the screen", "\n".join(text for text in shown if text))

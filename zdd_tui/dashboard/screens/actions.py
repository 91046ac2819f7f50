"""Runs the actions that keys and palette request, on whatever screen.

One table maps an action's id to its handler. Commands go to the agent through the state source; the main screen shows
the progress of the last one.
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple
from uuid import uuid4

from textual.app import App
from textual.message import Message
from textual.screen import Screen

from zdd_tui.dashboard.screens.confirm import ConfirmResult, ConfirmScreen, UnlockScreen, confirm_fields
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen
from zdd_tui.dashboard.screens.details.flag import FlagScreen
from zdd_tui.dashboard.screens.details.gate import GateDetailScreen
from zdd_tui.dashboard.screens.details.pod import PodScreen
from zdd_tui.dashboard.screens.details.rule import RuleScreen
from zdd_tui.dashboard.screens.doctor import DoctorScreen
from zdd_tui.dashboard.screens.help import HelpScreen, help_sections
from zdd_tui.dashboard.screens.palette import PaletteScreen
from zdd_tui.dashboard.screens.pause_table import PauseTableScreen, TablePauseRequest
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.screens.start_agent import StartAgentScreen
from zdd_tui.dashboard.screens.status_details import StatusDetailsScreen
from zdd_tui.dashboard.screens.tune import TuneRequest, TuneScreen
from zdd_tui.dashboard.state import Clock, DashboardState, FlagView, RenderContext, StateSource
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress
from zdd_tui.dashboard.widgets.bars.footer import (
    agent_start_disabled_reason,
    disabled_reason,
    is_within_reach,
    table_pause_disabled_reason,
)
from zdd_tui.dashboard.widgets.bars.summary import following_region
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowSelected
from zdd_tui.model.actions import ACTIONS, Action, default_keys, find_action
from zdd_tui.model.backfill import RateHistory
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.production_lock import UNRESTRICTED, ProductionLock
from zdd_tui.model.release.gate_rows import GateRow
from zdd_tui.model.release.next_commands import pause_or_resume
from zdd_tui.model.release.records import CommandRequest, FailedRow, GuardReading, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Precondition
from zdd_tui.model.rollback import RollbackQuery
from zdd_tui.model.tuning import Tuning, apply_tuning, effective_limits, slow_down, speed_up
from zdd_tui.model.workload.pod import Pod


def screen_for_row(
    message: RowSelected, source: StateSource, get_context: ContextSource, rates: RateHistory | None = None
) -> DetailScreen | None:
    """The screen that opens for a row of a pane; None where the row has none."""
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
            return BackfillScreen(source, get_context, rates)
    return BackfillScreen(source, get_context, rates, search=message.search) if message.pane == "backfill" else None


_DETAIL_SCREENS = {
    "timeline": ("timeline", "TimelineScreen"),
    "topology": ("diagram", "DiagramScreen"),
    "gates": ("gate", "GateScreen"),
    "logs": ("version_log", "VersionLogScreen"),
    "activity": ("activity", "ActivityScreen"),
    "stored-plan": ("plan", "PlanScreen"),
    "charts": ("charts", "ChartScreen"),
}


QUIT_AGAIN_SECONDS = 8.0
"""How long a second key quits: as long as the message shows that asks for it."""

_FLEET_ACTIONS = frozenset({"help", "copy", "quit"})
"""Actions that exist over the list of releases."""


class QuitRequested(Message):
    """The operator quits."""


class FleetRequested(Message):
    """The operator opens the list of all releases."""


class RegionRequested(Message):
    """The operator opens this plan's release in another region."""

    def __init__(self, region: str) -> None:
        super().__init__()
        self.region = region


class CopyRequested(Message):
    """The operator copies from the front screen to the clipboard."""


class CommandAnswered(Message):
    """The result of a sent command has arrived."""

    def __init__(self, progress: CommandProgress, future: "Future[StoredCommand]") -> None:
        super().__init__()
        self.progress = progress
        self.future = future


class ActionController:
    """Knows which actions are possible now, and runs them.

    Args:
        app: where screens are pushed; it passes :class:`CommandAnswered` to :meth:`show_result`.
        access: what this dashboard may change.
        keys: name of each action's key, by the action's id.
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
        self.has_fleet = False
        """Other releases can be opened."""
        self._quit_at = -math.inf
        """When the key was pressed that quits at the second time."""
        self._rates = RateHistory()
        self._handlers: dict[str, Callable[[], None]] = {
            "advance": partial(self._confirm_and_send, CommandKind.ADVANCE),
            "pause": partial(self._confirm_and_send, CommandKind.PAUSE),
            "resume": partial(self._confirm_and_send, CommandKind.RESUME),
            "rollback": partial(self._confirm_and_send, CommandKind.ROLLBACK),
            "slower": partial(self._step_speed, slow_down),
            "faster": partial(self._step_speed, speed_up),
            "tune": self._open_tuning,
            "pause-table": self._open_table_pause,
            "start-agent": self._start_agent,
            "unlock": self._unlock,
            "lock": self._lock,
            "palette": lambda: self._push_once(PaletteScreen(*self._state_and_context())),
            "help": lambda: self._push_once(HelpScreen(*self._state_and_context(), help_sections(self._app.screen))),
            "details": lambda: self._push_once(StatusDetailsScreen(*self._state_and_context(), lambda: self.progress)),
            "doctor": lambda: self._push_once(DoctorScreen(*self._state_and_context(), self._source.run_doctor)),
            "backfill-detail": lambda: self._show_detail(
                BackfillScreen(self._source, self.render_context, self._rates)
            ),
            "copy": lambda: self._post(CopyRequested()),
            "quit": self._quit,
            "fleet": lambda: self._post(FleetRequested()),
            "previous-region": partial(self._open_region, -1),
            "next-region": partial(self._open_region, 1),
            **{each: partial(self._open_detail, *place) for each, place in _DETAIL_SCREENS.items()},
            **{each.id: partial(self._run_pane_action, each) for each in ACTIONS if each.is_pane_action},
        }

    def render_context(self) -> RenderContext:
        return RenderContext.at_clock(self._clock, self.access, self.keys, has_fleet=self.has_fleet)

    def is_offered(self, action_id: str) -> bool:
        """Whether an action exists now; of pause and resume, and of unlock and lock, one does at a time.

        Over the list of releases none does that concerns a release: it would not be the one under the cursor.
        """
        if not isinstance(self._app.screen_stack[0], ReleaseScreen):
            return action_id in _FLEET_ACTIONS
        context = self.render_context()
        board = self._source.state()
        record = board.release.value
        if not is_within_reach(board.plan, action_id, has_fleet=self.has_fleet):
            return False
        if action_id in ("pause", "resume") and action_id != pause_or_resume(record.release if record else None):
            return False
        return context.production_lock.is_available(find_action(action_id), context.now)

    def run_action(self, action_id: str) -> None:
        """Runs an action, or shows why it is not possible. One that does not exist now is ignored."""
        if self.is_offered(action_id):
            self._handlers[action_id]()

    # --- commands ----------------------------------------------------------------------------------------------------

    def _confirm_and_send(self, kind: CommandKind) -> None:
        """Sends a command, after a dialog unless it only pauses or resumes and nothing must be typed."""
        board, context = self._state_and_context()
        front = self._app.screen
        if isinstance(front, ConfirmScreen):
            if front.kind is kind:
                return
            front.dismiss()
        if reason := self._reason_against(kind, board, context):
            self._refuse(kind, reason)
            return
        expected = board.build_precondition()
        if kind in (CommandKind.PAUSE, CommandKind.RESUME) and not confirm_fields(board, context, kind):
            self._send(CommandRequest(kind), expected)
            return

        def decided(result: ConfirmResult | None) -> None:
            if result is not None and self._is_still_offered(kind):
                self._close_screens()
                targets = screen.board.previews.get(kind, ())
                self._send(CommandRequest(kind, result.reason, screen.expected, result.typed, targets), screen.expected)

        source = self._source
        fetch_history = (lambda: source.fetch(RollbackQuery())) if kind is CommandKind.ROLLBACK else None
        screen = ConfirmScreen(board, context, find_action(kind.value), fetch_history)
        self._app.push_screen(screen, decided)

    def _step_speed(self, change: "Callable[[Backfill], dict[str, object]]") -> None:
        """One step slower or faster; opens the dialog only where the plan requires a reason."""
        board, context = self._state_and_context()
        record = board.release.value
        reason = self._reason_against(CommandKind.TUNE, board, context)
        limits = None
        if record is not None and record.plan_limits is not None:
            limits = effective_limits(record.plan_limits, self._expected_tuning(record))
        if not reason and limits is None:
            reason = "the backfill limits are not known yet"
        requested = change(limits) if limits is not None else {}
        if not reason and limits is not None and not requested:
            if limits != record.limits:  # type: ignore[union-attr]  # it has limits
                return  # the last step is on its way
            reason = f"speed is {limits.speed} % already: no further step"
        if reason:
            self._refuse(CommandKind.TUNE, reason)
        elif CommandKind.TUNE.value in board.plan.commands_needing_reason:
            self._open_tuning(requested)
        else:
            self._send_tuning(
                TuneRequest(requested, f"speed {limits.speed if limits else '?'}% -> {requested['speed']}%")
            )

    def _expected_tuning(self, record: ReleaseRecord) -> Tuning:
        """The tuning after the command that is on its way: the steps of several keys add up."""
        progress = self.progress
        if progress is None or progress.target_tuning is None or progress.stage.is_final:
            return record.tuning
        return progress.target_tuning

    def _open_tuning(self, changes: dict[str, object] | None = None) -> None:
        board, context = self._state_and_context()
        if reason := self._reason_against(CommandKind.TUNE, board, context):
            self._refuse(CommandKind.TUNE, reason)
            return

        def decided(request: TuneRequest | None) -> None:
            if request is not None and self._is_still_offered(CommandKind.TUNE):
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

    def _open_table_pause(self) -> None:
        board, context = self._state_and_context()
        unsent = self.unsent
        reason = f"{unsent.kind} is not sent yet" if unsent is not None else table_pause_disabled_reason(board, context)
        if reason:
            self._refuse(CommandKind.PAUSE, reason)
            return

        def decided(request: TablePauseRequest | None) -> None:
            if request is None or not self._is_still_offered(request.kind, "pause-table"):
                return
            self._close_screens()
            sent = CommandRequest(
                request.kind, request.reason, request.expected, None, request.targets, table=request.table
            )
            self._send(sent, request.expected)

        self._app.push_screen(PauseTableScreen(board, context), decided)

    def _is_still_offered(self, kind: CommandKind, action_id: str = "") -> bool:
        """Refuses a command whose unlock has expired while its dialog was open.

        Args:
            action_id: that opened the dialog; default: the command's.
        """
        if self.is_offered(action_id or kind.value):
            return True
        self._refuse(kind, "the unlock expired; nothing was sent")
        return False

    def _reason_against(self, kind: CommandKind, board: DashboardState, context: RenderContext) -> str:
        """Why a command is not sent now: the rules, or an earlier one that is not stored yet. A rollback waits for no
        other command."""
        unsent = self.unsent
        if unsent is not None and (kind is not CommandKind.ROLLBACK or unsent.kind is kind):
            return f"{unsent.kind} is not sent yet; wait until the database has it"
        return disabled_reason(board, context, kind)

    @property
    def unsent(self) -> CommandProgress | None:
        """The command that the database has not confirmed yet, by the newest state."""
        if self.progress is None or not self.progress.is_unsent:
            return None
        progress = self.progress.with_board(*self._state_and_context())
        return progress if progress.is_unsent else None

    def _refuse(self, kind: CommandKind, reason: str) -> None:
        now = self._clock.monotonic()
        self._close_screens()
        if self.unsent is not None:  # its line stays
            self._app.notify(f"{kind} refused: {reason}", severity="error", markup=False)
            return
        record = self._source.state().release.value
        release = record.id if record is not None else None
        self._show_progress(CommandProgress(kind, now, release=release).with_refusal(reason, now))

    def _send(self, request: CommandRequest, expected: Precondition | None) -> None:
        """Sends a command and follows its progress.

        Args:
            expected: the release's state when it was sent; a plain key sends the request without it.
        """
        board, now = self._source.state(), self._clock.monotonic()
        record = board.release.value
        tuning = self._resulting_tuning(record, request.tuning) if record and request.tuning is not None else None
        request = replace(request, request_id=uuid4().hex, confirmed_at=board.server_now(now))
        progress = CommandProgress(
            request.kind,
            now,
            expected,
            target_tuning=tuning,
            table=request.table,
            request_id=request.request_id,
            overtakes=self.unsent.kind if self.unsent is not None else "",
            release=record.id if record is not None else None,
        )
        self._show_progress(progress)
        future = self._source.send_command(request)
        future.add_done_callback(lambda done: self._post(CommandAnswered(progress, done)))

    def _resulting_tuning(self, record: ReleaseRecord, changes: Mapping[str, object]) -> Tuning | None:
        """The tuning after a command; None where the agent will refuse it."""
        if record.plan_limits is None:
            return None
        try:
            return apply_tuning(record.plan_limits, self._expected_tuning(record), changes)
        except PlanError:
            return None

    def show_result(self, message: CommandAnswered) -> None:
        """Shows the result, unless a later command was sent."""
        progress = self.progress
        if progress is None or progress.request_id != message.progress.request_id or message.future.cancelled():
            return
        now = self._clock.monotonic()
        error = message.future.exception()
        self._show_progress(
            progress.with_send_error(error, now) if error else progress.with_result(message.future.result(), now)
        )

    def update_progress(self, board: DashboardState, context: RenderContext) -> None:
        """Updates the progress of the last command, and the rate of the backfill over time."""
        if (record := board.release.value) is not None:
            self._rates.add_reading(record.id, record.backfill)
        if self.progress is not None:
            self.progress = self.progress.with_board(board, context).with_cause(board, context)

    def _show_progress(self, progress: CommandProgress) -> None:
        self.progress = progress
        self._post(RepaintRequested())

    # --- agent -------------------------------------------------------------------------------------------------------

    def _start_agent(self) -> None:
        board, context = self._state_and_context()
        if reason := agent_start_disabled_reason(board, context):
            self._app.notify(reason, markup=False, timeout=5)
            return

        def decided(result: ConfirmResult | None) -> None:
            if result is not None and not agent_start_disabled_reason(*self._state_and_context()):
                self._close_screens()
                self._source.start_agent()

        self._app.push_screen(StartAgentScreen(board, context), decided)

    # --- lock --------------------------------------------------------------------------------------------------------

    def _unlock(self) -> None:
        def decided(is_unlocked: bool | None) -> None:
            if is_unlocked:
                self.access = self.access.unlock(self._clock.monotonic())
                self._post(RepaintRequested())

        self._app.push_screen(UnlockScreen(*self._state_and_context()), decided)

    def _lock(self) -> None:
        self.access = self.access.lock()
        self._post(RepaintRequested())

    def open_row(self, message: RowSelected) -> None:
        """Opens the screen of a row; the status details where it has none."""
        if message.pane == "charts":
            self.run_action("charts")
            return
        screen = screen_for_row(message, self._source, self.render_context, self._rates)
        if screen is None:
            self.run_action("details")
        else:
            self._push_once(screen)

    def _quit(self) -> None:
        """Quits; at the end of a region before the last one at the second key, because another region is next."""
        board, context = self._state_and_context()
        following = following_region(board, context)
        now = self._clock.monotonic()
        if following and now - self._quit_at > QUIT_AGAIN_SECONDS:
            self._quit_at = now
            keys = self.keys
            self._app.notify(
                f"region {following} follows: {keys['next-region']} opens it; {keys['quit']} again quits",
                markup=False,
                timeout=QUIT_AGAIN_SECONDS,
            )
        else:
            self._post(QuitRequested())

    def _open_region(self, step: int) -> None:
        self._close_screens()
        self._post(RegionRequested(self._source.state().plan.region_beside(step)))

    # --- screens -----------------------------------------------------------------------------------------------------

    def _state_and_context(self) -> tuple[DashboardState, RenderContext]:
        return self._source.state(), self.render_context()

    def _push_once(self, screen: Screen[Any]) -> None:
        """Does nothing where a screen of this class is in front already."""
        if type(self._app.screen) is not type(screen):
            self._app.push_screen(screen)

    def _open_detail(self, module: str, name: str) -> None:
        """Opens a detail screen. Its module is imported on first use, so that the first paint does not wait for it."""
        screen_class: Callable[[StateSource, ContextSource], Screen[Any]]
        screen_class = getattr(import_module(f"zdd_tui.dashboard.screens.details.{module}"), name)
        self._show_detail(screen_class(self._source, self.render_context))

    def _show_detail(self, screen: Screen[Any]) -> None:
        """Replaces every open detail screen, so that Esc goes back to the main screen."""
        if type(self._app.screen) is not type(screen):
            self._close_screens()
            self._app.push_screen(screen)

    def _run_pane_action(self, action: Action) -> None:
        """Runs an action in the panes of the main screen, which comes to the front."""
        self._close_screens()
        screen = self._app.screen
        if isinstance(screen, ReleaseScreen):
            screen.run_pane_action(action)

    def _close_screens(self) -> None:
        """Back to the main screen, which shows the progress of commands."""
        while len(self._app.screen_stack) > 1:
            self._app.pop_screen()

    def _post(self, message: Message) -> None:
        """Posts a message to the application; from any thread."""
        self._app.post_message(message)


class RepaintRequested(Message):
    """Local state that the screens show has changed: repaint."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, RepaintRequested)


class CopiedText(NamedTuple):
    """A text to copy, and its description."""

    label: str
    text: str


def text_to_copy(screen: Screen[Any]) -> CopiedText:
    """The row under the cursor, else the focused pane, else the whole screen."""
    focused = screen.focused
    if isinstance(screen, StartAgentScreen):
        return CopiedText("the line", screen.command)
    if isinstance(focused, LineView):
        row = focused.text_under_cursor()
        name = focused.pane_name if isinstance(focused, Pane) else "page"
        return CopiedText(f"a row of {name}", row) if row else CopiedText(name, focused.plain_text())
    shown = [view.plain_text() for view in screen.query(LineView) if view.display]
    return CopiedText("the screen", "\n".join(text for text in shown if text))

"""The dialogs before a change: the confirmation of a command, and the unlock of production."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import ShowsNewestState
from zdd_tui.dashboard.screens.details.base import describe_silence
from zdd_tui.dashboard.screens.dialog import Dialog, KeyHints, PageView, reading_age_lines, target_lines, text_field
from zdd_tui.dashboard.screens.rollback_facts import rollback_fact_lines
from zdd_tui.dashboard.state import DashboardState, Observed, PlanView, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import disabled_reason
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, error_lines, sanitize, wrap
from zdd_tui.model.actions import Action
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.blocks import find_blocks
from zdd_tui.model.release.claims import FRESH_SECONDS
from zdd_tui.model.release.state import (
    CommandKind,
    Precondition,
    Release,
    ReleaseState,
    StepStatus,
    describe_position,
    requires_name,
    steps_to_undo,
)
from zdd_tui.model.rollback import Extent, RollbackHistory, RollbackQuery, rollback_rows

UNSEEN_SECONDS = 0.5
"""Seconds for which Enter does not confirm what has just been added: nobody can have read it."""

TIMER_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class ConfirmResult:
    """The operator has confirmed.

    Attributes:
        typed: the release's name, where it is required.
        reason: for the audit.
    """

    typed: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ConfirmField:
    """A text field of the dialog.

    Attributes:
        required: the text that must be typed; empty where any text is accepted.
        empty_error: error for an empty field; empty where it is optional.
    """

    id: str
    title: str
    required: str = ""
    empty_error: str = ""

    def validate(self, typed: str) -> str:
        """Why a text is not accepted; empty when it is."""
        if not typed:
            return self.empty_error
        is_accepted = (
            typed.casefold() == self.required.casefold() if self.id == "environment" else typed == self.required
        )
        return "" if is_accepted or not self.required else f"“{typed}” is not {self.title.removeprefix('type ')}"


class HistoryRead(Message):
    """What is known about earlier rollbacks has arrived, or why it is not known."""

    def __init__(self, future: Future[RollbackHistory]) -> None:
        super().__init__()
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            self.history = RollbackHistory(problem=getattr(error, "title", "") or type(error).__name__)
        else:
            self.history = future.result()


class ConfirmDialog(Dialog[ConfirmResult]):
    """What an action will do, and on which systems. Enter confirms, Escape cancels.

    Enter is shown and works only after the dialog was painted; typed before that, it is ignored.

    All required text is typed on this screen, never in a second dialog.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "yes", "Confirm", show=False, id="confirm.yes"),
        Binding("escape", "dismiss", "Cancel", show=False, id="confirm.no"),
        # The page scrolls while a text field has the focus.
        Binding("up", "scroll(-1)", "Scroll up", show=False, id="confirm.up"),
        Binding("down", "scroll(1)", "Scroll down", show=False, id="confirm.down"),
        Binding("pageup", "scroll(-10)", "Ten lines up", show=False, id="confirm.page-up"),
        Binding("pagedown", "scroll(10)", "Ten lines down", show=False, id="confirm.page-down"),
    ]

    def __init__(
        self, board: DashboardState, context: RenderContext, action: Action, fields: tuple[ConfirmField, ...]
    ) -> None:
        super().__init__(board, context)
        self._action = action
        self._lock_at_opening = context.production_lock, context.now
        self._fields = fields
        self._error = ""
        self._conflict = ""

    def compose_dialog(self) -> ComposeResult:
        yield PageView()
        yield from (text_field(each.id, each.title) for each in self._fields)
        yield KeyHints()

    def confirms(self, key: str) -> bool:
        """See :class:`zdd_tui.dashboard.typed_keys.ConfirmsByKey`. A text field takes Enter before the binding."""
        active = self.active_bindings.get(key)
        return key == "enter" or (active is not None and active.binding.id == "confirm.yes")

    def show(self, board: DashboardState, context: RenderContext) -> None:
        """Follows the state; where that contradicts what is confirmed, it shows the conflict and keeps the page."""
        before, self._conflict = self._conflict, self._find_conflict(board, context)
        if not self._conflict:
            self._take_reading(board, context)
        if not self._conflict or self._conflict != before:
            self._draw()

    def _take_reading(self, board: DashboardState, context: RenderContext) -> None:
        """Takes a state that does not contradict what is confirmed."""
        self._last_shown = board, context

    def _find_conflict(self, board: DashboardState, context: RenderContext) -> str:
        if not any(each.id == "environment" for each in self._fields):
            lock, opened_at = self._lock_at_opening
            is_available = context.production_lock.is_available(self._action, context.now)
            if not is_available or (context.production_lock.is_locked(context.now) and not lock.is_locked(opened_at)):
                return "The unlock expired: press Esc and unlock again"
        return ""

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if self._conflict:
            return wrap(f"✗ {self._conflict}", cells, TextStyle.BAD)
        return _typing_hints(self._fields, "confirm" if self.is_ready else "", self._error, cells)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_yes()

    def action_yes(self) -> None:
        if not self.is_ready or self._conflict:
            return
        typed = {each.id: self.query_one(f"#{each.id}", Input).value.strip() for each in self._fields}
        for each in self._fields:
            self._error = each.validate(typed[each.id])
            if self._error:
                self.query_one(f"#{each.id}").focus()
                self._draw()
                return
        self.dismiss(ConfirmResult(self._last_shown[0].plan.name if "name" in typed else None, typed.get("reason", "")))

    def action_scroll(self, lines: int) -> None:
        self.query_one(PageView).scroll_relative(y=lines, animate=False)


class ConfirmScreen(ConfirmDialog):
    """The confirmation of a command: exactly what will run, by the newest reading.

    That of a rollback may be opened before the first reading of the release: it waits for it, and Enter with it. It
    also follows a release that moves on, as the command does, because its key is for emergencies; that of another
    command is then refused. Enter does not work either while something that a reading has added, a step or a loss, is
    on screen for too short a time to be seen; pressed then, it is said not to have been taken.

    Args:
        fetch_history: of a rollback, requests what is known about earlier ones; shown when it arrives.
    """

    def __init__(
        self,
        board: DashboardState,
        context: RenderContext,
        action: Action,
        fetch_history: Callable[[], Future[RollbackHistory]] | None = None,
    ) -> None:
        self.kind = CommandKind(action.id)
        super().__init__(board, context, action, confirm_fields(board, context, self.kind))
        self.expected = board.build_precondition()
        """What is confirmed; None before the first reading."""
        self._refusal = ""
        self._fetch_history = fetch_history
        self._history: Observed[RollbackHistory] = Observed()
        self._requested_at = float("inf")
        self._seen = self._extent(board)
        self._unseen_growth, self._grown_at = "", float("-inf")
        """What a reading has added to what the operator has seen, and when."""
        self._change_by_readings = ""
        """The same, without what was only not counted yet."""

    @property
    def board(self) -> DashboardState:
        """The state that the page shows."""
        return self._last_shown[0]

    def on_mount(self) -> None:
        if self.expected is not None:
            self._request_history()

    def _request_history(self) -> None:
        if self._fetch_history is not None:
            self._requested_at = self._now
            self._fetch_history().add_done_callback(lambda done: self.post_message(HistoryRead(done)))

    def on_history_read(self, message: HistoryRead) -> None:
        self._history = Observed(message.history, self._now)
        self._note_growth()
        self._draw()

    def _set_ready(self) -> None:
        if self.expected is not None:
            super()._set_ready()

    # --- a state that changes ----------------------------------------------------------------------------------------

    def _take_reading(self, board: DashboardState, context: RenderContext) -> None:
        """Takes what was not read yet when the dialog was opened, and what is new since."""
        before, self.expected = self.expected, board.build_precondition()
        super()._take_reading(board, context)
        if before is None and self.expected is not None:
            self._seen = self._extent(board)
            self._refusal = disabled_reason(board, context, self.kind)
            self._conflict = self._find_conflict(board, context)
            self._request_history()
            self.call_after_refresh(self._set_ready)
        moved = self._describe_move(before)
        if moved:
            self._request_history()  # what is lost, and how long it takes, depend on the phase
        self._change_by_readings = self._note_growth(moved) or self._change_by_readings

    def _describe_move(self, before: Precondition | None) -> str:
        """From where to where the release has moved since the last reading; empty where it has not."""
        record, now = self.board.release.value, self.expected
        if before is None or now is None or record is None or (before.state, before.phase) == (now.state, now.phase):
            return ""
        strategy = record.release.strategy
        was = describe_position(strategy, before.state, before.phase)
        return f"the release was {was}, it is {describe_position(strategy, now.state, now.phase)}"

    def _find_conflict(self, board: DashboardState, context: RenderContext) -> str:
        if self._refusal:
            return f"{self.kind} refused: {self._refusal}. Esc closes"
        expected = board.build_precondition()
        if self.kind is CommandKind.ROLLBACK and expected is not None and self.expected not in (None, expected):
            if refusal := disabled_reason(board, context, self.kind):
                return f"{self.kind} refused: {refusal}. Esc closes"
            expected = replace(expected, state=self.expected.state, phase=self.expected.phase)
        if self.expected not in (None, expected) and not _has_more(expected, self.expected):
            return "State changed since this dialog was opened: press Esc and review"
        return super()._find_conflict(board, context)

    def _extent(self, board: DashboardState) -> Extent:
        record = board.release.value
        if record is None:
            return Extent(())
        lines = board.previews.get(self.kind) or tuple(label for label, _ in _steps(record.release, self.kind))
        if self.kind is not CommandKind.ROLLBACK:
            return Extent(lines)
        return Extent(lines, rollback_rows(board.plan.change, record, self._history.value))

    def _note_growth(self, moved: str = "") -> str:
        """Holds Enter back for a moment where there is more to confirm than the operator can have seen; says what.

        Args:
            moved: how the release has moved; empty where it has not.
        """
        extent = self._extent(self.board)
        if growth := "; ".join(filter(None, (moved, extent.growth_since(self._seen)))):
            self._unseen_growth, self._grown_at, self._error = growth, self._now, ""
            self.set_timer(UNSEEN_SECONDS + TIMER_MARGIN, self._draw)  # then Enter is shown again
            self._seen = extent.including(self._seen)
        return growth

    @property
    def _now(self) -> float:
        return self._last_shown[1].clock.monotonic()

    @property
    def _is_unseen(self) -> bool:
        return self._now - self._grown_at < UNSEEN_SECONDS

    def action_yes(self) -> None:
        if isinstance(self.app, ShowsNewestState):
            self.app.show_newest(self)  # a reading that is not on screen yet
        if self.is_ready and not self._conflict and self._is_unseen:
            self._error = f"Enter was not taken, because this is new: {self._unseen_growth}"
            self._draw()
        else:
            super().action_yes()

    # --- drawing -----------------------------------------------------------------------------------------------------

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if self.expected is None:
            return _unread_lines(board, cells)
        history, silent = self._history, context.now - self._requested_at
        if history.value is None and silent > FRESH_SECONDS:
            history = Observed(RollbackHistory(problem=describe_silence(RollbackQuery(), silent)))
        facts = confirm_fact_lines(board, context, self.kind, history, cells)
        return confirm_lines(board, self.kind, cells, self.query_one(PageView).content_size.height, facts)

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if self._conflict:
            return super().key_hints(board, context, cells)
        verb = "confirm" if self.is_ready and not self._is_unseen else ""
        lines = _typing_hints(self._fields, verb, self._error, cells)
        if self._change_by_readings and not self._error:
            lines = [
                *wrap(f"changed while this is open: {self._change_by_readings}", cells, TextStyle.WARN)[:3],
                *lines,
            ]
        return lines


def _has_more(expected: Precondition | None, before: Precondition | None) -> bool:
    """Whether a Deployment was read meanwhile, and nothing else is different."""
    if expected is None or before is None:
        return False
    is_same = replace(expected, objects=before.objects) == before
    return is_same and set(expected.objects) > set(before.objects)


def _unread_lines(board: DashboardState, cells: int) -> list[Line]:
    """Before the first reading: what the dialog waits for, and why, where that is known."""
    lines = [*target_lines(board, "roll back: undo every step", cells), ()]
    if board.release.error:
        lines += [*error_lines(board.release.error, board.release.hint, cells), ()]
    text = "… the release was not read yet. What is undone is shown here once it is; nothing can be confirmed before."
    return lines + wrap(text, cells, TextStyle.WARN)


class UnlockScreen(Dialog[bool]):
    """Unlocks production for a time: True once the environment's name was typed, None when cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", show=False, id="unlock.leave"),
    ]

    def __init__(self, board: DashboardState, context: RenderContext) -> None:
        super().__init__(board, context)
        self._field = _environment_field(board.plan)
        self._error = ""

    def compose_dialog(self) -> ComposeResult:
        yield PageView()
        yield text_field(self._field.id, self._field.title)
        yield KeyHints()

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        text = (
            f"For {format_duration(context.production_lock.unlock_seconds)}, keys that change the release work in this"
            f" dashboard. It then locks automatically; {context.key_names['lock']} locks it at once. The agent, the"
            " command line and other dashboards are not affected."
            f" {self.key_label('rollback')} rolls back without an unlock, here too."
        )
        return [*target_lines(board, "unlock", cells), (), *wrap(text, cells)]

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return _typing_hints((self._field,), "unlock", self._error, cells)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._error = self._field.validate(event.value.strip())
        if self._error:
            self._draw()
        else:
            self.dismiss(True)


def _typing_hints(fields: Sequence[ConfirmField], verb: str, error: str, cells: int) -> list[Line]:
    """``type PRODUCTION, Enter confirm   Esc cancel``, below the error; Escape alone where there is no verb."""
    required = (
        (("type ", TextStyle.NORMAL), (each.required, TextStyle.STRONG), (", ", TextStyle.NORMAL))
        for each in fields
        if each.required
    )
    enter = (
        *(span for spans in required for span in spans),
        ("Enter", TextStyle.KEY),
        (f" {verb}   ", TextStyle.NORMAL),
    )
    hints: Line = (*(enter if verb else ()), ("Esc", TextStyle.KEY), (" cancel", TextStyle.NORMAL))
    return [*(wrap(f"✗ {error}", cells, TextStyle.BAD) if error else []), hints]


def lock_fields(board: DashboardState, context: RenderContext) -> tuple[ConfirmField, ...]:
    """The name of the environment, where production is locked: one key in the wrong window must change nothing."""
    return (_environment_field(board.plan),) if context.production_lock.is_locked(context.now) else ()


def _environment_field(plan: PlanView) -> ConfirmField:
    return ConfirmField(
        "environment",
        "type the environment name",
        sanitize(plan.environment).strip(),
        "the environment name is missing",
    )


def confirm_fields(board: DashboardState, context: RenderContext, kind: CommandKind) -> tuple[ConfirmField, ...]:
    """The text fields for a command.

    The reason of a rollback is always optional, whatever the plan says. Where production is locked, the environment's
    name is required, so that one key in the wrong window cannot roll back.
    """
    plan, record = board.plan, board.release.value
    fields = list(lock_fields(board, context))
    if record is not None and requires_name(record.release, kind):
        fields.append(ConfirmField("name", "type the release name", plan.name, "the release name is missing"))
    if kind is CommandKind.ROLLBACK:
        if plan.is_production or kind.value in plan.commands_needing_reason:
            fields.append(ConfirmField("reason", "reason for the audit (optional)"))
    elif kind.value in plan.commands_needing_reason:
        fields.append(ConfirmField("reason", "reason (required by the plan)", empty_error="the plan requires a reason"))
    return tuple(fields)


def confirm_fact_lines(
    board: DashboardState, context: RenderContext, kind: CommandKind, history: Observed[RollbackHistory], cells: int
) -> list[Line]:
    """What is shown above the steps: which source is silent, and of a rollback what users see and what is lost.

    Args:
        history: of a rollback; without a value while it is being read.
    """
    lines = reading_age_lines(board, context, cells)
    for each in board.lost_systems(context.now):
        text = f"{each.description}; what is shown of it here is older"
        lines += [*wrap(text, cells, TextStyle.WARN), ()]
    return lines + (rollback_fact_lines(board, context, history, cells) if kind is CommandKind.ROLLBACK else [])


def confirm_lines(
    board: DashboardState, kind: CommandKind, cells: int, rows: int = 0, facts: Sequence[Line] = ()
) -> list[Line]:
    """Title, target, and the steps with their statements; where that exceeds `rows`, an overview of the steps first.

    Args:
        facts: shown above the steps.
    """
    if board.release.value is None:
        return []
    release = board.release.value.release
    lines = target_lines(board, _title(release, kind), cells)
    if requires_name(release, kind):
        lines += wrap(
            "✗ this phase ends with an irreversible step: rollback is not possible afterwards", cells, TextStyle.BAD
        )
    lines += [(), *facts, ()] if facts else [()]
    if preview := board.previews.get(kind, ()):
        shown = [line for text in preview for line in _preview_line(text, cells)]
        if blocks := find_blocks(preview, board.blocks):
            lines += [*wrap(_SHORTENED, cells, TextStyle.DIM), ()]
        shown = shown if len(lines) + len(shown) <= rows else [*_overview(preview, cells), *shown]
        return [*lines, *shown, *(line for block in blocks.items() for line in _block_lines(*block, cells))]
    for label, irreversible in _steps(release, kind):
        style = TextStyle.BAD if irreversible else TextStyle.NORMAL
        lines += wrap(
            f"{'✗' if irreversible else '·'} {label}{' (cannot be undone)' if irreversible else ''}", cells, style
        )
    return lines


_SHORTENED = "“… (12 lines: …)” stands for a block, which is in full at the end of this page: PgDn."


@lru_cache(maxsize=64)  # there may be hundreds of lines, in each paint
def _block_lines(title: str, block: tuple[str, ...], cells: int) -> tuple[Line, ...]:
    return ((), *wrap(title, cells, TextStyle.STRONG), *(line for text in block for line in _body_line(text, cells)))


def _overview(preview: tuple[str, ...], cells: int) -> list[Line]:
    """The steps without statements: a long function body must not hide the step that matters."""
    steps = [text for text in preview if text == text.lstrip(" ")]
    if len(steps) < 2 or len(steps) == len(preview):
        return []
    lines = [line for text in steps for line in wrap(text, cells, _step_style(text))]
    return [((f"{len(steps)} steps, in this order:", TextStyle.DIM),), *lines, (), (("statements:", TextStyle.DIM),)]


def _preview_line(text: str, cells: int) -> list[Line]:
    """A step at the margin, its statements indented; an irreversible step is highlighted."""
    return wrap(text, cells, _step_style(text)) if not text.startswith(" ") else _body_line(text, cells)


def _body_line(text: str, cells: int) -> list[Line]:
    bare = text.lstrip(" ")
    return wrap(bare, cells, TextStyle.NORMAL, indent=" " * min(len(text) - len(bare), cells // 2))


def _step_style(text: str) -> TextStyle:
    return TextStyle.BAD if "CANNOT BE UNDONE" in text else TextStyle.STRONG


def _title(release: Release, kind: CommandKind) -> str:
    if kind is CommandKind.ROLLBACK:
        return "roll back: undo every step, in this order"
    phase = release.current_phase if release.state is ReleaseState.FAILED else release.next_phase
    verb = "retry" if release.state is ReleaseState.FAILED else "run"
    return f"{verb} {phase.name if phase else '?'}"


def _steps(release: Release, kind: CommandKind) -> list[tuple[str, bool]]:
    """Label and irreversibility of each step that would run or be reverted."""
    if kind is CommandKind.ROLLBACK:
        return [(f"undo “{spec.label}”", False) for spec in steps_to_undo(release)]
    phase = release.current_phase if release.state is ReleaseState.FAILED else release.next_phase
    if phase is None:
        return []
    return [(spec.label, spec.irreversible) for spec in phase.steps if release.status(spec.name) is not StepStatus.DONE]

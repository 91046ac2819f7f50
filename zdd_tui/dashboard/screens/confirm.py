"""The confirm dialog: exactly what will run, against what, and then yes or no."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import ActionScreen
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, KeyHints, PageView
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, sanitize, wrap
from zdd_tui.model.actions import Action, find_action
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus, requires_name


@dataclass(frozen=True, slots=True)
class ConfirmResult:
    """What the operator decided.

    Attributes:
        typed: the release's name, where it was asked for.
        reason: goes into the audit.
    """

    is_confirmed: bool
    typed: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConfirmField:
    """One line that the dialog asks for.

    Attributes:
        required: what has to be typed there; empty where any text will do.
        empty_error: what is said when it is left empty; empty where it may be.
    """

    id: str
    title: str
    required: str = ""
    empty_error: str = ""

    def validate(self, typed: str) -> str:
        """Why what was typed will not do; empty when it does."""
        if not typed:
            return self.empty_error
        right = typed.casefold() == self.required.casefold() if self.id == "environment" else typed == self.required
        return "" if right or not self.required else f"“{typed}” is not {self.title.removeprefix('type ')}"


class ConfirmScreen(ActionScreen[ConfirmResult], ModalScreen[ConfirmResult], HasPage):
    """Enter says yes, Escape says no. Enter counts only once the dialog has been painted.

    Whatever has to be typed is asked for here, on the same screen: never in a second dialog.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "yes", "Yes, do it", show=False, id="confirm.yes"),
        Binding("escape,n", "no", "No", show=False, id="confirm.no"),
        # A text field has the focus, and all of what will run can be read all the same.
        Binding("up", "scroll(-1)", "Scroll up", show=False, id="confirm.up"),
        Binding("down", "scroll(1)", "Scroll down", show=False, id="confirm.down"),
        Binding("pageup", "scroll(-10)", "Ten lines up", show=False, id="confirm.page-up"),
        Binding("pagedown", "scroll(10)", "Ten lines down", show=False, id="confirm.page-down"),
    ]

    CSS = DIALOG_CSS.format(name="ConfirmScreen")

    def __init__(
        self, board: DashboardState, context: RenderContext, action: Action, *, shown: tuple[str, ...] | None = None
    ) -> None:
        super().__init__()
        self._board, self._moment = board, context
        self.kind = CommandKind(action.id)
        self._preview = board.previews.get(self.kind, ()) if shown is None else shown
        self._expected = board.build_precondition()
        self._fields = confirm_fields(board, context, self.kind)
        self._is_armed = False
        self._error = ""
        self._conflict = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield PageView()
            for each in self._fields:
                line = Input(id=each.id)
                line.border_title = Content(sanitize(each.title))
                yield line
            yield KeyHints()

    def on_mount(self) -> None:
        self.query_one(f"#{self._fields[0].id}" if self._fields else PageView).focus()
        self._draw()
        self.call_after_refresh(self._enable_enter)

    def _enable_enter(self) -> None:
        self._is_armed = True

    def show(self, board: DashboardState, context: RenderContext) -> None:
        """The text stays as it was confirmed; only what stands against it meanwhile is told."""
        moved = self._find_conflict(board, context)
        if moved != self._conflict:
            self._conflict = moved
            self._draw()

    def _find_conflict(self, board: DashboardState, context: RenderContext) -> str:
        if board.build_precondition() != self._expected:
            return "the release has moved since: press Esc and look again"
        if not any(each.id == "environment" for each in self._fields):
            shown = context.production_lock.is_available(find_action(self.kind.value), context.now)
            if not shown or (
                context.production_lock.is_locked(context.now)
                and not self._moment.production_lock.is_locked(self._moment.now)
            ):
                return "the unlock has run out meanwhile: press Esc and begin again"
        return ""

    def _draw(self) -> None:
        self.query_one(PageView).show(self._board, self._moment)
        self.query_one(KeyHints).show(self._board, self._moment)

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        rows = self.query_one(PageView).content_size.height
        return confirm_lines(board, self.kind, cells, rows, preview=self._preview)

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if self._conflict:
            return wrap(f"✗ {self._conflict}", cells, TextStyle.BAD)
        if self._fields:
            typed: Line = (
                ("Enter", TextStyle.KEY),
                (" yes, do it   ", TextStyle.NORMAL),
                ("Esc", TextStyle.KEY),
                (" no", TextStyle.NORMAL),
            )
            wanted = [each for each in self._fields if each.required]
            text: list[Line] = [
                (("type ", TextStyle.NORMAL), (each.required, TextStyle.STRONG), (", ", TextStyle.NORMAL))
                for each in wanted
            ]
            line: Line = (*(span for part in text for span in part), *typed)
            return [*(wrap(f"✗ {self._error}", cells, TextStyle.BAD) if self._error else []), line]
        return [_CONFIRM_HINTS]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_yes()

    def action_yes(self) -> None:
        if not self._is_armed or self._conflict:
            return
        typed = {each.id: self.query_one(f"#{each.id}", Input).value.strip() for each in self._fields}
        for each in self._fields:
            self._error = each.validate(typed[each.id])
            if self._error:
                self.query_one(f"#{each.id}").focus()
                self._draw()
                return
        self.dismiss(ConfirmResult(True, self._board.plan.name if "name" in typed else None, typed.get("reason", "")))

    def action_scroll(self, lines: int) -> None:
        self.query_one(PageView).scroll_relative(y=lines, animate=False)

    def action_no(self) -> None:
        self.dismiss(ConfirmResult(False))


_CONFIRM_HINTS: Line = (
    ("Enter", TextStyle.KEY),
    (" yes, do it   ", TextStyle.NORMAL),
    ("Esc", TextStyle.KEY),
    (" no", TextStyle.NORMAL),
)


def confirm_fields(board: DashboardState, context: RenderContext, kind: CommandKind) -> tuple[ConfirmField, ...]:
    """What has to be typed before a command goes out.

    Rollback is never held up for words: its reason may stay empty, whatever the plan says. Where production is locked
    it asks for the environment's name, so that one key in the wrong window rolls nothing back.
    """
    plan, record = board.plan, board.release.value
    requested: list[ConfirmField] = []
    if context.production_lock.is_locked(context.now):
        requested.append(
            ConfirmField(
                "environment",
                "type the environment’s name",
                sanitize(plan.environment).strip(),
                "the environment’s name is missing",
            )
        )
    if record is not None and requires_name(record.release, kind):
        requested.append(ConfirmField("name", "type the release’s name", plan.name, "the release’s name is missing"))
    if kind is CommandKind.ROLLBACK:
        if plan.is_production or kind.value in plan.commands_needing_reason:
            requested.append(ConfirmField("reason", "why, for the audit; may stay empty"))
    elif kind.value in plan.commands_needing_reason:
        requested.append(
            ConfirmField("reason", "why: the plan asks for a reason", empty_error="the plan asks for a reason")
        )
    return tuple(requested)


def confirm_lines(
    board: DashboardState, kind: CommandKind, cells: int, rows: int = 0, *, preview: tuple[str, ...] | None = None
) -> list[Line]:
    """Title, target, steps in order, and what they run. Where that is more than `rows`, the steps alone come first."""
    plan, record = board.plan, board.release.value
    lines: list[Line] = []
    if record is None:
        return lines
    release = record.release
    environment = (f" ■ {plan.environment.upper()} ", TextStyle.ALARM if plan.is_production else TextStyle.STRONG)
    lines += [
        ((f"{_title(release, kind)} ", TextStyle.STRONG), environment),
        ((plan.name, TextStyle.STRONG), (f"  {plan.target}", TextStyle.NORMAL)),
    ]
    for name, place in (("database", plan.database), ("cluster", plan.cluster), ("flags", plan.flags)):
        if place:
            lines += wrap(f"{name:<9} {place}", cells, TextStyle.DIM)
    if requires_name(release, kind):
        lines += wrap(
            "✗ this phase ends with a step that cannot be undone: afterwards there is no way back", cells, TextStyle.BAD
        )
    lines.append(())
    preview = board.previews.get(kind, ()) if preview is None else preview
    if preview:
        shown = [line for text in preview for line in _preview_line(text, cells)]
        return lines + (shown if len(lines) + len(shown) <= rows else [*_overview(preview, cells), *shown])
    for label, irreversible in _steps(release, kind):
        style = TextStyle.BAD if irreversible else TextStyle.NORMAL
        lines += wrap(
            f"{'✗' if irreversible else '·'} {label}{' (cannot be undone)' if irreversible else ''}", cells, style
        )
    return lines


def _overview(preview: tuple[str, ...], cells: int) -> list[Line]:
    """The steps alone: a long function body must not push the one that matters out of sight."""
    steps = [text for text in preview if text == text.lstrip(" ")]
    if len(steps) < 2 or len(steps) == len(preview):
        return []
    lines = [line for text in steps for line in wrap(text, cells, _step_style(text))]
    return [((f"{len(steps)} steps, in this order:", TextStyle.DIM),), *lines, (), (("what they run:", TextStyle.DIM),)]


def _preview_line(text: str, cells: int) -> list[Line]:
    """A step at the margin, what it runs set in; a step without a way back stands out."""
    bare = text.lstrip(" ")
    if bare == text:
        return wrap(text, cells, _step_style(text))
    return wrap(bare, cells, TextStyle.NORMAL, indent=" " * (len(text) - len(bare)))


def _step_style(text: str) -> TextStyle:
    return TextStyle.BAD if "CANNOT BE UNDONE" in text else TextStyle.STRONG


def _title(release: Release, kind: CommandKind) -> str:
    if kind is CommandKind.ROLLBACK:
        return "roll back: undo, newest first"
    phase = release.current_phase if release.state is ReleaseState.FAILED else release.next_phase
    verb = "try again" if release.state is ReleaseState.FAILED else "run"
    return f"{verb} {phase.name if phase else '?'}"


def _steps(release: Release, kind: CommandKind) -> list[tuple[str, bool]]:
    """Label and irreversibility of each step that would run or be undone."""
    pairs = list(zip(release.strategy.steps, release.statuses, strict=True))
    if kind is CommandKind.ROLLBACK:
        return [(f"undo: {spec.label}", False) for spec, status in reversed(pairs) if status.has_effect]
    phase = release.current_phase if release.state is ReleaseState.FAILED else release.next_phase
    if phase is None:
        return []
    return [(spec.label, spec.irreversible) for spec in phase.steps if release.status(spec.name) is not StepStatus.DONE]

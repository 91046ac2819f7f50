"""The confirm dialog: exactly what will run, against what, and then yes or no."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import Acting
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, outside, wrap
from zdd_tui.model.actions import Action, action
from zdd_tui.model.release.state import CommandKind, Release, State, StepStatus, requires_name


@dataclass(frozen=True, slots=True)
class Answer:
    """What the operator decided.

    Attributes:
        typed: the release's name, where it was asked for.
        reason: goes into the audit.
    """

    yes: bool
    typed: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One line that the dialog asks for.

    Attributes:
        wanted: what has to be typed there; empty where any text will do.
        missing: what is said when it is left empty; empty where it may be.
    """

    id: str
    title: str
    wanted: str = ""
    missing: str = ""

    def wrong(self, typed: str) -> str:
        """Why what was typed will not do; empty when it does."""
        if not typed:
            return self.missing
        right = typed.casefold() == self.wanted.casefold() if self.id == "environment" else typed == self.wanted
        return "" if right or not self.wanted else f"“{typed}” is not {self.title.removeprefix('type ')}"


class ConfirmScreen(Acting[Answer], ModalScreen[Answer], HasPage):
    """Enter says yes, Escape says no. Enter counts only once the dialog has been painted.

    Whatever has to be typed is asked for here, on the same screen: never in a second dialog.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "yes", "Yes, do it", show=False, id="confirm.yes"),
        Binding("escape,n", "no", "No", show=False, id="confirm.no"),
        # A text field has the focus, and all of what will run can be read all the same.
        Binding("up", "read(-1)", "Scroll up", show=False, id="confirm.up"),
        Binding("down", "read(1)", "Scroll down", show=False, id="confirm.down"),
        Binding("pageup", "read(-10)", "Ten lines up", show=False, id="confirm.page-up"),
        Binding("pagedown", "read(10)", "Ten lines down", show=False, id="confirm.page-down"),
    ]

    CSS = DIALOG_CSS.format(name="ConfirmScreen")

    def __init__(self, board: Board, moment: Moment, asked: Action, *, shown: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self._board, self._moment = board, moment
        self.kind = CommandKind(asked.id)
        self._shown = board.previews.get(self.kind, ()) if shown is None else shown
        self._expected = board.expected()
        self._fields = fields(board, moment, self.kind)
        self._armed = False
        self._wrong = ""
        self._moved = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            for each in self._fields:
                line = Input(id=each.id)
                line.border_title = Content(outside(each.title))
                yield line
            yield Keys()

    def on_mount(self) -> None:
        self.query_one(f"#{self._fields[0].id}" if self._fields else Page).focus()
        self._draw()
        self.call_after_refresh(self._arm)

    def _arm(self) -> None:
        self._armed = True

    def show(self, board: Board, moment: Moment) -> None:
        """The text stays as it was confirmed; only what stands against it meanwhile is told."""
        moved = self._against(board, moment)
        if moved != self._moved:
            self._moved = moved
            self._draw()

    def _against(self, board: Board, moment: Moment) -> str:
        if board.expected() != self._expected:
            return "the release has moved since: press Esc and look again"
        if not any(each.id == "environment" for each in self._fields):
            shown = moment.access.shows(action(self.kind.value), moment.now)
            if not shown or (moment.access.locked(moment.now) and not self._moment.access.locked(self._moment.now)):
                return "the unlock has run out meanwhile: press Esc and begin again"
        return ""

    def _draw(self) -> None:
        self.query_one(Page).show(self._board, self._moment)
        self.query_one(Keys).show(self._board, self._moment)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        rows = self.query_one(Page).content_size.height
        return confirm_lines(board, self.kind, cells, rows, preview=self._shown)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        if self._moved:
            return wrap(f"✗ {self._moved}", cells, Tone.BAD)
        if self._fields:
            typed: Line = (
                ("Enter", Tone.KEY),
                (" yes, do it   ", Tone.NORMAL),
                ("Esc", Tone.KEY),
                (" no", Tone.NORMAL),
            )
            wanted = [each for each in self._fields if each.wanted]
            told: list[Line] = [
                (("type ", Tone.NORMAL), (each.wanted, Tone.STRONG), (", ", Tone.NORMAL)) for each in wanted
            ]
            line: Line = (*(span for part in told for span in part), *typed)
            return [*(wrap(f"✗ {self._wrong}", cells, Tone.BAD) if self._wrong else []), line]
        return [_YES]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_yes()

    def action_yes(self) -> None:
        if not self._armed or self._moved:
            return
        typed = {each.id: self.query_one(f"#{each.id}", Input).value.strip() for each in self._fields}
        for each in self._fields:
            self._wrong = each.wrong(typed[each.id])
            if self._wrong:
                self.query_one(f"#{each.id}").focus()
                self._draw()
                return
        self.dismiss(Answer(True, self._board.plan.name if "name" in typed else None, typed.get("reason", "")))

    def action_read(self, lines: int) -> None:
        self.query_one(Page).scroll_relative(y=lines, animate=False)

    def action_no(self) -> None:
        self.dismiss(Answer(False))


_YES: Line = (("Enter", Tone.KEY), (" yes, do it   ", Tone.NORMAL), ("Esc", Tone.KEY), (" no", Tone.NORMAL))


def fields(board: Board, moment: Moment, kind: CommandKind) -> tuple[Asked, ...]:
    """What has to be typed before a command goes out.

    Rollback is never held up for words: its reason may stay empty, whatever the plan says. Where production is locked
    it asks for the environment's name, so that one key in the wrong window rolls nothing back.
    """
    plan, record = board.plan, board.release.value
    asked: list[Asked] = []
    if moment.access.locked(moment.now):
        asked.append(
            Asked(
                "environment",
                "type the environment’s name",
                outside(plan.environment).strip(),
                "the environment’s name is missing",
            )
        )
    if record is not None and requires_name(record.release, kind):
        asked.append(Asked("name", "type the release’s name", plan.name, "the release’s name is missing"))
    if kind is CommandKind.ROLLBACK:
        if plan.production or kind.value in plan.reasons:
            asked.append(Asked("reason", "why, for the audit; may stay empty"))
    elif kind.value in plan.reasons:
        asked.append(Asked("reason", "why: the plan asks for a reason", missing="the plan asks for a reason"))
    return tuple(asked)


def confirm_lines(
    board: Board, kind: CommandKind, cells: int, rows: int = 0, *, preview: tuple[str, ...] | None = None
) -> list[Line]:
    """Title, target, steps in order, and what they run. Where that is more than `rows`, the steps alone come first."""
    plan, record = board.plan, board.release.value
    lines: list[Line] = []
    if record is None:
        return lines
    release = record.release
    environment = (f" ■ {plan.environment.upper()} ", Tone.ALARM if plan.production else Tone.STRONG)
    lines += [
        ((f"{_title(release, kind)} ", Tone.STRONG), environment),
        ((plan.name, Tone.STRONG), (f"  {plan.target}", Tone.NORMAL)),
    ]
    for name, place in (("database", plan.database), ("cluster", plan.cluster), ("flags", plan.flags)):
        if place:
            lines += wrap(f"{name:<9} {place}", cells, Tone.DIM)
    if requires_name(release, kind):
        lines += wrap(
            "✗ this phase ends with a step that cannot be undone: afterwards there is no way back", cells, Tone.BAD
        )
    lines.append(())
    preview = board.previews.get(kind, ()) if preview is None else preview
    if preview:
        shown = [line for text in preview for line in _preview_line(text, cells)]
        return lines + (shown if len(lines) + len(shown) <= rows else [*_overview(preview, cells), *shown])
    for label, irreversible in _steps(release, kind):
        tone = Tone.BAD if irreversible else Tone.NORMAL
        lines += wrap(
            f"{'✗' if irreversible else '·'} {label}{' (cannot be undone)' if irreversible else ''}", cells, tone
        )
    return lines


def _overview(preview: tuple[str, ...], cells: int) -> list[Line]:
    """The steps alone: a long function body must not push the one that matters out of sight."""
    steps = [text for text in preview if text == text.lstrip(" ")]
    if len(steps) < 2 or len(steps) == len(preview):
        return []
    lines = [line for text in steps for line in wrap(text, cells, _step_tone(text))]
    return [((f"{len(steps)} steps, in this order:", Tone.DIM),), *lines, (), (("what they run:", Tone.DIM),)]


def _preview_line(text: str, cells: int) -> list[Line]:
    """A step at the margin, what it runs set in; a step without a way back stands out."""
    bare = text.lstrip(" ")
    if bare == text:
        return wrap(text, cells, _step_tone(text))
    return wrap(bare, cells, Tone.NORMAL, indent=" " * (len(text) - len(bare)))


def _step_tone(text: str) -> Tone:
    return Tone.BAD if "CANNOT BE UNDONE" in text else Tone.STRONG


def _title(release: Release, kind: CommandKind) -> str:
    if kind is CommandKind.ROLLBACK:
        return "roll back: undo, newest first"
    phase = release.current if release.state is State.FAILED else release.next
    verb = "try again" if release.state is State.FAILED else "run"
    return f"{verb} {phase.name if phase else '?'}"


def _steps(release: Release, kind: CommandKind) -> list[tuple[str, bool]]:
    """Label and irreversibility of each step that would run or be undone."""
    pairs = list(zip(release.strategy.steps, release.statuses, strict=True))
    if kind is CommandKind.ROLLBACK:
        return [(f"undo: {spec.label}", False) for spec, status in reversed(pairs) if status.touched]
    phase = release.current if release.state is State.FAILED else release.next
    if phase is None:
        return []
    return [(spec.label, spec.irreversible) for spec in phase.steps if release.status(spec.name) is not StepStatus.DONE]

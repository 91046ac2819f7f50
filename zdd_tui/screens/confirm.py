"""The confirm dialog: exactly what will run, against what, and then yes or no."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from zdd_tui.board import Board, Moment
from zdd_tui.model.action import Action
from zdd_tui.model.release import CommandKind, Release, State, StepStatus
from zdd_tui.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.widgets.line import Line, Tone, wrap


@dataclass(frozen=True, slots=True)
class Answer:
    """What the operator decided; `typed` is the release's name where it was asked for."""

    yes: bool
    typed: str | None = None


class ConfirmScreen(ModalScreen[Answer], HasPage):
    """Enter says yes, Escape says no. Enter counts only once the dialog has been painted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "yes", "Yes", show=False, id="confirm.yes"),
        Binding("escape", "no", "No", show=False, id="confirm.no"),
    ]

    CSS = DIALOG_CSS.format(name="ConfirmScreen")

    def __init__(self, board: Board, moment: Moment, asked: Action) -> None:
        super().__init__()
        self._board, self._moment = board, moment
        self._kind = CommandKind(asked.id)
        self._expected = board.expected()
        record = board.release.value
        self._typed = record is not None and asks_for_name(record.release, self._kind)
        self._armed = False
        self._wrong = ""
        self._moved = False

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            if self._typed:
                yield Input(placeholder=f"type {self._board.plan.name} and press Enter")
            yield Keys()

    def on_mount(self) -> None:
        self.query_one(Input if self._typed else Page).focus()
        self._draw()
        self.call_after_refresh(self._arm)

    def _arm(self) -> None:
        self._armed = True

    def show(self, board: Board, moment: Moment) -> None:
        """The text stays as it was confirmed; only a release that moved meanwhile is told."""
        moved = board.expected() != self._expected
        if moved != self._moved:
            self._moved = moved
            self._draw()

    def _draw(self) -> None:
        self.query_one(Page).show(self._board, self._moment)
        self.query_one(Keys).show(self._board, self._moment)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return confirm_lines(board, self._kind, cells, self.query_one(Page).content_size.height)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        if self._moved:
            return wrap("✗ the release has moved since: press Esc and look again", cells, Tone.BAD)
        if self._typed:
            told: Line = (("type ", Tone.NORMAL), (board.plan.name, Tone.STRONG), (" and ", Tone.NORMAL))
            return [*wrap(self._wrong, cells, Tone.BAD), (*told, *_YES)] if self._wrong else [(*told, *_YES)]
        return [_YES]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_yes()

    def action_yes(self) -> None:
        if not self._armed or self._moved:
            return
        if not self._typed:
            self.dismiss(Answer(True))
            return
        typed = self.query_one(Input).value.strip()
        if typed == self._board.plan.name:
            self.dismiss(Answer(True, typed))
            return
        self._wrong = f"✗ “{typed}” is not the release’s name" if typed else "✗ the release’s name is missing"
        self._draw()

    def action_no(self) -> None:
        self.dismiss(Answer(False))


_YES: Line = (("Enter", Tone.KEY), (" yes, do it   ", Tone.NORMAL), ("Esc", Tone.KEY), (" no", Tone.NORMAL))


def asks_for_name(release: Release, kind: CommandKind) -> bool:
    """The step after this cannot be undone in the end."""
    return (
        kind is CommandKind.ADVANCE
        and release.state is State.WAITING
        and release.current is not None
        and release.current.typed_confirm
    )


def confirm_lines(board: Board, kind: CommandKind, cells: int, rows: int = 0) -> list[Line]:
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
    if asks_for_name(release, kind):
        lines += wrap(
            "✗ this phase ends with a step that cannot be undone: afterwards there is no way back", cells, Tone.BAD
        )
    lines.append(())
    preview = board.previews.get(kind, ())
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

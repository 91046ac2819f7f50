"""Unlocking production: the environment's name is typed, and for a while the dashboard may change something."""

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
from zdd_tui.model.duration import human_duration


class UnlockScreen(Acting[bool], ModalScreen[bool], HasPage):
    """True once the name was typed; False where the operator left it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Stay locked", show=False, id="unlock.leave"),
    ]

    CSS = DIALOG_CSS.format(name="UnlockScreen")

    def __init__(self, board: Board, moment: Moment) -> None:
        super().__init__()
        self._shown = (board, moment)
        self._wrong = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            line = Input(id="environment")
            line.border_title = Content("type the environment’s name")
            yield line
            yield Keys()

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._draw()

    def _draw(self) -> None:
        self.query_one(Page).show(*self._shown)
        self.query_one(Keys).show(*self._shown)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        plan = board.plan
        lasts = human_duration(moment.access.seconds)
        lines: list[Line] = [
            (("unlock ", Tone.STRONG), (f" ■ {plan.environment.upper()} ", Tone.ALARM)),
            ((plan.name, Tone.STRONG), (f"  {plan.target}", Tone.NORMAL)),
        ]
        for name, place in (("database", plan.database), ("cluster", plan.cluster), ("flags", plan.flags)):
            if place:
                lines += wrap(f"{name:<9} {place}", cells, Tone.DIM)
        told = (
            f"For {lasts} every key that changes the release works here. Then it locks by itself;"
            f" {moment.keys['lock']} locks it at once. It unlocks this screen only: the agent, the command line and"
            f" other dashboards are as before. {self.key_here('rollback')} rolls back without it, here too."
        )
        return [*lines, (), *wrap(told, cells)]

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        wrong = wrap(f"✗ {self._wrong}", cells, Tone.BAD) if self._wrong else []
        line: Line = (
            ("type ", Tone.NORMAL),
            (board.plan.environment, Tone.STRONG),
            (", ", Tone.NORMAL),
            ("Enter", Tone.KEY),
            (" unlock   ", Tone.NORMAL),
            ("Esc", Tone.KEY),
            (" stay locked", Tone.NORMAL),
        )
        return [*wrong, line]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        typed, wanted = event.value.strip(), outside(self._shown[0].plan.environment).strip()
        if typed.casefold() == wanted.casefold():
            self.dismiss(True)
            return
        self._wrong = f"“{typed}” is not the environment’s name" if typed else "the environment’s name is missing"
        self._draw()

    def action_leave(self) -> None:
        self.dismiss(False)

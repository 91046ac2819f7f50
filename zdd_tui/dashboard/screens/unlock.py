"""Unlocks production for a time, after the environment's name was typed."""

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
from zdd_tui.model.duration import format_duration


class UnlockScreen(ActionScreen[bool], ModalScreen[bool], HasPage):
    """True once the name was typed; False when cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", show=False, id="unlock.leave"),
    ]

    CSS = DIALOG_CSS.format(name="UnlockScreen")

    def __init__(self, board: DashboardState, context: RenderContext) -> None:
        super().__init__()
        self._last_shown = (board, context)
        self._error = ""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield PageView()
            line = Input(id="environment")
            line.border_title = Content("type the environment name")
            yield line
            yield KeyHints()

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._draw()

    def _draw(self) -> None:
        self.query_one(PageView).show(*self._last_shown)
        self.query_one(KeyHints).show(*self._last_shown)

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        plan = board.plan
        lasts = format_duration(context.production_lock.unlock_seconds)
        lines: list[Line] = [
            (("unlock ", TextStyle.STRONG), (f" ■ {plan.environment.upper()} ", TextStyle.ALARM)),
            ((plan.name, TextStyle.STRONG), (f"  {plan.target}", TextStyle.NORMAL)),
        ]
        for name, place in (("database", plan.database), ("cluster", plan.cluster), ("flags", plan.flags)):
            if place:
                lines += wrap(f"{name:<9} {place}", cells, TextStyle.DIM)
        text = (
            f"For {lasts}, keys that change the release work in this dashboard. It then locks automatically;"
            f" {context.key_names['lock']} locks it at once. The agent, the command line and other dashboards are not"
            f" affected. {self.key_label('rollback')} rolls back without an unlock, here too."
        )
        return [*lines, (), *wrap(text, cells)]

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        error = wrap(f"✗ {self._error}", cells, TextStyle.BAD) if self._error else []
        line: Line = (
            ("type ", TextStyle.NORMAL),
            (board.plan.environment, TextStyle.STRONG),
            (", ", TextStyle.NORMAL),
            ("Enter", TextStyle.KEY),
            (" unlock   ", TextStyle.NORMAL),
            ("Esc", TextStyle.KEY),
            (" cancel", TextStyle.NORMAL),
        )
        return [*error, line]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        typed, name = event.value.strip(), sanitize(self._last_shown[0].plan.environment).strip()
        if typed.casefold() == name.casefold():
            self.dismiss(True)
            return
        self._error = f"“{typed}” is not the environment name" if typed else "the environment name is missing"
        self._draw()

    def action_leave(self) -> None:
        self.dismiss(False)

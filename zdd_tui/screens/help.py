"""Help: every key from the one registry, and what the signs mean."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from zdd_tui.board import Board, Moment
from zdd_tui.model.action import ACTIONS, Danger
from zdd_tui.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.widgets.footer import KEY_NAMES
from zdd_tui.widgets.line import Line, Tone, wrap

_SIGNS = (
    ("✔ pass, done", "✗ fail, failed, overdue", "~ inconclusive, estimated"),
    ("? unknown: no data, or older than its limit",),
    ("▶ running", "◆ waiting", "‖ paused", "◀ rolling back", "◁ undone", "○ not begun"),
    ("● Serving", "◐ Warming", "○ Starting", "▽ Draining", "▼ Stopping", "· Gone"),
    ("◇ Warm: ready, without traffic", "▁▂▅█ guard: full is the limit, or above"),
)


class HelpScreen(ModalScreen[None], HasPage):
    """A page to read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False, id="help.close"),
    ]

    CSS = DIALOG_CSS.format(name="HelpScreen")

    def __init__(self, board: Board, moment: Moment, *, read_only: bool = False) -> None:
        super().__init__()
        self._shown = (board, moment)
        self._read_only = read_only

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            yield Keys()

    def on_mount(self) -> None:
        page = self.query_one(Page)
        page.focus()
        page.show(*self._shown)
        self.query_one(Keys).show(*self._shown)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return help_lines(cells, read_only=self._read_only)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [(("↑ ↓", Tone.KEY), (" scroll   ", Tone.NORMAL), ("Esc", Tone.KEY), (" close", Tone.NORMAL))]


def help_lines(cells: int, *, read_only: bool = False) -> list[Line]:
    lines: list[Line] = [(("keys", Tone.DIM),)]
    for action in ACTIONS:
        if action.mutating and read_only:
            continue
        asks = {Danger.PLAIN: "", Danger.CONFIRM: " Asks first.", Danger.TYPE_NAME: " Asks for the release’s name."}
        key = KEY_NAMES.get(action.key, action.key)
        text = wrap(f"{action.help}{asks[action.danger]}", cells - 14)
        lines.append(((f"{key:>2} ", Tone.KEY), (f"{action.label:<10} ", Tone.STRONG), *text[0]))
        lines += [((" " * 14, Tone.NORMAL), *rest) for rest in text[1:]]
    lines.append((("Tab to reach a pane, arrows and pages to scroll it.", Tone.NORMAL),))
    lines += [(), (("signs", Tone.DIM),)]
    lines += [line for row in _SIGNS for line in wrap("   ".join(row), cells)]
    told = "The release is carried out by the agent: closing this screen, or losing it, stops nothing."
    return [*lines, (), *wrap(told, cells)]

"""The palette: any action by some letters of its name, its key, and why it is not possible now."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.fuzzy import Matcher
from textual.screen import ModalScreen
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import ActAsked, Acting
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.bars.footer import offered, why_not_now
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, cut, fit, width, wrap
from zdd_tui.model.actions import Action


@dataclass(frozen=True, slots=True)
class Entry:
    """One action in the palette.

    Attributes:
        why_not: why it would be refused now; empty when it would be taken.
    """

    action: Action
    why_not: str = ""


class PaletteScreen(Acting[None], ModalScreen[None], HasPage):
    """Type, pick with the arrows, run with Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close", show=False, id="palette.close"),
        Binding("up", "move(-1)", "The one above", show=False, id="palette.up"),
        Binding("down", "move(1)", "The one below", show=False, id="palette.down"),
    ]

    CSS = DIALOG_CSS.format(name="PaletteScreen")

    def __init__(self, board: Board, moment: Moment) -> None:
        super().__init__()
        self._last = (board, moment)
        self._found: tuple[Entry, ...] = entries(board, moment)
        self._at = 0

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Input(placeholder="some letters of an action")
            yield Page()
            yield Keys()

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self.show(*self._last)

    def show(self, board: Board, moment: Moment) -> None:
        """Follows the board: what is possible changes while the palette is open; the pick stays on its action."""
        self._last = (board, moment)
        picked = self._found[self._at].action.id if self._found else ""
        self._found = matching(entries(board, moment), self.query_one(Input).value)
        self._at = next((at for at, each in enumerate(self._found) if each.action.id == picked), 0)
        self._draw()

    def _draw(self) -> None:
        self.query_one(Page).show(*self._last)
        self.query_one(Keys).show(*self._last)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._found, self._at = matching(entries(*self._last), event.value), 0
        self.query_one(Page).scroll_home(animate=False)
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._found:
            picked = self._found[self._at].action.id
            self.dismiss(None)
            self.app.post_message(ActAsked(picked))

    def action_move(self, by: int) -> None:
        if self._found:
            self._at = min(max(0, self._at + by), len(self._found) - 1)
            page = self.query_one(Page)
            first, rows = int(page.scroll_offset.y), page.content_size.height
            if not first <= self._at < first + rows:
                page.scroll_to(y=self._at if by < 0 else self._at - rows + 1, animate=False)
            self._draw()

    def action_leave(self) -> None:
        self.dismiss(None)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        if not self._found:
            return [(("nothing is called that", Tone.DIM),)]
        return [_line(each, moment, cells, picked=at == self._at) for at, each in enumerate(self._found)]

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        hints = [("↑ ↓", "pick"), ("Enter", "run"), ("Esc", "close"), (self.key_here("rollback"), "rolls back at once")]
        line = tuple(part for key, told in hints if key for part in ((key, Tone.KEY), (f" {told}   ", Tone.NORMAL)))
        return [*(_in_full(self._found[self._at], cells) if self._found else []), line]


def _in_full(entry: Entry, cells: int) -> list[Line]:
    """What one line above had no room for; at most so many lines as a dialog's footer has room for beside its keys."""
    told = f"✗ {entry.why_not}" if entry.why_not else entry.action.help
    return wrap(told, cells, Tone.WARN if entry.why_not else Tone.DIM)[:3]


def entries(board: Board, moment: Moment) -> tuple[Entry, ...]:
    """Every action that exists for the operator now, in the registry's order."""
    return tuple(
        Entry(each, why_not_now(board, moment, each)) for each in offered(board, moment) if each.id != "palette"
    )


def matching(among: tuple[Entry, ...], query: str) -> tuple[Entry, ...]:
    """Those whose name or help has the letters in this order, the best first; all of them for an empty query."""
    if not query.strip():
        return among
    matcher = Matcher(query.strip())
    scored = [
        (
            max(
                2 * matcher.match(each.action.label), 2 * matcher.match(each.action.id), matcher.match(each.action.help)
            ),
            each,
        )
        for each in among
    ]
    return tuple(each for score, each in sorted(scored, key=lambda pair: -pair[0]) if score > 0)


def _line(entry: Entry, moment: Moment, cells: int, *, picked: bool) -> Line:
    """``▸ a  advance   Run the next phase``; what is not possible says why instead of what it is for."""
    each = entry.action
    key = moment.keys.get(each.id, "")
    head: Line = (
        ("▸ " if picked else "  ", Tone.KEY),
        (fit(key, 8), Tone.KEY),
        (fit(each.label, 12), Tone.STRONG if not entry.why_not else Tone.DIM),
    )
    told = f"✗ {entry.why_not}" if entry.why_not else each.help
    return clip((*head, (cut(told, cells - width(head)), Tone.WARN if entry.why_not else Tone.NORMAL)), cells)

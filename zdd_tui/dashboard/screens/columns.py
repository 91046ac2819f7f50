"""The choice of a table's columns: Space shows or hides one, Enter keeps the choice."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.dialog import Dialog, PageView, key_hints_line
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip
from zdd_tui.dashboard.widgets.panes.table import ChoosableColumn


class ColumnScreen(Dialog[frozenset[str]]):
    """Returns the keys of the hidden columns; None when cancelled.

    Args:
        table: the table's name.
        columns: all of them, in order.
        hidden: keys of those that are hidden now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Previous column", show=False, id="columns.up"),
        Binding("down,j", "move(1)", "Next column", show=False, id="columns.down"),
        Binding("space", "toggle_column", "Show or hide the column", show=False, id="columns.toggle"),
        Binding("a", "all", "Show all columns", show=False, id="columns.all"),
        Binding("enter", "keep", "Keep the choice", show=False, id="columns.keep"),
        Binding("escape,q", "dismiss", "Cancel", show=False, id="columns.cancel"),
    ]

    def __init__(
        self,
        board: DashboardState,
        context: RenderContext,
        table: str,
        columns: Sequence[ChoosableColumn],
        hidden: frozenset[str],
    ) -> None:
        super().__init__(board, context)
        self._table, self._columns = table, columns
        self._hidden = set(hidden)
        self._selected = 0

    def on_mount(self) -> None:
        super().on_mount()
        self.set_focus(None)  # the page's own keys would take arrows and Space

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        head: Line = ((f"columns of {self._table}", TextStyle.STRONG),)
        return [clip(head, cells), (), *(clip(self._line(at), cells) for at in range(len(self._columns)))]

    def _line(self, at: int) -> Line:
        column = self._columns[at]
        mark: Line = (("▸ " if at == self._selected else "  ", TextStyle.KEY),)
        if column.is_fixed:
            return (*mark, ("[x] ", TextStyle.DIM), (f"{column.title}  always shown", TextStyle.DIM))
        is_hidden = column.key in self._hidden
        box = ("[ ] ", TextStyle.NORMAL) if is_hidden else ("[x] ", TextStyle.STRONG)
        room: Line = () if is_hidden or column.has_room else (("  no room in the table now", TextStyle.DIM),)
        return (*mark, box, (column.title, TextStyle.NORMAL), *room)

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        keys = (("↑ ↓", "select"), ("Space", "show or hide"), ("a", "all"), ("Enter", "keep"), ("Esc", "cancel"))
        return [key_hints_line(keys)]

    def action_move(self, by: int) -> None:
        self._selected = min(max(0, self._selected + by), len(self._columns) - 1)
        page = self.query_one(PageView)
        first, rows, line = int(page.scroll_offset.y), page.content_size.height, self._selected + 2
        if not first <= line < first + rows:
            page.scroll_to(y=line if by < 0 else line - rows + 1, animate=False)
        self._draw()

    def action_toggle_column(self) -> None:
        column = self._columns[self._selected]
        if not column.is_fixed:
            self._hidden ^= {column.key}
            self._draw()

    def action_all(self) -> None:
        self._hidden.clear()
        self._draw()

    def action_keep(self) -> None:
        self.dismiss(frozenset(self._hidden))

"""A pane that shows a table: rows under titles, with a cursor, sorting and a filter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from zdd_tui.dashboard.column_choice import ColumnChoice
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import LazyLines, Line, TextStyle, dim, truncate, wrap
from zdd_tui.dashboard.widgets.panes.columns import (
    FittedColumns,
    PaneColumn,
    column_at,
    filter_texts,
    fit_columns,
    row_line,
    searchable_columns,
    sortable_columns,
    title_line,
)
from zdd_tui.dashboard.widgets.panes.filter import Filter, FilterInput, FilterLine
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowSelected, pane_bindings, unread_source_lines
from zdd_tui.dashboard.widgets.panes.rows import RowStore

R = TypeVar("R")
C = TypeVar("C")

_CURSOR_STYLE = Style(reverse=True)
_MARGIN_CELLS = 2
"""Cells at the sides of a row: the left one holds the cursor's mark."""


@dataclass(frozen=True, slots=True)
class ChoosableColumn:
    """A column of which the operator may choose whether it is shown.

    Attributes:
        is_fixed: it is always shown.
        has_room: the table is wide enough for it; unknown, and True, where it is hidden.
    """

    key: str
    title: str
    is_fixed: bool
    has_room: bool


class ColumnsRequested(Message):
    """The operator wants to choose the columns of a table."""

    def __init__(self, table: "TablePane[Any, Any]") -> None:
        super().__init__()
        self.table = table


class TablePane(Pane, Generic[R, C]):
    """A table of one source.

    A subclass provides the rows in their default order, and the columns. Only visible rows are drawn, and of those
    only changed cells are painted. The cursor is visible while the pane has the focus; see
    :class:`zdd_tui.dashboard.widgets.panes.rows.RowStore` for its position when rows move.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*pane_bindings("table")]

    DEFAULT_CSS = """
    TablePane { padding: 0; }
    TablePane:focus-within { border: heavy $secondary; }
    TablePane.-stale { border: dashed $warning; }
    """

    titles_from_height: ClassVar[int] = 4
    """Height of the content from which the titles are shown."""

    shows_error: ClassVar[bool] = False
    """An error is shown above the last known values; that of the release is not, because the summary shows it."""

    fixed_columns: ClassVar[frozenset[str]] = frozenset()
    """Keys of columns that cannot be hidden: without them a row would not say what it is, or hide what is wrong."""

    is_final_at_end: ClassVar[bool] = False
    """The rows are not updated after the end of the release."""

    def __init__(self) -> None:
        super().__init__()
        self._store: RowStore[R] = RowStore(self.identity)
        self._header_lines: Sequence[Line] = ()
        self._fitted: FittedColumns[R, C] = ()
        self._columns: Sequence[PaneColumn[R, C]] = ()
        self.hidden_columns: frozenset[str] = frozenset()
        """Keys of the columns that the operator has hidden; they still sort and filter."""
        self._fitted_without: frozenset[str] = frozenset()
        self._cached_title: tuple[FittedColumns[R, C], tuple[str, bool], Line] | None = None
        self._drawn_width = 0
        self._sort, self._is_descending = "", False
        self._filter = FilterLine()
        self._filter_input: FilterInput | None = None
        self._filter_cache: tuple[Filter, dict[str, tuple[R, bool]]] = (self._filter.filter, {})
        self._has_titles = False
        self._focused = False
        self._drawn_with: tuple[object, ...] = ()
        self._lines_of_rows: dict[tuple[str, int], tuple[R, Line]] = {}
        self._painted_rows: dict[int, tuple[Line, bool]] = {}

    def on_mount(self) -> None:
        choice = getattr(self.app, "column_choice", None)
        if isinstance(choice, ColumnChoice):
            self.hidden_columns = choice.hidden(self.pane_name)

    # --- provided by a subclass --------------------------------------------------------------------------------------

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[R]:
        """All rows in their default order; called only when the source has a value.

        A row that has not changed should be the same object as before.
        """
        raise NotImplementedError

    def columns(self, board: DashboardState, rows: Sequence[R], cells: int) -> Sequence[PaneColumn[R, C]]:
        raise NotImplementedError

    def cell_context(self, board: DashboardState, context: RenderContext) -> C:
        """The second argument of the columns' functions, such as the time."""
        raise NotImplementedError

    def identity(self, row: R) -> str:
        """A key that stays the same while the row changes."""
        raise NotImplementedError

    def labels(self, row: R) -> Mapping[str, str]:
        """Labels that a filter can compare."""
        return {}

    def row_value(self, row: R) -> object:
        """The value that :class:`RowSelected` carries."""
        return row

    def notes(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        """Lines above the titles."""
        return []

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        record = board.release.value
        is_final = self.is_final_at_end and record is not None and record.release.state.has_ended
        return is_final or super().is_uncertain(board, context)

    def is_row_old(self, row: R, cell_context: C) -> bool:
        """This row may be out of date, and is dimmed."""
        return False

    def update_scroll(self) -> None:
        """Called before a table without the focus is drawn; it may scroll to a row."""

    def empty_line(self, board: DashboardState) -> Line:
        """Shown where there are no rows."""
        return (("nothing", TextStyle.DIM),)

    def has_room_for_titles(self, rows: int, lines: int) -> bool:
        """Whether titles are shown.

        Args:
            rows: number of rows.
            lines: lines available for titles and rows.
        """
        return lines >= 2 and self.content_size.height >= self.titles_from_height

    def second_line(self, row: R, cell_context: C, cells: int) -> Line:
        """The second line of a row, where rows have two."""
        return ()

    @property
    def lines_per_row(self) -> int:
        return 1

    # --- drawing -----------------------------------------------------------------------------------------------------

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        source, room = self.source(board), cells - _MARGIN_CELLS
        uncertain = self.is_uncertain(board, context)
        if source.value is None:
            self._store.update(())
            self._has_titles = False
            self._header_lines = unread_source_lines(board, source, room)
            return LazyLines(self._header_lines, 0, self._header_lines.__getitem__)
        rows, cell_context = self.rows(board, context), self.cell_context(board, context)
        columns = self.columns(board, rows, room)
        hidden = self.hidden_columns - self.fixed_columns
        if columns is not self._columns or room != self._drawn_width or hidden != self._fitted_without:
            self._columns, self._drawn_width, self._fitted_without = columns, room, hidden
            visible = [column for column in columns if column.key not in hidden]
            self._fitted = fit_columns(visible or columns, room)
        notes = self.notes(board, context, room)
        notes = [dim(line) for line in notes] if uncertain else notes
        self._update_store(rows)
        header_lines = self._build_header(source.error if self.shows_error else "", notes, len(rows), room)
        if not self._store.shown:
            nothing = (("no row matches", TextStyle.WARN),) if rows else self.empty_line(board)
            header_lines.append(dim(nothing) if uncertain else nothing)
        self._header_lines = header_lines
        each = self.lines_per_row
        self._store.resize((self.content_size.height - len(self._header_lines)) // each)
        if self._focused:
            self._store.move_cursor(self._store.cursor_index)  # visible, and on the first row where there was none
        else:
            self.update_scroll()
        shown, fitted = self._store.shown, self._fitted
        current = board.current_sources(context.now)
        drawn = self._cached_lines_for(
            (int(context.now), current, uncertain, each, room, [(one.key, wide) for one, wide in fitted])
        )

        def make(at: int) -> Line:
            row, second = shown[at // each], at % each
            name = (self.identity(row), second)
            known = drawn.get(name)
            if known is not None and known[0] is row:
                return known[1]
            line = self.second_line(row, cell_context, room) if second else row_line(fitted, row, cell_context)
            line = dim(line) if uncertain or self.is_row_old(row, cell_context) else line
            drawn[name] = row, line
            return line

        return LazyLines(self._header_lines, len(shown) * each, make)

    def _cached_lines_for(self, drawn_with: tuple[object, ...]) -> dict[tuple[str, int], tuple[R, Line]]:
        """Lines of rows drawn with the same inputs in the same second; emptied when an input has changed."""
        if drawn_with != self._drawn_with:
            self._drawn_with, self._lines_of_rows = drawn_with, {}
        return self._lines_of_rows

    def _update_store(self, rows: Sequence[R]) -> None:
        """Gives the rows to the store, with the current filter and order."""
        column = next((one for one in self._columns if one.key == self._sort), None)
        key = column.sort_key if column is not None else None
        row_filter = self._filter.filter
        before = self._filter_cache[1] if self._filter_cache[0] is row_filter else {}
        results: dict[str, tuple[R, bool]] = {}
        self._filter_cache = row_filter, results

        def keep(row: R) -> bool:
            """An unchanged row is not matched again."""
            name = self.identity(row)
            known = before.get(name)
            if known is None or known[0] is not row:
                known = row, row_filter.matches(filter_texts(self._columns, row), self.labels(row))
            results[name] = known
            return known[1]

        self._store.update(rows, keep=keep if row_filter.terms else None, key=key, reverse=self._is_descending)

    def _build_header(self, error: str, notes: list[Line], total: int, cells: int) -> list[Line]:
        """Filter, error, notes and titles, which do not scroll. At least one row stays visible below."""
        header_lines: list[Line] = []
        if self._filter.is_visible:
            header_lines.append(self._filter.render(len(self._store.shown), self._store.total, cells))
            if self._filter_input is not None:
                self._filter_input.styles.width = self._filter.text_cells
        height = self.content_size.height
        # The last known values stay visible below one or two lines of the error; the details show all of it.
        if error:
            has_room = total + 3 <= height
            one_line: Line = ((truncate(f"✗ {error}", cells), TextStyle.BAD),)
            header_lines += wrap(f"✗ {error}", cells, TextStyle.BAD)[:2] if has_room else [one_line]
        header_lines += notes
        self._has_titles = self.has_room_for_titles(total, height - len(header_lines))
        if self._has_titles:
            header_lines.append(self._title_line())
        return header_lines[: max(1, height - 1)]

    def _title_line(self) -> Line:
        form = self._sort, self._is_descending
        if self._cached_title is None or self._cached_title[0] is not self._fitted or self._cached_title[1] != form:
            self._cached_title = self._fitted, form, title_line(self._fitted, self._sort, down=self._is_descending)
        return self._cached_title[2]

    def set_lines(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._paint_changes()

    def _paint_changes(self) -> None:
        """Paints the lines that differ from those on screen."""
        size, painted = self.content_size, self._painted_rows
        for y in range(size.height):
            line, cursor = self._line_at(y)
            before = painted.get(y)
            if before is None or before[1] != cursor:
                self.request_paint(Region(0, y, size.width, 1))
            elif before[0] is not line:
                self.refresh_changed(_with_margin(before[0]), _with_margin(line), y)
        self._update_position()

    def _line_at(self, y: int) -> tuple[Line, bool]:
        """The line at a row of the content, and whether the cursor is on it."""
        header_lines, each = len(self._header_lines), self.lines_per_row
        at = y if y < header_lines else y + self._store.first_visible * each
        line: Line = self._lines[at] if at < len(self._lines) else ()
        return line, self._focused and y >= header_lines and (
            at - header_lines
        ) // each == self._store.cursor_index and bool(line)

    def render_strip(self, y: int) -> Strip:
        line, cursor = self._line_at(y)
        self._painted_rows[y] = line, cursor
        marked = cursor and (y - len(self._header_lines)) % self.lines_per_row == 0
        strip = self.to_strip(_with_margin(line, has_cursor=marked))
        return strip.apply_style(_CURSOR_STYLE) if cursor else strip

    def position_text(self) -> str:
        store = self._store
        parts = []
        is_title_visible = self._has_titles and any(column.key == self._sort for column, _ in self._fitted)
        if self._sort and not is_title_visible:
            parts.append(f"{'▼' if self._is_descending else '▲'}{self._sort}")
        if len(store.shown) > store.visible_rows:
            last = min(len(store.shown), store.first_visible + store.visible_rows)
            parts.append(f"{store.first_visible + 1}-{last} of {len(store.shown)} ↕")
        return " ".join(parts)

    def on_resize(self) -> None:
        self._painted_rows.clear()
        self.redraw()

    # --- cursor ------------------------------------------------------------------------------------------------------

    @property
    def selected_row(self) -> R | None:
        """The row under the cursor."""
        return self._store.selected_row

    def on_focus(self) -> None:
        self._focused = True
        self._store.focus_cursor()
        self.redraw()

    def on_blur(self) -> None:
        self._focused = self.has_focus_within
        self.redraw()

    def on_descendant_blur(self) -> None:
        """The filter's field has lost the focus."""
        self._close_filter_input()
        self.on_blur()

    def text_under_cursor(self) -> str:
        line, _ = self._line_at(
            len(self._header_lines) + (self._store.cursor_index - self._store.first_visible) * self.lines_per_row
        )
        return "".join(text for text, _ in line).rstrip() if self._focused and self._store.cursor_index >= 0 else ""

    def _ensure_cursor(self) -> None:
        """A key typed ahead arrives before the focus event; it needs the cursor too."""
        if self._store.cursor_index < 0:
            self._store.focus_cursor()

    def _move_cursor(self, rows: int) -> None:
        self._ensure_cursor()
        self._store.move_cursor(self._store.cursor_index + rows)
        self._paint_changes()

    def action_scroll_up(self) -> None:
        self._move_cursor(-1)

    def action_scroll_down(self) -> None:
        self._move_cursor(1)

    def action_page_up(self) -> None:
        self._move_cursor(-self._store.visible_rows)

    def action_page_down(self) -> None:
        self._move_cursor(self._store.visible_rows)

    def action_scroll_home(self) -> None:
        self._move_cursor(-len(self._store.shown))

    def action_scroll_end(self) -> None:
        self._move_cursor(len(self._store.shown))

    def action_open(self) -> None:
        self._ensure_cursor()
        row = self._store.selected_row
        if row is not None:
            self.post_message(RowSelected(self.pane_name, self.identity(row), self.row_value(row)))

    def on_click(self, event: events.Click) -> None:
        """Selects a row; a second click opens it. A click on a title sorts."""
        offset = event.get_content_offset(self)
        if offset is None:
            return  # on the frame: Textual calls the handler of `Pane` too
        if offset.y < len(self._header_lines):
            if self._has_titles and offset.y == len(self._header_lines) - 1:
                self._sort_by_column_at(offset.x - 1)  # the left margin
            return
        before = self._store.cursor_identity
        self._move_cursor(
            self._store.first_visible
            + (offset.y - len(self._header_lines)) // self.lines_per_row
            - self._store.cursor_index
        )
        if event.chain > 1 and self._store.cursor_identity == before:
            self.action_open()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._scroll_rows(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._scroll_rows(-3)

    def _scroll_rows(self, rows: int) -> None:
        """Scrolls; the cursor moves only to stay visible."""
        store = self._store
        store.scroll(rows)
        if self._focused:
            store.move_cursor(
                min(max(store.cursor_index, store.first_visible), store.first_visible + store.visible_rows - 1)
            )
        self._paint_changes()

    # --- order and filter --------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """Sorts by the next column; after the last one, in the table's default order."""
        keys = ["", *sortable_columns(self._columns)]
        place = keys.index(self._sort) if self._sort in keys else 0
        self._sort, self._is_descending = keys[(place + 1) % len(keys)], False
        self.redraw()

    def choosable_columns(self) -> list[ChoosableColumn]:
        """Every column that has a title, in order."""
        with_room = {column.key for column, _ in self._fitted} | self.hidden_columns
        return [
            ChoosableColumn(column.key, column.title, column.key in self.fixed_columns, column.key in with_room)
            for column in self._columns
            if column.title
        ]

    def action_columns(self) -> None:
        self.post_message(ColumnsRequested(self))

    def hide_columns(self, keys: frozenset[str]) -> None:
        self.hidden_columns = keys
        self.redraw()

    def _sort_by_column_at(self, cell: int) -> None:
        """Sorts by a column; if it is sorted by it: downwards, then in the table's default order."""
        column = column_at(self._fitted, cell)
        if column is None or column.sort_key is None:
            return
        if self._sort != column.key:
            self._sort, self._is_descending = column.key, False
        elif not self._is_descending:
            self._is_descending = True
        else:
            self._sort, self._is_descending = "", False
        self.redraw()

    def action_reverse(self) -> None:
        self._is_descending = not self._is_descending
        self.redraw()

    @property
    def is_container(self) -> bool:
        """Textual lays the children of a scroll view out only where it calls itself a container."""
        return self._filter_input is not None

    def action_filter(self) -> None:
        self._filter.start_typing()
        if self._filter_input is None:
            self._filter_input = FilterInput()
            self.mount(self._filter_input)
        self._filter_input.open(self._filter.filter.text)
        self.redraw()

    def _close_filter_input(self) -> None:
        """Hides the field, keeps the filter, and takes the focus back from the field."""
        self._filter.stop_typing()
        if self._filter_input is not None and self._filter_input.display:
            if self._filter_input.has_focus:
                self.screen.set_focus(self)
            self._filter_input.display = False

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._filter.typed is not None:
            self._filter.set_text(event.value, searchable_columns(self._columns))
            self.redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close_filter_input()
        self.redraw()

    def action_back(self) -> None:
        if self._filter.is_visible:
            self._close_filter_input()
            self._filter.clear()
            self.redraw()
        else:
            super().action_back()


def _with_margin(line: Line, *, has_cursor: bool = False) -> Line:
    """A line with a left margin, which holds the cursor's mark."""
    return (("▸", TextStyle.KEY) if has_cursor else (" ", TextStyle.NORMAL), *line)

"""A pane that shows a table: rows under titles, with a cursor, sorting and a filter."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region
from textual.strip import Strip

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Rows, Tone, cut, dimmed, wrap
from zdd_tui.dashboard.widgets.panes.columns import (
    Column,
    Fitted,
    cells_of,
    fit_columns,
    row_line,
    searchable,
    sortable,
    title_line,
)
from zdd_tui.dashboard.widgets.panes.filter import Filter, FilterLine
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowChosen, bindings_in
from zdd_tui.dashboard.widgets.panes.rows import RowStore

R = TypeVar("R")
C = TypeVar("C")

_CURSOR = Style(reverse=True)
_MARGINS = 2
"""Cells at the sides of a row: the left one holds the cursor's mark."""


class TablePane(Pane, Generic[R, C]):
    """A table of one source.

    A subclass says what the rows are, in their own order, and what the columns are. Only rows in sight are made, and
    of those only changed cells are painted. The cursor is there while the pane has the focus; see
    :class:`zdd_tui.dashboard.widgets.panes.rows.RowStore` for what it does when rows move.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_in("table")]

    DEFAULT_CSS = """
    TablePane { padding: 0; }
    """

    titles_from: ClassVar[int] = 4
    """Rows from which on there is room for the titles."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._store: RowStore[R] = RowStore(self.identity)
        self._heads: Sequence[Line] = ()
        self._fitted: Fitted[R, C] = ()
        self._columns: Sequence[Column[R, C]] = ()
        self._title: tuple[Fitted[R, C], tuple[str, bool], Line] | None = None
        self._room = 0
        self._sort, self._down = "", False
        self._filter = FilterLine()
        self._kept: tuple[Filter, dict[str, tuple[R, bool]]] = (self._filter.filter, {})
        self._titled = False
        self._focused = False
        self._form: tuple[object, ...] = ()
        self._lines_of_rows: dict[tuple[str, int], tuple[R, Line]] = {}
        self._painted_rows: dict[int, tuple[Line, bool]] = {}

    # --- what a subclass says ------------------------------------------------------------------------------------

    def rows(self, board: Board, moment: Moment) -> Sequence[R]:
        """All rows in their own order; called only when the source has a value.

        A row that has not changed should be the very same object.
        """
        raise NotImplementedError

    def columns(self, board: Board, rows: Sequence[R], cells: int) -> Sequence[Column[R, C]]:
        raise NotImplementedError

    def context(self, board: Board, moment: Moment) -> C:
        """What cells need besides their row."""
        raise NotImplementedError

    def identity(self, row: R) -> str:
        """What stays the same while the row changes."""
        raise NotImplementedError

    def labels(self, row: R) -> Mapping[str, str]:
        """For filters."""
        return {}

    def value(self, row: R) -> object:
        """The row for whoever opens it."""
        return row

    def notes(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        """Lines above the titles."""
        return []

    def doubtful(self, board: Board, moment: Moment) -> bool:
        """What is shown may be so no longer, and is greyed."""
        source = self.source(board)
        return bool(source.error) or source.stale(moment.now, self.limit)

    def nothing(self, board: Board) -> Line:
        """In place of rows, where there are none."""
        return (("nothing", Tone.DIM),)

    def room_for_titles(self, rows: int, lines: int) -> bool:
        """Whether titles are shown above so many rows, in so many lines for both."""
        return lines >= 2 and self.content_size.height >= self.titles_from

    def under(self, row: R, context: C, cells: int) -> Line:
        """The second line of a row, where rows have two."""
        return ()

    @property
    def lines_a_row(self) -> int:
        return 1

    # --- drawing -------------------------------------------------------------------------------------------------

    def lines(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        source, room = self.source(board), cells - _MARGINS
        doubtful = self.doubtful(board, moment)
        if source.value is None:
            self._store.update(())
            self._titled = False
            self._heads = wrap(f"✗ {source.error}", room, Tone.BAD) if source.error else [(("… connecting", Tone.DIM),)]
            return Rows(self._heads, 0, self._heads.__getitem__)
        rows, context = self.rows(board, moment), self.context(board, moment)
        columns = self.columns(board, rows, room)
        if columns is not self._columns or room != self._room:
            self._columns, self._room = columns, room
            self._fitted = fit_columns(columns, room)
        notes = self.notes(board, moment, room)
        notes = [dimmed(line) for line in notes] if doubtful else notes
        self._take(rows)
        heads = self._top_lines(source.error if self.tells_error else "", notes, len(rows), room)
        if not self._store.shown:
            heads.append((("no row matches", Tone.WARN),) if rows else self.nothing(board))
        self._heads = heads
        each = self.lines_a_row
        self._store.resize((self.content_size.height - len(self._heads)) // each)
        if self._focused:
            self._store.point(self._store.at)  # in sight, and on the first row where it had none
        shown, fitted = self._store.shown, self._fitted
        drawn = self._drawn_as((int(moment.now), doubtful, each, room, [(one.key, wide) for one, wide in fitted]))

        def make(at: int) -> Line:
            row, second = shown[at // each], at % each
            name = (self.identity(row), second)
            known = drawn.get(name)
            if known is not None and known[0] is row:
                return known[1]
            line = self.under(row, context, room) if second else row_line(fitted, row, context)
            line = dimmed(line) if doubtful else line
            drawn[name] = row, line
            return line

        return Rows(self._heads, len(shown) * each, make)

    def _drawn_as(self, form: tuple[object, ...]) -> dict[tuple[str, int], tuple[R, Line]]:
        """Lines of rows that were drawn in the same form, within the same second; none where it has changed."""
        if form != self._form:
            self._form, self._lines_of_rows = form, {}
        return self._lines_of_rows

    def _take(self, rows: Sequence[R]) -> None:
        """Hands the rows to the store, through the filter and in the order that are in force."""
        column = next((one for one in self._columns if one.key == self._sort), None)
        key = column.sort_by if column is not None else None
        wanted, before = self._filter.filter, self._kept[1] if self._kept[0] is self._filter.filter else {}
        kept: dict[str, tuple[R, bool]] = {}
        self._kept = wanted, kept

        def keep(row: R) -> bool:
            """A row that is the same as before is not asked again."""
            name = self.identity(row)
            known = before.get(name)
            if known is None or known[0] is not row:
                known = row, wanted.keeps(cells_of(self._columns, row), self.labels(row))
            kept[name] = known
            return known[1]

        self._store.update(rows, keep=keep if wanted.terms else None, key=key, reverse=self._down)

    def _top_lines(self, error: str, notes: list[Line], total: int, cells: int) -> list[Line]:
        """Filter, error, notes, titles: what does not scroll. One row at least stays in sight below."""
        heads: list[Line] = []
        if self._filter.there:
            heads.append(self._filter.line(len(self._store.shown), self._store.total, cells))
        height = self.content_size.height
        # A line or two of an error are enough: the last known values stay in sight, and the details show all of it.
        if error:
            heads += wrap(f"✗ {error}", cells, Tone.BAD)[:2] if total + 3 <= height else [_one_line(error, cells)]
        heads += notes
        self._titled = self.room_for_titles(total, height - len(heads))
        if self._titled:
            heads.append(self._title_line())
        return heads[: max(1, height - 1)]

    def _title_line(self) -> Line:
        form = self._sort, self._down
        if self._title is None or self._title[0] is not self._fitted or self._title[1] != form:
            self._title = self._fitted, form, title_line(self._fitted, self._sort, down=self._down)
        return self._title[2]

    def set_lines(self, lines: Sequence[Line]) -> None:
        self._lines = lines
        self._paint()

    def _paint(self) -> None:
        """Whatever differs from what is on the screen."""
        size, painted = self.content_size, self._painted_rows
        for y in range(size.height):
            line, cursor = self._line_at(y)
            before = painted.get(y)
            if before is None or before[1] != cursor:
                self.touch(Region(0, y, size.width, 1))
            elif before[0] is not line:
                self.refresh_changed(_in_margin(before[0]), _in_margin(line), y)
        self._set_more()

    def _line_at(self, y: int) -> tuple[Line, bool]:
        """The line at a place on the screen, and whether the cursor is on it."""
        heads, each = len(self._heads), self.lines_a_row
        at = y if y < heads else y + self._store.top * each
        line: Line = self._lines[at] if at < len(self._lines) else ()
        return line, self._focused and y >= heads and (at - heads) // each == self._store.at and bool(line)

    def strip_at(self, y: int) -> Strip:
        line, cursor = self._line_at(y)
        self._painted_rows[y] = line, cursor
        marked = cursor and (y - len(self._heads)) % self.lines_a_row == 0
        strip = self.strip_of(_in_margin(line, marked=marked))
        return strip.apply_style(_CURSOR) if cursor else strip

    def more(self) -> str:
        store = self._store
        parts = []
        if self._sort and not self._titled:
            parts.append(f"{'▼' if self._down else '▲'}{self._sort}")
        if len(store.shown) > store.room:
            last = min(len(store.shown), store.top + store.room)
            parts.append(f"{store.top + 1}-{last} of {len(store.shown)} ↕")
        return " ".join(parts)

    def on_resize(self) -> None:
        self._painted_rows.clear()
        self.redraw()

    # --- cursor --------------------------------------------------------------------------------------------------

    @property
    def chosen(self) -> R | None:
        """The row that the cursor is on."""
        return self._store.row

    def on_focus(self) -> None:
        self._focused = True
        self._store.enter()
        self.redraw()

    def on_blur(self) -> None:
        self._focused = False
        self._filter.leave()
        self.redraw()

    def under_cursor(self) -> str:
        line, _ = self._line_at(len(self._heads) + (self._store.at - self._store.top) * self.lines_a_row)
        return "".join(text for text, _ in line).rstrip() if self._focused and self._store.at >= 0 else ""

    def _arrive(self) -> None:
        """A key that was typed ahead comes before the news of the focus, and finds the cursor all the same."""
        if self._store.at < 0:
            self._store.enter()

    def _move(self, rows: int) -> None:
        self._arrive()
        self._store.point(self._store.at + rows)
        self._paint()

    def action_line_up(self) -> None:
        self._move(-1)

    def action_line_down(self) -> None:
        self._move(1)

    def action_pane_up(self) -> None:
        self._move(-self._store.room)

    def action_pane_down(self) -> None:
        self._move(self._store.room)

    def action_first_line(self) -> None:
        self._move(-len(self._store.shown))

    def action_last_line(self) -> None:
        self._move(len(self._store.shown))

    def action_open(self) -> None:
        self._arrive()
        row = self._store.row
        if row is not None:
            self.post_message(RowChosen(self.name_of_pane, self.identity(row), self.value(row)))

    def on_click(self, event: events.Click) -> None:
        """Points at a row; once more opens it."""
        place = event.get_content_offset(self)
        if place is None or place.y < len(self._heads):
            return
        before = self._store.cursor
        self._move(self._store.top + (place.y - len(self._heads)) // self.lines_a_row - self._store.at)
        if event.chain > 1 and self._store.cursor == before:
            self.action_open()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._roll(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._roll(-3)

    def _roll(self, rows: int) -> None:
        """Moves what is in sight, and the cursor no further than it must."""
        store = self._store
        store.scroll(rows)
        if self._focused:
            store.point(min(max(store.at, store.top), store.top + store.room - 1))
        self._paint()

    # --- order and filter ----------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """The next column, and behind the last one the table's own order."""
        keys = ["", *sortable(self._columns)]
        place = keys.index(self._sort) if self._sort in keys else 0
        self._sort, self._down = keys[(place + 1) % len(keys)], False
        self.redraw()

    def action_reverse(self) -> None:
        self._down = not self._down
        self.redraw()

    def action_filter(self) -> None:
        self._filter.begin()
        self.redraw()

    def action_back(self) -> None:
        if self._filter.filter.text:
            self._filter.clear()
            self.redraw()
        else:
            super().action_back()

    @property
    def typing(self) -> bool:
        """A filter is being typed: letters are text."""
        return self._filter.typed is not None

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return self.typing and character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """While a filter is typed, the keys that edit it; any other does what it always does."""
        if self._filter.key(event.key, event.character, searchable(self._columns)):
            event.stop()
            event.prevent_default()
            self.redraw()

    def on_paste(self, event: events.Paste) -> None:
        if self._filter.typed is not None:
            event.stop()
            self._filter.write(self._filter.typed + " ".join(event.text.split()), searchable(self._columns))
            self.redraw()


def _in_margin(line: Line, *, marked: bool = False) -> Line:
    """A line behind the margin in which the cursor has its mark."""
    return (("▸", Tone.KEY) if marked else (" ", Tone.NORMAL), *line)


def _one_line(error: str, cells: int) -> Line:
    return ((cut(f"✗ {error}", cells), Tone.BAD),)

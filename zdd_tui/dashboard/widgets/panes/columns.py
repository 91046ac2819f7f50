"""Columns of a table: which of them fit, how wide they are, and how a row is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Span,
    TextStyle,
    fit,
    line_width,
    truncate,
    truncate_middle,
    truncate_start,
)

R = TypeVar("R")
"""A row's value."""
C = TypeVar("C")
"""What the functions of a column get besides the row, such as the time."""


@dataclass(frozen=True, slots=True)
class PaneColumn(Generic[R, C]):
    """One column.

    Attributes:
        key: its name in filters and for sorting.
        text: text of a row's cell.
        width: minimum width in cells.
        max_width: width where there is room; 0 for `width`.
        weight: share of the room beyond the minimum widths, where there is not enough for every column.
        drop_order: in a narrow table the column with the highest value goes first; one with 0 stays.
        keep_end: a text that does not fit is cut at its start, because its end tells rows apart.
        keep_ends: it is cut in its middle.
        style: style of a row's cell.
        find: text that a filter searches, without glyphs and relative times; None: not searchable.
        sort: sort key, None last; `find` where it is not given.
        draw: draws the cell in a width, instead of `text` and `style`.
        group_label: text and style that replace the cell and the next `group_span` columns of a row; None: nothing.
    """

    key: str
    title: str
    text: Callable[[R, C], str]
    width: int
    max_width: int = 0
    drop_order: int = 0
    align_right: bool = False
    keep_end: bool = False
    keep_ends: bool = False
    style: Callable[[R, C], TextStyle] = lambda _row, _context: TextStyle.NORMAL
    find: Callable[[R], str] | None = None
    sort: Callable[[R], Any] | None = None
    draw: Callable[[R, C, int], Line] | None = None
    group_label: Callable[[R, C], Span | None] | None = None
    group_span: int = 0
    weight: int = 1

    @property
    def sort_key(self) -> Callable[[R], Any] | None:
        return self.sort or self.find


def dim_style(_row: object, _context: object) -> TextStyle:
    return TextStyle.DIM


FittedColumns = Sequence[tuple[PaneColumn[R, C], int]]
"""The visible columns with their widths in cells."""


def fit_columns(columns: Sequence[PaneColumn[R, C]], cells: int) -> list[tuple[PaneColumn[R, C], int]]:
    """The columns that fit a width: columns are dropped until the rest fits, then the rest grows by weight."""
    kept = list(columns)
    while (spare := cells - sum(column.width for column in kept) - len(kept) + 1) < 0:
        dropped = max((column for column in kept if column.drop_order), key=lambda one: one.drop_order, default=None)
        if dropped is None:
            break
        kept.remove(dropped)
    widths = {column.key: column.width for column in kept}
    while growing := [column for column in kept if widths[column.key] < column.max_width]:
        total, left = sum(column.weight for column in growing), spare
        for column in growing:
            extra = min(spare * column.weight // total, column.max_width - widths[column.key])
            widths[column.key] += extra
            left -= extra
        if left == spare:  # too little to share
            break
        spare = left
    for column in sorted(kept, key=lambda one: -one.weight):
        extra = max(0, min(spare, column.max_width - widths[column.key]))
        widths[column.key] += extra
        spare -= extra
    return [(column, widths[column.key]) for column in kept]


def title_line(fitted: FittedColumns[R, C], sorted_by: str = "", *, down: bool = False) -> Line:
    """The titles; the sorted column has ▲ or ▼."""
    spans: list[Span] = []
    for number, (column, cells) in enumerate(fitted):
        sorts = column.key == sorted_by
        arrow = ("▼" if down else "▲") if sorts else ""
        text = _cut_title(column.title, cells - len(arrow)) + arrow  # the arrow matters more than the title
        style = TextStyle.STRONG if sorts else TextStyle.DIM
        spans += [(" ", TextStyle.DIM)] if number else []
        spans.append((fit(text, cells, right=column.align_right), style))
    return tuple(spans)


def _cut_title(title: str, cells: int) -> str:
    """A title without its last words, where it does not fit; a single word is cut."""
    words = title.split(" ")
    while len(words) > 1 and len(" ".join(words)) > cells:
        words.pop()
    return " ".join(words)[:cells]


def column_at(fitted: FittedColumns[R, C], cell: int) -> PaneColumn[R, C] | None:
    """The column at a cell of the title line; the gap after a column belongs to it."""
    end = 0
    for column, cells in fitted:
        end += cells + 1
        if cell < end:
            return column
    return None


def row_line(fitted: FittedColumns[R, C], row: R, cell_context: C) -> Line:
    """One row. Each cell is a span of its own, so that a changed cell can be painted alone."""
    spans: list[Span] = []
    number = 0
    while number < len(fitted):
        column, cells = fitted[number]
        number += 1
        if spans:
            spans.append((" ", TextStyle.NORMAL))
        label = column.group_label(row, cell_context) if column.group_label else None
        if label is not None:
            covered = min(column.group_span, len(fitted) - number)
            cells += sum(1 + fitted[at][1] for at in range(number, number + covered))
            number += covered
            spans.append((_fit_label(label[0], cells), label[1]))
        elif column.draw is not None:
            drawn = column.draw(row, cell_context, cells)
            blank = (" " * (cells - line_width(drawn)), TextStyle.NORMAL)
            spans += [blank, *drawn] if column.align_right else [*drawn, blank]
        else:
            text = column.text(row, cell_context)
            text = truncate_start(text, cells) if column.keep_end else text
            text = truncate_middle(text, cells) if column.keep_ends else text
            spans.append((fit(text, cells, right=column.align_right), column.style(row, cell_context)))
    return tuple(spans)


def _fit_label(text: str, cells: int) -> str:
    """A label in a width; a count at its end, such as ``×600``, is never cut: another number would be shown."""
    head, sign, count = text.rpartition("×")
    if sign and cell_len(text) > cells:
        return fit(truncate(head, cells - len(count) - 1) + sign + count, cells)
    return fit(text, cells)


def filter_texts(columns: Sequence[PaneColumn[R, C]], row: R) -> dict[str, str]:
    """The row's text in each searchable column, by the column's key."""
    return {column.key: column.find(row) for column in columns if column.find is not None}


def searchable_columns(columns: Sequence[PaneColumn[R, C]]) -> list[str]:
    return [column.key for column in columns if column.find is not None]


def sortable_columns(columns: Sequence[PaneColumn[R, C]]) -> list[str]:
    return [column.key for column in columns if column.sort_key is not None]

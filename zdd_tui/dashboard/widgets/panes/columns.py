"""Columns of a table: which of them fit, how wide they are, and how a row is drawn with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, fit, line_width, truncate_start

R = TypeVar("R")
"""A row's value."""
C = TypeVar("C")
"""What cells need besides their row, such as the time."""


@dataclass(frozen=True, slots=True)
class PaneColumn(Generic[R, C]):
    """One column.

    Attributes:
        key: what it is called in a filter and for sorting.
        text: what its cells say.
        width: cells that it needs at least.
        max_width: cells that it takes where there is room; 0 for no more than `width`.
        drop_order: where it is narrow, the column with the highest goes first; one with 0 stays.
        keep_end: what does not fit is cut at its start, because the end tells rows apart.
        style: of its cells.
        find: what a filter sees, without glyphs and without what changes with time; None: nothing.
        sort: what it is sorted by, None last; `find` where it is not given.
        draw: draws the cell in so many cells, in place of `text` and `tone`.
        group_label: text in place of the cell and of the next `covers` columns, for rows where something is wrong.
    """

    key: str
    title: str
    text: Callable[[R, C], str]
    width: int
    max_width: int = 0
    drop_order: int = 0
    align_right: bool = False
    keep_end: bool = False
    style: Callable[[R, C], TextStyle] = lambda _row, _context: TextStyle.NORMAL
    find: Callable[[R], str] | None = None
    sort: Callable[[R], Any] | None = None
    draw: Callable[[R, C, int], Line] | None = None
    group_label: Callable[[R, C], Span | None] | None = None
    group_span: int = 0

    @property
    def sort_key(self) -> Callable[[R], Any] | None:
        return self.sort or self.find


FittedColumns = Sequence[tuple[PaneColumn[R, C], int]]
"""Columns that are in sight, with their widths."""


def fit_columns(columns: Sequence[PaneColumn[R, C]], cells: int) -> list[tuple[PaneColumn[R, C], int]]:
    """The columns for a width: those that give way go until the rest fits, then the rest grows from left to right."""
    kept = list(columns)
    while (spare := cells - sum(column.width for column in kept) - len(kept) + 1) < 0:
        least = max((column for column in kept if column.drop_order), key=lambda one: one.drop_order, default=None)
        if least is None:
            break
        kept.remove(least)
    fitted = []
    for column in kept:
        extra = max(0, min(spare, column.max_width - column.width))
        spare -= extra
        fitted.append((column, column.width + extra))
    return fitted


def title_line(fitted: FittedColumns[R, C], sorted_by: str = "", *, down: bool = False) -> Line:
    """The titles; that of the column by which the table is sorted has ▲ or ▼."""
    spans: list[Span] = []
    for number, (column, cells) in enumerate(fitted):
        sorts = column.key == sorted_by
        text = f"{column.title}{'▼' if down else '▲'}" if sorts else column.title
        if cell_len(text) > cells:
            text = text[-cells:] if sorts else text[:cells]  # the mark matters more than the title
        style = TextStyle.STRONG if sorts else TextStyle.DIM
        spans += [(" ", TextStyle.DIM)] if number else []
        spans.append((fit(text, cells, right=column.align_right), style))
    return tuple(spans)


def row_line(fitted: FittedColumns[R, C], row: R, cell_context: C) -> Line:
    """One row. Each cell is a span of its own, so that a changed cell is found and painted alone."""
    spans: list[Span] = []
    number = 0
    while number < len(fitted):
        column, cells = fitted[number]
        number += 1
        if spans:
            spans.append((" ", TextStyle.NORMAL))
        over = column.group_label(row, cell_context) if column.group_label else None
        if over is not None:
            covered = _group_width(fitted, number, column.group_span)
            cells += sum(1 + fitted[at][1] for at in range(number, number + covered))
            number += covered
            spans.append((fit(over[0], cells), over[1]))
        elif column.draw is not None:
            drawn = column.draw(row, cell_context, cells)
            blank = (" " * (cells - line_width(drawn)), TextStyle.NORMAL)
            spans += [blank, *drawn] if column.align_right else [*drawn, blank]
        else:
            text = column.text(row, cell_context)
            text = truncate_start(text, cells) if column.keep_end else text
            spans.append((fit(text, cells, right=column.align_right), column.style(row, cell_context)))
    return tuple(spans)


def _group_width(fitted: FittedColumns[R, C], first: int, covers: int) -> int:
    return max(0, min(covers, len(fitted) - first))


def filter_texts(columns: Sequence[PaneColumn[R, C]], row: R) -> dict[str, str]:
    """What a filter sees of a row."""
    return {column.key: column.find(row) for column in columns if column.find is not None}


def searchable_columns(columns: Sequence[PaneColumn[R, C]]) -> list[str]:
    return [column.key for column in columns if column.find is not None]


def sortable_columns(columns: Sequence[PaneColumn[R, C]]) -> list[str]:
    return [column.key for column in columns if column.sort_key is not None]

"""Columns of a table: which of them fit, how wide they are, and how a row is drawn with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, Span, Tone, cut_start, fit, width

R = TypeVar("R")
"""A row's value."""
C = TypeVar("C")
"""What cells need besides their row, such as the time."""


@dataclass(frozen=True, slots=True)
class Column(Generic[R, C]):
    """One column.

    Attributes:
        key: what it is called in a filter and for sorting.
        text: what its cells say.
        width: cells that it needs at least.
        most: cells that it takes where there is room; 0 for no more than `width`.
        gives_way: where it is narrow, the column with the highest goes first; one with 0 stays.
        tail: what does not fit is cut at its start, because the end tells rows apart.
        tone: of its cells.
        find: what a filter sees, without glyphs and without what changes with time; None: nothing.
        sort: what it is sorted by, None last; `find` where it is not given.
        draw: draws the cell in so many cells, in place of `text` and `tone`.
        over: text in place of the cell and of the next `covers` columns, for rows where something is wrong.
    """

    key: str
    title: str
    text: Callable[[R, C], str]
    width: int
    most: int = 0
    gives_way: int = 0
    right: bool = False
    tail: bool = False
    tone: Callable[[R, C], Tone] = lambda _row, _context: Tone.NORMAL
    find: Callable[[R], str] | None = None
    sort: Callable[[R], Any] | None = None
    draw: Callable[[R, C, int], Line] | None = None
    over: Callable[[R, C], Span | None] | None = None
    covers: int = 0

    @property
    def sort_by(self) -> Callable[[R], Any] | None:
        return self.sort or self.find


Fitted = Sequence[tuple[Column[R, C], int]]
"""Columns that are in sight, with their widths."""


def fit_columns(columns: Sequence[Column[R, C]], cells: int) -> list[tuple[Column[R, C], int]]:
    """The columns for a width: those that give way go until the rest fits, then the rest grows from left to right."""
    kept = list(columns)
    while (spare := cells - sum(column.width for column in kept) - len(kept) + 1) < 0:
        least = max((column for column in kept if column.gives_way), key=lambda one: one.gives_way, default=None)
        if least is None:
            break
        kept.remove(least)
    fitted = []
    for column in kept:
        extra = max(0, min(spare, column.most - column.width))
        spare -= extra
        fitted.append((column, column.width + extra))
    return fitted


def title_line(fitted: Fitted[R, C], sorted_by: str = "", *, down: bool = False) -> Line:
    """The titles; that of the column by which the table is sorted has ▲ or ▼."""
    spans: list[Span] = []
    for number, (column, cells) in enumerate(fitted):
        sorts = column.key == sorted_by
        text = f"{column.title}{'▼' if down else '▲'}" if sorts else column.title
        if cell_len(text) > cells:
            text = text[-cells:] if sorts else text[:cells]  # the mark matters more than the title
        tone = Tone.STRONG if sorts else Tone.DIM
        spans += [(" ", Tone.DIM)] if number else []
        spans.append((fit(text, cells, right=column.right), tone))
    return tuple(spans)


def row_line(fitted: Fitted[R, C], row: R, context: C) -> Line:
    """One row. Each cell is a span of its own, so that a changed cell is found and painted alone."""
    spans: list[Span] = []
    number = 0
    while number < len(fitted):
        column, cells = fitted[number]
        number += 1
        if spans:
            spans.append((" ", Tone.NORMAL))
        over = column.over(row, context) if column.over else None
        if over is not None:
            covered = _covered(fitted, number, column.covers)
            cells += sum(1 + fitted[at][1] for at in range(number, number + covered))
            number += covered
            spans.append((fit(over[0], cells), over[1]))
        elif column.draw is not None:
            drawn = column.draw(row, context, cells)
            blank = (" " * (cells - width(drawn)), Tone.NORMAL)
            spans += [blank, *drawn] if column.right else [*drawn, blank]
        else:
            text = column.text(row, context)
            text = cut_start(text, cells) if column.tail else text
            spans.append((fit(text, cells, right=column.right), column.tone(row, context)))
    return tuple(spans)


def _covered(fitted: Fitted[R, C], first: int, covers: int) -> int:
    return max(0, min(covers, len(fitted) - first))


def cells_of(columns: Sequence[Column[R, C]], row: R) -> dict[str, str]:
    """What a filter sees of a row."""
    return {column.key: column.find(row) for column in columns if column.find is not None}


def searchable(columns: Sequence[Column[R, C]]) -> list[str]:
    return [column.key for column in columns if column.find is not None]


def sortable(columns: Sequence[Column[R, C]]) -> list[str]:
    return [column.key for column in columns if column.sort_by is not None]

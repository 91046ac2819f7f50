"""Lines of styled text, which every widget draws.

Text is never parsed as markup, and :func:`sanitize` removes control characters that come from outside.
"""

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import overload

from rich.cells import cell_len, chop_cells, set_cell_size

from zdd_tui.model.plan_name import name_plan
from zdd_tui.model.release.claims import FRESH_SECONDS, is_current


class TextStyle(StrEnum):
    """How a piece of text looks. It only repeats what glyph and word already show."""

    NORMAL = "normal"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    RUNNING = "running"
    ALARM = "alarm"
    KEY = "key"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    MATCH = "match"


Span = tuple[str, TextStyle]
Line = tuple[Span, ...]


class LazyLines(Sequence[Line]):
    """Lines that are made when they are read: of thousands of pods only some dozens are visible.

    Args:
        head: the first lines.
        count: number of lines after the head.
        make: makes the line at an index, counted after the head.
    """

    def __init__(self, head: Sequence[Line], count: int, make: Callable[[int], Line]) -> None:
        self._head = head
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return len(self._head) + self._count

    @overload
    def __getitem__(self, at: int) -> Line: ...
    @overload
    def __getitem__(self, at: slice) -> list[Line]: ...
    def __getitem__(self, at: int | slice) -> Line | list[Line]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self._head[at] if at < len(self._head) else self._make(at - len(self._head))


def dim(line: Line) -> Line:
    """The line in the style of outdated values."""
    return tuple((text, TextStyle.DIM) for text, _ in line)


_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def sanitize(text: str) -> str:
    """Text from outside, safe to draw: white space becomes blanks, control and format characters are removed."""
    if text.isprintable():
        return text
    return "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char) not in _DROPPED_CATEGORIES
    )


def line_width(line: Line) -> int:
    """Width of a line in cells."""
    return sum(cell_len(text) for text, _ in line)


def truncate(text: str, cells: int) -> str:
    """At most so many cells; an ellipsis marks a truncated end."""
    text = sanitize(text)
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + "…" if cells > 0 else ""


def truncate_start(text: str, cells: int) -> str:
    """Like :func:`truncate`, but keeps the end, where names of pods differ."""
    text = sanitize(text)
    if cell_len(text) <= cells:
        return text
    while text and cell_len(text) > cells - 1:
        text = text[1:]
    return "…" + text if cells > 0 else ""


def truncate_middle(text: str, cells: int) -> str:
    """Like :func:`truncate`, but keeps both ends: names with a common beginning stay different."""
    text = sanitize(text)
    if cell_len(text) <= cells or cells < 3:
        return truncate(text, cells)
    end = truncate_start(text, (cells - 1) // 2 + 1)  # with its ellipsis
    return set_cell_size(text, cells - cell_len(end)).rstrip() + end


def fit(text: str, cells: int, *, right: bool = False) -> str:
    """Truncates or pads a text to exactly so many cells."""
    text = truncate(text, cells)
    blank = " " * (cells - cell_len(text))
    return blank + text if right else text + blank


_plan_file: ContextVar[str] = ContextVar("plan_file", default="")


@contextmanager
def naming_plan(plan_file: str) -> Iterator[None]:
    """In the block, commands in texts have the plan's file for ``PLAN``; none where it is not known."""
    token = _plan_file.set(plan_file)
    try:
        yield
    finally:
        _plan_file.reset(token)


def with_plan_file(text: str) -> str:
    """A text with the plan's file in its commands; :func:`wrap` does it by itself."""
    return name_plan(text, _plan_file.get())


def wrap(text: str, cells: int, style: TextStyle = TextStyle.NORMAL, *, indent: str = "") -> list[Line]:
    """Wraps a text into lines. Line breaks in the text are kept."""
    lines: list[Line] = []
    for part in with_plan_file(text).splitlines() or [""]:
        # Names of pods and images are not broken at hyphens.
        width = max(8, cells - len(indent))
        pieces = textwrap.wrap(sanitize(part), width, break_long_words=True, break_on_hyphens=False) or [""]
        # Characters were counted; wide ones take two cells.
        chopped = (chop_cells(piece, width) if cell_len(piece) > width else [piece] for piece in pieces)
        lines.extend(((indent + piece, style),) for parts in chopped for piece in parts)
    return lines


def hang(head: Line, lines: Sequence[Line]) -> list[Line]:
    """Lines beside a head: it is before the first one, the others are aligned with the first."""
    first, *rest = lines
    blank = (" " * line_width(head), TextStyle.NORMAL)
    return [(*head, *first), *((blank, *line) for line in rest)]


def error_lines(error: str, hint: str, cells: int, style: TextStyle = TextStyle.BAD, *, indent: str = "") -> list[Line]:
    """An error and its hint; nothing for those that are empty."""
    lines = wrap(f"✗ {error}", cells, style, indent=indent) if error else []
    return lines + (wrap(f"→ Fix: {hint}", cells, TextStyle.STRONG, indent=indent) if hint else [])


_CLAUSE_END = re.compile(r"[,;:](?= )")


def truncate_to_clauses(text: str, cells: int) -> str:
    """The text, or as many of its first clauses as fit, with an ellipsis: ``Quit the dashboard; …``."""
    if cell_len(text) <= cells:
        return text
    ends = [found.end() for found in _CLAUSE_END.finditer(text) if cell_len(text[: found.end()]) + 2 <= cells]
    return f"{text[: ends[-1]]} …" if ends else truncate(text, cells)


def clip(line: Line, cells: int) -> Line:
    """Truncates a line to a width."""
    if line_width(line) <= cells:
        return line
    clipped: list[Span] = []
    for text, style in line:
        left = cells - sum(cell_len(piece) for piece, _ in clipped)
        if cell_len(text) > left - 1:
            clipped.append((truncate(text if cell_len(text) > left else text + "…", left), style))
            break
        clipped.append((text, style))
    return tuple(clipped)


def contains(line: Line, query: str) -> bool:
    """Whether a line contains a text, ignoring case."""
    return query.casefold() in sanitize("".join(text for text, _ in line)).casefold()


def highlight_matches(line: Line, query: str) -> Line:
    """The line with every match highlighted. A match that spans two styles is not."""
    if not query or not contains(line, query):
        return line
    wanted = re.compile(re.escape(query), re.IGNORECASE)
    spans: list[Span] = []
    for text, style in line:
        at = 0
        for hit in wanted.finditer(text):
            spans += [(text[at : hit.start()], style), (hit[0], TextStyle.MATCH)]
            at = hit.end()
        spans.append((text[at:], style))
    return tuple(span for span in spans if span[0])


def find_changed_span(before: Line, after: Line) -> tuple[int, int]:
    """First and past-the-last cell in which two lines differ."""
    start = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        start += cell_len(old[0])
    stop = max(line_width(before), line_width(after))
    if line_width(before) == line_width(after):
        for old, new in zip(reversed(before), reversed(after), strict=False):
            if old != new:
                break
            stop -= cell_len(old[0])
    return start, max(start, stop)


_MAX_GAP = 8
"""Cells: sending fewer unchanged ones costs fewer bytes than moving the cursor."""


def find_changed_spans(before: Line, after: Line) -> list[tuple[int, int]]:
    """Like :func:`find_changed_span`, but several spans if columns far from each other have changed."""
    if len(before) != len(after) or any(
        cell_len(old[0]) != cell_len(new[0]) for old, new in zip(before, after, strict=True)
    ):
        start, stop = find_changed_span(before, after)
        return [(start, stop)] if start < stop else []
    runs: list[tuple[int, int]] = []
    at = 0
    for old, new in zip(before, after, strict=True):
        start, at = at, at + cell_len(new[0])
        if old == new:
            continue
        if runs and start - runs[-1][1] < _MAX_GAP:
            runs[-1] = (runs[-1][0], at)
        else:
            runs.append((start, at))
    return runs


def justify(left: Line, right: Line, cells: int) -> Line:
    """Two lines in one, the second at the right edge; the first is truncated if necessary."""
    width = cells - line_width(right)
    left = clip(left, max(0, width - 1) if line_width(right) else width)
    return (*left, (" " * max(0, width - line_width(left)), TextStyle.NORMAL), *right)


def join(lines: Iterable[Line], between: Span) -> Line:
    """Concatenates lines with a separator."""
    joined: list[Span] = []
    for line in lines:
        if joined:
            joined.append(between)
        joined.extend(line)
    return tuple(joined)


def format_count(number: float) -> str:
    """``756``, ``41k``, ``1.2M``: at most three significant digits."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            scaled = number / limit
            return f"{scaled:.1f}{unit}".replace(".0", "") if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{number:.0f}"


def format_source_age(seconds: float, *, stale: bool = False) -> str:
    """The age of a source, at least ``1s``: one that is read each second would alternate between 0s and 1s.

    Args:
        stale: adds ``STALE``.
    """
    return f"{'STALE ' if stale else ''}{format_age(max(1.0, seconds))}"


def format_data_age(seconds: float) -> str:
    """The age of what a verdict rests on; while it counts as current its upper bound, which does not change."""
    return f"<{FRESH_SECONDS:.0f}s" if is_current(seconds) else format_age(seconds)


def format_age(seconds: float) -> str:
    """``0s``, ``42s``, ``12m``, ``5h``, ``3d``: one unit, so that it changes rarely."""
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= limit:
            return f"{int(seconds // limit)}{unit}"
    return f"{int(max(0.0, seconds))}s"

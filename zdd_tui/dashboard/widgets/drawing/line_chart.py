"""Values over time as lines: the new version in braille dots, the old one as beads, the limit as a dashed line.

The lines differ by glyph, so that they are told apart without colour. A gap in the data stays a gap.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, fit, format_age, justify

NEW_GLYPH, OLD_GLYPH, LIMIT_GLYPH = "⠒", "○", "╍"
"""How a legend names the lines."""

NEW_STYLE, OLD_STYLE = TextStyle.RUNNING, TextStyle.NORMAL

_BEAD_COLUMNS = 3
"""A bead of the old version in every such column: where both versions have one value, both are visible."""

_CELL_SECONDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 180, 240, 300, 400, 480,
                 600, 800, 1000, 1200, 1500, 1800, 2400, 3000, 3600)  # fmt: skip
"""Seconds of one column of cells, in small steps: the time axis does not double at once. Columns begin at multiples of
it, so that a chart moves by whole columns."""

_HEADROOM = 1.05
"""The scale ends this far above the highest value."""

_SCALE_CELLS = 6
"""Least width of a scale, so that charts of one width have one time axis, whatever their values."""

_LIMIT_SHARE = 4
"""A limit above so many times the highest value is out of the picture: it would press the lines to the ground."""

_BLANK_BRAILLE = "\u2800"

TimedValue = tuple[float, float | None]
"""Time in seconds, and the value; None where there was none."""


@dataclass(frozen=True, slots=True)
class ChartLines:
    """The lines of one chart; points are sorted by time.

    Attributes:
        limit: the highest allowed value; None for none. It is drawn where it is not far above the values.
        max_gap: seconds between two points from which they are not connected.
    """

    new: Sequence[TimedValue]
    old: Sequence[TimedValue] = ()
    limit: float | None = None
    max_gap: float = math.inf


def draw_line_chart(
    lines: ChartLines,
    now: float,
    cells: int,
    rows: int,
    show: Callable[[float], str],
    end_label: str = "now",
    since: float = math.inf,
) -> list[Line]:
    """A chart that ends now, with its scale at the left and its time axis below.

    Args:
        now: by the clock of the points.
        end_label: what the end of the time axis is.
        cells: width.
        rows: height, the time axis included.
        show: formats a value for the scale.
        since: the first value of the charts beside it, which have the same time axis; none by default.
    """
    known = [(at, value) for at, value in (*lines.new, *lines.old) if value is not None and at <= now]
    if not known:
        return [(("no value yet", TextStyle.DIM),)]
    highest = max(value for _, value in known)
    limit = lines.limit
    if limit is not None and not 0 < highest * _LIMIT_SHARE < limit:
        highest = max(highest, limit)
    else:
        limit = None
    top = highest if highest > 0 else 1.0
    height = max(1, rows - 1)
    # In the lowest row it would be drawn on the line of 0.
    at_limit = None if limit is None else min(height - 1, int(limit / (top * _HEADROOM) * height)) or None
    scale = {height - 1: show(highest) if highest > 0 else "", 0: "0"}
    if limit is not None and at_limit is not None:
        scale[at_limit] = show(limit)
    scale_width = max(_SCALE_CELLS - 1, *(cell_len(label) for label in scale.values()))
    width = max(1, cells - scale_width - 1)
    seconds = _column_seconds(now - min(since, *(at for at, _ in known)), max(2, cells - _SCALE_CELLS))
    end = (math.floor(now / seconds) + 1) * seconds
    box = _Box(end - width * seconds, end, width, height, top * _HEADROOM)
    grid = box.draw(lines.new, lines.max_gap)
    beads = box.bead_cells(lines.old, lines.max_gap, first_column=round(box.start / seconds))
    drawn: list[Line] = []
    for row in reversed(range(height)):
        style = TextStyle.WARN if row == at_limit else TextStyle.DIM
        spans: list[Span] = [(f"{fit(scale.get(row, ''), scale_width, right=True)}┤", style)]
        for column in range(width):
            glyph, glyph_style = _cell(grid[row][column], (column, row) in beads, on_limit=row == at_limit)
            if spans[-1][1] is glyph_style and len(spans) > 1:
                spans[-1] = (spans[-1][0] + glyph, glyph_style)
            else:
                spans.append((glyph, glyph_style))
        drawn.append(tuple(spans))
    left = ((" " * (scale_width + 1) + f"-{format_age(width * seconds)}", TextStyle.DIM),)
    return [*drawn, justify(left, ((end_label, TextStyle.DIM),), cells)]


def _cell(dots: str, is_bead: bool, *, on_limit: bool) -> Span:
    if is_bead:
        return OLD_GLYPH, OLD_STYLE
    if dots != _BLANK_BRAILLE:
        return dots, NEW_STYLE
    return (LIMIT_GLYPH, TextStyle.WARN) if on_limit else (" ", TextStyle.NORMAL)


def _column_seconds(seconds: float, width: int) -> int:
    """Seconds of one column, so that the whole time fits into the width, or the newest part of it."""
    return next((each for each in _CELL_SECONDS if seconds < each * (width - 1)), _CELL_SECONDS[-1])


@dataclass(frozen=True, slots=True)
class _Box:
    """Where values are drawn: times from `start` to `end`, values from 0 to `top`, in cells."""

    start: float
    end: float
    width: int
    height: int
    top: float

    def draw(self, points: Sequence[TimedValue], max_gap: float) -> list[str]:
        """Rows of braille, the lowest first."""
        from plotille import Canvas  # noqa: PLC0415  # with the first chart, long after the first paint

        canvas = Canvas(self.width, self.height, self.start, 0.0, self.end, self.top)
        for first, second in _segments(points, self.start, max_gap):
            canvas.line(first[0], max(0.0, first[1]), second[0], max(0.0, second[1]))
        return str(canvas.plot(linesep="\n")).split("\n")[::-1]

    def bead_cells(self, points: Sequence[TimedValue], max_gap: float, *, first_column: int) -> set[tuple[int, int]]:
        """Column and row of each bead: in every third column, and where a part of the line begins or ends.

        Args:
            first_column: number of the first column since the epoch: beads move along with the values.
        """
        rows = self.draw(points, max_gap) if points else []
        filled = [
            {row for row, text in enumerate(rows) if text[column] != _BLANK_BRAILLE} for column in range(self.width)
        ]
        return {
            (column, row)
            for column, cells in enumerate(filled)
            if (first_column + column) % _BEAD_COLUMNS == 0
            or column in (0, self.width - 1)
            or not (filled[column - 1] and filled[column + 1])
            for row in cells
        }


def _segments(
    points: Sequence[TimedValue], start: float, max_gap: float
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Pairs of points to connect; a point without neighbours is connected with itself."""
    connected_to: float | None = None
    visible = [(at, value) for at, value in points if at >= start]
    for (at, value), (next_at, next_value) in pairwise([*visible, (math.inf, None)]):
        if value is None:
            continue
        if next_value is not None and next_at - at <= max_gap:
            yield (at, value), (next_at, next_value)
            connected_to = next_at
        elif connected_to != at:
            yield (at, value), (at, value)

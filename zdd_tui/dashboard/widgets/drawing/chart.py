"""A series as bars of several lines, beside a scale and the limit."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, fit

_PARTS = "▁▂▃▄▅▆▇█"
"""Eighths of a line, from below."""


def draw_chart(
    series: Sequence[float | None], limit: float | None, cells: int, rows: int, show: Callable[[float], str]
) -> list[Line]:
    """Bars from nothing to the limit, or to the highest where one is higher.

    Args:
        series: oldest first; None where there was no value, which is a dot on the ground line.
        rows: lines of the bars, two or more.
        show: a value as people read it, for the scale.
    """
    values = [value for value in series if value is not None]
    top = max([*values, limit or 0.0], default=0.0)
    if not values or top <= 0:
        return [(("no value but nothing yet" if values else "no value yet", TextStyle.DIM),)]
    at_limit = None if limit is None else min(rows - 1, max(0, int(limit / top * rows + 0.5) - 1))
    scale = {rows - 1: show(top), 0: "0"}
    if limit is not None and at_limit is not None:
        scale[at_limit] = show(limit)
    names = max(cell_len(name) for name in scale.values())
    room = cells - names - 2
    each = 2 if 2 * len(series) <= room else 1
    shown = series[-(room // each) :] if room >= each else ()
    lines: list[Line] = []
    for row in reversed(range(rows)):
        style = TextStyle.WARN if row == at_limit else TextStyle.DIM
        bars = [_bar_cell(value, limit, row, rows, top, on_limit=row == at_limit) for value in shown]
        spans: list[Span] = [(f"{fit(scale.get(row, ''), names, right=True)} ", style), ("┤", style)]
        spans += [(sign * each, colour) for sign, colour in bars]
        if row == at_limit:
            spans.append(("─" * (room - each * len(shown)), TextStyle.WARN))
        lines.append(tuple(spans))
    return lines


def _bar_cell(value: float | None, limit: float | None, row: int, rows: int, top: float, *, on_limit: bool) -> Span:
    """What of one bar is in one line."""
    empty: Span = ("─", TextStyle.WARN) if on_limit else (" ", TextStyle.NORMAL)
    if value is None:
        return ("·", TextStyle.DIM) if row == 0 else empty
    eighths = max(1, round(min(max(value, 0.0), top) / top * rows * 8)) - 8 * row
    if eighths <= 0:
        return empty
    style = TextStyle.BAD if limit is not None and value > limit else TextStyle.NORMAL
    return _PARTS[min(8, eighths) - 1], style


# --- A strip of bars: where a value has been.


_BAR_CHARACTERS = "▁▂▃▄▅▆▇█"


def sparkline(series: Sequence[float | None], limit: float | None, cells: int) -> Line:
    """The last values as bars from nothing to the limit, or to the highest where one is higher; a gap is a dot.

    What is above the limit stands out also without colour: it alone makes the bars under the limit small.
    """
    shown = series[-cells:] if cells > 0 else ()
    values = [value for value in shown if value is not None]
    top = max([*values, limit or 0.0], default=0.0)
    spans: list[tuple[str, TextStyle]] = []
    for value in shown:
        bar, style = "·", TextStyle.DIM
        if value is not None:
            share = min(max(value, 0.0), top) / top if top > 0 else 0.0
            bar = _BAR_CHARACTERS[int(share * (len(_BAR_CHARACTERS) - 1) + 0.5)]
            style = TextStyle.BAD if limit is not None and value > limit else TextStyle.NORMAL
        if spans and spans[-1][1] is style:
            spans[-1] = (spans[-1][0] + bar, style)
        else:
            spans.append((bar, style))
    return tuple(spans)

"""A series of values as a bar chart of several lines, or as a sparkline of one."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, fit

_BARS = "▁▂▃▄▅▆▇█"
"""A cell filled by one to eight eighths."""


def draw_chart(
    series: Sequence[float | None], limit: float | None, cells: int, rows: int, show: Callable[[float], str]
) -> list[Line]:
    """A bar chart from 0 to the limit or to the highest value.

    Args:
        series: oldest first; None for a missing value, drawn as a dot.
        rows: lines of the chart, two or more.
        show: formats a value for the scale.
    """
    values = [value for value in series if value is not None]
    top = max([*values, limit or 0.0], default=0.0)
    if not values or top <= 0:
        return [(("only zeros so far" if values else "no value yet", TextStyle.DIM),)]
    at_limit = None if limit is None else min(rows - 1, max(0, int(limit / top * rows + 0.5) - 1))
    scale = {rows - 1: show(top), 0: "0"}
    if limit is not None and at_limit is not None:
        scale[at_limit] = show(limit)
    scale_width = max(cell_len(label) for label in scale.values())
    width = cells - scale_width - 2
    bar_width = 2 if 2 * len(series) <= width else 1
    shown = series[-(width // bar_width) :] if width >= bar_width else ()
    lines: list[Line] = []
    for row in reversed(range(rows)):
        style = TextStyle.WARN if row == at_limit else TextStyle.DIM
        bars = [_bar_cell(value, limit, row, rows, top, on_limit=row == at_limit) for value in shown]
        spans: list[Span] = [(f"{fit(scale.get(row, ''), scale_width, right=True)} ", style), ("┤", style)]
        spans += [(bar * bar_width, bar_style) for bar, bar_style in bars]
        if row == at_limit:
            spans.append(("─" * (width - bar_width * len(shown)), TextStyle.WARN))
        lines.append(tuple(spans))
    return lines


def _bar_cell(value: float | None, limit: float | None, row: int, rows: int, top: float, *, on_limit: bool) -> Span:
    """The part of a bar that is in one row of the chart."""
    empty: Span = ("─", TextStyle.WARN) if on_limit else (" ", TextStyle.NORMAL)
    if value is None:
        return ("·", TextStyle.DIM) if row == 0 else empty
    eighths = max(1, round(min(max(value, 0.0), top) / top * rows * 8)) - 8 * row
    if eighths <= 0:
        return empty
    style = TextStyle.BAD if limit is not None and value > limit else TextStyle.NORMAL
    return _BARS[min(8, eighths) - 1], style


def sparkline(series: Sequence[float | None], limit: float | None, cells: int) -> Line:
    """The last values as bars from 0 to the limit or to the highest value; a missing value is a dot.

    A value above the limit is recognisable without colour: it makes all bars under the limit small.
    """
    shown = series[-cells:] if cells > 0 else ()
    values = [value for value in shown if value is not None]
    top = max([*values, limit or 0.0], default=0.0)
    spans: list[tuple[str, TextStyle]] = []
    for value in shown:
        bar, style = "·", TextStyle.DIM
        if value is not None:
            share = min(max(value, 0.0), top) / top if top > 0 else 0.0
            bar = _BARS[int(share * (len(_BARS) - 1) + 0.5)]
            style = TextStyle.BAD if limit is not None and value > limit else TextStyle.NORMAL
        if spans and spans[-1][1] is style:
            spans[-1] = (spans[-1][0] + bar, style)
        else:
            spans.append((bar, style))
    return tuple(spans)

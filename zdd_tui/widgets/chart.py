"""A series as bars of several lines, beside a scale and the limit."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len

from zdd_tui.widgets.line import Line, Span, Tone, fit

_PARTS = "▁▂▃▄▅▆▇█"
"""Eighths of a line, from below."""


def chart(
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
        return [(("no value but nothing yet" if values else "no value yet", Tone.DIM),)]
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
        tone = Tone.WARN if row == at_limit else Tone.DIM
        bars = [_part(value, limit, row, rows, top, on_limit=row == at_limit) for value in shown]
        spans: list[Span] = [(f"{fit(scale.get(row, ''), names, right=True)} ", tone), ("┤", tone)]
        spans += [(sign * each, colour) for sign, colour in bars]
        if row == at_limit:
            spans.append(("─" * (room - each * len(shown)), Tone.WARN))
        lines.append(tuple(spans))
    return lines


def _part(value: float | None, limit: float | None, row: int, rows: int, top: float, *, on_limit: bool) -> Span:
    """What of one bar is in one line."""
    empty: Span = ("─", Tone.WARN) if on_limit else (" ", Tone.NORMAL)
    if value is None:
        return ("·", Tone.DIM) if row == 0 else empty
    eighths = max(1, round(min(max(value, 0.0), top) / top * rows * 8)) - 8 * row
    if eighths <= 0:
        return empty
    tone = Tone.BAD if limit is not None and value > limit else Tone.NORMAL
    return _PARTS[min(8, eighths) - 1], tone

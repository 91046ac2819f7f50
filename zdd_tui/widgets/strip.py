"""A strip of bars: where a value has been."""

from collections.abc import Sequence

from zdd_tui.widgets.line import Line, Tone

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(series: Sequence[float | None], limit: float | None, cells: int) -> Line:
    """The last values as bars from nothing to the limit, or to the highest where one is higher; a gap is a dot.

    What is above the limit stands out also without colour: it alone makes the bars under the limit small.
    """
    shown = series[-cells:] if cells > 0 else ()
    values = [value for value in shown if value is not None]
    top = max([*values, limit or 0.0], default=0.0)
    spans: list[tuple[str, Tone]] = []
    for value in shown:
        bar, tone = "·", Tone.DIM
        if value is not None:
            share = min(max(value, 0.0), top) / top if top > 0 else 0.0
            bar = _BARS[int(share * (len(_BARS) - 1) + 0.5)]
            tone = Tone.BAD if limit is not None and value > limit else Tone.NORMAL
        if spans and spans[-1][1] is tone:
            spans[-1] = (spans[-1][0] + bar, tone)
        else:
            spans.append((bar, tone))
    return tuple(spans)

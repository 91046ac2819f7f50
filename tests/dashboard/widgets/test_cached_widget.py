"""Only cells that differ go over the line, and a wide character never in half."""

from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from zdd_tui.dashboard.widgets.drawing.cached_widget import changed_span

STYLES = [None, Style(bold=True), Style(color="green")]
pieces = st.lists(st.tuples(st.text("ab─数据e\u0301 ", max_size=4), st.sampled_from(STYLES)), max_size=5)


def strip(parts: list[tuple[str, Style | None]]) -> Strip:
    return Strip([Segment(text, style) for text, style in parts])


def cells(line: Strip) -> list[tuple[str, Style | None]]:
    return [
        (each.text, each.style) for part in range(line.cell_length) for each in line.crop(part, part + 1) if each.text
    ]


@given(pieces, pieces)
def test_the_rest_is_as_it_was(old: list[tuple[str, Style | None]], new: list[tuple[str, Style | None]]) -> None:
    wide = max(strip(old).cell_length, strip(new).cell_length)
    before, after = strip(old).adjust_cell_length(wide), strip(new).adjust_cell_length(wide)
    start, stop = changed_span(before, after)
    assert 0 <= start <= stop <= wide
    pasted = Strip.join([before.crop(0, start), after.crop(start, stop), before.crop(stop)])
    assert pasted.cell_length == wide
    assert cells(pasted) == cells(after)


def test_what_is_alike_is_left_out() -> None:
    before, after = strip([("pods 5s · 4/4", None)]), strip([("pods 6s · 4/4", None)])
    assert changed_span(before, after) == (5, 6)
    assert changed_span(before, before) == (0, 0)
    assert changed_span(strip([("ab", None)]), strip([("ab", STYLES[1])])) == (0, 2)
    assert changed_span(strip([("a数b", None)]), strip([("a据b", None)])) == (1, 3)
    assert changed_span(strip([("a数b", None)]), strip([("axyb", None)])) == (1, 3)

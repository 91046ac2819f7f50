"""Which cells of a line differ from those that were there: only they go over the line."""

from collections.abc import Sequence
from itertools import takewhile

from rich.cells import cell_len
from rich.style import Style
from textual.strip import Strip

Cell = tuple[str, Style | None]
"""What stands in one cell. The second cell of a wide character holds no character."""


def differing_within(before: Strip | None, after: Strip, start: int, stop: int) -> tuple[int, int]:
    """As :func:`differing`, of a part of two lines; all of it where it is not known what was there."""
    if before is None or before.cell_length != after.cell_length:
        return start, stop
    first, last = differing(before.crop(start, stop), after.crop(start, stop))
    return start + first, start + last


def differing(before: Strip, after: Strip) -> tuple[int, int]:
    """From which cell to before which cell two lines of the same width differ, in text or style; 0, 0 nowhere."""
    if before == after:
        return 0, 0
    old, new = _cells(before), _cells(after)
    if old is None or new is None or len(old) != len(new):
        return 0, after.cell_length
    start = _alike(old, new)
    if start == len(new):
        return 0, 0
    stop = len(new) - _alike(old[::-1], new[::-1])
    # A wide character is sent as a whole, and so is one that was there.
    while start > 0 and not (old[start][0] and new[start][0]):
        start -= 1
    while stop < len(new) and not (old[stop][0] and new[stop][0]):
        stop += 1
    return start, stop


def _alike(old: Sequence[Cell], new: Sequence[Cell]) -> int:
    """How many cells at the beginning are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=True)))


def _cells(strip: Strip) -> list[Cell] | None:
    """None where a character takes no cell: it goes with its neighbours, as a cut between them may part them."""
    cells: list[Cell] = []
    for text, style, _ in strip:
        if len(text) == cell_len(text) and text.isascii():
            cells.extend((char, style) for char in text)
            continue
        for char in text:
            wide = cell_len(char)
            if not wide:
                return None
            cells += [(char, style)] + [("", style)] * (wide - 1)
    return cells

"""A widget that is not rendered again while nothing of it has changed.

For each changed cell Textual asks every widget on the screen for all its lines. It keeps the lines themselves, but what
it works out around them, backgrounds, titles, borders, costs more than the one change.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Self

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

# --- Which cells of a line differ from those that were there: only they go over the line.


Cell = tuple[str, Style | None]
"""What stands in one cell. The second cell of a wide character holds no character."""


def changed_span_within(before: Strip | None, after: Strip, start: int, stop: int) -> tuple[int, int]:
    """As :func:`changed_span`, of a part of two lines; all of it where it is not known what was there."""
    if before is None or before.cell_length != after.cell_length:
        return start, stop
    first, last = changed_span(before.crop(start, stop), after.crop(start, stop))
    return start + first, start + last


def changed_span(before: Strip, after: Strip) -> tuple[int, int]:
    """From which cell to before which cell two lines of the same width differ, in text or style; 0, 0 nowhere."""
    if before == after:
        return 0, 0
    old, new = _cells(before), _cells(after)
    if old is None or new is None or len(old) != len(new):
        return 0, after.cell_length
    start = _common_prefix_length(old, new)
    if start == len(new):
        return 0, 0
    stop = len(new) - _common_prefix_length(old[::-1], new[::-1])
    # A wide character is sent as a whole, and so is one that was there.
    while start > 0 and not (old[start][0] and new[start][0]):
        start -= 1
    while stop < len(new) and not (old[stop][0] and new[stop][0]):
        stop += 1
    return start, stop


def _common_prefix_length(old: Sequence[Cell], new: Sequence[Cell]) -> int:
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


# --- end


class CachedWidget(Widget):
    """Keeps its last rendering until it is refreshed or gets another style or another size.

    It is the last base of a class: Textual takes default styles from the first one only.
    """

    _cached_lines: tuple[Region, list[Strip]] | None = None

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._cached_lines is None or self._cached_lines[0] != crop:
            self._cached_lines = crop, super().render_lines(crop)
        return self._cached_lines[1]

    def render_pieces(self, regions: Iterable[Region], place: Region) -> Iterator[tuple[int, int, Strip]]:
        """Renders parts of the content anew, and nothing else of it.

        Args:
            place: where the widget is on the screen.

        Returns:
            Of each part what differs from what was there: the cells of a line with their column and row on the screen.
        """
        self._cached_lines = None
        offset, whole = self.content_offset, place.size.region
        was: dict[int, Strip | None] = {}
        for region in regions:
            part = region.translate(offset).intersection(whole)
            for y in part.line_range:
                if y not in was:
                    was[y] = self._styles_cache._cache.get(y)
            self._styles_cache.set_dirty(part)
            for y in part.line_range:
                strip = super().render_lines(Region(0, y, place.width, 1))[0]
                before, now = was[y], self._styles_cache._cache[y]  # as drawn, before filters such as NO_COLOR's
                start, stop = changed_span_within(before, now, *part.column_span)
                if start < stop:
                    yield place.x + start, place.y + y, strip.crop(start, stop)

    def refresh(self, *regions: Region, **options: Any) -> Self:
        self._cached_lines = None
        return super().refresh(*regions, **options)

    def notify_style_update(self) -> None:
        self._cached_lines = None
        super().notify_style_update()


# --- Sends only the cells that changed.
#
# Textual's partial update begins each line at the left edge of the widget, wherever in it the change is: the whole line
# of a pod for one digit. Here it begins at the change. Both classes stand on Textual's own; where a newer Textual no
# longer asks them, the line gets longer and nothing else happens.


class CroppedUpdate(ChopsUpdate):
    """Changed spans of lines, cut at both ends."""

    def render_segments(self, console: Console) -> str:
        text: list[str] = []
        for y, start, stop in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                first, last = max(x, start), min(end, stop)
                if strip is not None and first < last:
                    text += [Control.move_to(first, y).segment.text, strip.crop(first - x, last - x).render(console)]
        return "".join(text)


class CroppingCompositor(Compositor):
    """Textual's compositor, whose partial updates are thin."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else CroppedUpdate(update.chops, update.spans, update.chop_ends)

"""A widget that is not rendered again while nothing of it has changed.

For each changed cell Textual asks every widget on the screen for all its lines. It keeps the lines themselves, but what
it works out around them, backgrounds, titles, borders, costs more than the one change.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from zdd_tui.widgets.differing import differing_within


class Calm(Widget):
    """Keeps its last rendering until it is refreshed or gets another style or another size.

    It is the last base of a class: Textual takes default styles from the first one only.
    """

    _rendered: tuple[Region, list[Strip]] | None = None

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._rendered is None or self._rendered[0] != crop:
            self._rendered = crop, super().render_lines(crop)
        return self._rendered[1]

    def pieces(self, regions: Iterable[Region], place: Region) -> Iterator[tuple[int, int, Strip]]:
        """Renders parts of the content anew, and nothing else of it.

        Args:
            place: where the widget is on the screen.

        Returns:
            Of each part what differs from what was there: the cells of a line with their column and row on the screen.
        """
        self._rendered = None
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
                start, stop = differing_within(before, now, *part.column_span)
                if start < stop:
                    yield place.x + start, place.y + y, strip.crop(start, stop)

    def refresh(self, *regions: Region, **options: Any) -> Self:
        self._rendered = None
        return super().refresh(*regions, **options)

    def notify_style_update(self) -> None:
        self._rendered = None
        super().notify_style_update()

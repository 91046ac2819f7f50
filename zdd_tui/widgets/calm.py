"""A widget that is not rendered again while nothing of it has changed.

For each changed cell Textual asks every widget on the screen for all its lines. It keeps the lines themselves, but what
it works out around them, backgrounds, titles, borders, costs more than the one change.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


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
            Each line of each part with its column and row on the screen.
        """
        self._rendered = None
        offset, whole = self.content_offset, place.size.region
        for region in regions:
            part = region.translate(offset).intersection(whole)
            self._styles_cache.set_dirty(part)
            for y in part.line_range:
                strip = super().render_lines(Region(0, y, place.width, 1))[0]
                yield place.x + part.x, place.y + y, strip.crop(part.x, part.right)

    def refresh(self, *regions: Region, **options: Any) -> Self:
        self._rendered = None
        return super().refresh(*regions, **options)

    def notify_style_update(self) -> None:
        self._rendered = None
        super().notify_style_update()

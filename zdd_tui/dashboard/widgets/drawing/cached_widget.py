"""A widget that keeps its rendering while nothing of it has changed.

For each changed cell Textual asks every widget on the screen for all its lines. It caches the lines, but what it
computes around them (backgrounds, titles, borders) costs more than the change.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from zdd_tui.dashboard.terminal.ansi_writer import Piece
from zdd_tui.dashboard.widgets.drawing.fast_paint import changed_span_within, drawn_row, mark_dirty


class CachedWidget(Widget):
    """Keeps its last rendering until a refresh, another style or another size.

    It must be the last base of a class: Textual takes default styles from the first one only.
    """

    _cached_lines: tuple[Region, list[Strip]] | None = None
    _ignores_refresh = False

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._cached_lines is None or self._cached_lines[0] != crop:
            self._cached_lines = crop, super().render_lines(crop)
        return self._cached_lines[1]

    def render_pieces(self, regions: Iterable[Region], place: Region) -> Iterator[Piece]:
        """Renders parts of the widget again, and yields the cells of each that differ from before.

        Args:
            regions: relative to the content.
            place: region of the widget on the screen.
        """
        self._cached_lines = None
        offset, whole = self.content_offset, place.size.region
        rows_before: dict[int, Strip | None] = {}
        for region in regions:
            part = region.translate(offset).intersection(whole)
            for y in part.line_range:
                rows_before.setdefault(y, drawn_row(self, y))
            mark_dirty(self, part)
            for y in part.line_range:
                strip = super().render_lines(Region(0, y, place.width, 1))[0]
                start, stop = changed_span_within(rows_before[y], drawn_row(self, y) or strip, *part.column_span)
                if start < stop:
                    yield place.x + start, place.y + y, strip.crop(start, stop)

    @contextmanager
    def without_refresh(self) -> Iterator[None]:
        """Ignores refreshes within it, such as that of a new title; the caller requests a paint of what has changed."""
        self._ignores_refresh = True
        try:
            yield
        finally:
            self._ignores_refresh = False

    def refresh(self, *regions: Region, **options: Any) -> Self:
        if self._ignores_refresh:
            return self
        self._cached_lines = None
        return super().refresh(*regions, **options)

    def notify_style_update(self) -> None:
        self._cached_lines = None
        super().notify_style_update()

"""Paints changed cells without Textual's repaint cycle. With the input, the only module that uses names
that Textual keeps private.

A refresh wakes the widget's task, the screen's task and a timer, composes the screen, and sends each changed line from
the left edge of its widget. Measured by ``python -m benchmarks.terminal`` (500 pods, ten changed cells a second), that
costs 15 times the bytes (1,870 instead of 130 a second) and 1.7 times the processor time (above 3 % of a core).

Interface:
    :class:`Painter` paints changes of a screen's views while the screen shows a new state.
    :class:`CachedWidget` keeps its rendering while nothing of it has changed.
    :func:`crop_partial_updates` makes Textual's own updates of a screen begin and end at the changed cells.

Every private name is checked before the first use (:func:`missing_private_names`). If a Textual release lacks one, the
painter takes no change: its views call the public ``refresh``, which draws the same cells at the cost above.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import Any, Protocol, Self, runtime_checkable

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from zdd_tui.dashboard.terminal.ansi_writer import Piece, ScrollUp


def missing_private_names(screen: Screen[Any]) -> tuple[str, ...]:
    """Private names that this Textual lacks, or that have another type than expected."""
    compositor, cache = getattr(screen, "_compositor", None), getattr(screen, "_styles_cache", None)
    expected: Sequence[tuple[object, str, type]] = (
        (screen.app, "_batch_count", int),
        (screen, "_layout_required", bool),
        (screen, "_scroll_required", bool),
        (type(compositor), "visible_widgets", property),
        (cache, "_cache", dict),
    )
    missing = [name for owner, name, kind in expected if not isinstance(getattr(owner, name, None), kind)]
    return (*missing, *(() if callable(getattr(cache, "set_dirty", None)) else ("set_dirty",)))


# --- direct painting -------------------------------------------------------------------------------------------------


class CachedWidget(Widget):
    """A widget that keeps its last rendering until a refresh, another style or another size.

    For each changed cell Textual asks every widget on the screen for all its lines. It caches the lines, but what it
    computes around them (backgrounds, titles, borders) costs more than the change.

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

    def forget_rendering(self) -> None:
        """All rows are rendered again when they are needed, without a repaint now."""
        self._cached_lines = None
        self._styles_cache._cache.clear()

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


@runtime_checkable
class CellTarget(Protocol):
    """An application that can send cells to its terminal."""

    def draw_cells(self, pieces: Sequence[Piece]) -> None: ...


class Painter:
    """Collects changes of the views of one screen and paints them together.

    It leaves to Textual what it cannot paint correctly: a screen that is not in front, a view that is partly covered, a
    layout that is about to change.
    """

    def __init__(self, screen: Screen[Any]) -> None:
        self._screen = screen
        self._is_supported: bool | None = None
        self._is_batching = False
        self._changes: dict[CachedWidget, list[Region]] = {}
        self._scrolls: dict[CachedWidget, int] = {}

    @contextmanager
    def batch(self, views: Sequence[Widget]) -> Iterator[None]:
        """Paints at its end what the views change within it."""
        if self._is_supported is None:
            self._is_supported = isinstance(self._screen.app, CellTarget) and not missing_private_names(self._screen)
        self._is_batching = self._is_supported
        try:
            yield
        finally:
            self._is_batching = False
            changes, self._changes = self._changes, {}
            scrolls, self._scrolls = self._scrolls, {}
            if changes or scrolls:
                self._paint(changes, scrolls, views)

    def add_change(self, view: CachedWidget, region: Region) -> bool:
        """Takes a change of a view; False where the view must refresh itself.

        Args:
            region: relative to the view's content.
        """
        if self._is_batching:
            self._changes.setdefault(view, []).append(region)
        return self._is_batching

    def add_scroll(self, view: CachedWidget, rows: int) -> bool:
        """Takes that all rows of a view move up; False where the view must paint them.

        The rows that become free must be added as changes. The view has neither border nor padding.
        """
        if self._is_batching:
            self._scrolls[view] = rows
        return self._is_batching

    def _paint(
        self, changes: dict[CachedWidget, list[Region]], scrolls: dict[CachedWidget, int], views: Sequence[Widget]
    ) -> None:
        screen, app = self._screen, self._screen.app
        is_in_front = app.screen is screen  # `is_current` is also true behind a dialog
        is_layout_changing = any(node._layout_required for node in (screen, *views)) or screen._scroll_required
        is_steady = is_in_front and not app._batch_count and not is_layout_changing
        places = {view: _uncovered_region(screen, view) for view in (*scrolls, *changes)} if is_steady else {}
        if None in places.values():  # Textual paints that view in its next frame: the others belong to the same one
            places = {}
        pieces: list[Piece] = []
        for view, rows in scrolls.items():
            region = places.get(view)
            if region is None or not _has_rows_alone(screen, view, region):
                view.refresh()
                changes.pop(view, None)
                continue
            view.forget_rendering()
            pieces.append(ScrollUp(region.y, region.bottom - 1, rows))
            pieces += _side_pieces(screen, view, region, range(region.bottom - rows, region.bottom))
        for view, regions in changes.items():
            region = places.get(view)
            if region is None:
                view.refresh(*regions)
            else:
                pieces += view.render_pieces(regions, region)
        if pieces and isinstance(app, CellTarget):
            app.draw_cells(pieces)


def _uncovered_region(screen: Screen[Any], view: Widget) -> Region | None:
    """Region of a view on the screen; None where part of it is out of sight or covered."""
    visible = screen._compositor.visible_widgets
    region, clip = visible.get(view, (Region(), Region()))
    if not region or not clip.contains_region(region):
        return None
    in_front = takewhile(lambda widget: widget is not view, visible)  # front to back
    return None if any(visible[widget][0].overlaps(region) for widget in in_front) else region


def _has_rows_alone(screen: Screen[Any], view: Widget, place: Region) -> bool:
    """Whether beside a view there are only the frames around it, which look the same in each of its rows."""
    whole_rows = Region(0, place.y, screen.size.width, place.height)
    around = {view, *view.ancestors}
    visible = screen._compositor.visible_widgets
    return all(widget in around or not region.overlaps(whole_rows) for widget, (region, _) in visible.items())


def _side_pieces(screen: Screen[Any], view: Widget, place: Region, rows: Iterable[int]) -> Iterator[Piece]:
    """What is left and right of a view in some rows of the screen: the frames around it."""
    visible = screen._compositor.visible_widgets
    around = [(node, visible[node][0]) for node in reversed(view.ancestors) if node in visible]
    for y in rows:
        whole = Strip.blank(screen.size.width)
        for node, region in around:
            row = node.render_lines(Region(0, y - region.y, region.width, 1))[0]
            whole = Strip.join([whole.crop(0, region.x), row, whole.crop(region.right)])
        if place.x > 0:
            yield 0, y, whole.crop(0, place.x)
        if place.right < screen.size.width:
            yield place.right, y, whole.crop(place.right)


def drawn_row(widget: Widget, y: int) -> Strip | None:
    """The row as Textual has cached it, before filters such as NO_COLOR's."""
    return widget._styles_cache._cache.get(y)


def mark_dirty(widget: Widget, region: Region) -> None:
    """Makes Textual render these rows again when it needs them, without a repaint now."""
    widget._styles_cache.set_dirty(region)


# --- Textual's own updates -------------------------------------------------------------------------------------------


@runtime_checkable
class _ChopsUpdate(Protocol):
    """Textual's update of parts of rows: spans (row, start, stop), and for each row its strips and their ends."""

    spans: Sequence[tuple[int, int, int]]
    chops: Sequence[dict[int, Strip | None]]
    chop_ends: Sequence[Sequence[int]]
    render_segments: Any


def crop_partial_updates(screen: Screen[Any]) -> None:
    """Cuts the partial updates of a screen to the changed cells. Textual's own begin at the widget's left edge."""
    compositor: Any = getattr(screen, "_compositor", None)
    render = getattr(compositor, "render_partial_update", None)
    if render is None:
        return

    def render_cropped() -> object:
        update = render()
        if isinstance(update, _ChopsUpdate):
            update.render_segments = partial(_render_cropped, update)
        return update

    compositor.render_partial_update = render_cropped


def _render_cropped(update: _ChopsUpdate, console: Console) -> str:
    text: list[str] = []
    for y, start, stop in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            first, last = max(x, start), min(end, stop)
            if strip is not None and first < last:
                text += [Control.move_to(first, y).segment.text, strip.crop(first - x, last - x).render(console)]
    return "".join(text)


# --- differences between two rows ------------------------------------------------------------------------------------

Cell = tuple[str, Style | None]
"""Text and style of one cell. The second cell of a wide character has no text."""


def changed_span_within(before: Strip | None, after: Strip, start: int, stop: int) -> tuple[int, int]:
    """Like :func:`changed_span`, for a part of two rows; all of the part where the earlier row is unknown."""
    if before is None or before.cell_length != after.cell_length:
        return start, stop
    first, last = changed_span(before.crop(start, stop), after.crop(start, stop))
    return start + first, start + last


def changed_span(before: Strip, after: Strip) -> tuple[int, int]:
    """First and past-the-last cell in which two rows of the same width differ in text or style; 0, 0 if nowhere."""
    if before == after:
        return 0, 0
    old, new = _cells(before), _cells(after)
    if old is None or new is None or len(old) != len(new):
        return 0, after.cell_length
    start = _common_prefix_length(old, new)
    if start == len(new):
        return 0, 0
    stop = len(new) - _common_prefix_length(old[::-1], new[::-1])
    # A wide character, old or new, is sent as a whole.
    while start > 0 and not (old[start][0] and new[start][0]):
        start -= 1
    while stop < len(new) and not (old[stop][0] and new[stop][0]):
        stop += 1
    return start, stop


def _common_prefix_length(old: Sequence[Cell], new: Sequence[Cell]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=True)))


def _cells(strip: Strip) -> list[Cell] | None:
    """Cells of a row; None where a character has no width, as it must stay with its neighbours."""
    cells: list[Cell] = []
    for text, style, _ in strip:
        if len(text) == cell_len(text) and text.isascii():
            cells.extend((char, style) for char in text)
            continue
        for char in text:
            width = cell_len(char)
            if not width:
                return None
            cells += [(char, style)] + [("", style)] * (width - 1)
    return cells

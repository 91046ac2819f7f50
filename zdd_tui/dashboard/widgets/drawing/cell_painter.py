"""Paints the changed cells of line views at once, without a turn of Textual's own machinery for each.

A refresh wakes the widget's task, which tells the screen's task, which wakes a timer, which composes the screen: most
of what a changed cell costs. While a screen hands a new board to its views, the cells that change are gathered here
instead, and go to the terminal together. Whatever is not certain to look right that way, such as a screen in the
background, a view that is partly covered, or a layout that is about to change, takes Textual's way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from rich.color import ColorSystem
from rich.console import Console
from textual._compositor import CompositorUpdate
from textual.geometry import Region
from textual.screen import Screen

from zdd_tui.dashboard.terminal.ansi_writer import RESET, AnsiWrite, Piece, encode_pieces
from zdd_tui.dashboard.widgets.drawing.cached_widget import CachedWidget


class CellsUpdate(CompositorUpdate):
    """Pieces of lines, each with its place on the screen."""

    def __init__(self, pieces: list[Piece], columns: int) -> None:
        self.pieces = pieces
        self._columns = columns

    def encode(self, console: Console, sgr: str = "") -> AnsiWrite:
        """What to send to a terminal whose pen is known, and will be remembered."""
        return encode_pieces(self.pieces, self._columns, console._color_system or ColorSystem.TRUECOLOR, sgr)

    def render_segments(self, console: Console) -> str:
        ansi_write = self.encode(console)
        return ansi_write.text + RESET if ansi_write.sgr else ansi_write.text


class Painter:
    """Gathers changes of the views of one screen, and paints them."""

    def __init__(self, screen: Screen[Any]) -> None:
        self._screen = screen
        self._is_batching = False
        self._changes: dict[CachedWidget, list[Region]] = {}

    @contextmanager
    def batch(self, views: "list[Any]") -> Iterator[None]:
        """What the views change within it is painted at its end."""
        self._is_batching = True
        try:
            yield
        finally:
            self._is_batching = False
            changes, self._changes = self._changes, {}
            if changes:
                self._paint(changes, views)

    def add_change(self, view: CachedWidget, region: Region) -> bool:
        """Takes a change, in the view's content; False where the view must see to it itself."""
        if self._is_batching:
            self._changes.setdefault(view, []).append(region)
        return self._is_batching

    def _paint(self, changes: dict[CachedWidget, list[Region]], views: "list[Any]") -> None:
        screen = self._screen
        in_front = screen.app.screen is screen  # `is_current` is true behind a dialog, too
        steady = in_front and not screen.app._batch_count and not _is_layout_changing(screen, views)
        pieces: list[Piece] = []
        for view, regions in changes.items():
            place = _visible_region(screen, view) if steady else None
            if place is None:
                view.refresh(*regions)
            else:
                pieces += view.render_pieces(regions, place)
        if pieces:
            screen.app._display(screen, CellsUpdate(pieces, screen.size.width))  # type: ignore[arg-type]  # as a ChopsUpdate


def _is_layout_changing(screen: Screen[Any], views: list[Any]) -> bool:
    """Widgets are about to get other places."""
    return screen._layout_required or screen._scroll_required or any(view._layout_required for view in views)


def _visible_region(screen: Screen[Any], view: CachedWidget) -> Region | None:
    """Where on the screen a view is, where all of it is in sight and nothing is in front of it."""
    visible = screen._compositor.visible_widgets
    place, clip = visible.get(view, (Region(), Region()))
    if not place or not clip.contains_region(place):
        return None
    before = takewhile(lambda widget: widget is not view, visible)  # front to back
    return None if any(visible[widget][0].overlaps(place) for widget in before) else place

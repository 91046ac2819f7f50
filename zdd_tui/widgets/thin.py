"""Sends only the cells that changed.

Textual's partial update begins each line at the left edge of the widget, wherever in it the change is: the whole line
of a pod for one digit. Here it begins at the change. Both classes stand on Textual's own; where a newer Textual no
longer asks them, the line gets longer and nothing else happens.
"""

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class ThinUpdate(ChopsUpdate):
    """Changed spans of lines, cut at both ends."""

    def render_segments(self, console: Console) -> str:
        told: list[str] = []
        for y, start, stop in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                first, last = max(x, start), min(end, stop)
                if strip is not None and first < last:
                    told += [Control.move_to(first, y).segment.text, strip.crop(first - x, last - x).render(console)]
        return "".join(told)


class ThinCompositor(Compositor):
    """Textual's compositor, whose partial updates are thin."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return None if update is None else ThinUpdate(update.chops, update.spans, update.chop_ends)

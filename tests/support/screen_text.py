"""What a terminal shows, as lines of text."""

from typing import Any

from textual.app import App
from textual.strip import Strip


def screen_text(app: App[Any]) -> str:
    """Read from the compositor. The public way is an SVG, of which drawing and reading took a third of a test."""
    update: Any = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    return "".join(f"{Strip.join(row).text.rstrip()}\n" for row in update.strips)

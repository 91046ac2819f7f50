"""What `y` copies: what the cursor is on, else the pane in focus, else everything on the screen."""

from dataclasses import dataclass
from typing import Any

from textual.screen import Screen

from zdd_tui.widgets.line_view import LineView
from zdd_tui.widgets.pane import Pane


@dataclass(frozen=True, slots=True)
class Copied:
    """A text, and what it is the text of."""

    what: str
    text: str


def copied(screen: Screen[Any]) -> Copied:
    """The text that an operator means on a screen."""
    focused = screen.focused
    if isinstance(focused, LineView):
        row = focused.under_cursor()
        name = focused.name_of_pane if isinstance(focused, Pane) else "page"
        return Copied(f"a row of {name}", row) if row else Copied(name, focused.plain())
    shown = [view.plain() for view in screen.query(LineView) if view.display]
    return Copied("the screen", "\n".join(text for text in shown if text))

"""The text field of every dialog and filter: one line of bounded length."""

from typing import Any

from textual import events
from textual.widgets import Input

from zdd_tui.dashboard.widgets.drawing.line import sanitize

MAX_TEXT_LENGTH = 500
"""Characters of a text field: a reason for the audit is the longest text that is typed."""


class TextField(Input):
    """An input of bounded length, which takes all lines of a paste as one.

    Textual would take only the first line of a paste, or nothing of one that is too long.
    """

    def __init__(self, *, max_length: int = MAX_TEXT_LENGTH, **options: Any) -> None:
        super().__init__(max_length=max_length, **options)

    def on_paste(self, event: events.Paste) -> None:
        """Pastes all lines as one, without control characters, as far as they fit."""
        event.stop()
        event.prevent_default()
        room = (self.max_length or 0) - len(self.value)
        # The text is cut before it is processed: the clipboard may hold megabytes.
        text = sanitize(" ".join(event.text[: 4 * (self.max_length or 0)].split()))
        self.insert_text_at_cursor(text[: max(0, room)])

"""Base of the dialogs: a framed page of lines over the main screen."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, justify
from zdd_tui.dashboard.widgets.drawing.line_view import LineView


class PageView(LineView, can_focus=True):
    """Lines of a dialog; arrow and page keys scroll it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "Scroll up", show=False, id="page.up"),
        Binding("down", "scroll_down", "Scroll down", show=False, id="page.down"),
        Binding("pageup", "page_up", "Page up", show=False, id="page.page-up"),
        Binding("pagedown,space", "page_down", "Page down", show=False, id="page.page-down"),
        Binding("home", "scroll_home", "Top", show=False, id="page.top"),
        Binding("end", "scroll_end", "End", show=False, id="page.end"),
    ]

    DEFAULT_CSS = """
    PageView { height: 1fr; }
    """

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._update_key_hints()

    def set_lines(self, lines: Sequence[Line]) -> None:
        super().set_lines(lines)
        self._update_key_hints()

    def _update_key_hints(self) -> None:
        rows, total, first = self.content_size.height, len(self._lines), int(self.scroll_offset.y)
        for keys in self.screen.query(KeyHints):  # none while the dialog is being composed
            keys.position_text = f"{first + 1}-{min(total, first + rows)} of {total} ↕" if total > rows else ""
            keys.on_resize()

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        screen = self.screen
        assert isinstance(screen, HasPage)
        return screen.page(board, context, cells)


class KeyHints(LineView):
    """The dialog's footer."""

    auto_height = 4

    position_text = ""
    """Range of the visible lines of the page; empty where all are visible."""

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        screen = self.screen
        assert isinstance(screen, HasPage)
        *lines, last = screen.key_hints(board, context, cells)
        return [*lines, justify(last, ((self.position_text, TextStyle.DIM),), cells)]


def key_hints_line(hints: Iterable[tuple[str, str]]) -> Line:
    """``Enter run   Esc close``; pairs without a key or without a text are left out."""
    return tuple(
        span
        for key, text in hints
        if key and text
        for span in ((key, TextStyle.KEY), (f" {text}   ", TextStyle.NORMAL))
    )


class HasPage:
    """A dialog that provides the lines of its page and of its footer."""

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        raise NotImplementedError

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        raise NotImplementedError


DIALOG_CSS = """
{name} {{
    align: center middle;
    background: $background;
    #dialog {{ width: 100%; max-width: 110; height: 100%; max-height: 40; border: heavy $secondary; padding: 0 1; }}
    Input {{ height: 3; border: round $warning; padding: 0 1; }}
    &.-production #dialog {{ border: heavy $error; }}
}}
"""

"""Base of the dialogs: a framed page of lines over the main screen."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import ActionScreen, ResultT
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.key_clicks import clicked_key
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, justify, line_width, sanitize, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.text_field import TextField
from zdd_tui.model.release.claims import format_silence, is_current


class FollowingStopped(Message):
    """The operator has scrolled up from the end of a page that followed it."""


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

    # --- while it follows the end, scrolling up stops that, and there is nothing below -------------------------------

    def _leave_end(self, rows: int) -> bool:
        """Stops following, so many rows above the end; False where it does not follow."""
        if not self.follows_end:
            return False
        first = self.first_line
        self.follows_end = False
        self.scroll_to(y=max(0, first - rows), animate=False, force=True)
        self.post_message(FollowingStopped())
        return True

    def action_scroll_up(self) -> None:
        if not self._leave_end(1):
            super().action_scroll_up()

    def action_page_up(self) -> None:
        if not self._leave_end(self.content_size.height):
            super().action_page_up()

    def action_scroll_home(self) -> None:
        if not self._leave_end(len(self._lines)):
            super().action_scroll_home()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        if self._leave_end(3):
            event.stop()
            event.prevent_default()

    def action_scroll_down(self) -> None:
        if not self.follows_end:
            super().action_scroll_down()

    def action_page_down(self) -> None:
        if not self.follows_end:
            super().action_page_down()

    def action_scroll_end(self) -> None:
        if not self.follows_end:
            super().action_scroll_end()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        if self.follows_end:
            event.stop()
            event.prevent_default()

    def set_lines(self, lines: Sequence[Line]) -> None:
        super().set_lines(lines)
        self._update_key_hints()

    def _update_key_hints(self) -> None:
        if not self.is_attached:
            return
        rows, total, first = self.content_size.height, len(self._lines), self.first_line
        text = f"{first + 1}-{min(total, first + rows)} of {total} ↕" if total > rows else ""
        for keys in self.screen.query(KeyHints):  # none while the dialog is being composed
            if keys.position_text != text:
                keys.position_text = text
                keys.redraw()

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        screen = self.screen
        assert isinstance(screen, HasPage)
        return screen.page_dependencies(board)

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        screen = self.screen
        assert isinstance(screen, HasPage)
        return screen.page(board, context, cells)


class KeyHints(LineView):
    """The dialog's footer."""

    auto_height = 4

    position_text = ""
    """Range of the visible lines of the page; empty where all are visible."""

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        screen = self.screen
        assert isinstance(screen, HasPage)
        return screen.hint_dependencies(board)

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        screen = self.screen
        assert isinstance(screen, HasPage)
        *lines, last = screen.key_hints(board, context, cells)
        position: Line = ((self.position_text, TextStyle.DIM),)
        if self.position_text and line_width(last) + line_width(position) >= cells:
            lines, last = [*lines, last], ()  # no text is cut for it
        return [*lines, justify(last, position, cells)]

    def on_click(self, event: events.Click) -> None:
        """A click on a key or on its text is that key; but no click runs what a dialog confirms."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y >= len(self.all_lines()):
            return
        key = clicked_key(self.all_lines()[offset.y], offset.x)
        if key and not (key == "enter" and isinstance(self.screen, ModalScreen)):
            self.app.simulate_key(key)


def key_hints_line(hints: Iterable[tuple[str, str]]) -> Line:
    """``Enter run   Esc close``; pairs without a key or without a text are left out."""
    return tuple(
        span
        for key, text in hints
        if key and text
        for span in ((key, TextStyle.KEY), (f" {text}   ", TextStyle.NORMAL))
    )


class HasPage:
    """A screen that provides the lines of its page and of its footer."""

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        raise NotImplementedError

    def page_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        """What the page is made of, as :meth:`LineView.dependencies`; empty if it depends on more."""
        return ()

    def hint_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        """The same for the footer."""
        return ()

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        raise NotImplementedError


class Dialog(ActionScreen[ResultT], ModalScreen[ResultT], HasPage):
    """A framed page over the main screen, which shows the state that it was opened with."""

    SCOPED_CSS = False  # the rules are for the class Dialog, not for the name of a subclass
    CSS = """
    Dialog {
        align: center middle;
        background: $background;
        #dialog { width: 100%; max-width: 110; height: 100%; max-height: 40; border: heavy $secondary; padding: 0 1; }
        Input { height: 3; border: round $warning; padding: 0 1; }
        &.-production #dialog { border: heavy $error; }
    }
    """

    def __init__(self, board: DashboardState, context: RenderContext) -> None:
        super().__init__()
        self._last_shown = (board, context)
        self.is_ready = False
        """Whether the dialog was painted. A key that confirms works from then on, and is shown from then on."""

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield from self.compose_dialog()

    def compose_dialog(self) -> ComposeResult:
        """What is inside the frame; a dialog with text fields adds them."""
        yield PageView()
        yield KeyHints()

    def initial_focus(self) -> Widget:
        """The first text field, else the page."""
        return next(iter(self.query(Input)), self.query_one(PageView))

    def on_mount(self) -> None:
        self.initial_focus().focus()
        self._draw()
        self.call_after_refresh(self._set_ready)

    def _set_ready(self) -> None:
        self.is_ready = True
        self._draw()

    def _draw(self) -> None:
        with self.painted() as views:
            for view in views:
                view.show(*self._last_shown)


class FollowingDialog(Dialog[ResultT]):
    """A dialog that follows the state."""

    def show(self, board: DashboardState, context: RenderContext) -> None:
        self._last_shown = (board, context)
        self._draw()


def text_field(id: str, title: str) -> Input:
    """A text field with its title in the frame."""
    field = TextField(id=id)
    field.border_title = Content(sanitize(title))
    return field


def reading_age_lines(board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    """How old the reading of the release is that a dialog shows, and a blank line; none while the database responds."""
    age = board.release.age(context.now)
    if age is None or is_current(age, board.release.error):
        return []
    text = f"as of {format_silence(age)} ago: the database has not responded since"
    return [*wrap(text, cells, TextStyle.WARN), ()]


def target_lines(board: DashboardState, title: str, cells: int) -> list[Line]:
    """What a dialog is about: its title, the environment, the release, and the systems that it uses."""
    plan = board.plan
    badge = (f" ■ {plan.environment.upper()} ", TextStyle.ALARM if plan.is_production else TextStyle.STRONG)
    region: Line = ((f"  region {plan.region}", TextStyle.STRONG),) if plan.region else ()
    lines: list[Line] = [
        ((f"{title} ", TextStyle.STRONG), badge, *region),
        ((plan.name, TextStyle.STRONG), (f"  {plan.target}", TextStyle.NORMAL)),
    ]
    for name, place in (("database", plan.database), ("cluster", plan.cluster), ("flags", plan.flags)):
        if place:
            lines += wrap(f"{name:<9} {place}", cells, TextStyle.DIM)
    return lines

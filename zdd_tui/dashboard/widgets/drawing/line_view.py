"""The one widget that draws: lines of styled text, scrolled; only lines that changed are painted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.terminal.ansi_writer import Piece
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.drawing.fast_paint import CachedWidget, Painter, changed_span_within, mark_dirty
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, find_changed_spans, naming_plan, sanitize
from zdd_tui.model.production_lock import ProductionLock

STYLES: Mapping[TextStyle, tuple[str, str]] = {
    TextStyle.NORMAL: ("", ""),
    TextStyle.STRONG: ("", "bold"),
    TextStyle.DIM: ("foreground", "dim"),
    TextStyle.GOOD: ("success", ""),
    TextStyle.BAD: ("error", "bold"),
    TextStyle.WARN: ("warning", ""),
    TextStyle.RUNNING: ("secondary", ""),
    TextStyle.ALARM: ("error", "bold reverse"),
    TextStyle.DONE: ("success", "bold reverse"),
    TextStyle.ROLLED_BACK: ("warning", "bold reverse"),
    TextStyle.MATCH: ("", "bold reverse"),
    TextStyle.KEY: ("secondary", "bold"),
}
"""Of each style the name of a theme colour, or an empty one, and the attributes.

A Textual component class for each style would cost a tenth of the time to the first paint: Textual computes a dozen
styles for each widget, at the first paint and at each change of the focus.
"""

ON_BAR_STYLES = dict(STYLES) | {
    TextStyle.NORMAL: ("bar", ""),
    TextStyle.STRONG: ("bar", "bold"),
    TextStyle.DIM: ("bar", ""),
    TextStyle.GOOD: ("bar", ""),
    TextStyle.WARN: ("bar", "bold underline"),
    TextStyle.KEY: ("bar", "bold underline"),
    TextStyle.ALARM: ("bar", "bold reverse"),
}
"""The same on a coloured bar, where other colours are hard to read: attributes distinguish them."""

_BAR_COLOUR = "ansi_bright_white"


def resolve_style(text_style: TextStyle, variables: Mapping[str, str], *, on_bar: bool = False) -> Style:
    """The Rich style to apply over the widget's own.

    Args:
        variables: colours of the theme by name.
    """
    name, attributes = (ON_BAR_STYLES if on_bar else STYLES)[text_style]
    colour = (_BAR_COLOUR if name == "bar" else variables[name]) if name else ""
    style = Style.parse(attributes) if attributes else Style.null()
    return style + Style(color=Color.parse(colour).rich_color) if colour else style


class ActionClicked(Message):
    """A click requests an action of the registry."""

    def __init__(self, action_id: str) -> None:
        super().__init__()
        self.action_id = action_id


class LineView(ScrollView, CachedWidget, can_focus=False):
    """Shows lines. Subclasses make them in :meth:`lines`; the screen calls :meth:`show` with each new state.

    A DataTable costs 18 KB of terminal output for one changed cell; this costs that cell.
    """

    DEFAULT_CSS = """
    LineView {
        height: 1;
        scrollbar-size: 0 0;
        overflow: hidden auto;
    }
    """

    is_coloured_in_production: ClassVar[bool] = False
    """Whether it is a coloured bar in production, an edge of the screen's frame."""

    auto_height: ClassVar[int] = 0
    """If above 0, the widget is as high as its lines, up to this many."""

    click_action: ClassVar[str] = ""
    """Id of the action that a click anywhere on it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.painter: Painter | None = None
        """Paints the changes of a new state; None for Textual's own repaints."""
        self._lines: Sequence[Line] = ()
        self._painted_lines: dict[int, Line] = {}
        self._follows_end = False
        self._is_drawn = False
        self._last_shown: tuple[DashboardState, RenderContext] | None = None
        self._last_inputs: tuple[tuple[object, ...], int, tuple[bool, ...], ProductionLock] | None = None
        self._resolved_styles: dict[TextStyle, Style] = {}
        self._strips: dict[int, Strip] = {}
        self._cached_content_size: tuple[Size, Size] | None = None

    def dependencies(self, state: DashboardState) -> tuple[object, ...]:
        """The parts of a state that the lines are made of; empty if they depend on more.

        While none of them changes, the lines are made again only once a second, for the ages in them, and when a source
        stops being current.
        """
        return ()

    def lines(self, state: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        """The lines to show, for a width in cells."""
        raise NotImplementedError

    @property
    def content_size(self) -> Size:
        """Size without the frame; zero while it is hidden. Textual's own property asks the compositor each time."""
        if not self.display:
            return Size(0, 0)
        outer = self.outer_size
        if self._cached_content_size is None or self._cached_content_size[0] is not outer:
            self._cached_content_size = outer, outer.region.shrink(self.styles.gutter).size
        return self._cached_content_size[1]

    def show(self, state: DashboardState, context: RenderContext) -> None:
        """Draws what has changed since the last call; nothing once its screen has been closed."""
        self._last_shown = (state, context)
        if self.is_attached and not self._is_unchanged(state, context):
            self.draw(state, context)

    def draw(self, state: DashboardState, context: RenderContext) -> None:
        """Makes the lines and paints those that differ."""
        cells = self.content_size.width
        if not cells and self.auto_height:
            # It was hidden because it had no lines; when shown it is as wide as the screen.
            cells = self.app.size.width - self.styles.gutter.width
        if cells > 0:
            with naming_plan(state.plan.file):
                lines = self.lines(state, context, cells)
            self.set_lines(lines)

    def _is_unchanged(self, state: DashboardState, context: RenderContext) -> bool:
        before = self._last_inputs
        current = state.current_sources(context.now)
        self._last_inputs = self.dependencies(state), int(context.now), current, context.production_lock
        return bool(self._last_inputs[0]) and self._last_inputs == before

    def invalidate(self) -> None:
        """The next :meth:`show` makes the lines again: something that is not in the state has changed."""
        self._last_inputs = None

    def redraw(self) -> None:
        """Makes the lines again from the same state."""
        self.invalidate()
        if self._last_shown is not None:
            self.show(*self._last_shown)

    def on_resize(self) -> None:
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        if self.click_action:
            self.post_message(ActionClicked(self.click_action))

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Replaces the lines. Only visible lines are made, and only changed ones are painted."""
        is_same_length = len(self._lines) == len(lines) or self._follows_end
        self._lines = lines
        if not is_same_length or not self._is_drawn:
            self._is_drawn = True
            self.virtual_size = Size(self.content_size.width, len(lines))
            if self.auto_height:
                self.styles.height = max(1, min(len(lines), self.auto_height))
                self.styles.display = "block" if lines else "none"
            self.refresh()
            return
        first = self.first_line
        shown = lines[first : first + self.content_size.height]
        visible: list[Line] = [*shown, *[()] * (self.content_size.height - len(shown))]
        if self._follows_end:
            self._scroll_painted(visible)
        for y, line in enumerate(visible):
            self.refresh_changed(self._painted_lines.get(y), line, y)

    @property
    def first_line(self) -> int:
        """Index of the first visible line."""
        if self._follows_end:
            return max(0, len(self._lines) - self.content_size.height)
        return int(self.scroll_offset.y)

    @property
    def follows_end(self) -> bool:
        """Whether the last lines are shown, however many there are. It takes no layout, as Textual's scrolling does."""
        return self._follows_end

    @follows_end.setter
    def follows_end(self, follows_end: bool) -> None:
        if follows_end != self._follows_end:
            first = self.first_line
            self._follows_end = follows_end
            if not follows_end:  # the same lines stay visible
                self.virtual_size = Size(self.content_size.width, len(self._lines))
                self.scroll_to(y=first, animate=False, force=True)  # Textual has not laid out this height yet
            self.refresh()

    def _line_in_row(self, y: int) -> Line:
        at = y + self.first_line
        return self._lines[at] if at < len(self._lines) else ()

    def _scroll_painted(self, visible: Sequence[Line]) -> None:
        """Moves the painted rows up where that leaves fewer rows to paint."""
        painted = [self._painted_lines.get(y) for y in range(len(visible))]
        rows = find_shift(painted, visible)
        if rows and not any(self.styles.gutter) and self.painter is not None and self.painter.add_scroll(self, rows):
            self._painted_lines = {y - rows: line for y, line in self._painted_lines.items() if y >= rows}
            self._strips = {y - rows: strip for y, strip in self._strips.items() if y >= rows}

    def refresh_changed(self, before: Line | None, after: Line, y: int) -> None:
        """Paints the cells of a line that differ from what was painted there."""
        if before is None:
            self.request_paint(Region(0, y, self.content_size.width, 1))
        elif before != after:
            for start, stop in find_changed_spans(before, after):
                self.request_paint(Region(start, y, stop - start, 1))

    def request_paint(self, region: Region) -> None:
        """Paints a part of the content: with the screen's painter where possible, else with a refresh."""
        if self.painter is None or not self.painter.add_change(self, region):
            self.refresh(region)

    @property
    def shows_history(self) -> bool:
        """Whether sparklines are drawn. On a slow line they are not: each new sample would repaint them."""
        display_options = getattr(self.app, "display_options", None)
        return not (isinstance(display_options, DisplayOptions) and display_options.low_bandwidth)

    def text_under_cursor(self) -> str:
        """The text of the selected row; empty without a cursor."""
        return ""

    def all_lines(self) -> Sequence[Line]:
        """The lines, including those out of sight."""
        return self._lines

    def plain_text(self) -> str:
        """The lines as text, for tests and for copying."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)

    def render_line(self, y: int) -> Strip:
        strip = self._strips[y] = self.render_strip(y)
        return strip

    def render_strip(self, y: int) -> Strip:
        """Renders a visible row of the content, and records the line as painted."""
        line = self._painted_lines[y] = self._line_in_row(y)
        return self.to_strip(line)

    def to_strip(self, line: Line) -> Strip:
        """A styled line, exactly as wide as the content."""
        cells = self.content_size.width
        segments = [Segment(sanitize(text), self._resolve_style(style)) for text, style in clip(line, cells)]
        return Strip(segments).simplify().adjust_cell_length(cells, self._resolve_style(TextStyle.NORMAL))

    def render_pieces(self, regions: Iterable[Region], place: Region) -> Iterator[Piece]:
        """As :meth:`CachedWidget.render_pieces`, but renders rows of the content without the frame around them.

        The frame costs more than the rows. Textual's cached rows become outdated, and are rendered when it needs them.
        """
        inner = self.content_size.region
        within = [region for region in regions if inner.contains_region(region)] if not self.get_line_filters() else []
        yield from super().render_pieces([region for region in regions if region not in within], place)
        across, down = self.content_offset
        rows: dict[int, tuple[Strip | None, Strip]] = {}
        for region in within:
            mark_dirty(self, region.translate((across, down)))
            for y in region.line_range:
                if y not in rows:
                    rows[y] = self._strips.get(y), self.render_line(y)
                before, now = rows[y]
                start, stop = changed_span_within(before, now, *region.column_span)
                if start < stop:
                    yield place.x + across + start, place.y + down + y, now.crop(start, stop)

    def _resolve_style(self, text_style: TextStyle) -> Style:
        style = self._resolved_styles.get(text_style)
        if style is None:
            on_bar = self.is_coloured_in_production and self.screen.has_class("-production")
            style = self.rich_style + resolve_style(text_style, self.app.theme_variables, on_bar=on_bar)
            self._resolved_styles[text_style] = style
        return style

    def notify_style_update(self) -> None:
        self._resolved_styles.clear()
        self._cached_content_size = None
        super().notify_style_update()


def find_shift(before: Sequence[Line | None], after: Sequence[Line]) -> int:
    """By how many rows lines have moved up; 0 where moving them would not leave fewer rows to paint.

    Args:
        before: None for a row that is not painted.
    """
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    shifts = (rows for rows in range(1, changed) if before[rows:] == after[: len(after) - rows])
    return 0 if None in before else next(shifts, 0)


class ReleaseView(LineView):
    """Lines that are made of the plan and the release, and of the agent that was started for it."""

    def dependencies(self, state: DashboardState) -> tuple[object, ...]:
        return state.plan, state.release, state.agent_start

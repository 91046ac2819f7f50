"""The one widget that draws: lines of toned text, scrolled, repainting only lines that changed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.terminal.ansi_writer import Piece
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.drawing.cached_widget import CachedWidget, changed_span_within
from zdd_tui.dashboard.widgets.drawing.cell_painter import Painter
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, find_changed_spans, sanitize
from zdd_tui.dashboard.widgets.drawing.styles import resolve_style
from zdd_tui.model.production_lock import ProductionLock


class LineView(ScrollView, CachedWidget, can_focus=False):
    """Shows lines. Subclasses make them in :meth:`lines`; whoever owns the board calls :meth:`show`.

    A DataTable costs 18 KB of terminal output for one changed cell; this costs that line.
    """

    BINDINGS: ClassVar[list[BindingType]] = []

    DEFAULT_CSS = """
    LineView {
        height: 1;
        scrollbar-size: 0 0;
        overflow: hidden auto;
    }
    """

    is_coloured_in_production: ClassVar[bool] = False
    """In production it is a coloured bar, an edge of the screen's frame."""

    auto_height: ClassVar[int] = 0
    """Where above 0, the widget is as high as its lines, up to this many."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.painter: Painter | None = None
        """Who paints what changes while a board is shown, if anybody does."""
        self._lines: Sequence[Line] = ()
        self._painted_lines: dict[int, Line] = {}
        self._is_drawn = False
        self._last_shown: tuple[DashboardState, RenderContext] | None = None
        self._last_inputs: tuple[tuple[object, ...], int, ProductionLock] | None = None
        self._resolved_styles: dict[TextStyle, Style] = {}
        self._strips: dict[int, Strip] = {}
        self._cached_content_size: tuple[Size, Size] | None = None

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        """The parts of a board that the lines are made of; empty where they depend on more than that.

        While none of them has changed, the lines are made anew once a second only, for the ages in them.
        """
        return ()

    def lines(self, board: DashboardState, moment: RenderContext, cells: int) -> Sequence[Line]:
        """What to show in a width of so many cells."""
        raise NotImplementedError

    @property
    def content_size(self) -> Size:
        """Without the compositor, which Textual asks each time; nothing while it is hidden."""
        if not self.display:
            return Size(0, 0)
        outer = self.outer_size
        if self._cached_content_size is None or self._cached_content_size[0] is not outer:
            self._cached_content_size = outer, outer.region.shrink(self.styles.gutter).size
        return self._cached_content_size[1]

    def show(self, board: DashboardState, context: RenderContext) -> None:
        """Draws what has changed since the last call."""
        self._last_shown = (board, context)
        if not self._is_unchanged(board, context):
            self.draw(board, context)

    def draw(self, board: DashboardState, context: RenderContext) -> None:
        """Makes the lines, and paints those that differ."""
        cells = self.content_size.width
        if not cells and self.auto_height and self.is_attached:
            # Hidden while it had nothing to say: it will be as wide as the screen.
            cells = self.app.size.width - self.styles.gutter.width
        if cells > 0 and self.is_attached:
            self.set_lines(self.lines(board, context, cells))

    def _is_unchanged(self, board: DashboardState, context: RenderContext) -> bool:
        before, self._last_inputs = (
            self._last_inputs,
            (self.dependencies(board), int(context.now), context.production_lock),
        )
        return bool(self._last_inputs[0]) and self._last_inputs == before

    def redraw(self) -> None:
        """Makes the lines anew, though the board is the same."""
        self._last_inputs = None
        if self._last_shown is not None:
            self.show(*self._last_shown)

    def on_resize(self) -> None:
        self.redraw()

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Replaces the lines; what looks the same is not painted again, and what is out of sight is not made."""
        if len(self._lines) != len(lines) or not self._is_drawn:
            self._is_drawn = True
            self._lines = lines
            self.virtual_size = Size(self.content_size.width, len(lines))
            if self.auto_height:
                self.styles.height = max(1, min(len(lines), self.auto_height))
                self.styles.display = "block" if lines else "none"
            self.refresh()
            return
        self._lines = lines
        first = int(self.scroll_offset.y)
        for at in range(first, min(len(lines), first + self.content_size.height)):
            self.refresh_changed(self._painted_lines.get(at), lines[at], at - first)

    def refresh_changed(self, before: Line | None, after: Line, y: int) -> None:
        """Paints what differs from what was painted there."""
        if before is None:
            self.request_paint(Region(0, y, self.content_size.width, 1))
        elif before != after:
            for start, stop in find_changed_spans(before, after):
                self.request_paint(Region(start, y, stop - start, 1))

    def request_paint(self, region: Region) -> None:
        """Has a part of the content painted: by the screen's painter where it is at work, else in Textual's time."""
        if self.painter is None or not self.painter.add_change(self, region):
            self.refresh(region)

    @property
    def shows_history(self) -> bool:
        """Strips of past values are drawn; not on a slow line, where each reading would paint them anew."""
        display_options = getattr(self.app, "display_options", None)
        return not (isinstance(display_options, DisplayOptions) and display_options.low_bandwidth)

    def text_under_cursor(self) -> str:
        """The text of the row that a cursor stands on; empty where there is no cursor."""
        return ""

    def all_lines(self) -> Sequence[Line]:
        """The lines, those out of sight too."""
        return self._lines

    def plain_text(self) -> str:
        """The text on show, for tests and for copying."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)

    def render_line(self, y: int) -> Strip:
        strip = self._strips[y] = self.render_strip(y)
        return strip

    def render_strip(self, y: int) -> Strip:
        """What stands on a line of the content that is in sight; notes that it is painted."""
        at = y + self.scroll_offset.y
        line = self._lines[at] if at < len(self._lines) else ()
        self._painted_lines[at] = line
        return self.to_strip(line)

    def to_strip(self, line: Line) -> Strip:
        """A line in colours, exactly as wide as the content."""
        cells = self.content_size.width
        segments = [Segment(sanitize(text), self._resolve_style(style)) for text, style in clip(line, cells)]
        return Strip(segments).simplify().adjust_cell_length(cells, self._resolve_style(TextStyle.NORMAL))

    def render_pieces(self, regions: Iterable[Region], place: Region) -> Iterator[Piece]:
        """As :meth:`CachedWidget.render_pieces`; lines of the content without Textual's frame around them, which costs more than they.

        Textual's own picture of them is out of date then, and made anew when it is asked for.
        """
        inner = self.content_size.region
        within = [region for region in regions if inner.contains_region(region)] if not self.get_line_filters() else []
        yield from super().render_pieces([region for region in regions if region not in within], place)
        across, down = self.content_offset
        lines: dict[int, tuple[Strip | None, Strip]] = {}
        for region in within:
            self._styles_cache.set_dirty(region.translate((across, down)))
            for y in region.line_range:
                if y not in lines:
                    lines[y] = self._strips.get(y), self.render_line(y)
                before, now = lines[y]
                start, stop = changed_span_within(before, now, *region.column_span)
                if start < stop:
                    yield place.x + across + start, place.y + down + y, now.crop(start, stop)

    def _resolve_style(self, text_style: TextStyle) -> Style:
        style = self._resolved_styles.get(text_style)
        if style is None:
            on_plate = self.is_coloured_in_production and self.screen.has_class("-production")
            style = self.rich_style + resolve_style(text_style, self.app.theme_variables, on_bar=on_plate)
            self._resolved_styles[text_style] = style
        return style

    def notify_style_update(self) -> None:
        self._resolved_styles.clear()
        self._cached_content_size = None
        super().notify_style_update()

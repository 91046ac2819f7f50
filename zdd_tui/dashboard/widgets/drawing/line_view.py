"""The one widget that draws: lines of toned text, scrolled, repainting only lines that changed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.terminal.ansi_writer import Piece
from zdd_tui.dashboard.terminal.display_options import Look
from zdd_tui.dashboard.widgets.drawing.cached_widget import Calm, differing_within
from zdd_tui.dashboard.widgets.drawing.cell_painter import Painter
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, changed_runs, clip, outside
from zdd_tui.dashboard.widgets.drawing.styles import tone_style
from zdd_tui.model.production_lock import Access


class LineView(ScrollView, Calm, can_focus=False):
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

    plated: ClassVar[bool] = False
    """In production it is a coloured bar, an edge of the screen's frame."""

    auto_height: ClassVar[int] = 0
    """Where above 0, the widget is as high as its lines, up to this many."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.painter: Painter | None = None
        """Who paints what changes while a board is shown, if anybody does."""
        self._lines: Sequence[Line] = ()
        self._painted: dict[int, Line] = {}
        self._drawn = False
        self._shown: tuple[Board, Moment] | None = None
        self._seen: tuple[tuple[object, ...], int, Access] | None = None
        self._styles_of_tones: dict[Tone, Style] = {}
        self._strips: dict[int, Strip] = {}
        self._inner: tuple[Size, Size] | None = None

    def watched(self, board: Board) -> tuple[object, ...]:
        """The parts of a board that the lines are made of; empty where they depend on more than that.

        While none of them has changed, the lines are made anew once a second only, for the ages in them.
        """
        return ()

    def lines(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        """What to show in a width of so many cells."""
        raise NotImplementedError

    @property
    def content_size(self) -> Size:
        """Without the compositor, which Textual asks each time; nothing while it is hidden."""
        if not self.display:
            return Size(0, 0)
        outer = self.outer_size
        if self._inner is None or self._inner[0] is not outer:
            self._inner = outer, outer.region.shrink(self.styles.gutter).size
        return self._inner[1]

    def show(self, board: Board, moment: Moment) -> None:
        """Draws what has changed since the last call."""
        self._shown = (board, moment)
        if not self._nothing_new(board, moment):
            self.draw(board, moment)

    def draw(self, board: Board, moment: Moment) -> None:
        """Makes the lines, and paints those that differ."""
        cells = self.content_size.width
        if not cells and self.auto_height and self.is_attached:
            # Hidden while it had nothing to say: it will be as wide as the screen.
            cells = self.app.size.width - self.styles.gutter.width
        if cells > 0 and self.is_attached:
            self.set_lines(self.lines(board, moment, cells))

    def _nothing_new(self, board: Board, moment: Moment) -> bool:
        before, self._seen = self._seen, (self.watched(board), int(moment.now), moment.access)
        return bool(self._seen[0]) and self._seen == before

    def redraw(self) -> None:
        """Makes the lines anew, though the board is the same."""
        self._seen = None
        if self._shown is not None:
            self.show(*self._shown)

    def on_resize(self) -> None:
        self.redraw()

    def set_lines(self, lines: Sequence[Line]) -> None:
        """Replaces the lines; what looks the same is not painted again, and what is out of sight is not made."""
        if len(self._lines) != len(lines) or not self._drawn:
            self._drawn = True
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
            self.refresh_changed(self._painted.get(at), lines[at], at - first)

    def refresh_changed(self, before: Line | None, after: Line, y: int) -> None:
        """Paints what differs from what was painted there."""
        if before is None:
            self.touch(Region(0, y, self.content_size.width, 1))
        elif before != after:
            for start, stop in changed_runs(before, after):
                self.touch(Region(start, y, stop - start, 1))

    def touch(self, region: Region) -> None:
        """Has a part of the content painted: by the screen's painter where it is at work, else in Textual's time."""
        if self.painter is None or not self.painter.take(self, region):
            self.refresh(region)

    @property
    def histories(self) -> bool:
        """Strips of past values are drawn; not on a slow line, where each reading would paint them anew."""
        look = getattr(self.app, "look", None)
        return not (isinstance(look, Look) and look.low_bandwidth)

    def under_cursor(self) -> str:
        """The text of the row that a cursor stands on; empty where there is no cursor."""
        return ""

    def all_lines(self) -> Sequence[Line]:
        """The lines, those out of sight too."""
        return self._lines

    def plain(self) -> str:
        """The text on show, for tests and for copying."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)

    def render_line(self, y: int) -> Strip:
        strip = self._strips[y] = self.strip_at(y)
        return strip

    def strip_at(self, y: int) -> Strip:
        """What stands on a line of the content that is in sight; notes that it is painted."""
        at = y + self.scroll_offset.y
        line = self._lines[at] if at < len(self._lines) else ()
        self._painted[at] = line
        return self.strip_of(line)

    def strip_of(self, line: Line) -> Strip:
        """A line in colours, exactly as wide as the content."""
        cells = self.content_size.width
        segments = [Segment(outside(text), self._style_of(tone)) for text, tone in clip(line, cells)]
        return Strip(segments).simplify().adjust_cell_length(cells, self._style_of(Tone.NORMAL))

    def pieces(self, regions: Iterable[Region], place: Region) -> Iterator[Piece]:
        """As :meth:`Calm.pieces`; lines of the content without Textual's frame around them, which costs more than they.

        Textual's own picture of them is out of date then, and made anew when it is asked for.
        """
        inner = self.content_size.region
        within = [region for region in regions if inner.contains_region(region)] if not self.get_line_filters() else []
        yield from super().pieces([region for region in regions if region not in within], place)
        across, down = self.content_offset
        lines: dict[int, tuple[Strip | None, Strip]] = {}
        for region in within:
            self._styles_cache.set_dirty(region.translate((across, down)))
            for y in region.line_range:
                if y not in lines:
                    lines[y] = self._strips.get(y), self.render_line(y)
                before, now = lines[y]
                start, stop = differing_within(before, now, *region.column_span)
                if start < stop:
                    yield place.x + across + start, place.y + down + y, now.crop(start, stop)

    def _style_of(self, tone: Tone) -> Style:
        style = self._styles_of_tones.get(tone)
        if style is None:
            on_plate = self.plated and self.screen.has_class("-production")
            style = self.rich_style + tone_style(tone, self.app.theme_variables, on_plate=on_plate)
            self._styles_of_tones[tone] = style
        return style

    def notify_style_update(self) -> None:
        self._styles_of_tones.clear()
        self._inner = None
        super().notify_style_update()

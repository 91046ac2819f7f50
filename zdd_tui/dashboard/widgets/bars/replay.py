"""The first line of a replay: time of day, position, length and speed."""

from typing import Protocol

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, justify, line_width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView

_KEY_HINTS: Line = (
    *(("space", TextStyle.KEY), (" pause  ", TextStyle.DIM), ("← →", TextStyle.KEY), (" 10s  ", TextStyle.DIM)),
    *(("< >", TextStyle.KEY), (" speed  ", TextStyle.DIM), ("n N", TextStyle.KEY), (" event", TextStyle.DIM)),
)
_SHORT_KEY_HINTS: Line = (("space arrows <> nN", TextStyle.KEY),)


class PlaybackState(Protocol):
    """Position and speed of a player."""

    speed: float
    playing: bool

    @property
    def position(self) -> float: ...
    @property
    def length(self) -> float: ...


class ReplayLine(LineView):
    """``REPLAY  14:02:11  3:05 of 12:00  ×4  ▶ playing``."""

    DEFAULT_CSS = """
    ReplayLine { padding: 0 1; }
    """

    def __init__(self, playback: PlaybackState) -> None:
        super().__init__()
        self._playback = playback

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [replay_line(self._playback, context, cells)]


def replay_line(playback: PlaybackState, context: RenderContext, cells: int) -> Line:
    """A narrow terminal shows the keys without their meaning."""
    word = "ended" if playback.position >= playback.length else "playing" if playback.playing else "paused"
    glyph = {"ended": "■", "playing": "▶", "paused": "‖"}[word]
    text: Line = (
        (" REPLAY ", TextStyle.ROLLED_BACK),
        (f"  {context.clock.time_of_day(context.wall)}", TextStyle.STRONG),
        (f"  {format_position(playback.position)} of {format_position(playback.length)}", TextStyle.NORMAL),
        (f"  ×{playback.speed:g}  {glyph} {word}", TextStyle.NORMAL),
    )
    return justify(text, _KEY_HINTS if line_width(text) + line_width(_KEY_HINTS) < cells else _SHORT_KEY_HINTS, cells)


def format_position(seconds: float) -> str:
    """``3:05`` or ``1:03:05``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

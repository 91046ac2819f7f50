"""The first line of a replay: that it is one, of when, how far it is, and how fast it runs."""

from typing import Protocol

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, spread, width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView

_KEYS: Line = (
    *(("space", Tone.KEY), (" pause  ", Tone.DIM), ("← →", Tone.KEY), (" 10s  ", Tone.DIM)),
    *(("< >", Tone.KEY), (" speed  ", Tone.DIM), ("n N", Tone.KEY), (" event", Tone.DIM)),
)
_BARE: Line = (("space arrows <> nN", Tone.KEY),)


class Playing(Protocol):
    """What is played, and how."""

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

    def __init__(self, playing: Playing) -> None:
        super().__init__()
        self._playing = playing

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [replay_line(self._playing, moment, cells)]


def replay_line(playing: Playing, moment: Moment, cells: int) -> Line:
    """What the keys do gives way where it is narrow."""
    word = "ended" if playing.position >= playing.length else "playing" if playing.playing else "paused"
    glyph = {"ended": "■", "playing": "▶", "paused": "‖"}[word]
    told: Line = (
        (" REPLAY ", Tone.UNDONE),
        (f"  {moment.clock.time_of_day(moment.wall)}", Tone.STRONG),
        (f"  {clocked(playing.position)} of {clocked(playing.length)}", Tone.NORMAL),
        (f"  ×{playing.speed:g}  {glyph} {word}", Tone.NORMAL),
    )
    return spread(told, _KEYS if width(told) + width(_KEYS) < cells else _BARE, cells)


def clocked(seconds: float) -> str:
    """``3:05`` or ``1:03:05``: of one width while it runs, as far as can be."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

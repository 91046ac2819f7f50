"""`zdd replay`: the dashboard on a recording, read-only, with a clock that the operator sets."""

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input

from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.recording.player import Player
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, justify, line_width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.errors import ZddError

REPAINT_INTERVAL = 0.1
"""Seconds between two checks of the recording's clock."""

JUMP_SECONDS = 10.0
"""Seconds that one arrow key moves."""

_KEY_HINTS: Line = (
    *(("space", TextStyle.KEY), (" pause  ", TextStyle.DIM), ("← →", TextStyle.KEY), (" 10s  ", TextStyle.DIM)),
    *(("< >", TextStyle.KEY), (" speed  ", TextStyle.DIM), ("n N", TextStyle.KEY), (" event", TextStyle.DIM)),
)
_SHORT_KEY_HINTS: Line = (("space arrows <> nN", TextStyle.KEY),)


class ReplayLine(LineView):
    """The first line: ``REPLAY  14:02:11  3:05 of 12:00  ×4  ▶ playing``."""

    DEFAULT_CSS = """
    ReplayLine { padding: 0 1; }
    """

    def __init__(self, playback: Player) -> None:
        super().__init__()
        self._playback = playback

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [replay_line(self._playback, context, cells)]


def replay_line(playback: Player, context: RenderContext, cells: int) -> Line:
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


class ReplayScreen(ReleaseScreen):
    """The main screen, with the position in the recording above it."""

    def __init__(self, player: Player, context: RenderContext) -> None:
        super().__init__(player, context)
        self._player = player

    def compose(self) -> ComposeResult:
        yield ReplayLine(self._player)
        yield from super().compose()


class ReplayApp(ZddApp):
    """The dashboard on a recording.

    Args:
        player: the source of states and the clock.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "play", "Pause or play", show=False, priority=True, id="replay.toggle"),
        Binding("left", f"jump(-{JUMP_SECONDS})", "Ten seconds back", show=False, priority=True, id="replay.back"),
        Binding(
            "right", f"jump({JUMP_SECONDS})", "Ten seconds forward", show=False, priority=True, id="replay.forward"
        ),
        Binding("home", "start", "To the start", show=False, priority=True, id="replay.start"),
        Binding("end", "last", "To the end", show=False, priority=True, id="replay.end"),
        Binding("less_than_sign", "slower", "Slower", show=False, id="replay.slower"),
        Binding("greater_than_sign", "faster", "Faster", show=False, id="replay.faster"),
        Binding("n", "jump_event(1)", "Next event", show=False, id="replay.next"),
        Binding("N", "jump_event(-1)", "Previous event", show=False, id="replay.previous"),
    ]
    _MAIN_SCREEN_ACTIONS = frozenset({"play", "jump", "start", "last"})
    """Actions whose keys have another meaning in a dialog and in a text field."""

    def __init__(self, player: Player, *, display_options: DisplayOptions) -> None:
        super().__init__(player, clock=player, read_only=True, display_options=display_options)
        self._player = player
        self._painted: tuple[int, int, int] | None = None
        self.error: ZddError | None = None
        """Set when a line of the recording cannot be shown."""

    def get_default_screen(self) -> Screen[Any]:
        return ReplayScreen(self._player, self.render_context())

    def on_mount(self) -> None:
        self.set_interval(REPAINT_INTERVAL, self._check_for_change)
        self.call_after_refresh(self._player.start_clock)

    def _check_for_change(self) -> None:
        """Repaints after another line of the recording, another second, or pause."""
        player = self._player
        current = (player.recording.index_at(player.position), int(player.position), int(player.playing))
        if current != self._painted:
            self._painted = current
            self.repaint()

    def repaint(self) -> None:
        """As live; a line that cannot be shown ends the replay."""
        try:
            super().repaint()
        except ZddError as error:
            self.error = error
            self.exit(error.exit_code)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in self._MAIN_SCREEN_ACTIONS and (
            len(self.screen_stack) > 1 or isinstance(self.screen.focused, Input)
        ):
            return False
        return super().check_action(action, parameters)

    def action_play(self) -> None:
        self._player.toggle()

    def action_jump(self, seconds: float) -> None:
        self._player.seek(self._player.position + seconds)

    def action_start(self) -> None:
        self._player.seek(0.0)

    def action_last(self) -> None:
        self._player.seek(self._player.length)

    def action_slower(self) -> None:
        self._player.slower()

    def action_faster(self) -> None:
        self._player.faster()

    def action_jump_event(self, direction: int) -> None:
        if direction > 0:
            self._player.next_mark()
        else:
            self._player.previous_mark()


def run_replay(player: Player, display_options: DisplayOptions) -> int:
    """Plays until the operator quits; returns the exit code.

    Raises:
        ZddError: a line of the recording cannot be shown.
    """
    app = ReplayApp(player, display_options=display_options)
    code = app.run()
    if app.error is not None:
        raise app.error
    return code

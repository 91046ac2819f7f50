"""The terminal application: wires a source of boards to the screens, and does nothing else."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, Monochrome, NoColor
from textual.screen import Screen

from zdd_tui.dashboard.keymap import KeyChoice
from zdd_tui.dashboard.screens.actions import CopyAsked, Operator, QuitAsked, Renewed, Settled, copied
from zdd_tui.dashboard.screens.base import ActAsked
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import Board, BoardSource, Clock, Moment
from zdd_tui.dashboard.terminal.display_options import Look
from zdd_tui.dashboard.terminal.driver import ZddDriver
from zdd_tui.dashboard.terminal.osc import clipboard, notification, within_limit
from zdd_tui.dashboard.terminal.signals import TerminalGuard
from zdd_tui.dashboard.widgets.bars.notifications import Attention, needs
from zdd_tui.dashboard.widgets.drawing.cell_painter import CellsUpdate
from zdd_tui.dashboard.widgets.panes.pane import RowChosen
from zdd_tui.model.production_lock import Access
from zdd_tui.model.rate_limiter import Cadence

TICK = 1.0
"""Seconds after which ages are drawn again although nothing changed."""

ATTENTION = 0.5
"""Seconds between two looks for what needs a person."""


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def time_of_day(self, at: float) -> str:
        return time.strftime("%H:%M:%S", time.localtime(at))


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """How the dashboard ended.

    Attributes:
        code: for the shell: 0 after `q`, 128 and the signal's number after a signal, 1 after a defect.
        reason: in words.
    """

    code: int
    reason: str


class ZddApp(App[ExitInfo]):
    """The dashboard of one release.

    Args:
        source: where boards come from and commands go; see :class:`zdd_tui.dashboard.live_source.Feeds`.
        clock: for ages on screen.
        read_only: mutating keys do not exist.
        look: what the terminal can show.
        unlock_seconds: how long an unlock of production lasts; the plan's own where it is None.
        keys: other keys than the registry's, and what is to be said about them.
    """

    TITLE = "zdd"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "leave", "Leave", show=False, priority=True, id="app.leave"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend"),
    ]

    def __init__(
        self,
        source: BoardSource,
        *,
        clock: Clock | None = None,
        read_only: bool = False,
        look: Look | None = None,
        unlock_seconds: float | None = None,
        keys: KeyChoice | None = None,
    ) -> None:
        self.look = look or Look()
        self.terminal: ZddDriver | None = None
        """The real terminal, which may be behind; None without one."""
        super().__init__(driver_class=ZddDriver)
        self._source = source
        self._zdd_clock = clock or SystemClock()
        plan = source.board().plan
        access = Access(read_only, plan.production, unlock_seconds or plan.unlock_seconds)
        self._keys = keys or KeyChoice()
        self.operator = Operator(self, source, self._zdd_clock, access, self._keys.names)
        """Carries out what the screens ask for."""
        self._cadence = Cadence(self.look.paint_every, self.look.paint_early)
        self._paint_planned = False
        self._next_paint: asyncio.TimerHandle | None = None
        self._attention = Attention()
        self._attention_due = float("-inf")
        self._loop_of_screens: asyncio.AbstractEventLoop | None = None
        self._context_of_screens: Context | None = None
        self.theme = "ansi-dark"  # half the bytes, and the colours that the operator has chosen
        self.animation_level = "none"

    def get_default_screen(self) -> Screen[Any]:
        return ReleaseScreen(self._source.board(), self.moment(), self._keys.notice)

    def moment(self) -> Moment:
        return self.operator.moment()

    def on_mount(self) -> None:
        if self._keys.keymap:
            self.set_keymap(self._keys.keymap)
        self.set_interval(TICK, self._tick)
        self._attention.news(needs(self._source.board(), self.moment()))  # what is there already rings no bell
        self._loop_of_screens, self._context_of_screens = asyncio.get_running_loop(), copy_context()
        # The source leaves the processor to us until then.
        self.screen.call_after_refresh(self._source.subscribe, self._board_changed)

    def _board_changed(self) -> None:
        """Called from the source's thread; many changes are one.

        Past Textual's messages and timers, which cost more than what is painted.
        """
        loop, context = self._loop_of_screens, self._context_of_screens
        if not self._paint_planned and loop is not None and context is not None:
            self._paint_planned = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._plan_paint, context=context)

    def _tick(self) -> None:
        """Time passes: a paint that is coming anyway shows it too."""
        if not self._paint_planned:
            self._paint_planned = True
            self._plan_paint()

    def _plan_paint(self) -> None:
        """Paints now, or with what else comes before the next paint is due."""
        if wait := self._cadence.wait(time.monotonic()):
            self._next_paint = asyncio.get_running_loop().call_later(wait, self._paint_planned_one)
        else:
            self._paint_planned_one()

    def _paint_planned_one(self) -> None:
        try:
            self.repaint()
        except Exception as error:  # as in a message's handler: told to the operator, and the end of the dashboard
            self._handle_exception(error)

    def repaint(self) -> None:
        """Shows the newest board on every screen that follows it."""
        self._paint_planned = False
        if self._next_paint is not None:  # what somebody asked for meanwhile has brought it forward
            self._next_paint.cancel()
            self._next_paint = None
        if not self.is_running:
            return  # the screens are being taken down, and are not whole any more
        board, moment = self._source.board(), self.moment()
        if moment.now >= self._attention_due:
            self._attention_due = moment.now + ATTENTION
            if (news := self._attention.news(needs(board, moment))) and self.look.bell:
                self._emit(notification(news, os.environ))
        if self.terminal is not None and self.terminal.behind:
            return  # what comes later holds this too; the next tick asks again
        self._cadence.happened(time.monotonic())
        if self.terminal is not None and self.terminal.take_lost():
            self.refresh()
        self.operator.follow(board, moment)
        for screen in self.screen_stack:
            show_on(screen, board, moment)
            if isinstance(screen, ReleaseScreen):
                screen.tell(self.operator.course)

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Sends changed cells as they are: a frame's marks and the way home for the cursor are longer than they."""
        if isinstance(renderable, CellsUpdate) and self.terminal is not None:
            self.terminal.draw(lambda pen: renderable.writing(self.console, pen))
        else:
            super()._display(screen, renderable)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Where the environment says NO_COLOR, attributes tell what there is to tell; Textual would draw in greys."""
        if os.environ.get("NO_COLOR"):
            return [NoColor()]
        return [each for each in super().get_line_filters() if not isinstance(each, Monochrome)]

    def on_key(self, event: events.Key) -> None:
        """Comes before the bindings, and after every widget: what has begun meanwhile may want the key."""
        if isinstance(self.screen, ReleaseScreen):
            self.screen.late(event)

    def on_act_asked(self, message: ActAsked) -> None:
        self.operator.act(message.action_id)

    def on_row_chosen(self, message: RowChosen) -> None:
        self.operator.open(message)

    def on_settled(self, message: Settled) -> None:
        self.operator.settle(message)

    def on_renewed(self, message: Renewed) -> None:
        self.repaint()

    def on_quit_asked(self, message: QuitAsked) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        self.exit(ExitInfo(0, "left by the operator"))

    def on_copy_asked(self, message: CopyAsked) -> None:
        """Puts what the operator looks at into the clipboard of the machine that the terminal runs on."""
        found = copied(self.screen)
        whole = within_limit(found.text) == found.text
        self._emit(clipboard(found.text, os.environ))
        told = f"copied {found.what}, {len(found.text.splitlines())} lines" + ("" if whole else ": only the beginning")
        self.notify(told, markup=False, timeout=3)

    def action_suspend_process(self) -> None:
        if self.terminal is not None and not self.terminal.can_suspend:
            self.notify("no shell would bring it back: it is not suspended", markup=False, timeout=5)
        else:
            super().action_suspend_process()

    def _emit(self, sequence: str) -> None:
        if self.terminal is not None:
            self.terminal.say(sequence)

    def run(self, **options: Any) -> ExitInfo:
        """Runs until the operator leaves, the terminal goes away or a signal ends it."""
        with TerminalGuard(self._end_by_signal) as guard:
            left = super().run(**options)
        if guard.signal:
            return ExitInfo(128 + guard.signal, f"ended by signal {guard.signal}")
        return left or ExitInfo(self.return_code or 0, "ended")

    def _end_by_signal(self, number: int) -> None:
        if self._loop_of_screens is not None:
            self._loop_of_screens.call_soon_threadsafe(self.exit)


def show_on(screen: Screen[Any], board: Board, moment: Moment) -> None:
    """Hands a board to a screen that follows it; one that is still being made begins with the board it was given."""
    show = getattr(screen, "show", None)
    if callable(show) and screen.is_mounted:
        show(board, moment)

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

from zdd_tui.dashboard.keymap import DashboardKeys
from zdd_tui.dashboard.screens.actions import (
    ActionController,
    CommandAnswered,
    CopyRequested,
    QuitRequested,
    RepaintRequested,
    text_to_copy,
)
from zdd_tui.dashboard.screens.base import ActionRequested
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import Clock, DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.terminal.driver import ZddDriver
from zdd_tui.dashboard.terminal.osc import clipboard_sequence, notification_sequence, truncate_for_clipboard
from zdd_tui.dashboard.terminal.signals import TerminalWatcher
from zdd_tui.dashboard.widgets.bars.notifications import NotificationTracker, attention_items
from zdd_tui.dashboard.widgets.drawing.cell_painter import CellsUpdate
from zdd_tui.dashboard.widgets.panes.pane import RowSelected
from zdd_tui.model.production_lock import ProductionLock
from zdd_tui.model.rate_limiter import RateLimiter

TICK_INTERVAL = 1.0
"""Seconds after which ages are drawn again although nothing changed."""

ATTENTION_INTERVAL = 0.5
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
        source: where boards come from and commands go; see :class:`zdd_tui.dashboard.live_source.LiveSource`.
        clock: for ages on screen.
        read_only: mutating keys do not exist.
        display_options: what the terminal can show.
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
        source: StateSource,
        *,
        clock: Clock | None = None,
        read_only: bool = False,
        display_options: DisplayOptions | None = None,
        unlock_seconds: float | None = None,
        keys: DashboardKeys | None = None,
    ) -> None:
        self.display_options = display_options or DisplayOptions()
        self.terminal: ZddDriver | None = None
        """The real terminal, which may be behind; None without one."""
        super().__init__(driver_class=ZddDriver)
        self._source = source
        self._zdd_clock = clock or SystemClock()
        plan = source.state().plan
        access = ProductionLock(read_only, plan.is_production, unlock_seconds or plan.unlock_seconds)
        self._keys = keys or DashboardKeys()
        self.action_controller = ActionController(self, source, self._zdd_clock, access, self._keys.key_names)
        """Carries out what the screens ask for."""
        self._rate_limiter = RateLimiter(self.display_options.paint_interval, self.display_options.paint_tolerance)
        self._is_paint_scheduled = False
        self._next_paint: asyncio.TimerHandle | None = None
        self._notification_tracker = NotificationTracker()
        self._next_attention_check = float("-inf")
        self._ui_loop: asyncio.AbstractEventLoop | None = None
        self._ui_context: Context | None = None
        self.theme = "ansi-dark"  # half the bytes, and the colours that the operator has chosen
        self.animation_level = "none"

    def get_default_screen(self) -> Screen[Any]:
        return ReleaseScreen(self._source.state(), self.render_context(), self._keys.warnings)

    def render_context(self) -> RenderContext:
        return self.action_controller.render_context()

    def on_mount(self) -> None:
        if self._keys.keymap:
            self.set_keymap(self._keys.keymap)
        self.set_interval(TICK_INTERVAL, self._tick)
        self._notification_tracker.pop_new_text(
            attention_items(self._source.state(), self.render_context())
        )  # what is there already rings no bell
        self._ui_loop, self._ui_context = asyncio.get_running_loop(), copy_context()
        # The source leaves the processor to us until then.
        self.screen.call_after_refresh(self._source.subscribe, self._on_board_changed)

    def _on_board_changed(self) -> None:
        """Called from the source's thread; many changes are one.

        Past Textual's messages and timers, which cost more than what is painted.
        """
        loop, context = self._ui_loop, self._ui_context
        if not self._is_paint_scheduled and loop is not None and context is not None:
            self._is_paint_scheduled = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._schedule_paint, context=context)

    def _tick(self) -> None:
        """Time passes: a paint that is coming anyway shows it too."""
        if not self._is_paint_scheduled:
            self._is_paint_scheduled = True
            self._schedule_paint()

    def _schedule_paint(self) -> None:
        """Paints now, or with what else comes before the next paint is due."""
        if wait := self._rate_limiter.seconds_until_allowed(time.monotonic()):
            self._next_paint = asyncio.get_running_loop().call_later(wait, self._run_scheduled_paint)
        else:
            self._run_scheduled_paint()

    def _run_scheduled_paint(self) -> None:
        try:
            self.repaint()
        except Exception as error:  # as in a message's handler: told to the operator, and the end of the dashboard
            self._handle_exception(error)

    def repaint(self) -> None:
        """Shows the newest board on every screen that follows it."""
        self._is_paint_scheduled = False
        if self._next_paint is not None:  # what somebody asked for meanwhile has brought it forward
            self._next_paint.cancel()
            self._next_paint = None
        if not self.is_running:
            return  # the screens are being taken down, and are not whole any more
        board, context = self._source.state(), self.render_context()
        if context.now >= self._next_attention_check:
            self._next_attention_check = context.now + ATTENTION_INTERVAL
            if (
                news := self._notification_tracker.pop_new_text(attention_items(board, context))
            ) and self.display_options.bell:
                self._send_sequence(notification_sequence(news, os.environ))
        if self.terminal is not None and self.terminal.is_behind:
            return  # what comes later holds this too; the next tick asks again
        self._rate_limiter.record(time.monotonic())
        if self.terminal is not None and self.terminal.take_dropped():
            self.refresh()
        self.action_controller.update_progress(board, context)
        for screen in self.screen_stack:
            show_board(screen, board, context)
            if isinstance(screen, ReleaseScreen):
                screen.show_progress(self.action_controller.progress)

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Sends changed cells as they are: a frame's marks and the way home for the cursor are longer than they."""
        if isinstance(renderable, CellsUpdate) and self.terminal is not None:
            self.terminal.draw(lambda sgr: renderable.encode(self.console, sgr))
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
            self.screen.forward_to_filter(event)

    def on_action_requested(self, message: ActionRequested) -> None:
        self.action_controller.run_action(message.action_id)

    def on_row_selected(self, message: RowSelected) -> None:
        self.action_controller.open_row(message)

    def on_command_answered(self, message: CommandAnswered) -> None:
        self.action_controller.show_result(message)

    def on_repaint_requested(self, message: RepaintRequested) -> None:
        self.repaint()

    def on_quit_requested(self, message: QuitRequested) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        self.exit(ExitInfo(0, "left by the operator"))

    def on_copy_requested(self, message: CopyRequested) -> None:
        """Puts what the operator looks at into the clipboard of the machine that the terminal runs on."""
        found = text_to_copy(self.screen)
        whole = truncate_for_clipboard(found.text) == found.text
        self._send_sequence(clipboard_sequence(found.text, os.environ))
        text = f"copied {found.label}, {len(found.text.splitlines())} lines" + ("" if whole else ": only the beginning")
        self.notify(text, markup=False, timeout=3)

    def action_suspend_process(self) -> None:
        if self.terminal is not None and not self.terminal.can_suspend:
            self.notify("no shell would bring it back: it is not suspended", markup=False, timeout=5)
        else:
            super().action_suspend_process()

    def _send_sequence(self, sequence: str) -> None:
        if self.terminal is not None:
            self.terminal.send_sequence(sequence)

    def run(self, **options: Any) -> ExitInfo:
        """Runs until the operator leaves, the terminal goes away or a signal ends it."""
        with TerminalWatcher(self._end_by_signal) as guard:
            left = super().run(**options)
        if guard.signal:
            return ExitInfo(128 + guard.signal, f"ended by signal {guard.signal}")
        return left or ExitInfo(self.return_code or 0, "ended")

    def _end_by_signal(self, number: int) -> None:
        if self._ui_loop is not None:
            self._ui_loop.call_soon_threadsafe(self.exit)


def show_board(screen: Screen[Any], board: DashboardState, context: RenderContext) -> None:
    """Hands a board to a screen that follows it; one that is still being made begins with the board it was given."""
    show = getattr(screen, "show", None)
    if callable(show) and screen.is_mounted:
        show(board, context)

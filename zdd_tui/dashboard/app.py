"""The terminal application: connects a source of states to the screens."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import replace
from typing import Any, ClassVar

from rich.console import COLOR_SYSTEMS
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, Monochrome, NoColor
from textual.message import Message
from textual.screen import Screen
from textual.theme import BUILTIN_THEMES

from zdd_tui.dashboard.column_choice import ColumnChoice
from zdd_tui.dashboard.fleet_source import FleetSource, NoRelease
from zdd_tui.dashboard.keymap import DashboardKeys
from zdd_tui.dashboard.screens.actions import (
    ActionController,
    CommandAnswered,
    CopyRequested,
    FleetRequested,
    QuitRequested,
    RegionRequested,
    RepaintRequested,
    text_to_copy,
)
from zdd_tui.dashboard.screens.base import ActionRequested
from zdd_tui.dashboard.screens.columns import ColumnScreen
from zdd_tui.dashboard.screens.fleet import FleetClosed, FleetScreen, ReleaseChosen
from zdd_tui.dashboard.screens.quit import QuitScreen
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import Clock, DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.terminal.ansi_writer import Piece
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.terminal.driver import ZddDriver
from zdd_tui.dashboard.terminal.osc import clipboard_sequence, notification_sequence, truncate_for_clipboard
from zdd_tui.dashboard.terminal.signals import TerminalWatcher
from zdd_tui.dashboard.typed_keys import TypedKeys
from zdd_tui.dashboard.widgets.bars.notifications import NotificationTracker, attention_items
from zdd_tui.dashboard.widgets.drawing.line import TextStyle, sanitize
from zdd_tui.dashboard.widgets.drawing.line_view import ActionClicked
from zdd_tui.dashboard.widgets.panes.pane import RowSelected
from zdd_tui.dashboard.widgets.panes.table import ColumnsRequested
from zdd_tui.model.actions import Action, find_action
from zdd_tui.model.errors import ZddError
from zdd_tui.model.production_lock import ProductionLock
from zdd_tui.model.rate_limiter import RateLimiter

TICK_INTERVAL = 1.0
"""Seconds between two repaints that only update ages."""

ATTENTION_INTERVAL = 0.5
"""Seconds between two checks for notifications."""


EXPIRY_MARGIN = 0.005
"""Seconds by which the paint for a source that is no longer current comes after that: a loss is shown within three."""


_LEAVE_KEYS = ("ctrl+c", "ctrl+q")

_START_MODE, _FLEET_MODE = "start", "fleet"


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def time_of_day(self, at: float) -> str:
        return time.strftime("%H:%M:%S", time.localtime(at))


class ReleaseOpened(Message):
    """A release that was to be opened has been read, or cannot be."""

    def __init__(self, future: "Future[StateSource]") -> None:
        super().__init__()
        self.future = future


class ZddApp(App[int]):
    """The dashboard of one release at a time, and the list of all. Its result is the exit code.

    The open release and the list are modes of Textual, each with a stack of screens: the list keeps cursor and filter.

    Args:
        source: provides states and accepts commands; see :class:`zdd_tui.dashboard.live_source.LiveSource`. None starts
            with the list of `fleet`.
        fleet: other releases that can be opened; None for none.
        clock: for ages on screen.
        read_only: keys that change the release do not exist.
        display_options: what the terminal can show.
        unlock_seconds: duration of an unlock of production; None for the plan's value.
        keys: the keymap, with warnings about it.
        column_choice: the hidden columns of tables; None keeps a choice for this dashboard alone.
    """

    TITLE = "zdd"
    DEFAULT_MODE = _START_MODE
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    /* Above the lines that say what to press and what became of the last command, and below those of the state. */
    ToastRack { margin-bottom: 5; max-height: 5; }
    Toast { width: auto; max-width: 100%; margin-top: 0; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(_LEAVE_KEYS), "leave", "Quit", show=False, priority=True, id="app.leave"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend"),
    ]

    def __init__(
        self,
        source: StateSource | None,
        *,
        fleet: FleetSource | None = None,
        clock: Clock | None = None,
        read_only: bool = False,
        display_options: DisplayOptions | None = None,
        unlock_seconds: float | None = None,
        keys: DashboardKeys | None = None,
        column_choice: ColumnChoice | None = None,
    ) -> None:
        self.display_options = display_options or DisplayOptions()
        self.terminal: ZddDriver | None = None
        """The driver of the real terminal; None in a headless run."""
        super().__init__(driver_class=ZddDriver)
        self.typed_keys = TypedKeys(self, super().on_event)
        self._zdd_clock = clock or SystemClock()
        self._keys = keys or DashboardKeys()
        self.column_choice = column_choice or ColumnChoice()
        self._fleet = fleet
        self._read_only, self._unlock_seconds = read_only, unlock_seconds
        self._fleet_screen: FleetScreen | None = None
        self._release_mode = _START_MODE
        self._fleet_mode = _START_MODE if source is None else _FLEET_MODE
        self._opened_count = 0
        self._set_source(source or NoRelease())
        self.add_mode(_START_MODE, self.get_default_screen)
        self._rate_limiter = RateLimiter(self.display_options.paint_interval, self.display_options.paint_tolerance)
        self._is_paint_scheduled = False
        self._next_paint: asyncio.TimerHandle | None = None
        self._next_expiry: asyncio.TimerHandle | None = None
        self._next_attention_check = float("-inf")
        self._opening: Future[StateSource] | None = None
        """The release that is being opened; None where none is."""
        self._is_rollback_wanted = False
        """Its rollback was requested before it was shown."""
        self._ui_loop: asyncio.AbstractEventLoop | None = None
        self._ui_context: Context | None = None
        self.register_theme(replace(BUILTIN_THEMES["ansi-light"], warning="ansi_magenta"))
        self.theme = self.display_options.theme
        self.animation_level = "none"

    def _set_source(self, source: StateSource) -> None:
        """Everything that belongs to one release: its commands, its lock, its notifications."""
        self._source = source
        plan = source.state().plan
        lock = ProductionLock(self._read_only, plan.is_production, self._unlock_seconds or plan.unlock_seconds)
        self.action_controller = ActionController(self, source, self._zdd_clock, lock, self._keys.key_names)
        """Runs the actions that screens request."""
        self.action_controller.has_fleet = self._fleet is not None
        self._notification_tracker = NotificationTracker()

    def get_default_screen(self) -> Screen[Any]:
        if not self._has_release:
            return self._make_fleet_screen()
        return ReleaseScreen(
            self._source, self.render_context(), self._keys.warnings, with_tour=self.display_options.tour
        )

    def render_context(self) -> RenderContext:
        return self.action_controller.render_context()

    def on_mount(self) -> None:
        if self._keys.keymap:
            self.set_keymap(self._keys.keymap)
        self.set_interval(TICK_INTERVAL, self._tick)
        # Items that exist at start ring no bell.
        self._notification_tracker.pop_new_text(attention_items(self._source.state(), self.render_context()))
        self._ui_loop, self._ui_context = asyncio.get_running_loop(), copy_context()
        # The source starts its work when it has a subscriber: the first paint comes before.
        self.screen.call_after_refresh(self._source.subscribe, self._on_state_changed)
        if self._fleet is not None:
            self._fleet.subscribe(self._on_fleet_changed)
            if not self._has_release:
                self.screen.call_after_refresh(self._fleet.resume)

    # --- other releases ----------------------------------------------------------------------------------------------

    @property
    def _has_release(self) -> bool:
        return not isinstance(self._source, NoRelease)

    @property
    def _shown_fleet(self) -> FleetScreen | None:
        screen = self._fleet_screen
        return screen if screen is not None and self.screen_stack[0] is screen else None

    def _make_fleet_screen(self) -> FleetScreen:
        assert self._fleet is not None
        self._fleet_screen = FleetScreen(self._fleet, self.render_context, has_release=self._has_release)
        return self._fleet_screen

    def _on_fleet_changed(self) -> None:
        """As for a new state of the release, and only while the list is shown."""
        if self.is_running and self._shown_fleet is not None:
            self._on_state_changed()

    async def on_fleet_requested(self, message: FleetRequested) -> None:
        if self._fleet is None or self._shown_fleet is not None:
            return
        if self._fleet_screen is None:
            self.add_mode(self._fleet_mode, self._make_fleet_screen)
        await self.switch_mode(self._fleet_mode)
        self._fleet.resume()

    async def on_fleet_closed(self, message: FleetClosed) -> None:
        await self._show_release()

    def on_release_chosen(self, message: ReleaseChosen) -> None:
        if (fleet := self._fleet) is not None:
            self._unless_unsent(lambda: self._wait_for_release(fleet.open_release(message.row)))

    def on_region_requested(self, message: RegionRequested) -> None:
        if (fleet := self._fleet) is not None and message.region:
            plan = self._source.state().plan
            self._unless_unsent(lambda: self._wait_for_release(fleet.open_region(plan, message.region)))

    def _wait_for_release(self, future: "Future[StateSource]") -> None:
        self._opening, self._is_rollback_wanted = future, False  # an earlier one is not shown any more
        future.add_done_callback(lambda done: self.post_message(ReleaseOpened(done)))

    async def on_release_opened(self, message: ReleaseOpened) -> None:
        """Shows the release; or says why it cannot be opened."""
        future = message.future
        if future is not self._opening or future.cancelled():
            return
        wants_rollback = self._is_rollback_wanted
        self._opening, self._is_rollback_wanted = None, False
        if (error := future.exception()) is None:
            await self._replace_release(future.result())
            if wants_rollback:
                self.action_controller.run_action("rollback")
            return
        title, hint = (error.title, error.hint) if isinstance(error, ZddError) else (type(error).__name__, "")
        text = f"{title}. Fix: {hint}" if hint else title
        text += "; nothing is rolled back" if wants_rollback else ""
        if (fleet := self._shown_fleet) is not None:
            fleet.show_message(f"✗ {text}")
        else:
            self.notify(text, markup=False, timeout=10)

    def _run_while_opening(self, action: Action) -> None:
        """A command is for the release that the operator has chosen, which is not on screen yet: a rollback opens with
        it, every other one must be repeated."""
        if action.id == "rollback":
            self._is_rollback_wanted = True
            text = "rollback opens with the release, once it is there"
        else:
            text = f"{action.label} refused: another release is being opened"
        if (fleet := self._shown_fleet) is not None:
            fleet.show_message(text, TextStyle.WARN)
        else:
            self.notify(text, markup=False, timeout=5)

    async def _replace_release(self, source: StateSource) -> None:
        """Shows the release of a source; the screens of the one before are removed."""
        before = self._release_mode if self._has_release else ""
        self.clear_notifications()  # they are about the release before
        self._set_source(source)
        self._opened_count += 1
        self._release_mode = f"release-{self._opened_count}"
        self.add_mode(self._release_mode, self.get_default_screen)
        source.subscribe(self._on_state_changed)
        if self._fleet_screen is not None:
            self._fleet_screen.has_release = True
            self._fleet_screen.message = None
        await self._show_release()
        if before:
            await self.remove_mode(before)

    async def _show_release(self) -> None:
        if self._fleet is not None:
            self._fleet.pause()
        self._notification_tracker.pop_new_text(attention_items(self._source.state(), self.render_context()))
        await self.switch_mode(self._release_mode)
        self.repaint()

    # --- painting ----------------------------------------------------------------------------------------------------

    def _on_state_changed(self) -> None:
        """Schedules one paint for any number of changes. Called from the source's thread.

        It does not use Textual's messages and timers: they cost more than the paint.
        """
        loop, context = self._ui_loop, self._ui_context
        if not self._is_paint_scheduled and loop is not None and context is not None:
            self._is_paint_scheduled = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._schedule_paint, context=context)

    def _tick(self) -> None:
        """Updates ages, unless a scheduled paint will do so."""
        if not self._is_paint_scheduled:
            self._is_paint_scheduled = True
            self._schedule_paint()

    def _schedule_paint(self) -> None:
        """Paints now, or when the rate limit allows the next paint."""
        if wait := self._rate_limiter.seconds_until_allowed(time.monotonic()):
            self._next_paint = asyncio.get_running_loop().call_later(wait, self._run_scheduled_paint)
        else:
            self._run_scheduled_paint()

    def _run_scheduled_paint(self) -> None:
        try:
            self.repaint()
        except Exception as error:  # Textual ends the application for an error in a callback of its own
            self.call_next(_raise_error, error)

    def repaint(self) -> None:
        """Shows the newest state on every screen that displays it."""
        self._is_paint_scheduled = False
        if self._next_paint is not None:  # this paint replaces it
            self._next_paint.cancel()
            self._next_paint = None
        if not self.is_running:
            return  # the screens are being removed
        if (fleet := self._shown_fleet) is not None:
            self._repaint_fleet(fleet)
            return
        state, context = self._source.state(), self.render_context()
        now = time.monotonic()  # the clock of a recording can go back
        if now >= self._next_attention_check:
            self._next_attention_check = now + ATTENTION_INTERVAL
            text = self._notification_tracker.pop_new_text(attention_items(state, context))
            if text and self.display_options.bell:
                self._send_sequence(notification_sequence(text, os.environ))
        if self.terminal is not None and self.terminal.is_behind:
            return  # the next tick retries, with the newest state
        self._rate_limiter.record(now)
        if self.terminal is not None and self.terminal.take_dropped():
            self.refresh()
        self._schedule_expiry(state, context)
        self.action_controller.update_progress(state, context)
        for screen in visible_screens(self.screen_stack):
            self._show_state(screen, state, context)

    def show_newest(self, screen: Screen[Any]) -> None:
        """Shows the newest state on a screen that was covered, and has missed the ones before."""
        self._show_state(screen, self._source.state(), self.render_context())

    def _show_state(self, screen: Screen[Any], state: DashboardState, context: RenderContext) -> None:
        show_state(screen, state, context)
        if isinstance(screen, ReleaseScreen) and screen.is_mounted:
            screen.show_progress(self.action_controller.progress)

    def _schedule_expiry(self, state: DashboardState, context: RenderContext) -> None:
        """Schedules a paint for when the next source stops being current: a tick may come a second too late."""
        if self._next_expiry is not None:
            self._next_expiry.cancel()
            self._next_expiry = None
        seconds = state.seconds_until_expiry(context.now)
        if seconds is not None:
            self._next_expiry = asyncio.get_running_loop().call_later(seconds + EXPIRY_MARGIN, self._tick)

    def _repaint_fleet(self, screen: FleetScreen) -> None:
        if self.terminal is not None and self.terminal.is_behind:
            return  # the next tick retries, with the newest rows
        self._rate_limiter.record(time.monotonic())
        if self.terminal is not None and self.terminal.take_dropped():
            self.refresh()
        if screen.is_mounted and screen.is_in_front:
            screen.redraw()

    def draw_cells(self, pieces: Sequence[Piece]) -> None:
        """Sends changed cells to the terminal. A headless application has none."""
        if self.terminal is not None:
            colours = COLOR_SYSTEMS[self.console.color_system or "truecolor"]
            self.terminal.draw(pieces, self.size.width, colours)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Under NO_COLOR only attributes such as bold are used; Textual itself would draw in greys."""
        if os.environ.get("NO_COLOR"):
            return [NoColor()]
        return [line_filter for line_filter in super().get_line_filters() if not isinstance(line_filter, Monochrome)]

    async def on_event(self, event: events.Event) -> None:
        """A key waits until the screen shows the effect of the one before; Ctrl+C and Ctrl+Q never wait."""
        if isinstance(event, events.Key) and not event.is_forwarded and event.key not in _LEAVE_KEYS:
            await self.typed_keys.add(event)
        else:
            await super().on_event(event)

    def on_key(self, event: events.Key) -> None:
        """Runs after every widget and before the bindings: a filter that just opened may need the key."""
        if self.screen_stack and isinstance(self.screen, ReleaseScreen | FleetScreen):  # it may have ended meanwhile
            self.screen.forward_to_filter(event)

    def on_action_requested(self, message: ActionRequested) -> None:
        self._run_action(message.action_id)

    def on_action_clicked(self, message: ActionClicked) -> None:
        self._run_action(message.action_id)

    def _run_action(self, action_id: str) -> None:
        action = find_action(action_id)
        if action.mutating and self._opening is not None:
            self._run_while_opening(action)
        elif action_id == "rollback" and (fleet := self._shown_fleet) is not None:
            key = self.action_controller.keys[action_id]
            fleet.show_message(f"open the release first; {key} rolls it back there", TextStyle.WARN)
        else:
            self.action_controller.run_action(action_id)

    def on_row_selected(self, message: RowSelected) -> None:
        self.action_controller.open_row(message)

    def on_columns_requested(self, message: ColumnsRequested) -> None:
        table = message.table
        name, hidden = table.pane_name, table.hidden_columns

        def decided(keys: frozenset[str] | None) -> None:
            if keys is None or keys == hidden:
                return
            problem = self.column_choice.hide(name, keys)
            if table.is_attached:
                table.hide_columns(keys)
            if problem:
                self.notify(f"the columns are kept for this dashboard alone: {problem}", severity="warning", timeout=6)

        screen = ColumnScreen(self._source.state(), self.render_context(), name, table.choosable_columns(), hidden)
        self.push_screen(screen, decided)

    def on_command_answered(self, message: CommandAnswered) -> None:
        self.action_controller.show_result(message)

    def on_repaint_requested(self, message: RepaintRequested) -> None:
        self.repaint()

    def on_quit_requested(self, message: QuitRequested) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        """Quits; asks first while a command is not sent, unless it asks already."""
        self._unless_unsent(lambda: self.exit(0))

    def _unless_unsent(self, leave: Callable[[], None]) -> None:
        """Leaves the release, at once or, while a command of it is not sent, when the operator gives that up."""
        if self.action_controller.unsent is None or isinstance(self.screen, QuitScreen):
            leave()
            return

        def decided(leaves: bool | None) -> None:
            if leaves:
                leave()

        state = self._source.state()
        self.push_screen(QuitScreen(state, self.render_context(), lambda: self.action_controller.progress), decided)

    @property
    def unsent_text(self) -> str:
        """Which command was given up by the end of this dashboard, for the shell; empty for none."""
        unsent = self.action_controller.unsent
        return f"{unsent.kind} was NOT SENT: {unsent.failure or 'the database did not confirm it'}" if unsent else ""

    def on_copy_requested(self, message: CopyRequested) -> None:
        """Copies the selected text into the clipboard of the operator's own machine."""
        copied = text_to_copy(self.screen)
        is_whole = truncate_for_clipboard(copied.text) == copied.text
        self._send_sequence(clipboard_sequence(copied.text, os.environ))
        text = f"copied {copied.label}, {len(copied.text.splitlines())} lines"
        self.notify(text if is_whole else f"{text}: truncated", markup=False, timeout=3)

    def notify(self, message: str, **options: Any) -> None:
        """Shows a notification; its text may come from outside."""
        super().notify(sanitize(message), **options)

    def on_notify(self) -> None:
        """A notification takes the place of the one before: there is room for one. Textual adds it after this."""
        self.clear_notifications()

    def action_suspend_process(self) -> None:
        if self.terminal is not None and not self.terminal.can_suspend:
            self.notify("cannot suspend: no shell could resume it", markup=False, timeout=5)
        else:
            super().action_suspend_process()

    def _send_sequence(self, sequence: str) -> None:
        if self.terminal is not None:
            self.terminal.send_sequence(sequence)

    def run(self, **options: Any) -> int:
        """Runs until the operator quits, the terminal is closed or a signal ends it.

        Returns:
            The exit code: 0 after `q`, 128 plus the signal number after a signal, 1 after a bug.
        """
        with TerminalWatcher(self._end_by_signal) as watcher:
            result = super().run(**options)
        if watcher.signal:
            return 128 + watcher.signal
        return (self.return_code or 0) if result is None else result

    def _end_by_signal(self, number: int) -> None:
        if self._ui_loop is not None:
            self._ui_loop.call_soon_threadsafe(self.exit)


def visible_screens(stack: Sequence[Screen[Any]]) -> Sequence[Screen[Any]]:
    """The screens that can be seen, the lowest first: none below the highest opaque one.

    Textual draws the whole front screen again for each change of the one below, also where that is covered.
    """
    opaque = [at for at, screen in enumerate(stack) if screen.styles.background.a == 1]
    return stack[max(opaque, default=0) :]


def show_state(screen: Screen[Any], state: DashboardState, context: RenderContext) -> None:
    """Updates a screen that displays states. A screen that is not mounted yet starts with its own copy."""
    show = getattr(screen, "show", None)
    if callable(show) and screen.is_mounted:
        show(state, context)


def _raise_error(error: Exception) -> None:
    raise error

"""Cells that go straight to the terminal look as Textual itself would have drawn them, to the last attribute."""

import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pyte
import pytest
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS
from textual._compositor import Compositor, CompositorUpdate
from textual._styles_cache import StylesCache
from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from tests.support.states import FixedClock, FixedSource, dashboard_situations, pod, workload
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.terminal.ansi_writer import RESET, Piece, encode_pieces
from zdd_tui.dashboard.widgets.drawing.fast_paint import CachedWidget, missing_private_names
from zdd_tui.model.workload.pod import PodState


class TerminalScreen:
    """The terminal of a headless application: it receives what a real one would.

    Attributes:
        direct: number of paints that did not go through Textual.
        received: bytes of all paints.
    """

    def __init__(self, app: ZddApp, columns: int, rows: int) -> None:
        self._app, self._size = app, (columns, rows)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self.direct = self.received = 0
        display = app._display

        def spy(screen: Any, renderable: Any) -> None:
            if isinstance(renderable, CompositorUpdate) and not app._batch_count:
                self._feed(renderable.render_segments(app.console))
            display(screen, renderable)

        app._display = spy  # type: ignore[method-assign]
        app.draw_cells = self._draw_cells  # type: ignore[method-assign]

    def _draw_cells(self, pieces: Sequence[Piece]) -> None:
        self.direct += 1
        colours = COLOR_SYSTEMS.get(self._app.console.color_system or "", ColorSystem.TRUECOLOR)
        self._feed(encode_pieces(pieces, self._size[0], colours).text + RESET)

    def _feed(self, text: str) -> None:
        self.received += len(text.encode())
        self._stream.feed(text.replace("\n", "\r\n"))  # as the kernel does

    def assert_same_as_textual(self, when: str) -> None:
        """Compares with the whole screen as Textual draws it now, with all of its caches cleared."""
        expected = pyte.Screen(*self._size)
        for widget in self._app.screen.walk_children(Widget):
            widget._styles_cache.clear()
            if isinstance(widget, CachedWidget):
                widget._cached_lines = None
        compositor, behind = self._app.screen._compositor, self._app._background_screens
        update = compositor.render_update(full=True, screen_stack=behind)
        assert isinstance(update, CompositorUpdate)
        pyte.Stream(expected).feed(update.render_segments(self._app.console))
        for y, (ours, theirs) in enumerate(zip(self._screen.display, expected.display, strict=True)):
            assert ours == theirs, f"{when}: line {y}"
            if self._screen.buffer[y] != expected.buffer[y]:
                pairs = ((self._screen.buffer[y][x], expected.buffer[y][x]) for x in range(self._size[0]))
                differ = [(x, *pair) for x, pair in enumerate(pairs) if pair[0] != pair[1]]
                assert not differ, f"{when}: line {y}: {differ}"


def change_state(state: DashboardState, clock: FixedClock, rng: random.Random) -> DashboardState:
    """The same release a little later, with other pods and other figures."""
    record = state.release.value
    assert record is not None
    names = [f"abc-{number}" for number in range(rng.randint(1, 12))]
    states = [PodState.SERVING, PodState.DRAINING, PodState.STARTING, PodState.OVERDUE]
    pods = [
        pod(
            name,
            rng.choice("12"),
            rng.choice(states),
            restarts=rng.randint(0, 20),
            reason=rng.choice(["", "", "OOM", "数据库"]),
        )
        for name in names
    ]
    backfill = record.backfill
    if backfill is not None:
        backfill = replace(backfill, rows_done=backfill.rows_done + rng.randint(0, 5000), rate=rng.random() * 1e5)
    now = clock.seconds
    return replace(
        state,
        workload=Observed(workload(pods), now - rng.choice([0, 0, 30])),
        release=Observed(replace(record, now=record.now + 1, backfill=backfill), now),
    )


async def run_state_changes(
    state: DashboardState, columns: int, rows: int, then: Callable[[Pilot[int], int], Awaitable[None]]
) -> TerminalScreen:
    clock, source, rng = FixedClock(), FixedSource(state), random.Random(7)
    app = ZddApp(source, clock=clock)
    screen = TerminalScreen(app, columns, rows)
    async with app.run_test(size=(columns, rows), notifications=True) as pilot:
        await wait_until_painted(pilot)
        screen.assert_same_as_textual("at first")
        for step in range(14):
            clock.seconds += rng.choice([0.1, 0.6, 7.0])
            source.current = change_state(state, clock, rng)
            await then(pilot, step)
            app.repaint()
            await wait_until_painted(pilot)
            screen.assert_same_as_textual(f"step {step}")
    return screen


async def wait_until_painted(pilot: Pilot[int]) -> None:
    """Waits until Textual has painted everything."""
    idle_checks = 0
    while idle_checks < 2:
        await pilot.pause(0.02)
        screen = pilot.app.screen
        is_busy = screen._layout_required or screen._scroll_required or screen._repaint_required
        is_busy = is_busy or bool(screen._dirty_widgets)
        idle_checks = 0 if is_busy else idle_checks + 1


async def no_change(pilot: Pilot[int], step: int) -> None:
    """Only the state changes."""


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
@pytest.mark.parametrize("name", ["backfill", "rolling-back", "canary"])
async def test_changes_are_drawn_as_textual_would(name: str, size: tuple[int, int]) -> None:
    screen = await run_state_changes((dashboard_situations() | guard_situations())[name], *size, no_change)
    assert screen.direct > 6


async def test_changes_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = await run_state_changes(guard_situations()["canary"], 120, 36, no_change)
    assert screen.direct > 6
    assert {char.fg for row in screen._screen.buffer.values() for char in row.values()} == {"default"}


async def test_keys_panes_and_dialogs_between_changes() -> None:
    keys = ["tab", "down", "z", "z", "slash", "a", "escape", "s", "S", "question_mark", "escape", "R", "escape", "t"]

    async def press(pilot: Pilot[int], step: int) -> None:
        await pilot.press(keys[step % len(keys)])

    screen = await run_state_changes(dashboard_situations()["backfill"], 120, 36, press)
    assert screen.direct > 3


async def test_a_toast_over_a_pane_stays_whole() -> None:
    async def show_toast(pilot: Pilot[int], step: int) -> None:
        if step % 5 == 1:
            pilot.app.notify("copied 12 lines", markup=False, timeout=600)

    screen = await run_state_changes(dashboard_situations()["backfill"], 80, 24, show_toast)
    assert screen.direct > 3


class HiddenFromZdd:
    """An attribute of Textual that only Textual and tests can see: for zdd it is as if it did not exist."""

    def __init__(self, owner: type, name: str) -> None:
        self._name = name
        self._original = vars(owner).get(name)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if sys._getframe(1).f_globals["__name__"].startswith("zdd_tui"):
            raise AttributeError(self._name)
        if instance is None:
            return self
        if isinstance(self._original, property):
            return self._original.__get__(instance, owner)
        if callable(self._original):
            return self._original.__get__(instance, owner)
        try:
            return instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (App, "_batch_count"),
        (Screen, "_compositor"),
        (Compositor, "visible_widgets"),
        (Compositor, "render_partial_update"),
        (Widget, "_layout_required"),
        (Widget, "_scroll_required"),
        (Widget, "_styles_cache"),
        (StylesCache, "_cache"),
        (StylesCache, "set_dirty"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_without_a_private_name_the_screen_is_the_same(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    monkeypatch.setattr(owner, name, HiddenFromZdd(owner, name), raising=False)
    keys = ["tab", "z", "z", "down", "question_mark", "escape"]

    async def press(pilot: Pilot[int], step: int) -> None:
        if step % 2:
            await pilot.press(keys[step // 2 % len(keys)])

    screen = await run_state_changes(dashboard_situations()["backfill"], 80, 24, press)
    assert (screen.direct == 0) == (name != "render_partial_update")


async def test_the_installed_textual_has_every_private_name() -> None:
    app = ZddApp(FixedSource(dashboard_situations()["backfill"]), clock=FixedClock())
    async with app.run_test(size=(80, 24)):
        assert missing_private_names(app.screen) == ()

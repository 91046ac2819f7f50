"""What goes straight to the terminal is what Textual itself would have drawn there, to the last attribute."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pyte
import pytest
from textual._compositor import CompositorUpdate
from textual.pilot import Pilot
from textual.widget import Widget

from tests.support.states import FixedClock, FixedSource, dashboard_situations, pod, workload
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ExitInfo, ZddApp
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.widgets.drawing.cached_widget import CachedWidget
from zdd_tui.dashboard.widgets.drawing.cell_painter import CellsUpdate
from zdd_tui.model.workload.pod import PodState


class TerminalScreen:
    """The terminal of an application without one: it is told all that a real one would be told."""

    def __init__(self, app: ZddApp, columns: int, rows: int) -> None:
        self._app, self._size = app, (columns, rows)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self.direct = 0
        display = app._display

        def spy(screen: Any, renderable: Any) -> None:
            if isinstance(renderable, CompositorUpdate) and not app._batch_count:
                self.direct += isinstance(renderable, CellsUpdate)
                self._stream.feed(renderable.render_segments(app.console))
            display(screen, renderable)

        app._display = spy  # type: ignore[method-assign]

    def assert_same_as_textual(self, when: str) -> None:
        """Compares with the whole picture, drawn by Textual at this moment.

        A view that Textual was not told of is not drawn anew by it: so all of them are.
        """
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


def change_board(board: DashboardState, clock: FixedClock, rng: random.Random) -> DashboardState:
    """The same board a little later, with other pods and other figures."""
    record = board.release.value
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
        board,
        workload=Observed(workload(pods), now - rng.choice([0, 0, 30])),
        release=Observed(replace(record, now=record.now + 1, backfill=backfill), now),
    )


async def run_board_changes(
    board: DashboardState, columns: int, rows: int, then: Callable[[Pilot[ExitInfo], int], Awaitable[None]]
) -> TerminalScreen:
    clock, source, rng = FixedClock(), FixedSource(board), random.Random(7)
    app = ZddApp(source, clock=clock)
    screen = TerminalScreen(app, columns, rows)
    async with app.run_test(size=(columns, rows), notifications=True) as pilot:
        await wait_until_painted(pilot)
        screen.assert_same_as_textual("at first")
        for step in range(14):
            clock.seconds += rng.choice([0.1, 0.6, 7.0])
            source.current = change_board(board, clock, rng)
            await then(pilot, step)
            app.repaint()
            await wait_until_painted(pilot)
            screen.assert_same_as_textual(f"step {step}")
    return screen


async def wait_until_painted(pilot: Pilot[ExitInfo]) -> None:
    """Textual, too, has painted all that it was told of."""
    calm = 0
    while calm < 2:
        await pilot.pause(0.02)
        screen = pilot.app.screen
        busy = screen._layout_required or screen._scroll_required or screen._repaint_required or screen._dirty_widgets
        calm = 0 if busy else calm + 1


async def no_change(pilot: Pilot[ExitInfo], step: int) -> None:
    """Only the board changes."""


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
@pytest.mark.parametrize("name", ["backfill", "rolling-back", "canary"])
async def test_a_release_that_moves_is_drawn_as_textual_would(name: str, size: tuple[int, int]) -> None:
    screen = await run_board_changes((dashboard_situations() | guard_situations())[name], *size, no_change)
    assert screen.direct > 6


async def test_without_colours_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = await run_board_changes(guard_situations()["canary"], 120, 36, no_change)
    assert screen.direct > 6
    assert {char.fg for row in screen._screen.buffer.values() for char in row.values()} == {"default"}


async def test_keys_panes_and_dialogs_between_the_changes() -> None:
    keys = ["tab", "down", "z", "z", "slash", "a", "escape", "s", "S", "question_mark", "escape", "R", "escape", "t"]

    async def press(pilot: Pilot[ExitInfo], step: int) -> None:
        await pilot.press(keys[step % len(keys)])

    screen = await run_board_changes(dashboard_situations()["backfill"], 120, 36, press)
    assert screen.direct > 3


async def test_what_lies_over_a_pane_stays_whole() -> None:
    async def tell(pilot: Pilot[ExitInfo], step: int) -> None:
        if step % 5 == 1:
            pilot.app.notify("copied 12 lines", markup=False, timeout=600)

    screen = await run_board_changes(dashboard_situations()["backfill"], 80, 24, tell)
    assert screen.direct > 3

"""Low bandwidth, and copying from the screen."""

import asyncio
import time
from itertools import pairwise

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.actions import text_to_copy
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.panes.backfill import BackfillPane
from zdd_tui.dashboard.widgets.panes.pods import PodPane

SPARKLINE_CHARACTERS = frozenset("▁▂▃▄▅▆▇")


class PaintCountingApp(ZddApp):
    """Records the times of its paints."""

    paints: list[float]

    def repaint(self) -> None:
        self.paints.append(time.monotonic())
        super().repaint()


async def test_low_bandwidth_has_no_sparklines_and_few_paints() -> None:
    board = guard_situations()["guard-backfill"]
    usual = ZddApp(FixedSource(board), clock=FixedClock())
    async with usual.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        assert SPARKLINE_CHARACTERS & set(screen_text(usual))
    source = FixedSource(board)
    app = PaintCountingApp(source, clock=FixedClock(), display_options=DisplayOptions(low_bandwidth=True))
    app.paints = []
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        assert not SPARKLINE_CHARACTERS & set(screen_text(app))
        app.paints.clear()
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            source.set_board(board)
            await asyncio.sleep(0.05)
        assert 2 <= len(app.paints) <= 3, app.paints
        assert all(after - before > 0.95 for before, after in pairwise(app.paints))


async def test_what_is_copied() -> None:
    app = ZddApp(FixedSource(dashboard_situations()["backfill"]), clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        whole = text_to_copy(app.screen)
        assert whole.label == "the screen"
        assert "users-full-name" in whole.text
        assert "▶ backfill 63%" in whole.text
        app.screen.query_one(PodPane).focus()
        await pilot.press("down")
        await pilot.pause()
        row = text_to_copy(app.screen)
        assert row.label == "a row of pods"
        assert row.text.count("\n") == 0
        assert "Serving" in row.text
        app.screen.query_one(BackfillPane).focus()
        await pilot.pause()
        assert text_to_copy(app.screen).label == "backfill"
        assert "replica lag" in text_to_copy(app.screen).text
        await pilot.press("e")
        await pilot.pause()
        page = text_to_copy(app.screen)
        assert page.label == "page"
        assert "sources" in page.text, "all of it, not only what is in sight"
        await pilot.press("y")
        await pilot.pause()
        assert "copied page" in screen_text(app)

"""A slow line, and what an operator takes away from the screen."""

import asyncio
import time
from itertools import pairwise

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, situations
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.actions import copied
from zdd_tui.dashboard.terminal.display_options import Look
from zdd_tui.dashboard.widgets.panes.backfill import BackfillPane
from zdd_tui.dashboard.widgets.panes.pods import PodPane

HISTORY = frozenset("▁▂▃▄▅▆▇")


class Counting(ZddApp):
    """Knows when it painted."""

    paints: list[float]

    def repaint(self) -> None:
        self.paints.append(time.monotonic())
        super().repaint()


async def test_low_bandwidth_has_no_histories_and_few_paints() -> None:
    board = guard_situations()["guard-backfill"]
    usual = ZddApp(FixedSource(board), clock=FixedClock())
    async with usual.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        assert HISTORY & set(screen_text(usual))
    source = FixedSource(board)
    app = Counting(source, clock=FixedClock(), look=Look(low_bandwidth=True))
    app.paints = []
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        assert not HISTORY & set(screen_text(app))
        app.paints.clear()
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            source.put(board)
            await asyncio.sleep(0.05)
        assert 2 <= len(app.paints) <= 3, app.paints
        assert all(after - before > 0.95 for before, after in pairwise(app.paints))


async def test_what_y_means() -> None:
    app = ZddApp(FixedSource(situations()["backfill"]), clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        whole = copied(app.screen)
        assert whole.what == "the screen"
        assert "users-full-name" in whole.text
        assert "▶ backfill 63%" in whole.text
        app.screen.query_one(PodPane).focus()
        await pilot.press("down")
        await pilot.pause()
        row = copied(app.screen)
        assert row.what == "a row of pods"
        assert row.text.count("\n") == 0
        assert "Serving" in row.text
        app.screen.query_one(BackfillPane).focus()
        await pilot.pause()
        assert copied(app.screen).what == "backfill"
        assert "replica lag" in copied(app.screen).text
        await pilot.press("e")
        await pilot.pause()
        page = copied(app.screen)
        assert page.what == "page"
        assert "sources" in page.text, "all of it, not only what is in sight"
        await pilot.press("y")
        await pilot.pause()
        assert "copied page" in screen_text(app)

"""The mouse: keys of the footer, titles of tables and panes, the phases, and the way back on a detail screen."""

import pytest

from tests.support.states import FixedClock, FixedSource, dashboard_situations, metric_history
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.confirm import ConfirmScreen
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.base import DetailScreen, TitleLine
from zdd_tui.dashboard.screens.details.charts import ChartScreen
from zdd_tui.dashboard.screens.details.gate import GateScreen
from zdd_tui.dashboard.screens.details.timeline import TimelineScreen
from zdd_tui.dashboard.screens.dialog import KeyHints
from zdd_tui.dashboard.screens.status_details import StatusDetailsScreen
from zdd_tui.dashboard.widgets.bars.footer import Footer
from zdd_tui.dashboard.widgets.drawing.key_clicks import clicked_key
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.model.queries import MetricHistoryQuery

HINTS: Line = (
    ("a", TextStyle.KEY), (" advance", TextStyle.NORMAL), ("  ", TextStyle.NORMAL),
    ("T V G", TextStyle.KEY), (" more", TextStyle.NORMAL), ("  ", TextStyle.NORMAL),
    ("1-6", TextStyle.KEY), (" panes", TextStyle.NORMAL), ("  ", TextStyle.NORMAL),
    ("Esc", TextStyle.KEY), (" back", TextStyle.NORMAL),
)  # fmt: skip


def app_of(situation: str, *, unlocked: bool = True) -> ZddApp:
    states = dashboard_situations() | guard_situations()
    clock = FixedClock()
    app = ZddApp(FixedSource(states[situation], answers={MetricHistoryQuery: metric_history()}), clock=clock)
    if unlocked:
        app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    return app


def test_a_click_is_the_key_under_it_or_before_it() -> None:
    text = "".join(part for part, _ in HINTS)
    keys = [clicked_key(HINTS, at) for at in range(len(text) + 2)]
    assert keys[0] == "a"
    assert keys[text.index("advance")] == "a"
    assert [keys[text.index(each)] for each in "TVG"] == ["T", "V", "G"]
    assert keys[text.index("more")] == ""
    assert keys[text.index("1-6")] == keys[text.index("panes")] == ""
    assert keys[text.index("Esc")] == keys[text.index("back")] == "escape"
    assert keys[len(text)] == ""


async def test_a_click_on_a_key_of_the_footer_is_that_key() -> None:
    app = app_of("open")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        footer = app.screen.query_one(Footer)
        await pilot.click(Footer, offset=(1 + footer.plain_text().index("advance"), 0))
        await pilot.pause()
        assert isinstance(app.screen, ConfirmScreen)
        hints = app.screen.query_one(KeyHints)
        line = hints.plain_text().splitlines()[-1]
        if "Enter" in line:
            await pilot.click(KeyHints, offset=(line.index("Enter") + 1, len(hints.plain_text().splitlines()) - 1))
            await pilot.pause()
        assert isinstance(app.screen, ConfirmScreen), "no click confirms"
        assert not app._source.sent_commands  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("selector", "offset", "screen"),
    [
        ("Stepper", (5, 0), TimelineScreen),
        ("SummaryLines", (5, 0), StatusDetailsScreen),
        ("GateSummary", (5, 0), GateScreen),
        ("BackfillPane", (5, 0), BackfillScreen),
        ("GuardPane", (5, 0), ChartScreen),
        ("EventPane", (5, 0), TimelineScreen),
        ("ChartPane", (5, 0), ChartScreen),
    ],
)
async def test_a_click_opens_what_is_behind_it(selector: str, offset: tuple[int, int], screen: type) -> None:
    app = app_of("guard-backfill")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.click(selector, offset=offset)
        await pilot.pause()
        assert type(app.screen) is screen


async def test_a_click_on_a_title_sorts_then_turns_then_restores() -> None:
    app = app_of("gates")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        pane = app.screen.query_one(PodPane)
        lines = pane.plain_text().splitlines()
        y = next(at for at, line in enumerate(lines) if "STATE" in line)
        orders = []
        for _ in range(3):
            await pilot.click(PodPane, offset=(2 + lines[y].index("STATE"), 1 + y))
            await pilot.pause()
            orders.append((pane._sort, pane._is_descending))
        assert orders == [("state", False), ("state", True), ("", False)]


async def test_detail_screens_lead_to_each_other_and_back_to_the_main_screen() -> None:
    app = app_of("guard-backfill")
    async with app.run_test(size=(160, 36)) as pilot:
        await pilot.press("1", "enter", "l")
        await pilot.pause()
        assert len(app.screen_stack) == 3
        crumbs = app.screen.query_one(TitleLine).plain_text()
        assert crumbs.index("users-full-name › pod users-api") < crumbs.index(" › log of users-api")
        for key, screen in (("T", TimelineScreen), ("m", ChartScreen), ("B", BackfillScreen), ("G", GateScreen)):
            await pilot.press(key)
            await pilot.pause()
            assert type(app.screen) is screen
            assert len(app.screen_stack) == 2
            assert app.screen.query_one(TitleLine).plain_text().strip().startswith("users-full-name › ")
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, DetailScreen)


async def test_a_click_on_the_way_to_a_screen_goes_back_to_the_main_screen() -> None:
    app = app_of("guard-backfill")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("1", "enter", "l")
        await pilot.pause()
        await pilot.click(TitleLine, offset=(4, 0))
        await pilot.pause()
        assert len(app.screen_stack) == 1

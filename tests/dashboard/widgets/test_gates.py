"""The gates' pane: focus, filter, order, cursor."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.dashboard.conftest import SameInAllSizes
from tests.dashboard.screens.test_details import until
from tests.dashboard.screens.test_keys import AppDriver
from tests.dashboard.widgets.test_panes import focused_pane, visible_panes
from tests.dashboard.widgets.test_table_interaction import cursor
from tests.model.release.test_gate_rows import walked
from tests.support.screen_text import screen_text
from tests.support.states import MONOTONIC, FixedClock, FixedSource, board, dashboard_situations, flags
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.gate import GateDetailScreen
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.widgets.panes.gates import GatePane
from zdd_tui.model.flag import ON
from zdd_tui.model.release.state import ReleaseState


def walking(state: ReleaseState = ReleaseState.WAITING) -> DashboardState:
    return board(walked(state), flags=Observed(flags(ON, ON), MONOTONIC))


def gates(desk: AppDriver) -> list[str]:
    """Phase and gate of each visible row."""
    lines = desk.app.screen.query_one(GatePane).plain_text().splitlines()
    return [" ".join(line.replace("→", " ").split()[:2]) for line in lines if "PHASE" not in line]


async def test_a_key_maximises_the_gates_and_escape_restores() -> None:
    async with AppDriver(walking()) as desk:
        before = visible_panes(desk)
        assert "gates" not in before
        assert "━ 6:gates · cutover: 1 of 3 pass" in await desk.press("6")
        assert visible_panes(desk) == ["gates"]
        assert gates(desk)[0] == "expand schema-valid"
        assert cursor(desk.screen) == "→", "the cursor is on the present phase's first gate"
        assert desk.app.screen.query_one(GatePane).text_under_cursor().split()[:3] == ["→", "cutover", "soak-passed"]
        await desk.press("escape")
        assert visible_panes(desk) == before
        await desk.press("6", "5")
        assert visible_panes(desk) == before
        assert focused_pane(desk) == "events"


async def test_zoom_restores_too_and_tab_goes_to_the_next_pane() -> None:
    async with AppDriver(walking()) as desk:
        before = visible_panes(desk)
        await desk.press("6", "z")
        assert visible_panes(desk) == before
        await desk.press("6", "tab")
        assert visible_panes(desk) == before
        assert focused_pane(desk) == "events"


async def test_filter_and_order() -> None:
    async with AppDriver(walking()) as desk:
        assert "1 of 15" in await desk.press("6", "slash", *"fail")
        assert gates(desk)[1:] == ["cutover serving-v3"]
        assert "4 of 15" in await desk.press("ctrl+u", *"phase:con", "enter")
        assert [row.split()[0] for row in gates(desk)[1:]] == ["contract"] * 4
        await desk.press("escape")
        assert visible_panes(desk) == ["gates"], "the filter goes first"
        assert "VERDICT▲" in await desk.press("s", "s", "s")
        assert gates(desk)[0] == "cutover serving-v3"
        assert "VERDICT▼" in await desk.press("S")
        assert gates(desk)[0].startswith("expand")


async def test_enter_opens_a_gate_and_escape_returns_to_it() -> None:
    async with AppDriver(walking()) as desk:
        await desk.press("6", "down", "enter")
        await until(
            desk.pilot, lambda: isinstance(desk.app.screen, GateDetailScreen) and bool(desk.app.screen.query(PageView))
        )
        await desk.pilot.pause()
        assert "gate serving-v3 of cutover" in desk.screen
        assert "✗ fail  every pod is V3  serving-v3" in desk.screen
        assert "cutover: current phase, this gate counts" in desk.screen
        await desk.press("escape")
        assert visible_panes(desk) == ["gates"]
        assert desk.app.screen.query_one(GatePane).text_under_cursor().split()[2] == "serving-v3"


async def test_a_gate_of_a_later_phase_shows_its_query() -> None:
    async with AppDriver(walking()) as desk:
        await desk.press("6", "end", "enter")
        await until(
            desk.pilot, lambda: isinstance(desk.app.screen, GateDetailScreen) and bool(desk.app.screen.query(PageView))
        )
        await desk.pilot.pause()
        assert "○ upcoming  nothing of the release is left behind" in desk.screen
        assert "cleanup: not started" in desk.screen
        assert "result" not in desk.screen


async def test_stale_gates_are_marked_and_dimmed() -> None:
    async with AppDriver("stale") as desk:
        assert "STALE 42s" in await desk.press("6")
        pane = desk.app.screen.query_one(GatePane)
        assert pane.has_class("-stale")
        present = [line for line in pane.plain_text().splitlines() if "→" in line]
        assert len(present) == 2
        assert all("? unknown    43s agent not known; last: " in line for line in present), present
        tones = {str(style) for at in range(1, len(pane._lines)) for text, style in pane._lines[at] if text.strip()}
        assert tones == {"dim"}


async def test_a_started_phase_is_scrolled_to_unless_the_operator_moved_the_cursor() -> None:
    made = guard_situations()["guard-backfill"]
    assert made.release.value is not None
    app = ZddApp(FixedSource(made), clock=FixedClock())
    async with app.run_test(size=(160, 50), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        pane = app.screen.query_one(GatePane)
        assert pane.display
        assert "backfill-complete" in screen_text(app)
        assert "schema-valid" not in screen_text(app)
        for phase, first in ((0, "schema-valid"), (3, "soak-passed")):
            rel = replace(made.release.value.release, phase=phase)
            source = Observed(replace(made.release.value, release=rel), MONOTONIC)
            app.action_controller._source.current = replace(made, release=source)  # type: ignore[attr-defined]
            app.repaint()
            await pilot.pause()
            assert pane.selected_row is not None
            assert pane.selected_row.gate.name == first
            assert first in screen_text(app)
        await pilot.press("6")
        app.action_controller._source.current = made  # type: ignore[attr-defined]
        app.repaint()
        await pilot.pause()
        assert pane.selected_row is not None
        assert pane.selected_row.key == "backfill/backfill-complete", (
            "it has the focus, and nobody has moved its cursor"
        )
        await pilot.press("end")
        rel = replace(made.release.value.release, phase=0)
        made = replace(made, release=Observed(replace(made.release.value, release=rel), MONOTONIC))
        app.action_controller._source.current = made  # type: ignore[attr-defined]
        app.repaint()
        await pilot.pause()
        assert pane.selected_row is not None
        assert pane.selected_row.key == "cleanup/guard"


async def test_on_a_high_screen_the_gates_have_a_place_in_the_tab_order() -> None:
    app = ZddApp(FixedSource(guard_situations()["guard-backfill"]), clock=FixedClock())
    async with app.run_test(size=(160, 50), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        pane = app.screen.query_one(GatePane)
        assert pane.region.x == app.screen.query_one("GuardPane").region.x
        assert pane.region.y >= app.screen.query_one("GuardPane").region.bottom
        await pilot.press("4", "tab")
        assert app.focused is pane
        await pilot.press("6")
        await pilot.pause()
        assert not pane.is_maximised


async def test_filter_in_the_backfill_pane_opens_the_search_of_its_screen() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("2", "slash")
        await until(
            desk.pilot, lambda: isinstance(desk.app.screen, BackfillScreen) and bool(desk.app.screen.query(PageView))
        )
        await desk.pilot.pause()
        await desk.press(*"lag", "enter")
        assert "n/N “lag”" in desk.screen
        await desk.press("escape", "escape")
        assert len(desk.app.screen_stack) == 1
        assert focused_pane(desk) == "backfill"


PICTURES: dict[str, tuple[Callable[[], DashboardState], str]] = {
    "gates-alone": (walking, "6"),
    "gates-alone-filtered": (walking, "6 s s s slash c u t o v e r"),
    "gates-alone-stale": (lambda: dashboard_situations()["stale"], "6"),
    "gates-alone-back": (lambda: walking(ReleaseState.ROLLING_BACK), "6"),
    "gates-alone-ended": (lambda: walking(ReleaseState.ROLLED_BACK), "6"),
    "gates-alone-guarded": (lambda: guard_situations()["canary"], "6"),
}


@pytest.mark.parametrize("picture", PICTURES)
async def test_picture(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    made, keys = PICTURES[picture]
    app = ZddApp(FixedSource(made()), clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press(*keys.split())
        await same_in_all_sizes(pilot, picture)


async def test_the_current_phase_stays_visible_after_a_resize() -> None:
    made = guard_situations()["guard-backfill"]
    assert made.release.value is not None
    contract = replace(made.release.value, release=replace(made.release.value.release, phase=4))
    source = FixedSource(replace(made, release=Observed(contract, MONOTONIC)))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.press("6", "slash", *"contract", "enter", "escape", "escape")
        await pilot.resize_terminal(120, 50)
        await pilot.pause()
        pane = app.screen.query_one(GatePane)
        assert pane.display
        there = [row for row in screen_text(app).splitlines() if "│ → contract " in row]
        assert len(there) == len(contract.release.gates), screen_text(app)

"""The doctor's screen: pitfalls with their evidence, the checklist, and running checks."""

from dataclasses import replace

import pytest

from tests.dashboard.conftest import SameInAllSizes
from tests.support.doctor_report import report
from tests.support.screen_text import screen_text
from tests.support.states import MONOTONIC, FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.state import DashboardState, Observed


def examined(**changes: object) -> DashboardState:
    return replace(dashboard_situations()["open"], doctor_report=Observed(report(), MONOTONIC), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", ["pitfalls", "checklist"])
async def test_picture(page: str, same_in_all_sizes: SameInAllSizes) -> None:
    source = FixedSource(examined())
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("d")
        await pilot.pause()
        if page == "checklist":
            await pilot.press("tab")
        await same_in_all_sizes(pilot, f"doctor-{page}")


async def test_all_eight_items_are_on_one_screen() -> None:
    app = ZddApp(FixedSource(examined()), clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("d")
        await pilot.pause()
        await pilot.press("tab")
        await pilot.pause()
        shown = screen_text(app)
        assert [f" {number}. " in shown for number in range(1, 9)] == [True] * 8


async def test_checks_run_when_opened_and_on_request() -> None:
    source = FixedSource(replace(dashboard_situations()["open"], is_doctor_running=True))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("d")
        await pilot.pause()
        assert source.examinations == 1
        assert "checking …" in screen_text(app)
        source.set_board(examined())
        app.repaint()
        await pilot.pause()
        assert "sessionAffinity None" in screen_text(app)
        await pilot.press("r")
        assert source.examinations == 2
        await pilot.press("escape")
        await pilot.pause()
        assert "AWAITING APPROVAL" in screen_text(app)


async def test_an_error_of_the_doctor_is_shown() -> None:
    board = replace(
        dashboard_situations()["open"],
        doctor_report=Observed(None, None, "defect in reading doctor: KeyError", "report it"),
    )
    app = ZddApp(FixedSource(board), clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("d")
        await pilot.pause()
        shown = screen_text(app)
        assert "✗ defect in reading doctor: KeyError" in shown
        assert "→ Fix: report it" in shown

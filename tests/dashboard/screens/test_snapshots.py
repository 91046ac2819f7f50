"""Snapshots of the main screen and its dialogs, at both sizes and in ASCII."""

from collections.abc import Callable

import pytest

from tests.dashboard.screens.detail_answers import ROLLBACK_HISTORY, soaking_board
from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, dashboard_situations, metric_history
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.model.queries import MetricHistoryQuery
from zdd_tui.model.rollback import RollbackQuery

SITUATIONS = dashboard_situations() | guard_situations()
DIALOG_SITUATIONS = SITUATIONS | {"soaking": soaking_board()}
SIZES = {"80x24": (80, 24), "120x36": (120, 36)}
DIALOGS = {
    "confirm-advance": ("open", "a"),
    "confirm-typed": ("contract", "a"),
    "confirm-rollback": ("backfill", "R"),
    "confirm-rollback-locked": ("backfill", "R"),
    "confirm-rollback-facts": ("soaking", "R"),
    "help": ("open", "question_mark"),
    "help-pane": ("open", "tab question_mark"),
    "help-locked": ("open", "question_mark"),
    "palette": ("gates", "colon"),
    "palette-found": ("gates", "colon d v a n"),
    "palette-locked": ("gates", "colon"),
    "unlock": ("open", "u"),
    "unlock-wrong": ("open", "u s h o p enter"),
    "unlocked": ("open", ""),
    "tune": ("backfill", "t down 2 0 0 0 enter"),
    "tune-wrong": ("backfill", "t m a n y enter"),
    "pods-filtered": ("gates", "tab down s s slash v e r : 3 space p o d : ["),
    "pods-alone": ("gates", "tab down z"),
    "backfill-alone": ("backfill", "tab tab z"),
    "guard-alone": ("guard-backfill", "tab tab tab z"),
    "events-alone": ("backfill", "tab tab tab tab z"),
    "details": ("failed", "e"),
    "details-stale": ("stale", "e"),
    "details-guard": ("guard-backwards", "e"),
}
UNLOCKED = frozenset(DIALOGS) - {"confirm-rollback-locked", "help-locked", "palette-locked", "unlock", "unlock-wrong"}
PICTURES = {name: (name, "") for name in SITUATIONS} | DIALOGS


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("picture", PICTURES)
async def test_picture(picture: str, size: str, same_as_before: Callable[[str, str], None]) -> None:
    situation, keys = PICTURES[picture]
    clock = FixedClock()
    answers = {RollbackQuery: ROLLBACK_HISTORY, MetricHistoryQuery: metric_history()}
    source = FixedSource(DIALOG_SITUATIONS[situation], answers=answers)
    app = ZddApp(source, clock=clock)
    if picture in UNLOCKED:
        app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=SIZES[size], notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        if keys:
            await pilot.press(*keys.split())
            await pilot.pause()
        same_as_before(f"{picture}-{size}", screen_text(app))


@pytest.mark.parametrize("size", [(200, 50)])
@pytest.mark.parametrize("situation", ["guard-backfill", "guard-backwards", "gates"])
async def test_picture_of_a_large_screen(
    situation: str, size: tuple[int, int], same_as_before: Callable[[str, str], None]
) -> None:
    source = FixedSource(SITUATIONS[situation], answers={MetricHistoryQuery: metric_history()})
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.pause()
        same_as_before(f"{situation}-{size[0]}x{size[1]}", screen_text(app))


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_nothing_is_wider_than_the_screen(situation: str) -> None:
    """Also on a terminal below the supported size."""
    app = ZddApp(FixedSource(SITUATIONS[situation]), clock=FixedClock())
    async with app.run_test(size=(60, 18), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        assert max(len(line) for line in screen_text(app).splitlines()) <= 60

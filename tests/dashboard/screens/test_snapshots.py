"""Snapshots of the main screen and its dialogs, at every size and in ASCII."""

from dataclasses import replace

import pytest

from tests.dashboard.conftest import SameInAllSizes
from tests.dashboard.screens.detail_answers import ROLLBACK_HISTORY, soaking_board
from tests.support.incident_states import incident_situations
from tests.support.screen_text import screen_text
from tests.support.states import MONOTONIC, FixedClock, FixedSource, dashboard_situations, metric_history
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.confirm import UNSEEN_SECONDS
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.model.agent_start import AgentStart
from zdd_tui.model.queries import MetricHistoryQuery
from zdd_tui.model.release.delivery import Delivery
from zdd_tui.model.rollback import RollbackQuery

SITUATIONS = dashboard_situations() | guard_situations() | incident_situations()
DIALOG_SITUATIONS = SITUATIONS | {"soaking": soaking_board()}
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
    "pause-table": ("operations", "b"),
    "resume-table": ("table-paused", "b"),
    "tune-wrong": ("backfill", "t m a n y enter"),
    "pods-filtered": ("gates", "tab down s s slash v e r : 3 space p o d : ["),
    "pods-alone": ("gates", "tab down z"),
    "backfill-alone": ("backfill", "tab tab z"),
    "guard-alone": ("guard-backfill", "tab tab tab z"),
    "events-alone": ("backfill", "tab tab tab tab z"),
    "columns": ("gates", "tab c down space down down"),
    "details": ("failed", "e"),
    "details-stale": ("stale", "e"),
    "details-guard": ("guard-backwards", "e"),
}
UNLOCKED = frozenset(DIALOGS) - {"confirm-rollback-locked", "help-locked", "palette-locked", "unlock", "unlock-wrong"}
PICTURES = {name: (name, "") for name in SITUATIONS} | DIALOGS


@pytest.mark.parametrize("picture", PICTURES)
async def test_picture(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    situation, keys = PICTURES[picture]
    clock = FixedClock()
    answers = {RollbackQuery: ROLLBACK_HISTORY, MetricHistoryQuery: metric_history()}
    source = FixedSource(DIALOG_SITUATIONS[situation], answers=answers)
    app = ZddApp(source, clock=clock)
    if picture in UNLOCKED:
        app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        if keys:
            await pilot.press(*keys.split())
            await pilot.pause()
        if picture == "confirm-rollback-facts":  # Enter is shown once the counted rows can have been read
            clock.seconds += UNSEEN_SECONDS
            app.repaint()
            await pilot.pause()
        await same_in_all_sizes(pilot, picture)


COMMANDS = {
    "command-sending": "p",
    "command-not-sent": "p",
    "command-queued": "p",
    "command-refused": "p",
    "command-late": "left_square_bracket",
    "quit": "p q",
}
"""Keys that send a command, by what becomes of it."""


@pytest.mark.parametrize("picture", COMMANDS)
async def test_picture_of_a_command(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    clock, source = FixedClock(), FixedSource(SITUATIONS["backfill"])
    source.stores = picture in ("command-queued", "command-late", "command-refused")
    app = ZddApp(source, clock=clock)
    app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press(*COMMANDS[picture].split())
        request = source.sent_commands[-1]
        if picture in ("command-not-sent", "quit"):
            failed = Delivery(request.request_id, clock.seconds).attempt_failed(
                "db.shop:5432 does not respond in 2.5 s"
            )
            source.set_board(replace(source.current, delivery=failed))
        if picture == "command-refused":
            source.answer("refused", "the release is paused already")
        clock.seconds += 40 if picture == "command-late" else 2
        source.set_board(replace(source.current, release=replace(source.current.release, observed_at=clock.seconds)))
        await pilot.pause(0.1)
        await same_in_all_sizes(pilot, picture)


AGENT_COMMAND = "zdd agent /srv/releases/shop/plans/users-full-name.yaml"
AGENT_STARTS = {
    "start-agent": None,
    "start-agent-failed": AgentStart(
        "failed", MONOTONIC - 4, 4711, "~/.local/state/zdd/agent-users-full-name.log",
        "the environment variable DATABASE_URL is not set", "export DATABASE_URL=…",
    ),
}  # fmt: skip


@pytest.mark.parametrize("picture", [*AGENT_STARTS, "start-agent-elsewhere"])
async def test_picture_of_the_start_of_an_agent(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    made = SITUATIONS["queued-no-agent"]
    command = "" if picture == "start-agent-elsewhere" else AGENT_COMMAND
    state = replace(made, plan=replace(made.plan, agent_command=command), agent_start=AGENT_STARTS.get(picture))
    app = ZddApp(FixedSource(state), clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("A")
        await pilot.pause()
        await same_in_all_sizes(pilot, picture)


async def test_picture_of_the_tour(same_in_all_sizes: SameInAllSizes) -> None:
    app = ZddApp(
        FixedSource(SITUATIONS["guard-backfill"]), clock=FixedClock(), display_options=DisplayOptions(tour=True)
    )
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await same_in_all_sizes(pilot, "tour")


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_nothing_is_wider_than_the_screen(situation: str) -> None:
    """Also on a terminal below the supported size."""
    app = ZddApp(FixedSource(SITUATIONS[situation]), clock=FixedClock())
    async with app.run_test(size=(60, 18), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        assert max(len(line) for line in screen_text(app).splitlines()) <= 60

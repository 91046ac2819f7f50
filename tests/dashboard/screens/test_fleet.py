"""The list of releases: snapshots, keys, and what is opened from it."""

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.dashboard.conftest import SameInAllSizes
from tests.support.fleet_states import FixedFleetSource, fixed_fleet
from tests.support.screen_text import screen_text
from tests.support.states import MONOTONIC, FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.actions import QUIT_AGAIN_SECONDS
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import Observed
from zdd_tui.model.errors import ZddError
from zdd_tui.model.fleet.rows import Fleet, FleetRow, mark_last_known, row_to_dict
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, ReleaseState

PICTURES = {
    "fleet": "",
    "fleet-empty": "",
    "fleet-error": "down down enter",
    "fleet-filtered": "slash b i l l",
    "fleet-help": "question_mark",
    "fleet-history": "h",
    "fleet-sorted": "s s S",
}


def region_board(situation: str, region: str) -> Any:
    board = dashboard_situations()[situation]
    plan = replace(board.plan, environment="demo", region=region, region_names=("eu", "us"))
    return replace(board, plan=plan)


async def opened(pilot: Pilot[int], source: FixedFleetSource, situation: str = "open", region: str = "") -> FixedSource:
    """Ends the last request with the source of a release."""
    release = FixedSource(region_board(situation, region))
    source.futures[-1].set_result(release)
    await pilot.pause()
    await pilot.pause()
    return release


@pytest.mark.parametrize("picture", PICTURES)
async def test_fleet_picture(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    source = FixedFleetSource(Fleet()) if picture == "fleet-empty" else FixedFleetSource()
    app = ZddApp(None, fleet=source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press(*PICTURES[picture].split())
        await pilot.pause()
        assert "\x1b" not in screen_text(app)
        await same_in_all_sizes(pilot, picture)


async def test_the_lines_below_the_table_are_of_the_row_that_a_filter_leaves_under_the_cursor() -> None:
    app = ZddApp(None, fleet=FixedFleetSource(), clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert "stock-of-the-day (production) in stock" in screen_text(app)
        await pilot.press("slash", *"bill")
        await pilot.pause()
        assert "invoice-number-to-bigint (staging, money) in billing" in screen_text(app)


async def test_a_row_whose_reading_is_older_than_3_seconds_says_so_before_its_database_counts_as_lost() -> None:
    source, clock = FixedFleetSource(), FixedClock()
    source.answers["stock"] = clock.wall()
    app = ZddApp(None, fleet=source, clock=clock)

    def row() -> str:
        return next(line for line in screen_text(app).splitlines() if "stock-of-the-day" in line)

    async with app.run_test(size=(160, 36)) as pilot:
        await pilot.pause()
        assert "an agent" in row()
        assert "ago" not in row()
        clock.seconds += 3.5
        app.repaint()
        await pilot.pause()
        assert "? STALLED" in row()
        assert "3s ago: an agent" in row()
        assert "values of 3s ago: its database has not responded since" in screen_text(app)
        assert "waited for an agent, for 12m38s then" in screen_text(app), "as of that reading"
        clock.seconds += 60
        app.repaint()
        await pilot.pause()
        assert "1m ago: an agent" in row()
        assert row().split()[-6:-3] == [">12m", "?", "unknown"], (
            "it is not known to wait any longer, nor without an agent"
        )
        source.answers["stock"] = clock.wall()
        clock.seconds += 1
        app.repaint()
        await pilot.pause()
        assert "ago" not in row(), "the same row was read again"


async def test_of_a_silent_database_guard_and_agent_are_not_known() -> None:
    source, clock = FixedFleetSource(), FixedClock()
    made = replace(fixed_fleet().rows[0], database="db", guard=Verdict.PASS, agent="vm", has_agent=True)
    source.current = Fleet((made,), 1)
    source.answers["db"] = clock.wall()
    app = ZddApp(None, fleet=source, clock=clock)
    async with app.run_test(size=(160, 36)) as pilot:
        await pilot.pause()
        assert "✔ pass" in screen_text(app)
        for at_last, seconds in ((made, 3.5), (mark_last_known(made), 60)):
            source.current = Fleet((at_last,), 1)
            clock.seconds += seconds
            app.repaint()
            await pilot.pause()
            row = next(line for line in screen_text(app).splitlines() if made.name in line)
            assert row.count("? unknown") == 2
            assert "pass" not in row
            assert "vm" not in row
    document = row_to_dict(mark_last_known(made), clock.wall())
    assert (document["guard"], document["agent"], document["has_agent"]) == ("unknown", None, None)


async def test_what_was_rolled_back_is_listed_with_who_why_and_when_and_found_by_its_cause() -> None:
    app = ZddApp(None, fleet=FixedFleetSource(), clock=FixedClock())
    async with app.run_test(size=(200, 36)) as pilot:
        await pilot.press("slash", *"waits:4.1", "enter")
        await pilot.pause()
        (row,) = (line for line in screen_text(app).splitlines() if "ROLLED BACK" in line)
        assert "guard: errors 4.1 % of v2, limit 2 %" in row
        assert " 6m " in row
        assert "rolled back 6m41s ago" in screen_text(app)


async def test_an_empty_history_names_the_databases_that_were_not_read() -> None:
    app = ZddApp(None, fleet=FixedFleetSource(Fleet((), 2, unanswered=1)), clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("h")
        await pilot.pause()
        assert "no release has ended yet in the databases that respond; not known for 1 of 2" in screen_text(app)


async def test_a_row_is_no_longer_running_once_the_lease_has_ended_that_it_was_read_with() -> None:
    source, clock = FixedFleetSource(), FixedClock()
    running = next(row for row in source.current.rows if row.label == "RUNNING" and row.agent)
    source.answers[running.database] = clock.wall()
    source.ends[running.key] = clock.wall() + 2.0
    app = ZddApp(None, fleet=source, clock=clock)

    def line() -> str:
        return next(line for line in screen_text(app).splitlines() if running.name in line and "RUNNING" in line)

    async with app.run_test(size=(160, 36)) as pilot:
        await pilot.pause()
        assert "▶ RUNNING" in line()
        clock.seconds += 2.25  # the database was read 2.25 s ago, which is recent
        app.repaint()
        await pilot.pause()
        assert "? RUNNING" in line()
        await pilot.press("slash", *running.name, "enter")
        await pilot.pause()
        assert "values of 2s ago: its agent has not renewed its lease since" in screen_text(app)


async def test_enter_opens_the_release_and_f_returns_to_the_row() -> None:
    source = FixedFleetSource()
    app = ZddApp(None, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert source.is_reading
        await pilot.press("slash", *"invoice", "enter", "enter")
        assert "opening invoice-number-to-bigint" in screen_text(app)
        (chosen,) = source.opened
        assert isinstance(chosen, FleetRow)
        assert chosen.name == "invoice-number-to-bigint"
        await opened(pilot, source)
        assert "AWAITING APPROVAL" in screen_text(app)
        assert not source.is_reading, "nothing is read that is not shown"
        await pilot.press("f")
        await pilot.pause()
        assert source.is_reading
        shown = screen_text(app)
        assert "/invoice" in shown, "filter and cursor are kept"
        assert "Enter open  f back" in shown
        await pilot.press("escape", "escape")  # removes the filter, then goes back
        await pilot.pause()
        assert "AWAITING APPROVAL" in screen_text(app)


async def test_a_release_that_cannot_be_opened_says_why() -> None:
    source = FixedFleetSource()
    app = ZddApp(None, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.press("enter")
        source.futures[-1].set_exception(ZddError("gone does not respond [red]", "retry"))
        await pilot.pause()
        assert "✗ gone does not respond [red]. Fix: retry" in screen_text(app)
        await pilot.press("slash", *"empty", "enter", "enter")
        assert "empty: it has no release yet" in screen_text(app)
        assert len(source.opened) == 1


async def test_a_message_over_the_list_has_an_age_and_ends() -> None:
    source, clock = FixedFleetSource(), FixedClock()
    app = ZddApp(None, fleet=source, clock=clock)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        below = screen_text(app).splitlines()[-3:]
        await pilot.press("enter")
        source.futures[-1].set_exception(ZddError("gone does not respond"))
        for seconds, shown in ((0, "✗ gone does not respond"), (30, "30s ago: ✗ gone does not respond")):
            clock.seconds += seconds
            app.repaint()
            await pilot.pause()
            assert any(line.strip() == shown for line in screen_text(app).splitlines())
        clock.seconds += 31
        app.repaint()
        await pilot.pause()
        assert "gone does not respond" not in screen_text(app)
        assert below[-1] == screen_text(app).splitlines()[-1]


async def test_over_the_list_no_key_concerns_the_release_behind_it() -> None:
    source, release = FixedFleetSource(), FixedSource(region_board("open", ""))
    app = ZddApp(release, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.press("f")
        await pilot.pause()
        await pilot.press("R", "ctrl+r", "p", "a", "question_mark", "R", "ctrl+r")
        await pilot.pause()
        assert "Enter confirm" not in screen_text(app)
        assert not release.sent_commands
        await pilot.press("escape", "R")
        await pilot.pause()
        assert "open the release first; R rolls it back there" in screen_text(app)


async def test_a_late_answer_does_not_replace_the_release_chosen_after_it() -> None:
    source = FixedFleetSource()
    app = ZddApp(None, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.press("enter", "down", "enter")
        first, second = source.futures
        await opened(pilot, source, "paused")
        first.set_result(FixedSource(region_board("failed", "")))
        await pilot.pause()
        assert "PAUSED" in screen_text(app)
        assert second.done()


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_regions_are_switched_with_a_key_and_named_in_every_confirm(size: tuple[int, int]) -> None:
    source = FixedFleetSource()
    app = ZddApp(FixedSource(region_board("open", "eu 1/2")), fleet=source, clock=FixedClock())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press("less_than_sign")  # there is none before the first
        assert source.opened == []
        await pilot.press("greater_than_sign")
        app.notify("of the region before", timeout=60)
        assert source.opened == ["us"]
        us = await opened(pilot, source, "open", "us 2/2")
        assert "region us 2/2" in screen_text(app).splitlines()[0]
        assert not app._notifications, "they were about the region before"
        for key in ("a", "R"):
            await pilot.press(key)
            await pilot.pause()
            assert "region us 2/2" in screen_text(app)
            await pilot.press("escape")
        await pilot.press("a")
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert len(us.sent_commands) == 1, "to the region that is shown"


@pytest.mark.parametrize("keys", ["greater_than_sign R", "f enter R"])
async def test_a_rollback_pressed_while_a_release_is_opened_opens_with_it(keys: str) -> None:
    source, before = FixedFleetSource(), FixedSource(region_board("open", "eu 1/2"))
    app = ZddApp(before, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        await pilot.press(*keys.split())
        await pilot.pause()
        assert "rollback opens with the release, once it is there" in screen_text(app)
        if keys.startswith("greater"):
            await pilot.press("a", "enter")
            await pilot.pause()
            assert "advance refused: another release is being opened" in screen_text(app)
        after = await opened(pilot, source, "connecting", "us 2/2")
        assert "the release was not read yet" in screen_text(app)
        after.set_board(region_board("backfill", "us 2/2"))
        await pilot.pause()
        await pilot.pause()
        assert "Enter confirm" in screen_text(app)
        assert not before.sent_commands
        assert not after.sent_commands
        await pilot.press("enter")
        await pilot.pause()
        assert not before.sent_commands
        assert [sent.kind for sent in after.sent_commands] == [CommandKind.ROLLBACK]


async def test_a_rollback_of_a_release_that_cannot_be_opened_is_said_not_to_run() -> None:
    source, before = FixedFleetSource(), FixedSource(region_board("open", "eu 1/2"))
    app = ZddApp(before, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        await pilot.press("greater_than_sign", "R")
        source.futures[-1].set_exception(ZddError("us does not respond"))
        await pilot.pause()
        await pilot.pause()
        assert "us does not respond; nothing is rolled back" in screen_text(app)
        assert "Enter confirm" not in screen_text(app)
        await pilot.press("R")
        await pilot.pause()
        assert "region eu 1/2" in screen_text(app)
        assert "Enter confirm" in screen_text(app), "of the release that is still shown"


async def test_a_region_that_is_not_started_says_so_and_offers_its_agent() -> None:
    source = FixedFleetSource()
    app = ZddApp(FixedSource(region_board("done", "eu 1/2")), fleet=source, clock=FixedClock())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("greater_than_sign")
        before = region_board("connecting", "us 2/2")
        absent = Observed(None, MONOTONIC, "us-db has no release users-full-name", "zdd agent PLAN")
        source.futures[-1].set_result(FixedSource(replace(before, release=absent)))
        await pilot.pause()
        await pilot.pause()
        shown = " ".join(screen_text(app).replace("│", " ").split())
        assert "✗ NOT STARTED in region us: us-db has no release users-full-name, and no agent is running." in shown
        assert "A starts an agent" in shown
        assert "✔ PostgreSQL" in shown, "it has answered"
        await pilot.press("A")
        await pilot.pause()
        assert "No agent has run this release yet" in screen_text(app)
        assert "region us 2/2" in screen_text(app)


async def test_after_a_region_the_next_one_is_named_and_q_does_not_quit_at_once() -> None:
    source = FixedFleetSource()
    clock = FixedClock()
    app = ZddApp(FixedSource(region_board("done", "eu 1/2")), fleet=source, clock=clock)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        assert "→ > opens region us, the one after this; q quits" in screen_text(app)
        for _ in range(2):  # a key after the message is gone is asked again
            await pilot.press("q")
            await pilot.pause()
            assert app.is_running
            clock.seconds += QUIT_AGAIN_SECONDS + 1
        assert "region us follows: > opens" in screen_text(app)
        await pilot.press("greater_than_sign")
        await opened(pilot, source, "done", "us 2/2")
        assert "opens region" not in screen_text(app)
        await pilot.press("q")  # after the last region nothing is next
        await pilot.pause()
        assert app.return_value == 0


async def test_without_a_fleet_neither_list_nor_regions_are_offered() -> None:
    app = ZddApp(FixedSource(region_board("done", "eu 1/2")), clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await pilot.press("f", "greater_than_sign")
        assert isinstance(app.screen, ReleaseScreen)
        assert "opens region" not in screen_text(app)
        assert "fleet" not in screen_text(app).splitlines()[-1]


async def test_the_cursor_is_on_the_most_urgent_row_until_a_key_is_pressed() -> None:
    rows = fixed_fleet().rows
    source = FixedFleetSource(Fleet(rows[4:], 8, 0, 4))
    app = ZddApp(None, fleet=source, clock=FixedClock())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        source.set_fleet(Fleet(rows[1:], 8, 0, 1))
        await pilot.pause(0.3)
        assert rows[1].name[:10] in next(line for line in screen_text(app).splitlines() if "▸" in line)
        await pilot.press("home")
        source.set_fleet(Fleet(rows, 8, 0, 0))
        await pilot.pause(0.3)
        assert rows[1].name[:10] in next(line for line in screen_text(app).splitlines() if "▸" in line)


async def test_a_new_reading_moves_no_cursor_and_an_empty_fleet_is_no_error() -> None:
    source = FixedFleetSource()
    app = ZddApp(None, fleet=source, clock=FixedClock())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("down", "down")
        before = next(line for line in screen_text(app).splitlines() if "▸" in line)
        source.set_fleet(replace(fixed_fleet(), rows=fixed_fleet().rows[1:]))
        await pilot.pause(0.3)
        assert next(line for line in screen_text(app).splitlines() if "▸" in line) == before
        source.set_fleet(Fleet())
        await pilot.pause(0.3)
        assert "no database" in screen_text(app)
        assert "Enter" not in screen_text(app).splitlines()[-1], "there is nothing to open"
        done = tuple(row for row in fixed_fleet().rows if row.state is ReleaseState.DONE)
        source.set_fleet(replace(fixed_fleet(), rows=done))
        await pilot.pause(0.3)
        assert "no active release; the history has those that have ended" in screen_text(app)

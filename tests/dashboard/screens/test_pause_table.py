"""The dialog that pauses or resumes the backfill of one table: what it shows is what it sends."""

from dataclasses import replace

from tests.dashboard.screens.test_keys import AppDriver
from tests.support.states import EPOCH
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState
from zdd_tui.model.release.table_pause import TablePause

SITUATIONS = guard_situations()


def record_of(board: DashboardState) -> ReleaseRecord:
    assert board.release.value is not None
    return board.release.value


def with_release(board: DashboardState, release: Release) -> DashboardState:
    changed = replace(record_of(board), release=release)
    return replace(board, release=Observed(changed, board.release.observed_at))


def sent(desk: AppDriver) -> CommandRequest:
    (request,) = desk.source.sent_commands
    return request


async def test_enter_pauses_the_selected_table_and_sends_what_was_shown() -> None:
    async with AppDriver(SITUATIONS["operations"]) as desk:
        assert "b pause table" in desk.footer
        shown = await desk.press("b")
        assert "▸ orders" in shown  # the first that is not filled
        assert "Enter pause orders" in shown
        await desk.press("enter")
        request = sent(desk)
        assert (request.kind, request.table, request.expected is not None) == (CommandKind.PAUSE, "orders", True)
        for line in request.targets:
            assert " ".join(line.split()[:6]) in " ".join(shown.split())
        board, release = desk.source.current, record_of(desk.source.current).release
        shown = await desk.answer_command("done", "table orders is paused; the release continues")
        assert "pause accepted by the agent" in shown
        paused = replace(release, table_pauses=(TablePause("orders", "ana@bastion", EPOCH),))
        await desk.set_board(with_release(board, paused))
        assert "✔ Table orders is paused" in desk.screen


async def test_enter_resumes_a_paused_table() -> None:
    async with AppDriver(SITUATIONS["table-paused"]) as desk:
        assert "table users is paused by ana@bastion" in desk.screen
        assert "b resumes a table" in desk.screen
        shown = await desk.press("b")
        assert "‖ paused by ana@bastion since" in shown
        await desk.press("enter")
        assert (sent(desk).kind, sent(desk).table) == (CommandKind.RESUME, "users")
        resumed = replace(record_of(desk.source.current).release, table_pauses=())
        board = desk.source.current
        await desk.answer_command("done", "table users is resumed")
        await desk.set_board(with_release(board, resumed))
        assert "✔ Table users is resumed" in desk.screen


async def test_a_table_that_is_filled_or_was_paused_by_another_meanwhile_sends_nothing() -> None:
    board = SITUATIONS["operations"]
    async with AppDriver(board) as desk:
        shown = await desk.press("b", "up")
        assert "cannot pause users" in shown
        assert "table users is filled" in shown
        assert "Enter" not in shown.splitlines()[-2]
        await desk.press("enter", "down")
        release = record_of(board).release
        elsewhere = replace(release, table_pauses=(TablePause("orders", "bob@bastion", EPOCH),))
        await desk.set_board(with_release(board, elsewhere))
        assert "table orders is paused by bob@bastion already" in desk.screen
        await desk.press("enter")  # it does not resume instead
        assert not desk.source.sent_commands
        await desk.press("escape")
        assert len(desk.app.screen_stack) == 1


async def test_a_reason_is_asked_for_where_the_plan_requires_one() -> None:
    board = SITUATIONS["operations"]
    board = replace(board, plan=replace(board.plan, commands_needing_reason=("pause",)))
    async with AppDriver(board) as desk:
        assert "the plan requires a reason" in await desk.press("b", "enter")
        await desk.press(*"lag", "enter")
        assert (sent(desk).reason, sent(desk).table) == ("lag", "orders")


async def test_the_key_says_why_it_does_nothing() -> None:
    async with AppDriver("backfill") as desk:
        assert "pause table" not in desk.footer
        assert "pause refused: no step of the release fills a table" in await desk.press("b")
    board = SITUATIONS["operations"]
    over = with_release(board, replace(record_of(board).release, state=ReleaseState.ROLLING_BACK))
    async with AppDriver(over) as desk:
        assert "there is nothing to pause" in await desk.press("b")
        assert not desk.source.sent_commands


async def test_locked_production_offers_no_pause_of_a_table() -> None:
    async with AppDriver(SITUATIONS["table-paused"], unlocked=False) as desk:
        assert "u unlocks, then p pauses, b resumes a table" in desk.screen
        assert "pause or resume" not in await desk.press("b")

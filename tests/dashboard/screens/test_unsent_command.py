"""A command that the database has not confirmed: it is shown as not sent, and quitting asks first."""

from dataclasses import replace

from tests.dashboard.screens.test_actions import kinds
from tests.dashboard.screens.test_keys import AppDriver
from zdd_tui.dashboard.widgets.bars.command_progress import command_progress_lines
from zdd_tui.model.errors import CommandNotSent
from zdd_tui.model.release.delivery import Delivery
from zdd_tui.model.release.state import CommandKind

FAILURE = "db.shop:5432 does not respond within 2.5 s"


def words(desk: AppDriver) -> str:
    """The screen without line breaks and frames."""
    return " ".join(desk.screen.replace("┃", " ").split())


async def fail_attempt(desk: AppDriver, waited: float = 4.0) -> Delivery:
    """The first attempt fails."""
    request = desk.source.sent_commands[-1]
    delivery = Delivery(request.request_id, desk.clock.seconds).attempt_failed(FAILURE)
    desk.clock.seconds += waited
    state = desk.source.current
    fresh = replace(state.release, observed_at=desk.clock.seconds)
    await desk.set_board(replace(state, release=fresh, delivery=delivery))
    return delivery


async def test_an_unsent_command_is_shown_retried_and_blocks_others_but_a_rollback() -> None:
    async with AppDriver("backfill") as desk:
        desk.source.stores = False
        await desk.press("p")
        assert "… pause sending: not stored yet" in desk.screen
        await fail_attempt(desk)
        assert f"✗ pause NOT SENT: {FAILURE}" in words(desk)
        assert "4s of 30s" in words(desk)
        await desk.press("left_square_bracket")
        assert kinds(desk) == [CommandKind.PAUSE]
        assert [each.message for each in desk.app._notifications] == [
            "tune refused: pause is not sent yet; wait until the database has it"
        ]
        assert "pause NOT SENT" in desk.screen, "its line stays"
        await desk.press("R", "enter")
        assert kinds(desk) == [CommandKind.PAUSE, CommandKind.ROLLBACK]
        progress = desk.app.action_controller.progress
        assert progress is not None
        (line,) = command_progress_lines(progress, desk.source.current, desk.app.render_context(), 100)
        assert line[0][0] == "… rollback sending, overtakes pause, which was not confirmed: not stored yet"


async def test_quitting_asks_while_a_command_is_not_sent() -> None:
    async with AppDriver("backfill") as desk:
        desk.source.stores = False
        await desk.press("R", "enter")
        delivery = await fail_attempt(desk)
        assert "rollback is NOT SENT" in await desk.press("q")
        assert "refused by the database after 5 s" in words(desk)
        assert "rollback is NOT SENT" not in await desk.press("enter")
        assert desk.app.is_running
        assert desk.app.unsent_text == f"rollback was NOT SENT: {FAILURE}"
        await desk.press("q")
        await desk.set_board(replace(desk.source.current, delivery=delivery.stored()))
        assert "Nothing is waiting to be sent" in desk.screen
        assert "rollback queued" in desk.screen
        await desk.press("enter", "q")
        assert desk.app.return_value == 0
        assert desk.app.unsent_text == ""


async def test_a_second_q_gives_the_command_up() -> None:
    async with AppDriver("backfill") as desk:
        desk.source.stores = False
        await desk.press("R", "enter", "q", "q")
        assert desk.app.return_value == 0
        assert desk.app.unsent_text.startswith("rollback was NOT SENT")


async def test_a_command_that_was_given_up_stays_on_the_screen() -> None:
    async with AppDriver("backfill") as desk:
        desk.source.stores = False
        await desk.press("p")
        desk.source.futures[-1].set_exception(CommandNotSent(f"{FAILURE}; given up after 30 s"))
        await desk.pilot.pause()
        desk.clock.seconds += 60
        desk.app.repaint()
        assert "✗ pause NOT SENT" in desk.screen
        assert "rollback is NOT SENT" not in await desk.press("q")
        assert desk.app.return_value == 0

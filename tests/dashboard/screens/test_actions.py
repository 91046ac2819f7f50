"""Actions: lock, rollback from every screen, reasons, tuning, palette, keymap, progress of commands."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from tests.dashboard.screens.detail_answers import ROLLBACK_HISTORY, soaking_board
from tests.dashboard.screens.test_keys import AppDriver
from tests.support import states
from tests.support.operations import plan_of
from tests.support.states import EPOCH, MONOTONIC, board, dashboard_situations, flags, record, release
from zdd_tui.dashboard.keymap import DashboardKeys, build_dashboard_keys, known_bindings, resolve_keymap
from zdd_tui.dashboard.screens.actions import text_to_copy
from zdd_tui.dashboard.screens.confirm import UNSEEN_SECONDS
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.screens.palette import PaletteEntry, filter_entries, palette_entries
from zdd_tui.dashboard.state import DashboardState, FlagView, Observed
from zdd_tui.dashboard.widgets.text_field import MAX_TEXT_LENGTH
from zdd_tui.model.actions import ACTIONS
from zdd_tui.model.agent_start import AgentStart
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.release.blocks import find_blocks
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.preview import preview_blocks, preview_command
from zdd_tui.model.release.records import ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_operations
from zdd_tui.model.rollback import RollbackHistory, RollbackQuery

PRODUCTION = [*"production", "enter"]


def with_plan(situation: str, **changes: Any) -> DashboardState:
    made = dashboard_situations()[situation]
    return replace(made, plan=replace(made.plan, **changes))


def staging(situation: str) -> DashboardState:
    return with_plan(situation, environment="staging")


def kinds(desk: AppDriver) -> list[CommandKind]:
    return [request.kind for request in desk.source.sent_commands]


def keys(document: dict[str, object]) -> DashboardKeys:
    from zdd_tui.dashboard.app import ZddApp

    known = known_bindings(ZddApp)
    chosen = resolve_keymap(
        document,
        known,
        source="k",
        lines={},
    )
    return build_dashboard_keys(chosen)


# --- lock -------------------------------------------------------------------------------------------------------------


async def test_production_starts_locked_without_mutating_keys() -> None:
    async with AppDriver("open", unlocked=False) as desk:
        assert "LOCKED" in desk.screen.splitlines()[0]
        assert "u unlocks, then a runs dual-write" in desk.screen
        assert not {"advance", "pause", "tune"} & set(desk.footer.split())
        assert {"rollback", "unlock"} <= set(desk.footer.split())
        for key in ("a", "p", "t", "left_square_bracket", "right_square_bracket"):
            assert "AWAITING APPROVAL" in await desk.press(key)
        assert not desk.source.sent_commands


async def test_an_unlock_requires_the_environment_counts_down_and_expires() -> None:
    async with AppDriver("open", unlocked=False) as desk:
        assert "the environment name is missing" in await desk.press("u", "enter")
        assert "“prod” is not the environment name" in await desk.press(*"prod", "enter")
        assert "UNLOCKED 15:00" in await desk.press(*"uction", "enter")
        assert "a advance" in desk.footer
        desk.clock.seconds += 61
        await desk.set_board(desk.source.current)
        assert "UNLOCKED 13:59" in desk.screen
        desk.clock.seconds += 839
        await desk.set_board(desk.source.current)
        assert "LOCKED" in desk.screen
        assert "UNLOCKED" not in desk.screen
        assert "Enter confirm" not in await desk.press("a")
        assert not desk.source.sent_commands


async def test_u_locks_at_once() -> None:
    async with AppDriver("open") as desk:
        assert "u lock" in desk.footer
        assert "u unlock" in (await desk.press("u")).splitlines()[-1]


async def test_an_unlock_that_expires_behind_a_dialog_confirms_nothing() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a")
        desk.clock.seconds += 901
        await desk.set_board(desk.source.current)
        assert "The unlock expired" in desk.screen
        await desk.press("enter")
        assert not desk.source.sent_commands


async def test_an_unlock_that_expires_between_two_paints_confirms_nothing() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a")
        desk.clock.seconds += 901
        await desk.press("enter")
        assert not desk.source.sent_commands
        assert "The unlock expired" in desk.screen


async def test_rollback_of_locked_production_requires_the_environment() -> None:
    async with AppDriver("backfill", unlocked=False) as desk:
        assert "the environment name is missing" in await desk.press("R", "enter")
        assert "“shop” is not the environment name" in await desk.press(*"shop", "enter")
        assert not desk.source.sent_commands
        await desk.press(*(["backspace"] * 4), *PRODUCTION)
        assert kinds(desk) == [CommandKind.ROLLBACK]


async def test_the_page_scrolls_while_a_name_is_typed() -> None:
    many = dashboard_situations()["backfill"]
    steps = tuple(f"step-{at}: undo number {at}" for at in range(40))
    async with AppDriver(replace(many, previews={CommandKind.ROLLBACK: steps}), unlocked=False) as desk:
        assert "step-39" not in await desk.press("R", *"prod")
        shown = await desk.press(*(["pagedown"] * 4), "up", "down")
        assert "step-39" in shown
        await desk.press(*"uction", "enter")
        assert kinds(desk) == [CommandKind.ROLLBACK]


@pytest.mark.parametrize(
    ("kind", "unlocked"), [(CommandKind.ADVANCE, True), (CommandKind.ROLLBACK, True), (CommandKind.ROLLBACK, False)]
)
async def test_every_word_of_a_shortened_block_can_be_reached_by_keys(kind: CommandKind, unlocked: bool) -> None:
    plan = plan_of(
        "postgresql:///x", "ALTER TABLE users ALTER COLUMN age TYPE bigint", "ALTER TABLE users RENAME a TO b"
    )
    strategy = build_operations(plan)
    names = [phase.name for phase in strategy.phases]
    phase = names.index("cutover" if kind is CommandKind.ADVANCE else "contract")
    ran = {step.name for each in strategy.phases[: phase + 1] for step in each.steps}
    statuses = tuple(StepStatus.DONE if each.name in ran else StepStatus.PENDING for each in strategy.steps)
    release = Release("notes", "hash", strategy, ReleaseState.WAITING, phase, statuses=statuses)
    preview, blocks = preview_command(plan, release, kind), preview_blocks(plan)
    shortened = find_blocks(preview, blocks)
    assert len(shortened) > 3
    made = dashboard_situations()["open"]
    assert made.release.value is not None
    gates = {gate.name: GateReading(gate.name, Verdict.PASS, "", EPOCH, 1000.0) for gate in release.gates}
    record = replace(made.release.value, release=release, gates=gates)
    board = replace(made, release=replace(made.release, value=record), previews={kind: preview}, blocks=blocks)
    async with AppDriver(board, unlocked=unlocked) as desk:
        await desk.press("a" if kind is CommandKind.ADVANCE else "R")
        page = desk.app.screen.query_one(PageView)
        lines = ["".join("".join(text for text, _ in line).split()) for line in page.all_lines()]
        visible: set[int] = set()
        while len(visible) < len(lines):
            found = set(range(page.first_line, page.first_line + page.content_size.height))
            assert not found <= visible, "the page does not scroll on"
            visible |= found
            await desk.press("pagedown")
    text = "".join(lines)
    assert "standsforablock,whichisinfullattheendofthispage" in text
    for body in shortened.values():
        missing = [line for line in body if "".join(line.split()) not in text]
        assert not missing, missing


async def test_read_only_cannot_be_unlocked() -> None:
    async with AppDriver("open", read_only=True) as desk:
        assert "unlock" not in desk.screen
        assert "→ read-only session: a runs dual-write" in desk.screen
        assert "AWAITING APPROVAL" in await desk.press("u")
        assert "rollback" not in await desk.press("colon")


async def test_staging_has_no_lock() -> None:
    async with AppDriver(staging("open"), unlocked=False) as desk:
        assert "LOCKED" not in desk.screen
        assert "AWAITING APPROVAL" in await desk.press("u")
        await desk.press("R", "enter")
        assert kinds(desk) == [CommandKind.ROLLBACK]


# --- rollback ---------------------------------------------------------------------------------------------------------

SCREENS = {
    "details": ("e",),
    "doctor": ("d",),
    "help": ("question_mark",),
    "palette": ("colon",),
    "tune": ("t",),
    "confirm advance": ("a",),
    "help over a pane": ("tab", "question_mark"),
    "palette over details": ("e", "colon"),
}


async def test_rollback_is_two_keys_from_any_screen_and_the_main_screen_shows_its_progress() -> None:
    async with AppDriver("open") as desk:
        for way, there in SCREENS.items():
            # The plain key wherever no text field would take it for a letter.
            key = "ctrl+r" if way in ("palette", "tune", "palette over details") else "R"
            requested = await desk.press(*there, key)
            assert "roll back: undo every step, in this order" in requested, way
            before = len(desk.source.sent_commands)
            shown = await desk.press("enter")
            assert kinds(desk)[before:] == [CommandKind.ROLLBACK], way
            assert "… rollback queued 0s ago" in shown, way
            await desk.answer_command("done", "planned is rolling-back")
            assert len(desk.app.screen_stack) == 1, way


async def test_rollback_from_the_unlock_dialog() -> None:
    async with AppDriver("open", unlocked=False) as desk:
        await desk.press("u", "ctrl+r", *PRODUCTION)
        assert kinds(desk) == [CommandKind.ROLLBACK]


# --- agent ------------------------------------------------------------------------------------------------------------

COMMAND = "zdd agent /plans/users.yaml"


def without_agent(command: str = COMMAND, start: AgentStart | None = None) -> DashboardState:
    made = dashboard_situations()["no-agent"]
    return replace(made, plan=replace(made.plan, agent_command=command), agent_start=start)


async def test_an_agent_is_started_in_two_keys_where_none_runs() -> None:
    async with AppDriver(without_agent()) as desk:
        assert "✗ No agent is running this release" in desk.screen
        assert "A starts an agent" in desk.screen
        asked = await desk.press("A")
        assert f"  {COMMAND} " in asked
        assert "pid 4211 on bastion was last heard" in asked
        assert desk.source.agent_starts == 0
        await desk.press("enter")
        assert desk.source.agent_starts == 1
        await desk.set_board(without_agent(start=AgentStart("starting", desk.clock.seconds, 77, "/state/a.log")))
        assert "An agent was started" in desk.screen
        assert "log /state/a.log" in " ".join(desk.screen.replace("┃", " ").split())
        await desk.press("A", "enter")
        assert desk.source.agent_starts == 1, "a second agent was started"
        await desk.set_board(without_agent(start=AgentStart("failed", desk.clock.seconds, error="refused!")))
        assert "refused!" in desk.screen
        await desk.press("A", "enter")
        assert desk.source.agent_starts == 2


async def test_without_the_plans_file_the_dialog_has_no_field_and_y_copies_the_line() -> None:
    async with AppDriver(without_agent(command=""), unlocked=False) as desk:
        assert "type the environment name" not in await desk.press("A")
        assert "copied" in await desk.press("y")
        await desk.press("enter")
        assert desk.source.agent_starts == 0


async def test_no_agent_is_offered_before_the_release_was_read() -> None:
    async with AppDriver("connecting") as desk:
        assert "start agent" not in desk.footer


async def test_no_agent_is_started_while_one_holds_the_lease() -> None:
    async with AppDriver("open") as desk:
        assert "start agent" not in desk.footer
        assert "an agent is running the" in await desk.press("A")
        await desk.press("enter")
        assert desk.source.agent_starts == 0


async def test_an_agent_that_comes_back_behind_the_dialog_stops_the_start() -> None:
    async with AppDriver(without_agent()) as desk:
        await desk.press("A")
        await desk.set_board(dashboard_situations()["open"])
        assert "an agent is running the release" in desk.screen
        await desk.press("enter")
        assert desk.source.agent_starts == 0


async def test_without_the_plans_file_there_is_the_line_to_copy() -> None:
    async with AppDriver(without_agent("")) as desk:
        shown = await desk.press("A")
        assert "  zdd agent PLAN " in shown
        assert "y copy the line" in shown
        await desk.press("enter")
        assert desk.source.agent_starts == 0
        assert text_to_copy(desk.app.screen) == ("the line", "zdd agent PLAN")


async def test_in_locked_production_the_start_requires_the_environment() -> None:
    async with AppDriver(without_agent(), unlocked=False) as desk:
        assert "the environment name is missing" in await desk.press("A", "enter")
        await desk.press(*PRODUCTION)
        assert desk.source.agent_starts == 1


async def test_a_read_only_session_starts_none() -> None:
    async with AppDriver(without_agent(), read_only=True) as desk:
        assert "Fix: zdd agent PLAN" in desk.screen
        await desk.press("A", "enter")
        assert desk.source.agent_starts == 0


# --- reasons ----------------------------------------------------------------------------------------------------------


async def test_a_reason_is_required_where_the_plan_says_so() -> None:
    async with AppDriver(with_plan("open", commands_needing_reason=("advance", "pause"))) as desk:
        assert "the plan requires a reason" in await desk.press("a", "enter")
        assert not desk.source.sent_commands
        await desk.press(*"agreed", "enter")
        assert kinds(desk) == [CommandKind.ADVANCE]
        assert [request.reason for request in desk.source.sent_commands] == ["agreed"]
        await desk.press("p", *"lag", "enter")
        assert kinds(desk)[1:] == [CommandKind.PAUSE]
        assert [request.reason for request in desk.source.sent_commands[1:]] == ["lag"]


async def test_the_reason_of_a_rollback_is_optional() -> None:
    async with AppDriver(with_plan("open", commands_needing_reason=("rollback",))) as desk:
        await desk.press("R", "enter")
        await desk.press("R", *"errors", "enter")
        assert [request.reason for request in desk.source.sent_commands] == ["", "errors"]


# --- tuning -----------------------------------------------------------------------------------------------------------


async def test_brackets_change_the_speed_and_the_message_shows_when_it_is_effective() -> None:
    async with AppDriver("backfill") as desk:
        assert "[ ] speed" in desk.footer
        await desk.press("left_square_bracket")
        assert kinds(desk) == [CommandKind.TUNE]
        assert [request.tuning for request in desk.source.sent_commands] == [{"speed": 75}]
        assert [request.targets for request in desk.source.sent_commands] == [("speed 100% -> 75%",)]
        assert "… tune accepted by the agent: speed 100% -> 75%" in await desk.answer_command(
            "done", "speed 100% -> 75%"
        )
        made = desk.source.current.release.value
        assert made is not None
        tuned = replace(made, release=replace(made.release, tuning=(("speed", 75),)))
        await desk.set_board(replace(desk.source.current, release=replace(desk.source.current.release, value=tuned)))
        assert "✔ Applied: speed 100% -> 75%" in desk.screen
        await desk.press("right_square_bracket")
        assert [request.tuning for request in desk.source.sent_commands[1:]] == [{"speed": 100}]


async def test_faster_at_full_speed_is_refused() -> None:
    async with AppDriver("backfill") as desk:
        assert "speed is 100 % already" in await desk.press("right_square_bracket")
        assert not desk.source.sent_commands


async def test_limits_are_staged_validated_and_sent_together() -> None:
    async with AppDriver("backfill") as desk:
        assert "no pending change" in await desk.press("t", "enter")
        shown = await desk.press(*"500", "enter")
        assert "✗ speed: it must be" in shown
        await desk.press(*(["backspace"] * 3), *"50", "enter", "down", *"2000", "enter")
        assert "pending: speed 100% -> 50%, batch_rows 1k -> 2k" in desk.screen
        assert not desk.source.sent_commands
        await desk.press("enter")
        assert [request.tuning for request in desk.source.sent_commands] == [{"speed": 50, "batch_rows": 2000}]


async def test_steps_of_the_speed_add_up_before_the_first_one_is_effective() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press(*["left_square_bracket"] * 6)
        assert [sent.tuning for sent in desk.source.sent_commands] == [{"speed": each} for each in (75, 50, 25, 10)]
        assert [sent.targets for sent in desk.source.sent_commands][1] == ("speed 75% -> 50%",)
        await desk.press("right_square_bracket")
        assert desk.source.sent_commands[-1].tuning == {"speed": 25}


async def test_a_refusal_ends_with_its_cause() -> None:
    for situation, keys in (("backfill", "a"), ("done", "R"), ("open", "a enter")):
        async with AppDriver(situation) as desk:
            await desk.press(*keys.split())
            if situation == "open":  # the agent refuses for a reason that the state does not show
                await desk.answer_command("refused", "another Deployment")
            shown = f"{'rollback' if keys == 'R' else 'advance'} refused"
            assert f"{shown}: " in desk.screen
            desk.clock.seconds += 30
            await desk.set_board(desk.source.current)
            assert f"{shown} 30s ago: " in desk.screen, "its cause is still there"
            desk.clock.seconds += 31
            await desk.set_board(desk.source.current)
            assert shown not in desk.screen, "old news"
    async with AppDriver("backfill") as desk:
        assert "advance refused: " in await desk.press("a")
        await desk.set_board(dashboard_situations()["open"])
        assert "advance refused: " not in desk.screen, "the phase has ended"
        failed = dashboard_situations()["failed"]
        await desk.set_board(failed)
        await desk.press("a", "enter")
        assert "advance queued" in desk.screen
        value = failed.release.value
        await desk.set_board(replace(failed, release=replace(failed.release, value=replace(value, id=2))))
        assert "advance queued" not in desk.screen, "another release"
    async with AppDriver("connecting") as desk:
        assert "advance refused: the release has not been read yet" in await desk.press("a")
        await desk.set_board(dashboard_situations()["open"])
        assert "advance refused: " not in desk.screen, "it has been read"
    async with AppDriver(silent(dashboard_situations()["open"])) as desk:
        assert "advance refused: db does not respond; commands are blocked until it recovers" in await desk.press("a")
        await desk.set_board(dashboard_situations()["open"])
        assert "advance refused: " not in desk.screen, "it has recovered"


def silent(board: DashboardState) -> DashboardState:
    """The database has not responded for 10 s."""
    return replace(board, release=replace(board.release, observed_at=MONOTONIC - 10, error="db does not respond"))


async def test_a_message_ends_where_no_release_is_read() -> None:
    absent: Observed[ReleaseRecord] = Observed(None, MONOTONIC, "us-db has no release users-full-name")
    async with AppDriver(replace(dashboard_situations()["connecting"], release=absent)) as desk:
        assert "advance refused: us-db has no release" in await desk.press("a")
        desk.clock.seconds += 61
        await desk.set_board(desk.source.current)
        assert "refused" not in desk.screen


async def test_what_an_accepted_command_does_not_show_is_old_after_a_minute() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("p")
        assert "pause accepted by the agent: " in await desk.answer_command("done", "paused")
        desk.clock.seconds += 40
        await desk.set_board(desk.source.current)
        assert "pause accepted by an agent 40s ago; " in desk.screen, "no effect, and no agent"
        desk.clock.seconds += 21
        await desk.set_board(desk.source.current)
        assert "pause accepted" not in desk.screen


async def test_the_details_forget_a_message_with_the_main_screen() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("a")
        assert "✗ advance refused: " in await desk.press("e")
        await desk.set_board(dashboard_situations()["open"])
        assert "✗ advance refused" not in desk.screen, "its cause has ended"


async def test_a_rollback_before_the_first_reading_waits_in_its_dialog_for_it() -> None:
    async with AppDriver(staging("connecting")) as desk:
        assert "R rollback" in desk.footer
        asked = await desk.press("R")
        assert "the release was not read yet" in asked
        assert "Enter confirm" not in asked
        await desk.press("enter", "enter")
        assert not desk.source.sent_commands
        failing = staging("connecting")
        lost: Observed[ReleaseRecord] = Observed(None, None, "db.shop:5432 does not respond", "check the network")
        await desk.set_board(replace(failing, release=lost))
        assert "db.shop:5432 does not respond" in desk.screen
        assert not any(isinstance(query, RollbackQuery) for query in desk.source.queries), "there is no release yet"

        read = replace(staging("backfill"), previews={CommandKind.ROLLBACK: ("undo backfill: nothing",)})
        await desk.set_board(replace(read, workload=Observed()))
        assert "was not read yet" not in desk.screen
        assert "undo backfill: nothing" in desk.screen
        assert "Enter confirm" in desk.screen
        assert any(isinstance(query, RollbackQuery) for query in desk.source.queries)
        await desk.set_board(read)
        assert "State changed" not in desk.screen, "the pods were read, nothing has changed"
        await desk.press("enter")
        (sent,) = desk.source.sent_commands
        assert sent.kind is CommandKind.ROLLBACK
        assert sent.expected == read.build_precondition()
        assert sent.targets == ("undo backfill: nothing",)


async def test_escape_ends_a_rollback_that_waits_for_the_first_reading() -> None:
    async with AppDriver(staging("connecting")) as desk:
        await desk.press("R", "escape")
        await desk.set_board(staging("backfill"))
        assert "Enter confirm" not in desk.screen
        assert not desk.source.sent_commands


@pytest.mark.parametrize("situations", [["done"], ["open", "done"]])
async def test_a_rollback_of_a_release_that_has_ended_is_not_confirmed(situations: list[str]) -> None:
    async with AppDriver(staging("connecting")) as desk:
        await desk.press("R")
        for situation in situations:
            await desk.set_board(staging(situation))
        assert "rollback refused: " in desk.screen
        await desk.press("enter")
        assert not desk.source.sent_commands


async def test_a_rollback_follows_a_release_that_moves_on_and_says_so() -> None:
    async with AppDriver(staging("open")) as desk:
        desk.source.answers[RollbackQuery] = RollbackHistory()
        await desk.press("R")
        await desk.set_board(staging("backfill"))
        shown = " ".join(desk.screen.replace("┃", " ").split())
        assert "changed while this is open: the release was waiting in expand, it is running in backfill" in shown
        assert "State changed" not in shown
        await desk.press("enter")
        assert not desk.source.sent_commands, "nobody can have read it"
        assert "Enter was not taken, because this is new: the release was waiting" in desk.screen
        desk.clock.seconds += 1.0
        await desk.press("enter")
        (sent,) = desk.source.sent_commands
        assert sent.expected == staging("backfill").build_precondition()
        asked = [query for query in desk.source.queries if isinstance(query, RollbackQuery)]
        assert len(asked) == 2, "what is lost was read again"


async def test_a_refusal_is_not_cut_beside_the_position_in_the_page() -> None:
    long = {CommandKind.ADVANCE: tuple(f"step {number}" for number in range(40))}
    async with AppDriver(replace(dashboard_situations()["open"], previews=long)) as desk:
        await desk.press("a")
        await desk.set_board(replace(dashboard_situations()["backfill"], previews=long))
        assert "State changed since this dialog was opened: press Esc and review" in desk.screen
        assert " of 4" in desk.screen.splitlines()[-2], "the page is longer than the screen"


async def test_an_unlock_that_expires_while_a_rollback_waits_for_the_reading_confirms_nothing() -> None:
    async with AppDriver("connecting") as desk:
        await desk.press("R")
        desk.clock.seconds += 901
        await desk.set_board(dashboard_situations()["backfill"])
        assert "The unlock expired" in desk.screen
        await desk.press("enter")
        assert not desk.source.sent_commands


SOAKING = soaking_board()


def soaking(lines: Sequence[str], *, differ: int = 0, read: int = 100, seconds: float = MONOTONIC) -> DashboardState:
    """A release in staging whose reads move, by a reading at that time."""
    value = SOAKING.release.value
    assert value is not None
    flags = Observed((FlagView("users_full_name_read", "read", FlagValue(read)),), seconds)
    witness = replace(value.witness, open_rows=differ)
    return replace(
        SOAKING,
        plan=replace(SOAKING.plan, environment="staging"),
        release=Observed(replace(value, witness=witness, now=value.now + seconds - MONOTONIC), seconds),
        workload=replace(SOAKING.workload, observed_at=seconds),
        flags=flags,
        previews={CommandKind.ROLLBACK: tuple(lines)},
    )


async def test_the_facts_of_a_rollback_follow_the_readings_and_what_is_shown_is_sent() -> None:
    async with AppDriver(soaking(["undo soak: wait"], read=25)) as desk:
        assert "about 44% of reads are from the new side" in await desk.press("R")
        desk.clock.seconds += 20.0
        await desk.set_board(soaking(["undo soak: wait"], read=50, seconds=desk.clock.seconds))
        assert "about 62% of reads are from the new side" in desk.screen
        assert "changed while this is open" not in desk.screen, "nothing more is undone or lost"
        await desk.set_board(soaking(["undo soak: wait", "undo rollout-v3: roll back"], seconds=desk.clock.seconds))
        assert "changed while this is open: 1 more step: undo rollout-v3" in desk.screen
        desk.clock.seconds += 20.0
        await desk.set_board(desk.source.current)
        assert "as of 20s ago: the database has not responded since" in desk.screen
        await desk.press("enter")
        (sent,) = desk.source.sent_commands
        assert sent.targets == ("undo soak: wait", "undo rollout-v3: roll back")


async def test_a_confirmation_names_the_lost_sources_that_it_shows() -> None:
    async with AppDriver(soaking(["undo soak: wait"])) as desk:
        assert "Kubernetes: no response" not in await desk.press("R")
        desk.clock.seconds += 10.0
        fresh = soaking(["undo soak: wait"], seconds=desk.clock.seconds)
        await desk.set_board(replace(fresh, workload=replace(fresh.workload, observed_at=MONOTONIC)))
        assert re.search(r"Kubernetes: no response for 1[01]s; what is shown of it here is older", desk.screen)


@pytest.mark.parametrize(
    ("lines", "differ", "growth"),
    [
        (["undo soak: wait", "undo rollout-v3: roll back"], 0, "1 more step: undo rollout-v3"),
        (["undo soak: wait"], 412, "rows that differ after a write of one side: 412"),
        (["undo soak: wait", "  UPDATE users"], 0, "other statements"),
    ],
)
@pytest.mark.parametrize("is_painted", [True, False])
async def test_what_is_added_to_a_rollback_is_not_confirmed_unseen(
    lines: list[str], differ: int, growth: str, is_painted: bool
) -> None:
    async with AppDriver(soaking(["undo soak: wait"])) as desk:
        assert "Enter confirm" in await desk.press("R")
        changed = soaking(lines, differ=differ)
        if is_painted:
            await desk.set_board(changed)
            assert "Enter confirm" not in desk.screen, "it would not be taken"
        else:
            desk.source.current = changed  # read, and not painted yet
        await desk.press("enter")
        assert not desk.source.sent_commands
        said = " ".join(desk.screen.replace("┃", " ").split())
        assert f"Enter was not taken, because this is new: {growth}" in said
        desk.clock.seconds += UNSEEN_SECONDS
        await desk.set_board(changed)
        assert "Enter confirm" in desk.screen
        await desk.press("enter")
        (sent,) = desk.source.sent_commands
        assert sent.targets == tuple(lines)


async def test_what_falls_away_and_rows_that_grow_slowly_delay_no_rollback() -> None:
    async with AppDriver(soaking(["undo soak: wait", "undo expand: drop"], differ=100)) as desk:
        await desk.press("R")
        for differ in range(110, 200, 10):
            await desk.set_board(soaking(["undo soak: wait"], differ=differ))
            assert "Enter confirm" in desk.screen
        await desk.set_board(soaking(["undo soak: wait"], differ=201))
        assert "Enter confirm" not in desk.screen, "twice as many as were seen at first"
        desk.clock.seconds += UNSEEN_SECONDS
        await desk.set_board(soaking(["undo soak: wait"], differ=0))
        await desk.press("enter")
        assert [sent.targets for sent in desk.source.sent_commands] == [("undo soak: wait",)]


async def test_rows_that_a_rollback_loses_are_shown_before_it_is_confirmed_and_say_when_they_were_counted() -> None:
    desk = AppDriver(soaking(["undo soak: wait"]))
    desk.source.answers[RollbackQuery] = ROLLBACK_HISTORY
    async with desk:
        await desk.press("R")
        await desk.press("enter")
        assert not desk.source.sent_commands
        assert "rows with a value that the old side cannot give back: 3" in " ".join(
            desk.screen.replace("┃", " ").split()
        )
        desk.clock.seconds += 40.0
        await desk.set_board(soaking(["undo soak: wait"], seconds=desk.clock.seconds))
        assert "(counted 40s ago)" in desk.screen
        await desk.press("enter")
        assert len(desk.source.sent_commands) == 1


async def test_the_confirmation_of_a_rollback_says_that_reads_wait_for_a_lost_redis() -> None:
    shown = soaking_board()
    async with AppDriver(replace(shown, flags=replace(shown.flags, observed_at=MONOTONIC - 7.0))) as desk:
        text = " ".join((await desk.press("R")).replace("┃", " ").split())
        assert "only once Redis responds, by the read flag (undo 1 of" in text
        assert "every undo waits until Redis responds" in text
        assert "at once" not in text


async def test_the_dialog_that_starts_an_agent_counts_on() -> None:
    async with AppDriver(without_agent()) as desk:
        before = await desk.press("A")
        desk.clock.seconds += 3600.0
        release = replace(desk.source.current.release, observed_at=desk.clock.seconds)
        await desk.set_board(replace(desk.source.current, release=release))
        desk.clock.seconds += 2.0
        await desk.set_board(desk.source.current)
        assert desk.screen != before


async def test_a_paste_stays_small_and_runs_no_action() -> None:
    async with AppDriver("open") as desk:
        desk.app.post_message(events.Paste("aR\n" * 40))
        await desk.pilot.pause()
        assert "pasted text is ignored" in desk.screen
        for keys in (
            ["slash"],
            ["escape", "colon"],
            ["escape", "e", "slash"],
            ["escape", "escape", "t"],
            ["escape", "R"],
        ):
            await desk.press(*keys)
            desk.app.post_message(events.Paste("x y\n" * 30_000))
            await desk.pilot.pause()
            fields = [each for each in desk.app.screen.query(Input) if each.has_focus]
            assert all(0 < len(each.value) <= MAX_TEXT_LENGTH for each in fields)
        assert not desk.source.sent_commands


async def test_a_bracket_opens_the_dialog_where_a_reason_is_required() -> None:
    async with AppDriver(with_plan("backfill", commands_needing_reason=("tune",))) as desk:
        assert "pending: speed 100% -> 75%" in await desk.press("left_square_bracket")
        assert "the plan requires a reason" in await desk.press("enter")
        await desk.press(*"lag", "enter")
        assert [request.tuning for request in desk.source.sent_commands] == [{"speed": 75}]
        assert [request.reason for request in desk.source.sent_commands] == ["lag"]


async def test_tuning_is_offered_until_the_backfill_has_ended() -> None:
    ended = board(record(release(ReleaseState.WAITING, "backfill")))
    async with AppDriver(ended) as desk:
        assert not {"speed", "tune"} & set(desk.footer.split())
        assert "✗ tune refused: the backfill is complete" in await desk.press("left_square_bracket")
        assert not desk.source.sent_commands
    async with AppDriver("planned") as desk:
        assert {"speed", "tune"} <= set(desk.footer.split())
        assert "the limits count for the one to come" in await desk.press("t")


async def test_tuning_is_refused_after_the_backfill() -> None:
    async with AppDriver("gates") as desk:  # cutover: the backfill is over
        assert "✗ tune refused: the backfill is complete" in await desk.press("t")


# --- palette ----------------------------------------------------------------------------------------------------------


async def test_the_palette_finds_an_action_by_letters_and_runs_it() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("colon", *"pau", "enter")
        assert kinds(desk) == [CommandKind.PAUSE]
        assert len(desk.app.screen_stack) == 1


def test_what_the_palette_would_run_begins_with_what_was_typed() -> None:
    entries = tuple(PaletteEntry(each, "") for each in ACTIONS)
    for query in ("rol", "pau", "log", "fl", "adv"):
        assert filter_entries(entries, query)[0].action.label.lower().startswith(query)
    assert filter_entries(entries, "theme") == (), "letters that are spread over a help text are no match"
    assert filter_entries(entries, "audit"), "words of a help text are"


async def test_the_palette_shows_why_an_action_is_not_possible_and_follows_the_state() -> None:
    async with AppDriver("gates") as desk:
        shown = " ".join((await desk.press("colon", *"adva")).split())
        assert "✗ gates are not open: serving-v3 fail" in shown
        await desk.set_board(dashboard_situations()["open"])
        assert "gates are not open" not in desk.screen
        await desk.press("enter")
        assert "run dual-write" in desk.screen


async def test_arrows_select_in_the_palette_and_escape_closes_it() -> None:
    async with AppDriver("open") as desk:
        assert "▸ p" in await desk.press("colon", "down")
        assert "▸ a" in await desk.press("up", "up")
        assert "no action matches" in await desk.press(*"zzz", "enter")
        assert "AWAITING APPROVAL" in await desk.press("escape")
        assert not desk.source.sent_commands


# --- help and other keys ----------------------------------------------------------------------------------------------


async def test_y_copies_everywhere_and_only_enter_confirms() -> None:
    async with AppDriver("open") as desk:
        assert "copied page" in await desk.press("e", "y")
        await desk.press("escape", "a")
        assert "copied page" in await desk.press("y", *"nyYNok1", "space")
        assert kinds(desk) == []
        await desk.press("enter")
        assert kinds(desk) == [CommandKind.ADVANCE]


async def test_help_begins_with_the_keys_of_the_focused_pane() -> None:
    async with AppDriver("open") as desk:
        assert "in the pane" not in await desk.press("question_mark")
        await desk.press("escape")
        first = (await desk.press("tab", "question_mark")).splitlines()[1]
        assert "in the pane pods" in first


async def test_a_remapped_key_works_and_is_shown_in_footer_hints_and_help() -> None:
    async with AppDriver("open", keys=keys({"advance": "f2", "resume": "x", "table.sort": "o"})) as desk:
        assert "f2 advance" in desk.footer
        assert "f2 runs dual-write" in desk.screen
        assert "AWAITING APPROVAL" in await desk.press("a")
        assert "run dual-write" in await desk.press("f2")
        await desk.press("escape", "p")
        assert kinds(desk) == [CommandKind.PAUSE]
        await desk.set_board(dashboard_situations()["paused"])
        assert "x resume" in desk.footer
        await desk.press("p", "x")
        assert kinds(desk) == [CommandKind.PAUSE, CommandKind.RESUME]
        shown = await desk.press("tab", "question_mark")
        assert [line for line in shown.splitlines() if " o " in line and "Sort" in line]


async def test_keymap_warnings_are_shown_until_the_first_command() -> None:
    async with AppDriver("backfill", keys=keys({"doctor": "p"})) as desk:
        assert "keymap: k:1: doctor: p is also the key of pause" in desk.screen
        assert "keymap:" not in await desk.press("p")


# --- progress ---------------------------------------------------------------------------------------------------------


async def test_an_advance_is_followed_until_its_gates_pass() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a", "enter")
        assert "… advance accepted by the agent" in await desk.answer_command("done", "dual-write is running")
        running = record(release(ReleaseState.RUNNING, "dual-write", done=5))
        await desk.set_board(board(running))
        assert "▶ advance running step 2 of 2 of dual-write: turn the write flag on" in desk.screen
        waiting = replace(dashboard_situations()["open"], release=dashboard_situations()["gates"].release)
        await desk.set_board(waiting)
        assert "◆ advance: cutover has run; gates pending: serving-v3, no-older-pod" in desk.screen
        await desk.set_board(dashboard_situations()["open"])
        assert "✔ Advance completed: expand has run, all gates pass" in desk.screen
        desk.clock.seconds += 11
        await desk.set_board(dashboard_situations()["open"])
        assert "completed" not in desk.screen


async def test_a_failed_step_ends_the_progress_and_stays_shown() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a", "enter")
        await desk.answer_command("done", "dual-write is running")
        await desk.set_board(dashboard_situations()["failed"])
        assert "✗ advance failed: " in desk.screen
        desk.clock.seconds += 60
        await desk.set_board(dashboard_situations()["failed"])
        assert "✗ advance failed 1m ago: " in desk.screen


async def test_a_retry_that_fails_at_once_is_not_said_to_run() -> None:
    failed = dashboard_situations()["failed"]
    async with AppDriver(failed) as desk:
        await desk.press("a", "enter")
        await desk.answer_command("done", "dual-write is running")
        assert "… advance accepted by the agent" in desk.screen, "the reading is older than the answer"
        assert failed.release.value is not None
        (sent,) = desk.source.sent_commands
        done = StoredCommand(1, sent, states.ANA, EPOCH, "done", "dual-write is running")
        read = replace(failed.release, value=replace(failed.release.value, commands=(done,)))
        desk.clock.seconds += 27
        await desk.set_board(replace(failed, release=replace(read, observed_at=desk.clock.seconds)))
        assert "✗ advance failed: " in desk.screen
        assert "is running" not in desk.screen


async def test_a_rollback_is_followed_step_by_step() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("R", "enter")
        await desk.answer_command("done", "backfill is rolling-back")
        await desk.set_board(dashboard_situations()["rolling-back"])
        assert "▶ rollback reverting step " in desk.screen
        await desk.set_board(dashboard_situations()["rolled-back"])
        assert "✔ Rollback completed: all steps are reverted" in desk.screen


@pytest.mark.parametrize(
    "note",
    ["retrying for at most 30s, then it fails: no login", "waits for Kubernetes: unavailable for 12s: no response"],
)
async def test_a_rollback_that_waits_for_a_system_does_not_move(note: str) -> None:
    board = dashboard_situations()["rolling-back"]
    async with AppDriver("backfill") as desk:
        await desk.press("R", "enter")
        await desk.answer_command("done", "backfill is rolling-back")
        value = board.release.value
        assert value is not None
        steps = tuple(replace(step, note=note) if step.note else step for step in value.steps)
        await desk.set_board(replace(board, release=replace(board.release, value=replace(value, steps=steps))))
        assert "? rollback waits at step " in desk.screen
        assert "▶ rollback" not in desk.screen
        assert "reverting" not in desk.screen
        await desk.set_board(board)
        assert "▶ rollback reverting step " in desk.screen


async def test_a_success_has_its_age_where_no_agent_is_known_to_work() -> None:
    async with AppDriver("paused") as desk:
        await desk.press("p")
        await desk.answer_command("done", "backfill is running")
        running = dashboard_situations()["backfill"]
        await desk.set_board(running)
        assert re.search(r"✔ Resumed +┃?$", desk.screen, re.MULTILINE), "it is new"
        desk.clock.seconds += 5
        read = replace(running.release, observed_at=desk.clock.seconds)
        await desk.set_board(replace(running, release=read))
        assert "✔ Resumed (5s ago)" in desk.screen
        assert read.value is not None
        assert read.value.lease is not None
        lease = replace(read.value.lease, age=6.0)
        await desk.set_board(replace(running, release=replace(read, value=replace(read.value, lease=lease))))
        assert "✔ Resumed (5s ago); no agent for 6s" in desk.screen


async def test_an_advance_is_cancelled_by_a_rollback() -> None:
    async with AppDriver("open") as desk:
        await desk.press("a", "enter")
        await desk.answer_command("done", "dual-write is running")
        await desk.set_board(dashboard_situations()["rolling-back"])
        assert "‖ Advance cancelled by a rollback" in desk.screen, "which is true once it has ended, too"


async def test_the_palette_of_a_release_that_has_ended_begins_with_what_is_possible() -> None:
    async with AppDriver(staging("done")) as desk:
        entries = palette_entries(desk.source.current, desk.app.render_context())
        possible = [not each.disabled_reason for each in entries]
        assert possible == sorted(possible, reverse=True)
        assert possible[0] is not possible[-1]


async def test_a_pause_succeeds_once_the_release_is_paused() -> None:
    async with AppDriver("backfill") as desk:
        await desk.press("p")
        assert "… pause accepted by the agent" in await desk.answer_command("done", "backfill is running, paused")
        await desk.set_board(dashboard_situations()["paused"])
        assert "✔ Paused" in desk.screen


@pytest.mark.parametrize("only", ["reading", "changing"])
async def test_every_action_of_the_registry_has_an_effect(only: str) -> None:
    """Each opens a screen, sends a command or shows why it is not possible."""
    # There at other times, and tested there.
    idle = {"unlock", "lock", "resume", "quit", "fleet", "previous-region", "next-region"}
    among = [each for each in ACTIONS if each.mutating is (only == "changing") and each.id not in idle]
    async with AppDriver("backfill") as desk:
        for each in among:
            sent = len(desk.source.sent_commands)
            before = desk.screen
            shown = await desk.press(each.key.split(",")[0])
            assert shown != before or len(desk.source.sent_commands) > sent, each.id
            while len(desk.app.screen_stack) > 1:
                await desk.press("escape")


async def test_a_refusal_names_keys_of_the_screen_and_no_command_that_shows_what_the_screen_shows() -> None:
    async with AppDriver("paused") as desk:
        assert "the release is paused (resume it first: press p)" in await desk.press("a")
    async with AppDriver("open") as desk:
        assert "zdd status" not in await desk.press("t")


async def test_a_queued_command_says_for_what_the_agent_waits() -> None:
    planned = dashboard_situations()["planned"]
    made = planned.release.value
    assert made is not None

    def waiting(*others: tuple[str, str, str]) -> DashboardState:
        waits = ("error", "agent waits for Redis: connection refused", "")
        said = states.events(("lease", "acquired the lease, epoch 4", ""), waits, *others)
        return replace(planned, release=replace(planned.release, value=replace(made, events=said)))

    async with AppDriver(waiting()) as desk:
        await desk.press("a", "enter")
        assert "? advance queued 0s ago; the agent waits for Redis: connection refused" in desk.screen
        assert desk.screen.count("the agent waits for Redis") == 2, "and where nothing is queued"
        for over in ("agent no longer waits for Redis", "acquired the lease, epoch 5"):
            await desk.set_board(waiting(("lease", over, "")))
            assert "the agent waits" not in desk.screen
        assert "… advance queued 0s ago, not accepted by the agent yet" in desk.screen
        gone = replace(waiting(("lease", over, "")), flags=Observed(flags(), MONOTONIC - 20, "Redis does not respond"))
        desk.clock.seconds += 2.9
        await desk.set_board(gone)
        assert "LOST: Redis, Kub" not in desk.screen, "an answer may take as long"
        desk.clock.seconds += 0.2
        fresh = replace(gone.release, observed_at=desk.clock.seconds)
        await desk.set_board(replace(gone, release=fresh))
        shown = " ".join(desk.screen.replace("┃", " ").split())
        assert "not accepted by the agent yet (LOST: Redis, Kubernetes)" in shown

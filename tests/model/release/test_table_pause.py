"""The pause of one table: what it holds, what goes on, and what every screen says about it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.operations import plan_of
from tests.support.states import EPOCH, backfill, record
from zdd_tui.cli.run import _find_hold
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.dashboard.widgets.panes.backfill import backfill_lines, fill_line
from zdd_tui.model.errors import Refused
from zdd_tui.model.fleet.rows import FleetRow, ReleaseFacts, Urgency, build_release_row
from zdd_tui.model.operations.base import OperationStep
from zdd_tui.model.operations.fill_order import StepUse, list_waiting_fills, read_step_names
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.claims import ACTIVE, MOVING, ProgressState, assess_progress
from zdd_tui.model.release.fills import list_fills
from zdd_tui.model.release.next_commands import explain_no_table_pause, explain_refusal, next_commands
from zdd_tui.model.release.records import BackfillRecord, ReleaseRecord, combine_backfills, mark_paused_fills
from zdd_tui.model.release.state import (
    LATE_SECONDS,
    Command,
    CommandKind,
    PendingStep,
    Precondition,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    current_step,
    describe_table_pause,
    is_held_by_tables,
    mark_step_finished,
    mark_step_started,
    mark_step_suspended,
    next_pending_step,
    suspend_held_steps,
    unfilled_tables,
)
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.release.summary import Severity, summarize_release

TABLES = ("users", "orders", "items")
STRATEGY = build_strategy(
    plan_of("postgresql:///x", *({"sql": f"UPDATE {table} SET n = n + 1", "undo": []} for table in TABLES))
)
BACKFILL = next(at for at, phase in enumerate(STRATEGY.phases) if phase.name == Phase.BACKFILL)
STEPS = {step.table: step.name for step in STRATEGY.steps if step.table}


def in_backfill(*done: str) -> Release:
    """The preparation is done, and the fills of these tables."""
    before = [step.name for phase in STRATEGY.phases[:BACKFILL] for step in phase.steps]
    ended = {*before, "prepare-fills", *(STEPS[table] for table in done)}
    statuses = tuple(StepStatus.DONE if step.name in ended else StepStatus.PENDING for step in STRATEGY.steps)
    return Release("notes", "hash", STRATEGY, ReleaseState.RUNNING, BACKFILL, statuses)


def pause(release: Release, table: str, *waits: str) -> Release:
    command = Command(CommandKind.PAUSE, table=table, actor="ana@bastion", waits=tuple(STEPS[each] for each in waits))
    return apply_command(release, command, {}, EPOCH - 192)


def resume(release: Release, table: str) -> Release:
    return apply_command(release, Command(CommandKind.RESUME, table=table), {}, EPOCH)


def next_table(release: Release) -> str:
    pending = next_pending_step(release)
    return pending.step.table if pending is not None else ""


def start(release: Release) -> Release:
    pending = next_pending_step(release)
    assert pending is not None
    return mark_step_started(release, pending)


def finish(release: Release) -> Release:
    pending = next_pending_step(release)
    assert pending is not None
    return mark_step_finished(mark_step_started(release, pending), pending)


def test_the_next_fill_is_the_first_whose_table_is_not_paused() -> None:
    release = pause(in_backfill(), "users")
    assert next_table(release) == "orders"
    release = pause(release, "orders")
    assert next_table(release) == "items"
    assert next_table(resume(release, "users")) == "users"
    release = finish(release)
    assert (next_pending_step(release), release.state) == (None, ReleaseState.RUNNING)
    assert is_held_by_tables(release)
    release = resume(release, "orders")
    assert not is_held_by_tables(release)
    release = finish(resume(finish(release), "users"))
    assert (release.state, release.table_pauses) == (ReleaseState.WAITING, ())


def test_a_fill_that_depends_on_a_paused_one_waits_and_so_does_what_is_no_fill() -> None:
    release = pause(in_backfill(), "users", "orders")
    assert next_table(release) == "items"
    assert describe_table_pause(release, "users").startswith("table users is paused; waiting for it: ")
    phase = STRATEGY.phases[BACKFILL]
    fills, index = phase.steps[1:], replace(phase.steps[-1], name="index", handler="run-operation", table="")
    strategy = replace(
        STRATEGY, phases=(*STRATEGY.phases[:BACKFILL], replace(phase, steps=(*phase.steps[:-1], index, fills[-1])),
                          *STRATEGY.phases[BACKFILL + 1 :])
    )  # fmt: skip
    release = replace(in_backfill(), strategy=strategy, statuses=())
    done = [step.name for each in strategy.phases[:BACKFILL] for step in each.steps]
    for name in (*done, "prepare-fills", STEPS["orders"]):
        release = release.with_status(name, StepStatus.DONE)
    assert next_table(pause(release, "users")) == "items"  # before the index
    assert next_pending_step(finish(pause(release, "users"))) is None
    assert next_table(pause(pause(release, "users"), "items")) == ""


@pytest.mark.parametrize(
    ("release", "kind", "table", "title", "hint"),
    [
        (in_backfill(), CommandKind.PAUSE, "pets", "no step of the release fills a table pets", "users, orders, items"),
        (in_backfill("users"), CommandKind.PAUSE, "users", "table users is filled", "zdd status PLAN"),
        (pause(in_backfill(), "users"), CommandKind.PAUSE, "users", "table users is paused by ana@bastion already",
         "zdd resume PLAN --table users"),
        (in_backfill(), CommandKind.RESUME, "users", "table users is not paused", "zdd status PLAN"),
        (pause(in_backfill(), "users"), CommandKind.RESUME, "orders", "table orders is not paused",
         "zdd resume PLAN --table users"),
        (pause(in_backfill(), "users"), CommandKind.RESUME, "", "the release is not paused",
         "zdd resume PLAN --table users"),
        (replace(in_backfill(), state=ReleaseState.ROLLING_BACK), CommandKind.PAUSE, "users",
         "the release is rolling back", "zdd status PLAN"),
        (pause(in_backfill("orders", "items"), "users"), CommandKind.ADVANCE, "", "backfill is still running",
         "zdd resume PLAN --table users"),
    ],
)  # fmt: skip
def test_what_is_refused_says_what_helps(
    release: Release, kind: CommandKind, table: str, title: str, hint: str
) -> None:
    with pytest.raises(Refused) as refused:
        apply_command(release, Command(kind, table=table), {}, EPOCH)
    assert title in refused.value.title
    assert hint in refused.value.hint
    assert title in explain_refusal(release, kind, {}, EPOCH, table=table)


def test_a_pause_of_a_table_does_not_depend_on_the_step_that_runs_and_is_not_too_late() -> None:
    seen = Precondition("hash", ReleaseState.WAITING, BACKFILL - 1)
    late = Command(CommandKind.PAUSE, seen, table="users", actor="ana@here", confirmed_at=EPOCH - LATE_SECONDS - 1)
    assert apply_command(in_backfill(), late, {}, EPOCH).table_pauses[0].by == "ana@here"


def test_both_kinds_of_pause_are_independent_and_a_rollback_ends_them() -> None:
    release = apply_command(pause(in_backfill(), "users"), Command(CommandKind.PAUSE), {}, EPOCH)
    assert next_pending_step(release) is None
    assert describe_table_pause(resume(release, "users"), "users").endswith("resumed; the release is paused")
    assert next_table(apply_command(release, Command(CommandKind.RESUME), {}, EPOCH)) == "orders"
    back = apply_command(start(pause(in_backfill(), "users")), Command(CommandKind.ROLLBACK), {}, EPOCH)
    assert (back.table_pauses, back.paused) == ((), False)
    assert [pending.direction for pending in [next_pending_step(back)] if pending] == ["undo"]


def test_a_table_paused_in_the_middle_is_suspended_also_after_its_agent_was_killed() -> None:
    release = pause(start(in_backfill()), "users")
    users = next(step for step in STRATEGY.steps if step.table == "users")
    stopped = mark_step_suspended(release, PendingStep(users, "run"))
    for each in (stopped, suspend_held_steps(release)):
        assert each.status(STEPS["users"]) is StepStatus.SUSPENDED
        assert each.status(STEPS["users"]).has_effect
        following = start(each)
        assert following.status(STEPS["orders"]) is StepStatus.STARTED
        assert current_step(following).table == "orders"  # type: ignore[union-attr]
    # Resumed while another fill runs, and that agent was killed: one step runs, the other waits for its turn.
    both = start(resume(start(stopped), "users"))
    assert (both.status(STEPS["users"]), both.status(STEPS["orders"])) == (StepStatus.STARTED, StepStatus.SUSPENDED)


def test_the_pause_of_a_table_ends_with_its_last_batch() -> None:
    release = start(in_backfill("orders", "items"))
    pending = next_pending_step(release)
    assert pending is not None
    after = mark_step_finished(pause(release, "users"), pending)
    assert (after.state, after.table_pauses) == (ReleaseState.WAITING, ())


def test_a_release_that_fills_one_table_can_pause_it_and_another_strategy_has_none() -> None:
    plan = plan_of("postgresql:///x", {"sql": "UPDATE users SET n = 1", "undo": []})
    release = Release("notes", "hash", build_strategy(plan))
    assert explain_no_table_pause(release, {}, EPOCH) == ""
    assert pause(release, "users").table_pauses
    assert explain_no_table_pause(replace(release, state=ReleaseState.ROLLING_BACK), {}, EPOCH).startswith(
        "the release"
    )
    bare = replace(STRATEGY, phases=STRATEGY.phases[:BACKFILL])
    assert explain_no_table_pause(Release("n", "h", bare), {}, EPOCH) == "no step of the release fills a table"


@given(st.lists(st.tuples(st.sampled_from(["pause", "resume", "start", "stop", "finish"]), st.sampled_from(TABLES))))
def test_no_paused_table_is_filled_and_nothing_is_left_out(changes: list[tuple[str, str]]) -> None:
    release, running = in_backfill(), ""
    for change, table in changes:
        pending = next_pending_step(release)
        try:
            if change in ("pause", "resume"):
                release = (pause if change == "pause" else resume)(release, table)
            elif change == "start" and pending is not None and not running:
                assert all(pause.table != pending.step.table for pause in release.table_pauses)
                release, running = mark_step_started(release, pending), pending.step.table
            elif running:
                step = next(each for each in STRATEGY.steps if each.table == running)
                mark = mark_step_finished if change == "finish" else mark_step_suspended
                release, running = mark(release, PendingStep(step, "run")), ""
        except Refused:
            pass
        assert [release.status(STEPS[each]) for each in TABLES].count(StepStatus.STARTED) == bool(running)
        assert (release.state is ReleaseState.WAITING) == (unfilled_tables(release) == ())
        assert all(pause.table in unfilled_tables(release) for pause in release.table_pauses)
        if release.state is ReleaseState.RUNNING:
            assert is_held_by_tables(release) == (next_pending_step(release) is None)
    if running:
        step = next(each for each in STRATEGY.steps if each.table == running)
        release = mark_step_finished(release, PendingStep(step, "run"))
    for each in release.table_pauses:
        release = resume(release, each.table)
    while release.state is ReleaseState.RUNNING:
        release = finish(release)
    assert unfilled_tables(release) == ()


# --- which fills depend on each other ---------------------------------------------------------------------------------


def uses(*steps: StepUse) -> tuple[str, ...]:
    return list_waiting_fills(steps, [steps[0].name], [])


def test_what_is_not_known_waits_and_what_only_reads_the_same_table_does_not() -> None:
    first = StepUse("a", True, frozenset({"n"}), frozenset({1}), frozenset({9}))
    other = StepUse("b", True, frozenset({"n"}), frozenset({2}), frozenset({9}))
    assert uses(first, other) == ()
    assert uses(first, replace(other, is_unknown=True)) == ("b",)
    assert uses(first, replace(other, read=frozenset({1}))) == ("b",)
    index = StepUse("index", False, None, frozenset({2}))
    assert uses(first, index, other) == ("b",)  # it follows the index, which follows the paused fill
    assert uses(replace(first, read=frozenset({2})), other) == ("b",)  # what it reads must not be filled before


def names_of(sql: str) -> "list[tuple[str, OperationStep]]":
    plan = plan_of("postgresql:///x", {"sql": sql, "undo": []})
    return [(name, spec) for name, _, spec in named_steps(plan, Phase.BACKFILL)]


def test_statements_say_what_they_read_and_write() -> None:
    ((name, step),) = names_of(
        "UPDATE shop.orders o SET n = t.n FROM (SELECT f(id) AS n FROM teams) t WHERE o.n IS NULL"
    )
    found = read_step_names(name, step)
    assert (found.table, found.columns, found.read) == ("shop.orders", {"n"}, {"teams"})
    assert found.functions == {("", "f")}
    assert not found.is_unknown
    ((name, step),) = names_of("DELETE FROM orders USING teams WHERE teams.id = orders.team")
    found = read_step_names(name, step)
    assert (found.columns, found.read) == (None, {"teams"})
    ((name, step),) = names_of("UPDATE orders SET n = length(query_to_xml('SELECT 1', true, true, '')::text)")
    assert read_step_names(name, step).is_unknown


# --- screens ----------------------------------------------------------------------------------------------------------


def recorded(release: Release, *statuses: str) -> ReleaseRecord:
    fills = tuple(
        backfill(status=status, rows_total=1000, rows_done=1000 if status == "done" else 400, job=STEPS[table])
        for table, status in zip(TABLES, statuses, strict=False)
    )
    fills = mark_paused_fills(fills, release)
    return record(release, fills=fills, backfill=combine_backfills(fills))


def fleet_row(made: ReleaseRecord) -> FleetRow:
    return build_release_row(made, ReleaseFacts(), database="shop", group="", clock_offset=0.0)


def in_the_middle() -> ReleaseRecord:
    """Users was paused in the middle; its agent was killed before it could say so. Orders is filled now."""
    release = start(suspend_held_steps(pause(start(in_backfill()), "users")))
    return recorded(release, "running", "running", "prepared")


def held() -> ReleaseRecord:
    release = pause(pause(in_backfill("users"), "items"), "orders")
    return recorded(release, "done", "paused")


def test_every_view_of_a_release_that_goes_on_names_the_paused_table() -> None:
    made = in_the_middle()
    assert assess_progress(made.release, ACTIVE) == MOVING
    text = " ".join(format_status(made).split())
    assert "‖ table users is paused by ana@bastion for 3m12s: zdd resume PLAN --table users" in text
    assert "… running backfill-2" in text
    assert "running backfill-1" not in text
    assert "TABLE PAUSED" not in text
    summary = summarize_release(made, EPOCH)
    assert (summary.severity, summary.notes[0]) == (Severity.WORKING, "table users is paused by ana@bastion for 3m12s")
    assert "b resumes a table" in summary.next_action
    row = fleet_row(made)
    assert (row.waits_for, row.waiting_since) == ("resume of table users, paused by ana@bastion", EPOCH - 192)
    assert row.urgency is Urgency.MOVING
    assert _find_hold(made) == ""


def test_a_release_that_paused_tables_hold_is_paused_and_says_how_to_resume() -> None:
    made = held()
    assert assess_progress(made.release, ACTIVE).state is ProgressState.PAUSED
    assert format_status(made).startswith("notes: running in backfill, TABLE PAUSED")
    summary = summarize_release(made, EPOCH)
    assert (summary.severity, summary.state_label) == (Severity.PAUSED, "PAUSED")
    assert summary.next_action.startswith("b resumes a table")
    assert CommandKind.PAUSE not in [each.kind for each in next_commands(made.release, {}, EPOCH, has_agent=True)]
    assert fleet_row(made).urgency is Urgency.NEEDS_PERSON
    assert _find_hold(made) == (
        "table items is paused by ana@bastion for 3m12s: zdd resume PLAN --table items; "
        "table orders is paused by ana@bastion for 3m12s: zdd resume PLAN --table orders"
    )


def test_each_fill_says_that_it_is_paused_or_waits_for_a_paused_one() -> None:
    made = in_the_middle()
    made = replace(
        made,
        release=replace(made.release, table_pauses=(replace(made.release.table_pauses[0], waits=(STEPS["items"],)),)),
    )
    users, orders, items = list_fills(made)
    assert [(each.is_current, each.waits_for) for each in (users, orders, items)] == [
        (False, ""), (True, ""), (False, "users"),
    ]  # fmt: skip
    shown = ["".join(text for text, _ in fill_line(each, 60, MOVING)) for each in (users, orders, items)]
    assert shown[0].startswith("‖ update n of users  by ana@bastion")
    assert shown[0].endswith("paused 40% 400/~1k")
    assert shown[1].startswith("▶")
    assert shown[2].endswith("waits for users")
    narrow = "".join(text for text, _ in fill_line(users, 28, MOVING))
    assert narrow.startswith("‖ update")
    assert narrow.endswith("paused 40%")
    document = status_to_dict(made)["fills"]
    assert [each["paused"] for each in document] == [{"by": "ana@bastion", "since": EPOCH - 192}, None, None]
    assert [each["waits_for"] for each in document] == [None, None, "users"]
    assert document[0]["progress"]["status"] == "paused"
    assert "waits for users" in format_status(made)


def test_the_sum_is_that_of_the_fill_that_runs() -> None:
    made = in_the_middle()
    assert made.backfill is not None
    assert (made.backfill.status, made.backfill.job, made.backfill.rows_done) == ("running", STEPS["orders"], 1200)
    lines = backfill_lines(made.backfill, 60, fills=list_fills(made))
    assert "▶ running" in "".join(text for text, _ in lines[1])


def test_a_fill_of_a_paused_table_that_has_not_begun_has_no_progress_to_show() -> None:
    made = replace(recorded(pause(in_backfill(), "users")), fills=(), backfill=None)
    assert "paused before its first batch" not in format_status(made)  # no backfill has begun
    users = list_fills(made)[0]
    assert "".join(text for text, _ in fill_line(users, 60, MOVING)).endswith("paused")
    prepared = BackfillRecord("prepared", 900, job=STEPS["users"])
    made = replace(made, fills=(prepared,), backfill=prepared)
    assert "‖ update n of users: paused before its first batch" in format_status(made)

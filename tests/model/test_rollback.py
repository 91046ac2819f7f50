"""What the confirmation of a rollback says; what is not known is never given as a number."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.operations import plan_of
from tests.support.states import EPOCH, record
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import DroppedData
from zdd_tui.model.operations.registry import list_dropped_by_undo, plan_operations
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.release.preview import preview_undo
from zdd_tui.model.release.records import BackfillRecord, StepRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_operations, build_rolling
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.model.release.system import CLUSTER_UNDOS, FLAG_UNDOS, System, systems_of_undo
from zdd_tui.model.release.witness import WitnessRecord
from zdd_tui.model.rollback import (
    DroppedCount,
    Extent,
    FactTone,
    NewSideCount,
    PastRollback,
    RehearsedRollback,
    RollbackFact,
    RollbackHistory,
    Traffic,
    describe_duration,
    describe_loss,
    describe_traffic,
    describe_waits,
    rollback_rows,
)

STRATEGY = build_expand_contract()
PHASES = [phase.name for phase in STRATEGY.phases]
CHANGE = ChangeView("public.users", "public.users", (("first_name", "x"),), (("full_name", "y"),))


def until(last: str, status: StepStatus = StepStatus.DONE) -> Release:
    """A release whose steps are done up to one, which has a status."""
    release = Release("users-full-name", "hash", STRATEGY, ReleaseState.RUNNING)
    for index, phase in enumerate(STRATEGY.phases):
        for spec in phase.steps:
            if spec.name == last:
                return replace(release.with_status(last, status), phase=index)
            release = release.with_status(spec.name, StepStatus.DONE)
    raise KeyError(last)


def text(facts: tuple[RollbackFact, ...]) -> str:
    return "\n".join(f"{fact.label}: {fact.text}" for fact in facts)


@pytest.mark.parametrize(
    ("release", "traffic", "expected"),
    [
        (until("expand-schema"), Traffic(serving=4), "USERS NOW: every read is from the old side: no flag moves reads"),
        (until("verify-rows"), Traffic(0, serving=4), "USERS NOW: every read is from the old side (read flag off)"),
        (until("soak"), Traffic(100, serving=4), "USERS NOW: every read is from the new side (read flag 100%)"),
        (
            until("rollout-v3", StepStatus.STARTED),
            Traffic(100, serving=4, serving_new=1),
            "USERS NOW: every read is from the new side (read flag 100%; 1 of 4 serving pods are V3)",
        ),
        (
            until("rollout-v3", StepStatus.STARTED),
            Traffic(0, serving=4, serving_new=1),
            "USERS NOW: about 25% of reads are from the new side (read flag off; 1 of 4 serving pods are V3",
        ),
        (
            until("delete-flags"),
            Traffic(serving=4, serving_new=4),
            "USERS NOW: every read is from the new side (4 of 4",
        ),
        (
            until("soak"),
            Traffic(flag_problem="the flags were last read 12s ago", serving=4),
            "USERS NOW: unknown, the flags were last read 12s ago",
        ),
        (until("soak"), Traffic(serving=4), "USERS NOW: unknown, the read flag does not exist"),
        (
            until("rollout-v3", StepStatus.STARTED),
            Traffic(100, pods_problem="the pods were last read 31s ago"),
            "USERS NOW: unknown, the pods were last read 31s ago",
        ),
    ],
)
def test_which_side_users_read(release: Release, traffic: Traffic, expected: str) -> None:
    facts = describe_traffic("expand-contract", release, traffic)
    assert text(facts).startswith(expected)
    assert (facts[0].tone is FactTone.WARNING) == ("unknown" in expected)


def test_when_reads_are_back() -> None:
    in_rollout = describe_traffic("expand-contract", until("rollout-v3"), Traffic(100, serving=4, serving_new=2))
    assert "READS BACK: at once by the read flag (undo 1 of 13); those of V3 pods with undo 2 (rollout-v3)" in text(
        in_rollout
    )
    soaking = describe_traffic("expand-contract", until("soak"), Traffic(100, serving=4))
    assert "V3" not in text(soaking)
    archived = describe_traffic("expand-contract", until("archive-old-side"), Traffic(100, serving=4, serving_new=4))
    assert "by the read flag (undo 2 of 15, once the old side is restored)" in text(archived)
    assert "READS BACK" not in text(describe_traffic("expand-contract", until("verify-rows"), Traffic(0, serving=4)))


def test_reads_go_back_once_the_system_responds_on_which_an_undo_works() -> None:
    release = until("rollout-v3")
    lost = (System.REDIS,)
    moved = describe_traffic("expand-contract", release, Traffic(100, serving=4, serving_new=4, lost=lost))
    assert "READS BACK: only once Redis responds, by the read flag (undo 1 of 13)" in text(moved)
    assert moved[-1].tone is FactTone.WARNING
    assert text(describe_waits(release, lost)) == "WAITS: every undo waits until Redis responds"

    pods = (System.KUBERNETES,)
    at_once = describe_traffic("expand-contract", release, Traffic(100, serving=4, serving_new=4, lost=pods))
    assert "READS BACK: at once by the read flag" in text(at_once)
    assert text(describe_waits(release, pods)) == (
        "WAITS: undo 2 of 13 (rollout-v3) and all after it wait until Kubernetes responds"
    )
    begun = release.with_status("rollout-v3", StepStatus.STARTED)
    assert text(describe_waits(begun, pods)) == (
        "WAITS: undo 2 of 13 (rollout-v3), of a step that has not ended, may wait until Kubernetes responds, or run at"
        " once"
    )
    no_agent = (System.REDIS, System.AGENT)
    assert "until an agent runs the release" in text(describe_waits(release, no_agent[::-1]))
    assert describe_waits(until("expand-schema"), lost) == ()
    assert describe_waits(release, (System.PROMETHEUS,)) == ()


def test_the_systems_of_an_undo_are_known_by_steps_that_exist() -> None:
    assert set(STEPS) >= FLAG_UNDOS | CLUSTER_UNDOS
    rolling = build_rolling()
    assert System.KUBERNETES in systems_of_undo(rolling, rolling.phases[0].steps[0])
    assert System.REDIS not in systems_of_undo(rolling, rolling.phases[0].steps[0])


def test_the_other_strategies_say_who_serves() -> None:
    release = Release("r", "hash", build_rolling(), ReleaseState.RUNNING)
    assert text(describe_traffic("rolling", release, Traffic(serving=6, serving_new=2))) == (
        "USERS NOW: 2 of 6 serving pods run the new image"
    )
    by_flag = describe_traffic("canary", release, Traffic(25, serving=6, serving_new=6))
    assert text(by_flag).startswith("USERS NOW: 25% of users get the new path, by the flag; 6 of 6")
    unknown = describe_traffic("canary", release, Traffic(flag_problem="Redis refuses connections"))
    assert text(unknown) == "USERS NOW: unknown, Redis refuses connections; unknown, the pods were not read yet"
    assert text(describe_loss(None, record(release), None)).startswith("LOST: no data")


def lost(release: Release, history: RollbackHistory | None = None, open_rows: int = 0) -> tuple[RollbackFact, ...]:
    backfill = BackfillRecord("done", 5000, 5000)
    stored = record(release, backfill=backfill, witness=WitnessRecord(open_rows))
    return describe_loss(CHANGE, stored, history)


def test_what_is_lost_is_counted_or_said_to_be_not_counted() -> None:
    nothing = describe_loss(CHANGE, record(until("lint-ddl")), None)
    assert text(nothing) == "LOST: no data: the new side does not exist yet"
    before = lost(until("backfill-rows"))
    assert text(before).startswith("LOST: column full_name of public.users, with 5,000 copied rows")
    assert "is not known until verify-rows has compared them" in text(before)
    soaking = until("soak")
    assert "counting the rows" in text(lost(soaking))
    none = lost(soaking, RollbackHistory(count=NewSideCount(120, 0, True)))
    assert "none of 120 rows written since the verification holds a value" in text(none)
    some = lost(soaking, RollbackHistory(count=NewSideCount(120, 3, True)))
    assert "3 of 120 rows written since the verification hold a value that the old side cannot give back" in text(some)
    assert some[1].tone is FactTone.LOSS
    part = lost(soaking, RollbackHistory(count=NewSideCount(90_000, 0, False, is_whole=True)))
    assert "at least 0 of 90,000 compared rows hold" in text(part)
    assert "the rest was not counted in time" in text(part)
    refused = lost(soaking, RollbackHistory(count_error="permission denied for table users"))
    assert "could not be counted: permission denied for table users" in text(refused)
    assert "could not be counted: the database is not connected" in text(
        lost(soaking, RollbackHistory(problem="the database is not connected"))
    )
    extra = lost(soaking, RollbackHistory(count=NewSideCount(1, 0, True, other_columns=("nick",))))
    assert "not compared, and dropped too: nick" in text(extra)
    assert "4 rows differ after a write of one side: the old side’s stay" in text(lost(soaking, open_rows=4))
    assert "the newer side stays where it is proved" in text(lost(until("rollout-v3"), open_rows=4))


NICK = "ALTER TABLE users ADD COLUMN nick text"
OPERATIONS = (NICK, "ALTER TABLE users ALTER COLUMN nick SET NOT NULL", "CREATE TABLE IF NOT EXISTS nicks (id int)",
              "ALTER TABLE users ALTER COLUMN age SET DEFAULT 1")  # fmt: skip


def operations_release() -> tuple[Release, RollbackHistory]:
    """All steps up to contract are done."""
    plan = plan_of("postgresql:///x", *OPERATIONS)
    strategy = build_operations(plan)
    dropped = list_dropped_by_undo(plan)
    last = [phase.name for phase in strategy.phases].index("contract")
    release = Release("nick", "hash", strategy, ReleaseState.WAITING, last)
    for phase in strategy.phases[: last + 1]:
        for step in phase.steps:
            release = release.with_status(step.name, StepStatus.DONE)
    return release, RollbackHistory(losses=(), dropped=dropped)


def test_what_an_undo_of_the_team_drops_is_read_as_sql() -> None:
    own = {
        "sql": "INSERT INTO t VALUES (1)",
        "undo": ['ALTER TABLE x.t\n  DROP COLUMN "a b", DROP c', "drop table a.b, d"],
    }
    dropped = list_dropped_by_undo(plan_of("postgresql:///x", own))
    assert dropped is not None
    assert [each.name for each in dropped["expand-1"]] == ['column x.t."a b"', "column x.t.c", "table a.b", "table d"]
    with pytest.raises(PlanError, match=r"operations\[0\]: undo: DROP of t: syntax error"):
        plan_operations(plan_of("postgresql:///x", own | {"undo": ["DROP of t"]}))


def test_what_operations_drop_and_which_image_serves_is_said() -> None:
    release, history = operations_release()
    facts = describe_loss(None, record(release), history)
    assert facts[0].tone is FactTone.LOSS
    unread = text(facts)
    assert "LOST: table nicks, if the release has added it, with the data in it; how many rows is not known" in unread
    assert "\n: column users.nick, with the data in it; how many values is not known" in unread
    assert "reading the columns" in text(describe_loss(None, record(release), None))
    unknown = RollbackHistory(problem="the database is not connected")
    assert "not known, the database is not connected" in text(describe_loss(None, record(release), unknown))
    begun = replace(release, statuses=(StepStatus.PENDING,) * len(release.statuses))
    assert "no undo drops one" in text(describe_loss(None, record(begun), history))

    served = text(describe_traffic("expand-contract", release, Traffic(serving=4, serving_new=4)))
    assert served.startswith("USERS NOW: 4 of 4 serving pods run the new image; the image before is back with undo ")
    assert "read" not in served
    unread = describe_traffic("expand-contract", release, Traffic(pods_problem="Kubernetes does not respond"))
    assert "USERS NOW: unknown, Kubernetes does not respond" in text(unread)


def test_the_values_that_only_dropped_columns_and_tables_hold_are_said() -> None:
    release, history = operations_release()
    assert history.dropped is not None
    nick, nicks = DroppedData("users", "nick"), DroppedData("nicks", is_optional=True)
    assert {each for found in history.dropped.values() for each in found} == {nick, nicks}
    counts = {nick: DroppedCount(1234, has_default=True), nicks: DroppedCount(error="not counted within 3 s")}
    found = text(describe_loss(None, record(release), replace(history, dropped_counts=counts), 41.5))
    assert "column users.nick, with 1,234 values (counted 41s ago), apart from those that equal its default" in found
    assert "table nicks, if the release has added it, with the data in it; how many rows is not known: not" in found
    part = {nick: DroppedCount(7, is_complete=False), nicks: DroppedCount(exists=False)}
    facts = describe_loss(None, record(release), replace(history, dropped_counts=part))
    assert text(facts) == "LOST: column users.nick, with at least 7 values, the rest was not counted in time"
    assert (
        rollback_rows(None, record(release), replace(history, dropped_counts=part))["values in column users.nick"] == 7
    )


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ({}, "table nicks, if the release has added it"),
        ({"undo": ["DROP TABLE nicks"]}, "table nicks, with"),
        ({"is_needed": True}, "table nicks, with"),
        ({"undo": []}, ""),
        ({"is_needed": False}, ""),
    ],
)
def test_what_a_step_has_recorded_decides_whether_the_release_has_added_it(detail: dict[str, Any], said: str) -> None:
    release, history = operations_release()
    name = next(name for name, found in (history.dropped or {}).items() if any(each.is_optional for each in found))
    stored = replace(record(release), steps=(StepRecord(name, StepStatus.DONE, detail),))
    shown = text(describe_loss(None, stored, history))
    assert said in shown if said else "nicks" not in shown


def test_a_column_that_gets_another_name_in_contract_has_both() -> None:
    plan = plan_of("postgresql:///x", "ALTER TABLE users ALTER COLUMN age TYPE bigint")
    strategy = build_operations(plan)
    release = Release("age", "hash", strategy, ReleaseState.WAITING, len(strategy.phases) - 2)
    for step in strategy.phases[0].steps:
        release = release.with_status(step.name, StepStatus.DONE)
    shown = text(describe_loss(None, record(release), RollbackHistory(losses=(), dropped=list_dropped_by_undo(plan))))
    assert "column users.zdd_new_age (age from contract on)" in shown


def test_a_copy_of_another_column_is_no_loss_and_filled_values_are_told_apart() -> None:
    plan = plan_of("postgresql:///x", "ALTER TABLE users ALTER COLUMN age TYPE bigint",
                   "ALTER TABLE users ADD COLUMN nick text", "UPDATE users SET nick = lower(name)",
                   "ALTER TABLE users DROP COLUMN kind", "ALTER TABLE users ADD COLUMN kind int")  # fmt: skip
    found = [each for data in (list_dropped_by_undo(plan) or {}).values() for each in data]
    assert [(each.name, each.is_copy, each.is_filled, each.later) for each in found] == [
        ("column users.zdd_new_age", True, True, ""),
        ("column users.nick", False, True, ""),
        ("column users.zdd_new_kind", False, False, "kind"),
    ]


def test_the_undo_of_an_operation_says_what_it_restores() -> None:
    plan = plan_of("postgresql:///x", *OPERATIONS)
    undone = [preview_undo(plan, spec) for spec in build_operations(plan).phases[0].steps]
    assert "restores what the database held before this step: set the default of users.age" in undone
    assert "ALTER TABLE users DROP COLUMN nick, with the data in it" in undone


def test_how_long_it_took() -> None:
    soaking = until("soak")
    assert text(describe_duration(soaking, None, EPOCH)) == "TOOK: reading earlier rollbacks …"
    never = text(describe_duration(soaking, RollbackHistory(), EPOCH))
    assert "REHEARSED: never, in this version of the plan" in never
    assert "LAST TIME: no rollback of this strategy is recorded in this database" in never
    failed = RollbackHistory(problem="the database is not connected")
    assert text(describe_duration(soaking, failed, EPOCH)) == (
        "TOOK: earlier rollbacks are not known, the database is not connected"
    )
    history = RollbackHistory(
        RehearsedRollback(EPOCH - 3 * 86400, True, 0.1, {"cutover": 2.14}),
        PastRollback("users-full-name", "cutover", 252, EPOCH - 9 * 86400),
    )
    known = text(describe_duration(soaking, history, EPOCH))
    assert "REHEARSED: 2.1s from cutover, 3d00h ago, with 10% of the rows, without pods" in known
    assert "LAST TIME: 4m12s from cutover, 9d00h ago (users-full-name)" in known
    elsewhere = text(describe_duration(until("backfill-rows"), history, EPOCH))
    assert "REHEARSED: 3d00h ago, without a rollback from backfill" in elsewhere
    assert "REHEARSED: failed 1m00s ago" in text(
        describe_duration(soaking, RollbackHistory(RehearsedRollback(EPOCH - 60, False, 1.0)), EPOCH)
    )


def test_rows_say_when_they_were_counted_once_that_is_old() -> None:
    history = RollbackHistory(count=NewSideCount(120, 3, True))
    soaking = record(until("soak"))
    fresh, old = (text(describe_loss(CHANGE, soaking, history, age)) for age in (2.0, 41.5))
    assert "counted" not in fresh
    assert "cannot give back (counted 41s ago)" in old
    refused = text(describe_loss(None, soaking, RollbackHistory(losses=("3 rows of users.age",)), 41.5))
    assert "3 rows of users.age (counted 41s ago)" in refused


def test_more_is_what_nobody_has_seen_and_rows_that_have_doubled() -> None:
    seen = Extent(("undo soak: wait", "  SET x"), {"rows that differ": 10})
    assert seen.growth_since(seen) == ""
    assert Extent((), {}).growth_since(seen) == ""
    assert Extent(seen.lines, {"rows that differ": 20}).growth_since(seen) == ""
    more = Extent(("undo read-ramp: 50", "  SET y", *seen.lines), {"rows that differ": 1021, "rows lost": 2})
    assert more.growth_since(seen) == "1 more step: undo read-ramp; rows that differ: 1,021; rows lost: 2"
    assert Extent((*seen.lines, "  SET y")).growth_since(seen) == "other statements"
    # What has been seen stays so while it falls away and comes back.
    assert more.growth_since(Extent((), {}).including(more.including(seen))) == ""

"""Recorded rows are settled, and what was written since the verification is compared before V3 and before contract."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.support.schema_change import count_disagreements, ddl
from tests.support.witness import KINDS, WatchedRelease, watched_release
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.gate_queries import list_enabled_triggers
from zdd_tui.backends.postgres.recent_writes import RecentWrites, read_horizon
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.conditions import save_conditions
from zdd_tui.backends.store.witness import read_continuity
from zdd_tui.cli.status import format_status
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.engine.conditions.comparison import compare_written_rows
from zdd_tui.engine.context import StepHandle
from zdd_tui.engine.gates.registry import GATES
from zdd_tui.engine.recent_writes import find_rows_without_new_side
from zdd_tui.engine.restore import restore_trigger
from zdd_tui.engine.steps.contract import require_archive_agrees
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.model.ddl import archive_statements
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.condition import Condition, ConditionKind, ConditionReading, ConditionStatus
from zdd_tui.model.release.conditions import ALWAYS_ENABLED
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import BackfillRecord, StepChange, StepRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.release.strategy import WITNESS_GATE
from zdd_tui.model.workload.pod import PodFacts, project_pod

pytestmark = pytest.mark.timeout(90)

NOT_COPIED = {"default_transaction_isolation": "serializable"}
"""Settings of a writer whose rows are recorded, and neither compared nor copied at commit."""

AFTER_V3 = ("write-flag-on", "verify-rows", "sync-reverse", "extend-witness", "read-flag-on", "rollout-v3")


class OnePod:
    """A cluster whose only pod has the address of the test's sessions."""

    async def list_pods(self, _selector: str) -> list[PodFacts]:
        raw = {"metadata": {"name": "reports-5f", "uid": "u"}, "spec": {"containers": []}}
        return [project_pod(raw | {"status": {"podIP": "127.0.0.1"}})]


@pytest.mark.parametrize("kind", KINDS)
async def test_before_v3_rows_are_copied_again_and_their_writer_is_named(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=40) as made, made.writer() as worker:
        await worker.execute("UPDATE users SET last_name = last_name || 'x' WHERE id <= 12")
        await worker.execute("INSERT INTO users (id, first_name) VALUES (500, 'new')")
        await worker.execute("DELETE FROM users WHERE id = 20")
        await worker.execute("UPDATE users SET id = 600 WHERE id = 21")
        record = await made.settle()
        assert await count_disagreements(made.admin, kind) == []
        assert record.witness.open_rows == 0
        [writer] = record.witness.writers
        assert writer.application_name == "reports-worker"
        assert writer.rows == (13 if kind == "column" else 16)
        verdict, reason = await GATES[WITNESS_GATE](made.ctx, record)
        assert verdict is Verdict.PENDING, "it may write again"
        assert "reports-worker" in reason
        quiet = replace(record, now=record.now + 3600)
        assert (await GATES[WITNESS_GATE](made.ctx, quiet))[0] is Verdict.PASS


@pytest.mark.parametrize("kind", KINDS)
async def test_the_verification_copies_what_is_recorded_before_it_counts(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=40) as made, made.writer() as intern:
        catalog = await read_catalog(made.admin, made.plan)
        runner = BackfillRunner(made.store, ChangeJob(made.plan, catalog))
        await runner.prepare()
        await runner.run(lambda: False, lambda: made.plan.backfill)
        await intern.execute("UPDATE users SET last_name = last_name || 'x' WHERE id <= 3")
        assert (await Verifier(made.store, made.plan, catalog).run()).mismatches == 3

        async def settle() -> None:
            await made.settle()

        assert (await Verifier(made.store, made.plan, catalog, settle=settle).run()).mismatches == 0
        assert await count_disagreements(made.admin, kind) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_breach_only_what_was_written_since_is_verified_again(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=200) as made:
        runner = BackfillRunner(made.store, ChangeJob(made.plan, await read_catalog(made.admin, made.plan)))
        await runner.prepare()
        await runner.run(lambda: False, lambda: made.plan.backfill)
        detail: dict[str, Any] = {}
        notes: list[str] = []

        async def verify() -> BackfillRecord:
            handle = step_handle("verify-rows", detail, notes)
            await STEPS["verify-rows"].run(made.ctx, handle)
            found = (await made.store.read()).backfill
            assert found is not None
            return found

        first = await verify()
        assert (first.verified, first.verified_rows, notes) == (True, 200, [])
        release = (await made.store.read()).release.with_status("create-witness", StepStatus.DONE)
        await made.store.save(release, step=StepChange("verify-rows", detail=detail))
        breach = ConditionReading("image a", ConditionStatus.BREACHED, "image 1", affects_rows=True)
        await save_conditions(made.store, [breach], verify_again=release)
        await made.admin.execute("SET zdd.witness = 'off'; UPDATE users SET first_name = 'x' WHERE id IN (3, 150)")
        again = await verify()
        assert notes[0] == "comparing rows written since the verification"
        assert (again.verified, again.verified_rows, again.mismatches) == (True, 200, 0)
        assert await count_disagreements(made.admin, kind) == []


async def test_a_pods_name_stands_for_its_address(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made, made.writer() as worker:
        await worker.execute("UPDATE users SET last_name = 'x' WHERE id = 1")
        assert (await made.settle()).witness.writers[0].pod == ""
        await worker.execute("UPDATE users SET last_name = 'y' WHERE id = 1")
        made.ctx.cluster_client = OnePod()  # type: ignore[assignment]
        [writer] = (await made.settle()).witness.writers
        address = await made.admin.fetchval("SELECT coalesce(host(inet_client_addr()), '')")
        assert writer.pod == ("reports-5f" if address else "")


@pytest.mark.parametrize("kind", KINDS)
async def test_after_v3_a_foreign_write_is_shown_and_not_overwritten(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer(**NOT_COPIED) as worker:
        await made.extend()
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 2")
        new = "people" if kind == "table" else "users"
        before = await made.admin.fetchval(f"SELECT full_name FROM {new} WHERE id = 2")
        record = await made.settle(*AFTER_V3, phase="cutover")
        assert record.witness.open_rows == 1
        assert await made.admin.fetchval(f"SELECT full_name FROM {new} WHERE id = 2") == before
        assert await made.admin.fetchval("SELECT first_name FROM users WHERE id = 2") == "Old"
        verdict, reason = await GATES[WITNESS_GATE](made.ctx, record)
        assert verdict is Verdict.FAIL
        assert "reports-worker" in reason
        # V3 writes the row again: its sides still differ, and both writes are there.
        await made.admin.execute(f"UPDATE {new} SET full_name = full_name || '!' WHERE id = 2")
        assert await made.admin.fetchval("SELECT first_name FROM users WHERE id = 2") == "Old"
        assert (await made.settle(*AFTER_V3, phase="cutover")).witness.open_rows == 1
        # Somebody decides for one of the two values.
        await made.admin.execute(f"UPDATE {new} SET full_name = 'Old Last 2' WHERE id = 2")
        record = await made.settle(*AFTER_V3, phase="cutover")
        assert record.witness.open_rows == 0


READS_NEW = ("write-flag-on", "sync-reverse", "extend-witness", "read-flag-on")
WHOLE_ROW = {
    "column": "UPDATE users SET full_name = full_name, first_name = split_part(full_name, ' ', 1),"
    " last_name = substr(full_name, length(split_part(full_name, ' ', 1)) + 2), email = 'v2@x' WHERE id = 2",
    "table": "UPDATE users SET (first_name, last_name, email) = (SELECT split_part(full_name, ' ', 1),"
    " substr(full_name, length(split_part(full_name, ' ', 1)) + 2), email FROM people WHERE people.id = users.id)"
    " WHERE id = 2",
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_write_that_v2_may_have_overwritten_is_named(pg_dsn: str, kind: str) -> None:
    """It could not be copied at its commit, and V2 replaced it before the agent could copy it."""
    async with (
        watched_release(pg_dsn, kind) as made,
        made.writer("v1", **NOT_COPIED) as v1,
        made.writer("v2") as v2,
    ):
        await made.extend()
        await v1.execute("UPDATE users SET first_name = 'V1' WHERE id = 2")
        async with v2.transaction():
            if kind == "table":
                await v2.execute("UPDATE people SET email = 'v2@x' WHERE id = 2")
            await v2.execute(WHOLE_ROW[kind])
        xmin = await made.admin.fetchval("SELECT xmin::text FROM users WHERE id = 2")
        for _ in range(2):
            record = await made.settle(*READS_NEW, phase="cutover")
            assert record.witness.open_rows == 0
            assert record.witness.replaced_rows == 1
            [write] = record.witness.replaced
            assert (write.key, write.application_name, write.transaction) == (("2",), "v1", xmin)
            assert write.written_at <= write.found_at
            _, reason = await GATES[WITNESS_GATE](made.ctx, record)
            assert "may have been overwritten: key 2: written by v1 " in reason
            assert "may have been overwritten: key 2" in format_status(record)
            # A later write of the same writer, which is copied, does not make it forgotten.
            await v1.execute("SET default_transaction_isolation = 'read committed'")
            await v1.execute("UPDATE users SET last_name = last_name || 'x' WHERE id = 2")
            assert await count_disagreements(made.admin, kind) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_write_that_is_still_there_is_not_named(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer("v1", **NOT_COPIED) as v1:
        await made.extend()
        await v1.execute("UPDATE users SET first_name = 'V1' WHERE id = 2")
        await v1.execute("UPDATE users SET first_name = first_name || 'x', last_name = last_name WHERE id = 3")
        assert (await made.settle(*READS_NEW, phase="cutover")).witness.replaced_rows == 0, "the agent has copied them"
        assert await count_disagreements(made.admin, kind) == []
        await made.admin.execute("SET zdd.witness = 'off'")
        if kind == "table":  # a person corrects the new side: the old row is as V1 has left it
            await v1.execute("UPDATE users SET first_name = 'V1', last_name = '' WHERE id = 4")
            await made.admin.execute("UPDATE people SET full_name = 'V1' WHERE id = 4")
        await v1.execute("DELETE FROM users WHERE id = 5")
        if kind == "table":
            await made.admin.execute("DELETE FROM people WHERE id = 5")
        record = await made.settle(*READS_NEW, phase="cutover")
        assert (record.witness.open_rows, record.witness.replaced_rows) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_while_reads_use_the_old_side_nothing_is_overwritten(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer("v1") as v1:
        await v1.execute("UPDATE users SET first_name = 'V1' WHERE id = 2")
        await made.admin.execute("UPDATE users SET email = 'v2@x' WHERE id = 2")
        record = await made.settle()
        assert (record.witness.open_rows, record.witness.replaced_rows) == (0, 0)


async def test_nothing_is_repaired_while_paused(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made, made.writer() as worker:
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 2")
        made.ctx.is_paused = lambda: True
        assert (await made.settle()).witness.open_rows == 1
        made.ctx.is_paused = lambda: False
        assert (await made.settle()).witness.open_rows == 0


async def test_a_row_that_a_writer_holds_is_repaired_later(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table") as made, made.writer() as worker:
        await worker.execute("UPDATE users SET first_name = 'a' WHERE id = 2")
        async with worker.transaction():
            await worker.execute("UPDATE users SET first_name = 'b' WHERE id = 2")
            assert (await made.settle()).witness.open_rows == 1
        assert (await made.settle()).witness.open_rows == 0
        assert await count_disagreements(made.admin, "table") == []


async def test_a_row_that_comes_back_while_its_orphan_is_removed_is_kept(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table") as made, made.writer() as worker, made.writer("v2") as v2:
        await worker.execute("DELETE FROM users WHERE id = 2")
        async with v2.transaction():
            await v2.execute("INSERT INTO users (id, first_name) VALUES (2, 'Back')")
            await v2.execute("UPDATE people SET full_name = 'Back' WHERE id = 2")
            settling = asyncio.create_task(made.settle())
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            async with asyncio.timeout(10):
                while not settling.done() and not await made.admin.fetchval(waits):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await settling
        await made.settle()
        assert await made.admin.fetchval("SELECT full_name FROM people WHERE id = 2") == "Back"
        assert await count_disagreements(made.admin, "table") == []


async def test_a_missing_or_disabled_trigger_fails_the_gate(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made:
        await made.admin.execute('ALTER TABLE users DISABLE TRIGGER "zdd_users-full-name_wor"')
        verdict, reason = await GATES[WITNESS_GATE](made.ctx, await made.settle())
        assert verdict is Verdict.FAIL
        assert "missing or disabled" in reason


def test_without_a_witness_there_is_no_step_and_no_gate_of_it() -> None:
    from tests.support.schema_change import make_plan

    def names(**change: Any) -> set[str]:
        strategy = build_strategy(make_plan(change=change))
        return {step.name for step in strategy.steps} | {gate.name for each in strategy.phases for gate in each.gates}

    witness = {"create-witness", "extend-witness", "drop-witness", WITNESS_GATE}
    assert witness <= names()
    for without in (names(witness=False), names(dual_write="trigger")):
        assert not witness & without
        assert {"compare-recent-writes", "compare-before-contract"} <= without


# --- the comparison before V3 and before contract ---------------------------------------------------------------


async def verified(made: WatchedRelease, *done: str) -> None:
    """The steps that are done, in the store, with what the verification saved."""
    release = (await made.store.read()).release
    async with made.store.fenced() as conn:
        detail = {"since": await read_horizon(conn), "witness": await read_continuity(conn, made.plan)}
    steps = {step.name for step in release.strategy.steps}
    for name in {"create-witness", "write-flag-on", "verify-rows", *done} & steps:
        release = release.with_status(name, StepStatus.DONE)
    phase = [spec.name for spec in release.strategy.phases].index("cutover")
    release = replace(release, phase=phase)
    await made.store.save(release, step=StepChange("verify-rows", detail=detail))


def step_handle(name: str, saved: dict[str, Any], notes: list[str] | None = None) -> StepHandle:
    async def note(text: str) -> None:
        if notes is not None:
            notes.append(text)

    async def detail(facts: dict[str, Any]) -> None:
        saved.update(facts)

    async def done(*_: Any) -> None: ...

    record = StepRecord(name, StepStatus.STARTED, detail=dict(saved))
    return StepHandle(record, write_note=note, write_detail=detail, write_done=done)


async def run_comparison(made: WatchedRelease) -> dict[str, Any]:
    saved: dict[str, Any] = {}
    await STEPS["compare-recent-writes"].run(made.ctx, step_handle("compare-recent-writes", saved))
    return saved


@pytest.mark.parametrize("kind", KINDS)
async def test_before_v3_a_row_that_differs_is_copied_again(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=200) as made:
        await verified(made)
        await made.admin.execute("SET zdd.witness = 'off'")  # nobody recorded it
        await made.admin.execute("UPDATE users SET first_name = 'x' WHERE id IN (3, 150)")
        assert await run_comparison(made) == {"rows": 2, "repaired": 2, "whole": False}
        assert await count_disagreements(made.admin, kind) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_after_v3_it_fails_with_the_key_and_the_writer_and_no_value(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=200) as made, made.writer(**NOT_COPIED) as worker:
        await verified(made, *AFTER_V3)
        await made.extend()
        await worker.execute("UPDATE users SET first_name = 'SecretName' WHERE id = 150")
        with pytest.raises(StepFailed) as failed:
            await run_comparison(made)
        assert "key 150 (" in failed.value.title
        assert "reports-worker" in failed.value.title
        assert "SecretName" not in str(failed.value)
        assert "Last 150" not in str(failed.value)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rollback_keeps_the_new_side_while_v3_wrote_what_the_old_side_lacks(pg_dsn: str, kind: str) -> None:
    async with (
        watched_release(pg_dsn, kind, rows=20) as made,
        made.writer("v3") as v3,
        made.writer("psql", **NOT_COPIED) as psql,
    ):
        await verified(made, "sync-reverse", "extend-witness", "read-flag-on", "rollout-v3")
        release = (await made.store.read()).release
        await made.store.save(release, step=StepChange("rollout-v3", detail={"image_before": "a:2"}))
        await made.extend()
        new = "people" if kind == "table" else "users"
        await psql.execute("UPDATE users SET first_name = 'Old' WHERE id IN (2, 3)")
        await v3.execute(f"UPDATE {new} SET full_name = 'New' WHERE id IN (3, 4)")  # 3: in conflict, 4: copied
        undo = STEPS["sync-reverse"].undo
        with pytest.raises(StepFailed) as failed:
            await undo(made.ctx, step_handle("sync-reverse", {}))
        assert "1 of " in failed.value.title, "row 2 is right on the old side, which stays"
        assert "for example key 3 (" in failed.value.title
        assert "v3 " in failed.value.title
        assert await made.admin.fetchval("SELECT key FROM zdd.mismatch") == '["3"]'
        assert "zdd_users-full-name_rev" in (await read_catalog(made.admin, made.plan)).triggers
        await made.admin.execute("UPDATE users SET first_name = 'New', last_name = '' WHERE id = 3")
        await undo(made.ctx, step_handle("sync-reverse", {}))
        assert "zdd_users-full-name_rev" not in (await read_catalog(made.admin, made.plan)).triggers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["dropped", "disabled", "not always enabled", "functions dropped"])
async def test_a_trigger_of_the_witness_is_made_anew(pg_dsn: str, kind: str, damage: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as worker:
        await made.extend()
        names = expected_triggers(made.plan, both_sides=True)
        for name in names:
            table = await made.admin.fetchval("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = $1", name)
            function = await made.admin.fetchval(
                "SELECT tgfoid::regprocedure::text FROM pg_trigger WHERE tgname = $1", name
            )
            if function is None:
                continue  # its trigger was dropped with a function that two of them use
            statements = {
                "dropped": f'DROP TRIGGER "{name}" ON {table}',
                "disabled": f'ALTER TABLE {table} DISABLE TRIGGER "{name}"',
                "not always enabled": f'ALTER TABLE {table} ENABLE TRIGGER "{name}"',
                "functions dropped": f"DROP FUNCTION {function} CASCADE",
            }
            await made.admin.execute(statements[damage])
        for name in names:
            condition = Condition(f"trigger {name}", ConditionKind.TRIGGER, name, ALWAYS_ENABLED)
            assert await restore_trigger(made.ctx, condition)
            assert not await restore_trigger(made.ctx, condition), "it is there"
        assert await list_enabled_triggers(made.admin, names) == set(names)
        new = "people" if kind == "table" else "users"
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 2")
        await worker.execute(f"UPDATE {new} SET full_name = NULL WHERE id = 3")
        assert [(key, side) for key, side, *_ in await made.recorded()] == [('["2"]', "old")], "3 agrees by down"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_comparison_after_a_breach_reads_recent_rows_and_accepts_down(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=50) as made, made.writer("v3") as v3:
        await verified(made, "sync-reverse", "extend-witness", "read-flag-on")
        await made.extend()
        new = "people" if kind == "table" else "users"
        await v3.execute(f"UPDATE {new} SET full_name = NULL WHERE id = 7")  # up gives '', down gives the old side

        async def compare() -> RecentWrites:
            return await compare_written_rows(made.ctx)

        result = await compare()
        assert (result.rows, result.differing, result.is_whole) == (1, (), False)
        await made.admin.execute(
            "SET session_replication_role = replica; SET zdd.witness = 'off';"
            "UPDATE users SET first_name = 'x' WHERE id = 8"
        )
        await made.admin.execute("RESET zdd.witness")
        assert [each.key for each in (await compare()).differing] == [("8",)]
        assert await made.admin.fetchval("SELECT key FROM zdd.mismatch") == '["8"]'
        # Deletes of V3 have no record on the old side: in the table kind every row is compared.
        await verified(made, *AFTER_V3)
        assert (await compare()).is_whole == (kind == "table")


@pytest.mark.parametrize(
    "doubt",
    [
        'ALTER TABLE users DISABLE TRIGGER "zdd_users-full-name_wor"; DELETE FROM users WHERE id = 3;'
        'ALTER TABLE users ENABLE ALWAYS TRIGGER "zdd_users-full-name_wor"',
        "ALTER TABLE zdd.witness_record RENAME TO hidden; DELETE FROM users WHERE id = 3;"
        "ALTER TABLE zdd.hidden RENAME TO witness_record",
    ],
    ids=["disabled-meanwhile", "not-recorded"],
)
async def test_every_row_is_compared_where_the_witness_may_have_missed_a_delete(pg_dsn: str, doubt: str) -> None:
    async with watched_release(pg_dsn, "table", rows=50) as made:
        await verified(made)
        for statement in doubt.split(";"):
            await made.admin.execute(statement)
        assert await made.recorded() == []
        assert await run_comparison(made) == {"rows": 49, "repaired": 1, "whole": True}
        assert await count_disagreements(made.admin, "table") == []


@pytest.mark.parametrize("removal", ["DELETE FROM people WHERE id <= 3", "TRUNCATE people"])
async def test_before_v3_rows_that_only_the_new_side_lost_come_back(pg_dsn: str, removal: str) -> None:
    """Nobody records them before cutover."""
    async with watched_release(pg_dsn, "table", rows=50) as made:
        await verified(made)
        await made.admin.execute(removal)
        assert await made.recorded() == []
        gone = 3 if removal.startswith("DELETE") else 50
        assert await run_comparison(made) == {"rows": gone, "repaired": gone, "whole": False}
        assert await count_disagreements(made.admin, "table") == []


async def test_switched_off_every_row_is_compared(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table", rows=50, change={"witness": False}) as made:
        release = (await made.store.read()).release
        await made.store.save(release, step=StepChange("verify-rows", detail={"since": "3"}))
        await made.admin.execute("DELETE FROM users WHERE id = 3")
        assert await run_comparison(made) == {"rows": 49, "repaired": 1, "whole": True}


@pytest.mark.parametrize("kind", KINDS)
async def test_before_the_drop_rows_count_whose_old_side_was_written_alone(pg_dsn: str, kind: str) -> None:
    """Also one that was written just before the archive; not one of V3 that the old side cannot hold."""
    async with watched_release(pg_dsn, kind, rows=20, change={"witness": False}) as made, made.writer("v3") as v3:
        await made.admin.execute("ALTER TABLE users ADD CHECK (first_name <> 'Unfit')")
        await verified(made, *AFTER_V3)
        await made.extend()
        await made.admin.execute("UPDATE users SET first_name = 'late' WHERE id = 3")
        await ddl(made.store, archive_statements(made.plan, await read_catalog(made.admin, made.plan)))
        new = "people" if kind == "table" else "users"
        await v3.execute(f"UPDATE {new} SET full_name = 'Unfit One' WHERE id = 7")
        await v3.execute(f"UPDATE {new} SET full_name = 'Fits Well' WHERE id = 8")
        record = await made.store.read()
        result = await find_rows_without_new_side(made.ctx, record, step_handle("drop-archive", {}).set_note)
        assert [each.key for each in result.differing] == [("3",)]
        await made.admin.execute(f"UPDATE {new} SET full_name = 'late 3' WHERE id = 3")
        result = await find_rows_without_new_side(made.ctx, record, step_handle("drop-archive", {}).set_note)
        assert result.differing == ()


@pytest.mark.parametrize("was_off", [False, True])
async def test_before_the_drop_a_witness_that_was_off_for_a_moment_proves_nothing(pg_dsn: str, was_off: bool) -> None:
    async with watched_release(pg_dsn, rows=20) as made:
        await verified(made, *AFTER_V3)
        await made.extend()
        if was_off:
            name = expected_triggers(made.plan, both_sides=True)[0]
            for state in ("DISABLE", "ENABLE ALWAYS"):
                await made.admin.execute(f'ALTER TABLE users {state} TRIGGER "{name}"')
        detail: dict[str, Any] = {}
        await STEPS["drop-witness"].run(made.ctx, step_handle("drop-witness", detail))
        assert detail == {"unbroken": not was_off}
        await STEPS["drop-witness"].run(made.ctx, step_handle("drop-witness", detail))
        assert detail == {"unbroken": not was_off}, "an attempt that is repeated knows nothing new"
        await made.store.save((await made.store.read()).release, step=StepChange("drop-witness", detail=detail))
        await made.admin.execute("UPDATE users SET first_name = 'late' WHERE id = 3")
        checking = require_archive_agrees(made.ctx, step_handle("drop-archive", {}))
        if was_off:
            with pytest.raises(StepFailed, match=r"the archive has what the new side lacks: .* key 3 "):
                await checking
        else:
            await checking  # nobody writes an archive: this row stands for none


async def test_failed_rows_that_the_plan_tolerates_may_differ(pg_dsn: str) -> None:
    backfill = {"max_failed_rows": 1}
    async with watched_release(pg_dsn, rows=20, backfill=backfill) as made:
        await verified(made, *AFTER_V3)
        async with made.store.fenced() as conn:
            await rows.create_backfill(conn, made.store.release_id, rows_total=20, batch_rows=1)
            await rows.add_failed_row(conn, made.store.release_id, ("7",), "why")
        await made.admin.execute("SET zdd.witness = 'off'; UPDATE users SET first_name = 'x' WHERE id = 7")
        assert (await run_comparison(made))["rows"] == 1
        await made.admin.execute("UPDATE users SET first_name = 'x' WHERE id = 8")
        with pytest.raises(StepFailed, match="key 8"):
            await run_comparison(made)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_witness_survives_the_archive_and_goes_with_it(pg_dsn: str, kind: str) -> None:
    from zdd_tui.model.ddl import drop_archive_statements, restore_archive_statements
    from zdd_tui.model.ddl.witness import drop_witness_statements, extend_witness_statements

    async with watched_release(pg_dsn, kind) as made, made.writer() as worker:
        await made.extend()

        async def change(build: Any) -> None:
            await ddl(made.store, build(made.plan, await read_catalog(made.admin, made.plan)))

        await change(archive_statements)
        new = "people" if kind == "table" else "users"
        await worker.execute(f"UPDATE {new} SET full_name = 'V3' WHERE id = 1")
        assert await made.recorded() == []
        assert await made.admin.fetchval("SELECT last_value FROM zdd.witness_missed WHERE is_called") is None
        archive = "zdd_archive.users" if kind == "table" else "users"
        column = "first_name" if kind == "table" else "zdd_archive_1_first_name"
        await made.admin.execute(f"UPDATE {archive} SET {column} = 'late' WHERE id = 2")
        assert (await made.settle(*AFTER_V3, phase="contract")).witness.open_rows == 1
        await change(restore_archive_statements)
        await worker.execute("UPDATE users SET first_name = 'again' WHERE id = 3")
        assert (await made.settle(*AFTER_V3, phase="cutover")).witness.open_rows == 1, "copied at its commit again"
        await change(archive_statements)
        await change(drop_witness_statements)
        await change(extend_witness_statements)
        await change(drop_witness_statements)
        await change(drop_archive_statements)
        left = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zdd%' AND NOT tgisinternal"
        assert await made.admin.fetchval(left) == 0
        assert await made.admin.fetchval("SELECT count(*) FROM pg_proc WHERE proname LIKE 'zdd\\_users%'") == 0

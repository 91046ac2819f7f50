"""Registering, reading, commanding and hearing of changes, as every client does it."""

import asyncio
import re
from dataclasses import replace

import asyncpg
import pytest

from tests.support.store import AGENT, ANA, open_store, password_of, plan_for, register_release
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.model.errors import DatabaseError, Refused
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Actor, BackfillRecord, CommandRequest, NewEvent, RollbackStart, StepChange
from zdd_tui.model.release.state import (
    CommandKind,
    Precondition,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    mark_step_failed,
    mark_step_finished,
    mark_step_started,
    next_pending_step,
)
from zdd_tui.model.release.strategies import build_strategy

# --- releases --------------------------------------------------------------------------------------------------

BY_ANA = Actor(ANA.name, ANA.host, "postgres")
"""Ana, through the role of the tests."""


async def test_a_registered_release_is_read_as_it_was_planned(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        record = await store.read_release(release_id)
    strategy = build_strategy(plan_for(pg_dsn))
    assert record.release == Release("users-full-name", "hash-1", strategy)
    assert (record.environment, record.plan_text) == ("staging", "database: {dsn: ${DATABASE_URL}}")
    assert [step.name for step in record.steps] == [step.name for step in strategy.steps]
    assert {step.status for step in record.steps} == {StepStatus.PENDING}
    assert (record.lease, record.backfill, record.gates, record.commands, record.finished_at) == (
        None,
        None,
        {},
        (),
        None,
    )
    assert [(event.actor, event.kind) for event in record.events] == [(ANA, "release")]
    assert 0 <= record.now - record.created_at < 60


async def test_reading_is_one_statement(pg_dsn: str) -> None:
    """Every dashboard does it several times a second; one statement is also one snapshot."""
    async with open_store(pg_dsn) as (store, release_id):
        sent: list[str] = []
        async with store._pool.acquire() as connection:
            connection.add_query_logger(lambda query: sent.append(query.query))
        await store.read_release(release_id)  # on the same connection: the pool hands out the one used last
        assert len(sent) == 1
        assert sent[0].lstrip().startswith("SELECT json_build_object")


async def test_registering_again_finds_the_active_release(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        assert await register_release(store, pg_dsn) == release_id
        with pytest.raises(Refused, match="users-full-name runs with another plan") as caught:
            await register_release(store, pg_dsn, plan_hash="hash-2")
        assert caught.value.hint
        other = await register_release(store, pg_dsn, name="other")
        assert other != release_id
        await db.execute("UPDATE zdd.release SET state = 'done', finished_at = now() WHERE id = $1", release_id)
        again = await register_release(store, pg_dsn, plan_hash="hash-2")
        assert again not in (release_id, other)
        assert await store.find_release("users-full-name") == again
        assert await store.find_release("nobody") is None
    assert await db.fetchval("SELECT count(*) FROM zdd.release") == 3


async def test_registering_at_once_makes_one_release(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with await Store.open(pg_dsn) as one, await Store.open(pg_dsn) as two:
        await one.migrate()
        found = await asyncio.gather(*(register_release(store, pg_dsn) for store in (one, two) for _ in range(6)))
    assert len(set(found)) == 1
    assert await db.fetchval("SELECT count(*) FROM zdd.release") == 1


async def test_an_unknown_release_or_command_is_an_error(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, _):
        for attempt in (store.read_release(999), store.send_command(999, CommandRequest(CommandKind.PAUSE), actor=ANA)):
            with pytest.raises(DatabaseError, match="has no release 999"):
                await attempt
        with pytest.raises(DatabaseError, match="has no command 999"):
            await store.read_command(999)


async def test_secrets_reach_no_table(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Also where an operator wrote the password into the plan itself, or an error text quotes a URL."""
    secret = password_of(pg_dsn)
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        release_id = await store.register_release(
            plan_for(pg_dsn),
            text=f"database: {{dsn: '{pg_dsn}'}}\nflags: {{url: redis://:{secret}@localhost}}",
            document={"database": {"dsn": pg_dsn}, "more": [f"postgres://ana@h/db?password={secret}"]},
            plan_hash="hash-1",
            actor=ANA,
        )
        await store.send_command(release_id, CommandRequest(CommandKind.PAUSE, reason=f"look at {pg_dsn}"), actor=ANA)
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            broken = replace((await agent.read()).release, state=ReleaseState.FAILED, error=f"cannot reach {pg_dsn}")
            await agent.save(
                broken,
                events=[NewEvent("error", pg_dsn, pg_dsn)],
                step=StepChange("lint-ddl", note=pg_dsn, error=pg_dsn),
            )
            await agent.save_gates([GateReading("schema-valid", Verdict.FAIL, pg_dsn, 0)])
        assert "${DATABASE_URL}" not in (await store.read_release(release_id)).plan_text
    tables = await db.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'zdd'::regnamespace AND relkind = 'r'")
    dump = [str(row) for (table,) in tables for row in await db.fetch(f"SELECT t::text FROM zdd.{table} t")]
    assert len(dump) > 20
    assert secret not in "\n".join(dump)
    assert "***@127.0.0.1" in "\n".join(dump)


async def test_text_that_the_server_refuses_is_replaced(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        await store.send_command(release_id, CommandRequest(CommandKind.PAUSE, reason="a\0b\udcff"), actor=ANA)
        (stored,) = (await store.read_release(release_id)).commands
        assert stored.request.reason == "a\N{REPLACEMENT CHARACTER}b?"


# --- what the agent writes, read back --------------------------------------------------------------------------


async def test_the_status_of_a_step_sets_its_times(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            release = replace((await agent.read()).release, state=ReleaseState.RUNNING, phase=0)
            work = next_pending_step(release)
            assert work is not None
            name = work.step.name

            release = mark_step_started(release, work)
            await agent.save(release, step=StepChange(name, detail={"image": "users:1"}, note="begins"))
            begun = (await store.read_release(release_id)).steps[0]
            assert (begun.status, begun.detail, begun.note) == (StepStatus.STARTED, {"image": "users:1"}, "begins")
            assert begun.started_at is not None
            assert begun.ended_at is None

            await agent.save_step_note(name, "blocked by 4711")
            release = mark_step_failed(release, work, "lock not available")
            await agent.save(release, step=StepChange(name, error="lock not available"))
            failed = await store.read_release(release_id)
            assert failed.release == release
            assert (failed.steps[0].error, failed.steps[0].note) == ("lock not available", "")
            assert failed.steps[0].started_at == begun.started_at
            assert failed.steps[0].ended_at is not None

            release = mark_step_started(replace(release, state=ReleaseState.RUNNING, error=""), work)
            await agent.save(release)
            again = (await store.read_release(release_id)).steps[0]
            assert (again.error, again.ended_at, again.detail) == ("", None, {"image": "users:1"})
            assert again.started_at is not None
            assert again.started_at > begun.started_at

            await agent.save(mark_step_finished(release, work))
            done = (await store.read_release(release_id)).steps[0]
            assert done.status is StepStatus.DONE
            assert done.ended_at is not None


async def test_an_ended_release_is_finished_and_the_name_is_free(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            release = (await agent.read()).release
            with pytest.raises(ValueError, match="has not ended"):
                await agent.save_end(release)
            await agent.save_end(
                replace(release, state=ReleaseState.ROLLED_BACK), events=[NewEvent("phase", "rolled back")]
            )
        ended = await store.read_release(release_id)
        assert ended.finished_at is not None
        assert ended.release.state is ReleaseState.ROLLED_BACK
        assert ended.events[-1].message == "rolled back"
        assert await register_release(store, pg_dsn, plan_hash="hash-2") != release_id


async def test_gates_carry_the_time_of_their_data_and_only_changes_are_audited(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            observed_at = (await agent.read()).now - 4.0

            async def judged(verdict: Verdict, reason: str) -> None:
                await agent.save_gates(
                    [
                        GateReading("schema-valid", verdict, reason, observed_at, max_age=7.0),
                        GateReading("no-waiters", Verdict.UNKNOWN, "no data", observed_at=0.0),
                    ]
                )

            for verdict, reason in [
                (Verdict.FAIL, "index invalid"),
                (Verdict.FAIL, "index still invalid"),
                (Verdict.PASS, "valid"),
                (Verdict.PASS, "valid"),
            ]:
                await judged(verdict, reason)
        record = await store.read_release(release_id)
        gate = record.gates["schema-valid"]
        assert (gate.verdict, gate.reason, gate.max_age) == (Verdict.PASS, "valid", 7.0)
        assert gate.observed_at == pytest.approx(observed_at, abs=1e-3), "not the time at which it was stored"
        assert record.now - gate.since < 4.0, "the verdict has changed now, whatever the age of its data"
        text = [(event.message, event.reason) for event in record.events if event.kind == "gate"]
        assert text == [("schema-valid: fail", "index invalid"), ("schema-valid: pass", "valid")]


async def test_backfill_and_failed_rows_are_read(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        await db.execute(
            "INSERT INTO zdd.backfill (release_id, status, rows_total, rows_done, batch_rows, rate, throttle)"
            " VALUES ($1, 'running', 1200, 700, 1000, 41.5, 'replica lag')",
            release_id,
        )
        await db.execute(
            "INSERT INTO zdd.failed_row (release_id, key, reason)"
            " VALUES ($1, '[\"7\", \"a\"]', 'too long'), ($1, '[\"8\", \"b\"]', 'null')",
            release_id,
        )
        record = await store.read_release(release_id)
        assert record.backfill == BackfillRecord(
            "running",
            1200,
            700,
            batch_rows=1000,
            rate=41.5,
            throttle="replica lag",
            updated_at=record.backfill.updated_at if record.backfill else 0,
        )
        assert [(row.key, row.reason) for row in await store.read_failed_rows(release_id)] == [
            (["7", "a"], "too long"),
            (["8", "b"], "null"),
        ]
        assert len(await store.read_failed_rows(release_id, limit=1)) == 1


async def test_the_newest_events_and_commands_come_oldest_first(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        sent = [
            await store.send_command(release_id, CommandRequest(CommandKind.PAUSE, str(nr)), actor=ANA)
            for nr in range(25)
        ]
        await db.execute(
            "INSERT INTO zdd.event (release_id, actor, host, kind, message)"
            " SELECT $1, 'a', 'h', 'step', 'nr ' || n FROM generate_series(1, 80) n",
            release_id,
        )
        record = await store.read_release(release_id, events=10)
        assert [event.message for event in record.events] == [f"nr {n}" for n in range(71, 81)]
        assert [stored.id for stored in record.commands] == sent[-20:]


async def test_the_start_of_a_rollback_is_its_first_accepted_command(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        assert (await store.read_release(release_id)).rollback is None
        await db.execute(
            "INSERT INTO zdd.command (release_id, kind, reason, actor, host, status, answered_at)"
            " SELECT $1, kind, who, who, 'h', status, to_timestamp(n) FROM (VALUES (1, 'rollback', 'a', 'refused'),"
            " (2, 'pause', 'b', 'done'), (3, 'rollback', 'c', 'done'), (4, 'rollback', 'd', 'done'))"
            " v(n, kind, who, status) ORDER BY n",
            release_id,
        )
        assert (await store.read_release(release_id)).rollback == RollbackStart(Actor("c", "h"), "c", 3.0)


async def test_the_audit_log_is_append_only(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (_store, _):
        for statement in (
            "UPDATE zdd.event SET message = 'nothing'",
            "DELETE FROM zdd.event",
            "TRUNCATE zdd.event",
            "TRUNCATE zdd.release CASCADE",
            "SET session_replication_role = replica; DELETE FROM zdd.event",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await db.execute(statement)
            await db.execute("RESET session_replication_role")
        assert await db.fetchval("SELECT count(*) FROM zdd.event") == 1


# --- commands --------------------------------------------------------------------------------------------------


async def test_a_command_reaches_the_agent_and_its_result_the_client(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            assert await agent.next_command() is None
            first = await store.send_command(
                release_id,
                CommandRequest(
                    CommandKind.ADVANCE,
                    "all is calm",
                    Precondition("hash-1", ReleaseState.PLANNED, -1),
                    "users-full-name",
                    ("one", "two"),
                ),
                actor=ANA,
            )
            second = await store.send_command(
                release_id, CommandRequest(CommandKind.RESUME), actor=Actor("bob", "laptop")
            )
            stored = await agent.next_command()
            assert stored is not None
            assert (stored.id, stored.request.reason, stored.actor) == (first, "all is calm", BY_ANA)
            assert stored.request.targets == ("one", "two")
            assert stored.to_command.expected == Precondition("hash-1", ReleaseState.PLANNED, -1)
            assert stored.to_command.typed == "users-full-name"

            record = await agent.read()
            after = apply_command(record.release, stored.to_command, record.gates, record.now)
            waiting = asyncio.create_task(store.wait_command(first, 10))
            await agent.complete_command(
                first, refused=False, outcome="expand begins", release=after, events=[NewEvent("phase", "expand")]
            )
            assert ((await waiting).status, (await waiting).outcome) == ("done", "expand begins")

            following = await agent.next_command()
            assert following is not None
            assert following.id == second
            assert following.to_command.expected is None
            await agent.complete_command(second, refused=True, outcome="the release is not paused", release=None)
            assert (await store.read_command(second)).status == "refused"
            with pytest.raises(DatabaseError, match="was answered before"):
                await agent.complete_command(second, refused=False, outcome="twice", release=None)

        record = await store.read_release(release_id)
        assert (record.release.state, record.release.phase) == (ReleaseState.RUNNING, 0)
        assert [(event.kind, str(event.actor), event.message, event.reason) for event in record.events[-3:]] == [
            ("command", "ana@bastion as postgres", "advance: expand begins", "all is calm"),
            ("phase", "agent@pod-1", "expand", ""),
            ("refused", "bob@laptop as postgres", "resume: the release is not paused", ""),
        ]


async def test_a_command_of_a_newer_zdd_is_refused_and_blocks_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            await db.execute(
                "INSERT INTO zdd.command (release_id, kind, actor, host, reason)"
                " VALUES ($1, 'teleport', 'ana', 'bastion', '')",
                release_id,
            )
            known = await store.send_command(release_id, CommandRequest(CommandKind.PAUSE), actor=ANA)
            assert [each.id for each in (await store.read_release(release_id)).commands] == [known]
            following = await agent.next_command()
            assert following is not None
            assert following.id == known
        text = (await store.read_release(release_id)).events[-1]
        assert (text.kind, str(text.actor)) == ("refused", "ana@bastion as postgres")
        assert "the zdd that sent 'teleport'" in text.message


async def test_waiting_for_a_command_ends_in_time(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        sent = await store.send_command(release_id, CommandRequest(CommandKind.PAUSE), actor=ANA)
        assert (await store.wait_command(sent, 0.1)).status == "queued"


async def test_the_schema_knows_every_status(pg_dsn: str, db: asyncpg.Connection) -> None:
    """The statuses of the model can be stored; a new one needs a migration."""
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
    kinds = {"step_status_check": StepStatus, "release_state_check": ReleaseState, "gate_verdict_check": Verdict}
    for constraint, kind in kinds.items():
        definition = await db.fetchval(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
        )
        assert {str(value) for value in kind} <= set(re.findall(r"'([\w-]+)'", definition))

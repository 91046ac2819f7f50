"""The gate before contract on a real PostgreSQL: who still uses what is removed keeps it shut, and is named."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from tests.support.operations import SCHEMA, handle, open_context, plan_of
from tests.support.sessions import client_session
from zdd_tui.backends.postgres.query_stats import read_use_facts
from zdd_tui.backends.postgres.removed_use import resolve_removed
from zdd_tui.backends.read_scope import read_scope
from zdd_tui.backends.store.conditions import load_use_baseline
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import GATES
from zdd_tui.engine.gates.removed_use import READ_INTERVAL
from zdd_tui.engine.steps.operations import RunOperation
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.operations.removed_use import find_uses, removed_objects
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import SchemaPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import ReleaseState, StepStatus
from zdd_tui.model.release.strategies import REMOVED_GATE

NO_SOAK = {"gates": {"soak": "0s"}}


@pytest.fixture
async def watched(db: asyncpg.Connection) -> asyncpg.Connection:
    """The tables, and pg_stat_statements in a schema of its own."""
    await db.execute(SCHEMA)
    await db.execute("CREATE SCHEMA monitoring; CREATE EXTENSION pg_stat_statements WITH SCHEMA monitoring")
    # The server's other tests have filled it: it would discard statements, and the gate would say so.
    await db.execute("SELECT monitoring.pg_stat_statements_reset()")
    return db


async def evaluate(
    ctx: Context, *, phase: str = "cutover", done: Sequence[str] = ("rollout-new",), fresh: bool | None = True
) -> tuple[Any, str]:
    """The gate in a phase; before the first one where the phase is empty.

    Args:
        fresh: as of :func:`read_scope`; None for the caller's scope.
    """
    record = await ctx.store.read()
    names = [each.name for each in record.release.strategy.phases]
    release = replace(record.release, state=ReleaseState.WAITING, phase=names.index(phase) if phase else -1)
    for name in done:
        release = release.with_status(name, StepStatus.DONE)
    assert REMOVED_GATE in [gate.name for gate in release.gates], release.gates
    with read_scope(fresh=fresh) if fresh is not None else nullcontext():
        return await GATES[REMOVED_GATE](ctx, replace(record, release=release))


def reset_of(reason: str) -> str:
    """The statement that the gate says, once the use has stopped."""
    return reason.partition("SELECT monitoring.")[2].partition(")")[0] + ")"


async def test_a_session_that_reads_a_removed_column_keeps_the_gate_shut_until_its_use_is_forgotten(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    plan = plan_of(pg_dsn, "ALTER TABLE notes DROP COLUMN legacy", **NO_SOAK)
    async with open_context(plan) as ctx, client_session(pg_dsn) as psql:
        await psql.fetch("SELECT legacy FROM notes WHERE id = 3")
        assert await evaluate(ctx, done=()) == (Verdict.PENDING, "the old version still runs")
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.PASS, "what was used before the old version left does not count"
        await psql.fetch("SELECT body FROM notes WHERE id = 3")
        assert (await evaluate(ctx))[0] is Verdict.PASS, "another column of the table"

        await psql.fetch("SELECT legacy FROM notes WHERE id = 3")
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.FAIL
        assert reason.startswith("column notes.legacy is used by role postgres, application psql, address ")
        assert "SELECT legacy FROM notes WHERE id = …" in reason

        await psql.fetch("SELECT 1")  # the session does something else: the count stays
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.FAIL
        assert "1 call since the baseline" in reason
        await watched.execute(f"SELECT monitoring.{reset_of(reason)}")
        assert (await evaluate(ctx))[0] is Verdict.PASS

    async with open_context(plan.model_copy(update={"name": "other"})) as ctx, client_session(pg_dsn) as psql:
        await evaluate(ctx)
        transaction = psql.transaction()
        await transaction.start()
        await psql.fetch("UPDATE notes SET legacy = 'y' WHERE id = 3")
        verdict, reason = await evaluate(ctx)
        await transaction.rollback()
        assert verdict is Verdict.FAIL, "idle in transaction"


async def test_a_removed_column_may_be_used_under_either_name_of_its_table(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    plan = plan_of(pg_dsn, "ALTER TABLE notes RENAME TO messages; ALTER TABLE messages DROP legacy", **NO_SOAK)
    async with open_context(plan) as ctx, client_session(pg_dsn) as psql:
        for number, _ in numbered_steps(plan, Phase.EXPAND):
            await RunOperation().run(ctx, handle(number))
        for table in ("notes", "messages"):
            assert (await evaluate(ctx))[0] is Verdict.PASS
            await psql.fetch(f"SELECT legacy FROM {table}")
            await psql.fetch("SELECT 1")
            verdict, reason = await evaluate(ctx)
            assert verdict is Verdict.FAIL
            assert reason.startswith("column notes.legacy is used by")
            assert f"SELECT legacy FROM {table}" in reason
            await watched.execute(f"SELECT monitoring.{reset_of(reason)}")


async def test_a_whole_row_may_be_a_use_and_the_plan_may_accept_it(watched: asyncpg.Connection, pg_dsn: str) -> None:
    drop = "ALTER TABLE notes DROP COLUMN legacy"
    accepted = {"accept": [{"what": "column notes.legacy", "reason": "V2 reads it by position"}]}
    for sections, expected in (({}, Verdict.UNKNOWN), (accepted, Verdict.PASS)):
        plan = plan_of(pg_dsn, drop, **NO_SOAK, **sections).model_copy(update={"name": f"notes-{len(sections)}"})
        async with open_context(plan) as ctx, client_session(pg_dsn) as psql:
            await evaluate(ctx)
            await psql.fetch("SELECT * FROM notes")
            verdict, reason = await evaluate(ctx)
            assert verdict is expected, reason
            assert ("SELECT * FROM notes" in reason) is (verdict is Verdict.UNKNOWN)
            await psql.fetch("SELECT legacy FROM notes")
            assert (await evaluate(ctx))[0] is Verdict.FAIL, "a statement that would fail cannot be accepted"


async def test_without_pg_stat_statements_the_gate_is_unknown_and_says_how_to_decide(
    db: asyncpg.Connection, pg_dsn: str
) -> None:
    await db.execute(SCHEMA)
    drop = "DROP VIEW note_bodies"
    async with open_context(plan_of(pg_dsn, drop, **NO_SOAK)) as ctx:
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.UNKNOWN
        assert "CREATE EXTENSION pg_stat_statements" in reason
        assert "accept:" in reason
    accepted = plan_of(pg_dsn, drop, accept=[{"what": "view note_bodies", "reason": "no role may read it"}])
    async with open_context(accepted.model_copy(update={"name": "other"})) as ctx, client_session(pg_dsn) as psql:
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.PASS
        assert "accepted by the plan: view note_bodies" in reason
        await psql.fetch("SELECT id FROM note_bodies")
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.FAIL, "pg_stat_activity shows it"


async def test_uses_of_other_objects(watched: asyncpg.Connection, pg_dsn: str) -> None:
    """Each removed object is unused at first; then the use of each is found."""
    await watched.execute("CREATE FUNCTION caller() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN f(1); END'")
    plan = plan_of(
        pg_dsn,
        "DROP TABLE unused; DROP VIEW note_bodies; DROP TYPE old_type; DROP SEQUENCE old_sequence",
        "DROP FUNCTION f(int); DROP INDEX notes_kind; ALTER TABLE notes ALTER n DROP DEFAULT",
        "ALTER TABLE teams RENAME name TO title",
        **NO_SOAK,
        accept=[{"what": "function f(int)", "reason": "caller() is called by nobody"}],
    )
    uses = {
        "table unused": "SELECT count(*) FROM unused",
        "view note_bodies": "SELECT body FROM note_bodies",
        "type old_type": "SELECT NULL::old_type",
        "sequence old_sequence": "SELECT nextval('old_sequence')",
        "function f(int)": "SELECT f(1)",
        "index notes_kind": "SET enable_seqscan = off; SELECT id FROM notes WHERE kind = 'a' AND n > 5",
        "default of notes.n": "INSERT INTO notes (user_id, body) SELECT 1, 'x' WHERE false",
        "column teams.name": "UPDATE teams SET name = 'x'",
    }
    async with open_context(plan) as ctx:
        verdict, reason = await evaluate(ctx)
        assert verdict is Verdict.PASS, reason
        for sql in uses.values():
            async with client_session(pg_dsn) as psql:
                await psql.execute(sql)
                await psql.execute("SELECT pg_stat_force_next_flush()")
        async with ctx.read_connection() as conn:
            resolved = await resolve_removed(conn, removed_objects(plan), ())
            facts, baseline = await read_use_facts(conn, resolved), await load_use_baseline(conn, ctx.store.release_id)
    assert baseline is not None
    found = {each.removed.label: find_uses([each], facts, baseline, {}) for each in resolved}
    assert found.keys() == uses.keys()
    certain = {label for label, each in found.items() if each.used}
    assert certain == {"table unused", "view note_bodies", "type old_type", "function f(int)", "column teams.name"}
    unknown = {label: each.unknown for label, each in found.items() if each.unknown}
    assert unknown.keys() == {"sequence old_sequence", "function f(int)", "index notes_kind", "default of notes.n"}
    assert "1 index scans since the baseline" in unknown["index notes_kind"][0]
    assert "the body of function caller() names it" in unknown["function f(int)"][0]


async def test_a_function_that_stays_and_names_the_column_may_use_it(watched: asyncpg.Connection, pg_dsn: str) -> None:
    await watched.execute(
        "CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.body = new.legacy; RETURN new; END';"
        "CREATE TRIGGER log BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION log();"
        "CREATE FUNCTION harmless() RETURNS text LANGUAGE sql AS 'SELECT ''legacy'''"
    )
    drop = "ALTER TABLE notes DROP COLUMN legacy"
    async with open_context(plan_of(pg_dsn, drop, **NO_SOAK)) as ctx:
        verdict, reason = await evaluate(ctx)
        assert (verdict, "function log() names it" in reason) == (Verdict.UNKNOWN, True), reason
        assert "harmless" not in reason
    replace_it = "CREATE OR REPLACE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
    plan = plan_of(pg_dsn, replace_it, drop, **NO_SOAK).model_copy(update={"name": "other"})
    async with open_context(plan) as ctx:
        assert (await evaluate(ctx))[0] is Verdict.PASS, "the release replaces it"


async def test_a_view_that_was_created_meanwhile_keeps_the_gate_shut(watched: asyncpg.Connection, pg_dsn: str) -> None:
    async with open_context(plan_of(pg_dsn, "ALTER TABLE notes DROP COLUMN legacy", **NO_SOAK)) as ctx:
        assert (await evaluate(ctx))[0] is Verdict.PASS
        await watched.execute("CREATE VIEW late AS SELECT legacy FROM notes")
        assert await evaluate(ctx) == (
            Verdict.FAIL,
            "drop column notes.legacy: view late would be dropped with it",
        )


async def test_the_use_is_observed_for_the_soak_also_by_the_next_agent(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    async with (
        open_context(plan_of(pg_dsn, "DROP TABLE unused", gates={"soak": "1h"})) as ctx,
        client_session(pg_dsn) as psql,
    ):
        assert (await evaluate(ctx))[0] is Verdict.PENDING
        await watched.execute("UPDATE zdd.baseline SET uses = jsonb_set(uses, '{at}', to_jsonb(1))")
        assert (await evaluate(ctx))[0] is Verdict.PASS
        await psql.fetch("SELECT id FROM unused")
        assert (await evaluate(ctx))[0] is Verdict.FAIL


async def test_a_plan_without_a_rollout_waits_before_its_first_phase(watched: asyncpg.Connection, pg_dsn: str) -> None:
    plan = SchemaPlan.model_validate(
        {
            "name": "notes",
            "database": {"dsn": pg_dsn},
            "operations": ["ALTER TABLE notes DROP COLUMN legacy"],
            **NO_SOAK,
        }
    )
    async with open_context(plan) as ctx, client_session(pg_dsn) as psql:  # type: ignore[arg-type]
        assert (await evaluate(ctx, phase="", done=()))[0] is Verdict.PASS
        await psql.fetch("SELECT legacy FROM notes")
        assert (await evaluate(ctx, phase="", done=()))[0] is Verdict.FAIL


async def test_a_unique_constraint_that_running_code_needs_is_not_dropped_in_expand(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    plan = plan_of(pg_dsn, "ALTER TABLE notes DROP CONSTRAINT notes_code, DROP CONSTRAINT n_pos", **NO_SOAK)
    async with open_context(plan) as ctx, client_session(pg_dsn) as app:
        assert (await evaluate(ctx, phase="", done=()))[0] is Verdict.PASS
        await app.execute("INSERT INTO notes (n, code) VALUES (1, 'c1') ON CONFLICT (code) DO NOTHING")
        verdict, reason = await evaluate(ctx, phase="", done=())
        assert verdict is Verdict.FAIL
        assert reason.startswith("constraint notes_code of notes is used by")


async def test_a_table_that_running_code_uses_is_not_replaced_by_another_one_of_its_name(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    await watched.execute("CREATE VIEW of_unused AS SELECT id FROM unused")
    replaced = "DROP TABLE unused; CREATE TABLE unused (id text)"
    again = "CREATE VIEW of_unused AS SELECT id FROM unused"
    plan = plan_of(pg_dsn, f"DROP VIEW of_unused; {replaced}; {again}", **NO_SOAK)
    async with open_context(plan) as ctx, client_session(pg_dsn) as app:
        assert (await evaluate(ctx, phase="", done=()))[0] is Verdict.PASS
        await app.execute("SELECT id FROM of_unused")
        verdict, reason = await evaluate(ctx, phase="", done=())
        assert verdict is Verdict.FAIL
        assert reason.startswith("table unused is used by")
    await watched.execute("CREATE FUNCTION count_unused() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM unused'")
    async with open_context(plan.model_copy(update={"name": "other"})) as ctx:
        verdict, reason = await evaluate(ctx, phase="", done=())
        assert verdict is Verdict.UNKNOWN
        assert "the body of function count_unused() names it" in reason


async def test_a_type_that_running_code_names_is_not_replaced_by_another_one_of_its_name(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    replaced = "DROP TYPE old_type; CREATE TYPE old_type AS (b text)"
    async with (
        open_context(plan_of(pg_dsn, replaced, **NO_SOAK)) as ctx,
        client_session(pg_dsn) as psql,
    ):
        assert (await evaluate(ctx, phase="", done=()))[0] is Verdict.PASS
        await psql.fetch("SELECT (row(1)::old_type).a")
        verdict, reason = await evaluate(ctx, phase="", done=())
        assert verdict is Verdict.FAIL
        assert reason.startswith("type old_type is used by")


async def test_the_old_name_of_a_table_works_until_cleanup(watched: asyncpg.Connection, pg_dsn: str) -> None:
    plan = plan_of(pg_dsn, "ALTER TABLE notes RENAME TO messages", **NO_SOAK)
    async with open_context(plan) as ctx, client_session(pg_dsn) as psql:
        for phase in (Phase.EXPAND, Phase.CONTRACT):
            for number, _ in numbered_steps(plan, phase):
                await RunOperation().run(ctx, handle(number))
        assert (await evaluate(ctx, phase="contract"))[0] is Verdict.PASS
        await psql.fetch("SELECT id FROM messages")
        assert (await evaluate(ctx, phase="contract"))[0] is Verdict.PASS
        await psql.fetch("SELECT id FROM notes")
        verdict, reason = await evaluate(ctx, phase="contract")
        assert (verdict, reason.partition(" is used")[0]) == (Verdict.FAIL, "table notes")


async def test_while_it_waits_the_gate_reads_rarely_and_shows_the_age_of_its_verdict(
    watched: asyncpg.Connection, pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(pg_dsn, "ALTER TABLE notes DROP COLUMN legacy", **NO_SOAK)
    async with open_context(plan) as ctx, client_session(pg_dsn) as psql:
        assert (await evaluate(ctx))[0] is Verdict.PASS
        await psql.fetch("SELECT legacy FROM notes")
        await asyncio.sleep(0.2)
        with read_scope() as scope:
            assert (await evaluate(ctx, fresh=None))[0] is Verdict.PASS, "the verdict of the reading before"
        assert scope.age >= 0.2
        assert scope.max_age == READ_INTERVAL + plan.gates.max_age
        assert (await evaluate(ctx))[0] is Verdict.FAIL, "an advance reads anew"
        assert (await evaluate(ctx, fresh=False))[0] is Verdict.FAIL, "and its verdict is the one that is shown"
        monkeypatch.setattr(ctx.removed_use, "due_at", 0.0)
        with read_scope() as scope:
            assert (await evaluate(ctx, fresh=None))[0] is Verdict.FAIL
        assert scope.age == 0, "the interval has passed: the server was read"

    soaking = plan_of(pg_dsn, "DROP TABLE unused", gates={"soak": "1s"}).model_copy(update={"name": "other"})
    async with open_context(soaking) as ctx:
        assert (await evaluate(ctx, fresh=False))[0] is Verdict.PENDING
        due = ctx.removed_use.due_at - time.monotonic()
        assert due <= 1, "it is read again when the soak ends"
        await asyncio.sleep(max(0.0, due))
        assert (await evaluate(ctx, fresh=False))[0] is Verdict.PASS


async def test_a_reading_that_does_not_end_is_not_begun_again_at_once(watched: asyncpg.Connection, pg_dsn: str) -> None:
    async with open_context(plan_of(pg_dsn, "DROP TABLE unused", **NO_SOAK)) as ctx, client_session(pg_dsn) as psql:
        async with psql.transaction():
            await psql.execute("LOCK TABLE zdd.baseline")  # the gate waits for it
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await evaluate(ctx, fresh=False)
        assert await evaluate(ctx, fresh=False) == (Verdict.UNKNOWN, "no result in time; the next reading follows")
        assert (await evaluate(ctx))[0] is Verdict.PASS


async def test_a_reading_that_the_server_refuses_is_tried_again_and_leaves_no_older_verdict(
    watched: asyncpg.Connection, pg_dsn: str
) -> None:
    async with open_context(plan_of(pg_dsn, "DROP TABLE unused", **NO_SOAK)) as ctx:
        assert (await evaluate(ctx))[0] is Verdict.PASS
        await watched.execute("ALTER TABLE zdd.baseline RENAME TO elsewhere")
        for fresh in (True, False, False):
            with pytest.raises(asyncpg.UndefinedTableError, match="baseline"):
                await evaluate(ctx, fresh=fresh)
        await watched.execute("ALTER TABLE zdd.elsewhere RENAME TO baseline")
        assert (await evaluate(ctx, fresh=False))[0] is Verdict.PASS

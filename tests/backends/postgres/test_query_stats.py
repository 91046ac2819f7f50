"""What the doctor reads of a real PostgreSQL: live queries, the history of releases, answers and trials."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from tests.support.schema_change import ACTOR, USERS, make_plan
from zdd_tui.backends.postgres.query_stats import read_old_queries
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.evidence import add_evidence, read_history, save_rehearsal
from zdd_tui.model.doctor.facts import Evidence, QueryFacts
from zdd_tui.model.plan.base import Plan

SAMPLE_INTERVAL = 0.2
FLAGS = {"flags": {"write": "w", "read": "r"}}


@pytest.fixture
async def watched(db: asyncpg.Connection) -> asyncpg.Connection:
    """A table, and pg_stat_statements in a schema of its own."""
    await db.execute(USERS)
    await db.execute("CREATE SCHEMA monitoring; CREATE EXTENSION pg_stat_statements WITH SCHEMA monitoring")
    return db


@pytest.fixture
async def other_session(pg_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's session."""
    connection = await asyncpg.connect(pg_dsn, server_settings={"application_name": "reports"})
    yield connection
    await connection.close()


async def server_now(db: asyncpg.Connection) -> float:
    return float(await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))


# --- queries that still use the old side -----------------------------------------------------------------------


async def test_before_a_cutover_they_are_only_counted(
    watched: asyncpg.Connection, other_session: asyncpg.Connection
) -> None:
    await other_session.fetch("SELECT first_name FROM users")
    await other_session.fetch("SELECT email FROM users")
    seen = await read_old_queries(watched, make_plan(), since=None)
    assert [query.text for query in seen.queries if not query.evidence] == ["SELECT first_name FROM users"]
    assert seen.unavailable == ()


async def test_a_query_that_began_after_the_cutover_is_live(
    watched: asyncpg.Connection, other_session: asyncpg.Connection
) -> None:
    cutover = await server_now(watched)
    await other_session.fetch("SELECT last_name FROM users WHERE id = 42")
    seen = await read_old_queries(watched, make_plan(), since=cutover, sample_seconds=SAMPLE_INTERVAL)
    proofs = {query.evidence.split(" ")[0]: query.text for query in seen.queries}
    assert proofs["first"] == "SELECT last_name FROM users WHERE id = $1"
    assert proofs["pid"] == "SELECT last_name FROM users WHERE id = …", "values are hidden"


async def test_an_older_statement_counts_only_when_it_is_called_again(
    watched: asyncpg.Connection, other_session: asyncpg.Connection
) -> None:
    await other_session.fetch("SELECT first_name FROM users")
    await other_session.fetch("SELECT 1")
    cutover = await server_now(watched)
    seen = await read_old_queries(watched, make_plan(), since=cutover, sample_seconds=SAMPLE_INTERVAL)
    assert [query.evidence for query in seen.queries] == [""]

    async def call_again() -> None:
        while True:
            await other_session.fetch("SELECT first_name FROM users")
            await asyncio.sleep(0.01)

    calling = asyncio.create_task(call_again())
    try:
        seen = await read_old_queries(watched, make_plan(), since=cutover, sample_seconds=SAMPLE_INTERVAL)
    finally:
        calling.cancel()
        await asyncio.wait({calling})
    assert any(query.evidence.startswith("called") and "within" in query.evidence for query in seen.queries)


async def test_sessions_of_zdd_and_schema_changes_do_not_count(watched: asyncpg.Connection, pg_dsn: str) -> None:
    cutover = await server_now(watched)
    agent = await asyncpg.connect(pg_dsn, server_settings={"application_name": "zdd agent 1 1"})
    try:
        await watched.execute("ALTER TABLE users RENAME COLUMN first_name TO zdd_first_name")
        transaction = agent.transaction()
        await transaction.start()
        await agent.execute("LOCK TABLE users IN ACCESS SHARE MODE")
        seen = await read_old_queries(watched, make_plan(), since=cutover, sample_seconds=SAMPLE_INTERVAL)
        await transaction.rollback()
    finally:
        await agent.close()
    assert seen == QueryFacts(())


async def test_without_the_extension_the_limitation_is_reported(
    db: asyncpg.Connection, other_session: asyncpg.Connection
) -> None:
    await db.execute(USERS)
    await other_session.fetch("SELECT first_name FROM users")
    await other_session.fetch("SELECT 1")
    seen = await read_old_queries(db, make_plan(), since=await server_now(db), sample_seconds=SAMPLE_INTERVAL)
    assert seen.queries == ()
    ((text, fix),) = seen.unavailable
    assert "pg_stat_statements is not installed" in text
    assert "shared_preload_libraries" in fix
    assert "CREATE EXTENSION pg_stat_statements" in fix


async def test_hidden_queries_are_reported_with_the_right_that_shows_them(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    await db.execute("CREATE ROLE zdd_sees_own NOLOGIN; GRANT SELECT ON users TO zdd_sees_own")
    try:
        await db.execute("SET ROLE zdd_sees_own")
        seen = await read_old_queries(db, make_plan(), since=None)
        hidden = next(fix for text, fix in seen.unavailable if "hidden" in text)
        await db.execute(f"RESET ROLE; {hidden}; SET ROLE zdd_sees_own")
        seen = await read_old_queries(db, make_plan(), since=None)
        assert not any("hidden" in text for text, _ in seen.unavailable), "the fix has worked"
    finally:
        await db.execute("RESET ROLE; DROP OWNED BY zdd_sees_own; DROP ROLE zdd_sees_own")


# --- history ----------------------------------------------------------------------------------------------------


async def start_release(store: Store, plan: Plan, plan_hash: str) -> int:
    return await store.register_release(plan, text="plan", document=FLAGS, plan_hash=plan_hash, actor=ACTOR)


async def test_a_database_without_the_schema_has_no_history(db: asyncpg.Connection) -> None:
    history = await read_history(db, make_plan())
    assert (history.rehearsals, history.evidence, history.cutover_at) == ((), (), None)


async def test_the_history_of_a_release(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan()
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        release = await start_release(store, plan, "one")
        await db.execute(
            "UPDATE zdd.step SET status = 'done', ended_at = now() - $2::interval WHERE release_id = $1"
            " AND name IN ('write-flag-on', 'rollout-v3')",
            release,
            timedelta(days=40),
        )
        await db.execute("UPDATE zdd.release SET state = 'waiting', phase = 3 WHERE id = $1", release)
        history = await read_history(db, plan)
        now = await server_now(db)
        forty_days = pytest.approx(now - 40 * 86400, abs=60)
        assert history.cutover_at == forty_days
        assert history.waiting_since == forty_days
        assert history.flag_set_at == {"w": forty_days}
        assert history.ended_flags == {}
        assert history.rehearsals == ()

        await db.execute(
            "INSERT INTO zdd.backfill (release_id, status, rows_total, rows_done) VALUES ($1, 'cancelled', 100, 25)",
            release,
        )
        await db.execute("UPDATE zdd.release SET state = 'rolled-back', finished_at = now() WHERE id = $1", release)
        history = await read_history(db, plan)
        assert history.ended_flags == dict.fromkeys("wr", "release users-full-name (rolled-back)")
        [way] = history.rehearsals
        assert (way.plan_hash, way.verdict, way.rows, way.scale) == ("one", "pass", 25, 0.25)

        await start_release(store, plan, "two")
        assert (await read_history(db, plan)).ended_flags == {}, "a release that is under way has them"
        for plan_hash, name, passed, scale in (("two", plan.name, True, 1.0), ("three", "another", False, 0.1)):
            report = {"rows": round(100 * scale)}
            await save_rehearsal(
                db, plan_hash=plan_hash, name=name, passed=passed, scale=scale, report=report, actor=ACTOR
            )
        rehearsed = (await read_history(db, plan)).rehearsals
        assert [(way.plan_hash, way.verdict, way.rows, way.scale) for way in rehearsed] == [
            ("one", "pass", 25, 0.25),
            ("two", "pass", 100, 1.0),
        ]


# --- answers and trials -----------------------------------------------------------------------------------------


async def test_answers_keep_name_and_date_and_cannot_be_changed(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan()
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
    given = Evidence("sessions", "person", "pass", "redis://u:secret@h is where they are", "forged@there", 1.0)
    await add_evidence(db, plan, "one", ACTOR, [given])
    [kept] = (await read_history(db, plan)).evidence
    assert (kept.item_id, kept.source, kept.actor, kept.plan_hash) == ("sessions", "person", str(ACTOR), "one")
    assert kept.at == pytest.approx(await server_now(db), abs=60)
    assert "secret" not in kept.text
    for statement in ("UPDATE zdd.evidence SET message = 'x'", "DELETE FROM zdd.evidence", "TRUNCATE zdd.evidence"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await db.execute(statement)
    assert (await read_history(db, plan)).evidence == (kept,)

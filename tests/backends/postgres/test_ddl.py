"""DDL under the lock ladder, and indexes built concurrently, against blocking sessions."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import (
    FAST,
    USERS,
    ddl,
    ignore_record,
    ignore_wait,
    insert_rows,
    make_plan,
    open_leased_store,
)
from zdd_tui.backends.postgres.ddl import LadderSettings, create_index, drop_index, run_ddl
from zdd_tui.backends.postgres.gate_queries import find_invalid_objects, find_waiters
from zdd_tui.model.ddl import expand_statements
from zdd_tui.model.errors import StaleEpoch, StepFailed
from zdd_tui.testbed.servers import postgres_server

INDEX = "CREATE INDEX CONCURRENTLY users_email ON users (email)"


async def column_there(db: asyncpg.Connection) -> bool:
    sql = "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'full_name')"
    return bool(await db.fetchval(sql))


async def test_a_prepared_transaction_is_named_as_what_blocks(tmp_path: Path) -> None:
    """It has no session: the DDL was said to wait for one that could not be identified."""
    async with postgres_server(tmp_path / "pg", {"max_prepared_transactions": "2"}) as server:
        conn = await asyncpg.connect(server.dsn)
        try:
            await conn.execute(USERS)
            await conn.execute("BEGIN; SELECT FROM users; PREPARE TRANSACTION 'left behind'")
            plan = make_plan(dsn=server.dsn)
            async with open_leased_store(server.dsn, plan) as store:
                with pytest.raises(StepFailed, match=r"prepared transaction 'left behind' \([\d.]+m?s\)"):
                    await run_ddl(
                        store.pool,
                        store.fenced,
                        expand_statements(plan),
                        ladder=LadderSettings(0.3, 0.3, 3, 0.02),
                        on_wait=ignore_wait,
                        record=ignore_record,
                    )
            await conn.execute("ROLLBACK PREPARED 'left behind'")
        finally:
            await conn.close()


async def test_a_blocker_is_named_and_the_ddl_runs_after_it(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    reader = await asyncpg.connect(pg_dsn, server_settings={"application_name": "report"})
    waits: list[str] = []
    waited = asyncio.Event()

    async def on_wait(text: str) -> None:
        waits.append(text)
        # On a busy machine a try may end before its blockers were read.
        if "waiting for pid" in text and not text.startswith("try 1 "):
            waited.set()

    try:
        async with open_leased_store(pg_dsn, plan) as store:
            transaction = reader.transaction()
            await transaction.start()
            await reader.fetch("SELECT * FROM users")
            run = asyncio.create_task(
                run_ddl(
                    store.pool,
                    store.fenced,
                    expand_statements(plan),
                    ladder=LadderSettings(0.1, 0.2, 200, 0.02),
                    on_wait=on_wait,
                    record=ignore_record,
                )
            )
            await waited.wait()
            assert not await column_there(db)
            # Between two tries no session waits behind the DDL.
            await db.execute("INSERT INTO users (first_name) VALUES ('Ana')")
            await transaction.commit()
            await run
            assert await column_there(db)
        assert any(f"waiting for pid {reader.get_server_pid()} (report, idle in transaction" in text for text in waits)
    finally:
        await reader.close()


async def test_the_step_fails_naming_blocker_and_hint(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store, db.transaction():
        await db.fetch("SELECT * FROM users")
        # The blocker is read in the middle of each try: on a busy machine that takes some tenths of a second.
        with pytest.raises(StepFailed) as caught:
            await run_ddl(
                store.pool,
                store.fenced,
                expand_statements(plan),
                ladder=LadderSettings(0.4, 0.8, 3, 0.01),
                on_wait=ignore_wait,
                record=ignore_record,
            )
        assert f"pid {db.get_server_pid()}" in caught.value.title
        assert "pg_terminate_backend" in caught.value.hint


async def test_effect_and_record_commit_together_or_not_at_all(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)

    async def breaks(conn: Any) -> None:
        await conn.execute("CREATE TABLE recorded ()")
        raise RuntimeError("the agent dies here")

    async def records(conn: Any) -> None:
        await conn.execute("CREATE TABLE recorded ()")

    async with open_leased_store(pg_dsn, plan) as store:
        with pytest.raises(RuntimeError):
            await run_ddl(
                store.pool, store.fenced, expand_statements(plan), ladder=FAST, on_wait=ignore_wait, record=breaks
            )
        assert not await column_there(db)
        assert await db.fetchval("SELECT to_regclass('recorded')") is None
        await run_ddl(
            store.pool, store.fenced, expand_statements(plan), ladder=FAST, on_wait=ignore_wait, record=records
        )
        assert await column_there(db)
        assert await db.fetchval("SELECT to_regclass('recorded')") is not None


async def test_ddl_of_an_old_epoch_is_refused(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await db.execute("UPDATE zdd.lease SET epoch = nextval('zdd.epoch')")
        with pytest.raises(StaleEpoch):
            await ddl(store, expand_statements(plan))
        assert not await column_there(db)


async def test_a_refused_statement_is_quoted_with_the_servers_reason(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, change={"table": "users", "expand": "ALTER TABLE users ADD COLUMN full_name nosuch"})
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        with pytest.raises(StepFailed, match=r'^ALTER .*ADD COLUMN full_name nosuch: type "nosuch" does not exist'):
            await ddl(store, expand_statements(plan))
        with pytest.raises(StepFailed, match=r"^users has no column a\n"):  # the code of a block of zdd says nothing
            await ddl(store, ("DO $$ BEGIN RAISE EXCEPTION 'users has no column a'; END $$",))


async def test_sessions_blocked_by_an_agent_are_found(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    tables = (plan.change.table, plan.change.target_table)
    await db.execute(USERS)
    writer = await asyncpg.connect(pg_dsn, server_settings={"application_name": "writer"})
    try:
        async with open_leased_store(pg_dsn, plan) as store:
            assert await find_waiters(db, tables) == []
            async with store.fenced() as conn:
                await conn.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
                insert = asyncio.create_task(writer.execute("INSERT INTO users (first_name) VALUES ('x')"))
                async with asyncio.timeout(10):
                    while not (found := await find_waiters(db, tables)):  # noqa: ASYNC110  the event is in the database
                        await asyncio.sleep(0.02)
            await insert
            assert [(waiter.pid, waiter.app) for waiter in found] == [(writer.get_server_pid(), "writer")]
            assert await find_waiters(db, tables) == []
    finally:
        await writer.close()


async def test_an_invalid_index_is_found_removed_and_built_again(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(
        dsn=pg_dsn,
        change={"indexes": [INDEX], "table": "users", "expand": "ALTER TABLE users ADD COLUMN full_name text"},
    )
    await db.execute(USERS)
    await insert_rows(db, 50)
    other = await asyncpg.connect(pg_dsn)
    notes: list[str] = []

    async def on_wait(text: str) -> None:
        notes.append(text)

    try:
        async with open_leased_store(pg_dsn, plan) as store:
            await ddl(store, expand_statements(plan))
            # A build that waits for an old transaction is interrupted, as by the end of the agent.
            async with other.transaction():
                await other.execute("UPDATE users SET email = 'held' WHERE id = 1")
                build = asyncio.create_task(create_index(store.pool, INDEX, on_wait=on_wait))
                async with asyncio.timeout(20):
                    # A vacuum that the server starts may be in the way before.
                    while f"pid {other.get_server_pid()}" not in "".join(notes):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                build.cancel()
                await asyncio.wait({build})
            valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('users_email')"
            assert await db.fetchval(valid) is False
            assert await find_invalid_objects(db, plan) == ["index users_email is invalid"]
            await create_index(store.pool, INDEX, on_wait=on_wait)
            assert await db.fetchval(valid) is True
            assert "removing the invalid index users_email" in notes
            assert await find_invalid_objects(db, plan) == []
            oid = await db.fetchval("SELECT 'users_email'::regclass::oid")
            await create_index(store.pool, INDEX, on_wait=on_wait)
            assert await db.fetchval("SELECT 'users_email'::regclass::oid") == oid, "a valid index is left alone"
            await drop_index(store.pool, "public", "users_email", on_wait=on_wait)
            assert await db.fetchval(valid) is None
    finally:
        await other.close()

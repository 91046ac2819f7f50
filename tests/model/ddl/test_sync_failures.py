"""A sync trigger never makes a statement of the application fail (case A9, invariant 13): the write goes
through, and the row is recorded as one whose two sides differ."""

import json
from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import USERS, ddl, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.model.ddl import archive_statements, sync_statements
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.plan.base import Plan

TARGETS = {
    "no unique key on the target": "CREATE TABLE people (id bigint NOT NULL, full_name text, email text)",
    "a target column that up does not fill": (
        "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text, country text NOT NULL)"
    ),
    "a varchar that is too short": "CREATE TABLE people (id bigint PRIMARY KEY, full_name varchar(3), email text)",
    "a 1:N split": (
        "CREATE TABLE people (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bigint, full_name text, email text)"
    ),
    "a check": "CREATE TABLE people (id bigint PRIMARY KEY, full_name text CHECK (full_name = ''), email text)",
    "a unique column": "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text UNIQUE)",
}


async def recorded(db: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await db.fetch("SELECT key, side, operation, application_name FROM zdd.witness_record ORDER BY id")
    return [(json.loads(row["key"]), row["side"], row["operation"], row["application_name"]) for row in rows]


async def install(store: AgentStore, plan: Plan, direction: Any) -> None:
    async with store.pool.acquire() as conn:
        catalog = await read_catalog(conn, plan)
    await ddl(store, sync_statements(plan, catalog, direction))


@pytest.mark.parametrize("target", TARGETS)
async def test_a9_table_kind(db: asyncpg.Connection, pg_dsn: str, target: str) -> None:
    plan = make_plan("table", "trigger", pg_dsn)
    await db.execute(USERS)
    await db.execute("SET application_name = 'v1'")
    async with open_leased_store(pg_dsn, plan) as store:
        await db.execute(TARGETS[target])
        await install(store, plan, "forward")
        await db.execute("INSERT INTO users VALUES (1, 'Anastasia', 'Lee', 'same'), (2, 'Bo', '', 'same')")
        await db.execute("UPDATE users SET first_name = 'Maximilian' WHERE id = 2")
        await db.execute("UPDATE users SET id = 3, first_name = 'Alexandra' WHERE id = 1")
        await db.execute("DELETE FROM users WHERE id = 2")
        assert await db.fetchval("SELECT first_name FROM users") == "Alexandra"
        found = await recorded(db)
        assert found, "never silently"
        assert {side for _, side, _, _ in found} == {"old"}
        assert {name for *_, name in found} == {"v1"}
        assert await db.fetchval("SELECT coalesce(current_setting('zdd.sync_from', true), '')") == ""


COLUMN = "ALTER TABLE users ADD COLUMN full_name {}"


@pytest.mark.parametrize(
    ("expand", "after"),
    [
        (COLUMN.format("varchar(3)"), "SELECT 1"),
        (COLUMN.format("text"), "ALTER TABLE users ADD CONSTRAINT short CHECK (full_name = '') NOT VALID"),
        (COLUMN.format("text"), "INSERT INTO users VALUES (9, 'Ana', 'Lee'); CREATE UNIQUE INDEX ON users (full_name)"),
        (COLUMN.format("text"), "CREATE TABLE names (n text PRIMARY KEY); ALTER TABLE users ADD FOREIGN KEY (full_name)"
         " REFERENCES names"),
    ],
)  # fmt: skip
async def test_a9_column_kind(db: asyncpg.Connection, pg_dsn: str, expand: str, after: str) -> None:
    plan = make_plan("column", "trigger", pg_dsn, change={"expand": expand})
    role = f"app_{pg_dsn.rpartition('/')[2]}"
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await db.execute(after)
        await install(store, plan, "forward")
        await db.execute(
            f"CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON users TO {role}; SET ROLE {role}"
        )
        try:
            await db.execute("INSERT INTO users VALUES (1, 'Ana', 'Lee')")
            await db.execute("UPDATE users SET last_name = 'Lee ' || id WHERE id = 1")
            await db.execute("UPDATE users SET last_name = 'Lee' WHERE id = 1")
        finally:
            await db.execute("RESET ROLE")
            await db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        assert await db.fetchval("SELECT last_name FROM users WHERE id = 1") == "Lee"
        found = await recorded(db)
        assert found[0][:3] == (["1"], "old", "INSERT")
        assert await db.fetchval("SELECT DISTINCT role FROM zdd.witness_record") == role


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_no_sync_leaves_out_a_column_that_somebody_has_renamed(
    db: asyncpg.Connection, pg_dsn: str, kind: str
) -> None:
    plan = make_plan(kind, "trigger", pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await db.execute("ALTER TABLE users RENAME COLUMN last_name TO last_name_x")
        with pytest.raises(DatabaseError, match=r"column last_name of public\.users is missing"):
            await install(store, plan, "reverse")
        await db.execute("ALTER TABLE users RENAME COLUMN last_name_x TO last_name")
        await install(store, plan, "reverse")


async def test_a_recorded_key_reads_the_same_in_every_session(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("column", "trigger", pg_dsn, change={"expand": COLUMN.format("varchar(3)")})
    await db.execute("CREATE TABLE users (day date PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL)")
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await db.execute("SET DateStyle = 'German'")
        await db.execute("INSERT INTO users VALUES ('2026-11-30', 'Ana', 'Lee')")
        assert [key for key, *_ in await recorded(db)] == [["2026-11-30"]]


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_a_reverse_copy_that_the_old_side_refuses(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    await db.execute(USERS + "; ALTER TABLE users ADD CONSTRAINT short CHECK (length(first_name) < 5)")
    plan = make_plan(kind, "trigger", pg_dsn)
    table = "users" if kind == "column" else "people"
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True, reverse=True)
        await db.execute("INSERT INTO users VALUES (1, 'Ana', 'Lee')")
        await db.execute(f"UPDATE {table} SET full_name = 'Maximilian Lee' WHERE id = 1")
        assert await db.fetchval(f"SELECT full_name FROM {table}") == "Maximilian Lee"
        assert await db.fetchval("SELECT first_name FROM users") == "Ana"
        assert (await recorded(db))[-1][:3] == (["1"], "new", "UPDATE")
        async with store.pool.acquire() as conn:
            catalog = await read_catalog(conn, plan)
        await ddl(store, archive_statements(plan, catalog))
        await db.execute(f"UPDATE {table} SET full_name = 'Alexandra Lee' WHERE id = 1")
        assert len(await recorded(db)) == 2


async def test_a_copy_gives_way_to_a_lock(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("table", "trigger", pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await db.execute("INSERT INTO users VALUES (1, 'Ana', 'Lee')")
        other = await asyncpg.connect(pg_dsn)
        try:
            async with other.transaction():
                await other.execute("SELECT FROM people FOR UPDATE")
                await db.execute("UPDATE users SET first_name = 'Bo'")  # waits for lock_timeout, and goes through
        finally:
            await other.close()
        assert (await recorded(db))[-1][:3] == (["1"], "old", "UPDATE")

"""Sync triggers, archive-old-side and drop, on a real PostgreSQL, under writers of all three versions."""

import asyncio
import json
import random
from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import (
    USERS,
    count_disagreements,
    ddl,
    insert_rows,
    make_plan,
    open_leased_store,
    run_expand,
)
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.gate_queries import find_leftovers
from zdd_tui.model.ddl import (
    Catalog,
    archive_statements,
    drop_archive_statements,
    drop_sync_statements,
    restore_archive_statements,
    undo_expand_statements,
)
from zdd_tui.model.ddl.lint import created_objects
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Plan

KINDS = pytest.mark.parametrize("kind", ["column", "table"])
TIMES = 150


class VersionWriter:
    """Emulates one version of the application, one request after the other, on keys that all of them share."""

    def __init__(self, version: int, kind: str, trigger: bool, seed: int) -> None:
        self.version, self.kind, self.trigger = version, kind, trigger
        self.random = random.Random(seed * 10 + version)
        self.deadlocks = 0

    async def run(self, dsn: str, times: int) -> None:
        conn = await asyncpg.connect(dsn, server_settings={"application_name": f"v{self.version}"})
        try:
            for _ in range(times):
                try:
                    await self.request(conn)
                except asyncpg.DeadlockDetectedError:
                    self.deadlocks += 1
        finally:
            await conn.close()

    async def request(self, conn: asyncpg.Connection) -> None:
        key, kind = self.random.randint(1, 40), self.random.random()
        first, last = self.random.choice("ABCDEFG"), self.random.choice(["", "Xu", "van Y"])
        full = f"{first} {last}".rstrip()
        if kind < 0.1:
            await self.delete(conn, key)
        elif kind < 0.3:
            await self.insert(conn, first, last, full)
        else:
            await self.update(conn, key, first, last, full)

    async def delete(self, conn: asyncpg.Connection, key: int) -> None:
        if self.kind == "table" and self.version == 2 and not self.trigger:
            async with conn.transaction():
                await conn.execute("DELETE FROM users WHERE id = $1", key)
                await conn.execute("DELETE FROM people WHERE id = $1", key)
            return
        table = "people" if self.kind == "table" and self.version == 3 else "users"
        await conn.execute(f"DELETE FROM {table} WHERE id = $1", key)

    async def insert(self, conn: asyncpg.Connection, first: str, last: str, full: str) -> None:
        if self.version == 3:
            table = "people" if self.kind == "table" else "users"
            await conn.execute(f"INSERT INTO {table} (full_name, email) VALUES ($1, 'e')", full)
        elif self.version == 1 or self.trigger:
            await conn.execute("INSERT INTO users (first_name, last_name, email) VALUES ($1, $2, 'e')", first, last)
        elif self.kind == "column":
            sql = "INSERT INTO users (first_name, last_name, full_name, email) VALUES ($1, $2, $3, 'e')"
            await conn.execute(sql, first, last, full)
        else:
            async with conn.transaction():
                sql = "INSERT INTO users (first_name, last_name, email) VALUES ($1, $2, 'e') RETURNING id"
                key = await conn.fetchval(sql, first, last)
                await self.upsert(conn, key, full)

    async def update(self, conn: asyncpg.Connection, key: int, first: str, last: str, full: str) -> None:
        if self.version == 3:
            if self.kind == "column":
                await conn.execute("UPDATE users SET full_name = $2 WHERE id = $1", key, full)
            else:
                await self.upsert(conn, key, full)
        elif self.version == 1 or self.trigger:
            await conn.execute("UPDATE users SET first_name = $2, last_name = $3 WHERE id = $1", key, first, last)
        elif self.kind == "column":
            sql = "UPDATE users SET first_name = $2, last_name = $3, full_name = $4 WHERE id = $1"
            await conn.execute(sql, key, first, last, full)
        else:
            async with conn.transaction():
                sql = "UPDATE users SET first_name = $2, last_name = $3, email = 'e' WHERE id = $1 RETURNING id"
                if await conn.fetchval(sql, key, first, last) is not None:
                    await self.upsert(conn, key, full)

    async def upsert(self, conn: asyncpg.Connection, key: int, full: str) -> None:
        await conn.execute(
            "INSERT INTO people (id, full_name, email) VALUES ($1, $2, 'e')"
            " ON CONFLICT (id) DO UPDATE SET full_name = EXCLUDED.full_name, email = EXCLUDED.email",
            key,
            full,
        )


async def run_writers(
    dsn: str, plan: Plan, versions: tuple[int, ...], seed: int, times: int = TIMES
) -> list[VersionWriter]:
    writers = [VersionWriter(v, plan.change.kind, plan.change.dual_write.value == "trigger", seed) for v in versions]
    await asyncio.gather(*(writer.run(dsn, times) for writer in writers))
    return writers


async def table_with_rows(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    await insert_rows(db, 40)


async def require_recorded(db: asyncpg.Connection, kind: str) -> None:
    """Every row that differs is recorded, and is then removed, so that later differences are new ones.

    Table kind: a DELETE of V3 locks the new row before the old one, and any other writer the old row first. Where both
    wait for each other the copy of one gives way, however the two sides are locked; see test_sync_conflicts.
    """
    differing = {next(key for key in row[:2] if key is not None) for row in await count_disagreements(db, kind)}
    recorded = {int(json.loads(row["key"])[0]) for row in await db.fetch("SELECT key FROM zdd.witness_record")}
    assert differing <= recorded
    assert not differing or kind == "table"
    async with db.transaction():
        for table, side in (("users", "new"), ("people", "old")):
            if differing:
                await db.execute(f"SET LOCAL zdd.sync_from = '{side}'")
                await db.execute(f"DELETE FROM {table} WHERE id = ANY ($1)", list(differing))


async def backfilled(db: asyncpg.Connection, plan: Plan) -> None:
    if plan.change.kind == "column":
        await db.execute(f"UPDATE users SET full_name = {plan.change.up['full_name']}")
    else:
        await db.execute(
            f"INSERT INTO people SELECT id, {plan.change.up['full_name']}, email FROM users ON CONFLICT DO NOTHING"
        )


@KINDS
async def test_forward_sync_keeps_the_new_side_in_step_under_v1_and_v2(
    db: asyncpg.Connection, pg_dsn: str, kind: str
) -> None:
    plan = make_plan(kind, "trigger", pg_dsn)
    await table_with_rows(db)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await backfilled(db, plan)
        writers = await run_writers(pg_dsn, plan, (1, 1, 2), seed=1)
        assert await count_disagreements(db, kind) == []
        assert await db.fetchval("SELECT count(*) FROM users") > 40
        assert sum(writer.deadlocks for writer in writers) == 0


@KINDS
@pytest.mark.parametrize("dual_write", ["application", "trigger"])
async def test_reverse_sync_keeps_the_old_side_in_step_while_v3_rolls_out(
    db: asyncpg.Connection, pg_dsn: str, kind: str, dual_write: str
) -> None:
    plan = make_plan(kind, dual_write, pg_dsn)
    await table_with_rows(db)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=dual_write == "trigger", reverse=True)
        await backfilled(db, plan)
        writers = await run_writers(pg_dsn, plan, (2, 2, 3, 3), seed=2)
        await require_recorded(db, kind)
        # Only deletes of V3 in the table kind lock the sides in the other order; everything else must never clash.
        assert sum(writer.deadlocks for writer in writers) <= (2 if kind == "table" else 0)


@KINDS
@pytest.mark.parametrize("dual_write", ["application", "trigger"])
async def test_set_aside_undo_and_drop_under_v3(
    db: asyncpg.Connection, pg_dsn: str, kind: str, dual_write: str
) -> None:
    plan = make_plan(kind, dual_write, pg_dsn)
    await table_with_rows(db)
    async with open_leased_store(pg_dsn, plan) as store:

        async def fresh() -> Catalog:
            async with store.pool.acquire() as conn:
                return await read_catalog(conn, plan)

        catalog = await run_expand(store, plan, forward=dual_write == "trigger", reverse=True)
        await backfilled(db, plan)
        before = {column.name for column in catalog.old.columns}
        writers = asyncio.create_task(run_writers(pg_dsn, plan, (3, 3), seed=3))
        await ddl(store, archive_statements(plan, catalog))
        aside = await fresh()
        assert aside.is_archived
        assert {column.name for column in aside.old.columns} == before, "columns keep their plan names"
        assert archive_statements(plan, aside) == (), "doing it twice is harmless"
        await writers
        # What V3 wrote while the old side was aside is there when it comes back.
        await ddl(store, restore_archive_statements(plan, aside))
        back = await fresh()
        assert not back.is_archived
        assert restore_archive_statements(plan, back) == ()
        await require_recorded(db, kind)
        await run_writers(pg_dsn, plan, (1, 2) if dual_write == "trigger" else (2,), seed=4)
        assert await count_disagreements(db, kind) == []
        # And for good.
        await ddl(store, archive_statements(plan, back))
        aside = await fresh()
        assert await find_leftovers(db, plan) != []
        await ddl(store, drop_archive_statements(plan, aside))
        gone = await fresh()
        assert gone.is_dropped
        assert await find_leftovers(db, plan) == []
        await ddl(store, drop_archive_statements(plan, gone))
        await run_writers(pg_dsn, plan, (3,), seed=5, times=30)
        if kind == "table":
            assert await db.fetchval("SELECT to_regnamespace('zdd_archive')") is None
            highest = await db.fetchval("SELECT max(id) FROM people")
            assert await db.fetchval("INSERT INTO people (full_name) VALUES ('x') RETURNING id") > highest


async def describe_schema(db: asyncpg.Connection) -> list[Any]:
    """Tables, columns, triggers and functions outside of zdd's own tables."""
    return [
        tuple(row)
        for query in (
            "SELECT relname::text, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace",
            "SELECT attrelid::regclass::text, attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
            " WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped",
            "SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger WHERE tgname LIKE 'zdd_users%'",
            "SELECT proname::text FROM pg_proc WHERE proname LIKE 'zdd_users%'",
        )
        for row in sorted(await db.fetch(query))
    ]


@KINDS
async def test_undo_of_expand_leaves_the_schema_as_it_was_under_v1(
    db: asyncpg.Connection, pg_dsn: str, kind: str
) -> None:
    plan = make_plan(kind, "trigger", pg_dsn)
    await table_with_rows(db)
    before = await describe_schema(db)
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan, forward=True, reverse=True)
        assert await describe_schema(db) != before
        writers = asyncio.create_task(run_writers(pg_dsn, plan, (1, 1), seed=6, times=60))
        for direction in ("reverse", "forward"):
            await ddl(store, drop_sync_statements(plan, catalog, direction))
        await ddl(store, undo_expand_statements(plan, created_objects(plan)))
        await ddl(store, undo_expand_statements(plan, created_objects(plan)))
        await writers
        assert await describe_schema(db) == before


async def test_an_old_serial_sequence_is_handed_over(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("table", "trigger", pg_dsn)
    await db.execute(USERS.replace("bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "bigserial PRIMARY KEY"))
    await insert_rows(db, 3)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True, reverse=True)
        await backfilled(db, plan)
        for build in (archive_statements, drop_archive_statements):
            await ddl(store, build(plan, await read_catalog(db, plan)))
        assert await db.fetchval("INSERT INTO people (full_name) VALUES ('x') RETURNING id") == 4
        assert await db.fetchval("SELECT pg_get_serial_sequence('people', 'id')") == "public.users_id_seq"


async def test_the_aside_schema_stays_while_others_use_it(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("table", "trigger", pg_dsn)
    await table_with_rows(db)
    await db.execute("CREATE SCHEMA zdd_archive; CREATE TABLE zdd_archive.other ()")
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True, reverse=True)
        await backfilled(db, plan)
        for build in (archive_statements, drop_archive_statements):
            await ddl(store, build(plan, await read_catalog(db, plan)))
        assert await db.fetchval("SELECT to_regclass('zdd_archive.other') IS NOT NULL")
        assert await db.fetchval("SELECT to_regclass('zdd_archive.users') IS NULL")


async def test_drop_names_what_depends_on_the_old_side(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("column", "application", pg_dsn)
    await table_with_rows(db)
    await db.execute("CREATE VIEW names AS SELECT first_name FROM users")
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan, reverse=True)
        await ddl(store, archive_statements(plan, catalog))
        with pytest.raises(StepFailed, match="view names depends on column"):
            await ddl(store, drop_archive_statements(plan, await read_catalog(db, plan)))
        assert await db.fetchval("SELECT count(*) FROM names") == 40


@KINDS
async def test_a_lossy_down_never_touches_rows_that_agree(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, "trigger", pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True, reverse=True)
        # down would read "Ana Maria" as first name "Ana"
        key = await db.fetchval("INSERT INTO users (first_name, last_name) VALUES ('Ana Maria', 'Xu') RETURNING id")
        target = "users" if kind == "column" else "people"
        await db.execute(f"UPDATE {target} SET full_name = full_name, email = 'new' WHERE id = $1", key)
        row = await db.fetchrow("SELECT first_name, last_name, email FROM users")
        # In the table kind one column differed, so the whole row was written; it still reads the same.
        assert tuple(row) == (("Ana Maria", "Xu", "new") if kind == "column" else ("Ana", "Maria Xu", "new"))
        assert await count_disagreements(db, kind) == []


async def test_v3_may_write_null(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("column", "application", pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, reverse=True)
        key: Any = await db.fetchval("INSERT INTO users (email) VALUES ('e') RETURNING id")
        assert await db.fetchval("SELECT first_name FROM users WHERE id = $1", key) == ""
        await db.execute("UPDATE users SET full_name = 'A B' WHERE id = $1", key)
        await db.execute("UPDATE users SET full_name = NULL WHERE id = $1", key)
        assert tuple(await db.fetchrow("SELECT first_name, last_name FROM users")) == ("", "")


async def test_writers_need_no_rights_on_the_other_table(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("table", "trigger", pg_dsn)
    await table_with_rows(db)
    role = f"v1_{pg_dsn.rpartition('/')[2]}"
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True, reverse=True)
        await db.execute(f"CREATE ROLE {role}")
        try:
            await db.execute(f"GRANT ALL ON users TO {role}; SET ROLE {role}")
            await db.execute("UPDATE users SET first_name = 'Z', last_name = '' WHERE id = 1")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.fetchval("SELECT full_name FROM people WHERE id = 1")
            await db.execute("RESET ROLE")
            assert await db.fetchval("SELECT full_name FROM people WHERE id = 1") == "Z"
        finally:
            await db.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")

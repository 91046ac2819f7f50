"""An explicit NULL that V3 inserts into a new column stays; V1 and V2, which leave the column out, get their copy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import ddl, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.gate_queries import find_leftovers
from zdd_tui.model.ddl import archive_statements, drop_archive_statements, sync_statements, undo_reverse_statements

OPTIONAL = "CREATE TABLE users (id bigint PRIMARY KEY, name text DEFAULT 'none', tag text, note text)"
"""Each old column may be left out."""
REQUIRED = "CREATE TABLE users (id bigint PRIMARY KEY, name text DEFAULT 'none', tag text NOT NULL, note text)"
CHANGE: dict[str, Any] = {
    "expand": "ALTER TABLE users ADD COLUMN nick text, ADD COLUMN label text",
    "up": {"nick": "name", "label": "coalesce(tag, 'no tag')"},
    "down": {"name": "nick", "tag": "label"},
}
ROWS = "SELECT id, name, tag, nick, label FROM users ORDER BY id"


@asynccontextmanager
async def synced(
    db: asyncpg.Connection, dsn: str, table: str = OPTIONAL, **change: Any
) -> AsyncIterator[tuple[Any, Any]]:
    plan = make_plan("column", "trigger", dsn, change=CHANGE | change)
    await db.execute(table)
    async with open_leased_store(dsn, plan) as store:
        catalog = await run_expand(store, plan, forward=True)
        await ddl(store, sync_statements(plan, catalog, "reverse"))
        yield store, plan


async def test_an_explicit_null_of_v3_stays_and_v2_is_copied(db: asyncpg.Connection, pg_dsn: str) -> None:
    async with synced(db, pg_dsn):
        await db.execute("INSERT INTO users (id, nick, label) VALUES (1, NULL, NULL)")  # V3
        await db.execute("INSERT INTO users (id, name) VALUES (2, 'V2')")
        await db.execute("INSERT INTO users (id) VALUES (3)")  # either: it leaves the columns out
        await db.execute("INSERT INTO users (id, name, tag) VALUES (4, 'none', NULL)")  # V2, with the values of V3
        await db.execute("INSERT INTO users (id, nick) VALUES (5, NULL)")  # V3 has left out the other one
        await db.execute("INSERT INTO users (id, nick, label) VALUES (6, NULL, 'x')")
        await db.execute("UPDATE users SET nick = NULL WHERE id = 2")
        assert [tuple(row) for row in await db.fetch(ROWS)] == [
            (1, None, None, None, None),
            (2, None, "no tag", None, "no tag"),
            (3, "none", None, "none", "no tag"),
            (4, "none", None, "none", "no tag"),
            (5, "none", None, "none", "no tag"),
            (6, None, "x", None, "x"),
        ]


async def test_rows_of_one_statement_and_of_copy_are_told_apart(db: asyncpg.Connection, pg_dsn: str) -> None:
    async with synced(db, pg_dsn):
        async with db.transaction():
            await db.execute("INSERT INTO users (id) SELECT generate_series(1, 3)")
            await db.execute("INSERT INTO users (id, nick, label) SELECT n, NULL, NULL FROM generate_series(4, 6) n")
            await db.execute(
                "INSERT INTO users (id, nick, label) VALUES (7, NULL, NULL), (8, DEFAULT, DEFAULT), (9, NULL, NULL)"
            )
            await db.execute("INSERT INTO users (id) SELECT n FROM generate_series(12, 10, -1) n ORDER BY random()")
        await db.copy_records_to_table("users", records=[(13,), (14,)], columns=["id"])
        await db.copy_records_to_table("users", records=[(15, None, None)], columns=["id", "nick", "label"])
        found = {row["id"]: row["nick"] for row in await db.fetch(ROWS)}
        assert [key for key, nick in found.items() if nick is None] == [4, 5, 6, 7, 9, 15]
        assert {found[key] for key in (1, 2, 3, 8, 10, 11, 12, 13, 14)} == {"none"}


@pytest.mark.parametrize("down", ["coalesce(label, '')", "label"])
async def test_where_an_old_column_is_required_its_null_shows_v3(
    db: asyncpg.Connection, pg_dsn: str, down: str
) -> None:
    async with synced(db, pg_dsn, REQUIRED, down={"name": "nick", "tag": down}):
        await db.execute("INSERT INTO users (id, nick, label) VALUES (1, NULL, NULL)")
        await db.execute("INSERT INTO users (id, tag) VALUES (2, 'V2')")
        # What the old table cannot store is filled from its defaults: V3's statement does not fail.
        first = (1, "none", "no tag", "none", "no tag") if down == "label" else (1, None, "", None, None)
        assert [tuple(row) for row in await db.fetch(ROWS)] == [first, (2, "none", "V2", "none", "V2")]
        default = "SELECT count(*) FROM pg_attrdef WHERE adrelid = 'users'::regclass"
        assert await db.fetchval(default) == 1, "no new column needs a default of ours"


async def test_a_role_without_rights_may_insert(db: asyncpg.Connection, pg_dsn: str) -> None:
    async with synced(db, pg_dsn):
        await db.execute("DO $$ BEGIN IF to_regrole('plain_app') IS NULL THEN CREATE ROLE plain_app; END IF; END $$")
        await db.execute("GRANT INSERT ON users TO plain_app; SET ROLE plain_app; SET search_path = pg_temp")
        await db.execute("INSERT INTO public.users (id, name) VALUES (1, 'V2')")
        await db.execute("RESET ROLE; RESET search_path")
        assert await db.fetchval("SELECT nick FROM users") == "V2"


@pytest.mark.parametrize("end", ["rollback", "cleanup"])
async def test_nothing_of_it_is_left(db: asyncpg.Connection, pg_dsn: str, end: str) -> None:
    async with synced(db, pg_dsn) as (store, plan):

        async def change(build: Any, *arguments: Any) -> None:
            await ddl(store, build(plan, await read_catalog(db, plan), *arguments))

        await change(sync_statements, "reverse")  # again, as where a trigger is restored
        if end == "rollback":
            await change(undo_reverse_statements)
            await db.execute("INSERT INTO users (id) VALUES (1)")
            assert await db.fetchval("SELECT nick FROM users") == "none", "no trigger takes it for an explicit NULL"
        else:
            await change(archive_statements)
            await db.execute("INSERT INTO users (id, nick, label) VALUES (1, NULL, NULL)")
            assert await db.fetchval("SELECT zdd_archive_1_name FROM users") is None
            await change(drop_archive_statements)
            assert await find_leftovers(db, plan) == []
        defaults = "SELECT count(*) FROM pg_attrdef WHERE adrelid = 'users'::regclass"
        assert await db.fetchval(defaults) == (1 if end == "rollback" else 0)
        assert await db.fetchval("SELECT count(*) FROM pg_proc WHERE proname LIKE 'zdd%out'") == 0

"""The schema is created once, also by many processes at once, or there is one clear error."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.store import all_error_text
from zdd_tui.backends.store import migrations
from zdd_tui.backends.store.client import Store
from zdd_tui.model.errors import DatabaseError

NEWEST = len(migrations.load_migrations())

MIGRATE = """
import asyncio, os, sys
from zdd_tui.backends.store.client import Store
async def main():
    async with await Store.open(os.environ["DSN"]) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await store.migrate()
        print(await store.schema_version())
asyncio.run(main())
"""


async def _schema(db: asyncpg.Connection) -> str:
    rows = await db.fetch(
        "SELECT n.nspname, c.relname, a.attname, a.atttypid::regtype::text FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2, 3"
    )
    return json.dumps([tuple(row) for row in rows])


async def test_from_nothing_and_again(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with await Store.open(pg_dsn) as store:
        assert await store.schema_version() is None
        assert await store.find_release("users-full-name") is None
        await store.migrate()
        assert await store.schema_version() == NEWEST
        before = await _schema(db)
        applied = await db.fetch("SELECT * FROM zdd.migration")
        await store.migrate()
        assert await _schema(db) == before
        assert await db.fetch("SELECT * FROM zdd.migration") == applied


async def test_every_table_and_most_columns_that_need_it_are_commented(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
    silent = await db.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'zdd'::regnamespace AND relkind = 'r'"
        " AND obj_description(oid) IS NULL"
    )
    assert silent == []


async def test_several_processes_at_once(pg_dsn: str, db: asyncpg.Connection) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MIGRATE,
            env={**os.environ, "DSN": pg_dsn},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [out.strip() for out, _ in answers] == [str(NEWEST).encode()] * 4
    assert [process.returncode for process in processes] == [0] * 4
    assert await db.fetchval("SELECT count(*) FROM zdd.migration") == NEWEST


async def test_many_stores_of_one_process_at_once(pg_dsn: str) -> None:
    async with await Store.open(pg_dsn) as store:
        await asyncio.gather(*(store.migrate() for _ in range(8)))
        assert await store.schema_version() == NEWEST


# --- another folder of versions --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "sql"
    shutil.copytree(str(migrations.SQL_FOLDER), target)
    return target


async def test_a_later_version_is_added_to_an_existing_schema(
    pg_dsn: str, db: asyncpg.Connection, folder: Path
) -> None:
    assert len(await migrations.migrate(db, pg_dsn)) == NEWEST
    (folder / f"{NEWEST + 1:03}_later.sql").write_text("ALTER TABLE zdd.release ADD later text;")
    assert await migrations.migrate(db, pg_dsn, folder) == (NEWEST + 1,)
    assert await migrations.read_schema_version(db) == NEWEST + 1
    assert await db.fetchval("SELECT count(later) FROM zdd.release") == 0


async def test_a_newer_schema_is_refused(pg_dsn: str, db: asyncpg.Connection, folder: Path) -> None:
    (folder / f"{NEWEST + 1:03}_later.sql").write_text("ALTER TABLE zdd.release ADD later text;")
    await migrations.migrate(db, pg_dsn, folder)
    before = await _schema(db)
    async with await Store.open(pg_dsn) as store:
        with pytest.raises(DatabaseError, match=f"has version {NEWEST + 1}; this zdd supports up to {NEWEST}"):
            await store.migrate()
    assert await _schema(db) == before


async def test_a_changed_file_is_refused(pg_dsn: str, db: asyncpg.Connection, folder: Path) -> None:
    await migrations.migrate(db, pg_dsn)
    first = folder / "001_release.sql"
    first.write_text(first.read_text() + "-- harmless?\n")
    (folder / f"{NEWEST + 1:03}_later.sql").write_text("ALTER TABLE zdd.release ADD later text;")
    with pytest.raises(
        DatabaseError, match=r"version 1 \(release\) of the zdd schema was applied from a different file"
    ):
        await migrations.migrate(db, pg_dsn, folder)
    assert await migrations.read_schema_version(db) == NEWEST


async def test_a_version_that_fails_leaves_nothing(pg_dsn: str, db: asyncpg.Connection, folder: Path) -> None:
    (folder / f"{NEWEST + 1:03}_broken.sql").write_text("CREATE TABLE zdd.half (); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrations.migrate(db, pg_dsn, folder)
    assert await db.fetchval("SELECT to_regnamespace('zdd')") is None


def test_a_gap_in_the_files_is_an_error(folder: Path) -> None:
    (folder / "001_release.sql").unlink()
    with pytest.raises(DatabaseError, match="incomplete"):
        migrations.load_migrations(folder)


# --- rights ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def guest(pg_dsn: str, db: asyncpg.Connection) -> AsyncIterator[str]:
    """The DSN of a role that may connect and nothing else."""
    await db.execute("CREATE ROLE \"odd Guest\" LOGIN PASSWORD 'guest-secret'")
    parts = urlsplit(pg_dsn)
    yield f"postgresql://odd%20Guest:guest-secret@127.0.0.1:{parts.port}{parts.path}"
    await db.execute('DROP OWNED BY "odd Guest"; DROP ROLE "odd Guest"')


async def test_no_right_to_create_the_schema(guest: str, db: asyncpg.Connection) -> None:
    database = urlsplit(guest).path[1:]
    async with await Store.open(guest) as store:
        with pytest.raises(DatabaseError) as caught:
            await store.migrate()
        assert 'role "odd Guest" may not create the schema zdd' in caught.value.title
        assert "guest-secret" not in all_error_text(caught.value)
        assert await db.fetchval("SELECT to_regnamespace('zdd')") is None
        # The hint works as it is.
        grant = f'GRANT CREATE ON DATABASE "{database}" TO "odd Guest";'
        assert grant in caught.value.hint
        await db.execute(grant)
        await store.migrate()
        assert await store.schema_version() == NEWEST


async def test_a_schema_that_an_administrator_created(guest: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA zdd")
    async with await Store.open(guest) as store:
        with pytest.raises(DatabaseError) as caught:
            await store.migrate()
        grant = 'GRANT CREATE, USAGE ON SCHEMA zdd TO "odd Guest";'
        assert grant in caught.value.hint
        await db.execute(grant)
        await store.migrate()
        assert await store.schema_version() == NEWEST


async def test_a_role_that_may_not_read_the_schema(guest: str, pg_dsn: str) -> None:
    async with await Store.open(pg_dsn) as owner:
        await owner.migrate()
    async with await Store.open(guest) as store:
        for attempt in (store.migrate(), store.schema_version(), store.find_release("x"), store.read_release(1)):
            with pytest.raises(DatabaseError, match="refuses role odd Guest") as caught:
                await attempt
            assert "owns the zdd schema" in caught.value.hint


async def test_a_schema_of_another_program_is_not_changed(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA zdd; CREATE TABLE zdd.theirs ()")
    before = await _schema(db)
    async with await Store.open(pg_dsn) as store:
        with pytest.raises(DatabaseError, match="that zdd did not create"):
            await store.migrate()
    assert await _schema(db) == before


async def test_a_read_only_database(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(f"ALTER DATABASE {urlsplit(pg_dsn).path[1:]} SET default_transaction_read_only = on")
    async with await Store.open(pg_dsn) as store:
        with pytest.raises(DatabaseError, match="is read-only") as caught:
            await store.migrate()
    assert caught.value.hint == "point dsn at the primary"

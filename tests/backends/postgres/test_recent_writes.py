"""What was written since the verification is compared again; where that cannot be known, every row is."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg
import pytest

from tests.support.witness import KINDS, WatchedRelease, watched_release
from zdd_tui.backends.postgres import recent_writes
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.recent_writes import RecentWrites, compare_recent_writes, read_horizon

pytestmark = pytest.mark.timeout(60)


def sessions(conn: asyncpg.Connection) -> object:
    @asynccontextmanager
    async def lend() -> AsyncIterator[asyncpg.Connection]:
        yield conn

    def connections() -> AbstractAsyncContextManager[asyncpg.Connection]:
        return lend()

    return connections


async def compare(made: WatchedRelease, since: str | None, **options: bool) -> RecentWrites:
    catalog = await read_catalog(made.admin, made.plan)
    return await compare_recent_writes(sessions(made.admin), made.plan, catalog, since, **options)  # type: ignore[arg-type]


def keys(found: RecentWrites) -> list[str]:
    return sorted(each.key[0] for each in found.differing)


@pytest.mark.parametrize("kind", KINDS)
async def test_only_what_was_written_since_is_compared(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=3000) as made:
        since = await read_horizon(made.admin)
        assert await compare(made, since) == RecentWrites(0, (), False)
        await made.admin.execute("UPDATE users SET first_name = 'x' WHERE id IN (5, 2900)")
        await made.admin.execute("INSERT INTO users (id, first_name) VALUES (5000, 'n')")
        found = await compare(made, since)
        assert (found.rows, keys(found), found.is_whole) == (3, ["2900", "5", "5000"], False)
        text = str(next(each for each in found.differing if each.key == ("5",)))
        assert text == "5 (full_name differs)", "values may be secrets"


async def test_both_sides_are_scanned(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table", rows=100) as made:
        since = await read_horizon(made.admin)
        await made.admin.execute("UPDATE people SET full_name = 'x' WHERE id = 7")
        await made.admin.execute("INSERT INTO people (id, full_name) VALUES (700, 'orphan')")
        found = await compare(made, since)
        assert keys(found) == ["7", "700"]
        assert "only the new side" in str(max(found.differing, key=lambda each: each.key))


async def test_a_transaction_that_began_before_the_marker_and_ends_later_is_seen(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, rows=100) as made, made.writer() as writer:
        async with writer.transaction():
            await writer.execute("UPDATE users SET first_name = 'x' WHERE id = 9")
            since = await read_horizon(made.admin)
            await made.admin.execute("SELECT pg_current_xact_id()")
        assert keys(await compare(made, since)) == ["9"]


async def test_rows_that_were_frozen_meanwhile_are_seen(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, rows=100) as made:
        since = await read_horizon(made.admin)
        await made.admin.execute("UPDATE users SET first_name = 'x' WHERE id = 9")
        await made.admin.execute("VACUUM FREEZE users")
        assert keys(await compare(made, since)) == ["9"]


@pytest.mark.parametrize("table", ["users", "people"])
async def test_a_row_that_was_deleted_on_one_side_is_found(pg_dsn: str, table: str) -> None:
    """It leaves no transaction id."""
    async with watched_release(pg_dsn, "table", rows=100) as made:
        since = await read_horizon(made.admin)
        await made.admin.execute(f"DELETE FROM {table} WHERE id = 3")
        found = await compare(made, since)
        assert (found.rows, keys(found), found.is_whole) == (1, ["3"], False)
        found = await compare(made, None)
        assert (found.rows, keys(found), found.is_whole) == (100, ["3"], True)


async def test_an_id_that_is_too_old_or_of_another_server_compares_every_row(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched_release(pg_dsn, rows=100) as made:
        since = await read_horizon(made.admin)
        assert not (await compare(made, since)).is_whole
        assert not (await compare(made, f"{since}@1700000000.5")).is_whole
        assert (await compare(made, str(int(since) + 10_000_000))).is_whole
        monkeypatch.setattr(recent_writes, "MAX_XID_AGE", 3)
        for _ in range(4):
            await made.admin.fetchval("SELECT pg_current_xact_id()::text")
        assert (await compare(made, since)).rows == 100


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_of_v3_agree_when_down_gives_their_old_side(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=100) as made:
        since = await read_horizon(made.admin)
        await made.extend()
        new = "people" if kind == "table" else "users"
        await made.admin.execute(f"UPDATE {new} SET full_name = 'lossy ' WHERE id = 4")
        # Without the witness, which would copy it at its commit.
        await made.admin.execute("SET zdd.witness = 'off'; UPDATE users SET last_name = 'x' WHERE id = 5")
        assert keys(await compare(made, since)) == ["4", "5"]
        assert keys(await compare(made, since, either=True)) == ["5"]


async def test_a_partitioned_table_is_scanned_by_its_partitions(pg_dsn: str) -> None:
    """`zdd check` refuses one as the changed table; a new table may be one."""
    people = "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text)"
    async with watched_release(pg_dsn, "table", rows=100, change={"expand": people}) as made:
        await made.admin.execute(
            "ALTER TABLE people RENAME TO part; CREATE TABLE people (LIKE part INCLUDING ALL) PARTITION BY RANGE (id);"
            "ALTER TABLE people ATTACH PARTITION part FOR VALUES FROM (0) TO (1000000)"
        )
        since = await read_horizon(made.admin)
        await made.admin.execute("UPDATE people SET full_name = 'x' WHERE id = 7")
        assert keys(await compare(made, since)) == ["7"]
        assert (await compare(made, None)).rows == 100

"""What is read for the confirmation of a rollback."""

import asyncpg
import pytest

from tests.support.operations import plan_of
from tests.support.store import ANA, open_store, plan_for, register_release
from tests.support.witness import KINDS, watched_release
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.dropped_data import count_dropped_data
from zdd_tui.backends.postgres.recent_writes import read_horizon
from zdd_tui.backends.store import evidence
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.rollback import read_rollback_history
from zdd_tui.model.operations.registry import list_dropped_by_undo
from zdd_tui.model.plan.operations import OperationsPlan
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.rollback import DroppedCount, NewSideCount, PastRollback, RehearsedRollback, RollbackHistory

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_whose_value_the_old_side_cannot_give_back_are_counted(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=3000) as made, await Store.open(pg_dsn) as store:
        release_id = made.store.release_id

        async def count() -> tuple[NewSideCount | None, str]:
            found = await read_rollback_history(store.pool, release_id, made.plan)
            return found.count, found.count_error

        assert await count() == (None, ""), "nothing is verified"
        since = await read_horizon(made.admin)
        await made.admin.execute(
            "UPDATE zdd.step SET status = 'done', detail = jsonb_build_object('since', $2::text)"
            " WHERE release_id = $1 AND name = 'verify-rows'",
            release_id,
            since,
        )
        assert await count() == (NewSideCount(0, 0, True), "")
        await made.extend()
        new = "people" if kind == "table" else "users"
        # The first can be split and joined again; of the second the trailing blank is lost.
        await made.admin.execute(f"UPDATE {new} SET full_name = 'Ada Lovelace' WHERE id = 4")
        await made.admin.execute(f"UPDATE {new} SET full_name = 'lossy ' WHERE id = 5")
        assert await count() == (NewSideCount(2, 1, True), "")


async def test_the_count_ends_in_time_and_says_so(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zdd_tui.backends.store.rollback.COUNT_SECONDS", 0.5)
    async with watched_release(pg_dsn, rows=100) as made, await Store.open(pg_dsn) as store:
        await made.admin.execute(
            "UPDATE zdd.step SET status = 'done', detail = '{\"since\": \"1\"}' WHERE name = 'verify-rows'"
        )
        catalog = await read_catalog(made.admin, made.plan)
        async with made.admin.transaction():
            await made.admin.execute(f"LOCK TABLE {catalog.old.sql}")
            found = await read_rollback_history(store.pool, made.store.release_id, made.plan)
    assert found.count is None
    assert "does not respond within 0.5 s" in found.count_error


async def test_the_rehearsal_and_the_last_rollback(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, first):
        admin = await asyncpg.connect(pg_dsn)
        try:
            assert await read_rollback_history(store.pool, first, plan_for(pg_dsn)) == RollbackHistory()
            command = await store.send_command(first, CommandRequest(CommandKind.ROLLBACK), actor=ANA)
            await admin.execute(
                "UPDATE zdd.command SET status = 'done', answered_at = now() - interval '70s' WHERE id = $1", command
            )
            await admin.execute(
                "UPDATE zdd.release SET state = 'rolled-back', phase = 3, finished_at = now() - interval '10s'"
            )
            second = await register_release(store, pg_dsn)
            report = {"scenarios": [{"rollback_from": "cutover", "rollback_seconds": 2.5}, {"rollback_from": ""}]}
            await evidence.save_rehearsal(
                admin,
                plan_hash="hash-1",
                name="users-full-name",
                passed=True,
                scale=0.1,
                report=report,
                actor=ANA,
            )
            found = await read_rollback_history(store.pool, second, plan_for(pg_dsn))
        finally:
            await admin.close()
    assert found.rehearsal is not None
    assert found.rehearsal == RehearsedRollback(found.rehearsal.at, True, 0.1, {"cutover": 2.5})
    assert found.last is not None
    assert found.last == PastRollback("users-full-name", "cutover", pytest.approx(60, abs=1), found.last.at)


DATA = """
CREATE TABLE users (id int PRIMARY KEY, age int, kind text) PARTITION BY RANGE (id);
CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (50);
CREATE TABLE users_high PARTITION OF users FOR VALUES FROM (50) TO (1000);
INSERT INTO users SELECT i, i, 'x' FROM generate_series(1, 99) i;
"""

CHANGES = ("ALTER TABLE users ADD COLUMN nick text", "ALTER TABLE users ADD COLUMN level int NOT NULL DEFAULT 5",
           "CREATE TABLE notes (id int)", "ALTER TABLE users ADD COLUMN late text")  # fmt: skip


async def test_what_only_new_columns_and_tables_hold_is_counted(pg_dsn: str) -> None:
    plan = plan_of(pg_dsn, *CHANGES)
    async with open_store(pg_dsn) as (store, release_id):
        admin = await asyncpg.connect(pg_dsn)
        try:
            await admin.execute(DATA + ";".join(CHANGES[:3]))
            await admin.execute(
                "UPDATE users SET nick = 'n' WHERE id <= 60; UPDATE users SET level = 7 WHERE id > 96;"
                "INSERT INTO notes VALUES (1), (2)"
            )
            found = await read_rollback_history(store.pool, release_id, plan)
            await admin.execute("CREATE ROLE guest; GRANT USAGE ON SCHEMA zdd TO guest")
            refused = await count_with_role(pg_dsn, plan)
        finally:
            await admin.execute("DROP OWNED BY guest; DROP ROLE guest")
            await admin.close()
    assert {each.name: count for each, count in found.dropped_counts.items()} == {
        "column users.nick": DroppedCount(60),
        "column users.level": DroppedCount(3, has_default=True),
        "table notes": DroppedCount(2),
        "column users.late": DroppedCount(exists=False),
    }
    assert refused["table notes"] == DroppedCount(error="permission denied for table notes")


async def count_with_role(dsn: str, plan: OperationsPlan) -> dict[str, DroppedCount]:
    """As a role that has no right to read the tables."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET ROLE guest")
        dropped = [each for found in (list_dropped_by_undo(plan) or {}).values() for each in found]
        counts = await count_dropped_data(connection, dropped, seconds=5)
        return {each.name: count for each, count in counts.items()}
    finally:
        await connection.close()


async def test_the_count_of_dropped_data_ends_in_time_and_says_so(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zdd_tui.backends.store.rollback.COUNT_SECONDS", 0.5)
    async with open_store(pg_dsn) as (store, release_id):
        admin = await asyncpg.connect(pg_dsn)
        try:
            await admin.execute(DATA + ";".join(CHANGES))
            async with admin.transaction():
                await admin.execute("LOCK TABLE users")
                found = await read_rollback_history(store.pool, release_id, plan_of(pg_dsn, *CHANGES))
        finally:
            await admin.close()
    late = DroppedCount(error="not counted within 0.5 s")
    assert {each.name: count for each, count in found.dropped_counts.items()}["column users.nick"] == late

"""What is read for the confirmation of a rollback."""

import asyncpg
import pytest

from tests.support.store import ANA, open_store, plan_for, register_release
from tests.support.witness import KINDS, watched_release
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.recent_writes import read_horizon
from zdd_tui.backends.store import evidence
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.rollback import read_rollback_history
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind
from zdd_tui.model.rollback import NewSideCount, PastRollback, RehearsedRollback, RollbackHistory

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

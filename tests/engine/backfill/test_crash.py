"""The server is killed in the middle: commits that were not on disk are lost with their checkpoints."""

import asyncio
import contextlib
import random
from pathlib import Path

import asyncpg
import pytest

from tests.support.schema_change import (
    USERS,
    count_disagreements,
    insert_rows,
    make_plan,
    open_leased_store,
    run_expand,
)
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.records import BackfillRecord
from zdd_tui.testbed.servers import postgres_server


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_a_killed_server_loses_no_row(server_folder: Path, kind: str) -> None:
    rng = random.Random(7)
    async with postgres_server(server_folder / f"crash-{kind}") as server:
        # Two seconds for all rows: three kills within the first 1.2 s are all in the middle.
        limits = {"batch_rows": 20, "batch_rows_max": 20, "max_rows_per_second": 2500}
        plan = make_plan(kind, dsn=server.dsn, backfill=limits)
        db = await asyncpg.connect(server.dsn)
        await db.execute(USERS)
        await insert_rows(db, 5000)
        async with open_leased_store(server.dsn, plan) as store:
            await run_expand(store, plan)
            await BackfillRunner(store, ChangeJob(plan, await read_catalog(db, plan))).prepare()
            await db.close()
            crashes = 0
            while True:
                async with store.pool.acquire() as conn:
                    catalog = await read_catalog(conn, plan)
                run = asyncio.create_task(BackfillRunner(store, ChangeJob(plan, catalog)).run())
                await asyncio.wait({run}, timeout=rng.uniform(0.1, 0.4) if crashes < 3 else None)
                if run.done():
                    break
                crashes += 1
                await server.kill()
                with pytest.raises(DatabaseError):
                    await run
                await server.start()
            run.result()
            assert crashes == 3
            report = await Verifier(store, plan, catalog).run()
            assert (report.rows, report.mismatches) == (5000, 0)
            record = (await store.read()).backfill
            assert record is not None
            assert record.rows_done == 5000
            db = await asyncpg.connect(server.dsn)
            assert await count_disagreements(db, kind) == []
            await db.close()


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_a_server_that_restarts_between_batches_loses_the_last_ones(server_folder: Path, kind: str) -> None:
    """The connection of the next batch is a new one: no error shows that committed batches are lost."""
    settings = {"wal_writer_delay": "10s"}  # without a flush commits stay in memory
    async with postgres_server(server_folder / f"quick-{kind}", settings) as server:
        limits = {"batch_rows": 100, "batch_rows_max": 100, "max_rows_per_second": 2000}
        plan = make_plan(kind, dsn=server.dsn, backfill=limits)
        db = await asyncpg.connect(server.dsn)
        await db.execute(USERS)
        await insert_rows(db, 2000)
        async with open_leased_store(server.dsn, plan) as store:
            await run_expand(store, plan)
            catalog = await read_catalog(db, plan)
            await db.close()
            rests = 0
            taken_back = 0

            async def rest(seconds: float) -> None:
                nonlocal rests, taken_back
                rests += 1
                if rests in (3, 7):
                    before = (await store.read()).backfill
                    await server.kill()
                    await server.start()
                    while (after := await read_again()) is None:  # noqa: ASYNC110  a server has no event for it
                        await asyncio.sleep(0.05)
                    assert before is not None
                    taken_back += before.rows_done - after.rows_done

            async def read_again() -> BackfillRecord | None:
                with contextlib.suppress(DatabaseError):
                    return (await store.read()).backfill
                return None

            runner = BackfillRunner(store, ChangeJob(plan, catalog), sleep=rest, signals=[])
            await runner.prepare()
            await runner.run()
            assert taken_back > 0
            report = await Verifier(store, plan, catalog).run()
            assert (report.rows, report.mismatches) == (2000, 0)
            record = (await store.read()).backfill
            assert record is not None
            assert record.rows_done == 2000
            db = await asyncpg.connect(server.dsn)
            assert await count_disagreements(db, kind) == []
            await db.close()

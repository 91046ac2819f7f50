"""The backfill waits for a standby: a real one, whose replay is stopped and resumed."""

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncpg

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
from zdd_tui.engine.backfill.throttle import ReplicaLagSignal
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.testbed.servers import PostgresServer, _make_reachable, postgres_server


def _folder_for(primary: PostgresServer, standby: PostgresServer) -> None:
    standby.folder.mkdir()
    standby._data.mkdir(mode=0o700)
    if primary._user is not None:
        os.chown(standby._data, primary._user, primary._user)
        _make_reachable(standby._data, primary._user)


async def standby_of(primary: PostgresServer, folder: Path) -> PostgresServer:
    standby = PostgresServer(folder)
    _folder_for(primary, standby)
    assert primary._bin is not None
    copy = await asyncio.create_subprocess_exec(
        *(primary._bin / "pg_basebackup", "-D", standby._data, "-R", "-c", "fast", "-d", primary.dsn),
        user=primary._user,
        group=primary._user,
        extra_groups=None if primary._user is None else [],
        cwd=standby._data,
    )
    assert await copy.wait() == 0
    standby._bin, standby._password = primary._bin, primary._password
    await standby.start()
    return standby


async def test_a_standby_that_stops_replaying_stops_the_backfill(server_folder: Path) -> None:
    # Slow enough to still run when the standby lags by more than the limit.
    slow = {"batch_rows": 50, "batch_rows_max": 50, "max_rows_per_second": 4000, "max_replica_lag": "500ms"}
    plan = make_plan(backfill=slow)
    async with postgres_server(server_folder / "primary") as primary:
        plan = make_plan(dsn=primary.dsn, backfill=plan.backfill.model_dump())
        standby = await standby_of(primary, server_folder / "standby")
        db = await asyncpg.connect(primary.dsn)
        reader = await asyncpg.connect(standby.dsn)
        try:
            await db.execute(USERS)
            await insert_rows(db, 20_000)
            async with open_leased_store(primary.dsn, plan) as store:
                await run_expand(store, plan)
                backfill = BackfillRunner(store, ChangeJob(plan, await read_catalog(db, plan)))
                await backfill.prepare()
                await reader.execute("SELECT pg_wal_replay_pause()")
                run = asyncio.create_task(backfill.run())

                async def read_state() -> Any:
                    return (await store.read()).backfill

                async with asyncio.timeout(30):
                    while not (await read_state()).throttle.startswith("replica lag "):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert not run.done()
                await reader.execute("SELECT pg_wal_replay_resume()")
                async with asyncio.timeout(30):
                    await run
                assert await count_disagreements(db, "column") == []
                assert (await read_state()).throttle == ""
        finally:
            await reader.close()
            await db.close()
            await standby.stop()


def test_lag_is_computed_from_positions_of_the_primary() -> None:
    """The server's own value does not change while nothing is replayed; ours grows."""
    lag = ReplicaLagSignal()
    lag.lsn_history.extend([(0.0, 100), (1.0, 200), (2.0, 300)])
    assert lag.seconds_behind(300, 5.0) == 0.0
    assert lag.seconds_behind(250, 5.0) == 3.0
    assert lag.seconds_behind(150, 5.0) == 4.0
    assert lag.seconds_behind(None, 5.0) == 0.0

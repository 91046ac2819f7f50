"""The p99 of the application's requests during a backfill at its defaults, against before it.

    python -m benchmarks.backfill_load [--rows 300000] [--kind column] [--rate 200] [--seconds 15] [--workers 1]
        [--budget 150ms]

It starts a PostgreSQL of its own. Requests are sent at a fixed rate without waiting for earlier ones, and their time
counts from when they were due. Each reads one row by its key, and every second one changes it, on both sides. The guard
and its throttle are not part of it.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg

from benchmarks.backfill import insert_rows
from tests.support.schema_change import UP, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.plan.base import Backfill
from zdd_tui.testbed.servers import postgres_server

CHANGE = {
    "column": f"UPDATE users SET email = $2, full_name = {UP} WHERE id = $1",
    "table": "WITH old AS (UPDATE users SET email = $2 WHERE id = $1 RETURNING *)"
    f" INSERT INTO people (id, full_name, email) SELECT id, {UP}, email FROM old"
    " ON CONFLICT (id) DO UPDATE SET full_name = EXCLUDED.full_name, email = EXCLUDED.email",
}


async def run_requests(
    pool: "asyncpg.Pool[asyncpg.Record]", kind: str, rows: int, rate: float, until: asyncio.Event
) -> list[float]:
    """Seconds of each request, from when it was due."""
    latencies: list[float] = []
    rng = random.Random(3)

    async def send(due: float, key: int, change: bool) -> None:
        await pool.fetchrow("SELECT * FROM users WHERE id = $1", key)
        if change:
            await pool.execute(CHANGE[kind], key, f"{due}@example.org")
        latencies.append(time.perf_counter() - due)

    began, number = time.perf_counter(), 0
    async with asyncio.TaskGroup() as group:
        while not until.is_set():
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(send(due, rng.randint(1, rows), number % 2 == 0))
            number += 1
    return latencies


async def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg") as server:
            conn = await asyncpg.connect(server.dsn)
            await insert_rows(conn, options.rows, False)
            plan = make_plan(
                options.kind, dsn=server.dsn, backfill={"workers": options.workers, "batch_budget": options.budget}
            )
            async with (
                open_leased_store(server.dsn, plan) as store,
                asyncpg.create_pool(server.dsn, min_size=8, max_size=8) as pool,
            ):
                await run_expand(store, plan)
                stop = asyncio.Event()
                asyncio.get_running_loop().call_later(options.seconds, stop.set)
                before = await run_requests(pool, options.kind, options.rows, options.rate, stop)
                runner = BackfillRunner(store, ChangeJob(plan, await read_catalog(conn, plan)))
                await runner.prepare()
                stop = asyncio.Event()
                load = asyncio.create_task(run_requests(pool, options.kind, options.rows, options.rate, stop))
                began = time.perf_counter()
                await runner.run()
                seconds = time.perf_counter() - began
                stop.set()
                during = await load
            await conn.close()
    quantiles = [statistics.quantiles(sample, n=100) for sample in (before, during)]
    for name, index in (("p50", 49), ("p99", 98)):
        idle, busy = (values[index] * 1000 for values in quantiles)
        print(f"{name}: {idle:.1f} ms before, {busy:.1f} ms during the backfill, {busy / idle:.2f} times")
    print(f"{options.kind} kind, {options.rows / seconds:,.0f} rows/s, {len(before)} and {len(during)} requests")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--kind", choices=["column", "table"], default="column")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of the measurement before the backfill")
    parser.add_argument("--workers", type=int, default=1, help="backfill.workers of the plan")
    parser.add_argument("--budget", default=Backfill().batch_budget, help="backfill.batch_budget of the plan")
    asyncio.run(measure(parser.parse_known_args()[0]))


if __name__ == "__main__":
    main()

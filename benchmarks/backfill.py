"""Rows a second of the backfill, against one UPDATE (or INSERT … SELECT) of the same rows in the same run.

    python -m benchmarks.backfill [--rows 200000] [--rounds 3] [--kind column] [--wide] [--workers 1]

It starts a PostgreSQL of its own. Each round fills two fresh tables, moves one by a single statement and the other
by the BackfillRunner with the plan's defaults, then verifies it. Prints the medians of the rounds, their ratio, and
the ratio of the best rounds, which a busy machine disturbs least.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.schema_change import PEOPLE, UP, USERS, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.plan.base import Plan
from zdd_tui.testbed.servers import postgres_server


async def insert_rows(conn: asyncpg.Connection, rows: int, wide: bool) -> None:
    await conn.execute("DROP TABLE IF EXISTS users, people CASCADE")
    await conn.execute(USERS.replace("email text", "email text, bio text" if wide else "email text"))
    await conn.execute(
        "INSERT INTO users (first_name, last_name, email" + (", bio" if wide else "") + ")"
        " SELECT 'First' || n, CASE WHEN n % 3 = 0 THEN '' ELSE 'Last ' || n END, n || '@example.org'"
        + (", repeat('x', 400)" if wide else "")
        + " FROM generate_series(1, $1) n",
        rows,
    )
    await conn.execute("VACUUM ANALYZE users")
    await conn.execute("CHECKPOINT")


async def time_single_update(conn: asyncpg.Connection, kind: str) -> float:
    if kind == "table":
        await conn.execute(PEOPLE)
        statement = f"INSERT INTO people SELECT id, {UP}, email FROM users"
    else:
        await conn.execute("ALTER TABLE users ADD COLUMN full_name text")
        statement = f"UPDATE users SET full_name = {UP}"
    began = time.perf_counter()
    await conn.execute(statement)
    return time.perf_counter() - began


async def time_backfill(dsn: str, conn: asyncpg.Connection, plan: Plan) -> tuple[float, float, Any]:
    """Seconds of the backfill and of its verification, and the backfill's record."""
    await conn.execute("DROP SCHEMA IF EXISTS zdd CASCADE")
    async with open_leased_store(dsn, plan) as store:
        await run_expand(store, plan)
        catalog = await read_catalog(conn, plan)
        runner = BackfillRunner(store, ChangeJob(plan, catalog))
        await runner.prepare()
        began = time.perf_counter()
        await runner.run()
        backfill_seconds = time.perf_counter() - began
        began = time.perf_counter()
        report = await Verifier(store, plan, catalog).run()
        assert report.mismatches == 0, report
        return backfill_seconds, time.perf_counter() - began, (await store.read()).backfill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=["column", "table"], default="column")
    parser.add_argument("--wide", action="store_true", help="rows of some 500 bytes instead of 70")
    parser.add_argument("--workers", type=int, default=1, help="backfill.workers of the plan")
    asyncio.run(measure(parser.parse_known_args()[0]))


async def measure(options: argparse.Namespace) -> None:
    rows = options.rows
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg") as server:
            conn = await asyncpg.connect(server.dsn)
            plan = make_plan(options.kind, dsn=server.dsn, backfill={"workers": options.workers})
            single_rates, backfill_rates, verify_rates = [], [], []
            for number in range(options.rounds):
                await insert_rows(conn, rows, options.wide)
                single_rates.append(rows / await time_single_update(conn, options.kind))
                await insert_rows(conn, rows, options.wide)
                backfill_seconds, verify_seconds, record = await time_backfill(server.dsn, conn, plan)
                backfill_rates.append(rows / backfill_seconds)
                verify_rates.append(rows / verify_seconds)
                print(
                    f"round {number + 1}: one statement {single_rates[-1]:,.0f} rows/s,"
                    f" backfill {backfill_rates[-1]:,.0f} rows/s ({record.batches} batches, the last of"
                    f" {record.batch_rows} rows), verification {verify_rates[-1]:,.0f} rows/s"
                )
            await conn.close()
    single, backfill, verify = map(statistics.median, (single_rates, backfill_rates, verify_rates))
    print(
        f"{options.kind} kind, {rows:,} rows, workers {options.workers}, medians of {options.rounds} rounds:"
        f" one statement {single:,.0f} rows/s, backfill {backfill:,.0f} rows/s, ratio {backfill / single:.2f},"
        f" ratio of the best rounds {max(backfill_rates) / max(single_rates):.2f}; verification {verify:,.0f} rows/s"
    )


if __name__ == "__main__":
    main()

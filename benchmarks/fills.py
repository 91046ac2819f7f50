"""Fills of operations against the plain statement, in the same run.

    python -m benchmarks.fills [--rows 1000000] [--tables 3] [--workers 1]

It starts a PostgreSQL of its own. One table is updated by one UPDATE, the others by one release that fills them one
after the other, with the plan's defaults. Prints rows a second of each and the ratio, and the same for a column with a
computed default against the plain ADD COLUMN, which rewrites the table under its lock.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.engine.test_operations import handle, open_context, plan_of
from zdd_tui.engine.steps.operations import RunOperation
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.phase import Phase
from zdd_tui.testbed.servers import postgres_server


async def make_table(conn: asyncpg.Connection, name: str, rows: int) -> None:
    await conn.execute(
        f"CREATE TABLE {name} (id bigint PRIMARY KEY, email text, n int);"
        f"INSERT INTO {name} SELECT i, 'User' || i || '@Example.org', i FROM generate_series(1, {rows}) i"
    )
    await conn.execute(f"VACUUM ANALYZE {name}")
    await conn.execute("CHECKPOINT")


async def time_plain(conn: asyncpg.Connection, statement: str) -> float:
    began = time.perf_counter()
    await conn.execute(statement)
    return time.perf_counter() - began


async def time_release(dsn: str, operations: list[Any], workers: int) -> tuple[float, int]:
    """Seconds of the backfill phase and the batches in it."""
    plan = plan_of(dsn, *operations, backfill={"workers": workers})
    async with open_context(plan) as ctx:
        for number, _ in numbered_steps(plan, Phase.EXPAND):
            await RunOperation().run(ctx, handle(number))
        began = time.perf_counter()
        for number, _ in numbered_steps(plan, Phase.BACKFILL):
            await RunOperation().run(ctx, handle(number))
        seconds = time.perf_counter() - began
        record = (await ctx.store.read()).backfill
        assert record is not None
        assert record.status == "done", record
    return seconds, record.batches


async def measure(options: argparse.Namespace) -> None:
    rows, names = options.rows, [f"t{number}" for number in range(options.tables)]
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg") as server:
            conn = await asyncpg.connect(server.dsn)
            for kind, plain in (
                ("UPDATE", "UPDATE {} SET email = lower(email)"),
                ("ADD COLUMN uuid", "ALTER TABLE {} ADD u uuid NOT NULL DEFAULT gen_random_uuid()"),
            ):
                for name in ("plain", *names):
                    await conn.execute(f"DROP TABLE IF EXISTS {name}")
                    await make_table(conn, name, rows)
                one = rows / await time_plain(conn, plain.format("plain"))
                statements = [plain.format(name) for name in names]
                undoable = [{"sql": statement, "undo": []} for statement in statements]
                operations: list[Any] = undoable if kind == "UPDATE" else statements
                await conn.execute("DROP SCHEMA IF EXISTS zdd CASCADE")
                seconds, batches = await time_release(server.dsn, operations, options.workers)
                filled = rows * len(names) / seconds
                print(
                    f"{kind}, {rows:,} rows a table, workers {options.workers}: plain statement {one:,.0f} rows/s,"
                    f" {len(names)} tables in {batches} batches {filled:,.0f} rows/s, ratio {filled / one:.2f}"
                )
            await conn.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tables", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="backfill.workers of the plan")
    asyncio.run(measure(parser.parse_known_args()[0]))


if __name__ == "__main__":
    main()

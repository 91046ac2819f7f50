"""A key from integer to bigint, with two tables that point at it, while clients write: how long anyone waits.

    python -m benchmarks.key_widening [--rows 1000000] [--clients 4]

It starts a PostgreSQL of its own and runs the phases of the plan's operations by the engine's own steps, without a
cluster. Clients write all three tables all the time; a statement of theirs that fails ends the run. Of every phase it
prints its time and the longest transaction of a client; at the end the longest time that a step held an ACCESS
EXCLUSIVE lock, seen by a session that reads pg_locks, and that every row is what a client has written.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.engine.test_operations import handle, open_context, plan_of
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.operations import RunOperation
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import OperationsPlan
from zdd_tui.testbed.servers import postgres_server

TABLES = """
CREATE TABLE accounts (id serial PRIMARY KEY, name text NOT NULL, balance integer NOT NULL DEFAULT 0);
CREATE TABLE orders (id bigserial PRIMARY KEY, account integer NOT NULL REFERENCES accounts, total integer);
CREATE TABLE cards (number bigserial PRIMARY KEY, account integer REFERENCES accounts ON DELETE CASCADE);
INSERT INTO accounts (name) SELECT 'a' || n FROM generate_series(1, {rows}) n;
INSERT INTO orders (account, total) SELECT n, n FROM generate_series(1, {rows}) n;
INSERT INTO cards (account) SELECT n FROM generate_series(1, {rows}) n;
CREATE INDEX orders_account ON orders (account);
CREATE INDEX cards_account ON cards (account);
"""
MIGRATION = (
    "ALTER TABLE accounts ALTER id TYPE bigint; ALTER TABLE orders ALTER account TYPE bigint;"
    " ALTER TABLE cards ALTER account TYPE bigint; ALTER SEQUENCE accounts_id_seq AS bigint"
)
HELD = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0)::float8 FROM pg_locks l
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND l.relation IN ('accounts'::regclass, 'orders'::regclass,
  'cards'::regclass)
"""


class Clients:
    """Sessions that write as an application does.

    Attributes:
        longest: seconds of the longest transaction since the last reading.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn, self.longest, self.count, self.stopped = dsn, 0.0, 0, False
        self.written = dict[int, int]()

    async def write(self) -> None:
        conn = await asyncpg.connect(self.dsn)
        try:
            while not self.stopped:
                started = time.monotonic()
                async with conn.transaction():
                    key = await conn.fetchval("INSERT INTO accounts (name) VALUES ('new') RETURNING id::bigint")
                    await conn.execute("UPDATE accounts SET balance = balance + 1 WHERE id = $1", 1 + self.count % 1000)
                    order = await conn.fetchval("INSERT INTO orders (account) VALUES ($1) RETURNING id::bigint", key)
                    await conn.execute("INSERT INTO cards (account) VALUES ($1)", key)
                self.written[order] = key
                self.count += 1
                self.longest = max(self.longest, time.monotonic() - started)
                await asyncio.sleep(0.002)
        finally:
            await conn.close()

    def take_longest(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest


async def watch_locks(dsn: str, held: list[float]) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        while True:
            held.append(await conn.fetchval(HELD))
            await asyncio.sleep(0.001)
    finally:
        await conn.close()


async def run_phase(ctx: Context, plan: OperationsPlan, phase: Phase, clients: Clients) -> list[StepHandle]:
    clients.take_longest()
    began, handles, slowest = time.monotonic(), [], ("", 0.0)
    for number, spec in numbered_steps(plan, phase):
        step, started = handle(number), time.monotonic()
        await RunOperation().run(ctx, step)
        handles.append(step)
        slowest = max(slowest, (spec.label, time.monotonic() - started), key=lambda each: each[1])
    print(
        f"{phase:9} {time.monotonic() - began:7.1f} s; longest transaction of a client"
        f" {clients.take_longest() * 1000:6.0f} ms; slowest step {slowest[1]:.1f} s: {slowest[0]}",
        flush=True,
    )
    return handles


async def measure(options: argparse.Namespace, operation: Any, result: str) -> None:
    """Runs an operation on the tables forward, back from contract, and forward again.

    Args:
        operation: as in a plan.
        result: a query of one text, which says what has changed.
    """
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg", {"fsync": "on", "synchronous_commit": "on"}) as server:
            conn = await asyncpg.connect(server.dsn)
            await conn.execute(TABLES.format(rows=options.rows))
            await conn.execute("VACUUM ANALYZE")
            plan = plan_of(server.dsn, operation)
            clients, held = Clients(server.dsn), [0.0]
            tasks = [asyncio.create_task(clients.write()) for _ in range(options.clients)]
            watcher = asyncio.create_task(watch_locks(server.dsn, held))
            async with open_context(plan) as ctx:
                await asyncio.sleep(2)
                print(f"before    longest transaction of a client {clients.take_longest() * 1000:.0f} ms", flush=True)
                await run_phase(ctx, plan, Phase.EXPAND, clients)
                await run_phase(ctx, plan, Phase.BACKFILL, clients)
                done = await run_phase(ctx, plan, Phase.CONTRACT, clients)
                began = time.monotonic()
                for step in reversed(done):
                    await RunOperation().undo(ctx, step)
                print(
                    f"rollback of contract {time.monotonic() - began:.1f} s; longest transaction of a client"
                    f" {clients.take_longest() * 1000:.0f} ms",
                    flush=True,
                )
                await run_phase(ctx, plan, Phase.CONTRACT, clients)
                await run_phase(ctx, plan, Phase.CLEANUP, clients)
            clients.stopped = True
            await asyncio.gather(*tasks)  # a statement that failed is raised here
            watcher.cancel()
            found = {row[0]: row[1] for row in await conn.fetch("SELECT id, account FROM orders")}
            lost = sum(1 for order, key in clients.written.items() if found.get(order) != key)
            changed = await conn.fetchval(result)
            await conn.close()
            print(
                f"{options.rows:,} rows a table: {clients.count:,} transactions, none failed, {lost} rows differ;"
                f" {changed}; an ACCESS EXCLUSIVE lock was held for at most {max(held) * 1000:.0f} ms",
                flush=True,
            )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=4)
    return parser


def main() -> None:
    options, _ = build_parser().parse_known_args()
    asyncio.run(measure(options, MIGRATION, "SELECT 'the key is ' || pg_typeof(id) FROM accounts LIMIT 1"))


if __name__ == "__main__":
    main()

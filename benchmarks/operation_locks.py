"""The locks of operations that stop writers: how long zdd holds one, and how long the plain statement does.

    python -m benchmarks.operation_locks [--rows 300000] [--only NAME]

It starts a PostgreSQL of its own. Each operation of the table "Compared with pgroll" in docs/operations.md is a release
by the real engine on a copy of the database: forward to contract, rolled back, and forward to the end. Of each it
prints the strongest lock on a table that was there before, the longest time that a transaction with such a lock took
(forward, and in the rollback), and the time of the plain statement on another copy.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import asyncpg

from benchmarks.real_migrations import BRIEF_MODES, load_operations, open_walk, run_plainly
from zdd_tui.backends.store.client import Store
from zdd_tui.rehearsal.step_metrics import LOCK_MODES, StepMetrics
from zdd_tui.testbed.servers import PostgresServer, postgres_server

TABLES = """
CREATE TABLE owners (id int PRIMARY KEY, name text);
CREATE TABLE items (id bigint PRIMARY KEY, n int, name text, code text NOT NULL, note text, owner int NOT NULL,
  CONSTRAINT coded CHECK (code <> ''), CONSTRAINT pair UNIQUE (id, owner));
CREATE TABLE unused (id bigint PRIMARY KEY, note text);
INSERT INTO owners SELECT i, 'o' || i FROM generate_series(1, 1000) i;
INSERT INTO items SELECT i, i, 'Name ' || i, 'c' || i, 'note', 1 + i % 1000 FROM generate_series(1, {rows}) i;
INSERT INTO unused SELECT i, 'x' FROM generate_series(1, {rows}) i;
CREATE INDEX items_name ON items (name);
"""
OPERATIONS = {
    "create_table": "CREATE TABLE tags (id bigint PRIMARY KEY, item bigint REFERENCES items)",
    "rename_table": "ALTER TABLE items RENAME TO things",
    "drop_table": "DROP TABLE unused",
    "add_column": "ALTER TABLE items ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
    "drop_column": "ALTER TABLE items DROP COLUMN note",
    "rename_column": "ALTER TABLE items RENAME COLUMN name TO title",
    "alter_column: type": "ALTER TABLE items ALTER n TYPE bigint",
    "alter_column: NOT NULL": "ALTER TABLE items ALTER name SET NOT NULL",
    "alter_column: drop NOT NULL": "ALTER TABLE items ALTER code DROP NOT NULL",
    "alter_column: CHECK": "ALTER TABLE items ADD CHECK (n > 0)",
    "alter_column: FOREIGN KEY": "ALTER TABLE items ADD FOREIGN KEY (owner) REFERENCES owners",
    "alter_column: UNIQUE": "ALTER TABLE items ADD UNIQUE (n)",
    "alter_column: default": "ALTER TABLE items ALTER n SET DEFAULT 7",
    "alter_column: comment": "COMMENT ON COLUMN items.n IS 'the number'",
    "create_constraint": "ALTER TABLE items ADD CONSTRAINT triple UNIQUE (n, owner, id)",
    "drop_constraint": "ALTER TABLE items DROP CONSTRAINT coded",
    "drop_multicolumn_constraint": "ALTER TABLE items DROP CONSTRAINT pair",
    "rename_constraint": "ALTER TABLE items RENAME CONSTRAINT coded TO is_coded",
    "create_index": "CREATE INDEX ON items (lower(name))",
    "drop_index": "DROP INDEX items_name",
    "set_replica_identity": "ALTER TABLE items REPLICA IDENTITY FULL",
    "sql": "UPDATE items SET code = upper(code)",
}


async def time_plain(dsn: str, statement: str) -> float:
    """Seconds."""
    conn = await asyncpg.connect(dsn)
    try:
        began = time.perf_counter()
        await conn.execute(statement)
        return time.perf_counter() - began
    finally:
        await conn.close()


async def run_release(dsn: str, name: str, sql: str, *, is_undone: bool) -> list[StepMetrics]:
    """Every step of a release, in both directions where it is rolled back from contract."""
    metrics: list[StepMetrics] = []
    loaded = load_operations(dsn, [{"sql": sql, "undo": []} if sql.startswith("UPDATE") else sql], name)
    async with open_walk(dsn, loaded, metrics) as walk:
        for phase in walk.holder.release.strategy.phases:
            if is_undone and phase.name == "cleanup":
                await walk.roll_back("contract")
                return metrics
            await walk.run_phase(phase.name)
        await walk.finish()
    return metrics


def longest(metrics: list[StepMetrics], direction: str) -> tuple[str, float]:
    """The strongest mode that stops writers, and the milliseconds of the longest transaction with any of them."""
    found = [
        (mode, seconds)
        for each in metrics
        if (each.direction == "undo") == (direction == "undo")
        for mode, seconds in each.locks.items()
        if mode in BRIEF_MODES
    ]
    if not found:
        return "none", 0.0
    return max((mode for mode, _ in found), key=LOCK_MODES.index), 1000 * max(seconds for _, seconds in found)


async def measure_one(server: PostgresServer, name: str, sql: str) -> None:
    for database in ("plain", "by_zdd"):
        again = f"DROP DATABASE IF EXISTS {database} WITH (FORCE)", f"CREATE DATABASE {database} TEMPLATE filled"
        await run_plainly(server.dsn, again)
    plain = 1000 * await time_plain(server.dsn_for("plain"), sql)
    dsn = server.dsn_for("by_zdd")
    async with await Store.open(dsn) as store:
        await store.migrate()
    metrics = await run_release(dsn, "back", sql, is_undone=True)
    metrics += await run_release(dsn, "forward", sql, is_undone=False)
    mode, forward = longest(metrics, "run")
    _, back = longest(metrics, "undo")
    print(f"{name:28} plain {plain:5.0f} ms; zdd {mode:21} {forward:3.0f} ms, rollback {back:3.0f} ms", flush=True)


async def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg") as server:
            await run_plainly(server.dsn, ["CREATE DATABASE filled"])
            await run_plainly(server.dsn_for("filled"), [TABLES.format(rows=options.rows), "VACUUM ANALYZE"])
            for name, sql in OPERATIONS.items():
                if options.only in name:
                    await measure_one(server, name, sql)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--only", default="", help="operations whose names contain this")
    asyncio.run(measure(parser.parse_known_args()[0]))


if __name__ == "__main__":
    main()

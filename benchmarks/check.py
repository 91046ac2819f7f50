"""Seconds of `zdd advise` and `zdd check` with a database of 50 tables, locks measured on a copy of its schema.

    python -m benchmarks.check

The migration has twenty statements; the plan is that of the demo, with its cluster and Redis. The same commands without
a database show what of it is Python. Prints medians of three rounds.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from zdd_tui.demo.environment import DemoOptions, start_environment
from zdd_tui.testbed.servers import PostgresServer

ROUNDS, TABLES, STATEMENTS = 3, 50, 20
BUDGET = 10.0


async def _create_tables(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        for number in range(TABLES):
            refers = f"REFERENCES t_{number - 1}" if number else ""
            await conn.execute(
                f"CREATE TABLE t_{number} (id bigint PRIMARY KEY, parent bigint {refers}, name text, at timestamptz"
                f" DEFAULT now(), amount numeric(10, 2) CHECK (amount >= 0));"
                f" CREATE INDEX ON t_{number} (name); CREATE INDEX ON t_{number} (at)"
            )
        await conn.execute("INSERT INTO t_0 SELECT n, NULL, 'a name' FROM generate_series(1, 100000) n; ANALYZE")
    finally:
        await conn.close()


def _migration() -> str:
    lines = []
    for number in range(STATEMENTS // 4):
        lines += [
            f"ALTER TABLE t_{number} ADD COLUMN extra int",
            f"CREATE INDEX CONCURRENTLY ON t_{number} (extra)",
            f"CREATE TABLE n_{number} (id int PRIMARY KEY, t bigint REFERENCES t_{number})",
            f"DO $$ BEGIN ALTER TABLE t_{number} ADD COLUMN more text; END $$",
        ]
    return ";\n".join(lines)


def _measure(arguments: list[str], environ: dict[str, str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "zdd_tui", *arguments], env=environ, cwd=folder, capture_output=True, check=True
    )
    is_measured = "--dsn" in arguments or ("check" in arguments and "--offline" not in arguments)
    assert b"measured on PostgreSQL" in done.stdout or not is_measured, done.stdout.decode()
    return time.perf_counter() - began


def _advise(folder: Path) -> tuple[float, float]:
    """Seconds with and without a database."""
    server = PostgresServer(folder / "postgres")
    asyncio.run(server.start())
    try:
        asyncio.run(_create_tables(server.dsn))
        (folder / "m.sql").write_text(_migration())
        environ = os.environ | {"DATABASE_URL": server.dsn, "PYTHONPATH": os.pathsep.join(sys.path)}
        offline = ["advise", "--sql", "m.sql", "--deployment", "api"]
        return _medians([*offline, "--dsn", "$DATABASE_URL"], offline, environ, folder)
    finally:
        asyncio.run(server.stop())


async def _check(folder: Path) -> tuple[float, float]:
    """Seconds with and without the systems of the plan."""
    options = DemoOptions(rows=20_000, rate=1, is_fast=True)
    async with start_environment(folder, options, lambda _: None) as env:
        await _create_tables(env.postgres.dsn)
        online = ["check", str(env.plan_file)]
        environ = os.environ | env.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return await asyncio.to_thread(_medians, online, [*online, "--offline"], environ, folder)


def _medians(online: list[str], offline: list[str], environ: dict[str, str], folder: Path) -> tuple[float, float]:
    rounds = [(_measure(online, environ, folder), _measure(offline, environ, folder)) for _ in range(ROUNDS)]
    first, second = (statistics.median(column) for column in zip(*rounds, strict=True))
    return first, second


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as name:
        measured, by_rule = _advise(Path(name))
    print(
        f"check: {STATEMENTS} statements measured on a copy of {TABLES} tables in {measured:.1f} s"
        f" (budget {BUDGET:.0f} s), of which {by_rule:.1f} s without a database; median of {ROUNDS}"
    )
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as name:
        checked, offline = asyncio.run(_check(Path(name)))
    print(
        f"check: the demo's plan among {TABLES} more tables checked in {checked:.1f} s (budget {BUDGET:.0f} s),"
        f" of which {offline:.1f} s without its systems; median of {ROUNDS}"
    )


if __name__ == "__main__":
    main()

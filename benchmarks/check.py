"""Seconds of `zdd advise` with a database of 50 tables, locks measured on a copy of its schema.

    python -m benchmarks.check

The migration has twenty statements. The same command without --dsn shows what of it is Python. Prints medians of three
rounds.
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
    assert b"measured on PostgreSQL" in done.stdout or "--dsn" not in arguments, done.stdout.decode()
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as name:
        folder = Path(name)
        server = PostgresServer(folder / "postgres")
        asyncio.run(server.start())
        try:
            asyncio.run(_create_tables(server.dsn))
            (folder / "m.sql").write_text(_migration())
            environ = os.environ | {"DATABASE_URL": server.dsn, "PYTHONPATH": os.pathsep.join(sys.path)}
            offline = ["advise", "--sql", "m.sql", "--deployment", "api"]
            rounds = [
                (_measure([*offline, "--dsn", "$DATABASE_URL"], environ, folder), _measure(offline, environ, folder))
                for _ in range(ROUNDS)
            ]
        finally:
            asyncio.run(server.stop())
    measured, by_rule = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"check: {STATEMENTS} statements measured on a copy of {TABLES} tables in {measured:.1f} s"
        f" (budget {BUDGET:.0f} s), of which {by_rule:.1f} s without a database; median of {ROUNDS}"
    )


if __name__ == "__main__":
    main()

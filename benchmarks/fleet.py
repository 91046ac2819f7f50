"""The list of all releases with 50 databases and 500 releases: seconds to the first rows, share of a core, bytes.

    python -m benchmarks.fleet

One embedded server holds all databases, each with its own zdd schema, two releases that have not ended and eight that
have. While it measures, the lease and the gates of every active release change once a second, as with an agent. One
database more does not answer. 120x36. Prints medians.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from benchmarks.pseudo_terminal import PseudoTerminal
from tests.support.store import register_release
from zdd_tui.backends.store.client import Store
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PostgresServer, postgres_server

DATABASES, RELEASES, ACTIVE = 50, 10, 2
ROUNDS = 5
INTERVALS, INTERVAL_SECONDS = 3, 8.0

_END = """
UPDATE zdd.release SET state = 'done', phase = 5, finished_at = clock_timestamp() - id * interval '1 hour'
WHERE id <= $1
"""
_LEASES = """
INSERT INTO zdd.lease (release_id, epoch, holder, host, pid, ttl)
SELECT id, id, 'agent', 'host-' || id, 1, 30 FROM zdd.release WHERE state = 'planned'
"""
_GATES = """
INSERT INTO zdd.gate (release_id, name, verdict, reason, observed_at, max_age, since)
SELECT id, 'gate-' || number, 'pass', 'all is well', clock_timestamp(), 10, clock_timestamp()
FROM zdd.release, generate_series(1, 5) number WHERE state = 'planned'
"""
_CHANGE = (
    "UPDATE zdd.lease SET renewed_at = clock_timestamp()",
    "UPDATE zdd.gate SET observed_at = clock_timestamp()",
)


async def create_databases(server: PostgresServer) -> list[str]:
    """The DSNs of databases that are copies of one with releases."""
    admin = await asyncpg.connect(server.dsn)
    await admin.execute("CREATE DATABASE template_of_fleet")
    dsn = server.dsn_for("template_of_fleet")
    async with await Store.open(dsn) as store:
        await store.migrate()
        for number in range(RELEASES):
            release_id = await register_release(store, dsn, f"release-{number}")
            if number < RELEASES - ACTIVE:
                await store.pool.execute(_END, release_id)
        for statement in (_LEASES, _GATES):
            await store.pool.execute(statement)
    for number in range(DATABASES):
        await admin.execute(f"CREATE DATABASE fleet_{number} TEMPLATE template_of_fleet STRATEGY file_copy")
    await admin.close()
    return [server.dsn_for(f"fleet_{number}") for number in range(DATABASES)]


@contextmanager
def changing_releases(dsns: list[str]) -> Iterator[None]:
    """Changes every active release about once a second, from another thread."""
    stopping = threading.Event()

    async def change() -> None:
        connections = [await asyncpg.connect(dsn) for dsn in dsns]
        while not stopping.is_set():
            for connection in connections:
                for statement in _CHANGE:
                    await connection.execute(statement)
            await asyncio.sleep(1.0)
        for connection in connections:
            connection.terminate()

    thread = threading.Thread(target=lambda: asyncio.run(change()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def measure_first_rows(argv: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Seconds from the command to the first paint, and to the first rows."""
    with PseudoTerminal(argv, environ, columns=120, rows=36) as terminal:
        paint = terminal.wait_for(b"fleet")
        return paint, terminal.wait_for(b"release-9")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> None:
    async with postgres_server(folder / "postgres") as server:
        dsns = await create_databases(server)
        names = [*dsns, f"postgresql://u@127.0.0.1:{free_port()}/gone"]
        config = folder / "config.toml"
        config.write_text(
            "".join(f'[[database]]\nname = "db-{number}"\ndsn = "{dsn}"\n' for number, dsn in enumerate(names))
        )
        environ = {**os.environ, "ZDD_PLAN": ""}
        argv = [sys.executable, "-m", "zdd_tui", "fleet", "--config", str(config)]
        await asyncio.to_thread(_print_figures, argv, environ, dsns)


def _print_figures(argv: list[str], environ: dict[str, str], dsns: list[str]) -> None:
    measure_first_rows(argv, environ)  # the very first start compiles and fills the page cache
    times = [measure_first_rows(argv, environ) for _ in range(ROUNDS)]
    paint, rows = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"fleet: first paint {paint:.2f} s, first rows {rows:.2f} s after the command (budget 1), median of {ROUNDS}")
    with changing_releases(dsns), PseudoTerminal(argv, environ, columns=120, rows=36) as terminal:
        terminal.wait_for(b"release-9")
        terminal.count_for(5.0)
        rate, share = terminal.measure_cost(INTERVALS, INTERVAL_SECONDS)
        memory = terminal.memory_mb("VmRSS")
    print(
        f"fleet: {share:.1f} % of a core (budget 3), {rate:,.0f} B/s, {memory:.0f} MB: {DATABASES} databases,"
        f" {DATABASES * RELEASES} releases, {DATABASES * ACTIVE} of them changing every second"
    )


if __name__ == "__main__":
    main()

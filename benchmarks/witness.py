"""The cost of the witness: transactions a second that write both sides, with it and without it.

    python -m benchmarks.witness [--rows 100000] [--seconds 2] [--rounds 12] [--clients 4] [--no-fsync]

It starts a PostgreSQL of its own and runs its pgbench: each transaction changes one row on both sides, as V2 does. With
and without take turns in one run, so that both see the same machine; the ratio is the median of the pairs. On a machine
that does other things the processor time of a transaction (server and client) tells more than transactions a second.
`cutover` is the witness on both sides, with the sync trigger, while V2 writes both.
"""

import argparse
import asyncio
import resource
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from benchmarks.backfill import insert_rows
from tests.support.schema_change import UP, ddl, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.backends.store.witness import start_recording
from zdd_tui.model.ddl.witness import create_witness_statements, drop_witness_statements, extend_witness_statements
from zdd_tui.model.plan.base import Plan
from zdd_tui.testbed.servers import PostgresServer, postgres_server

BUDGET = 0.85
"""Least share of the throughput that is left with the witness."""

SCRIPTS = {
    "column": "UPDATE users SET first_name = 'F' || :n, last_name = '', full_name = 'F' || :n WHERE id = :id;\n",
    "table": "BEGIN;\nUPDATE users SET first_name = 'F' || :n, last_name = '' WHERE id = :id;\n"
    "UPDATE people SET full_name = 'F' || :n WHERE id = :id;\nCOMMIT;\n",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pgbench: transactions a second, and processor time of one transaction in microseconds."""

    rate: float
    cpu: float


def processor_seconds(server: PostgresServer) -> float:
    """Of the sessions of the server and the clients that have ended so far."""
    times, clients = psutil.Process(server.pid).cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(times.children_user + times.children_system) + clients.ru_utime + clients.ru_stime


async def run_pgbench(server: PostgresServer, script: Path, options: argparse.Namespace) -> Run:
    before = processor_seconds(server)
    process = await asyncio.create_subprocess_exec(
        str(server.programs_folder / "pgbench"),
        *("--no-vacuum", "--protocol=prepared", "-c", str(options.clients), "-j", "1", "-T", str(options.seconds)),
        *("-f", str(script), server.dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode())
    lines = out.decode().splitlines()
    rate = float(next(line for line in lines if line.startswith("tps = ")).split()[2])
    count = int(next(line for line in lines if "transactions actually processed" in line).rpartition(":")[2])
    await asyncio.sleep(0.2)  # the server's sessions end a little later
    return Run(rate, 1e6 * (processor_seconds(server) - before) / count)


async def switch(store: AgentStore, conn: asyncpg.Connection, plan: Plan, case: str, on: bool) -> None:
    catalog = await read_catalog(conn, plan)
    statements = drop_witness_statements(plan, catalog)
    if on and case == "cutover":
        statements = extend_witness_statements(plan, catalog)
    elif on:
        statements = create_witness_statements(plan, catalog)
    await ddl(store, statements)


async def measure_case(server: PostgresServer, folder: Path, kind: str, case: str, options: argparse.Namespace) -> None:
    conn = await asyncpg.connect(server.dsn)
    await conn.execute("DROP SCHEMA IF EXISTS zdd CASCADE; DROP TABLE IF EXISTS users, people CASCADE")
    await insert_rows(conn, options.rows, False)
    script = folder / f"{kind}.sql"
    script.write_text(f"\\set id random(1, {options.rows})\n\\set n random(1, 1000000)\n{SCRIPTS[kind]}")
    plan = make_plan(kind, dsn=server.dsn)
    pairs: list[tuple[Run, Run]] = []
    async with open_leased_store(server.dsn, plan) as store:
        await run_expand(store, plan, reverse=case == "cutover")
        if kind == "table":
            await conn.execute(f"INSERT INTO people (id, full_name, email) SELECT id, {UP}, email FROM users")
        else:
            await conn.execute(f"UPDATE users SET full_name = {UP}")
        await conn.execute("VACUUM ANALYZE")
        async with store.fenced() as fenced:
            await start_recording(fenced, store.release_id, plan.name, "3")
        await run_pgbench(server, script, options)  # warms caches up
        for number in range(options.rounds):
            found = {}
            for on in (False, True) if number % 2 == 0 else (True, False):
                await switch(store, conn, plan, case, on)
                found[on] = await run_pgbench(server, script, options)
            pairs.append((found[False], found[True]))
        recorded = await conn.fetchval("SELECT count(*) FROM zdd.witness_record")
    await conn.close()
    by_time = [with_it.rate / without.rate for without, with_it in pairs]
    by_cpu = [without.cpu / with_it.cpu for without, with_it in pairs]
    ratio = statistics.median(by_cpu)
    print(
        f"{kind:6} {case:10} by processor time {ratio:.2f} ({min(by_cpu):.2f} to {max(by_cpu):.2f}):"
        f" {statistics.median(each.cpu for each, _ in pairs):.0f} and"
        f" {statistics.median(each.cpu for _, each in pairs):.0f} us a transaction;"
        f" by transactions a second {statistics.median(by_time):.2f} ({min(by_time):.2f} to {max(by_time):.2f}):"
        f" {statistics.median(each.rate for each, _ in pairs):,.0f} and"
        f" {statistics.median(each.rate for _, each in pairs):,.0f}; {recorded} recorded;"
        f" budget {BUDGET}: {'met' if ratio >= BUDGET else 'not met'}",
        flush=True,
    )


async def measure(options: argparse.Namespace) -> None:
    settings = {} if options.no_fsync else {"fsync": "on", "synchronous_commit": "on"}
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg", settings) as server:
            for kind in SCRIPTS:
                for case in ("dual-write", "cutover"):
                    await measure_case(server, Path(folder), kind, case, options)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--no-fsync", action="store_true")
    options, _ = parser.parse_known_args()
    asyncio.run(measure(options))


if __name__ == "__main__":
    main()

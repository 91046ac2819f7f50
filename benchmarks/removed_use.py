"""What the gate before contract costs the server while it waits.

    python -m benchmarks.removed_use [--objects 20] [--functions 500] [--seconds 60]

It starts a PostgreSQL of its own, with functions whose bodies are read, and evaluates the gate as often as an agent
that waits does. Prints queries a minute and their time on the server, as pg_stat_statements has them.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import asyncpg

from tests.support.operations import open_context, plan_of
from zdd_tui.engine.gates.registry import GATES
from zdd_tui.engine.lease_session import GATE_INTERVAL
from zdd_tui.model.release.state import ReleaseState, StepStatus
from zdd_tui.model.release.strategies import REMOVED_GATE
from zdd_tui.testbed.servers import postgres_server


async def measure(options: argparse.Namespace) -> None:
    columns = [f"c{number}" for number in range(options.objects)]
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        async with postgres_server(Path(folder) / "pg") as server:
            conn = await asyncpg.connect(server.dsn)
            await conn.execute("CREATE EXTENSION pg_stat_statements")
            await conn.execute(f"CREATE TABLE t (id bigint, {', '.join(f'{name} text' for name in columns)})")
            for number in range(options.functions):
                body = f"SELECT {'a + ' * 200} c{number}"
                await conn.execute(
                    f"CREATE FUNCTION f{number}(a int, c{number} int) RETURNS int LANGUAGE sql AS '{body}'"
                )
            plan = plan_of(server.dsn, *(f"ALTER TABLE t DROP COLUMN {name}" for name in columns))
            async with open_context(plan) as ctx:
                record = await ctx.store.read()
                phase = [each.name for each in record.release.strategy.phases].index("cutover")
                release = replace(record.release, state=ReleaseState.WAITING, phase=phase)
                record = replace(record, release=release.with_status("rollout-new", StepStatus.DONE))
                await conn.execute("SELECT pg_stat_statements_reset()")
                ends = time.monotonic() + options.seconds
                while time.monotonic() < ends:
                    await GATES[REMOVED_GATE](ctx, record)
                    await asyncio.sleep(GATE_INTERVAL)
                calls, milliseconds = await conn.fetchrow(
                    "SELECT sum(calls), sum(total_exec_time) FROM pg_stat_statements"
                ) or (0, 0.0)
            await conn.close()
    minutes = options.seconds / 60
    print(
        f"removed_use: {options.objects} columns, {options.functions} functions:"
        f" {float(calls) / minutes:,.0f} queries a minute, {milliseconds / minutes:,.0f} ms of the server"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--functions", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    asyncio.run(measure(parser.parse_known_args()[0]))


if __name__ == "__main__":
    main()

"""Agents that die at step boundaries: run as a program, PLAN and a file of the boundaries that were fatal before.

Each agent is a process of its own, forked from one that has imported everything, and ends itself by SIGKILL at the
first boundary that nobody has died at yet. When one ends in another way, so does this program, with its exit code.
The next one does not wait until the lease has expired: it is made to. Other tests have agents that wait.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg

from zdd_tui.backends.kubernetes.client_import import import_client
from zdd_tui.cli.agent import run_agent
from zdd_tui.cli.parser import load_plan_file
from zdd_tui.model.release.state import PendingStep
from zdd_tui.model.sql import parse_sql

EXPIRE = "UPDATE zdd.lease SET renewed_at = renewed_at - make_interval(secs => ttl)"


def main() -> int:
    plan, deaths = sys.argv[1], Path(sys.argv[2])
    # Once, before the forks: what an agent imports when it first needs it.
    import_client()
    parse_sql("SELECT 1")

    has_died = False
    while True:
        child = os.fork()
        if child == 0:
            os._exit(_run_agent(plan, deaths, has_died))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)
        has_died = True


def _run_agent(plan: str, kills_file: Path, has_died: bool) -> int:
    known = set(kills_file.read_text().splitlines()) if kills_file.exists() else set()

    def boundary(at: str, work: PendingStep) -> None:
        place = f"{work.direction} {work.step.name} {at}"
        if place not in known:
            with kills_file.open("a") as file:
                file.write(f"{place}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> int:
        loaded = load_plan_file(plan)
        if has_died:
            connection = await asyncpg.connect(loaded.plan.database.dsn.get_secret_value())
            await connection.execute(EXPIRE)
            await connection.close()
        return await run_agent(loaded, hook=boundary)

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main())

"""Agents that die at step boundaries: run as a program, PLAN and a file of the boundaries that were fatal before.

Each agent is a process of its own, forked from one that has imported everything, and ends itself by SIGKILL at the
first boundary that nobody has died at yet. When one ends in another way, so does this program, with its exit code.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import sqlglot

from zdd_tui.backends.kubernetes.client_import import library
from zdd_tui.cli.agent import serve
from zdd_tui.cli.parser import read_plan
from zdd_tui.model.release.state import Work

TTL = 0.6


def main() -> int:
    plan, deaths = sys.argv[1], Path(sys.argv[2])
    # Once, before the forks: what an agent imports when it first needs it.
    library()
    sqlglot.parse("SELECT 1", read="postgres")

    while True:
        child = os.fork()
        if child == 0:
            os._exit(_agent(plan, deaths))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)


def _agent(plan: str, deaths: Path) -> int:
    known = set(deaths.read_text().splitlines()) if deaths.exists() else set()

    def boundary(at: str, work: Work) -> None:
        place = f"{work.direction} {work.step.name} {at}"
        if place not in known:
            with deaths.open("a") as file:
                file.write(f"{place}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    return asyncio.run(serve(read_plan(plan), ttl=TTL, boundary=boundary))


if __name__ == "__main__":
    sys.exit(main())

"""An agent in a process of its own, for test_frozen_agent.py: it says each attempt as a line of JSON.

Run as ``python -m tests.chaos.frozen_agent RELEASE MOMENT`` with $DSN. MOMENT is "idle" or "transaction": where it
waits for a line on stdin, which is where the test stops the process.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Actor, NewEvent, ReleaseRecord
from zdd_tui.model.release.state import ReleaseState


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def attempt(name: str, awaited: Awaitable[None]) -> None:
    try:
        await awaited
    except ZddError as error:
        say(tried=name, raised=type(error).__name__, title=error.title)
    else:
        say(tried=name, raised=None)


async def write_in_transaction(agent: AgentStore, wait: Callable[[], Awaitable[None]]) -> None:
    async with agent.fenced() as connection:
        await connection.execute("UPDATE users SET name = 'from the frozen one' WHERE id = 1")
        await connection.execute("ALTER TABLE users ADD frozen text")
        say(holds="locks")
        await wait()
        await connection.execute("UPDATE users SET name = 'from the woken one' WHERE id = 2")


async def write_unfenced(agent: AgentStore) -> None:
    async with agent.pool.acquire() as connection:
        await connection.execute("UPDATE users SET name = 'from the woken one' WHERE id = 3")


async def attempt_writes(agent: AgentStore, record: ReleaseRecord) -> None:
    failed = replace(record.release, state=ReleaseState.FAILED, error="from the woken one")
    reading = GateReading("zombie", Verdict.PASS, "from the woken one", 0)
    line = NewEvent("error", "from the woken one")
    await attempt("save", agent.save(failed, events=[line]))
    await attempt("save_step_note", agent.save_step_note("lint-ddl", "from the woken one"))
    await attempt("save_gates", agent.save_gates([reading]))
    await attempt(
        "complete_command", agent.complete_command(1, refused=False, outcome="from the woken one", release=failed)
    )
    await attempt("append_events", agent.append_events([line]))
    await attempt("check_lease", agent.check_lease())
    await attempt("renew_lease", agent.renew_lease())
    await attempt("unfenced", write_unfenced(agent))
    await attempt("release_lease", agent.release_lease())


async def main(release_id: int, moment: str) -> None:
    agent = await acquire_lease(os.environ["DSN"], release_id, Actor("frozen", "pod-1"))
    assert agent is not None

    async def wait() -> None:
        await asyncio.to_thread(sys.stdin.readline)
        say(remaining=agent.seconds_remaining)

    async with agent:
        await agent.renew_lease()
        record = await agent.read()
        say(epoch=agent.epoch)
        if moment == "idle":
            await wait()
        else:
            await attempt("transaction", write_in_transaction(agent, wait))
        await attempt_writes(agent, record)
    say(end=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))

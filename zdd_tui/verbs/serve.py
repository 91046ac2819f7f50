"""`zdd agent`: the process around the agent."""

import asyncio
import signal
import sys
from datetime import UTC, datetime

from zdd_tui.backends.store import Store
from zdd_tui.engine.agent import LEASE_TTL, Agent
from zdd_tui.engine.runner import Boundary
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.model.records import Actor
from zdd_tui.model.regions import refuse_foreign
from zdd_tui.model.release import State
from zdd_tui.verbs.actor import this_actor
from zdd_tui.verbs.check import check_plan
from zdd_tui.verbs.guard_check import check_guard


async def serve(
    loaded: LoadedPlan,
    *,
    if_needed: bool = False,
    anew: bool = False,
    ttl: float = LEASE_TTL,
    boundary: Boundary | None = None,
) -> int:
    """Registers the release, unless it is under way, and carries it out until it ends.

    SIGTERM and SIGINT end the agent cleanly: the lease is given back, and the next agent goes on at once.

    Args:
        if_needed: return at once where another agent holds the lease.
        anew: begin another release where the last one of this very plan has ended.

    Returns:
        0 when the release is done or rolled back, or when the agent was told to stop.

    Raises:
        ZddError: the release cannot be carried out here; nothing was changed.
    """
    actor = this_actor()
    check_guard(loaded.plan.guard)
    release_id = await register(loaded, actor, anew=anew)
    if release_id is None:
        log(f"the release of {loaded.source} has ended; to begin another: zdd agent --anew {loaded.named}")
        return 0
    if if_needed and await _held(loaded, release_id):
        log("another agent holds the lease; nothing to do")
        return 0
    agent = Agent(loaded.plan, release_id, Actor("agent", actor.host), say=log, ttl=ttl, boundary=boundary)
    carrying = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, carrying.cancel)
    try:
        ended = await carrying
    except asyncio.CancelledError:
        log("told to stop; another agent can go on at once")
        return 0
    return 0 if ended.state in (State.DONE, State.ROLLED_BACK) else 1


async def register(loaded: LoadedPlan, actor: Actor, *, anew: bool = False) -> int | None:
    """Brings the `zdd` schema up to date and registers the release, unless it is under way.

    A new release is begun only where the whole check of the plan passes; one that is under way is taken over although,
    say, Redis is away for the moment.

    Returns:
        the release's id; None where the last one of this very plan has ended and another is not asked for, so that
        an agent which is restarted for ever does not begin it again.

    Raises:
        ZddError: the plan cannot be carried out here; nothing was changed.
        Refused: a release of that name runs with another plan.
    """
    database = loaded.plan.database
    async with await Store.open(database.dsn.get_secret_value(), timeout=database.connect_timeout) as store:
        if await store.schema_version():
            await store.migrate()  # what is there already must be up to date to be read
        found = await store.find(loaded.plan.name)
        release = None
        if found is not None:
            record = await store.read(found)
            release = record.release
            if release.plan_hash == loaded.hash:
                refuse_foreign(loaded.plan, record.region)
        if release is not None and release.state.ended and release.plan_hash == loaded.hash and not anew:
            return None
        if release is None or release.state.ended:
            for line in await check_plan(loaded, offline=False):
                log(line)
            await store.migrate()
        return await store.register(
            loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=actor
        )


async def _held(loaded: LoadedPlan, release_id: int) -> bool:
    async with await Store.open(loaded.plan.database.dsn.get_secret_value()) as store:
        lease = await store.lease(release_id)
        return lease is not None and lease.live


def log(line: str) -> None:
    """One line on stderr, with the time in UTC."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    sys.stderr.write(f"{stamp}Z {line}\n")
    sys.stderr.flush()

"""Makes sure that somebody carries the release out."""

import asyncio
from pathlib import Path

from zdd_tui.backends.store import Store
from zdd_tui.model.errors import BackendError
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.verbs.detach import start_agent

AGAIN = 2.0


async def ensure_agent(loaded: LoadedPlan, plan_file: Path) -> bool:
    """Starts a detached agent unless one holds the lease, or the release has ended.

    Waits for the database as long as it is away, and for the end of the agent that it started. Two that do this at
    once do no harm: the agent that finds the lease held goes away by itself.

    Returns:
        whether one was started.

    Raises:
        ZddError: no agent could be started, or it refused the plan, or it ended in an error.
    """
    while True:
        try:
            if not await _needed(loaded):
                return False
            break
        except BackendError:
            await asyncio.sleep(AGAIN)  # the dashboard says why; we only wait
    if (error := await start_agent(plan_file, loaded.plan.name, loaded.plan.region).outcome()) is not None:
        raise error
    return True


async def _needed(loaded: LoadedPlan) -> bool:
    async with await Store.open(loaded.plan.database.dsn.get_secret_value(), application_name="zdd open") as store:
        if not await store.schema_version():
            return True
        release_id = await store.find(loaded.plan.name)
        if release_id is None:
            return True
        if (await store.read(release_id)).release.state.ended:
            return False  # another release of this name is begun by `zdd agent`, never by looking at the last one
        lease = await store.lease(release_id)
        return lease is None or not lease.live

"""The agent: waits for the lease, carries the release out while it holds it, and hands over when it loses it.

All state is in PostgreSQL. Whatever ends this process, the next agent reads it there and goes on.
"""

import asyncio
import random
from contextlib import suppress

from zdd_tui.backends.postgres.connection import FAILURES
from zdd_tui.backends.store.agent import take_lease
from zdd_tui.engine.lease_session import Say, Tenure
from zdd_tui.engine.runner import Boundary
from zdd_tui.model.errors import DatabaseError, StaleEpoch
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.state import Release

LEASE_TTL = 3.0
"""Seconds after its last renewal that a lease is free: with the retry below, a dead agent is replaced within 5 s."""
RETRY = 0.5
"""Seconds between two tries for the lease."""


class Agent:
    """Carries one release out.

    Args:
        ttl: seconds after its last renewal that the lease is free for another.
        boundary: called at step boundaries; the kill tests end the process there.
        say: takes one line of progress, for the log.
    """

    def __init__(
        self,
        plan: BasePlan,
        release_id: int,
        actor: Actor,
        *,
        say: Say,
        ttl: float = LEASE_TTL,
        boundary: Boundary | None = None,
    ) -> None:
        self._plan = plan
        self._release_id = release_id
        self._actor = actor
        self._boundary = boundary
        self._ttl = ttl
        self._say = say
        self._said = ""

    async def run(self) -> Release:
        """Waits for the lease, carries the release out, and returns when it has ended.

        A lost database or a lost lease is no end: the agent waits for the lease again, for ever.
        """
        while True:
            try:
                ended = await self._hold_lease()
                if ended is not None:
                    return ended
            except StaleEpoch as error:
                self._say(f"standing by: {error.title}")
            except (DatabaseError, *FAILURES) as error:
                self._say_once(f"trying again until it works: {error}")
            await asyncio.sleep(RETRY * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret

    def _say_once(self, line: str) -> None:
        """What stays as it is for hours must not fill the log."""
        if line != self._said:
            self._said = line
            self._say(line)

    async def _hold_lease(self) -> Release | None:
        dsn = self._plan.database.dsn.get_secret_value()
        store = await take_lease(dsn, self._release_id, self._actor, ttl=self._ttl)
        if store is None:
            self._say_once("standing by: another agent holds the lease")
            return None
        self._said = ""
        self._say(f"holding the lease, epoch {store.epoch}")
        try:
            return await Tenure(self._plan, store, self._boundary, self._say).serve()
        finally:
            with suppress(DatabaseError, *FAILURES):  # a lease that cannot be given back runs out by itself
                await store.release_lease()
            await store.close()

"""The agent: waits for the lease, carries the release out while it holds it, and hands over when it loses it.

All state is in PostgreSQL. Whatever ends this process, the next agent reads it there and goes on.
"""

from contextlib import suppress

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.engine.lease_session import LeaseSession, LogCallback
from zdd_tui.engine.runner import StepHook
from zdd_tui.model.errors import DatabaseError, StaleEpoch
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.state import Release

LEASE_TTL = 3.0
"""Seconds after its last renewal that a lease is free: with the retry below, a dead agent is replaced within 5 s."""
RETRY_SECONDS = 0.5
"""Seconds between two tries for the lease."""


class Agent:
    """Carries one release out.

    Args:
        ttl: seconds after its last renewal that the lease is free for another.
        boundary: called at step boundaries; the kill tests end the process there.
        log: takes one line of progress, for the log.
    """

    def __init__(
        self,
        plan: BasePlan,
        release_id: int,
        actor: Actor,
        *,
        log: LogCallback,
        ttl: float = LEASE_TTL,
        boundary: StepHook | None = None,
    ) -> None:
        self._plan = plan
        self._release_id = release_id
        self._actor = actor
        self._boundary = boundary
        self._ttl = ttl
        self._log = log
        self._last_logged = ""

    async def run(self) -> Release:
        """Waits for the lease, carries the release out, and returns when it has ended.

        A lost database or a lost lease is no end: the agent waits for the lease again, for ever.
        """
        backoff = Backoff(RETRY_SECONDS, RETRY_SECONDS)
        while True:
            try:
                ended = await self._run_with_lease()
                if ended is not None:
                    return ended
            except StaleEpoch as error:
                self._log(f"standing by: {error.title}")
            except (DatabaseError, *CONNECTION_ERRORS) as error:
                self._log_once(f"trying again until it works: {error}")
            await backoff.sleep()

    def _log_once(self, line: str) -> None:
        """What stays as it is for hours must not fill the log."""
        if line != self._last_logged:
            self._last_logged = line
            self._log(line)

    async def _run_with_lease(self) -> Release | None:
        dsn = self._plan.database.dsn.get_secret_value()
        store = await acquire_lease(dsn, self._release_id, self._actor, ttl=self._ttl)
        if store is None:
            self._log_once("standing by: another agent holds the lease")
            return None
        self._last_logged = ""
        self._log(f"holding the lease, epoch {store.epoch}")
        try:
            return await LeaseSession(self._plan, store, self._boundary, self._log).run()
        finally:
            with suppress(DatabaseError, *CONNECTION_ERRORS):  # a lease that cannot be given back runs out by itself
                await store.release_lease()
            await store.close()

"""The agent: waits for the lease, runs the release while it holds the lease, and waits again when it loses it.

All state is in PostgreSQL. Whatever ends this process, the next agent reads the state and continues.
"""

from contextlib import suppress

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.engine.lease_session import LeaseSession, LogCallback, PlanCheck
from zdd_tui.engine.runner import StepHook
from zdd_tui.model.errors import DatabaseError, StaleEpoch
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.state import Release

LEASE_TTL = 3.0
"""Seconds from its last renewal until a lease expires. With the retries below a dead agent is replaced within 5 s."""
RETRY_SECONDS = 0.6
"""The longest pause between two attempts to acquire the lease."""


class Agent:
    """Runs one release.

    Args:
        log: receives one line of progress at a time.
        check: checks the plan and its systems before the release starts, as ``zdd check`` does; a ZddError refuses
            the start. A release that has started is resumed without it. None: no check.
        ttl: seconds from the last renewal until the lease expires.
        boundary: called at step boundaries; the crash tests end the process there.
    """

    def __init__(
        self,
        plan: BasePlan,
        release_id: int,
        actor: Actor,
        *,
        log: LogCallback,
        check: PlanCheck | None = None,
        ttl: float = LEASE_TTL,
        boundary: StepHook | None = None,
    ) -> None:
        self._plan = plan
        self._release_id = release_id
        self._actor = actor
        self._check = check
        self._boundary = boundary
        self._ttl = ttl
        self._log = log
        self._last_logged = ""

    async def run(self) -> Release:
        """Runs the release to its end and returns it. A lost database or lease is retried without limit."""
        backoff = Backoff(RETRY_SECONDS, RETRY_SECONDS)
        while True:
            try:
                ended = await self._run_with_lease()
                if ended is not None:
                    return ended
            except StaleEpoch as error:
                self._log(f"standing by: {error.title}")
            except (DatabaseError, *CONNECTION_ERRORS) as error:
                self._log_once(f"retrying until it works: {error}")
            await backoff.sleep()

    async def _run_with_lease(self) -> Release | None:
        """Returns the ended release; None when another agent holds the lease."""
        dsn = self._plan.database.dsn.get_secret_value()
        store = await acquire_lease(dsn, self._release_id, self._actor, ttl=self._ttl)
        if store is None:
            self._log_once("standing by: another agent holds the lease")
            return None
        self._last_logged = ""
        self._log(f"holding the lease, epoch {store.epoch}")
        try:
            return await LeaseSession(self._plan, store, self._boundary, self._log, self._check).run()
        finally:
            try:
                with suppress(DatabaseError, *CONNECTION_ERRORS):  # a lease that cannot be released expires
                    await store.release_lease()
            finally:  # also where the release has ended, and the agent is stopped in this moment
                await store.close()

    def _log_once(self, line: str) -> None:
        """Logs a state that may last for hours once, not at every attempt."""
        if line != self._last_logged:
            self._last_logged = line
            self._log(line)

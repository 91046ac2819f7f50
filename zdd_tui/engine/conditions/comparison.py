"""Compares both sides of all rows again after a breach, beside the steps, in the phases after the backfill."""

import asyncio
from collections.abc import Callable

import asyncpg

from zdd_tui.backends.postgres.connection import is_session_lost
from zdd_tui.backends.store import backfill
from zdd_tui.engine.backfill.verify import Verifier, VerifyReport
from zdd_tui.engine.context import Context
from zdd_tui.model.errors import PlanError, StepFailed

REPEAT_SECONDS = 5.0
"""Seconds until rows that differ are compared again."""


class RowComparison:
    """At most one comparison at a time. Its result counts only if it was not stopped by another breach.

    Args:
        on_end: called when a comparison has ended.
    """

    def __init__(self, ctx: Context, on_end: Callable[[], None]) -> None:
        self._ctx = ctx
        self._on_end = on_end
        self._task: asyncio.Task[VerifyReport] | None = None

    def start(self, *, delay: bool = False) -> None:
        """Starts a comparison unless one runs."""
        if self._task is None:
            self._task = asyncio.create_task(self._compare(REPEAT_SECONDS if delay else 0.0))
            self._task.add_done_callback(lambda _: self._on_end())

    def stop(self) -> None:
        """Discards the comparison that runs: what it has compared may have changed."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def result(self) -> VerifyReport | None:
        """The report of a comparison that has ended, once. Its failure is raised."""
        if self._task is None or not self._task.done():
            return None
        task, self._task = self._task, None
        return None if task.cancelled() else task.result()

    async def _compare(self, delay: float) -> VerifyReport:
        while True:
            await asyncio.sleep(delay)
            try:
                async with self._ctx.store.fenced() as conn:
                    await backfill.reset_verification(conn, self._ctx.store.release_id)
                catalog = await self._ctx.catalog(fresh=True)
                verifier = Verifier(self._ctx.store, self._ctx.expand_contract_plan, catalog)
                return await verifier.run(lambda: False, self._ctx.current_limits)
            except (StepFailed, PlanError, asyncpg.PostgresError) as error:
                if is_session_lost(error):
                    raise
                delay = REPEAT_SECONDS  # the schema may be changed just now, which is a breach of its own
                self._ctx.log(f"the rows could not be compared: {error}")

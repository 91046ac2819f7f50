"""Compares both sides of rows again after a breach, beside the steps, in the phases after the backfill."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from zdd_tui.backends.postgres.connection import is_session_lost
from zdd_tui.backends.postgres.recent_writes import RecentWrites
from zdd_tui.engine.context import Context
from zdd_tui.engine.recent_writes import compare_since_verification, copy_unwritten, describe_differing, save_differing
from zdd_tui.model.errors import PlanError, StepFailed

REPEAT_SECONDS = 5.0
"""Seconds until rows that differ are compared again."""


Compare = Callable[[], Awaitable[str]]
"""Compares; returns which rows differ, or nothing."""


class RowComparison:
    """At most one comparison at a time. Its result counts only if it was not stopped by another breach.

    Args:
        compare: repeated while it cannot be done.
        on_end: called when a comparison has ended.
    """

    def __init__(self, ctx: Context, compare: Compare, on_end: Callable[[], None]) -> None:
        self._ctx = ctx
        self._compare = compare
        self._on_end = on_end
        self._task: asyncio.Task[str] | None = None

    def start(self, *, delay: bool = False) -> None:
        """Starts a comparison unless one runs."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(REPEAT_SECONDS if delay else 0.0))
            self._task.add_done_callback(lambda _: self._on_end())

    def stop(self) -> None:
        """Discards the comparison that runs: what it has compared may have changed."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def result(self) -> str | None:
        """The result of a comparison that has ended, once. Its failure is raised."""
        if self._task is None or not self._task.done():
            return None
        task, self._task = self._task, None
        return None if task.cancelled() else task.result()

    async def _run(self, delay: float) -> str:
        while True:
            await asyncio.sleep(delay)
            try:
                return await self._compare()
            except (StepFailed, PlanError, asyncpg.PostgresError) as error:
                if is_session_lost(error):
                    raise
                delay = REPEAT_SECONDS  # the schema may be changed just now, which is a breach of its own
                self._ctx.log(f"the rows could not be compared: {error}")


async def describe_written_rows(ctx: Context) -> str:
    """Compares both sides of the rows of a ``change:``; returns which differ, or nothing."""
    result = await compare_written_rows(ctx)
    return await describe_differing(ctx, result) if result.differing else ""


async def compare_written_rows(ctx: Context) -> RecentWrites:
    """Compares both sides of the rows of a ``change:``, and stores those that differ."""
    is_column = ctx.expand_contract_plan.change.kind == "column"
    record = await ctx.store.read()
    # V3 deletes rows of the new table too; nobody has recorded those of which the old row is left.
    is_known = is_column or not record.release.status("rollout-v3").has_effect
    result = await compare_since_verification(ctx, record, only_recent=is_known)
    has_v3 = record.release.status("rollout-v3").has_effect
    if result.differing and has_v3 and await copy_unwritten(ctx, record, result.differing):
        result = await compare_since_verification(ctx, record, only_recent=is_known)
    await save_differing(ctx, result)
    return result

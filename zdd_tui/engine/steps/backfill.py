"""Backfill: copies old rows in batches, then compares every row."""

from functools import partial

from zdd_tui.backends.postgres.recent_writes import read_horizon
from zdd_tui.backends.store.conditions import was_breached
from zdd_tui.backends.store.witness import read_continuity
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.witness import settle_until_unchanged
from zdd_tui.model.counting import count_noun
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.errors import StepFailed


async def _change_runner(ctx: Context) -> BackfillRunner:
    return BackfillRunner(ctx.store, ChangeJob(ctx.expand_contract_plan, await ctx.catalog(fresh=True)))


class PrepareBackfill:
    """Updates statistics, fixes the upper bound and checks the query plan of a batch."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await (await _change_runner(ctx)).prepare()

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The ranges stay as a record of this release."""


class CopyRows:
    """Runs the batches. The next agent continues after the last checkpoint."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        runner = await _change_runner(ctx)
        await runner.run(ctx.is_paused, ctx.current_limits)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Marks the backfill as cancelled. The undo of expand drops the copied rows with the new schema."""
        await (await _change_runner(ctx)).mark_cancelled()


class VerifyRows:
    """Compares both sides of every row.

    Rows that the witness has recorded are copied first. After a breach of a standing condition every row that differs
    is copied again.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        if "since" not in step.detail:
            async with ctx.read_connection() as conn:
                witness = await read_continuity(conn, ctx.expand_contract_plan)
                await step.save_detail(since=await read_horizon(conn), witness=witness)
        async with ctx.read_connection() as conn:
            repairs = await was_breached(conn, ctx.store.release_id)
        settle = partial(settle_until_unchanged, ctx)
        verifier = Verifier(
            ctx.store, ctx.expand_contract_plan, await ctx.catalog(fresh=True), repairs=repairs, settle=settle
        )
        report = await verifier.run(ctx.is_paused, ctx.current_limits)
        if report.mismatches:
            differ = f"{report.mismatches:,} of {count_noun(report.rows, 'row')} differ"
            raise StepFailed(
                f"{differ}, for example key {report.samples[0]}",
                "see zdd.mismatch; correct the rows or the expressions in change.up, then advance again",
            )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The verification only reads."""

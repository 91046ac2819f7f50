"""Backfill: old rows are moved in batches, then every row is compared."""

from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.model.errors import StepFailed


class PrepareBackfill:
    """Statistics, the fixed upper bound, and a look at the batch's plan."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await BackfillRunner(ctx.store, ctx.expand_contract_plan, await ctx.catalog(fresh=True)).prepare()

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The ranges stay as a record; they belong to this release alone."""


class MoveRows:
    """The batches. Cut off anywhere, the next agent goes on at the last checkpoint."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        runner = BackfillRunner(ctx.store, ctx.expand_contract_plan, await ctx.catalog(fresh=True))
        await runner.run(ctx.is_paused, ctx.current_limits)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """What was moved goes with the new schema; only the backfill's own record says that it was stopped."""
        await BackfillRunner(ctx.store, ctx.expand_contract_plan, await ctx.catalog(fresh=True)).mark_cancelled()


class VerifyRows:
    """Compares both sides of every row."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        verifier = Verifier(ctx.store, ctx.expand_contract_plan, await ctx.catalog(fresh=True))
        report = await verifier.run(ctx.is_paused, ctx.current_limits)
        if report.mismatches:
            raise StepFailed(
                f"{report.mismatches} of {report.rows} rows differ, such as key {report.samples[0]}",
                "see zdd.mismatch; mend the rows or the expressions in change.up, then advance again",
            )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Nothing was changed."""

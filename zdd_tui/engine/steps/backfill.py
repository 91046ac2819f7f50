"""Backfill: copies old rows in batches, then compares every row."""

from functools import partial

from zdd_tui.backends.postgres.recent_writes import read_horizon, usable_marker
from zdd_tui.backends.postgres.row_visibility import require_all_rows_visible
from zdd_tui.backends.store.backfill import save_verified_page
from zdd_tui.backends.store.conditions import was_breached
from zdd_tui.backends.store.witness import read_continuity
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.recent_writes import find_marker
from zdd_tui.engine.steps.witness import require_sides_agree
from zdd_tui.engine.witness import settle_until_unchanged
from zdd_tui.model.counting import count_noun
from zdd_tui.model.ddl.jobs import ChangeJob, list_read_tables
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
    is copied again; where all rows had been compared before it, only those that were written since then are.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        if "since" not in step.detail:
            async with ctx.read_connection() as conn:
                witness = await read_continuity(conn, ctx.expand_contract_plan)
                await step.save_detail(since=await read_horizon(conn), witness=witness)
        async with ctx.read_connection() as conn:
            repairs = await was_breached(conn, ctx.store.release_id)
        if repairs and await self._compare_recent_rows(ctx, step):
            return
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
        await step.save_detail(compared=report.rows)

    async def _compare_recent_rows(self, ctx: Context, step: StepHandle) -> bool:
        """Verifies again by the rows that were written since the verification began whose result was withdrawn.

        Returns:
            False where it is not known which these are: then every row is compared.
        """
        record = await ctx.store.read()
        if "compared" not in step.detail or record.backfill is None or record.backfill.verified:
            return False
        if await usable_marker(ctx.read_connection, await find_marker(ctx, record)) is None:
            return False
        await require_sides_agree(ctx, step)
        async with ctx.store.fenced() as conn:
            await require_all_rows_visible(conn, list_read_tables(ctx.expand_contract_plan))
            rows = int(step.detail["compared"])
            await save_verified_page(conn, ctx.store.release_id, rows=rows, mismatches=[], done=True, max_kept=0)
        return True

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The verification only reads."""

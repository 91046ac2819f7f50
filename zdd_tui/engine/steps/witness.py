"""The witness, and the comparison of what was written since the verification."""

from zdd_tui.backends.postgres.recent_writes import Disagreement, RecentWrites
from zdd_tui.backends.store import witness as store
from zdd_tui.backends.store.backfill import Key
from zdd_tui.engine.backfill.repair import repair_row
from zdd_tui.engine.backfill.transaction import RETRYABLE_ERRORS
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.continuity import check_continuity, save_with_step
from zdd_tui.engine.recent_writes import compare_since_verification, copy_unwritten, describe_differing
from zdd_tui.engine.rollback_rows import require_settled, settle_all_rows
from zdd_tui.engine.steps.expand import change_schema, run_statements
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.witness import (
    create_witness_statements,
    drop_witness_statements,
    extend_witness_statements,
    reduce_witness_statements,
)
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.witness import WitnessMode

REPAIR_TRIES = 20
"""How often a row that another transaction holds is tried, each time for the lock timeout of a batch."""


class CreateWitness:
    """Creates the witness on the old table. It records nothing until the write flag is on."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: create_witness_statements(ctx.expand_contract_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: drop_witness_statements(ctx.expand_contract_plan, catalog))


class ExtendWitness:
    """From cutover on the new side is watched too."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        statements = extend_witness_statements(ctx.expand_contract_plan, await ctx.catalog(fresh=True))
        await run_statements(ctx, step, statements, then=save_with_step(ctx, step))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await require_settled(ctx, step)
        await change_schema(ctx, step, lambda catalog: reduce_witness_statements(ctx.expand_contract_plan, catalog))


class DropWitness:
    """Removes the witness, and notes whether it was in force all the time. The undo creates it again, for the archived
    side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        continuity = await check_continuity(ctx, await ctx.store.read())
        if continuity.witness or not step.detail:  # a second attempt finds none
            await step.save_detail(unbroken=continuity.witness)
        await change_schema(ctx, step, lambda catalog: drop_witness_statements(ctx.expand_contract_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: extend_witness_statements(ctx.expand_contract_plan, catalog))


async def arm_witness(ctx: Context, since: str) -> None:
    """Starts recording. Every pod writes both sides from the transaction of the marker on."""
    if ctx.expand_contract_plan.change.has_witness:
        async with ctx.store.fenced() as conn:
            await store.start_recording(conn, ctx.store.release_id, ctx.plan.name, since.partition("@")[0])


async def disarm_witness(ctx: Context) -> None:
    """Stops recording: from now on pods may write the old side alone."""
    if ctx.expand_contract_plan.change.has_witness:
        async with ctx.store.fenced() as conn:
            await store.stop_recording(conn, ctx.store.release_id)


class CompareRecentWrites:
    """Compares what was written since the verification began, or every row where that is not known.

    Before V3 the old side is right, and a row that differs is copied again. After V3 a row is copied to the old side
    where the new side is proved to be the only newer one. Else nothing is overwritten: the step fails and names the row
    and its writer.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        result, repaired = await require_sides_agree(ctx, step)
        await step.save_detail(rows=result.rows, repaired=repaired, whole=result.is_whole)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """A row that was copied again stays as it is."""


async def require_sides_agree(ctx: Context, step: StepHandle) -> tuple[RecentWrites, int]:
    """The comparison that has found no difference, and how many rows were copied from the old side for it.

    Raises:
        StepFailed: rows differ; a row and its writer are named.
    """
    record = await ctx.store.read()
    old_is_right = not record.release.status("rollout-v3").has_effect
    result = await compare_since_verification(ctx, record, on_progress=step.set_note)
    repaired = 0
    if result.differing and old_is_right:
        repaired = await _repair_rows(ctx, result.differing)
        result = await compare_since_verification(ctx, record, on_progress=step.set_note)
    elif result.differing:
        await settle_all_rows(ctx, record, WitnessMode.NEW_IS_RIGHT)
        await copy_unwritten(ctx, record, result.differing)
        result = await compare_since_verification(ctx, record, on_progress=step.set_note)
    if result.differing:
        raise StepFailed(
            await describe_differing(ctx, result),
            "find what wrote only one side and stop it, correct the row so that both sides agree,"
            " then advance again; or roll back",
        )
    return result, repaired


async def _repair_rows(ctx: Context, differing: tuple[Disagreement, ...]) -> int:
    catalog, repaired = await ctx.catalog(), 0
    for each in differing:
        repaired += await _repair_row(ctx, catalog, each.key)
    return repaired


async def _repair_row(ctx: Context, catalog: Catalog, key: Key) -> bool:
    for _ in range(REPAIR_TRIES):
        try:
            async with ctx.store.fenced() as conn:
                return not await repair_row(conn, ctx.expand_contract_plan, catalog, key)
        except RETRYABLE_ERRORS:
            continue
    return False

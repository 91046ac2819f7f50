"""The witness, and the comparison of what was written since the verification."""

from zdd_tui.backends.postgres.gate_queries import list_enabled_triggers
from zdd_tui.backends.postgres.recent_writes import Disagreement, RecentWrites, compare_recent_writes
from zdd_tui.backends.store import witness as store
from zdd_tui.backends.store.backfill import Key
from zdd_tui.engine.backfill.repair import repair_row
from zdd_tui.engine.backfill.transaction import RETRYABLE_ERRORS
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import find_step_record
from zdd_tui.engine.steps.expand import change_schema
from zdd_tui.engine.witness import tolerated_keys
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.witness import (
    create_witness_statements,
    drop_witness_statements,
    expected_triggers,
    extend_witness_statements,
    reduce_witness_statements,
)
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.witness import WitnessMode, accepts_down, describe_writers, witness_mode

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
        await change_schema(ctx, step, lambda catalog: extend_witness_statements(ctx.expand_contract_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: reduce_witness_statements(ctx.expand_contract_plan, catalog))


class DropWitness:
    """Removes the witness. The undo creates it again, for the archived side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
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

    Before V3 the old side is right, and a row that differs is copied again. After V3 nothing is overwritten: the step
    fails and names the row and its writer.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        record = await ctx.store.read()
        old_is_right = not record.release.status("rollout-v3").has_effect
        result = await self._compare(ctx, step, record)
        repaired = 0
        if result.differing and old_is_right:
            repaired = await self._repair(ctx, result.differing)
            result = await self._compare(ctx, step, record)
        if result.differing:
            raise await self._failure(ctx, result)
        await step.save_detail(rows=result.rows, repaired=repaired, whole=result.is_whole)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """A row that was copied again stays as it is."""

    async def _compare(self, ctx: Context, step: StepHandle, record: ReleaseRecord) -> RecentWrites:
        plan, catalog = ctx.expand_contract_plan, await ctx.catalog(fresh=True)
        since = await self._marker(ctx, record)
        await step.set_note("comparing every row" if since is None else "comparing rows written since the verification")
        async with ctx.read_connection() as conn:
            ignored = await tolerated_keys(ctx, conn)
        return await compare_recent_writes(
            ctx.read_connection,
            plan,
            catalog,
            since,
            either=accepts_down(record.release),
            ignored=ignored,
            on_progress=step.set_note,
        )

    async def _marker(self, ctx: Context, record: ReleaseRecord) -> str | None:
        """The transaction id of the verification; None where rows may have been deleted without a record."""
        plan = ctx.expand_contract_plan
        step = find_step_record(record, "verify-rows")
        detail = step.detail if step else {}
        if not plan.change.witness or "since" not in detail:
            return None
        if plan.change.kind == "column":  # a row that is gone is gone on both sides
            return str(detail["since"])
        if not plan.change.has_witness or witness_mode(record.release) is WitnessMode.OFF:
            return None
        async with ctx.read_connection() as conn:
            expected = expected_triggers(plan, both_sides=False)
            if set(expected) - await list_enabled_triggers(conn, expected):
                return None
            continuity = await store.read_continuity(conn, plan)
        return str(detail["since"]) if continuity == detail.get("witness") else None

    async def _repair(self, ctx: Context, differing: tuple[Disagreement, ...]) -> int:
        catalog, repaired = await ctx.catalog(), 0
        for each in differing:
            repaired += await self._repair_row(ctx, catalog, each.key)
        return repaired

    async def _repair_row(self, ctx: Context, catalog: Catalog, key: Key) -> bool:
        for _ in range(REPAIR_TRIES):
            try:
                async with ctx.store.fenced() as conn:
                    return not await repair_row(conn, ctx.expand_contract_plan, catalog, key)
            except RETRYABLE_ERRORS:
                continue
        return False

    async def _failure(self, ctx: Context, result: RecentWrites) -> StepFailed:
        first = result.differing[0]
        async with ctx.store.fenced() as conn:
            await store.move_records(conn, ctx.store.release_id)
            writers = await store.read_writers_of(conn, ctx.store.release_id, [first.key])
        who = f", written by {describe_writers(writers)}" if writers else ""
        scope = "rows" if result.is_whole else "rows written since the verification"
        return StepFailed(
            f"{len(result.differing):,} of {result.rows:,} {scope} differ, for example key {first}{who}",
            "find what wrote only one side and stop it, correct the row on the side that is wrong,"
            " then advance again; or roll back",
        )

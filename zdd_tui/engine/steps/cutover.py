"""Cutover: reads move to the new side, soak there, and V3, which knows only the new side, is rolled out."""

import asyncio

from zdd_tui.backends.postgres.gate_queries import snapshot_marker
from zdd_tui.backends.postgres.recent_writes import read_horizon
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.rollback_rows import require_no_loss, require_settled
from zdd_tui.engine.steps.expand import change_schema, install_sync
from zdd_tui.engine.steps.flags import save_flag_values, set_flag_and_wait, undo_flag_share
from zdd_tui.engine.steps.new_side import advance_sequences, keep_sequences_apart
from zdd_tui.engine.steps.rollout import roll_out, save_current_image
from zdd_tui.engine.steps.snapshots import wait_for_snapshots
from zdd_tui.engine.steps.undo import roll_back
from zdd_tui.engine.witness import settle_until_unchanged
from zdd_tui.model.ddl import undo_reverse_statements
from zdd_tui.model.duration import format_duration
from zdd_tui.model.flag import ON, FlagValue


class SyncReverse:
    """Installs the trigger that copies changes of the new side to the old side, so that rollback stays possible.

    The undo drops nothing while V3 has written a row that the trigger did not copy: the rollback would lose it. Reads
    and pods are back on the old side by then.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await install_sync(ctx, step, "reverse")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await require_no_loss(ctx, step)
        await change_schema(ctx, step, lambda catalog: undo_reverse_statements(ctx.expand_contract_plan, catalog))


class ReadRamp:
    """Sends a share of the reads to the new side for a while, as in a canary, under the guard."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        assert step.value is not None, f"{step.name} has no share"
        await _prepare_reads(ctx, step, is_first_step=self._is_first(ctx, step))
        key = ctx.expand_contract_plan.flags.read
        await save_flag_values(ctx, step, key)
        await set_flag_and_wait(ctx, step, key, FlagValue(step.value))
        await _wait_until_deadline(
            ctx, step, ctx.expand_contract_plan.cutover.hold, f"{step.value}% of reads use the new side"
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _move_reads_back(ctx, step, is_first_step=self._is_first(ctx, step))

    def _is_first(self, ctx: Context, step: StepHandle) -> bool:
        return step.value == ctx.expand_contract_plan.cutover.ramp[0]


class ReadFlagOn:
    """Switches all reads to the new side with one flag."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _prepare_reads(ctx, step, is_first_step=not ctx.expand_contract_plan.cutover.ramp)
        key = ctx.expand_contract_plan.flags.read
        await save_flag_values(ctx, step, key)
        await set_flag_and_wait(ctx, step, key, ON)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _move_reads_back(ctx, step, is_first_step=not ctx.expand_contract_plan.cutover.ramp)


async def _prepare_reads(ctx: Context, step: StepHandle, *, is_first_step: bool) -> None:
    """What is recorded is copied before each share of reads: V2 that reads the new side would overwrite it. What is
    written later is copied at its commit.

    Before the first share it also waits for transactions from before the backfill: REPEATABLE READ and SERIALIZABLE
    ones would read the flag of now and the new side of then, where rows have no value yet.
    """
    await settle_until_unchanged(ctx)
    if is_first_step:
        await wait_for_snapshots(ctx, step)


async def _move_reads_back(ctx: Context, step: StepHandle, *, is_first_step: bool) -> None:
    """Switches the read flag back, once no row is left that V2 could overwrite from the old side."""
    if "flags_before" in step.detail:
        await require_settled(ctx, step)
    await undo_flag_share(ctx, step, ctx.expand_contract_plan.flags.read, is_first_step=is_first_step)


class Soak:
    """Waits for the soak time of the plan. A restart of the agent does not restart the soak."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _wait_until_deadline(ctx, step, ctx.plan.gates.soak, "soaking")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await step.save_detail(until=None)


class RolloutV3:
    """Rolls out V3, which knows only the new side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await save_current_image(ctx, step)
        # The old side has given out more values since the step before, where this one failed and is repeated.
        await advance_sequences(ctx)
        image = ctx.expand_contract_plan.kubernetes.images.v3
        if "began" not in step.detail:
            async with ctx.read_connection() as conn:
                await step.save_detail(began=await read_horizon(conn))
        async with keep_sequences_apart(ctx, step):
            await roll_out(ctx, step, image, f"zdd {ctx.plan.name}: V3 knows only the new side")
        if "since" not in step.detail:
            async with ctx.read_connection() as conn:
                await step.save_detail(since=await snapshot_marker(conn))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if before := step.detail.get("image_before"):
            await require_settled(ctx, step)
            await roll_back(ctx, step, before, f"zdd {ctx.plan.name}: rolled back to V2")


async def _wait_until_deadline(ctx: Context, step: StepHandle, seconds: float, note: str) -> None:
    if not step.detail.get("until"):
        # The agent that ends the wait may run on another machine; both use the database's clock.
        await step.save_detail(until=await _read_database_time(ctx) + seconds)
    while (left := step.detail["until"] - await _read_database_time(ctx)) > 0:
        await step.set_note(f"{note}: {format_duration(left)} left")
        await asyncio.sleep(min(1.0, left))


async def _read_database_time(ctx: Context) -> float:
    async with ctx.read_connection() as conn:
        return float(await conn.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))

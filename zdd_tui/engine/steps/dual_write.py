"""Dual-write: V2 is rolled out, then the write flag makes it write both sides."""

from zdd_tui.backends.postgres.gate_queries import read_newest_key, snapshot_marker
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import retry_redis
from zdd_tui.engine.steps.flags import (
    create_flags,
    delete_created_flags,
    restore_flags,
    save_flag_values,
    set_flag_and_wait,
)
from zdd_tui.engine.steps.rollout import roll_out, save_current_image
from zdd_tui.engine.steps.undo import restore_annotations, roll_back
from zdd_tui.engine.steps.witness import arm_witness, disarm_witness
from zdd_tui.model.flag import ON


class RolloutV2:
    """Creates the flags that V2 reads, then rolls out V2. The undo rolls out the image before it, then removes the
    flags and our annotations."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await save_current_image(ctx, step)
        await create_flags(ctx, step)
        await roll_out(
            ctx, step, ctx.expand_contract_plan.kubernetes.images.v2, f"zdd {ctx.plan.name}: V2 writes both sides"
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        before = step.detail.get("image_before")
        if before is None:
            return
        await roll_back(ctx, step, before, f"zdd {ctx.plan.name}: rolled back")
        await delete_created_flags(ctx, step)
        await restore_annotations(ctx, step)


class WriteFlagOn:
    """Turns the write flag on and saves the transaction from which on rows must agree."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        key = ctx.expand_contract_plan.flags.write
        await save_flag_values(ctx, step, key)
        await set_flag_and_wait(ctx, step, key, ON)
        if "since" not in step.detail:
            async with ctx.read_connection() as conn:
                newest = await read_newest_key(conn, await ctx.catalog())
                await step.save_detail(since=await snapshot_marker(conn), newest_key=newest)
        await arm_witness(ctx, step.detail["since"])

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await disarm_witness(ctx)
        await restore_flags(ctx, step)
        await retry_redis(ctx, step, lambda: ctx.flags.expire_fences([ctx.expand_contract_plan.flags.write]))

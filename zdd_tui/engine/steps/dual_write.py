"""Dual-write: V2 is rolled out, then writes both sides behind the write flag."""

from zdd_tui.backends.postgres.gate_queries import mark, newest_key
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import effect
from zdd_tui.engine.steps.flags import remember_flag, restore, switch
from zdd_tui.engine.steps.rollout import remember_image, roll_out
from zdd_tui.model.flag import ON


class RolloutV2:
    """The Deployment runs V2; the undo brings back the image that ran before and takes our marks away."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await remember_image(ctx, step)
        await roll_out(ctx, step, ctx.change_plan.kubernetes.images.v2, f"zdd {ctx.plan.name}: V2 writes both sides")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        before = step.detail.get("image_before")
        if before is None:
            return
        await roll_out(ctx, step, before, f"zdd {ctx.plan.name}: rolled back")
        cause = step.detail.get("change_cause_before")
        await effect(
            ctx,
            step,
            lambda: ctx.cluster.clear_marks(ctx.plan.kubernetes.deployment, epoch=ctx.epoch, change_cause=cause),
        )


class WriteFlagOn:
    """The write flag is on for everybody; remembers from which transaction on rows must agree."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await remember_flag(ctx, step, ctx.change_plan.flags.write)
        await switch(ctx, step, ctx.change_plan.flags.write, ON)
        if "since" not in step.detail:
            async with ctx.reading() as conn:
                newest = await newest_key(conn, await ctx.catalog())
                await step.remember(since=await mark(conn), newest_key=newest)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore(ctx, step)
        await effect(ctx, step, lambda: ctx.flags.forget([ctx.change_plan.flags.write]))

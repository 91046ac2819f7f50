"""Dark launch: one flag for the share of requests that compare both paths, one for the share of users on the new."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import read_pod_counters
from zdd_tui.engine.retry import retry_redis, with_retry
from zdd_tui.engine.steps.flags import restore_flags, save_flag_values, set_flag_and_wait, undo_flag_share
from zdd_tui.model.flag import OFF, FlagValue
from zdd_tui.model.plan.strategies import DarkLaunchPlan


class SetShadow:
    """Raises the share of requests that run both paths. The counters of now are saved as the base of the phase."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _set_flag(ctx, step, ctx.plan_of_type(DarkLaunchPlan).flags.shadow)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(DarkLaunchPlan)
        await undo_flag_share(ctx, step, plan.flags.shadow, is_first_step=step.value == plan.dark.shadow[0])


class SetRead:
    """Raises the share of users on the new path. The first undo moves all users to the old path at once."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _set_flag(ctx, step, ctx.plan_of_type(DarkLaunchPlan).flags.read)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(DarkLaunchPlan)
        await undo_flag_share(ctx, step, plan.flags.read, is_first_step=step.value == plan.dark.ramp[0])


class ShadowOff:
    """Stops the comparisons. The read flag stays on: the image has both paths, and without the flag the next pod would
    use the old one."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        key = ctx.plan_of_type(DarkLaunchPlan).flags.shadow
        await save_flag_values(ctx, step, key)
        await set_flag_and_wait(ctx, step, key, OFF)
        await retry_redis(ctx, step, lambda: ctx.flags.delete(key, epoch=ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore_flags(ctx, step)


async def _set_flag(ctx: Context, step: StepHandle, key: str) -> None:
    assert step.value is not None, f"{step.name} has no share"
    if "base" not in step.detail:
        counters = await with_retry(ctx, step, lambda: read_pod_counters(ctx))
        await step.save_detail(base={uid: counts.as_json() for uid, counts in counters.items()})
    await save_flag_values(ctx, step, key)
    await set_flag_and_wait(ctx, step, key, FlagValue(step.value))

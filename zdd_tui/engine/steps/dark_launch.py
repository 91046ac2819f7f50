"""Dark launch: two flags, one for the share of requests that compare, one for the share of users that see it."""

from collections.abc import Mapping

from zdd_tui.backends.metrics.scrape import read_shadow_counters
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.gates.workload import list_serving_pods
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.flags import restore_flags, save_flag_values, set_flag_and_wait, undo_flag_share
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.flag import OFF, FlagValue
from zdd_tui.model.plan.strategies import DarkLaunchPlan
from zdd_tui.model.shadow import ShadowCounters


class SetShadow:
    """More requests run the new path too. What the pods had counted by then is kept: the phase counts from there."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _set_flag(ctx, step, ctx.plan_of_type(DarkLaunchPlan).flags.shadow)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(DarkLaunchPlan)
        await undo_flag_share(ctx, step, plan.flags.shadow, is_first_step=step.value == plan.dark.shadow[0])


class SetRead:
    """More users are answered by the new path; the undo of the last one answers everybody by the old one, at once."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _set_flag(ctx, step, ctx.plan_of_type(DarkLaunchPlan).flags.read)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(DarkLaunchPlan)
        await undo_flag_share(ctx, step, plan.flags.read, is_first_step=step.value == plan.dark.ramp[0])


class ShadowOff:
    """Nothing is compared any more. The read flag stays on: the image still holds both paths, and deleting the flag
    would bring back the old one with the next pod."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        key = ctx.plan_of_type(DarkLaunchPlan).flags.shadow
        await save_flag_values(ctx, step, key)
        await set_flag_and_wait(ctx, step, key, OFF)
        await with_retry(ctx, step, lambda: ctx.flags.delete(key, epoch=ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore_flags(ctx, step)


async def read_pod_counters(ctx: Context) -> dict[str, ShadowCounters]:
    """What each serving pod has counted, by the pod's uid.

    Raises:
        MetricsError: a pod does not tell, or none serves.
    """
    plan = ctx.plan_of_type(DarkLaunchPlan)
    serving = {pod.name: pod for pod in await list_serving_pods(ctx)}
    endpoints = await ctx.cluster.list_endpoint_slices(plan.service)
    addresses = {
        serving[found.pod_name].uid: f"{found.address}:{found.port}"
        for found in endpoints
        if found.ready and found.pod_name in serving
    }
    if not addresses:
        raise MetricsError("no pod is serving")
    return await read_shadow_counters(addresses, plan.dark.path)


def counters_since(current: Mapping[str, ShadowCounters], base: Mapping[str, object]) -> ShadowCounters:
    """What all pods counted since the base that a step has kept; a pod that came later counts from its beginning."""
    total = ShadowCounters()
    for uid, counts in current.items():
        before = base.get(uid)
        total += counts.since(ShadowCounters.from_json(before)) if isinstance(before, Mapping) else counts
    return total


async def _set_flag(ctx: Context, step: StepHandle, key: str) -> None:
    assert step.value is not None, f"{step.name} has no share"
    if "base" not in step.detail:
        found = await with_retry(ctx, step, lambda: read_pod_counters(ctx))
        await step.save_detail(base={uid: counts.as_json() for uid, counts in found.items()})
    await save_flag_values(ctx, step, key)
    await set_flag_and_wait(ctx, step, key, FlagValue(step.value))

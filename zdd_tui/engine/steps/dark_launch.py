"""Dark launch: two flags, one for the share of requests that compare, one for the share of users that see it."""

from collections.abc import Mapping

from zdd_tui.backends.metrics.scrape import read_shadows
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.gates.workload import serving_pods
from zdd_tui.engine.retry import effect
from zdd_tui.engine.steps.flags import flag_back, remember_flag, restore, switch
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.flag import OFF, FlagValue
from zdd_tui.model.plan.strategies import DarkLaunchPlan
from zdd_tui.model.shadow import ShadowCounts


class SetShadow:
    """More requests run the new path too. What the pods had counted by then is kept: the phase counts from there."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _set(ctx, step, ctx.plan_as(DarkLaunchPlan).flags.shadow)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(DarkLaunchPlan)
        await flag_back(ctx, step, plan.flags.shadow, first=step.value == plan.dark.shadow[0])


class SetRead:
    """More users are answered by the new path; the undo of the last one answers everybody by the old one, at once."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _set(ctx, step, ctx.plan_as(DarkLaunchPlan).flags.read)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(DarkLaunchPlan)
        await flag_back(ctx, step, plan.flags.read, first=step.value == plan.dark.ramp[0])


class ShadowOff:
    """Nothing is compared any more. The read flag stays on: the image still holds both paths, and deleting the flag
    would bring back the old one with the next pod."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        key = ctx.plan_as(DarkLaunchPlan).flags.shadow
        await remember_flag(ctx, step, key)
        await switch(ctx, step, key, OFF)
        await effect(ctx, step, lambda: ctx.flags.delete(key, epoch=ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore(ctx, step)


async def shadows(ctx: Context) -> dict[str, ShadowCounts]:
    """What each serving pod has counted, by the pod's uid.

    Raises:
        MetricsError: a pod does not tell, or none serves.
    """
    plan = ctx.plan_as(DarkLaunchPlan)
    serving = {pod.name: pod for pod in await serving_pods(ctx)}
    endpoints = await ctx.cluster.list_endpoint_slices(plan.service)
    addresses = {
        serving[found.pod_name].uid: f"{found.address}:{found.port}"
        for found in endpoints
        if found.ready and found.pod_name in serving
    }
    if not addresses:
        raise MetricsError("no pod is serving")
    return await read_shadows(addresses, plan.dark.path)


def since(now: Mapping[str, ShadowCounts], base: Mapping[str, object]) -> ShadowCounts:
    """What all pods counted since the base that a step has kept; a pod that came later counts from its beginning."""
    total = ShadowCounts()
    for uid, counts in now.items():
        before = base.get(uid)
        total += counts.since(ShadowCounts.from_json(before)) if isinstance(before, Mapping) else counts
    return total


async def _set(ctx: Context, step: StepHandle, key: str) -> None:
    assert step.value is not None, f"{step.name} has no share"
    if "base" not in step.detail:
        found = await effect(ctx, step, lambda: shadows(ctx))
        await step.remember(base={uid: counts.as_json() for uid, counts in found.items()})
    await remember_flag(ctx, step, key)
    await switch(ctx, step, key, FlagValue(step.value))

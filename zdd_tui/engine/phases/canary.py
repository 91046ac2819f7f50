"""Canary: the new image's share grows by weights; the way back is weight 0, at once, from every one of them.

By replicas the first Deployment keeps all its pods until the new image has proved itself: capacity never shrinks, and
the way back waits for no pod to start.
"""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.flag_switch import flag_back, remember_flag, switch
from zdd_tui.engine.patience import effect
from zdd_tui.engine.phases import canary_gateway, canary_pods
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.plans import CanaryPlan
from zdd_tui.model.twin import Switch
from zdd_tui.model.weights import canary_replicas

TRACK = Switch("zdd.dev/track", "", "canary")
"""The label that tells the second Deployment's pods; no Service selects by it, so the Service finds both kinds."""


class CreateCanary:
    """The second Deployment, without a pod yet. Nothing but the weights gives it any."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(CanaryPlan)
        # Fences too: an agent that lost its lease makes nothing any more.
        await effect(ctx, step, lambda: ctx.cluster.fence(plan.kubernetes.deployment, ctx.epoch))
        if plan.canary.by == "gateway":
            await canary_gateway.create_beside(ctx, step)
        else:
            await canary_pods.create(ctx, step, TRACK)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove(ctx, step)


class SetWeight:
    """The new image gets its share, and has it when the step ends."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, weight = ctx.plan_as(CanaryPlan), _weight_of(step)
        if plan.canary.flag is not None:
            await remember_flag(ctx, step, plan.canary.flag.key)
            await switch(ctx, step, plan.canary.flag.key, FlagValue(weight))
        elif plan.canary.by == "gateway":
            await canary_gateway.shift(ctx, step, weight)
        else:
            view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await canary_pods.scale(ctx, step, canary_replicas(view.desired, weight, plan.canary.tolerance))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(CanaryPlan)
        if plan.canary.flag is not None:
            await flag_back(ctx, step, plan.canary.flag.key, first=step.value == plan.canary.weights[0])
        elif plan.canary.by == "gateway":
            await canary_gateway.take_out(ctx, step)
        else:
            await canary_pods.drain(ctx, step)


class RemoveCanary:
    """The second Deployment drains and goes; the first one has the new image by now. Going back needs it no more."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _remove(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The first Deployment goes back by itself, with all its pods."""


async def _remove(ctx: Context, step: StepHandle) -> None:
    if ctx.plan_as(CanaryPlan).canary.by == "gateway":
        await canary_gateway.remove_beside(ctx, step)
    else:
        await canary_pods.remove(ctx, step)


def _weight_of(step: StepHandle) -> int:
    assert step.value is not None, f"{step.name} has no weight"
    return step.value

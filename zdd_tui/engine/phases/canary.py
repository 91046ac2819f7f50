"""Canary: the new image's share grows by weights; the way back is weight 0, at once, from every one of them.

By replicas the first Deployment keeps all its pods until the new image has proved itself: capacity never shrinks, and
the way back waits for no pod to start.
"""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.kube_errors import KubeApiError
from zdd_tui.backends.kube_switch import DEPLOYMENTS, create_owned, read_raw, remove_owned
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.flag_switch import flag_back, remember_flag, switch
from zdd_tui.engine.patience import effect
from zdd_tui.engine.rollout import POLL, look
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.plans import CanaryPlan
from zdd_tui.model.rollout import RolloutStatus
from zdd_tui.model.twin import Switch, twin_deployment
from zdd_tui.model.weights import canary_replicas

TRACK = Switch("zdd.dev/track", "", "canary")
"""The label that tells the second Deployment's pods; no Service selects by it, so the Service finds both kinds."""


class CreateCanary:
    """The second Deployment, without a pod yet. Nothing but the weights gives it any."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(CanaryPlan)
        names = plan.kubernetes
        # Fences too: an agent that lost its lease makes nothing any more.
        await effect(ctx, step, lambda: ctx.cluster.fence(names.deployment, ctx.epoch))
        first = await effect(ctx, step, lambda: read_raw(ctx.cluster, DEPLOYMENTS, names.deployment))
        manifest = twin_deployment(
            first,
            TRACK,
            name=plan.canary_deployment,
            container=names.container,
            image=names.image,
            owner=plan.name,
            epoch=ctx.epoch,
        )
        manifest["spec"]["replicas"] = 0
        await effect(ctx, step, lambda: create_owned(ctx.cluster, DEPLOYMENTS, manifest, owner=plan.name))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove(ctx, step)


class SetWeight:
    """The new image gets its share, and has it when the step ends."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, weight = ctx.plan_as(CanaryPlan), _weight_of(step)
        if plan.canary.flag is not None:
            await remember_flag(ctx, step, plan.canary.flag.key)
            await switch(ctx, step, plan.canary.flag.key, FlagValue(weight))
            return
        view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
        await _scale(ctx, step, canary_replicas(view.desired, weight, plan.canary.tolerance))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(CanaryPlan)
        if plan.canary.flag is not None:
            await flag_back(ctx, step, plan.canary.flag.key, first=step.value == plan.canary.weights[0])
        elif await effect(ctx, step, lambda: read_raw(ctx.cluster, DEPLOYMENTS, plan.canary_deployment)) is not None:
            await _scale(ctx, step, 0)


class RemoveCanary:
    """The second Deployment drains and goes; the first one has the new image by now. Going back needs it no more."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _remove(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The first Deployment goes back by itself, with all its pods."""


def _weight_of(step: StepHandle) -> int:
    assert step.value is not None, f"{step.name} has no weight"
    return step.value


async def _scale(ctx: Context, step: StepHandle, replicas: int) -> None:
    """Gives the second Deployment so many pods and waits until exactly those are there, and available."""
    name = ctx.plan_as(CanaryPlan).canary_deployment
    await effect(ctx, step, lambda: ctx.cluster.scale(name, replicas, epoch=ctx.epoch))

    async def settled() -> RolloutStatus:
        pods = await _canary_pods(ctx, name)
        if pods != replicas:
            told = RolloutStatus(False, False, f"{pods} pods of {name} exist, {replicas} are wanted")
            return told if not replicas else await _unless_failed(told)
        # On the way to none, a controller that has given up on the new image is no failure of ours.
        return await look(ctx, name) if replicas else RolloutStatus(True, False, "no pod is left")

    async def _unless_failed(told: RolloutStatus) -> RolloutStatus:
        status = await look(ctx, name)
        return status if status.failed else told

    await _wait(ctx, step, settled, name)


async def _remove(ctx: Context, step: StepHandle) -> None:
    """Drains the second Deployment, then deletes it, and waits until nothing of it is left."""
    plan = ctx.plan_as(CanaryPlan)
    name = plan.canary_deployment
    if await effect(ctx, step, lambda: read_raw(ctx.cluster, DEPLOYMENTS, name)) is not None:
        try:
            await _scale(ctx, step, 0)
        except KubeApiError as error:
            if error.status != 404:
                raise

    async def gone() -> RolloutStatus:
        done = await remove_owned(ctx.cluster, DEPLOYMENTS, name, owner=plan.name, epoch=ctx.epoch)
        return RolloutStatus(done, False, f"{name} is being deleted")

    await _wait(ctx, step, gone, name)


async def _canary_pods(ctx: Context, name: str) -> int:
    view = await ctx.cluster.get_deployment(name)
    return len(await ctx.cluster.list_pods(view.selector))


async def _wait(ctx: Context, step: StepHandle, judge: Callable[[], Awaitable[RolloutStatus]], name: str) -> None:
    """Looks until it is done.

    Raises:
        StepFailed: the controller gave up, or kubernetes.rollout_timeout is over.
    """
    names = ctx.plan.kubernetes
    loop = asyncio.get_running_loop()
    deadline = loop.time() + names.rollout_timeout
    while True:
        await ctx.prove_lease()
        try:
            status = await judge()
        except ClusterError as error:
            status = RolloutStatus(False, False, f"cluster: {error.title}")
        if status.done:
            return
        if status.failed or loop.time() > deadline:
            raise StepFailed(
                f"Deployment {name}: {status.message}",
                f"kubectl -n {names.namespace} describe deployment {name}; then advance again or roll back",
            )
        await step.note(status.message)
        await asyncio.sleep(POLL)

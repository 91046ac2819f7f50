"""The second Deployment of a canary: made without a pod, given pods, drained, removed. Never one that is not ours."""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.kube_errors import KubeApiError
from zdd_tui.backends.kube_switch import DEPLOYMENTS, create_owned, read_raw, remove_owned
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.patience import effect
from zdd_tui.engine.rollout import POLL, look
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.plans import CanaryPlan
from zdd_tui.model.rollout import RolloutStatus
from zdd_tui.model.twin import OWNER_ANNOTATION, Switch, twin_deployment
from zdd_tui.model.untyped import text

Look = Callable[[], Awaitable[RolloutStatus]]


async def create(ctx: Context, step: StepHandle, switch: Switch) -> None:
    """The second Deployment, without a pod yet.

    Args:
        switch: the label that tells its pods from the first one's.
    """
    plan = ctx.plan_as(CanaryPlan)
    names = plan.kubernetes
    first = await effect(ctx, step, lambda: read_raw(ctx.cluster, DEPLOYMENTS, names.deployment))
    manifest = twin_deployment(
        first,
        switch,
        name=plan.canary_deployment,
        container=names.container,
        image=names.image,
        owner=plan.name,
        epoch=ctx.epoch,
    )
    manifest["spec"]["replicas"] = 0
    await effect(ctx, step, lambda: create_owned(ctx.cluster, DEPLOYMENTS, manifest, owner=plan.name))


async def exists(ctx: Context, step: StepHandle) -> bool:
    """Whether there is a second Deployment of this release; one of its name that is not ours is none."""
    plan = ctx.plan_as(CanaryPlan)
    raw = await effect(ctx, step, lambda: read_raw(ctx.cluster, DEPLOYMENTS, plan.canary_deployment))
    return raw is not None and text(raw, "metadata", "annotations", OWNER_ANNOTATION) == plan.name


async def scale(ctx: Context, step: StepHandle, replicas: int) -> None:
    """Gives the second Deployment so many pods and waits until exactly those are there, and available."""
    name = ctx.plan_as(CanaryPlan).canary_deployment
    await effect(ctx, step, lambda: ctx.cluster.scale(name, replicas, epoch=ctx.epoch))

    async def settled() -> RolloutStatus:
        view = await ctx.cluster.get_deployment(name)
        pods = len(await ctx.cluster.list_pods(view.selector))
        if not replicas:
            # On the way to none, a controller that has given up on the new image is no failure of ours.
            return RolloutStatus(not pods, False, f"{pods} pods of {name} drain")
        status = await look(ctx, name)
        if pods != replicas and not status.failed:
            return RolloutStatus(False, False, f"{pods} pods of {name} exist, {replicas} are wanted")
        return status

    await wait(ctx, step, settled, f"Deployment {name}")


async def drain(ctx: Context, step: StepHandle) -> None:
    """Takes all its pods away, where there is such a Deployment."""
    if await exists(ctx, step):
        try:
            await scale(ctx, step, 0)
        except KubeApiError as error:
            if error.status != 404:
                raise


async def remove(ctx: Context, step: StepHandle) -> None:
    """Drains it, deletes it, and waits until nothing of it is left."""
    plan = ctx.plan_as(CanaryPlan)
    name = plan.canary_deployment
    await drain(ctx, step)

    async def gone() -> RolloutStatus:
        done = await remove_owned(ctx.cluster, DEPLOYMENTS, name, owner=plan.name, epoch=ctx.epoch)
        return RolloutStatus(done, False, f"{name} is being deleted")

    await wait(ctx, step, gone, f"Deployment {name}")


async def wait(ctx: Context, step: StepHandle, look_at: Look, what: str) -> None:
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
            status = await look_at()
        except ClusterError as error:
            status = RolloutStatus(False, False, f"cluster: {error.title}")
        if status.done:
            return
        if status.failed or loop.time() > deadline:
            described = f"kubectl -n {names.namespace} describe {what.lower().replace(' ', '/')}"
            raise StepFailed(f"{what}: {status.message}", f"{described}; then advance again or roll back")
        await step.note(status.message)
        await asyncio.sleep(POLL)

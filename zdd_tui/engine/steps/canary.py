"""Canary: the new image's share grows by weights; the way back is weight 0, at once, from every one of them.

By replicas the first Deployment keeps all its pods until the new image has proved itself: capacity never shrinks, and
the way back waits for no pod to start.
"""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.routes import free_route, get_route, set_weight
from zdd_tui.backends.kubernetes.services import (
    DEPLOYMENTS,
    SERVICES,
    create_owned,
    get_service,
    read_raw,
    remove_owned,
)
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.gates.result import step_record
from zdd_tui.engine.retry import effect
from zdd_tui.engine.steps.flags import flag_back, remember_flag, switch
from zdd_tui.engine.steps.rollout import POLL, look
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.json_access import text
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.workload.rollout import RolloutStatus
from zdd_tui.model.workload.route import RouteView, canary_replicas, weighted
from zdd_tui.model.workload.second_deployment import (
    OWNER_ANNOTATION,
    Switch,
    preview_service,
    switch_for,
    twin_deployment,
)

TRACK = Switch("zdd.dev/track", "", "canary")
"""The label that tells the second Deployment's pods; no Service selects by it, so the Service finds both kinds."""


class CreateCanary:
    """The second Deployment, without a pod yet. Nothing but the weights gives it any."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(CanaryPlan)
        # Fences too: an agent that lost its lease makes nothing any more.
        await effect(ctx, step, lambda: ctx.cluster.fence(plan.kubernetes.deployment, ctx.epoch))
        if plan.canary.by == "gateway":
            await create_beside(ctx, step)
        else:
            await create(ctx, step, TRACK)

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
            await shift(ctx, step, weight)
        else:
            view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await scale(ctx, step, canary_replicas(view.desired, weight, plan.canary.tolerance))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(CanaryPlan)
        if plan.canary.flag is not None:
            await flag_back(ctx, step, plan.canary.flag.key, first=step.value == plan.canary.weights[0])
        elif plan.canary.by == "gateway":
            await take_out(ctx, step)
        else:
            await drain(ctx, step)


class RemoveCanary:
    """The second Deployment drains and goes; the first one has the new image by now. Going back needs it no more."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _remove(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The first Deployment goes back by itself, with all its pods."""


async def _remove(ctx: Context, step: StepHandle) -> None:
    if ctx.plan_as(CanaryPlan).canary.by == "gateway":
        await remove_beside(ctx, step)
    else:
        await remove(ctx, step)


def _weight_of(step: StepHandle) -> int:
    assert step.value is not None, f"{step.name} has no weight"
    return step.value


# --- Canary by gateway: the second Deployment has a Service of its own, and an HTTPRoute shares the requests out.


async def create_beside(ctx: Context, step: StepHandle) -> None:
    """The second Deployment without a pod, and its Service; the first Service does not find its pods."""
    plan = ctx.plan_as(CanaryPlan)
    if "route_rules" not in step.detail:
        view = await effect(ctx, step, lambda: get_route(ctx.cluster, _route(plan)))
        weighted(view, plan.service, plan.canary_service, 1)  # refuses a route that cannot be shared out
        await step.remember(route_rules=list(view.rules))
    first = await effect(ctx, step, lambda: read_raw(ctx.cluster, DEPLOYMENTS, plan.kubernetes.deployment))
    service = await effect(ctx, step, lambda: get_service(ctx.cluster, plan.service))
    raw = await effect(ctx, step, lambda: read_raw(ctx.cluster, SERVICES, plan.service))
    switch = switch_for(first, service, "canary")
    manifest = preview_service(raw, switch, name=plan.canary_service, owner=plan.name, epoch=ctx.epoch)
    await create(ctx, step, switch)
    await effect(ctx, step, lambda: create_owned(ctx.cluster, SERVICES, manifest, owner=plan.name))


async def shift(ctx: Context, step: StepHandle, weight: int) -> None:
    """Pods for the share first, then the share."""
    plan = ctx.plan_as(CanaryPlan)
    view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
    await scale(ctx, step, max(1, -(-view.desired * weight // 100)))
    await _route_to(ctx, step, weight)


async def take_out(ctx: Context, step: StepHandle) -> None:
    """No request goes to the canary any more; its pods, which get none, drain after that."""
    await _route_to(ctx, step, 0)
    await drain(ctx, step)


async def remove_beside(ctx: Context, step: StepHandle) -> None:
    """The route is as it was, marks included; Service and Deployment of the canary are gone."""
    plan = ctx.plan_as(CanaryPlan)
    if await _rules_before(ctx) is None:
        return  # nothing was made yet
    await take_out(ctx, step)
    await effect(ctx, step, lambda: free_route(ctx.cluster, _route(plan), owner=plan.name, epoch=ctx.epoch))

    async def gone() -> RolloutStatus:
        name = plan.canary_service
        done = await remove_owned(ctx.cluster, SERVICES, name, owner=plan.name, epoch=ctx.epoch)
        return RolloutStatus(done, False, f"{name} is being deleted")

    await wait(ctx, step, gone, f"Service {plan.canary_service}")
    await remove(ctx, step)


async def _route_to(ctx: Context, step: StepHandle, weight: int) -> None:
    plan = ctx.plan_as(CanaryPlan)
    name, owner, service, canary = _route(plan), plan.name, plan.service, plan.canary_service
    rules = None if weight else await _rules_before(ctx)
    await effect(
        ctx,
        step,
        lambda: set_weight(
            ctx.cluster, name, service=service, canary=canary, weight=weight, before=rules, owner=owner, epoch=ctx.epoch
        ),
    )

    async def taken() -> RolloutStatus:
        view: RouteView = await get_route(ctx.cluster, name)
        return RolloutStatus(not view.waits, False, view.waits)

    await wait(ctx, step, taken, f"HTTPRoute {name}")


async def _rules_before(ctx: Context) -> list[dict[str, object]] | None:
    """As create-canary found them; None where it never came that far."""
    stored = step_record(await ctx.store.read(), "create-canary")
    return stored.detail.get("route_rules") if stored else None


def _route(plan: CanaryPlan) -> str:
    assert plan.canary.route is not None, "by gateway needs route"
    return plan.canary.route


# --- The second Deployment of a canary: made without a pod, given pods, drained, removed. Never one that is not ours.


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

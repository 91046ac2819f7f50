"""Canary: the new image's share grows by weights; the way back is weight 0, at once, from every one of them.

By replicas the first Deployment keeps all its pods until the new image has proved itself: capacity never shrinks, and
the way back waits for no pod to start.
"""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.routes import get_route, release_route, set_weight
from zdd_tui.backends.kubernetes.services import (
    DEPLOYMENTS,
    SERVICES,
    create_owned,
    get_raw_object,
    get_service,
    remove_owned,
)
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.gates.result import find_step_record
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.flags import save_flag_values, set_flag_and_wait, undo_flag_share
from zdd_tui.engine.steps.rollout import POLL_INTERVAL, read_rollout_status
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.json_access import get_text
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.workload.rollout import RolloutStatus
from zdd_tui.model.workload.route import RouteView, compute_canary_replicas, set_backend_weight
from zdd_tui.model.workload.second_deployment import (
    OWNER_ANNOTATION,
    SwitchLabel,
    build_preview_service,
    build_second_deployment,
    choose_switch_label,
)

TRACK_LABEL = SwitchLabel("zdd.dev/track", "", "canary")
"""The label that tells the second Deployment's pods; no Service selects by it, so the Service finds both kinds."""


class CreateCanary:
    """The second Deployment, without a pod yet. Nothing but the weights gives it any."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(CanaryPlan)
        # Fences too: an agent that lost its lease makes nothing any more.
        await with_retry(ctx, step, lambda: ctx.cluster.fence(plan.kubernetes.deployment, ctx.epoch))
        if plan.canary.by == "gateway":
            await create_canary_with_service(ctx, step)
        else:
            await create_canary(ctx, step, TRACK_LABEL)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove_canary(ctx, step)


class SetWeight:
    """The new image gets its share, and has it when the step ends."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, weight = ctx.plan_of_type(CanaryPlan), _step_weight(step)
        if plan.canary.flag is not None:
            await save_flag_values(ctx, step, plan.canary.flag.key)
            await set_flag_and_wait(ctx, step, plan.canary.flag.key, FlagValue(weight))
        elif plan.canary.by == "gateway":
            await set_canary_weight(ctx, step, weight)
        else:
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await scale_canary(ctx, step, compute_canary_replicas(view.desired, weight, plan.canary.tolerance))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(CanaryPlan)
        if plan.canary.flag is not None:
            await undo_flag_share(ctx, step, plan.canary.flag.key, is_first_step=step.value == plan.canary.weights[0])
        elif plan.canary.by == "gateway":
            await remove_from_route(ctx, step)
        else:
            await drain_canary(ctx, step)


class RemoveCanary:
    """The second Deployment drains and goes; the first one has the new image by now. Going back needs it no more."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _remove_canary(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The first Deployment goes back by itself, with all its pods."""


async def _remove_canary(ctx: Context, step: StepHandle) -> None:
    if ctx.plan_of_type(CanaryPlan).canary.by == "gateway":
        await remove_canary_with_service(ctx, step)
    else:
        await remove_canary(ctx, step)


def _step_weight(step: StepHandle) -> int:
    assert step.value is not None, f"{step.name} has no weight"
    return step.value


# --- Canary by gateway: the second Deployment has a Service of its own, and an HTTPRoute shares the requests out.


async def create_canary_with_service(ctx: Context, step: StepHandle) -> None:
    """The second Deployment without a pod, and its Service; the first Service does not find its pods."""
    plan = ctx.plan_of_type(CanaryPlan)
    if "route_rules" not in step.detail:
        view = await with_retry(ctx, step, lambda: get_route(ctx.cluster, _route_name(plan)))
        set_backend_weight(view, plan.service, plan.canary_service, 1)  # refuses a route that cannot be shared out
        await step.save_detail(route_rules=list(view.rules))
    first = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, DEPLOYMENTS, plan.kubernetes.deployment))
    service = await with_retry(ctx, step, lambda: get_service(ctx.cluster, plan.service))
    raw = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, SERVICES, plan.service))
    switch = choose_switch_label(first, service, "canary")
    manifest = build_preview_service(raw, switch, name=plan.canary_service, owner=plan.name, epoch=ctx.epoch)
    await create_canary(ctx, step, switch)
    await with_retry(ctx, step, lambda: create_owned(ctx.cluster, SERVICES, manifest, owner=plan.name))


async def set_canary_weight(ctx: Context, step: StepHandle, weight: int) -> None:
    """Pods for the share first, then the share."""
    plan = ctx.plan_of_type(CanaryPlan)
    view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
    await scale_canary(ctx, step, max(1, -(-view.desired * weight // 100)))
    await _set_route_weight(ctx, step, weight)


async def remove_from_route(ctx: Context, step: StepHandle) -> None:
    """No request goes to the canary any more; its pods, which get none, drain after that."""
    await _set_route_weight(ctx, step, 0)
    await drain_canary(ctx, step)


async def remove_canary_with_service(ctx: Context, step: StepHandle) -> None:
    """The route is as it was, marks included; Service and Deployment of the canary are gone."""
    plan = ctx.plan_of_type(CanaryPlan)
    if await _read_original_rules(ctx) is None:
        return  # nothing was made yet
    await remove_from_route(ctx, step)
    await with_retry(ctx, step, lambda: release_route(ctx.cluster, _route_name(plan), owner=plan.name, epoch=ctx.epoch))

    async def gone() -> RolloutStatus:
        name = plan.canary_service
        done = await remove_owned(ctx.cluster, SERVICES, name, owner=plan.name, epoch=ctx.epoch)
        return RolloutStatus(done, False, f"{name} is being deleted")

    await wait_for_rollout(ctx, step, gone, f"Service {plan.canary_service}")
    await remove_canary(ctx, step)


async def _set_route_weight(ctx: Context, step: StepHandle, weight: int) -> None:
    plan = ctx.plan_of_type(CanaryPlan)
    name, owner, service, canary = _route_name(plan), plan.name, plan.service, plan.canary_service
    rules = None if weight else await _read_original_rules(ctx)
    await with_retry(
        ctx,
        step,
        lambda: set_weight(
            ctx.cluster,
            name,
            service=service,
            canary=canary,
            weight=weight,
            original_rules=rules,
            owner=owner,
            epoch=ctx.epoch,
        ),
    )

    async def taken() -> RolloutStatus:
        view: RouteView = await get_route(ctx.cluster, name)
        return RolloutStatus(not view.pending_reason, False, view.pending_reason)

    await wait_for_rollout(ctx, step, taken, f"HTTPRoute {name}")


async def _read_original_rules(ctx: Context) -> list[dict[str, object]] | None:
    """As create-canary found them; None where it never came that far."""
    stored = find_step_record(await ctx.store.read(), "create-canary")
    return stored.detail.get("route_rules") if stored else None


def _route_name(plan: CanaryPlan) -> str:
    assert plan.canary.route is not None, "by gateway needs route"
    return plan.canary.route


# --- The second Deployment of a canary: made without a pod, given pods, drained, removed. Never one that is not ours.


RolloutCheck = Callable[[], Awaitable[RolloutStatus]]


async def create_canary(ctx: Context, step: StepHandle, label: SwitchLabel) -> None:
    """The second Deployment, without a pod yet.

    Args:
        label: the label that tells its pods from the first one's.
    """
    plan = ctx.plan_of_type(CanaryPlan)
    names = plan.kubernetes
    first = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, DEPLOYMENTS, names.deployment))
    manifest = build_second_deployment(
        first,
        label,
        name=plan.canary_deployment,
        container=names.container,
        image=names.image,
        owner=plan.name,
        epoch=ctx.epoch,
    )
    manifest["spec"]["replicas"] = 0
    await with_retry(ctx, step, lambda: create_owned(ctx.cluster, DEPLOYMENTS, manifest, owner=plan.name))


async def canary_exists(ctx: Context, step: StepHandle) -> bool:
    """Whether there is a second Deployment of this release; one of its name that is not ours is none."""
    plan = ctx.plan_of_type(CanaryPlan)
    raw = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, DEPLOYMENTS, plan.canary_deployment))
    return raw is not None and get_text(raw, "metadata", "annotations", OWNER_ANNOTATION) == plan.name


async def scale_canary(ctx: Context, step: StepHandle, replicas: int) -> None:
    """Gives the second Deployment so many pods and waits until exactly those are there, and available."""
    name = ctx.plan_of_type(CanaryPlan).canary_deployment
    await with_retry(ctx, step, lambda: ctx.cluster.scale(name, replicas, epoch=ctx.epoch))

    async def settled() -> RolloutStatus:
        view = await ctx.cluster.get_deployment(name)
        pods = len(await ctx.cluster.list_pods(view.selector))
        if not replicas:
            # On the way to none, a controller that has given up on the new image is no failure of ours.
            return RolloutStatus(not pods, False, f"{pods} pods of {name} drain")
        status = await read_rollout_status(ctx, name)
        if pods != replicas and not status.failed:
            return RolloutStatus(False, False, f"{pods} pods of {name} exist, {replicas} are wanted")
        return status

    await wait_for_rollout(ctx, step, settled, f"Deployment {name}")


async def drain_canary(ctx: Context, step: StepHandle) -> None:
    """Takes all its pods away, where there is such a Deployment."""
    if await canary_exists(ctx, step):
        try:
            await scale_canary(ctx, step, 0)
        except KubeApiError as error:
            if error.status != 404:
                raise


async def remove_canary(ctx: Context, step: StepHandle) -> None:
    """Drains it, deletes it, and waits until nothing of it is left."""
    plan = ctx.plan_of_type(CanaryPlan)
    name = plan.canary_deployment
    await drain_canary(ctx, step)

    async def gone() -> RolloutStatus:
        done = await remove_owned(ctx.cluster, DEPLOYMENTS, name, owner=plan.name, epoch=ctx.epoch)
        return RolloutStatus(done, False, f"{name} is being deleted")

    await wait_for_rollout(ctx, step, gone, f"Deployment {name}")


async def wait_for_rollout(ctx: Context, step: StepHandle, check: RolloutCheck, object_name: str) -> None:
    """Looks until it is done.

    Raises:
        StepFailed: the controller gave up, or kubernetes.rollout_timeout is over.
    """
    names = ctx.plan.kubernetes
    loop = asyncio.get_running_loop()
    deadline = loop.time() + names.rollout_timeout
    while True:
        await ctx.check_lease()
        try:
            status = await check()
        except ClusterError as error:
            status = RolloutStatus(False, False, f"cluster: {error.title}")
        if status.done:
            return
        if status.failed or loop.time() > deadline:
            described = f"kubectl -n {names.namespace} describe {object_name.lower().replace(' ', '/')}"
            raise StepFailed(f"{object_name}: {status.message}", f"{described}; then advance again or roll back")
        await step.set_note(status.message)
        await asyncio.sleep(POLL_INTERVAL)

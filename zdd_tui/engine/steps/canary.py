"""Canary: the share of the new image grows weight by weight. A rollback sets weight 0 at once, from every weight.

By replicas the first Deployment keeps all its pods until the promotion: capacity never shrinks, and a rollback does not
wait for pods to start.
"""

from http import HTTPStatus

from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.routes import get_route, release_route, set_weight
from zdd_tui.backends.kubernetes.services import (
    DEPLOYMENTS,
    SERVICES,
    create_owned,
    get_raw_object,
    get_service,
)
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import find_step_record
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.flags import save_flag_values, set_flag_and_wait, undo_flag_share
from zdd_tui.engine.steps.rollout import (
    RolloutCheck,
    build_status,
    learn_created_image,
    remove_and_wait,
    wait_until_done,
)
from zdd_tui.engine.steps.undo import gone_counts_as_undone
from zdd_tui.model.counting import count_noun
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.json_access import get_text
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.workload.rollout import RolloutStatus
from zdd_tui.model.workload.route import compute_canary_replicas, set_backend_weight
from zdd_tui.model.workload.second_deployment import (
    OWNER_ANNOTATION,
    SwitchLabel,
    build_preview_service,
    build_second_deployment,
    choose_switch_label,
)

TRACK_LABEL = SwitchLabel("zdd.dev/track", "", "canary")
"""The label of the second Deployment's pods. No Service selects by it, so the Service finds the pods of both."""


class CreateCanary:
    """Creates the second Deployment without pods; only the weights give it pods."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(CanaryPlan)
        # Also fences: an agent that has lost its lease creates nothing any more.
        await with_retry(ctx, step, lambda: ctx.cluster.fence(plan.kubernetes.deployment, ctx.epoch))
        if plan.canary.by == "gateway":
            await _create_canary_with_service(ctx, step)
        else:
            await _create_canary(ctx, step, TRACK_LABEL)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove_canary(ctx, step)


class SetWeight:
    """Gives the new image its share and waits until it has it."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, weight = ctx.plan_of_type(CanaryPlan), _step_weight(step)
        if plan.canary.flag is not None:
            await save_flag_values(ctx, step, plan.canary.flag.key)
            await set_flag_and_wait(ctx, step, plan.canary.flag.key, FlagValue(weight))
        elif plan.canary.by == "gateway":
            await _set_weight_by_route(ctx, step, weight)
        else:
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await _scale_canary(ctx, step, compute_canary_replicas(view.desired, weight, plan.canary.tolerance))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(CanaryPlan)
        if plan.canary.flag is not None:
            await undo_flag_share(ctx, step, plan.canary.flag.key, is_first_step=step.value == plan.canary.weights[0])
        elif plan.canary.by == "gateway":
            async with gone_counts_as_undone(ctx, step):
                await _set_route_weight(ctx, step, 0)
            await _drain_canary(ctx, step)
        else:
            await _drain_canary(ctx, step)


class RemoveCanary:
    """Drains and removes the second Deployment; the first one has the new image now, so a rollback does not need it."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _remove_canary(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The first Deployment returns to the old image with all its pods."""


def _step_weight(step: StepHandle) -> int:
    assert step.value is not None, f"{step.name} has no weight"
    return step.value


async def _remove_canary(ctx: Context, step: StepHandle) -> None:
    plan = ctx.plan_of_type(CanaryPlan)
    if plan.canary.by == "gateway":
        if await _read_original_rules(ctx) is None:
            return  # nothing was created yet
        async with gone_counts_as_undone(ctx, step):  # without its route nothing is sent to the canary
            await _set_route_weight(ctx, step, 0)
            route = _route_name(plan)
            await with_retry(ctx, step, lambda: release_route(ctx.cluster, route, owner=plan.name, epoch=ctx.epoch))
        await _drain_canary(ctx, step)
        await remove_and_wait(ctx, step, SERVICES, plan.canary_service)
    await _drain_canary(ctx, step)
    await remove_and_wait(ctx, step, DEPLOYMENTS, plan.canary_deployment)


# By gateway: the second Deployment has a Service of its own, and an HTTPRoute splits the requests.


async def _create_canary_with_service(ctx: Context, step: StepHandle) -> None:
    """The first Service does not select the pods of the second Deployment."""
    plan = ctx.plan_of_type(CanaryPlan)
    if "route_rules" not in step.detail:
        view = await with_retry(ctx, step, lambda: get_route(ctx.cluster, _route_name(plan)))
        set_backend_weight(view, plan.service, plan.canary_service, 1)  # refuses a route that cannot be split
        await step.save_detail(route_rules=list(view.rules))
    first = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, DEPLOYMENTS, plan.kubernetes.deployment))
    service = await with_retry(ctx, step, lambda: get_service(ctx.cluster, plan.service))
    raw = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, SERVICES, plan.service))
    switch = choose_switch_label(first, service, "canary")
    manifest = build_preview_service(raw, switch, name=plan.canary_service, owner=plan.name, epoch=ctx.epoch)
    await _create_canary(ctx, step, switch)
    await with_retry(ctx, step, lambda: create_owned(ctx.cluster, SERVICES, manifest, owner=plan.name))


async def _set_weight_by_route(ctx: Context, step: StepHandle, weight: int) -> None:
    """Scales the canary for its share first, then changes the share."""
    plan = ctx.plan_of_type(CanaryPlan)
    view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
    await _scale_canary(ctx, step, max(1, -(-view.desired * weight // 100)))
    await _set_route_weight(ctx, step, weight)


async def _set_route_weight(ctx: Context, step: StepHandle, weight: int) -> None:
    plan = ctx.plan_of_type(CanaryPlan)
    name = _route_name(plan)
    original_rules = None if weight else await _read_original_rules(ctx)
    await with_retry(
        ctx,
        step,
        lambda: set_weight(
            ctx.cluster,
            name,
            service=plan.service,
            canary=plan.canary_service,
            weight=weight,
            original_rules=original_rules,
            owner=plan.name,
            epoch=ctx.epoch,
        ),
    )

    async def check() -> RolloutStatus:
        return build_status((await get_route(ctx.cluster, name)).pending_reason)

    await wait_until_done(ctx, step, check, subject=f"weight of HTTPRoute {name}", resource=f"httproute/{name}")


async def _read_original_rules(ctx: Context) -> list[dict[str, object]] | None:
    """The rules that create-canary saved; None if it has not saved them."""
    stored = find_step_record(await ctx.store.read(), "create-canary")
    return stored.require_detail().get("route_rules") if stored else None


def _route_name(plan: CanaryPlan) -> str:
    assert plan.canary.route is not None, "by gateway needs route"
    return plan.canary.route


# The second Deployment: created without pods, scaled, drained. One of another owner is never touched.


async def _create_canary(ctx: Context, step: StepHandle, label: SwitchLabel) -> None:
    """
    Args:
        label: the label that separates its pods from those of the first Deployment.
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
    await learn_created_image(ctx, step, plan.canary_deployment, plan.kubernetes.image)


async def _scale_canary(ctx: Context, step: StepHandle, replicas: int) -> None:
    """Scales the second Deployment and waits until exactly that many pods exist and are available."""
    name = ctx.plan_of_type(CanaryPlan).canary_deployment
    rollout = await RolloutCheck.begin(ctx, step, name)
    await with_retry(ctx, step, lambda: ctx.cluster.scale(name, replicas, epoch=ctx.epoch))

    async def check() -> RolloutStatus:
        view = await ctx.cluster.get_deployment(name)
        pods = sum(not pod.is_terminal for pod in await ctx.cluster.list_pods(view.selector))
        if not replicas:
            # A controller that has given up on the new image must not fail the drain.
            return build_status(
                f"{count_noun(pods, f'pod of {name} is', f'pods of {name} are')} draining" if pods else ""
            )
        status = await rollout.evaluate(view)
        if pods != replicas and not status.failed and status.cause is None:
            return build_status(
                f"{count_noun(pods, f'pod of {name} exists', f'pods of {name} exist')}, {replicas} expected"
            )
        return status

    subject = f"scaling of Deployment {name} to {replicas}"
    await wait_until_done(ctx, step, check, subject=subject, resource=f"deployment/{name}")


async def _drain_canary(ctx: Context, step: StepHandle) -> None:
    """Scales the second Deployment to zero, if this release owns one."""
    plan = ctx.plan_of_type(CanaryPlan)
    raw = await with_retry(ctx, step, lambda: get_raw_object(ctx.cluster, DEPLOYMENTS, plan.canary_deployment))
    if raw is None or get_text(raw, "metadata", "annotations", OWNER_ANNOTATION) != plan.name:
        return
    try:
        await _scale_canary(ctx, step, 0)
    except KubeApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise

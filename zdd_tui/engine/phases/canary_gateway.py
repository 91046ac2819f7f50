"""Canary by gateway: the second Deployment has a Service of its own, and an HTTPRoute shares the requests out."""

from zdd_tui.backends.kube_route import free_route, get_route, set_weight
from zdd_tui.backends.kube_switch import DEPLOYMENTS, SERVICES, create_owned, get_service, read_raw, remove_owned
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.judging import step_record
from zdd_tui.engine.patience import effect
from zdd_tui.engine.phases.canary_pods import create, drain, remove, scale, wait
from zdd_tui.model.plans import CanaryPlan
from zdd_tui.model.rollout import RolloutStatus
from zdd_tui.model.route import RouteView, weighted
from zdd_tui.model.twin import preview_service, switch_for


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

"""Blue/green: a second Deployment, green, is tested, gets all traffic in one patch, and is removed at the end."""

import asyncio

from zdd_tui.backends.kubernetes import services
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES
from zdd_tui.backends.metrics.probe import run_smoke_checks
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import find_service_claim, read_rollout_status, why_not_serving
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.rollout import (
    RolloutCheck,
    build_status,
    learn_created_image,
    remove_and_wait,
    wait_until_done,
)
from zdd_tui.engine.steps.undo import gone_counts_as_undone
from zdd_tui.model.counting import count_noun, format_list
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.json_access import get_text
from zdd_tui.model.plan.strategies import BlueGreenPlan
from zdd_tui.model.workload.rollout import DeploymentView, RolloutStatus, container_image
from zdd_tui.model.workload.second_deployment import (
    ServiceView,
    SwitchLabel,
    build_preview_service,
    build_second_deployment,
    choose_switch_label,
)

ROUTER_DELAY = 2.0
"""Seconds for routers to see a switch before the pods without traffic may be removed: kube-proxy syncs every 1 s."""


class AcquireService:
    """Marks the Service as owned by this release; refused while another release owns it."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        if "switch" not in step.detail:
            raw = await with_retry(ctx, step, lambda: _read_deployment(ctx, plan.kubernetes.deployment))
            service = await with_retry(ctx, step, lambda: services.get_service(ctx.cluster, plan.service))
            switch = choose_switch_label(raw, service, "green")
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await step.save_detail(
                switch=[switch.label, switch.first_value, switch.second_value],
                replicas=view.desired,
                image_before=container_image(plan, view),
            )
        await with_retry(
            ctx, step, lambda: services.acquire_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        service = await _read_service_if_exists(ctx, step)
        if service is None or service.owner != plan.name:
            return  # another release owns it, or no release does
        if "switch" in step.detail:
            switch = SwitchLabel(*step.detail["switch"])
            await _set_selector(ctx, step, {switch.label: switch.first_value})
        await with_retry(
            ctx, step, lambda: services.release_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )


class CreateGreen:
    """Creates the second Deployment and waits until all replicas are ready. No Service selects it yet."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        raw = await with_retry(ctx, step, lambda: _read_deployment(ctx, plan.kubernetes.deployment))
        manifest = build_second_deployment(
            raw,
            switch,
            name=plan.green_deployment,
            container=plan.kubernetes.container,
            image=plan.kubernetes.image,
            owner=plan.name,
            epoch=ctx.epoch,
        )
        await with_retry(ctx, step, lambda: services.create_owned(ctx.cluster, DEPLOYMENTS, manifest, owner=plan.name))
        await learn_created_image(ctx, step, plan.green_deployment, plan.kubernetes.image)
        rollout = await RolloutCheck.begin(ctx, step, plan.green_deployment)
        await wait_until_done(
            ctx,
            step,
            rollout.read,
            subject=f"rollout of Deployment {plan.green_deployment}",
            resource=f"deployment/{plan.green_deployment}",
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await remove_and_wait(ctx, step, DEPLOYMENTS, _blue_green_plan(ctx).green_deployment)


class CreatePreview:
    """Creates a Service for green alone, for the smoke checks."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        raw = await with_retry(ctx, step, lambda: services.get_raw_object(ctx.cluster, SERVICES, plan.service))
        if raw is None:
            raise StepFailed(f"Service {plan.service!r} does not exist any more", "create it again, then advance again")
        manifest = build_preview_service(raw, switch, name=plan.preview_service, owner=plan.name, epoch=ctx.epoch)
        await with_retry(ctx, step, lambda: services.create_owned(ctx.cluster, SERVICES, manifest, owner=plan.name))
        await _wait_until_serving(ctx, step, plan.preview_service, plan.green_deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await remove_and_wait(ctx, step, SERVICES, _blue_green_plan(ctx).preview_service)


class SmokeChecks:
    """Sends every request of the plan to every green pod and checks the responses."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        endpoints = await with_retry(ctx, step, lambda: ctx.cluster.list_endpoint_slices(plan.preview_service))
        addresses = [(one.address, one.port) for one in endpoints if one.ready and one.address]
        if not addresses:
            raise StepFailed(
                f"Service {plan.preview_service} has no ready endpoint",
                f"kubectl -n {ctx.cluster.namespace} describe deployment {plan.green_deployment}",
            )
        requests = count_noun(len(plan.blue_green.smoke), "request")
        await step.set_note(f"sending {requests} to each of {count_noun(len(addresses), 'pod')}")
        wrong = await run_smoke_checks(addresses, plan.blue_green.smoke, plan.blue_green.smoke_timeout)
        if wrong:
            raise StepFailed(
                f"smoke checks: {format_list(wrong)}",
                "roll back and correct the new version, or advance again to repeat the checks",
            )
        await step.save_detail(passed=len(addresses) * len(plan.blue_green.smoke), pods=len(addresses))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The checks only read."""


class SwitchToGreen:
    """Sends all traffic to green with one patch of one selector value. The undo sends it back the same way."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        # The gate has passed, but a pod may be gone since then: a switch to no pods would be an outage.
        if missing := await with_retry(
            ctx, step, lambda: why_not_serving(ctx, plan.preview_service, plan.green_deployment)
        ):
            raise StepFailed(f"green is not ready for traffic: {missing}", "wait until it is ready, then advance again")
        await _switch_traffic(ctx, step, {switch.label: switch.second_value}, plan.green_deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        service = await _read_service_if_exists(ctx, step)
        if service is None:
            return
        if service.selector.get(switch.label) != switch.first_value:
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            _require_available_pods(ctx, view)
        await _switch_traffic(ctx, step, {switch.label: switch.first_value}, plan.kubernetes.deployment)


class SwitchToStable:
    """Sends the traffic back to the first Deployment, which has the new image now.

    The undo sends it to green, so that the first Deployment returns to the old image without traffic. When green is
    gone, the first Deployment keeps the traffic and returns pod by pod.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        green = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.green_deployment))
        first = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
        if first.available < green.desired:
            available = count_noun(first.available, "available pod")
            raise StepFailed(
                f"Deployment {first.name} has {available}, and green serves with {green.desired}",
                f"kubectl -n {ctx.cluster.namespace} scale deployment/{first.name} --replicas={green.desired}",
            )
        await _switch_traffic(ctx, step, {switch.label: switch.first_value}, plan.kubernetes.deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        if await _green_can_serve(ctx, step):
            await _switch_traffic(ctx, step, {switch.label: switch.second_value}, plan.green_deployment)
        else:
            await _set_selector(ctx, step, {switch.label: switch.first_value})


class RemoveGreen:
    """Removes green, which has no traffic any more; its pods finish their requests first."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await _read_switch_label(ctx)
        service = await with_retry(ctx, step, lambda: services.get_service(ctx.cluster, plan.service))
        if service.selector.get(switch.label) != switch.first_value:
            raise StepFailed(
                f"Service {plan.service} does not select the first Deployment: green may still have the traffic",
                f"set its selector {switch.label} back to {switch.first_value}, then advance again",
            )
        await remove_and_wait(ctx, step, DEPLOYMENTS, _blue_green_plan(ctx).green_deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Green is not created again: the first Deployment returns to the old image pod by pod, under traffic."""


class RemovePreview:
    """Removes the preview Service."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await remove_and_wait(ctx, step, SERVICES, _blue_green_plan(ctx).preview_service)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """A rollback does not need it."""


class ReleaseService:
    """Removes the mark of ownership from the Service."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        await with_retry(
            ctx, step, lambda: services.release_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        await with_retry(
            ctx, step, lambda: services.acquire_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )


async def _read_switch_label(ctx: Context) -> SwitchLabel:
    claim = find_service_claim(await ctx.store.read())
    if claim is None:
        raise StepFailed("the Service was never acquired", "roll back, then start a new release")
    return claim[0]


async def _read_service_if_exists(ctx: Context, step: StepHandle) -> ServiceView | None:
    """The Service for an undo; None where it is gone, which is recorded."""
    name = _blue_green_plan(ctx).service
    async with gone_counts_as_undone(ctx, step):
        return await with_retry(ctx, step, lambda: services.get_service(ctx.cluster, name))
    return None


def _blue_green_plan(ctx: Context) -> BlueGreenPlan:
    return ctx.plan_of_type(BlueGreenPlan)


async def _read_deployment(ctx: Context, deployment: str) -> object:
    raw = await services.get_raw_object(ctx.cluster, DEPLOYMENTS, deployment)
    if raw is None:
        raise StepFailed(f"Deployment {deployment!r} does not exist", "check kubernetes.deployment in the plan")
    return raw


async def _green_can_serve(ctx: Context, step: StepHandle) -> bool:
    name = _blue_green_plan(ctx).green_deployment
    raw = await with_retry(ctx, step, lambda: services.get_raw_object(ctx.cluster, DEPLOYMENTS, name))
    if raw is None or get_text(raw, "metadata", "deletionTimestamp"):
        return False
    return (await with_retry(ctx, step, lambda: read_rollout_status(ctx, name))).done


async def _set_selector(ctx: Context, step: StepHandle, selector: dict[str, str]) -> None:
    plan = _blue_green_plan(ctx)
    await with_retry(
        ctx,
        step,
        lambda: services.set_service_selector(ctx.cluster, plan.service, selector, owner=plan.name, epoch=ctx.epoch),
    )


async def _switch_traffic(ctx: Context, step: StepHandle, selector: dict[str, str], deployment: str) -> None:
    """Patches the selector once, then waits for the endpoints and for the routers."""
    service = _blue_green_plan(ctx).service
    await _set_selector(ctx, step, selector)
    await _wait_until_serving(ctx, step, service, deployment)
    await step.set_note(
        f"Service {service} selects {deployment}; waiting {ROUTER_DELAY:g} s until every router has seen it"
    )
    await asyncio.sleep(ROUTER_DELAY)


async def _wait_until_serving(ctx: Context, step: StepHandle, service: str, deployment: str) -> None:
    async def check() -> RolloutStatus:
        return build_status(await why_not_serving(ctx, service, deployment))

    subject = f"endpoints of Service {service} for Deployment {deployment}"
    await wait_until_done(ctx, step, check, subject=subject, resource=f"service/{service}")


def _require_available_pods(ctx: Context, view: DeploymentView) -> None:
    if not view.available:
        raise StepFailed(
            f"Deployment {view.name} has no available pod: a switch to it would be an outage",
            f"kubectl -n {ctx.cluster.namespace} describe deployment {view.name}; then roll back again",
        )

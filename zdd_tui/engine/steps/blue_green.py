"""Blue/green: a second Deployment, green, is tried, gets all traffic in one patch, and hands it back at the end."""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.kubernetes import services as switching
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES
from zdd_tui.backends.metrics.probe import run_smoke_checks
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.rollout import read_rollout_status
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.json_access import get_text
from zdd_tui.model.plan.strategies import BlueGreenPlan
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.workload.rollout import DeploymentView, container_image
from zdd_tui.model.workload.second_deployment import (
    SwitchLabel,
    build_preview_service,
    build_second_deployment,
    choose_switch_label,
)

POLL_INTERVAL = 0.3
ROUTER_DELAY = 2.0
"""Seconds that routers get to see a switch before the pods that it left may go: kube-proxy's sync period is 1 s."""


class AcquireService:
    """The Service is ours: another release that wants it is refused, and so are we where another holds it."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        if "switch" not in step.detail:
            raw = await with_retry(ctx, step, lambda: _read_deployment(ctx, plan.kubernetes.deployment))
            service = await with_retry(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
            found = choose_switch_label(raw, service, "green")
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await step.save_detail(
                switch=[found.label, found.first_value, found.second_value],
                replicas=view.desired,
                image_before=container_image(plan, view),
            )
        await with_retry(
            ctx, step, lambda: switching.acquire_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        service = await with_retry(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
        if service.owner != plan.name:
            return  # it was another's, or it is free already
        if "switch" in step.detail:
            found = SwitchLabel(*step.detail["switch"])
            await _set_selector(ctx, step, {found.label: found.first_value})
        await with_retry(
            ctx, step, lambda: switching.release_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )


class CreateGreen:
    """The second Deployment, ready with all its replicas. No Service finds it yet."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
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
        await with_retry(ctx, step, lambda: switching.create_owned(ctx.cluster, DEPLOYMENTS, manifest, owner=plan.name))
        await _wait_until(
            ctx, step, lambda: _why_green_not_ready(ctx), f"deployment {plan.green_deployment} is not ready"
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove_green(ctx, step)


class CreatePreview:
    """A Service of its own for green: the way by which it is tried."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
        raw = await with_retry(ctx, step, lambda: switching.get_raw_object(ctx.cluster, SERVICES, plan.service))
        if raw is None:
            raise StepFailed(f"there is no service {plan.service!r} any more", "find out who removed it")
        manifest = build_preview_service(raw, switch, name=plan.preview_service, owner=plan.name, epoch=ctx.epoch)
        await with_retry(ctx, step, lambda: switching.create_owned(ctx.cluster, SERVICES, manifest, owner=plan.name))
        await _wait_until(
            ctx,
            step,
            lambda: why_not_serving(ctx, plan.preview_service, plan.green_deployment),
            f"service {plan.preview_service} does not find the pods of {plan.green_deployment}",
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove_preview(ctx, step)


class SmokeChecks:
    """Every green pod answers every request of the plan as told."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        endpoints = await with_retry(ctx, step, lambda: ctx.cluster.list_endpoint_slices(plan.preview_service))
        addresses = [(found.address, found.port) for found in endpoints if found.ready and found.address]
        if not addresses:
            raise StepFailed(f"service {plan.preview_service} has no ready endpoint", "see why its pods are not ready")
        await step.set_note(f"asking {len(addresses)} pods {len(plan.blue_green.smoke)} questions each")
        wrong = await run_smoke_checks(addresses, plan.blue_green.smoke, plan.blue_green.smoke_timeout)
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise StepFailed(
                f"smoke checks: {'; '.join(wrong[:3])}{more}",
                "mend the new version and roll back, or advance again if it was a passing trouble",
            )
        await step.save_detail(passed=len(addresses) * len(plan.blue_green.smoke), pods=len(addresses))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Nothing was done but asking."""


class SwitchToGreen:
    """All traffic goes to green, by one value in one patch; and back to the first Deployment the same way."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
        # The gate said so, but a pod may have gone since: a switch to nothing would be an outage.
        if missing := await with_retry(
            ctx, step, lambda: why_not_serving(ctx, plan.preview_service, plan.green_deployment)
        ):
            raise StepFailed(f"green cannot take the traffic: {missing}", "wait until it is ready, then advance again")
        await _switch_traffic(ctx, step, {switch.label: switch.second_value}, plan.green_deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
        service = await with_retry(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
        if service.selector.get(switch.label) != switch.first_value:
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            _require_available_pods(ctx, view)
        await _switch_traffic(ctx, step, {switch.label: switch.first_value}, plan.kubernetes.deployment)


class SwitchToFirst:
    """The first Deployment has the new image by now and takes the traffic back. The undo gives it to green, while
    the first one goes back to the old image without traffic; without green that is done under traffic, pod by pod."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
        green = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.green_deployment))
        first = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
        if first.available < green.desired:
            raise StepFailed(
                f"deployment {first.name} has {first.available} pods where {green.desired} carry the traffic now",
                f"kubectl -n {ctx.cluster.namespace} scale deployment/{first.name} --replicas={green.desired}",
            )
        await _switch_traffic(ctx, step, {switch.label: switch.first_value}, plan.kubernetes.deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
        if await _green_can_serve(ctx, step):
            await _switch_traffic(ctx, step, {switch.label: switch.second_value}, plan.green_deployment)
        else:
            await _set_selector(ctx, step, {switch.label: switch.first_value})


class RemoveGreen:
    """Nobody sends to green any more; its pods end what they have begun, then they are gone."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _blue_green_plan(ctx), await read_switch_label(ctx)
        service = await with_retry(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
        if service.selector.get(switch.label) != switch.first_value:
            raise StepFailed(
                f"service {plan.service} selects other pods than the first Deployment's: green may be needed",
                "find out who changed its selector, put it back, then advance again",
            )
        await _remove_green(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """It is not made anew: the first Deployment goes back pod by pod, under traffic, without losing any."""


class RemovePreview:
    """The preview Service goes."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _remove_preview(ctx, step)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Nobody needs it on the way back."""


class ReleaseService:
    """The Service is nobody's again."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        await with_retry(
            ctx, step, lambda: switching.release_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = _blue_green_plan(ctx)
        await with_retry(
            ctx, step, lambda: switching.acquire_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )


# --- looks, shared with the gates ----------------------------------------------------------------------------


def read_claim(record: ReleaseRecord) -> tuple[SwitchLabel, int, str] | None:
    """The switch, the replicas and the image before the release; None before the Service was claimed."""
    detail = next((step.detail for step in record.steps if step.name == "acquire-service"), {})
    if "switch" not in detail:
        return None
    return SwitchLabel(*detail["switch"]), int(detail["replicas"]), str(detail["image_before"])


async def read_switch_label(ctx: Context) -> SwitchLabel:
    """What the claim has found out."""
    found = read_claim(await ctx.store.read())
    if found is None:
        raise StepFailed("the Service was never claimed", "roll back, and begin anew")
    return found[0]


async def why_not_serving(ctx: Context, service: str, deployment: str) -> str:
    """Why the Service's ready endpoints are not all pods of the Deployment; empty when they are, and all of them."""
    view = await ctx.cluster.get_deployment(deployment)
    own = {pod.name for pod in await ctx.cluster.list_pods(view.selector)}
    ready = [found for found in await ctx.cluster.list_endpoint_slices(service) if found.ready]
    foreign = sorted(found.pod_name or found.address for found in ready if found.pod_name not in own)
    if foreign:
        return f"{len(foreign)} of {len(ready)} endpoints are not pods of {deployment}: {', '.join(foreign[:3])}"
    if len(ready) < max(1, view.desired):
        return f"{len(ready)} of {view.desired} pods of {deployment} are ready endpoints of service {service}"
    return ""


# --- helpers -------------------------------------------------------------------------------------------------


def _blue_green_plan(ctx: Context) -> BlueGreenPlan:
    return ctx.plan_of_type(BlueGreenPlan)


async def _read_deployment(ctx: Context, deployment: str) -> object:
    raw = await switching.get_raw_object(ctx.cluster, DEPLOYMENTS, deployment)
    if raw is None:
        raise StepFailed(f"there is no deployment {deployment!r}", "check kubernetes.deployment")
    return raw


async def _why_green_not_ready(ctx: Context) -> str:
    status = await read_rollout_status(ctx, _blue_green_plan(ctx).green_deployment)
    if status.failed:
        raise StepFailed(f"green does not come up: {status.message}", "see its pods; then roll back")
    return "" if status.done else status.message


async def _green_can_serve(ctx: Context, step: StepHandle) -> bool:
    name = _blue_green_plan(ctx).green_deployment
    raw = await with_retry(ctx, step, lambda: switching.get_raw_object(ctx.cluster, DEPLOYMENTS, name))
    if raw is None or get_text(raw, "metadata", "deletionTimestamp"):
        return False
    return (await with_retry(ctx, step, lambda: read_rollout_status(ctx, name))).done


async def _set_selector(ctx: Context, step: StepHandle, selector: dict[str, str]) -> None:
    plan = _blue_green_plan(ctx)
    await with_retry(
        ctx,
        step,
        lambda: switching.set_service_selector(ctx.cluster, plan.service, selector, owner=plan.name, epoch=ctx.epoch),
    )


async def _switch_traffic(ctx: Context, step: StepHandle, selector: dict[str, str], deployment: str) -> None:
    """One patch, then a wait until the endpoints have followed and the routers have had time to."""
    service = _blue_green_plan(ctx).service
    await _set_selector(ctx, step, selector)
    await _wait_until(
        ctx, step, lambda: why_not_serving(ctx, service, deployment), f"service {service} does not find {deployment}"
    )
    await step.set_note(
        f"service {service} selects {deployment}; waiting {ROUTER_DELAY:g} s until every router has seen it"
    )
    await asyncio.sleep(ROUTER_DELAY)


def _require_available_pods(ctx: Context, view: DeploymentView) -> None:
    if not view.available:
        raise StepFailed(
            f"deployment {view.name} has no ready pod: switching to it would be an outage",
            f"kubectl -n {ctx.cluster.namespace} describe deployment {view.name}; then roll back again",
        )


async def _remove_green(ctx: Context, step: StepHandle) -> None:
    plan = _blue_green_plan(ctx)
    await _wait_until(
        ctx,
        step,
        lambda: _why_not_removed(ctx, step, DEPLOYMENTS, plan.green_deployment),
        f"deployment {plan.green_deployment} does not go",
    )


async def _remove_preview(ctx: Context, step: StepHandle) -> None:
    plan = _blue_green_plan(ctx)
    await _wait_until(
        ctx,
        step,
        lambda: _why_not_removed(ctx, step, SERVICES, plan.preview_service),
        f"service {plan.preview_service} does not go",
    )


async def _why_not_removed(ctx: Context, step: StepHandle, kind: tuple[str, str], name: str) -> str:
    gone = await with_retry(
        ctx, step, lambda: switching.remove_owned(ctx.cluster, kind, name, owner=ctx.plan.name, epoch=ctx.epoch)
    )
    return "" if gone else f"{name} is going"


async def _wait_until(
    ctx: Context, step: StepHandle, why_not_yet: Callable[[], Awaitable[str]], timeout_text: str
) -> None:
    """Looks until nothing is missing.

    Raises:
        StepFailed: kubernetes.rollout_timeout is over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ctx.plan.kubernetes.rollout_timeout
    while True:
        try:
            found = await why_not_yet()
        except ClusterError as error:
            found = f"cluster: {error.title}"
        if not found:
            return
        if loop.time() > deadline:
            raise StepFailed(
                f"{timeout_text} after {ctx.plan.kubernetes.rollout_timeout:.0f} s: {found}",
                f"kubectl -n {ctx.cluster.namespace} get deployments,services,pods; then advance again or roll back",
            )
        await step.set_note(found)
        await asyncio.sleep(POLL_INTERVAL)

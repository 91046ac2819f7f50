"""Blue/green: a second Deployment, green, is tried, gets all traffic in one patch, and hands it back at the end."""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.kubernetes import services as switching
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES
from zdd_tui.backends.metrics.probe import smoke
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import effect
from zdd_tui.engine.steps.rollout import look
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.json_access import text
from zdd_tui.model.plan.strategies import BlueGreenPlan
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.workload.rollout import DeploymentView, container_image
from zdd_tui.model.workload.second_deployment import Switch, preview_service, switch_for, twin_deployment

POLL = 0.3
SETTLE = 2.0
"""Seconds that routers get to see a switch before the pods that it left may go: kube-proxy's sync period is 1 s."""


class ClaimService:
    """The Service is ours: another release that wants it is refused, and so are we where another holds it."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _plan(ctx)
        if "switch" not in step.detail:
            raw = await effect(ctx, step, lambda: _existing(ctx, plan.kubernetes.deployment))
            service = await effect(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
            found = switch_for(raw, service, "green")
            view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            await step.remember(
                switch=[found.label, found.first, found.twin],
                replicas=view.desired,
                image_before=container_image(plan, view),
            )
        await effect(
            ctx, step, lambda: switching.claim_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = _plan(ctx)
        service = await effect(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
        if service.owner != plan.name:
            return  # it was another's, or it is free already
        if "switch" in step.detail:
            found = Switch(*step.detail["switch"])
            await _point(ctx, step, {found.label: found.first})
        await effect(
            ctx, step, lambda: switching.free_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )


class CreateGreen:
    """The second Deployment, ready with all its replicas. No Service finds it yet."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        raw = await effect(ctx, step, lambda: _existing(ctx, plan.kubernetes.deployment))
        manifest = twin_deployment(
            raw,
            switch,
            name=plan.green_deployment,
            container=plan.kubernetes.container,
            image=plan.kubernetes.image,
            owner=plan.name,
            epoch=ctx.epoch,
        )
        await effect(ctx, step, lambda: switching.create_owned(ctx.cluster, DEPLOYMENTS, manifest, owner=plan.name))
        await _until(ctx, step, lambda: _not_rolled_out(ctx), f"deployment {plan.green_deployment} is not ready")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove_green(ctx, step)


class CreatePreview:
    """A Service of its own for green: the way by which it is tried."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        raw = await effect(ctx, step, lambda: switching.read_raw(ctx.cluster, SERVICES, plan.service))
        if raw is None:
            raise StepFailed(f"there is no service {plan.service!r} any more", "find out who removed it")
        manifest = preview_service(raw, switch, name=plan.preview_service, owner=plan.name, epoch=ctx.epoch)
        await effect(ctx, step, lambda: switching.create_owned(ctx.cluster, SERVICES, manifest, owner=plan.name))
        await _until(
            ctx,
            step,
            lambda: not_serving(ctx, plan.preview_service, plan.green_deployment),
            f"service {plan.preview_service} does not find the pods of {plan.green_deployment}",
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await _remove_preview(ctx, step)


class SmokeChecks:
    """Every green pod answers every request of the plan as told."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _plan(ctx)
        endpoints = await effect(ctx, step, lambda: ctx.cluster.list_endpoint_slices(plan.preview_service))
        addresses = [(found.address, found.port) for found in endpoints if found.ready and found.address]
        if not addresses:
            raise StepFailed(f"service {plan.preview_service} has no ready endpoint", "see why its pods are not ready")
        await step.note(f"asking {len(addresses)} pods {len(plan.blue_green.smoke)} questions each")
        wrong = await smoke(addresses, plan.blue_green.smoke, plan.blue_green.smoke_timeout)
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise StepFailed(
                f"smoke checks: {'; '.join(wrong[:3])}{more}",
                "mend the new version and roll back, or advance again if it was a passing trouble",
            )
        await step.remember(passed=len(addresses) * len(plan.blue_green.smoke), pods=len(addresses))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Nothing was done but asking."""


class SwitchToGreen:
    """All traffic goes to green, by one value in one patch; and back to the first Deployment the same way."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        # The gate said so, but a pod may have gone since: a switch to nothing would be an outage.
        if missing := await effect(ctx, step, lambda: not_serving(ctx, plan.preview_service, plan.green_deployment)):
            raise StepFailed(f"green cannot take the traffic: {missing}", "wait until it is ready, then advance again")
        await _switch(ctx, step, {switch.label: switch.twin}, plan.green_deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        service = await effect(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
        if service.selector.get(switch.label) != switch.first:
            view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
            _refuse_outage(ctx, view)
        await _switch(ctx, step, {switch.label: switch.first}, plan.kubernetes.deployment)


class SwitchToFirst:
    """The first Deployment has the new image by now and takes the traffic back. The undo gives it to green, while
    the first one goes back to the old image without traffic; without green that is done under traffic, pod by pod."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        green = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.green_deployment))
        first = await effect(ctx, step, lambda: ctx.cluster.get_deployment(plan.kubernetes.deployment))
        if first.available < green.desired:
            raise StepFailed(
                f"deployment {first.name} has {first.available} pods where {green.desired} carry the traffic now",
                f"kubectl -n {ctx.cluster.namespace} scale deployment/{first.name} --replicas={green.desired}",
            )
        await _switch(ctx, step, {switch.label: switch.first}, plan.kubernetes.deployment)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        if await _green_can_serve(ctx, step):
            await _switch(ctx, step, {switch.label: switch.twin}, plan.green_deployment)
        else:
            await _point(ctx, step, {switch.label: switch.first})


class RemoveGreen:
    """Nobody sends to green any more; its pods end what they have begun, then they are gone."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan, switch = _plan(ctx), await switch_of(ctx)
        service = await effect(ctx, step, lambda: switching.get_service(ctx.cluster, plan.service))
        if service.selector.get(switch.label) != switch.first:
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


class FreeService:
    """The Service is nobody's again."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = _plan(ctx)
        await effect(
            ctx, step, lambda: switching.free_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = _plan(ctx)
        await effect(
            ctx, step, lambda: switching.claim_service(ctx.cluster, plan.service, owner=plan.name, epoch=ctx.epoch)
        )


# --- looks, shared with the gates ----------------------------------------------------------------------------


def claimed(record: ReleaseRecord) -> tuple[Switch, int, str] | None:
    """The switch, the replicas and the image before the release; None before the Service was claimed."""
    detail = next((step.detail for step in record.steps if step.name == "claim-service"), {})
    if "switch" not in detail:
        return None
    return Switch(*detail["switch"]), int(detail["replicas"]), str(detail["image_before"])


async def switch_of(ctx: Context) -> Switch:
    """What the claim has found out."""
    found = claimed(await ctx.store.read())
    if found is None:
        raise StepFailed("the Service was never claimed", "roll back, and begin anew")
    return found[0]


async def not_serving(ctx: Context, service: str, deployment: str) -> str:
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


def _plan(ctx: Context) -> BlueGreenPlan:
    return ctx.plan_as(BlueGreenPlan)


async def _existing(ctx: Context, deployment: str) -> object:
    raw = await switching.read_raw(ctx.cluster, DEPLOYMENTS, deployment)
    if raw is None:
        raise StepFailed(f"there is no deployment {deployment!r}", "check kubernetes.deployment")
    return raw


async def _not_rolled_out(ctx: Context) -> str:
    status = await look(ctx, _plan(ctx).green_deployment)
    if status.failed:
        raise StepFailed(f"green does not come up: {status.message}", "see its pods; then roll back")
    return "" if status.done else status.message


async def _green_can_serve(ctx: Context, step: StepHandle) -> bool:
    name = _plan(ctx).green_deployment
    raw = await effect(ctx, step, lambda: switching.read_raw(ctx.cluster, DEPLOYMENTS, name))
    if raw is None or text(raw, "metadata", "deletionTimestamp"):
        return False
    return (await effect(ctx, step, lambda: look(ctx, name))).done


async def _point(ctx: Context, step: StepHandle, selector: dict[str, str]) -> None:
    plan = _plan(ctx)
    await effect(
        ctx,
        step,
        lambda: switching.point_service(ctx.cluster, plan.service, selector, owner=plan.name, epoch=ctx.epoch),
    )


async def _switch(ctx: Context, step: StepHandle, selector: dict[str, str], deployment: str) -> None:
    """One patch, then a wait until the endpoints have followed and the routers have had time to."""
    service = _plan(ctx).service
    await _point(ctx, step, selector)
    await _until(
        ctx, step, lambda: not_serving(ctx, service, deployment), f"service {service} does not find {deployment}"
    )
    await step.note(f"service {service} selects {deployment}; waiting {SETTLE:g} s until every router has seen it")
    await asyncio.sleep(SETTLE)


def _refuse_outage(ctx: Context, view: DeploymentView) -> None:
    if not view.available:
        raise StepFailed(
            f"deployment {view.name} has no ready pod: switching to it would be an outage",
            f"kubectl -n {ctx.cluster.namespace} describe deployment {view.name}; then roll back again",
        )


async def _remove_green(ctx: Context, step: StepHandle) -> None:
    plan = _plan(ctx)
    await _until(
        ctx,
        step,
        lambda: _still_there(ctx, step, DEPLOYMENTS, plan.green_deployment),
        f"deployment {plan.green_deployment} does not go",
    )


async def _remove_preview(ctx: Context, step: StepHandle) -> None:
    plan = _plan(ctx)
    await _until(
        ctx,
        step,
        lambda: _still_there(ctx, step, SERVICES, plan.preview_service),
        f"service {plan.preview_service} does not go",
    )


async def _still_there(ctx: Context, step: StepHandle, kind: tuple[str, str], name: str) -> str:
    gone = await effect(
        ctx, step, lambda: switching.remove_owned(ctx.cluster, kind, name, owner=ctx.plan.name, epoch=ctx.epoch)
    )
    return "" if gone else f"{name} is going"


async def _until(ctx: Context, step: StepHandle, missing: Callable[[], Awaitable[str]], what: str) -> None:
    """Looks until nothing is missing.

    Raises:
        StepFailed: kubernetes.rollout_timeout is over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ctx.plan.kubernetes.rollout_timeout
    while True:
        try:
            found = await missing()
        except ClusterError as error:
            found = f"cluster: {error.title}"
        if not found:
            return
        if loop.time() > deadline:
            raise StepFailed(
                f"{what} after {ctx.plan.kubernetes.rollout_timeout:.0f} s: {found}",
                f"kubectl -n {ctx.cluster.namespace} get deployments,services,pods; then advance again or roll back",
            )
        await step.note(found)
        await asyncio.sleep(POLL)

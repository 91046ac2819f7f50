"""Gates of the strategies that leave the schema alone: what serves, how well it does, what is left behind."""

from collections.abc import Mapping

from zdd_tui.backends.kubernetes.routes import get_route
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, read_raw
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import Finding, Judge, listed, own_step, passes, step_record
from zdd_tui.engine.steps.rollout import look
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import own_pods, shrinks
from zdd_tui.model.workload.route import canary_share


async def serving_pods(ctx: Context) -> list[PodFacts]:
    """The pods that the Service sends requests to."""
    names = ctx.plan.kubernetes
    view = await ctx.cluster.get_deployment(names.deployment)
    pods = {pod.name: pod for pod in await ctx.cluster.list_pods(view.selector, container=names.container)}
    endpoints = await ctx.cluster.list_endpoint_slices(ctx.plan.service)
    return [pods[endpoint.pod_name] for endpoint in endpoints if endpoint.ready and endpoint.pod_name in pods]


async def serving_version(ctx: Context, version: str) -> Finding:
    """Passes when every pod that serves is of a version, and as many of the Deployment's own as it wants.

    By replicas the Service finds the canary's pods too: they stand in for none of the first Deployment's.
    """
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    serving = await serving_pods(ctx)
    other = sorted(pod.name for pod in serving if ctx.plan.version_of(pod.image) != version)
    if not serving:
        return Verdict.FAIL, "no pod is serving"
    if other:
        return (
            Verdict.FAIL,
            f"{len(other)} of {len(serving)} serving pods do not have {_called(version)}: {', '.join(other[:3])}",
        )
    own = own_pods(view, await ctx.cluster.list_replica_sets(view.selector), serving)
    beside = f", {len(serving) - len(own)} of another Deployment beside them" if len(serving) > len(own) else ""
    return passes(len(own) >= view.desired, f"{len(own)} of {view.desired} pods serve {_called(version)}{beside}")


def _called(version: str) -> str:
    return "the new image" if version == "new" else version.upper()


async def _serving_new(ctx: Context, _record: ReleaseRecord) -> Finding:
    return await serving_version(ctx, "new")


async def no_older_pod(ctx: Context, _record: ReleaseRecord) -> Finding:
    """Terminating ones count."""
    status = await look(ctx)
    if status.old_pods:
        return Verdict.FAIL, f"{len(status.old_pods)} older pods exist: {', '.join(status.old_pods[:3])}"
    return passes(status.done, status.message)


async def _never_short(ctx: Context, _record: ReleaseRecord) -> Finding:
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    why = shrinks(view)
    return passes(not why, why or f"maxUnavailable {view.max_unavailable}, maxSurge {view.max_surge}")


async def _pods_healthy(ctx: Context, _record: ReleaseRecord) -> Finding:
    names = ctx.plan.kubernetes
    view = await ctx.cluster.get_deployment(names.deployment)
    pods = await ctx.cluster.list_pods(view.selector, container=names.container)
    if isinstance(ctx.plan, CanaryPlan) and ctx.plan.canary.route is not None:
        pods += await _pods_beside(ctx, ctx.plan)
    new = [pod for pod in pods if ctx.plan.version_of(pod.image) == "new" and pod.deadline is None]
    if not new:
        return Verdict.FAIL, "no pod has the new image"
    ill = [f"{pod.name} {trouble}" for pod in new if (trouble := _trouble(pod))]
    many = "1 new pod is" if len(new) == 1 else f"{len(new)} new pods are"
    return passes(not ill, listed(ill) or f"{many} ready, none has restarted")


async def _pods_beside(ctx: Context, plan: CanaryPlan) -> list[PodFacts]:
    """By gateway the canary's pods carry another label than the first Deployment's; it may be gone already."""
    if await read_raw(ctx.cluster, DEPLOYMENTS, plan.canary_deployment) is None:
        return []
    view = await ctx.cluster.get_deployment(plan.canary_deployment)
    return await ctx.cluster.list_pods(view.selector, container=plan.kubernetes.container)


def _trouble(pod: PodFacts) -> str:
    restarts = sum(container.restarts for container in pod.containers)
    if restarts:
        return f"restarted {restarts} times"
    return "" if pod.ready else "is not ready"


async def soak_passed(_ctx: Context, record: ReleaseRecord) -> Finding:
    """Of the present phase."""
    spec = own_step(record, "soak")
    step = step_record(record, spec.name) if spec else None
    if step is None or step.status is not StepStatus.DONE:
        return Verdict.FAIL, step.note if step and step.note else "soak is not over"
    return Verdict.PASS, "soak is over"


async def _weight_held(ctx: Context, record: ReleaseRecord) -> Finding:
    """The share that the new image really has, as far as it can be seen from here."""
    plan = ctx.plan_as(CanaryPlan)
    spec = own_step(record, "set-weight")
    weight = spec.value if spec and spec.value is not None else 0
    if plan.canary.flag is not None:
        key = plan.canary.flag.key
        value = (await ctx.flags.read([key]))[key]
        return passes(value is not None and value.percent == weight, f"flag {key} is {value}, wanted: {weight}%")
    if plan.canary.route is not None:
        return await _route_held(ctx, plan, plan.canary.route, weight)
    serving = await serving_pods(ctx)
    new = sum(ctx.plan.version_of(pod.image) == "new" for pod in serving)
    real = 100 * new / len(serving) if serving else 0.0
    told = f"{new} of {len(serving)} serving pods are new: {real:.0f}%, wanted: {weight}%"
    return passes(bool(serving) and abs(real - weight) <= plan.canary.tolerance, told)


async def _route_held(ctx: Context, plan: CanaryPlan, name: str, weight: int) -> Finding:
    view = await get_route(ctx.cluster, name)
    shares = canary_share(view, plan.service, plan.canary_service)
    off = [f"{share:.0f}%" for share in shares if abs(share - weight) > 1]
    if off or not shares:
        return Verdict.FAIL, f"httproute {name} gives the canary {', '.join(off) or 'nothing'}, wanted: {weight}%"
    return passes(not view.waits, view.waits or f"every Gateway of httproute {name} gives the canary {weight}%")


async def _marks_gone(ctx: Context, _record: ReleaseRecord) -> Finding:
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    left = [f"annotation on Deployment {view.name}"] if view.epoch else []
    if isinstance(ctx.plan, CanaryPlan):
        left += await _left_of_canary(ctx, ctx.plan)
    return passes(not left, f"still there: {', '.join(left)}" if left else "nothing is left behind")


async def _left_of_canary(ctx: Context, plan: CanaryPlan) -> list[str]:
    left = []
    if plan.canary.by != "flag" and await read_raw(ctx.cluster, DEPLOYMENTS, plan.canary_deployment):
        left.append(f"Deployment {plan.canary_deployment}")
    if plan.canary.route is not None:
        if await read_raw(ctx.cluster, SERVICES, plan.canary_service):
            left.append(f"Service {plan.canary_service}")
        if (await get_route(ctx.cluster, plan.canary.route)).owner:
            left.append(f"annotations on HTTPRoute {plan.canary.route}")
    return left


WORKLOAD_GATES: Mapping[str, Judge] = {
    "serving-new": _serving_new,
    "no-older-pod": no_older_pod,
    "never-short": _never_short,
    "pods-healthy": _pods_healthy,
    "soak-passed": soak_passed,
    "weight-held": _weight_held,
    "marks-gone": _marks_gone,
}

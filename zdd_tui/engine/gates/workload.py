"""Gates of the strategies that leave the schema alone: what serves, how well it does, what is left behind."""

from collections.abc import Mapping

from zdd_tui.backends.kubernetes.routes import get_route
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, get_raw_object
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import (
    GateEvaluator,
    GateResult,
    find_current_step,
    find_step_record,
    format_list,
    pass_or_fail,
)
from zdd_tui.engine.steps.rollout import read_rollout_status
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import reduces_capacity, select_own_pods
from zdd_tui.model.workload.route import canary_percentages


async def list_serving_pods(ctx: Context) -> list[PodFacts]:
    """The pods that the Service sends requests to."""
    names = ctx.plan.kubernetes
    view = await ctx.cluster.get_deployment(names.deployment)
    pods = {pod.name: pod for pod in await ctx.cluster.list_pods(view.selector, container=names.container)}
    endpoints = await ctx.cluster.list_endpoint_slices(ctx.plan.service)
    return [pods[endpoint.pod_name] for endpoint in endpoints if endpoint.ready and endpoint.pod_name in pods]


async def evaluate_serving_version(ctx: Context, version: str) -> GateResult:
    """Passes when every pod that serves is of a version, and as many of the Deployment's own as it wants.

    By replicas the Service finds the canary's pods too: they stand in for none of the first Deployment's.
    """
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    serving = await list_serving_pods(ctx)
    other = sorted(pod.name for pod in serving if ctx.plan.version_of(pod.image) != version)
    if not serving:
        return Verdict.FAIL, "no pod is serving"
    if other:
        return (
            Verdict.FAIL,
            f"{len(other)} of {len(serving)} serving pods do not have {_version_name(version)}: {', '.join(other[:3])}",
        )
    own = select_own_pods(view, await ctx.cluster.list_replica_sets(view.selector), serving)
    beside = f", {len(serving) - len(own)} of another Deployment beside them" if len(serving) > len(own) else ""
    return pass_or_fail(
        len(own) >= view.desired, f"{len(own)} of {view.desired} pods serve {_version_name(version)}{beside}"
    )


def _version_name(version: str) -> str:
    return "the new image" if version == "new" else version.upper()


async def _evaluate_serving_new(ctx: Context, _record: ReleaseRecord) -> GateResult:
    return await evaluate_serving_version(ctx, "new")


async def evaluate_no_older_pod(ctx: Context, _record: ReleaseRecord) -> GateResult:
    """Terminating ones count."""
    status = await read_rollout_status(ctx)
    if status.old_pods:
        return Verdict.FAIL, f"{len(status.old_pods)} older pods exist: {', '.join(status.old_pods[:3])}"
    return pass_or_fail(status.done, status.message)


async def _evaluate_capacity_kept(ctx: Context, _record: ReleaseRecord) -> GateResult:
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    why = reduces_capacity(view)
    return pass_or_fail(not why, why or f"maxUnavailable {view.max_unavailable}, maxSurge {view.max_surge}")


async def _evaluate_pods_healthy(ctx: Context, _record: ReleaseRecord) -> GateResult:
    names = ctx.plan.kubernetes
    view = await ctx.cluster.get_deployment(names.deployment)
    pods = await ctx.cluster.list_pods(view.selector, container=names.container)
    if isinstance(ctx.plan, CanaryPlan) and ctx.plan.canary.route is not None:
        pods += await _canary_pods(ctx, ctx.plan)
    new = [pod for pod in pods if ctx.plan.version_of(pod.image) == "new" and pod.deletion_deadline is None]
    if not new:
        return Verdict.FAIL, "no pod has the new image"
    ill = [f"{pod.name} {trouble}" for pod in new if (trouble := _pod_problem(pod))]
    many = "1 new pod is" if len(new) == 1 else f"{len(new)} new pods are"
    return pass_or_fail(not ill, format_list(ill) or f"{many} ready, none has restarted")


async def _canary_pods(ctx: Context, plan: CanaryPlan) -> list[PodFacts]:
    """By gateway the canary's pods carry another label than the first Deployment's; it may be gone already."""
    if await get_raw_object(ctx.cluster, DEPLOYMENTS, plan.canary_deployment) is None:
        return []
    view = await ctx.cluster.get_deployment(plan.canary_deployment)
    return await ctx.cluster.list_pods(view.selector, container=plan.kubernetes.container)


def _pod_problem(pod: PodFacts) -> str:
    restarts = sum(container.restarts for container in pod.containers)
    if restarts:
        return f"restarted {restarts} times"
    return "" if pod.ready else "is not ready"


async def evaluate_soak_passed(_ctx: Context, record: ReleaseRecord) -> GateResult:
    """Of the present phase."""
    spec = find_current_step(record, "soak")
    step = find_step_record(record, spec.name) if spec else None
    if step is None or step.status is not StepStatus.DONE:
        return Verdict.FAIL, step.note if step and step.note else "soak is not over"
    return Verdict.PASS, "soak is over"


async def _evaluate_weight(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The share that the new image really has, as far as it can be seen from here."""
    plan = ctx.plan_of_type(CanaryPlan)
    spec = find_current_step(record, "set-weight")
    weight = spec.value if spec and spec.value is not None else 0
    if plan.canary.flag is not None:
        key = plan.canary.flag.key
        value = (await ctx.flags.read([key]))[key]
        return pass_or_fail(value is not None and value.percent == weight, f"flag {key} is {value}, wanted: {weight}%")
    if plan.canary.route is not None:
        return await _evaluate_route_weight(ctx, plan, plan.canary.route, weight)
    serving = await list_serving_pods(ctx)
    new = sum(ctx.plan.version_of(pod.image) == "new" for pod in serving)
    real = 100 * new / len(serving) if serving else 0.0
    told = f"{new} of {len(serving)} serving pods are new: {real:.0f}%, wanted: {weight}%"
    return pass_or_fail(bool(serving) and abs(real - weight) <= plan.canary.tolerance, told)


async def _evaluate_route_weight(ctx: Context, plan: CanaryPlan, name: str, weight: int) -> GateResult:
    view = await get_route(ctx.cluster, name)
    shares = canary_percentages(view, plan.service, plan.canary_service)
    off = [f"{share:.0f}%" for share in shares if abs(share - weight) > 1]
    if off or not shares:
        return Verdict.FAIL, f"httproute {name} gives the canary {', '.join(off) or 'nothing'}, wanted: {weight}%"
    return pass_or_fail(
        not view.pending_reason, view.pending_reason or f"every Gateway of httproute {name} gives the canary {weight}%"
    )


async def _evaluate_annotations_removed(ctx: Context, _record: ReleaseRecord) -> GateResult:
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    left = [f"annotation on Deployment {view.name}"] if view.epoch else []
    if isinstance(ctx.plan, CanaryPlan):
        left += await _canary_leftovers(ctx, ctx.plan)
    return pass_or_fail(not left, f"still there: {', '.join(left)}" if left else "nothing is left behind")


async def _canary_leftovers(ctx: Context, plan: CanaryPlan) -> list[str]:
    left = []
    if plan.canary.by != "flag" and await get_raw_object(ctx.cluster, DEPLOYMENTS, plan.canary_deployment):
        left.append(f"Deployment {plan.canary_deployment}")
    if plan.canary.route is not None:
        if await get_raw_object(ctx.cluster, SERVICES, plan.canary_service):
            left.append(f"Service {plan.canary_service}")
        if (await get_route(ctx.cluster, plan.canary.route)).owner:
            left.append(f"annotations on HTTPRoute {plan.canary.route}")
    return left


WORKLOAD_GATES: Mapping[str, GateEvaluator] = {
    "serving-new": _evaluate_serving_new,
    "no-older-pod": evaluate_no_older_pod,
    "capacity-kept": _evaluate_capacity_kept,
    "pods-healthy": _evaluate_pods_healthy,
    "soak-passed": evaluate_soak_passed,
    "weight-held": _evaluate_weight,
    "annotations-removed": _evaluate_annotations_removed,
}

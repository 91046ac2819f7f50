"""Gates of the strategies that do not change the schema: what is serving, its health, what is left behind."""

from collections.abc import Mapping

from zdd_tui.backends.kubernetes.routes import get_route
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, get_raw_object
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import (
    GateEvaluator,
    GateResult,
    describe_flag,
    describe_leftovers,
    pass_after,
    pass_or_fail,
)
from zdd_tui.engine.observations import find_current_step, find_step_record, list_serving_pods, read_workload
from zdd_tui.model.counting import count_noun, format_list
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import reduces_capacity, select_own_pods
from zdd_tui.model.workload.route import canary_percentages
from zdd_tui.model.workload.version import PodVersions, group_by_origin


async def evaluate_serving_version(ctx: Context, record: ReleaseRecord, version: str, step: str) -> GateResult:
    """Passes when every serving pod has the version, and as many of the Deployment's own pods serve as it wants.

    In a canary by replicas the Service also finds the canary's pods; they do not count as the first Deployment's.

    Args:
        step: registry key of the step that rolls the version out.
    """
    workload = await read_workload(ctx)
    view, serving = workload.view, await list_serving_pods(ctx, workload)
    if not serving:
        return Verdict.FAIL, "no pod is serving"
    name = "the new image" if version == "new" else version.upper()
    versions = PodVersions(ctx.workload_plan, workload.sets_by_uid)
    groups = workload.serving_groups if serving is workload.serving_pods else group_by_origin(serving)
    wrong = [group for group in groups if versions.version_of(group[0]) != version]
    other = sorted(f"{pod.name} has {pod.image}" for group in wrong for pod in group)
    if other:
        reason = f"{len(other)} of {len(serving)} serving pods without {name}: {', '.join(other[:3])}"
        return pass_after(record, [step], False, reason)
    own = select_own_pods(view, workload.replica_sets, serving)
    beside = f", {len(serving) - len(own)} of another Deployment beside them" if len(serving) > len(own) else ""
    reason = f"{len(own)} of {view.desired} pods serve {name}{beside}"
    return pass_after(record, [step], len(own) >= view.desired, reason)


async def _evaluate_serving_new(ctx: Context, record: ReleaseRecord) -> GateResult:
    return await evaluate_serving_version(ctx, record, "new", "rollout-new")


_ROLLOUTS = ("rollout-v3", "rollout-new")


async def _evaluate_no_older_pod(ctx: Context, record: ReleaseRecord) -> GateResult:
    """Terminating pods count. A rollout that is under way is pending until the controller gives up. Before the phase
    has rolled its image out, every pod is an older one, whatever the Deployment says."""
    status, phase = (await read_workload(ctx)).rollout, record.release.current_phase
    ahead = [
        step.label
        for step in (phase.steps if phase else ())
        if step.registry_key in _ROLLOUTS and record.release.status(step.name) is not StepStatus.DONE
    ]
    if status.done:
        return (Verdict.PENDING, f"not finished: {format_list(ahead)}") if ahead else (Verdict.PASS, status.message)
    names = f"{', '.join(status.old_pods[:3])}{' ...' if len(status.old_pods) > 3 else ''}"
    reason = f"{count_noun(len(status.old_pods), 'older pod')} left: {names}" if status.old_pods else status.message
    return (Verdict.FAIL, status.message) if status.failed else (Verdict.PENDING, reason)


async def _evaluate_capacity_kept(ctx: Context, _record: ReleaseRecord) -> GateResult:
    view = (await read_workload(ctx)).view
    why = reduces_capacity(view)
    return pass_or_fail(not why, why or f"maxUnavailable {view.max_unavailable}, maxSurge {view.max_surge}")


async def _evaluate_pods_healthy(ctx: Context, record: ReleaseRecord) -> GateResult:
    workload = await read_workload(ctx)
    pods, versions = workload.pods, PodVersions(ctx.workload_plan, workload.sets_by_uid)
    if isinstance(ctx.plan, CanaryPlan) and ctx.plan.canary.route is not None:
        pods += await _list_canary_pods(ctx, ctx.plan)
    new = [
        pod
        for pod in pods
        if pod.deletion_deadline is None and not pod.is_terminal and versions.version_of(pod) == "new"
    ]
    restarted = [
        f"{pod.name} has restarted {count_noun(count, 'time')}" for pod in new if (count := _count_restarts(pod))
    ]
    if restarted:
        return Verdict.FAIL, format_list(restarted)
    not_ready = [f"{pod.name} is not ready" for pod in new if not pod.ready]
    reason = format_list(not_ready) or (
        f"{count_noun(len(new), 'new pod is', 'new pods are')} ready, none has restarted"
        if new
        else "no pod has the new image"
    )
    return pass_after(record, ["rollout-new", "set-weight"], bool(new) and not not_ready, reason)


async def _list_canary_pods(ctx: Context, plan: CanaryPlan) -> tuple[PodFacts, ...]:
    """By gateway the canary's pods have another label than the first Deployment's. None once it is removed."""
    if await get_raw_object(ctx.cluster, DEPLOYMENTS, plan.canary_deployment) is None:
        return ()
    return (await ctx.workloads.read(plan.canary_deployment, plan.canary_service)).pods


def _count_restarts(pod: PodFacts) -> int:
    return sum(container.restarts for container in pod.containers)


async def _evaluate_soak_passed(_ctx: Context, record: ReleaseRecord) -> GateResult:
    """The soak of the current phase."""
    spec = find_current_step(record, "soak")
    step = find_step_record(record, spec.name) if spec else None
    if step is not None and step.status is StepStatus.DONE:
        return Verdict.PASS, "soaked for the time that the plan sets"
    return Verdict.PENDING, step.note if step and step.note else "the soak has not finished"


async def _evaluate_weight(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The share that the new image really has, as far as it can be observed."""
    plan = ctx.plan_of_type(CanaryPlan)
    spec = find_current_step(record, "set-weight")
    weight = spec.value if spec and spec.value is not None else 0
    if plan.canary.flag is not None:
        key, expected = plan.canary.flag.key, FlagValue(weight)
        value = (await ctx.flags.read([key]))[key]
        return pass_after(record, ["set-weight"], value == expected, describe_flag(key, value, expected))
    if plan.canary.route is not None:
        return await _evaluate_route_weight(ctx, record, plan, plan.canary.route, weight)
    workload = await read_workload(ctx)
    serving, versions = await list_serving_pods(ctx, workload), PodVersions(plan, workload.sets_by_uid)
    new = sum(versions.version_of(pod) == "new" for pod in serving)
    share = 100 * new / len(serving) if serving else 0.0
    reason = f"{new} of {len(serving)} serving pods are new: {share:.0f}%, expected {weight}%"
    has_share = bool(serving) and abs(share - weight) <= plan.canary.tolerance
    return pass_after(record, ["set-weight"], has_share, reason)


async def _evaluate_route_weight(
    ctx: Context, record: ReleaseRecord, plan: CanaryPlan, name: str, weight: int
) -> GateResult:
    view = await get_route(ctx.cluster, name)
    shares = canary_percentages(view, plan.service, plan.canary_service)
    wrong = [f"{share:.0f}%" for share in shares if abs(share - weight) > 1]
    if wrong or not shares:
        reason = f"HTTPRoute {name} sends {', '.join(wrong) or 'nothing'} to the canary, expected {weight}%"
        return pass_after(record, ["set-weight"], False, reason)
    reason = view.pending_reason or f"every Gateway of HTTPRoute {name} sends {weight}% to the canary"
    return pass_after(record, ["set-weight"], not view.pending_reason, reason)


async def _evaluate_annotations_removed(ctx: Context, record: ReleaseRecord) -> GateResult:
    view = await ctx.cluster.get_deployment(ctx.workload_plan.kubernetes.deployment)
    left = [f"annotation on Deployment {view.name}"] if view.epoch else []
    if isinstance(ctx.plan, CanaryPlan):
        left += await _find_canary_leftovers(ctx, ctx.plan)
    return pass_after(record, ["remove-canary", "remove-annotations"], not left, describe_leftovers(left))


async def _find_canary_leftovers(ctx: Context, plan: CanaryPlan) -> list[str]:
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
    "no-older-pod": _evaluate_no_older_pod,
    "capacity-kept": _evaluate_capacity_kept,
    "pods-healthy": _evaluate_pods_healthy,
    "soak-passed": _evaluate_soak_passed,
    "weight-held": _evaluate_weight,
    "annotations-removed": _evaluate_annotations_removed,
}

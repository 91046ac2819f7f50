"""The gates of blue/green: green is healthy, it has the traffic, and the first Deployment is ready for a rollback."""

from collections.abc import Mapping
from http import HTTPStatus

from zdd_tui.backends.kubernetes.errors import KubeApiError, kind_name
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, get_raw_object, get_service
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import (
    GateEvaluator,
    GateResult,
    describe_leftovers,
    pass_after,
)
from zdd_tui.engine.observations import find_service_claim, find_step_record, why_not_serving
from zdd_tui.model.counting import count_noun, format_list
from zdd_tui.model.plan.strategies import BlueGreenPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.workload.rollout import container_image
from zdd_tui.model.workload.version import PodVersions


async def _evaluate_smoke_passed(_ctx: Context, record: ReleaseRecord) -> GateResult:
    step = find_step_record(record, "smoke-checks")
    if step is not None and step.status is StepStatus.DONE:
        responses, pods = step.detail.get("passed", 0), step.detail.get("pods", 0)
        return Verdict.PASS, f"{count_noun(responses, 'response')} of {count_noun(pods, 'pod')} as expected"
    if step is not None and step.status is StepStatus.FAILED:
        return Verdict.FAIL, step.error.splitlines()[0] if step.error else "the smoke checks failed"
    return Verdict.PENDING, "the smoke checks have not finished"


async def _evaluate_green_healthy(ctx: Context, record: ReleaseRecord) -> GateResult:
    plan = ctx.plan_of_type(BlueGreenPlan)
    try:
        workload = await ctx.workloads.read(plan.green_deployment, plan.preview_service)
    except KubeApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return pass_after(record, ["create-green"], False, f"Deployment {plan.green_deployment} does not exist")
    view, versions = workload.view, PodVersions(plan, workload.sets_by_uid)
    pods = [pod for pod in workload.pods if pod.deletion_deadline is None and not pod.is_terminal]
    wrong = [f"{pod.name} has image {pod.image}" for pod in pods if versions.version_of(pod) != "new"]
    wrong += [f"{pod.name} is not ready" for pod in pods if not pod.ready]
    restarts = {pod.name: sum(container.restarts for container in pod.containers) for pod in pods}
    wrong += [f"{name} has restarted {count_noun(count, 'time')}" for name, count in sorted(restarts.items()) if count]
    if len(pods) < view.desired:
        wrong.append(f"{len(pods)} of {view.desired} pods exist")
    reason = format_list(wrong) or f"{len(pods)} of {view.desired} green pods are ready, none has restarted"
    return pass_after(record, ["create-green"], not wrong, reason)


async def _evaluate_serving_green(ctx: Context, record: ReleaseRecord) -> GateResult:
    plan = ctx.plan_of_type(BlueGreenPlan)
    missing = await why_not_serving(ctx, plan.service, plan.green_deployment)
    reason = missing or f"every endpoint of {plan.service} is a green pod"
    return pass_after(record, ["switch-to-green"], not missing, reason)


async def _evaluate_stable_ready(ctx: Context, record: ReleaseRecord) -> GateResult:
    """An autoscaler sees no traffic on the first Deployment and may scale it down; a rollback would then be slow."""
    claim = find_service_claim(record)
    if claim is None:
        return Verdict.PENDING, "the Service is not acquired yet"
    _, replicas, image_before = claim
    view = await ctx.cluster.get_deployment(ctx.workload_plan.kubernetes.deployment)
    image = container_image(ctx.workload_plan, view)
    if image != image_before:
        return Verdict.FAIL, f"Deployment {view.name} has image {image}, not {image_before}"
    if view.available < replicas:
        return Verdict.FAIL, f"{view.available} of {replicas} pods of {view.name} are ready"
    return Verdict.PASS, f"{view.available} of {replicas} pods of {view.name} are ready with {image_before}"


async def _evaluate_green_removed(ctx: Context, record: ReleaseRecord) -> GateResult:
    plan, claim = ctx.plan_of_type(BlueGreenPlan), find_service_claim(record)
    left = []
    for kind, name in ((DEPLOYMENTS, plan.green_deployment), (SERVICES, plan.preview_service)):
        if await get_raw_object(ctx.cluster, kind, name) is not None:
            left.append(f"{kind_name(kind[1])} {name}")
    service = await get_service(ctx.cluster, plan.service)
    if service.owner or service.epoch:
        left.append(f"annotations on Service {service.name}")
    if claim is not None and service.selector.get(claim[0].label) != claim[0].first_value:
        left.append(f"selector of Service {service.name}")
    view = await ctx.cluster.get_deployment(plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on Deployment {view.name}")
    steps = ["remove-green", "remove-preview", "release-service", "remove-annotations"]
    return pass_after(record, steps, not left, describe_leftovers(left))


BLUE_GREEN_GATES: Mapping[str, GateEvaluator] = {
    "smoke-passed": _evaluate_smoke_passed,
    "green-healthy": _evaluate_green_healthy,
    "serving-green": _evaluate_serving_green,
    "stable-ready": _evaluate_stable_ready,
    "green-removed": _evaluate_green_removed,
}

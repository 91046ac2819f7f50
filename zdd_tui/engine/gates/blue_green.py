"""The gates of blue/green: is green fit, does it have the traffic, and does the first Deployment still stand ready?"""

from collections.abc import Mapping

from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, get_raw_object, get_service
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import GateEvaluator, GateResult, find_step_record, format_list, pass_or_fail
from zdd_tui.engine.steps.blue_green import read_claim, why_not_serving
from zdd_tui.model.plan.strategies import BlueGreenPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.workload.rollout import container_image


async def _evaluate_smoke_passed(_ctx: Context, record: ReleaseRecord) -> GateResult:
    step = find_step_record(record, "smoke-checks")
    if step is None or step.status is not StepStatus.DONE:
        return Verdict.FAIL, step.error.splitlines()[0] if step and step.error else "smoke checks have not passed"
    return Verdict.PASS, f"{step.detail.get('passed')} answers of {step.detail.get('pods')} pods as expected"


async def _evaluate_green_healthy(ctx: Context, _record: ReleaseRecord) -> GateResult:
    plan = ctx.plan_of_type(BlueGreenPlan)
    view = await ctx.cluster.get_deployment(plan.green_deployment)
    pods = [
        pod
        for pod in await ctx.cluster.list_pods(view.selector, container=plan.kubernetes.container)
        if pod.deletion_deadline is None
    ]
    wrong = [f"{pod.name} has image {pod.image}" for pod in pods if plan.version_of(pod.image) != "new"]
    wrong += [f"{pod.name} is not ready" for pod in pods if not pod.ready]
    restarts = {pod.name: sum(each.restarts for each in pod.containers) for pod in pods}
    wrong += [f"{name} has restarted {count} times" for name, count in sorted(restarts.items()) if count]
    if len(pods) < view.desired:
        wrong.append(f"{len(pods)} of {view.desired} pods exist")
    return pass_or_fail(not wrong, format_list(wrong) or f"{len(pods)} green pods are ready, none has restarted")


async def _evaluate_serving_green(ctx: Context, _record: ReleaseRecord) -> GateResult:
    plan = ctx.plan_of_type(BlueGreenPlan)
    missing = await why_not_serving(ctx, plan.service, plan.green_deployment)
    return pass_or_fail(not missing, missing or f"every endpoint of {plan.service} is a green pod")


async def _evaluate_first_warm(ctx: Context, record: ReleaseRecord) -> GateResult:
    """An autoscaler sees no traffic on the first Deployment and may shrink it: then the way back is not warm."""
    found = read_claim(record)
    if found is None:
        return Verdict.UNKNOWN, "the Service was never claimed"
    _, replicas, image_before = found
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    image = container_image(ctx.plan, view)
    if image != image_before:
        return Verdict.FAIL, f"deployment {view.name} has image {image}, not {image_before}"
    missing = "" if view.available >= replicas else f"{view.available} of {replicas} pods of {view.name} stand ready"
    return pass_or_fail(not missing, missing or f"{view.available} pods of {view.name} stand ready with {image_before}")


async def _evaluate_green_gone(ctx: Context, record: ReleaseRecord) -> GateResult:
    plan, found = ctx.plan_of_type(BlueGreenPlan), read_claim(record)
    left = []
    for kind, name in ((DEPLOYMENTS, plan.green_deployment), (SERVICES, plan.preview_service)):
        if await get_raw_object(ctx.cluster, kind, name) is not None:
            left.append(f"{kind[1].removesuffix('s')} {name}")
    service = await get_service(ctx.cluster, plan.service)
    if service.owner or service.epoch:
        left.append(f"annotations on service {service.name}")
    if found is not None and service.selector.get(found[0].label) != found[0].first_value:
        left.append(f"selector of service {service.name}")
    view = await ctx.cluster.get_deployment(plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on deployment {view.name}")
    return pass_or_fail(not left, f"still there: {', '.join(left)}" if left else "nothing is left behind")


BLUE_GREEN_GATES: Mapping[str, GateEvaluator] = {
    "smoke-passed": _evaluate_smoke_passed,
    "green-healthy": _evaluate_green_healthy,
    "serving-green": _evaluate_serving_green,
    "stable-ready": _evaluate_first_warm,
    "green-removed": _evaluate_green_gone,
}

"""What steps and gates both read: the release's record of its steps, the cluster now, the counters of the pods."""

from collections.abc import Mapping, Sequence

from zdd_tui.backends.kubernetes.services import SERVICES, get_raw_object
from zdd_tui.backends.kubernetes.workload_cache import WorkloadReading
from zdd_tui.backends.metrics.scrape import read_shadow_counters
from zdd_tui.engine.context import Context
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.plan.strategies import DarkLaunchPlan
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.strategy import StepSpec
from zdd_tui.model.shadow import ShadowCounters
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import (
    DeploymentCondition,
    DeploymentView,
    RolloutStatus,
    evaluate_rollout,
    select_own_pods,
)
from zdd_tui.model.workload.second_deployment import SwitchLabel


def find_step_record(record: ReleaseRecord, name: str) -> StepRecord | None:
    return next((step for step in record.steps if step.name == name), None)


def find_current_step(record: ReleaseRecord, key: str) -> StepSpec | None:
    """The step of the current phase with this key in the registry. Other phases may have a step with the same key."""
    phase = record.release.current_phase
    return next((step for step in phase.steps if step.registry_key == key), None) if phase else None


def find_service_claim(record: ReleaseRecord) -> tuple[SwitchLabel, int, str] | None:
    """The label that the Service is switched by, and replicas and image before the release.

    None until acquire-service has saved them.
    """
    step = find_step_record(record, "acquire-service")
    if step is None or "switch" not in step.detail:
        return None
    return SwitchLabel(*step.detail["switch"]), int(step.detail["replicas"]), str(step.detail["image_before"])


async def read_rollout_status(
    ctx: Context, deployment: str = "", *, ignored_condition: DeploymentCondition | None = None
) -> RolloutStatus:
    """The rollout of a Deployment now; of the plan's own Deployment by default.

    Args:
        ignored_condition: as of :func:`zdd_tui.model.workload.rollout.evaluate_rollout`.
    """
    view = await ctx.cluster.get_deployment(deployment or ctx.workload_plan.kubernetes.deployment)
    return await evaluate_view(ctx, view, ignored_condition=ignored_condition)


async def evaluate_view(
    ctx: Context, view: DeploymentView, *, ignored_condition: DeploymentCondition | None = None
) -> RolloutStatus:
    """The rollout of a Deployment that was read just now: its ReplicaSets and pods are read after it."""
    replica_sets = await ctx.cluster.list_replica_sets(view.selector)
    pods = await ctx.cluster.list_pods(view.selector)
    own = select_own_pods(view, replica_sets, pods)
    return evaluate_rollout(view, replica_sets, own, ignored_condition=ignored_condition)


async def read_workload(ctx: Context) -> WorkloadReading:
    """The plan's Deployment with its pods and the endpoints of the Service."""
    return await ctx.workloads.read(ctx.workload_plan.kubernetes.deployment, ctx.workload_plan.service)


async def list_serving_pods(ctx: Context, workload: WorkloadReading) -> Sequence[PodFacts]:
    """The pods that the Service sends requests to; of a workload without a Service the ready ones."""
    names = ctx.workload_plan.kubernetes
    if (
        not workload.endpoints
        and names.service is None
        and await get_raw_object(ctx.cluster, SERVICES, ctx.workload_plan.service) is None
    ):
        return [pod for pod in workload.pods if pod.ready and pod.deletion_deadline is None and not pod.is_terminal]
    return workload.serving_pods


async def why_not_serving(ctx: Context, service: str, deployment: str) -> str:
    """Why the Service's ready endpoints are not exactly the pods of the Deployment; empty when they are."""
    workload = await ctx.workloads.read(deployment, service)
    view, own = workload.view, {pod.name for pod in workload.pods}
    ready = [endpoint for endpoint in workload.endpoints if endpoint.ready]
    foreign = sorted(endpoint.pod_name or endpoint.address for endpoint in ready if endpoint.pod_name not in own)
    if foreign:
        return f"{len(foreign)} of {len(ready)} endpoints are not pods of {deployment}: {', '.join(foreign[:3])}"
    if len(ready) < max(1, view.desired):
        return f"{len(ready)} of {view.desired} pods of {deployment} are ready endpoints of Service {service}"
    return ""


async def read_pod_counters(ctx: Context) -> dict[str, ShadowCounters]:
    """The dark launch's counters of each serving pod, by the pod's uid.

    Raises:
        MetricsError: a pod does not return them, or no pod is serving.
    """
    plan = ctx.plan_of_type(DarkLaunchPlan)
    workload = await read_workload(ctx)
    serving = {pod.name: pod for pod in await list_serving_pods(ctx, workload)}
    addresses = {
        serving[endpoint.pod_name].uid: f"{endpoint.address}:{endpoint.port}"
        for endpoint in workload.endpoints
        if endpoint.ready and endpoint.pod_name in serving
    }
    if not addresses:
        raise MetricsError("no pod is serving")
    return await read_shadow_counters(addresses, plan.dark.path)


def counters_since(current: Mapping[str, ShadowCounters], base: Mapping[str, object]) -> ShadowCounters:
    """The sum over all pods since the base that a step saved; a pod that started later counts from zero."""
    total = ShadowCounters()
    for uid, counts in current.items():
        before = base.get(uid)
        total += counts.since(ShadowCounters.from_json(before)) if isinstance(before, Mapping) else counts
    return total

"""A Deployment's rollout: its progress, and whether it is complete.

`kubectl rollout status` reports success while old pods still terminate. Those can still write with the old code, so
here a rollout is done only when no pod of an older template exists (design, invariant 6).
Rules: Kubernetes documentation, "Deployments" (status, progress deadline, paused).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_bool, get_number, get_object, get_objects, get_text, get_timestamp
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.workload.pod import TEMPLATE_HASH_LABEL, Pod, PodFacts, PodState, controller_uid

EPOCH_ANNOTATION = "zdd.dev/epoch"
CHANGE_CAUSE_ANNOTATION = "kubernetes.io/change-cause"
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True, slots=True)
class DeploymentCondition:
    """One condition of a Deployment; `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """The kept fields of a Deployment. `replicas` to `available` come from its status, `desired` from its spec."""

    name: str
    uid: str
    namespace: str
    resource_version: str
    generation: int
    observed_generation: int
    images: Mapping[str, str]
    selector: str
    desired: int
    replicas: int
    updated: int
    ready: int
    available: int
    paused: bool
    min_ready_seconds: float
    conditions: tuple[DeploymentCondition, ...]
    revision: str
    epoch: int
    change_cause: str | None
    strategy: str = "RollingUpdate"
    max_unavailable: str = "25%"
    max_surge: str = "25%"

    @property
    def is_observed(self) -> bool:
        """The controller has seen the newest spec."""
        return self.observed_generation >= self.generation

    @property
    def has_exceeded_deadline(self) -> bool:
        """The controller reports no progress within progressDeadlineSeconds."""
        return any(c.type == "Progressing" and c.reason == "ProgressDeadlineExceeded" for c in self.conditions)

    @property
    def replica_failure_message(self) -> str:
        """The controller's message when it cannot create pods (quota, admission); empty when it can."""
        return next((c.message for c in self.conditions if c.type == "ReplicaFailure" and c.status == "True"), "")


@dataclass(frozen=True, slots=True)
class ReplicaSetView:
    """The kept fields of a ReplicaSet."""

    name: str
    uid: str
    owner_uid: str
    template_hash: str
    revision: str
    images: Mapping[str, str]
    desired: int
    replicas: int
    ready: int
    available: int


@dataclass(frozen=True, slots=True)
class EventView:
    """A recent Event about one of the workload's objects. `warning` is False for type Normal."""

    at: float | None
    warning: bool
    reason: str
    object: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """The progress of a rollout.

    Attributes:
        failed: by the controller's progress deadline; it may recover once the cause is fixed.
        old_pods: every pod of another template that still exists.
    """

    done: bool
    failed: bool
    message: str
    old_pods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkloadSnapshot:
    """One Deployment with its pods, rollout and events, at one time.

    Attributes:
        gone: pods that were deleted within the last seconds, for screens only.
        clock_skew: the cluster's clock minus this machine's, in seconds; already applied to the pods.
        observed_at: monotonic time of the last data from the source that has been silent longest.
        error: why newer data is missing, in one line; None while every source is connected.
    """

    pods: tuple[Pod, ...]
    gone: tuple[Pod, ...]
    deployment: DeploymentView | None
    rollout: RolloutStatus | None
    events: tuple[EventView, ...]
    clock_skew: float
    observed_at: float = field(compare=False)
    error: str | None


def find_new_replica_set(view: DeploymentView, replica_sets: Iterable[ReplicaSetView]) -> ReplicaSetView | None:
    """The ReplicaSet of the current template: it has the Deployment's revision and its images."""
    if not view.revision:
        return None
    own = (each for each in replica_sets if each.owner_uid == view.uid and each.revision == view.revision)
    return next((each for each in own if dict(each.images) == dict(view.images)), None)


def select_own_pods(
    view: DeploymentView, replica_sets: Iterable[ReplicaSetView], pods: Iterable[PodFacts]
) -> list[PodFacts]:
    """The pods among `pods` that were created from the Deployment's templates.

    A pod whose ReplicaSet is already deleted counts: it may still run. Bare pods with the same labels, and pods of
    another Deployment's ReplicaSets, do not.
    """
    foreign = {each.uid for each in replica_sets if each.owner_uid != view.uid}
    return [pod for pod in pods if pod.template_hash and pod.owner_uid not in foreign]


def evaluate_rollout(
    view: DeploymentView, replica_sets: Iterable[ReplicaSetView], pods: Iterable[Pod | PodFacts]
) -> RolloutStatus:
    """Evaluates a rollout.

    Args:
        pods: every pod of the Deployment, terminating ones included; Gone ones do not count.
    """
    if not view.is_observed:
        seen = f"{view.observed_generation} of {view.generation}"
        return RolloutStatus(False, False, f"waiting for the controller to see generation {seen}")
    if view.paused:
        return RolloutStatus(
            False, False, f"paused; resume it with: kubectl -n {view.namespace} rollout resume deployment/{view.name}"
        )
    newest = find_new_replica_set(view, replica_sets)
    if newest is None:
        return RolloutStatus(False, False, "waiting for the new ReplicaSet")
    existing = [pod for pod in pods if not (isinstance(pod, Pod) and pod.state is PodState.GONE)]
    old = tuple(sorted(pod.name for pod in existing if pod.template_hash != newest.template_hash))
    if view.has_exceeded_deadline:
        return RolloutStatus(False, True, _failure_message(view, existing, newest.template_hash), old)
    if view.replica_failure_message:
        return RolloutStatus(False, False, view.replica_failure_message, old)
    if view.updated < view.desired:
        return RolloutStatus(False, False, f"{view.updated} of {view.desired} new replicas created", old)
    available = min(view.available, newest.available)
    if available < view.desired:
        return RolloutStatus(False, False, f"{available} of {view.desired} new replicas available", old)
    if old or view.replicas > view.updated:
        count = max(len(old), view.replicas - view.updated)
        names = f": {', '.join(old[:3])}{' ...' if len(old) > 3 else ''}" if old else ""
        return RolloutStatus(False, False, f"{count} older pod{'s' if count > 1 else ''} still there{names}", old)
    return RolloutStatus(True, False, f"rolled out: {view.desired} of {view.desired} available, no older pod left")


def _failure_message(view: DeploymentView, pods: Iterable[Pod | PodFacts], new_hash: str) -> str:
    reasons = sorted(
        {pod.reason for pod in pods if isinstance(pod, Pod) and pod.template_hash == new_hash and pod.reason}
    )
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"no progress within the Deployment's deadline, {view.available} of {view.desired} available{why}"


def project_deployment(raw: Any) -> DeploymentView:
    """Reads a raw Deployment object."""
    meta, spec, status = get_object(raw, "metadata"), get_object(raw, "spec"), get_object(raw, "status")
    annotations = get_object(meta, "annotations")
    return DeploymentView(
        name=get_text(meta, "name"),
        uid=get_text(meta, "uid"),
        namespace=get_text(meta, "namespace"),
        resource_version=get_text(meta, "resourceVersion"),
        generation=get_number(meta, "generation"),
        observed_generation=get_number(status, "observedGeneration"),
        images=_container_images(spec),
        selector=format_selector(get_object(spec, "selector")),
        desired=get_number(spec, "replicas", default=1),
        replicas=get_number(status, "replicas"),
        updated=get_number(status, "updatedReplicas"),
        ready=get_number(status, "readyReplicas"),
        available=get_number(status, "availableReplicas"),
        paused=get_bool(spec, "paused") is True,
        min_ready_seconds=float(get_number(spec, "minReadySeconds")),
        conditions=tuple(
            DeploymentCondition(
                get_text(c, "type"), get_text(c, "status"), get_text(c, "reason"), get_text(c, "message")
            )
            for c in get_objects(status, "conditions")
        ),
        revision=get_text(annotations, REVISION_ANNOTATION),
        epoch=read_epoch(meta),
        change_cause=get_text(annotations, CHANGE_CAUSE_ANNOTATION) or None,
        strategy=get_text(spec, "strategy", "type") or "RollingUpdate",
        max_unavailable=_int_or_percent(spec, "maxUnavailable"),
        max_surge=_int_or_percent(spec, "maxSurge"),
    )


def project_replica_set(raw: Any) -> ReplicaSetView:
    """Reads a raw ReplicaSet object."""
    meta, spec, status = get_object(raw, "metadata"), get_object(raw, "spec"), get_object(raw, "status")
    return ReplicaSetView(
        name=get_text(meta, "name"),
        uid=get_text(meta, "uid"),
        owner_uid=controller_uid(meta),
        template_hash=get_text(meta, "labels", TEMPLATE_HASH_LABEL),
        revision=get_text(meta, "annotations", REVISION_ANNOTATION),
        images=_container_images(spec),
        desired=get_number(spec, "replicas", default=1),
        replicas=get_number(status, "replicas"),
        ready=get_number(status, "readyReplicas"),
        available=get_number(status, "availableReplicas"),
    )


def project_event(raw: Any) -> EventView:
    """Reads a raw core/v1 Event."""
    involved = get_object(raw, "involvedObject")
    paths = (("series", "lastObservedTime"), ("lastTimestamp",), ("eventTime",), ("metadata", "creationTimestamp"))
    times = (get_timestamp(raw, *path) for path in paths)
    return EventView(
        at=next((at for at in times if at is not None), None),
        warning=get_text(raw, "type") == "Warning",
        reason=get_text(raw, "reason"),
        object=f"{get_text(involved, 'kind').lower()}/{get_text(involved, 'name')}",
        message=get_text(raw, "message"),
        count=max(get_number(raw, "series", "count"), get_number(raw, "count"), 1),
    )


def format_selector(selector: Any) -> str:
    """A LabelSelector as the API's `labelSelector` parameter."""
    parts = [f"{key}={value}" for key, value in get_object(selector, "matchLabels").items()]
    for rule in get_objects(selector, "matchExpressions"):
        key, operator = get_text(rule, "key"), get_text(rule, "operator")
        raw_values = rule.get("values")
        values = ",".join(str(value) for value in raw_values) if isinstance(raw_values, list) else ""
        match operator:
            case "In":
                parts.append(f"{key} in ({values})")
            case "NotIn":
                parts.append(f"{key} notin ({values})")
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
    return ",".join(parts)


def reduces_capacity(view: DeploymentView) -> str:
    """Why a rollout of this Deployment would reduce its capacity; empty when it would not.

    Percentages are rounded like the controller does: maxUnavailable down, maxSurge up; both zero becomes one
    unavailable pod. Rules: Kubernetes documentation, "Deployments" (strategy).
    """
    if view.strategy != "RollingUpdate":
        return f"strategy {view.strategy} stops every old pod before the first new one starts"
    unavailable = _resolve_int_or_percent(view.max_unavailable, view.desired, round_up=False)
    if unavailable:
        pods = f"{unavailable} of {view.desired} pods"
        return f"maxUnavailable {view.max_unavailable} removes {pods} before their successors are ready"
    if not _resolve_int_or_percent(view.max_surge, view.desired, round_up=True):
        return f"maxSurge {view.max_surge} allows no new pod beside the old ones"
    return ""


def _resolve_int_or_percent(value: str, desired: int, *, round_up: bool) -> int:
    if not value.endswith("%"):
        return int(value) if value.isdigit() else 0
    hundredths = int(value[:-1] or 0) * desired
    return -(-hundredths // 100) if round_up else hundredths // 100


def _int_or_percent(spec: Any, name: str) -> str:
    # An int-or-string: 0, "0", "25%". The API server's default is 25%.
    value = get_object(spec, "strategy", "rollingUpdate").get(name)
    return str(value) if isinstance(value, int | str) and value != "" else "25%"


def _container_images(spec: Any) -> dict[str, str]:
    return {
        get_text(item, "name"): get_text(item, "image") for item in get_objects(spec, "template", "spec", "containers")
    }


def read_epoch(meta: Any) -> int:
    """The epoch in the annotations of an object's metadata; 0 for none."""
    value = get_text(meta, "annotations", EPOCH_ANNOTATION)
    # A malformed annotation counts as none: the lease in the store decides about epochs.
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0


def container_image(plan: BasePlan, view: DeploymentView) -> str:
    """The image of the plan's container.

    Raises:
        ClusterError: the Deployment has no container of that name.
    """
    container = plan.kubernetes.container
    try:
        return view.images[container]
    except KeyError:
        raise ClusterError(
            f"Deployment {view.name} has no container {container!r}",
            f"set kubernetes.container to one of: {', '.join(view.images)}",
        ) from None


def capacity_hint(plan: SingleImagePlan) -> str:
    """The command after which a rollout keeps the full capacity."""
    names = plan.kubernetes
    patch = '{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":0,"maxSurge":1}}}}'
    return f"kubectl -n {names.namespace} patch deployment {names.deployment} -p '{patch}'"

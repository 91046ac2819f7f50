"""A Deployment's rollout: its progress, and whether it is complete.

`kubectl rollout status` reports success while old pods still terminate. Those can still write with the old code, so
here a rollout is done only when no pod of an older template exists (architecture.md, invariant 6).
Rules: Kubernetes documentation, "Deployments" (status, progress deadline, paused).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_bool, get_number, get_object, get_objects, get_text, get_timestamp
from zdd_tui.model.plan.base import WorkloadPlan
from zdd_tui.model.workload.container import FailureCause
from zdd_tui.model.workload.managers import FieldManager, find_image_manager, find_manager
from zdd_tui.model.workload.pod import (
    TEMPLATE_HASH_LABEL,
    Pod,
    PodFacts,
    PodState,
    controller_uid,
    find_pod_cause,
    has_lost_readiness,
)

EPOCH_ANNOTATION = "zdd.dev/epoch"
CHANGE_CAUSE_ANNOTATION = "kubernetes.io/change-cause"
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"

NO_DEADLINE = 2**31 - 1
"""progressDeadlineSeconds of a Deployment whose rollouts never fail (Kubernetes documentation, "Deployments")."""

FORBIDDEN_SECONDS = 5.0
"""Seconds without progress after which a refused creation of pods, as by a quota, is hopeless. The controller retries
from 5 ms on, twice as late each time, so it has tried about ten times; pods that still terminate may free the quota,
and their end is progress."""


@dataclass(frozen=True, slots=True)
class DeploymentCondition:
    """One condition of a Deployment; `status` is True, False or Unknown, `updated_at` the API's text of the time."""

    type: str
    status: str
    reason: str
    message: str
    updated_at: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """The kept fields of a Deployment. `replicas` to `available` come from its status, `desired` from its spec.

    Attributes:
        image_managers: who wrote the image of each container last, as far as the object says.
        epoch_manager: who wrote the annotation with the epoch last: the name under which our patches are recorded.
        is_deleting: it has a deletionTimestamp.
        progress_deadline: seconds without progress until the controller reports a failure; None: it never does.
    """

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
    image_managers: Mapping[str, FieldManager] = field(default_factory=dict)
    epoch_manager: FieldManager | None = None
    replicas_manager: FieldManager | None = None
    is_deleting: bool = False
    progress_deadline: float | None = 600.0

    @property
    def is_observed(self) -> bool:
        """The controller has seen the newest spec."""
        return self.observed_generation >= self.generation

    @property
    def exceeded_deadline(self) -> DeploymentCondition | None:
        """The condition by which the controller reports no progress within progressDeadlineSeconds; None without it.

        The controller removes it only once the rollout progresses again, so it may be from an earlier attempt.
        """
        return next(
            (c for c in self.conditions if c.type == "Progressing" and c.reason == "ProgressDeadlineExceeded"), None
        )

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
    failure_message: str = ""
    """Why it cannot create pods; empty when it can."""


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
        message: the cause first, where there is one.
        old_pods: every pod of another template that still exists.
        cause: why the new pods do not run; None where they do, or are only starting.
        progress: changes whenever the rollout gets on.
        waiting_pods: new pods that are not ready, those first whose containers were restarted most often.
        restarts: of the first of them.
        is_degraded: no rollout is under way, but pods of the current version have lost their readiness.
    """

    done: bool
    failed: bool
    message: str
    old_pods: tuple[str, ...] = ()
    cause: FailureCause | None = None
    progress: tuple[int, ...] = ()
    waiting_pods: tuple[str, ...] = ()
    restarts: int = 0
    is_degraded: bool = False


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
    view: DeploymentView,
    replica_sets: Iterable[ReplicaSetView],
    pods: Iterable[Pod | PodFacts],
    *,
    ignored_condition: DeploymentCondition | None = None,
) -> RolloutStatus:
    """Evaluates a rollout.

    Args:
        pods: every pod of the Deployment, terminating ones included. Those that are gone or in a terminal phase do not
            count: they run nothing.
        ignored_condition: an exceeded deadline from before this attempt; it counts once the controller renews it.
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
    existing = [pod for pod in pods if not (pod.is_terminal or (isinstance(pod, Pod) and pod.state is PodState.GONE))]
    old = tuple(sorted(pod.name for pod in existing if pod.template_hash != newest.template_hash))
    new = [pod for pod in existing if pod.template_hash == newest.template_hash]
    cause = _find_cause(view, newest, new)
    waiting = sorted((-_count_restarts(pod), pod.name) for pod in new if not _is_ready(pod))
    available = min(view.available, newest.available)
    progress = (view.updated, available, view.replicas, len(old), _count_terminating(existing))

    def unfinished(message: str, *, failed: bool = False) -> RolloutStatus:
        text = f"{cause.text}; {message}" if cause else message
        restarts = -waiting[0][0] if waiting else 0
        return RolloutStatus(False, failed, text, old, cause, progress, tuple(name for _, name in waiting), restarts)

    count_text = f"{available} of {view.desired} new replicas available"
    if (exceeded := view.exceeded_deadline) is not None and exceeded != ignored_condition:
        return unfinished(f"no progress within the Deployment's deadline, {count_text}", failed=True)
    if view.updated < view.desired:
        return unfinished(f"{view.updated} of {view.desired} new replicas created")
    if available < view.desired:
        lost = "" if old or cause else _describe_lost_pods(view, new)
        return replace(unfinished(lost or count_text), is_degraded=bool(lost))
    if old or view.replicas > view.updated:
        count = max(len(old), view.replicas - view.updated)
        names = f": {', '.join(old[:3])}{' ...' if len(old) > 3 else ''}" if old else ""
        return unfinished(f"{count} older pod{'s' if count > 1 else ''} still there{names}")
    if view.replica_failure_message:
        return unfinished("the controller still reports ReplicaFailure")
    return RolloutStatus(True, False, f"rolled out: {view.desired} of {view.desired} available, no older pod left")


def _count_terminating(pods: Iterable[Pod | PodFacts]) -> int:
    return sum((pod.seconds_left if isinstance(pod, Pod) else pod.deletion_deadline) is not None for pod in pods)


def _count_restarts(pod: Pod | PodFacts) -> int:
    return pod.restarts if isinstance(pod, Pod) else sum(each.restarts for each in pod.containers)


def _is_ready(pod: Pod | PodFacts) -> bool:
    return pod.state is PodState.SERVING if isinstance(pod, Pod) else pod.ready


def _describe_lost_pods(view: DeploymentView, pods: Iterable[Pod | PodFacts]) -> str:
    """The pods that have lost their readiness, with the failing probe where it is known; empty for none."""
    lost = [pod for pod in pods if (has_lost_readiness(pod) if isinstance(pod, PodFacts) else pod.unready_since)]
    if not lost:
        return ""
    reason = next((f": {pod.reason}" for pod in lost if isinstance(pod, Pod) and pod.reason), "")
    names = f"{lost[0].name}{' ...' if len(lost) > 1 else ''}"
    return f"{len(lost)} of {view.desired} pods not ready any more{reason} ({names})"


def _find_cause(view: DeploymentView, newest: ReplicaSetView, pods: Iterable[Pod | PodFacts]) -> FailureCause | None:
    """Why new pods do not run. A cause that will not heal by itself is named before one that may."""
    message = newest.failure_message or view.replica_failure_message
    if message:
        # A webhook that does not respond may do so later; what is forbidden or denied stays so until someone acts.
        is_permanent = any(part in message for part in ("forbidden", "denied", "is invalid"))
        return FailureCause("FailedCreate", f"FailedCreate: {message}", FORBIDDEN_SECONDS if is_permanent else None)
    causes = [cause for pod in pods if (cause := pod.cause if isinstance(pod, Pod) else find_pod_cause(pod))]
    return min(causes, key=lambda cause: (cause.patience is None, cause.patience or 0.0, cause.text), default=None)


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
                get_text(c, "type"),
                get_text(c, "status"),
                get_text(c, "reason"),
                get_text(c, "message"),
                get_text(c, "lastUpdateTime"),
            )
            for c in get_objects(status, "conditions")
        ),
        revision=get_text(annotations, REVISION_ANNOTATION),
        epoch=read_epoch(meta),
        change_cause=get_text(annotations, CHANGE_CAUSE_ANNOTATION) or None,
        strategy=get_text(spec, "strategy", "type") or "RollingUpdate",
        max_unavailable=_int_or_percent(spec, "maxUnavailable"),
        max_surge=_int_or_percent(spec, "maxSurge"),
        image_managers=_image_managers(raw),
        epoch_manager=find_manager(raw, "f:metadata", "f:annotations", f"f:{EPOCH_ANNOTATION}"),
        replicas_manager=find_manager(raw, "f:spec", "f:replicas"),
        is_deleting=bool(get_text(meta, "deletionTimestamp")),
        progress_deadline=_progress_deadline(spec),
    )


def _image_managers(raw: Any) -> dict[str, FieldManager]:
    found = {name: find_image_manager(raw, name) for name in _container_images(get_object(raw, "spec"))}
    return {name: manager for name, manager in found.items() if manager is not None}


def _progress_deadline(spec: Any) -> float | None:
    seconds = get_number(spec, "progressDeadlineSeconds", default=600)
    return None if seconds == NO_DEADLINE else float(seconds)


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
        failure_message=next(
            (
                get_text(c, "message")
                for c in get_objects(status, "conditions")
                if get_text(c, "type") == "ReplicaFailure" and get_text(c, "status") == "True"
            ),
            "",
        ),
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


def stops_service(view: DeploymentView) -> str:
    """Why a rollout of this Deployment would leave a time with no pod, or no new one beside the old; empty if neither.

    A part of :func:`reduces_capacity`: a rollout that only serves with fewer pods is not named.
    """
    can_surge = _resolve_int_or_percent(view.max_surge, max(view.desired, 1), round_up=True) > 0
    return reduces_capacity(view) if view.strategy != "RollingUpdate" or not can_surge else ""


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


def container_image(plan: WorkloadPlan, view: DeploymentView) -> str:
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


def capacity_hint(plan: WorkloadPlan) -> str:
    """The command after which a rollout keeps the full capacity."""
    names = plan.kubernetes
    patch = '{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":0,"maxSurge":1}}}}'
    return f"kubectl -n {names.namespace} patch deployment {names.deployment} -p '{patch}'"

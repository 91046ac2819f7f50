"""A pod and its state, derived from what the API shows.

Rules: design "Kubernetes"; Kubernetes documentation, "Pod Lifecycle" (termination of pods, pod readiness) and
"EndpointSlices" (conditions serving and terminating). Times are seconds since 1970 unless a name says otherwise.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from zdd_tui.model.json_access import (
    JsonObject,
    get_bool,
    get_number,
    get_object,
    get_objects,
    get_text,
    get_timestamp,
    interned_text,
)
from zdd_tui.model.workload.container import (
    BENIGN_WAITING,
    ContainerFacts,
    FailureCause,
    find_container_cause,
    project_container,
)

OVERDUE_AFTER_SECONDS = 2.0
"""Seconds past the deadline after which a pod is Overdue; the kubelet adds up to two seconds to a late preStop."""

TEMPLATE_HASH_LABEL = "pod-template-hash"
NO_LABELS: Mapping[str, str] = MappingProxyType({})


class PodState(StrEnum):
    """The states of design section "Kubernetes"; the text is what screens show."""

    STARTING = "Starting"
    NOT_READY = "Not ready"
    WARMING = "Warming"
    SERVING = "Serving"
    DRAINING = "Draining"
    STOPPING = "Stopping"
    OVERDUE = "Overdue"
    FAILED = "Failed"
    SUCCEEDED = "Succeeded"
    GONE = "Gone"


TERMINAL_PHASES = MappingProxyType({"Succeeded": PodState.SUCCEEDED, "Failed": PodState.FAILED})
"""The phases in which all containers have terminated for good, with the state that screens show."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """The kept fields of a Pod. `deletion_deadline` is its deletionTimestamp, `grace_seconds` the time before it.

    Attributes:
        unschedulable_message: of the scheduler; empty where it found a node.
        unready_since: when it was last found not ready; None while it is ready.
    """

    name: str
    uid: str
    namespace: str
    image: str
    template_hash: str
    owner_uid: str
    node: str
    ip: str
    phase: str
    status_reason: str
    created_at: float | None
    deletion_deadline: float | None
    grace_seconds: float
    ready: bool
    ready_since: float | None
    containers_ready: bool
    readiness_gates_pass: bool
    scheduled: bool
    containers: tuple[ContainerFacts, ...]
    has_prestop: bool
    prestop_seconds: float | None
    resource_version: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    init_containers: tuple[ContainerFacts, ...] = ()
    unschedulable_message: str = ""
    unready_since: float | None = None

    @property
    def is_terminal(self) -> bool:
        """All containers have terminated and none will be started again, as after an eviction. The object stays until
        it is deleted, but it serves nothing and the controllers do not count it (Kubernetes documentation, "Pod
        Lifecycle", pod phase)."""
        return self.phase in TERMINAL_PHASES


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One endpoint of an EndpointSlice; `pod_uid` and `pod_name` are empty when it points at no pod."""

    pod_name: str
    pod_uid: str
    address: str
    port: int
    ready: bool
    serving: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod for screens, gates and reports.

    Attributes:
        seconds_left: until the deletion deadline, negative after it; None while the pod is not being deleted, and once
            it is Gone.
        prestop_estimated: its preStop hook should still be running; an estimate, since the API does not show hooks.
        reason: what is wrong, such as CrashLoopBackOff; empty when nothing is.
        is_terminal: as :attr:`PodFacts.is_terminal`.
        cause: why its containers do not run; None when they do, or are only starting.
        unready_since: of a pod that is Not ready, when it lost its readiness; else None.
        ip: empty while it has none.
    """

    name: str
    uid: str
    namespace: str
    image: str
    version: str
    template_hash: str
    state: PodState
    seconds_left: float | None
    prestop_estimated: bool
    restarts: int
    node: str
    created_at: float | None
    reason: str
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)
    is_terminal: bool = False
    cause: FailureCause | None = None
    unready_since: float | None = None
    ip: str = ""


@lru_cache(maxsize=256)
def extract_image_version(image: str) -> str:
    """The version of an image: its tag, else the start of its digest, else ``latest``."""
    name, _, digest = image.partition("@")
    tail = name.rsplit("/", 1)[-1]
    if ":" in tail:
        return tail.rsplit(":", 1)[1]
    return digest.removeprefix("sha256:")[:12] or "latest"


def classify_pod(
    pod: PodFacts,
    endpoint: EndpointFacts | None,
    *,
    now: float,
    clock_skew: float = 0.0,
    min_ready_seconds: float = 0.0,
    has_service: bool = True,
    is_deleted: bool = False,
) -> Pod:
    """Derives the state of one pod.

    Args:
        endpoint: the pod's endpoint in the Service's slices; None when no slice names it.
        now: this machine's clock.
        clock_skew: the cluster's clock minus this machine's, in seconds.
        min_ready_seconds: of the Deployment.
        has_service: False when no Service leads to the pods; readiness then replaces the endpoint.
        is_deleted: the DELETED event was received.
    """
    cluster_now = now + clock_skew
    left = None if pod.deletion_deadline is None or is_deleted else pod.deletion_deadline - cluster_now
    reason = failure_reason(pod)
    state = PodState.GONE if is_deleted else _classify_state(pod, endpoint, cluster_now, min_ready_seconds, has_service)
    return Pod(
        name=pod.name,
        uid=pod.uid,
        namespace=pod.namespace,
        image=pod.image,
        version=extract_image_version(pod.image),
        template_hash=pod.template_hash,
        state=state,
        seconds_left=left,
        prestop_estimated=not is_deleted and _is_prestop_running(pod, cluster_now),
        restarts=sum(container.restarts for container in pod.containers),
        node=pod.node,
        created_at=pod.created_at,
        reason=reason,
        labels=pod.labels,
        is_terminal=pod.is_terminal,
        cause=find_pod_cause(pod) if reason else None,
        unready_since=pod.unready_since if state is PodState.NOT_READY else None,
        ip=pod.ip,
    )


def _classify_state(
    pod: PodFacts, endpoint: EndpointFacts | None, cluster_now: float, min_ready: float, has_service: bool
) -> PodState:
    if pod.deletion_deadline is not None:
        if cluster_now > pod.deletion_deadline + OVERDUE_AFTER_SECONDS:
            return PodState.OVERDUE
        # Without a Service the Ready condition replaces the endpoint.
        serving = (endpoint is not None and endpoint.serving) if has_service else pod.ready
        return PodState.STOPPING if not serving or have_containers_terminated(pod) else PodState.DRAINING
    if pod.is_terminal:
        return TERMINAL_PHASES[pod.phase]
    if not pod.ready:
        if pod.containers_ready and not pod.readiness_gates_pass:
            return PodState.WARMING
        return PodState.NOT_READY if has_lost_readiness(pod) else PodState.STARTING
    # A pod without a transition time counts as new: Serving must be proved.
    if min_ready > 0 and (pod.ready_since is None or cluster_now - pod.ready_since < min_ready):
        return PodState.WARMING
    if has_service and (endpoint is None or not endpoint.ready):
        return PodState.WARMING
    return PodState.SERVING


def has_lost_readiness(pod: PodFacts) -> bool:
    """A container of a pod that was ready still runs, but is not ready any more.

    A pod is not ready from its creation on, and again from the end of a container on: before that container starts. So
    it has lost its readiness where a container has run since before that.
    """
    since = pod.unready_since
    return since is not None and any(
        not each.ready and each.started_at is not None and each.started_at < since for each in pod.containers
    )


def have_containers_terminated(pod: PodFacts) -> bool:
    """The main containers have terminated and will not be restarted."""
    if pod.is_terminal:
        return True
    if pod.deletion_deadline is None or not pod.containers:
        return False
    return all(container.terminated_reason and not container.running for container in pod.containers)


def _is_prestop_running(pod: PodFacts, cluster_now: float) -> bool:
    if pod.deletion_deadline is None or not pod.has_prestop or have_containers_terminated(pod):
        return False
    if pod.prestop_seconds is None:
        return cluster_now <= pod.deletion_deadline
    return cluster_now < pod.deletion_deadline - pod.grace_seconds + pod.prestop_seconds


def failure_reason(pod: PodFacts) -> str:
    """What is wrong with the pod, as the API's reasons; empty when nothing is."""
    # As kubectl writes them: a pod waits for its init containers first.
    reasons = [
        f"Init:{container.waiting_reason}"
        for container in pod.init_containers
        if container.waiting_reason not in BENIGN_WAITING
    ]
    for container in pod.containers:
        if container.waiting_reason not in BENIGN_WAITING:
            reasons.append(container.waiting_reason)
        # The last termination matters until the container is ready again: an OOM kill is the cause of a back-off.
        last = container.terminated_reason or ("" if container.ready else container.last_terminated_reason)
        if last not in ("", "Completed") and pod.deletion_deadline is None and last not in reasons:
            reasons.append(last)
    if pod.status_reason:
        reasons.insert(0, pod.status_reason)
    if not reasons and not pod.scheduled and pod.deletion_deadline is None:
        reasons.append("Unschedulable")
    if "CrashLoopBackOff" in reasons and "Error" in reasons:
        reasons.remove("Error")  # it adds nothing to the back-off
    return ", ".join(reasons)


def find_pod_cause(pod: PodFacts) -> FailureCause | None:
    """Why the containers of a pod do not run; None when they do, are only starting, or are to end."""
    if pod.deletion_deadline is not None or pod.is_terminal:
        return None
    for container in (*pod.init_containers, *pod.containers):
        if (cause := find_container_cause(pod.name, container)) is not None:
            return cause
    if not pod.scheduled:
        message = f": {pod.unschedulable_message}" if pod.unschedulable_message else ""
        return FailureCause("Unschedulable", f"pod {pod.name} fits on no node{message}", pod=pod.name)
    reason = failure_reason(pod)
    return FailureCause(reason, f"pod {pod.name}: {reason}", pod=pod.name) if reason else None


def project_pod(raw: Any, container: str | None = None) -> PodFacts:
    """Reads a raw Pod object.

    Args:
        container: its image decides the version; None takes the first container.
    """
    meta, spec, status = get_object(raw, "metadata"), get_object(raw, "spec"), get_object(raw, "status")
    conditions = {get_text(item, "type"): item for item in get_objects(status, "conditions")}
    ready = conditions.get("Ready", {})
    main = get_objects(spec, "containers")
    chosen = next((item for item in main if get_text(item, "name") == container), main[0] if main else {})
    has_prestop, prestop_seconds = _find_prestop(main)
    scheduled = conditions.get("PodScheduled", {})
    # Only an explicit "Unschedulable" counts; without a condition the pod is only new.
    is_unschedulable = get_text(scheduled, "status") == "False" and get_text(scheduled, "reason") == "Unschedulable"
    return PodFacts(
        name=interned_text(meta, "name"),
        uid=interned_text(meta, "uid"),
        namespace=interned_text(meta, "namespace"),
        image=interned_text(chosen, "image"),
        template_hash=interned_text(meta, "labels", TEMPLATE_HASH_LABEL),
        owner_uid=controller_uid(meta),
        node=interned_text(spec, "nodeName"),
        ip=interned_text(status, "podIP"),
        phase=interned_text(status, "phase"),
        status_reason=get_text(status, "reason"),
        created_at=get_timestamp(meta, "creationTimestamp"),
        deletion_deadline=get_timestamp(meta, "deletionTimestamp"),
        grace_seconds=float(max(get_number(meta, "deletionGracePeriodSeconds"), 0)),
        ready=_is_true(ready),
        ready_since=get_timestamp(ready, "lastTransitionTime") if _is_true(ready) else None,
        unready_since=get_timestamp(ready, "lastTransitionTime") if get_text(ready, "status") == "False" else None,
        containers_ready=_is_true(conditions.get("ContainersReady", {})),
        readiness_gates_pass=all(
            _is_true(conditions.get(get_text(gate, "conditionType"), {}))
            for gate in get_objects(spec, "readinessGates")
        ),
        scheduled=not is_unschedulable,
        containers=tuple(project_container(item) for item in get_objects(status, "containerStatuses")),
        has_prestop=has_prestop,
        prestop_seconds=prestop_seconds,
        resource_version=get_text(meta, "resourceVersion"),
        labels=_labels(
            tuple((name, value) for name, value in get_object(meta, "labels").items() if isinstance(value, str)),
        ),
        init_containers=tuple(project_container(item) for item in get_objects(status, "initContainerStatuses")),
        unschedulable_message=get_text(scheduled, "message") if is_unschedulable else "",
    )


@lru_cache(maxsize=256)
def _labels(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Pods of one template share their labels, and so one mapping."""
    return MappingProxyType(dict(pairs))


def controller_uid(meta: JsonObject) -> str:
    """The uid of the controlling owner, or empty."""
    controllers = (owner for owner in get_objects(meta, "ownerReferences") if get_bool(owner, "controller"))
    return next((interned_text(owner, "uid") for owner in controllers), "")


def _is_true(condition: JsonObject) -> bool:
    return get_text(condition, "status") == "True"


def _find_prestop(containers: list[JsonObject]) -> tuple[bool, float | None]:
    """Whether any container has a preStop hook, and their longest duration; None when one is unknown."""
    hooks = [hook for item in containers if (hook := get_object(item, "lifecycle", "preStop"))]
    times = [_hook_seconds(hook) for hook in hooks]
    known = [time for time in times if time is not None]
    return bool(hooks), max(known) if hooks and len(known) == len(times) else None


def _hook_seconds(hook: JsonObject) -> float | None:
    if "sleep" in hook:
        return float(get_number(hook, "sleep", "seconds"))
    command = get_object(hook, "exec").get("command")
    if not isinstance(command, list):
        return None
    words = " ".join(word for word in command if isinstance(word, str)).split()
    # Most hooks wait with `sleep 5`, directly or through a shell.
    if words[-2:-1] == ["sleep"] and words[:-2] in ([], ["sh", "-c"], ["/bin/sh", "-c"]):
        digits = words[-1].removesuffix("s")
        return float(digits) if digits.isascii() and digits.isdigit() else None
    return None


def project_endpoints(raw: Any) -> list[EndpointFacts]:
    """The endpoints of a raw EndpointSlice.

    A missing condition has the API's default: ready is true, serving is ready, terminating is false.
    """
    ports = get_objects(raw, "ports")
    port = get_number(ports[0], "port") if ports else 0
    endpoints = []
    for item in get_objects(raw, "endpoints"):
        conditions, target = get_object(item, "conditions"), get_object(item, "targetRef")
        ready = get_bool(conditions, "ready") is not False
        serving = get_bool(conditions, "serving")
        addresses = item.get("addresses")
        first = addresses[0] if isinstance(addresses, list) and addresses else ""
        is_pod = get_text(target, "kind") == "Pod"
        endpoints.append(
            EndpointFacts(
                pod_name=interned_text(target, "name") if is_pod else "",
                pod_uid=interned_text(target, "uid") if is_pod else "",
                address=sys.intern(first) if isinstance(first, str) else "",
                port=port,
                ready=ready,
                serving=ready if serving is None else serving,
                terminating=get_bool(conditions, "terminating") is True,
            )
        )
    return endpoints

"""The status of a container, and why it does not run.

How long a cause may last before a rollout is given up depends on whether it heals by itself. Rules: Kubernetes
documentation, "Images" (ImagePullBackOff) and "Pod Lifecycle" (container states).
"""

from dataclasses import dataclass

from zdd_tui.model.json_access import (
    JsonObject,
    get_bool,
    get_number,
    get_object,
    get_text,
    get_timestamp,
    interned_text,
)

BENIGN_WAITING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a container that is only starting."""

PERMANENT_SECONDS = 3.0
"""Seconds for a cause that no retry of the kubelet or a controller heals. It must be seen for that long, because the
status of a pod that is being replaced may still show it."""

SECOND_ATTEMPT_SECONDS = 15.0
"""Seconds for a cause that a second attempt may heal. The kubelet pulls an image again after 10 s, then 20 s, 40 s and
so on (`imageBackOffPeriod` in pkg/kubelet/kubelet.go 1.34)."""

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_PERMANENT_IMAGE_REASONS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
_CREATE_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_REFUSED_BY_REGISTRY = ("not found", "manifest unknown", "denied", "unauthorized", "forbidden", "no such image")
"""Parts of a registry's response to a request that it will answer in the same way again."""


@dataclass(frozen=True, slots=True)
class FailureCause:
    """Why a workload does not run.

    Attributes:
        reason: the API's reason, such as ImagePullBackOff.
        text: one line for an operator, with the object and what it says.
        patience: seconds without progress after which waiting is hopeless; None: the Deployment's deadline decides.
        pod, container: whose Events and log say more; empty where there is none.
        has_crashed: the container's log is of interest.
    """

    reason: str
    text: str
    patience: float | None = None
    pod: str = ""
    container: str = ""
    has_crashed: bool = False


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """The status of a container. The reasons are empty when the container is in another state.

    Attributes:
        waiting_message: the kubelet's text for the reason, such as the registry's response.
        exit_code: of the present or else the last termination; None before the first.
        started_at: while it runs, its start in seconds since 1970; else None.
    """

    name: str
    image: str
    ready: bool
    restarts: int
    running: bool
    waiting_reason: str
    terminated_reason: str
    last_terminated_reason: str
    waiting_message: str = ""
    exit_code: int | None = None
    started_at: float | None = None


def find_container_cause(pod: str, container: ContainerFacts) -> FailureCause | None:
    """Why a container of a pod does not run; None when it does, or is only starting."""
    reason, message = container.waiting_reason, _first_line(container.waiting_message)
    subject = f"container {container.name} of pod {pod}"
    if reason in _IMAGE_REASONS:
        text = f"image {container.image} cannot be pulled: {reason}{f': {message}' if message else ''} (pod {pod})"
        is_refused = any(part in message.lower() for part in _REFUSED_BY_REGISTRY)
        is_permanent = reason in _PERMANENT_IMAGE_REASONS or is_refused
        patience = PERMANENT_SECONDS if is_permanent else SECOND_ATTEMPT_SECONDS
        return FailureCause(reason, text, patience, pod, container.name)
    if reason in _CREATE_REASONS:
        text = f"{subject} cannot be created: {reason}{f': {message}' if message else ''}"
        # A ConfigMap or Secret may be created right after the Deployment; the kubelet retries on every sync.
        return FailureCause(reason, text, SECOND_ATTEMPT_SECONDS, pod, container.name)
    last = container.terminated_reason or container.last_terminated_reason
    has_crashed = reason == "CrashLoopBackOff" or bool(last not in ("", "Completed") and not container.ready)
    if not has_crashed:
        return None
    code = "" if container.exit_code is None else f", exit code {container.exit_code}"
    restarts = f", {container.restarts} restart{'' if container.restarts == 1 else 's'}" if container.restarts else ""
    why = ", ".join(dict.fromkeys(part for part in (reason, last) if part not in BENIGN_WAITING))
    # It may start once another system is back: the Deployment's own deadline decides.
    return FailureCause(
        reason or last, f"{subject} crashes: {why}{code}{restarts}", None, pod, container.name, has_crashed=True
    )


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def project_container(status: JsonObject) -> ContainerFacts:
    """Reads an entry of a raw Pod's containerStatuses or initContainerStatuses."""
    state = get_object(status, "state")
    return ContainerFacts(
        name=interned_text(status, "name"),
        image=interned_text(status, "image"),
        ready=get_bool(status, "ready") is True,
        restarts=max(get_number(status, "restartCount"), 0),
        running="running" in state,
        waiting_reason=get_text(state, "waiting", "reason"),
        terminated_reason=_terminated_reason(state),
        last_terminated_reason=_terminated_reason(get_object(status, "lastState")),
        waiting_message=get_text(state, "waiting", "message"),
        exit_code=_exit_code(state, get_object(status, "lastState")),
        started_at=get_timestamp(state, "running", "startedAt"),
    )


def _exit_code(*states: JsonObject) -> int | None:
    """Of the first of these states that is a termination."""
    terminated = [found for state in states if isinstance(found := state.get("terminated"), dict)]
    return get_number(terminated[0], "exitCode") if terminated else None


def _terminated_reason(state: JsonObject) -> str:
    if not isinstance(state.get("terminated"), dict):
        return ""
    return get_text(state, "terminated", "reason") or "Terminated"

"""The PodStatus that a pod's one container amounts to. Rules: Kubernetes documentation, "Pod Lifecycle"."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_tui.model.json_access import JsonObject, get_objects, get_text
from zdd_tui.testbed.kubelet.container import ExitStatus

ContainerState = dict[str, Any]
OWN_CONDITIONS = frozenset({"PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready"})


def format_time(at: float | None = None) -> str:
    """RFC 3339 in whole seconds, as the API writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if at is None else at))


def waiting_state(reason: str, message: str = "") -> ContainerState:
    """A container that does not run yet, or not now."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated_state(exit_status: ExitStatus, started: str) -> ContainerState:
    """A container that has ended."""
    reason = "Completed" if exit_status.code == 0 else "Error"
    text = {"exitCode": exit_status.code, "reason": reason, "startedAt": started, "finishedAt": format_time()}
    return {"terminated": text | ({"signal": exit_status.signal} if exit_status.signal else {})}


@dataclass(slots=True)
class PodRecord:
    """State of a pod in the kubelet. `phase` is set only once it is final."""

    address: str = ""
    host: str = ""
    started_at: str = field(default_factory=format_time)
    state: ContainerState = field(default_factory=lambda: waiting_state("ContainerCreating"))
    last_state: ContainerState = field(default_factory=dict)
    restarts: int = 0
    container_id: str = ""
    started: bool = False
    ready: bool = False
    has_run: bool = False
    phase: str = ""
    _conditions: dict[str, JsonObject] = field(default_factory=dict)

    def restore_from(self, pod: JsonObject) -> None:
        """Continues from what an earlier kubelet reported."""
        for condition in get_objects(pod, "status", "conditions"):
            if get_text(condition, "type") in OWN_CONDITIONS:
                self._conditions[get_text(condition, "type")] = condition
        self.started_at = get_text(pod, "status", "startTime") or self.started_at

    def render(self, pod: JsonObject) -> dict[str, Any]:
        """The whole status. Conditions that others own (readiness gates) are taken over from `pod`."""
        container = get_objects(pod, "spec", "containers")[0]
        name, image = get_text(container, "name"), get_text(container, "image")
        phase = self.phase or ("Running" if self.has_run else "Pending")
        final = phase in ("Succeeded", "Failed")
        ready = self.ready and "running" in self.state
        given = {get_text(item, "type"): item for item in get_objects(pod, "status", "conditions")}
        gates = [get_text(gate, "conditionType") for gate in get_objects(pod, "spec", "readinessGates")]
        closed = [gate for gate in gates if get_text(given.get(gate, {}), "status") != "True"]
        unready = ("PodCompleted" if phase == "Succeeded" else "PodFailed") if final else "ContainersNotReady"
        why = {} if final else {"message": f"containers with unready status: [{name}]"}
        self._set("PodScheduled", True)
        self._set("Initialized", True)
        self._set("PodReadyToStartContainers", "running" in self.state)
        self._set("ContainersReady", ready, **({} if ready else {"reason": unready, **why}))
        if ready and closed:
            message = f'corresponding condition of pod readiness gate "{closed[0]}" does not exist or is not True'
            self._set("Ready", False, reason="ReadinessGatesNotReady", message=message)
        else:
            self._set("Ready", ready, **({} if ready else {"reason": unready, **why}))
        status: dict[str, Any] = {
            "phase": phase,
            "conditions": [*self._conditions.values(), *(given[gate] for gate in gates if gate in given)],
            "startTime": self.started_at,
            "hostIP": self.host,
            "hostIPs": [{"ip": self.host}],
            "containerStatuses": [
                {
                    "name": name,
                    "image": image,
                    "imageID": f"process://{image}",
                    "ready": ready,
                    "started": self.started and "running" in self.state,
                    "restartCount": self.restarts,
                    "state": self.state,
                    "lastState": self.last_state,
                    **({"containerID": self.container_id} if self.container_id else {}),
                }
            ],
        }
        if self.address:
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        return status

    def _set(self, kind: str, good: bool, **detail: str) -> None:
        status = "True" if good else "False"
        before: Mapping[str, Any] = self._conditions.get(kind, {})
        same = get_text(before, "status") == status
        since = get_text(before, "lastTransitionTime") if same else ""
        self._conditions[kind] = {
            "type": kind,
            "status": status,
            "lastTransitionTime": since or format_time(),
            **detail,
        }

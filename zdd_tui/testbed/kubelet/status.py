"""The PodStatus that a pod's one container amounts to. Rules: Kubernetes documentation, "Pod Lifecycle"."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_tui.model.json_access import Json, objects, text
from zdd_tui.testbed.kubelet.container import Exit

State = dict[str, Any]
OWN_CONDITIONS = frozenset({"PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready"})


def stamp(at: float | None = None) -> str:
    """RFC 3339 in whole seconds, as the API writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if at is None else at))


def waiting(reason: str, message: str = "") -> State:
    """A container that does not run yet, or not now."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated(end: Exit, started: str) -> State:
    """A container that has ended."""
    reason = "Completed" if end.code == 0 else "Error"
    told = {"exitCode": end.code, "reason": reason, "startedAt": started, "finishedAt": stamp()}
    return {"terminated": told | ({"signal": end.signal} if end.signal else {})}


@dataclass(slots=True)
class PodRecord:
    """What the kubelet knows of a pod. `phase` is set by hand only once it is final."""

    address: str = ""
    host: str = ""
    started_at: str = field(default_factory=stamp)
    state: State = field(default_factory=lambda: waiting("ContainerCreating"))
    last_state: State = field(default_factory=dict)
    restarts: int = 0
    container_id: str = ""
    started: bool = False
    ready: bool = False
    has_run: bool = False
    phase: str = ""
    _conditions: dict[str, Json] = field(default_factory=dict)

    def adopt(self, pod: Json) -> None:
        """Go on from what a kubelet before us has reported."""
        for condition in objects(pod, "status", "conditions"):
            if text(condition, "type") in OWN_CONDITIONS:
                self._conditions[text(condition, "type")] = condition
        self.started_at = text(pod, "status", "startTime") or self.started_at

    def render(self, pod: Json) -> dict[str, Any]:
        """The whole status. Conditions that others own (readiness gates) are taken over from `pod`."""
        container = objects(pod, "spec", "containers")[0]
        name, image = text(container, "name"), text(container, "image")
        phase = self.phase or ("Running" if self.has_run else "Pending")
        final = phase in ("Succeeded", "Failed")
        ready = self.ready and "running" in self.state
        given = {text(item, "type"): item for item in objects(pod, "status", "conditions")}
        gates = [text(gate, "conditionType") for gate in objects(pod, "spec", "readinessGates")]
        closed = [gate for gate in gates if text(given.get(gate, {}), "status") != "True"]
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
        same = text(before, "status") == status
        since = text(before, "lastTransitionTime") if same else ""
        self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": since or stamp(), **detail}

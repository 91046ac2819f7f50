"""The PodStatus that a pod's one container amounts to, and its report to the API server.

Rules: Kubernetes documentation, "Pod Lifecycle".
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.backends.kubernetes.watch import RETRY_PAUSES
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import JsonObject, get_objects, get_text
from zdd_tui.testbed.cluster.meta import now
from zdd_tui.testbed.kubelet.container import ExitStatus

log = logging.getLogger(__name__)

LOG_ANNOTATION = "zdd.local/log-file"
ContainerState = dict[str, Any]
OWN_CONDITIONS = frozenset({"PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready"})


def waiting_state(reason: str, message: str = "") -> ContainerState:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated_state(exit_status: ExitStatus, started: str) -> ContainerState:
    reason = "Completed" if exit_status.code == 0 else "Error"
    text = {"exitCode": exit_status.code, "reason": reason, "startedAt": started, "finishedAt": now()}
    return {"terminated": text | ({"signal": exit_status.signal} if exit_status.signal else {})}


@dataclass(slots=True)
class PodRecord:
    """State of a pod in the kubelet. `phase` is set only once it is final."""

    address: str = ""
    host: str = ""
    started_at: str = field(default_factory=now)
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
        detail = {} if ready else {"reason": unready, **why}
        self._set("PodScheduled", True)
        self._set("Initialized", True)
        self._set("PodReadyToStartContainers", "running" in self.state)
        self._set("ContainersReady", ready, **detail)
        if ready and closed:
            message = f'corresponding condition of pod readiness gate "{closed[0]}" does not exist or is not True'
            detail = {"reason": "ReadinessGatesNotReady", "message": message}
        self._set("Ready", ready and not closed, **detail)
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
        before = self._conditions.get(kind, {})
        since = get_text(before, "lastTransitionTime") if get_text(before, "status") == status else ""
        self._conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": since or now(), **detail}


class StatusManager:
    """Sends one pod's status, and its final deletion. Only the newest status counts; what fails is tried again."""

    def __init__(self, http: KubeHttp, pod: JsonObject, record: PodRecord, log_file: str) -> None:
        self._http = http
        self._record = record
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._lock = asyncio.Lock()
        self._stopped = False
        self._last: dict[str, Any] | None = None
        self.pod = pod
        self.log_file = log_file

    def mark_changed(self) -> None:
        self._dirty.set()

    def stop(self) -> None:
        """Stops reporting: the pod is gone from the API."""
        self._stopped = True

    async def run(self) -> None:
        """Sends a status after each change, until the pod is gone from the API."""
        await self._annotate_log_file()
        while not self._stopped:
            await self._dirty.wait()
            await self._send()

    async def _annotate_log_file(self) -> None:
        # The embedded API server reads the file itself for `kubectl logs`: a process needs no log proxy.
        body = {"metadata": {"annotations": {LOG_ANNOTATION: self.log_file}}}
        try:
            await self._http.request_json("PATCH", self._path, body=body, content_type=MERGE_PATCH)
        except ClusterError as error:
            log.info("log file of %s: %s", self._path, error.title)

    async def _send(self) -> None:
        async def patch() -> None:
            self._dirty.clear()
            status = self._record.render(self.pod)
            if status == self._last:
                return
            # A list in a merge patch replaces, so no condition of ours lingers. Null takes away what a status before
            # may have had and this one has not.
            removed = {"reason": None, "message": None}
            body = {"metadata": {"uid": get_text(self.pod, "metadata", "uid")}, "status": removed | status}
            await self._http.request_json("PATCH", self._path + "/status", body=body, content_type=MERGE_PATCH)
            self._last = status

        async with self._lock:
            await self._retry("status", patch)

    async def delete(self) -> None:
        """Send the last status, then remove the object: the pod has ended."""
        if self._stopped:
            return
        await self._send()
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": get_text(self.pod, "metadata", "uid")},
        }
        await self._retry("deletion", lambda: self._http.request_json("DELETE", self._path, body=body))

    async def _retry(self, what: str, attempt: Callable[[], Awaitable[object]]) -> None:
        """Until an attempt succeeds, or the pod is gone from the API."""
        backoff = Backoff(*RETRY_PAUSES)
        while not self._stopped:
            try:
                await attempt()
                return
            except KubeApiError as error:
                if await self._is_lost(error):
                    return
                log.warning("%s of %s: %s", what, self._path, error.title)
            except ClusterError as error:
                log.info("%s of %s: %s", what, self._path, error.title)
            await backoff.sleep()

    async def _is_lost(self, error: KubeApiError) -> bool:
        """The pod is gone, or another one has its name (our uid is a precondition of every write)."""
        if error.status != HTTPStatus.CONFLICT:  # 409 may also be a mere race with another writer
            return error.status == HTTPStatus.NOT_FOUND
        try:
            found = await self._http.request_json("GET", self._path)
        except KubeApiError as missing:
            return missing.status == HTTPStatus.NOT_FOUND
        except ClusterError:
            return False
        return get_text(found, "metadata", "uid") != get_text(self.pod, "metadata", "uid")

    @property
    def _path(self) -> str:
        namespace, name = get_text(self.pod, "metadata", "namespace"), get_text(self.pod, "metadata", "name")
        return f"/api/v1/namespaces/{namespace}/pods/{name}"

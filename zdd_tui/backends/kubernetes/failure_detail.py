"""What the API knows beyond a pod's status about why it does not run: its last log line, and its Events."""

from typing import TYPE_CHECKING

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_objects
from zdd_tui.model.masking import mask_text, replace_unprintable
from zdd_tui.model.workload.container import FailureCause
from zdd_tui.model.workload.probe_failure import describe_waiting
from zdd_tui.model.workload.rollout import EventView, project_event

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.cluster import Cluster

MAX_TEXT = 200
"""Characters of a log line or of an Event that are quoted."""

READ_TIMEOUT = 3.0
"""Seconds for one request: a failure is reported without the detail rather than late."""

LOG_LINES = 20
"""The last lines that are searched for one with text."""


async def read_failure_detail(cluster: "Cluster", cause: FailureCause | None, waiting_pods: tuple[str, ...]) -> str:
    """The last log line of a container that crashed, or else the newest warning about a pod; empty without one.

    Args:
        waiting_pods: pods that are not ready, for a failure without a known cause.
    """
    try:
        if cause is not None and cause.has_crashed:
            line = await _read_last_log_line(cluster, cause)
            return f"last log line: {line}" if line else ""
        if cause is None and waiting_pods:
            warning = await _read_newest_warning(cluster, waiting_pods[0])
            return f"pod {waiting_pods[0]}: {warning}" if warning else ""
    except ClusterError:
        pass  # no permission, or the pod is gone: the failure is reported without it
    return ""


async def _read_last_log_line(cluster: "Cluster", cause: FailureCause) -> str:
    path = cluster.path("api/v1", "pods", cause.pod, "log")
    params: dict[str, str | int] = {"container": cause.container, "tailLines": LOG_LINES}
    try:
        payload = await cluster.http.request_bytes("GET", path, {**params, "previous": "true"}, timeout=READ_TIMEOUT)
    except ClusterError:  # it is not restarted yet, or the earlier container is removed
        payload = await cluster.http.request_bytes("GET", path, params, timeout=READ_TIMEOUT)
    lines = [line for line in payload.decode("utf-8", "replace").splitlines() if line.strip()]
    return _quote(lines[-1]) if lines else ""


async def read_waiting_reason(cluster: "Cluster", pod: str) -> str:
    """Why a pod that runs or starts does not become ready, by its Events; empty where they do not say it."""
    try:
        return _quote(describe_waiting(await _read_events(cluster, pod)))
    except ClusterError:
        return ""  # no permission, or no response: the step's own polls report that


async def _read_events(cluster: "Cluster", pod: str) -> list[EventView]:
    listed = await cluster.http.request_json(
        "GET",
        cluster.path("api/v1", "events"),
        params={"fieldSelector": f"involvedObject.name={pod}"},
        timeout=READ_TIMEOUT,
    )
    return [project_event(raw) for raw in get_objects(listed, "items")]


async def _read_newest_warning(cluster: "Cluster", pod: str) -> str:
    events = [each for each in await _read_events(cluster, pod) if each.warning]
    newest = max(events, key=lambda event: event.at or 0.0, default=None)
    return _quote(f"{newest.reason}: {newest.message}") if newest else ""


def _quote(text: str) -> str:
    """Text from outside for an error: one line, without control characters and secrets."""
    return mask_text(" ".join(replace_unprintable(text).split()))[:MAX_TEXT]

"""Which probe keeps or took a pod out of rotation: the API shows it only in Events."""

import re
from collections.abc import Iterable

from zdd_tui.model.workload.pod import Pod
from zdd_tui.model.workload.rollout import EventView

_EVENT_SECONDS = 60.0
"""A probe fails several times before the pod loses its readiness; an older Event is about another time."""

_STATUS_CODE = re.compile(r"statuscode: (\d{3})")


def find_probe_failure(pod: Pod, events: Iterable[EventView]) -> str:
    """Why a pod that is Not ready is not: ``readiness probe: HTTP 503``; empty where no Event says it."""
    if pod.unready_since is None:
        return ""
    oldest = pod.unready_since - _EVENT_SECONDS
    found = [
        event
        for event in events
        if event.reason == "Unhealthy" and event.object == f"pod/{pod.name}" and (event.at or 0.0) >= oldest
    ]
    newest = max(found, key=lambda event: (event.message.startswith("Readiness"), event.at or 0.0), default=None)
    return _shorten_probe_message(newest.message) if newest else ""


def describe_waiting(events: Iterable[EventView]) -> str:
    """Why a pod does not become ready, by its Events: ``startup probe: HTTP 503 (97×)``; empty where none says it."""
    ordered = sorted(events, key=lambda event: event.at or 0.0)
    # A volume that could not be mounted, or a full cluster, is past once something newer has happened.
    lasting = [event for event in ordered if event.warning and event.reason in ("Unhealthy", "BackOff")]
    found = ordered[-1] if ordered and ordered[-1].warning else next(reversed(lasting), None)
    if found is None:
        return ""
    is_probe = found.reason == "Unhealthy"
    text = _shorten_probe_message(found.message) if is_probe else f"{found.reason}: {found.message}"
    return f"{text} ({found.count}×)" if found.count > 1 else text


def _shorten_probe_message(message: str) -> str:
    """``readiness probe: HTTP 503`` for the kubelet's ``Readiness probe failed: HTTP probe failed with …: 503``."""
    kind, _, detail = message.partition(" probe failed: ")
    detail = detail.strip().splitlines()[0] if detail.strip() else ""
    if code := _STATUS_CODE.search(detail):
        detail = f"HTTP {code[1]}"
    elif "deadline exceeded" in detail or "imeout" in detail:
        detail = "timeout"
    elif detail.startswith("Get ") or detail.startswith("dial "):
        detail = detail.rpartition(": ")[2]
    return f"{kind.lower()} probe{f': {detail}' if detail else ' failed'}" if kind != message else message

"""Pod predicates of controllers: active, ready, available; and which pods to delete first. Pure."""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from zdd_tui.testbed.cluster.meta import (
    Json,
    annotations_of,
    condition_of,
    condition_true,
    is_deleting,
    parse_time,
    uid_of,
)

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def is_active(pod: Json) -> bool:
    return not is_deleting(pod) and pod["status"].get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Json) -> bool:
    return condition_true(pod, "Ready")


def ready_changed_at(pod: Json) -> datetime | None:
    """When the pod last turned ready, or unready."""
    text = (condition_of(pod, "Ready") or {}).get("lastTransitionTime")
    return parse_time(text) if text else None


def ready_since(pod: Json) -> datetime | None:
    return ready_changed_at(pod) if is_ready(pod) else None


def available_from(pod: Json, min_ready_seconds: int) -> datetime | None:
    """When the pod has been, or will have been, ready long enough; None while it is not ready."""
    since = ready_since(pod)
    return since + timedelta(seconds=min_ready_seconds) if since else None


def is_available(pod: Json, min_ready_seconds: int, moment: datetime) -> bool:
    if min_ready_seconds == 0:
        return is_ready(pod)
    at = available_from(pod, min_ready_seconds)
    return at is not None and at <= moment


def deletion_order(pods: Iterable[Json], neighbours: dict[str, int], moment: datetime) -> list[Json]:
    """Pods in the order in which a ReplicaSet deletes them (ActivePodsWithRanks).

    Unassigned before assigned, pending before running, not ready before ready, cheap before dear, crowded nodes
    before empty ones, young before old in steps of doubled age. `neighbours` counts related pods by node.
    """
    return sorted(pods, key=lambda pod: _deletion_rank(pod, neighbours, moment))


_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def _deletion_rank(pod: Json, neighbours: dict[str, int], moment: datetime) -> tuple[Any, ...]:
    node = pod["spec"].get("nodeName", "")
    status = pod["status"]
    restarts = sum(item.get("restartCount", 0) for item in status.get("containerStatuses") or ())
    cost = annotations_of(pod).get(DELETION_COST, "0")
    return (
        bool(node),
        _PHASES.get(status.get("phase", ""), 3),
        is_ready(pod),
        int(cost) if cost.lstrip("+-").isdecimal() else 0,
        -neighbours.get(node, 0),
        _age_bucket(ready_since(pod), moment),
        -restarts,
        _age_bucket(parse_time(pod["metadata"]["creationTimestamp"]), moment),
        uid_of(pod),
    )


def _age_bucket(since: datetime | None, moment: datetime) -> int:
    """The age in powers of two: pods of about the same age are chosen among by chance (uid)."""
    if since is None:
        return -1
    return int(math.log2(max((moment - since).total_seconds(), 1)))

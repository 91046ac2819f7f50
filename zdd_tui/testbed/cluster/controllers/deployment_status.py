"""The status of a Deployment: counts and the conditions Available, Progressing and ReplicaFailure. Pure.

After pkg/controller/deployment/progress.go and sync.go 1.34. Times are RFC 3339 texts or aware datetimes.
"""

from datetime import datetime, timedelta

from zdd_tui.testbed.cluster.controllers import rollout
from zdd_tui.testbed.cluster.controllers.rollout import ReplicaCounts, RolloutBounds
from zdd_tui.testbed.cluster.meta import (
    Json,
    condition_of,
    find_condition,
    name_of,
    parse_time,
    status_of,
    timestamp,
    without_condition,
)

NEW_AVAILABLE = "NewReplicaSetAvailable"
UPDATED = "ReplicaSetUpdated"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"
RESUMED = "DeploymentResumed"
# progressDeadlineSeconds of a Deployment that wants no deadline (math.MaxInt32).
NO_DEADLINE = 2**31 - 1


def progress_deadline(deployment: Json) -> int | None:
    """Seconds without progress until the rollout counts as failed; None for no deadline."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds in (None, NO_DEADLINE) else int(seconds)


def condition(kind: str, status: str, reason: str, message: str, moment: datetime) -> Json:
    text = timestamp(moment)
    times = {"lastUpdateTime": text, "lastTransitionTime": text}
    return {"type": kind, "status": status, **times, "reason": reason, "message": message}


def with_condition(conditions: list[Json], new: Json) -> list[Json]:
    """Set a condition; one with the same status and reason stays, one with the same status keeps its time."""
    old = find_condition(conditions, new["type"])
    if old is not None and (old["status"], old.get("reason")) == (new["status"], new["reason"]):
        return conditions
    if old is not None and old["status"] == new["status"]:
        new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*without_condition(conditions, new["type"]), new]


def replica_counts(status: Json) -> ReplicaCounts:
    fields = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    return ReplicaCounts(*(status.get(name, 0) for name in fields))


def _sum_status(sets: list[Json], field: str) -> int:
    return sum(status_of(item).get(field, 0) for item in sets)


def base_status(deployment: Json, new: Json | None, old: list[Json], limit: RolloutBounds, moment: datetime) -> Json:
    """Counts and the Available condition."""
    every = [*old, *([new] if new else [])]
    available = _sum_status(every, "availableReplicas")
    total = sum(item["spec"].get("replicas", 0) for item in every)
    previous = status_of(deployment)
    enough = available >= limit.replicas - limit.unavailable
    available_condition = condition(
        "Available",
        "True" if enough else "False",
        "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "Deployment has minimum availability." if enough else "Deployment does not have minimum availability.",
        moment,
    )
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": _sum_status(every, "replicas"),
        "updatedReplicas": _sum_status([new] if new else [], "replicas"),
        "readyReplicas": _sum_status(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
        "collisionCount": previous.get("collisionCount"),
        "conditions": with_condition(list(previous.get("conditions") or []), available_condition),
    }


def deployment_rollout_status(
    deployment: Json, new: Json | None, old: list[Json], limit: RolloutBounds, moment: datetime
) -> Json:
    """base_status with the progress of the rollout evaluated and the ReplicaSets' failures brought up."""
    status = base_status(deployment, new, old, limit, moment)
    if progress_deadline(deployment) is None:
        conditions = without_condition(status["conditions"], "Progressing")
    else:
        conditions = _progressing_conditions(deployment, new, status, moment)
    failure = _replica_failure(new, old)
    conditions = with_condition(conditions, failure) if failure else without_condition(conditions, "ReplicaFailure")
    return {**status, "conditions": conditions}


def _progressing_conditions(deployment: Json, new: Json | None, status: Json, moment: datetime) -> list[Json]:
    counts = replica_counts(status)
    conditions: list[Json] = status["conditions"]
    current = condition_of(deployment, "Progressing")
    if counts.replicas == counts.updated and current is not None and current.get("reason") == NEW_AVAILABLE:
        return conditions  # complete before: a resync, not a rollout
    subject = f'ReplicaSet "{name_of(new)}"' if new else f'Deployment "{name_of(deployment)}"'
    if rollout.is_complete(deployment["spec"]["replicas"], counts):
        text = f"{subject} has successfully progressed."
        return with_condition(conditions, condition("Progressing", "True", NEW_AVAILABLE, text, moment))
    if rollout.has_progressed(replica_counts(status_of(deployment)), counts):
        made = condition("Progressing", "True", UPDATED, f"{subject} is progressing.", moment)
        if current is not None and current["status"] == "True":
            made["lastTransitionTime"] = current["lastTransitionTime"]
        # Replaced even when status and reason are the same: lastUpdateTime is what the deadline counts from.
        return [*without_condition(conditions, "Progressing"), made]
    if has_timed_out(deployment, conditions, moment):
        text = f"{subject} has timed out progressing."
        return with_condition(conditions, condition("Progressing", "False", TIMED_OUT, text, moment))
    return conditions


def has_timed_out(deployment: Json, conditions: list[Json], moment: datetime) -> bool:
    """Whether the last progress lies further back than the deadline."""
    seconds, current = progress_deadline(deployment), find_condition(conditions, "Progressing")
    if seconds is None or current is None or current.get("reason") == NEW_AVAILABLE:
        return False
    if current.get("reason") == TIMED_OUT:
        return True
    return parse_time(current["lastUpdateTime"]) + timedelta(seconds=seconds) < moment


def _replica_failure(new: Json | None, old: list[Json]) -> Json | None:
    for item in [*([new] if new else []), *old]:
        if (found := condition_of(item, "ReplicaFailure")) is not None:
            return {**found, "lastUpdateTime": found["lastTransitionTime"]}
    return None


def recheck_after(deployment: Json, status: Json, moment: datetime) -> float | None:
    """Seconds until the deadline has to be evaluated again; None where nothing is awaited."""
    seconds, current = progress_deadline(deployment), find_condition(status.get("conditions"), "Progressing")
    if seconds is None or current is None or current.get("reason") == TIMED_OUT:
        return None
    if rollout.is_complete(deployment["spec"]["replicas"], replica_counts(status)):
        return None
    left = (parse_time(current["lastUpdateTime"]) + timedelta(seconds=seconds) - moment).total_seconds()
    return max(left, 0) + 1

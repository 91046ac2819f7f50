"""What each gate asks, of whom, and what must come back: the words beside its reading on the screen.

The work itself is in :mod:`zdd_tui.engine.gates`; a test holds that every gate of every strategy has its words here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_tui.model.regions import REGION_GATE


@dataclass(frozen=True, slots=True)
class Ask:
    """A gate's question.

    Attributes:
        system: who is asked.
        query: what is asked.
        wanted: what passes.
    """

    system: str
    query: str
    wanted: str


_PODS = "GET Deployment, its pods by selector, the EndpointSlices of the Service"
_NEW_PODS = "GET Deployment and its pods by selector; the containers' statuses"
_SHADOW = "GET /metrics of every serving pod: shadow_comparisons_total, shadow_duration_seconds, since the phase began"

ASKS: Mapping[str, Ask] = {
    "guard": Ask("the guard", "the newest reading of each rule that demands something (zdd.guard)", "every one passes"),
    REGION_GATE: Ask(
        "PostgreSQL of every region before it",
        "zdd.release of this plan's hash: the newest one's state and end, and whether any was rolled back",
        "all are done, the last for regions.soak, and none was rolled back",
    ),
    "schema-valid": Ask(
        "PostgreSQL",
        "pg_attribute for the new columns, pg_index.indisvalid and indisready for the new indexes, pg_trigger",
        "all are there and valid",
    ),
    "no-waiters": Ask(
        "PostgreSQL",
        "pg_locks not granted, whose pg_blocking_pids hold a lock of an agent's on the plan's tables",
        "no session",
    ),
    "serving-v2": Ask("Kubernetes", _PODS, "every ready endpoint is a pod with the image of V2, as many as desired"),
    "serving-v3": Ask("Kubernetes", _PODS, "every ready endpoint is a pod with the image of V3, as many as desired"),
    "serving-new": Ask("Kubernetes", _PODS, "every ready endpoint is a pod with the new image, as many as desired"),
    "recent-rows-agree": Ask(
        "PostgreSQL",
        "rows whose xmin is newer than the write flag, at the table's end and here and there; each compared with `up`",
        "none disagrees, and at least gates.min_recent_rows agree",
    ),
    "backfill-complete": Ask(
        "the store",
        "zdd.backfill: status, rows, failed_rows",
        "all ranges done, no more failed rows than max_failed_rows",
    ),
    "no-mismatch": Ask(
        "the store", "zdd.backfill: verified, mismatches of the last verification", "verified, 0 mismatches"
    ),
    "soak-passed": Ask("the store", "zdd.step: the phase's soak", "it is over"),
    "no-older-pod": Ask(
        "Kubernetes",
        "GET Deployment, its ReplicaSets and pods, terminating ones included",
        "no pod of an older template, and the rollout is done",
    ),
    "no-old-snapshot": Ask(
        "PostgreSQL",
        "pg_stat_activity.backend_xmin, backend_xid and xact_start, and pg_prepared_xacts, against the cutover's xid",
        "no transaction is older, and no session is hidden from us",
    ),
    "nothing-left": Ask(
        "PostgreSQL, Redis, Kubernetes",
        "pg_trigger, pg_proc, columns and tables kept aside; both flags; the Deployment's annotations",
        "nothing of the release",
    ),
    "never-short": Ask(
        "Kubernetes",
        "GET Deployment: strategy, maxUnavailable, maxSurge, replicas",
        "no pod goes before its heir is ready",
    ),
    "pods-healthy": Ask("Kubernetes", _NEW_PODS, "every pod with the new image is ready, none has restarted"),
    "weight-held": Ask(
        "Kubernetes or Redis",
        "the share of serving pods with the new image, the weights of the HTTPRoute, or the flag's percentage",
        "the phase's weight, within canary.tolerance",
    ),
    "marks-gone": Ask("Kubernetes", "GET Deployment, the canary's objects, the annotations", "nothing of the release"),
    "smoke-passed": Ask(
        "the store", "zdd.step: answers that the smoke checks got from every green pod", "all as expected"
    ),
    "green-healthy": Ask(
        "Kubernetes", "GET the green Deployment and its pods", "new image, ready, no restart, as many as desired"
    ),
    "serving-green": Ask(
        "Kubernetes", "GET the EndpointSlices of the Service", "every endpoint is a green pod, and all of them"
    ),
    "first-warm": Ask("Kubernetes", "GET the first Deployment", "the old image, as many available as before"),
    "green-gone": Ask(
        "Kubernetes",
        "GET the green Deployment, the preview Service, the Service's selector and marks",
        "nothing of the release",
    ),
    "shadow-agrees": Ask("the application", _SHADOW, "no more than dark.max_mismatch percent went badly"),
    "shadow-fast": Ask(
        "the application", _SHADOW, "the new path's latency is at most dark.max_latency_ratio times the old's"
    ),
    "read-held": Ask("Redis", "GET of the read flag", "the phase's share"),
    "dark-gone": Ask(
        "Redis, Kubernetes",
        "GET of both flags; the Deployment's annotations",
        "the read flag is on, the shadow flag is gone",
    ),
}


def ask_of(gate: str) -> Ask | None:
    """None for a gate that nobody has put into words."""
    return ASKS.get(gate)

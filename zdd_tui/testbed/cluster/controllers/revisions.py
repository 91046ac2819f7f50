"""Revision numbers and the annotations that carry them (pkg/controller/deployment/util 1.34)."""

from collections.abc import Iterable

from zdd_tui.testbed.cluster.meta import Json, annotations_of

ANNOTATION_PREFIX = "deployment.kubernetes.io/"
REVISION = ANNOTATION_PREFIX + "revision"
REVISION_HISTORY = ANNOTATION_PREFIX + "revision-history"
DESIRED_REPLICAS = ANNOTATION_PREFIX + "desired-replicas"
MAX_REPLICAS = ANNOTATION_PREFIX + "max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Of a Deployment's annotations these are not copied to its ReplicaSets.
_NOT_COPIED = frozenset(
    {LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, "deprecated.deployment.rollback.to"}
)
MAX_HISTORY_CHARACTERS = 2000


def revision_of(obj: Json) -> int:
    """0 where there is none or it is not a number."""
    return parse_number(annotations_of(obj).get(REVISION)) or 0


def parse_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def next_revision(old: Iterable[Json]) -> int:
    return max((revision_of(item) for item in old), default=0) + 1


def replica_annotations(replicas: int, surge: int) -> dict[str, str]:
    return {DESIRED_REPLICAS: str(replicas), MAX_REPLICAS: str(replicas + surge)}


def replica_set_annotations(deployment: Json, replica_set: Json, revision: int) -> dict[str, str]:
    """The annotations that the new ReplicaSet should have; an older revision of it moves to the history."""
    own = dict(annotations_of(replica_set))
    own.update({k: v for k, v in annotations_of(deployment).items() if k not in _NOT_COPIED})
    previous = parse_number(own.get(REVISION))
    if (previous or 0) < revision:
        own[REVISION] = str(revision)
        if previous is not None:
            own[REVISION_HISTORY] = _extend_history(own.get(REVISION_HISTORY, ""), str(previous))
    return own


def _extend_history(history: str, revision: str) -> str:
    entries = [entry for entry in history.split(",") if entry]
    while entries and len(",".join([*entries, revision])) > MAX_HISTORY_CHARACTERS:
        entries.pop(0)
    return ",".join([*entries, revision])

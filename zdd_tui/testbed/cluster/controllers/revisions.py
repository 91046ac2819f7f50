"""Revision numbers and the annotations that carry them (pkg/controller/deployment/util 1.34)."""

from collections.abc import Iterable

from zdd_tui.testbed.cluster.meta import Json, annotations_of

PREFIX = "deployment.kubernetes.io/"
REVISION = PREFIX + "revision"
HISTORY = PREFIX + "revision-history"
DESIRED = PREFIX + "desired-replicas"
MAXIMUM = PREFIX + "max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Of a Deployment's annotations these are not copied to its ReplicaSets.
_NOT_COPIED = frozenset({LAST_APPLIED, REVISION, HISTORY, DESIRED, MAXIMUM, "deprecated.deployment.rollback.to"})
HISTORY_CHARACTERS = 2000


def revision_of(obj: Json) -> int:
    """0 where there is none or it is not a number."""
    return number(annotations_of(obj).get(REVISION)) or 0


def number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def next_revision(old: Iterable[Json]) -> int:
    return max((revision_of(item) for item in old), default=0) + 1


def replica_notes(replicas: int, surge: int) -> dict[str, str]:
    return {DESIRED: str(replicas), MAXIMUM: str(replicas + surge)}


def replica_set_annotations(deployment: Json, replica_set: Json, revision: int) -> dict[str, str]:
    """The annotations that the new ReplicaSet should have; an older revision of it moves to the history."""
    own = dict(annotations_of(replica_set))
    own.update({k: v for k, v in annotations_of(deployment).items() if k not in _NOT_COPIED})
    previous = number(own.get(REVISION))
    if (previous or 0) < revision:
        own[REVISION] = str(revision)
        if previous is not None:
            own[HISTORY] = _extended(own.get(HISTORY, ""), str(previous))
    return own


def _extended(history: str, revision: str) -> str:
    entries = [entry for entry in history.split(",") if entry]
    while entries and len(",".join([*entries, revision])) > HISTORY_CHARACTERS:
        entries.pop(0)
    return ",".join([*entries, revision])

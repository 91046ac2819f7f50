"""Revisions of a Deployment: the hash that names the ReplicaSet of a template, and the annotations with its number.

Annotations after pkg/controller/deployment/util 1.34.
"""

import json
from collections.abc import Iterable

from zdd_tui.testbed.cluster.meta import SUFFIX_ALPHABET, Json, annotations_of, deep_copy

HASH_LABEL = "pod-template-hash"

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


def template_hash(template: Json, collisions: int = 0) -> str:
    """A short name for a template: FNV-1a in the alphabet of rand.SafeEncodeString.

    The value differs from the real controller's, which hashes a Go dump of the structure; both are opaque.
    """
    text = json.dumps(template, sort_keys=True, separators=(",", ":")) + (str(collisions) if collisions else "")
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(SUFFIX_ALPHABET[ord(digit) % len(SUFFIX_ALPHABET)] for digit in str(value))


def with_label(template: Json, value: str) -> Json:
    labelled: Json = deep_copy(template)
    labelled.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = value
    return labelled


def same_template(one: Json, other: Json) -> bool:
    """Equal but for the hash label."""
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Json) -> Json:
    metadata = {k: v for k, v in (template.get("metadata") or {}).items() if v}
    if "labels" in metadata:
        metadata["labels"] = {k: v for k, v in metadata["labels"].items() if k != HASH_LABEL}
    return {**template, "metadata": metadata}

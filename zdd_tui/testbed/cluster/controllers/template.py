"""Pod templates: the hash that names a ReplicaSet, and whether two templates are equal."""

import json

from zdd_tui.testbed.cluster.meta import SUFFIX_ALPHABET, Json, deep_copy

HASH_LABEL = "pod-template-hash"


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

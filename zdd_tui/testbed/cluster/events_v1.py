"""events.k8s.io/v1 Events: the stored core Events with other names for their fields."""

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json

# Names in core v1, and in events.k8s.io/v1. Everything else has one name.
_EVENTS_V1_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_CORE_NAMES = {new: old for old, new in _EVENTS_V1_NAMES.items()}


def stored_kind(kind: ResourceType) -> ResourceType:
    """The kind under which objects of a kind are stored."""
    return kinds.EVENT if kind is kinds.EVENT_V1 else kind


def to_requested_kind(kind: ResourceType, obj: Json) -> Json:
    """A stored object as the requested kind."""
    if kind is not kinds.EVENT_V1 or obj.get("kind") != kinds.EVENT.kind:
        return obj
    return {_EVENTS_V1_NAMES.get(key, key): value for key, value in obj.items()} | {"apiVersion": kind.api_version}


def to_stored_kind(kind: ResourceType, body: Json) -> Json:
    """A body of the requested kind as it is stored."""
    if kind is not kinds.EVENT_V1:
        return body
    return {_CORE_NAMES.get(key, key): value for key, value in body.items()} | {"apiVersion": kinds.EVENT.api_version}

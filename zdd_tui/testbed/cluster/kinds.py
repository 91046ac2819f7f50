"""The kinds that the embedded API server serves, with what differs between them."""

from dataclasses import dataclass

from zdd_tui.testbed.cluster.meta import Json


@dataclass(frozen=True, slots=True, eq=False)  # one object per kind: compared and hashed by identity
class ResourceType:
    """One resource type. `generation` names the fields whose change bumps metadata.generation."""

    group: str
    version: str
    kind: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = False
    has_scale: bool = False
    in_all: bool = False
    generation: tuple[str, ...] = ()
    # Deleting answers with the object instead of a Status.
    returns_deleted: bool = False
    # Defined by a CustomResourceDefinition in a real cluster: it takes no strategic merge patch.
    custom: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """plural, with the group unless it is the core one: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def singular(self) -> str:
        return self.kind.lower()


DEPLOYMENT = ResourceType(
    "apps", "v1", "Deployment", "deployments", ("deploy",),
    has_status=True, has_scale=True, in_all=True, generation=("spec", "annotations"),
)  # fmt: skip
REPLICA_SET = ResourceType(
    "apps", "v1", "ReplicaSet", "replicasets", ("rs",),
    has_status=True, has_scale=True, in_all=True, generation=("spec",),
)  # fmt: skip
POD = ResourceType(
    "", "v1", "Pod", "pods", ("po",),
    has_status=True, in_all=True, generation=("spec",), returns_deleted=True,
)  # fmt: skip
SERVICE = ResourceType("", "v1", "Service", "services", ("svc",), has_status=True, in_all=True, returns_deleted=True)
EVENT = ResourceType("", "v1", "Event", "events", ("ev",))
# The same events in another API group: stored as EVENT, converted when read and written.
EVENT_V1 = ResourceType("events.k8s.io", "v1", "Event", "events", ("ev",))
NODE = ResourceType("", "v1", "Node", "nodes", ("no",), namespaced=False, has_status=True)
NAMESPACE = ResourceType("", "v1", "Namespace", "namespaces", ("ns",), namespaced=False, has_status=True)
CONFIG_MAP = ResourceType("", "v1", "ConfigMap", "configmaps", ("cm",))
SECRET = ResourceType("", "v1", "Secret", "secrets")
SERVICE_ACCOUNT = ResourceType("", "v1", "ServiceAccount", "serviceaccounts", ("sa",), returns_deleted=True)
ENDPOINT_SLICE = ResourceType(
    "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices",
    generation=("endpoints", "ports", "labels"),
)  # fmt: skip
# Nothing routes here: only the stored object matters.
INGRESS = ResourceType(
    "networking.k8s.io", "v1", "Ingress", "ingresses", ("ing",), has_status=True, generation=("spec",)
)
# Whoever routes by them writes their status; we only keep them.
GATEWAY_CLASS = ResourceType(
    "gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses", ("gc",),
    namespaced=False, has_status=True, generation=("spec",), custom=True,
)  # fmt: skip
GATEWAY = ResourceType(
    "gateway.networking.k8s.io", "v1", "Gateway", "gateways", ("gtw",),
    has_status=True, generation=("spec",), custom=True,
)  # fmt: skip
HTTP_ROUTE = ResourceType(
    "gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes",
    has_status=True, generation=("spec",), custom=True,
)  # fmt: skip
LEASE = ResourceType("coordination.k8s.io", "v1", "Lease", "leases")

KINDS = (
    CONFIG_MAP, EVENT, NAMESPACE, NODE, POD, SECRET, SERVICE_ACCOUNT, SERVICE,
    DEPLOYMENT, REPLICA_SET, ENDPOINT_SLICE, INGRESS, LEASE, EVENT_V1,
    GATEWAY_CLASS, GATEWAY, HTTP_ROUTE,
)  # fmt: skip

_BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
_BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}


def by_path(group: str, version: str, plural: str) -> ResourceType | None:
    return _BY_PATH.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> ResourceType | None:
    return _BY_KIND.get((api_version, kind))


def groups() -> dict[str, tuple[ResourceType, ...]]:
    """Kinds by group, the core group under the empty name."""
    names = sorted({kind.group for kind in KINDS})
    return {name: tuple(kind for kind in KINDS if kind.group == name) for name in names}


# events.k8s.io/v1 Events are the stored core Events with other names for their fields.

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
    return EVENT if kind is EVENT_V1 else kind


def to_requested_kind(kind: ResourceType, obj: Json) -> Json:
    """A stored object as the requested kind."""
    if kind is not EVENT_V1 or obj.get("kind") != EVENT.kind:
        return obj
    return {_EVENTS_V1_NAMES.get(key, key): value for key, value in obj.items()} | {"apiVersion": kind.api_version}


def to_stored_kind(kind: ResourceType, body: Json) -> Json:
    """A body of the requested kind as it is stored."""
    if kind is not EVENT_V1:
        return body
    return {_CORE_NAMES.get(key, key): value for key, value in body.items()} | {"apiVersion": EVENT.api_version}

"""The verbs of the API on the store: create, update, patch, delete, with the rules of the real server.

Everything here is synchronous: one event loop, no interleaving, so a read followed by a write cannot race.
Controllers call it directly; the HTTP server calls it for everyone else.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Literal

from zdd_tui.testbed.cluster import defaults, kinds, validation
from zdd_tui.testbed.cluster.errors import (
    CONFLICT_MESSAGE,
    ApiError,
    already_exists,
    bad_request,
    conflict,
    invalid_request,
    not_found,
    object_details,
)
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.managed_fields import track_changes
from zdd_tui.testbed.cluster.meta import (
    Json,
    annotations_of,
    deep_copy,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    now,
    parse_time,
    random_suffix,
    status_of,
    timestamp,
    without_condition,
    without_nulls,
)
from zdd_tui.testbed.cluster.selectors import ObjectMatch
from zdd_tui.testbed.cluster.store import ObjectStore
from zdd_tui.testbed.cluster.tables import NONE, label_selector

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
# The server owns these: whatever a client sends, the stored values stay.
_SERVER_OWNED_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
)


class Api:
    """One cluster's objects and their rules. Results are the stored objects: read, never change."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def get(self, kind: ResourceType, namespace: str, name: str) -> Json:
        """Raises ApiError 404."""
        obj = self.store.get(kind, namespace if kind.namespaced else "", name)
        if obj is None:
            raise not_found(kind, name)
        return obj

    def list(self, kind: ResourceType, namespace: str | None, match: ObjectMatch | None = None) -> list[Json]:
        """In the order of the real server: by namespace and name."""
        return sorted(filter(match, self.store.items(kind, namespace)), key=key_of)

    def create(self, kind: ResourceType, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        """Raises ApiError 400, 404 (no such namespace), 409, 422."""
        obj = without_nulls(body)
        metadata = self._identify(kind, namespace, obj)
        self._admit_namespace(kind, namespace)
        obj.pop("status", None) if kind.has_status else None
        defaults.apply_defaults(kind, obj)
        if kind is kinds.POD:
            defaults.admit_pod(obj)
            obj["status"] = {"phase": "Pending", "qosClass": defaults.qos_class(obj["spec"])}
        elif kind is kinds.NAMESPACE:
            obj["status"] = {"phase": "Active"}
        elif kind is kinds.SERVICE:
            obj["status"] = {"loadBalancer": {}}
        elif kind.has_status and not kind.custom:
            obj["status"] = {"replicas": 0} if kind is kinds.REPLICA_SET else {}
        validation.validate(kind, obj)
        if self.store.get(kind, *key_of(obj)) is not None:
            raise already_exists(kind, name_of(obj))
        if kind is kinds.POD:
            self._admit_quota(obj)
        if kind is kinds.SERVICE:
            defaults.assign_addresses(obj, self.store.items(kinds.SERVICE))
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        if kind.generation:
            metadata["generation"] = 1
        track_changes(kind, None, obj)
        return obj if dry_run else self.store.put(kind, obj)

    def _admit_quota(self, pod: Json) -> None:
        """Refuses a pod that a ResourceQuota of its namespace does not allow (plugin/pkg/admission/resourcequota)."""
        namespace = namespace_of(pod)
        for quota in self.store.items(kinds.RESOURCE_QUOTA, namespace):
            limit = (quota["spec"].get("hard") or {}).get("pods")
            if limit is None or count_quota_pods(self.store, namespace) < int(limit):
                continue
            used = f"requested: pods=1, used: pods={count_quota_pods(self.store, namespace)}, limited: pods={limit}"
            message = f'pods "{name_of(pod)}" is forbidden: exceeded quota: {name_of(quota)}, {used}'
            raise ApiError(HTTPStatus.FORBIDDEN, "Forbidden", message, object_details(kinds.POD, name_of(pod)))

    def _identify(self, kind: ResourceType, namespace: str, obj: Json) -> Json:
        """Checks kind and version of the body and gives it a name; returns its metadata."""
        validate_type(kind, obj)
        metadata: Json = obj.setdefault("metadata", {})
        for name in (*_SERVER_OWNED_FIELDS[:-1], "resourceVersion", "selfLink", "managedFields"):
            metadata.pop(name, None)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        if kind.namespaced:
            if metadata.setdefault("namespace", namespace) != namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            metadata.pop("namespace", None)
        return metadata

    def _admit_namespace(self, kind: ResourceType, namespace: str) -> None:
        if not kind.namespaced:
            return
        owner = self.store.get(kinds.NAMESPACE, "", namespace)
        if owner is None:
            raise not_found(kinds.NAMESPACE, namespace)
        if is_deleting(owner) and kind is not kinds.EVENT:
            message = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise ApiError(HTTPStatus.FORBIDDEN, "Forbidden", message, {"causes": [{"reason": "NamespaceTerminating"}]})

    def update(
        self, kind: ResourceType, namespace: str, name: str, body: Json, *, status: bool = False, dry_run: bool = False
    ) -> Json:
        """Replace an object, or its status. Raises ApiError 400, 404, 409 (stale), 422 (immutable or invalid)."""
        obj = without_nulls(body)
        validate_type(kind, obj)
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("name"):
            raise bad_request("the name of the object (based on URL) was undeterminable: name must be provided")
        if metadata["name"] != name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        old = self.get(kind, namespace, name)
        _check_preconditions(kind, old, {"uid": metadata.get("uid")})
        _check_version(kind, old, metadata)
        self._keep_server_fields(kind, old, obj, status=status)
        defaults.apply_defaults(kind, obj)
        if not status:
            validation.validate(kind, obj)
            validation.validate_update(kind, old, obj)
            if kind is kinds.POD and old["spec"].get("nodeName") != obj["spec"].get("nodeName"):
                raise bad_request("spec.nodeName is set by the binding subresource only")
        return self._store(kind, old, obj, bump=not status, dry_run=dry_run)

    def _keep_server_fields(self, kind: ResourceType, old: Json, obj: Json, *, status: bool) -> None:
        metadata = obj["metadata"]
        metadata.pop("managedFields", None)
        metadata.pop("selfLink", None)
        for name in (*_SERVER_OWNED_FIELDS, "generateName"):
            if name in old["metadata"]:
                metadata[name] = old["metadata"][name]
            else:
                metadata.pop(name, None)
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if status:
            # The status strategies of apps/v1 leave annotations alone: a controller may write them here.
            annotations = metadata.get("annotations")
            kept = {**deep_copy(old), "status": status_of(obj)}
            obj.clear()
            obj.update(kept)
            if kind in (kinds.DEPLOYMENT, kinds.REPLICA_SET) and annotations is not None:
                obj["metadata"]["annotations"] = annotations
            if kind in (kinds.POD, kinds.NODE):
                obj["metadata"].update(
                    {k: metadata[k] for k in ("labels", "annotations", "finalizers") if k in metadata}
                )
        elif kind.has_status:
            obj.pop("status", None)
            obj.update({key: value for key, value in old.items() if key == "status"})
        if kind is kinds.SERVICE and not obj["spec"].get("clusterIP"):
            for field in ("clusterIP", "clusterIPs"):
                if field in old["spec"]:
                    obj["spec"][field] = old["spec"][field]

    def _store(self, kind: ResourceType, old: Json, obj: Json, *, bump: bool, dry_run: bool) -> Json:
        if bump and _has_spec_change(kind, old, obj):
            obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        track_changes(kind, old, obj)
        if obj == old:
            return old  # a write that changes nothing makes no new version
        if dry_run:
            return obj
        stored = self.store.put(kind, obj)
        if is_deleting(stored) and not self._is_deletion_pending(kind, stored):
            return self.store.remove(kind, stored)
        return stored

    def _is_deletion_pending(self, kind: ResourceType, obj: Json) -> bool:
        """Whether a deletion still waits: for a finalizer, or for the node agent to stop the pod."""
        if obj["metadata"].get("finalizers") or kind is kinds.NAMESPACE:
            return True
        return kind is kinds.POD and obj["metadata"].get("deletionGracePeriodSeconds", 0) > 0

    def write(
        self,
        kind: ResourceType,
        obj: Json,
        field: Literal["spec", "status"],
        value: Json,
        annotations: dict[str, str] | None = None,
    ) -> Json:
        """A controller's write of the spec or the status, and of the annotations where given."""
        old = self.get(kind, *key_of(obj))
        noted = {} if annotations is None else {"annotations": annotations}
        new = {**old, field: value, "metadata": {**old["metadata"], **noted}}
        return self.update(kind, *key_of(obj), new, status=field == "status")

    def write_metadata(
        self, kind: ResourceType, obj: Json, field: Literal["ownerReferences", "finalizers"], values: Sequence[Any]
    ) -> Json:
        """A controller's write of one list of the metadata, as the only change of `obj`; an empty list goes away."""
        metadata = {**obj["metadata"], field: values or None}
        return self.update(kind, *key_of(obj), {**obj, "metadata": metadata})

    def bind(self, namespace: str, name: str, node: str) -> None:
        """Give a pod to a node. Raises ApiError 404, 409 where it has one."""
        old = self.get(kinds.POD, namespace, name)
        if old["spec"].get("nodeName"):
            why = f'pod {name} is already assigned to node "{old["spec"]["nodeName"]}"'
            raise conflict(kinds.POD, name, why)
        if is_deleting(old):
            raise conflict(kinds.POD, name, f"pod {name} is being deleted, cannot be assigned to a host")
        obj = deep_copy(old)
        obj["spec"]["nodeName"] = node
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
        others = without_condition(obj["status"].get("conditions"), "PodScheduled")
        obj["status"]["conditions"] = [*others, scheduled]
        self.store.put(kinds.POD, obj)

    def delete(self, kind: ResourceType, namespace: str, name: str, options: Json | None = None) -> tuple[Json, bool]:
        """Delete, or begin to; returns the object and whether it is gone.

        `options` as in metav1.DeleteOptions: gracePeriodSeconds, preconditions, propagationPolicy, dryRun.
        Raises ApiError 404, 409 (precondition).
        """
        options = options or {}
        old = self.get(kind, namespace, name)
        _check_preconditions(kind, old, options.get("preconditions") or {})
        if options.get("dryRun"):
            return old, True
        obj = deep_copy(old)
        metadata = obj["metadata"]
        self._add_finalizer(kind, metadata, options)
        grace = _grace_period(kind, old, options.get("gracePeriodSeconds"))
        if kind is kinds.NAMESPACE:
            obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        left = metadata.get("deletionGracePeriodSeconds", 0)
        if not is_deleting(old) or (kind is kinds.POD and grace < left):
            began = parse_time(metadata.get("deletionTimestamp") or now()) - timedelta(seconds=left)
            metadata["deletionTimestamp"] = timestamp(began + timedelta(seconds=grace))
            metadata["deletionGracePeriodSeconds"] = grace
        if not self._is_deletion_pending(kind, obj):
            return self.store.remove(kind, obj), True
        if kind.generation and not is_deleting(old):
            metadata["generation"] = metadata.get("generation", 0) + 1
        return (old if obj == old else self.store.put(kind, obj)), False

    def _add_finalizer(self, kind: ResourceType, metadata: Json, options: Json) -> None:
        if kind in (kinds.POD, kinds.EVENT) or not self.store.owned_by(metadata["uid"]):
            return
        finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.get("propagationPolicy") or "")
        if finalizer and finalizer not in metadata.get("finalizers", []):
            metadata["finalizers"] = [*metadata.get("finalizers", []), finalizer]


def validate_type(kind: ResourceType, obj: Json) -> None:
    """A body may leave out apiVersion and kind, but not contradict the URL. Raises ApiError 400."""
    given = (obj.setdefault("apiVersion", kind.api_version), obj.setdefault("kind", kind.kind))
    if given != (kind.api_version, kind.kind):
        version = given[0].rpartition("/")[2]
        internal = kind.group.partition(".")[0] or "core"
        raise bad_request(
            f'{given[1]} in version "{version}" cannot be handled as a {kind.kind}: '
            f"converting ({version}.{given[1]}) to ({internal}.{kind.kind}): unknown conversion"
        )


def _has_spec_change(kind: ResourceType, old: Json, new: Json) -> bool:
    """Whether the generation grows: the spec changed, and for some kinds labels or annotations."""
    read = {"annotations": annotations_of, "labels": labels_of}
    for field in kind.generation:
        before, after = (read[field](o) if field in read else o.get(field) for o in (old, new))
        if before != after:
            return True
    return False


def count_quota_pods(store: ObjectStore, namespace: str) -> int:
    """The pods of a namespace that count for a quota: all that are not in a terminal phase."""
    return sum(status_of(pod).get("phase") not in ("Succeeded", "Failed") for pod in store.items(kinds.POD, namespace))


def _check_preconditions(kind: ResourceType, obj: Json, wanted: Json) -> None:
    for field, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        value, actual = wanted.get(field), obj["metadata"][field]
        if value and value != actual:
            why = f"Precondition failed: {label} in precondition: {value}, {label} in object meta: {actual}"
            raise conflict(kind, name_of(obj), why)


def _check_version(kind: ResourceType, old: Json, metadata: Json) -> None:
    """An update that names a version must name the present one."""
    version = metadata.get("resourceVersion")
    if version and version != old["metadata"]["resourceVersion"]:
        raise conflict(kind, name_of(old), CONFLICT_MESSAGE)


def _grace_period(kind: ResourceType, obj: Json, requested: int | None) -> int:
    """Seconds that a deletion waits. A pod that does not run anywhere is deleted at once."""
    if kind is not kinds.POD:
        return 0
    if not obj["spec"].get("nodeName") or status_of(obj).get("phase") in ("Succeeded", "Failed"):
        return 0
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30) if requested is None else requested)


# --- The scale subresource: autoscaling/v1 Scale in front of a Deployment or ReplicaSet.


def scale_of(obj: Json) -> Json:
    """The Scale that an object shows."""
    metadata = obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = label_selector(obj["spec"].get("selector"))
    status = {"replicas": status_of(obj).get("replicas", 0)}
    spec = {"replicas": obj["spec"]["replicas"]} if obj["spec"].get("replicas") else {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in shown},
        "spec": spec,
        "status": {**status, **({"selector": selector} if selector != NONE else {})},
    }


def set_replicas(api: Api, kind: ResourceType, namespace: str, name: str, wanted: Json) -> Json:
    """Write spec.replicas of a Scale back. Raises ApiError 400, 404, 409 (stale), 422 (below zero)."""
    old = api.get(kind, namespace, name)
    _check_version(kind, old, wanted.get("metadata") or {})
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("spec.replicas is a whole number")
    if replicas < 0:
        message = f'Scale.autoscaling "{name}" is invalid: spec.replicas: Invalid value: {replicas}: '
        message += "must be greater than or equal to 0"
        raise invalid_request(message, {"name": name, "group": "autoscaling", "kind": "Scale"})
    return scale_of(api.update(kind, namespace, name, {**old, "spec": {**old["spec"], "replicas": replicas}}))

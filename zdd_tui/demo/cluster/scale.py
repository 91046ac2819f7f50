"""The scale subresource: autoscaling/v1 Scale in front of a Deployment or ReplicaSet."""

from zdd_tui.demo.cluster.api import Api
from zdd_tui.demo.cluster.errors import STALE, ApiError, bad_request, conflict
from zdd_tui.demo.cluster.kinds import Kind
from zdd_tui.demo.cluster.meta import Json, clone
from zdd_tui.demo.cluster.tables import NONE, label_selector


def of(obj: Json) -> Json:
    """The Scale that an object shows."""
    metadata = obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = label_selector(obj["spec"].get("selector"))
    status = {"replicas": (obj.get("status") or {}).get("replicas", 0)}
    spec = {"replicas": obj["spec"]["replicas"]} if obj["spec"].get("replicas") else {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in shown},
        "spec": spec,
        "status": {**status, **({"selector": selector} if selector != NONE else {})},
    }


def set_replicas(api: Api, kind: Kind, namespace: str, name: str, wanted: Json) -> Json:
    """Write spec.replicas of a Scale back. Raises ApiError 400, 404, 409 (stale), 422 (below zero)."""
    old = api.get(kind, namespace, name)
    version = (wanted.get("metadata") or {}).get("resourceVersion")
    if version and version != old["metadata"]["resourceVersion"]:
        raise conflict(kind, name, STALE)
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("spec.replicas is a whole number")
    if replicas < 0:
        message = f'Scale.autoscaling "{name}" is invalid: spec.replicas: Invalid value: {replicas}: '
        message += "must be greater than or equal to 0"
        raise ApiError(422, "Invalid", message, {"name": name, "group": "autoscaling", "kind": "Scale"})
    new = clone(old)
    new["spec"]["replicas"] = replicas
    return of(api.update(kind, namespace, name, new))

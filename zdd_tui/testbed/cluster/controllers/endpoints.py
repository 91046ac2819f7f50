"""The EndpointSlice controller: which pods a Service may send to, and how far a leaving one is."""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from zdd_tui.testbed.cluster import kinds, selectors
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.controllers.pods import is_ready, ready_changed_at
from zdd_tui.testbed.cluster.meta import (
    Json,
    annotations_of,
    controller_reference,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    timestamp,
    uid_of,
)
from zdd_tui.testbed.cluster.store import ObjectChange

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MAX_ENDPOINTS = 100


def make_endpoint(service: Json, pod: Json) -> Json:
    """ready is for new traffic, serving for what is under way, terminating for a deletion in progress."""
    serving, terminating = is_ready(pod), is_deleting(pod)
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    ready = publish or (serving and not terminating)
    found: Json = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)},
    }
    if pod["spec"].get("nodeName"):
        found["nodeName"] = pod["spec"]["nodeName"]
    return found


def resolve_ports(service: Json, pod: Json) -> list[Json]:
    """The Service's ports with the target resolved in this pod; a named port that it lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target_port(port, pod)
        if number is not None:
            made = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            found.append(made | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}))
    return found


def _target_port(port: Json, pod: Json) -> int | None:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for item in container.get("ports") or ():
            if item.get("name") == target and item.get("protocol") == port.get("protocol", "TCP"):
                return int(item["containerPort"])
    return None


def distribute_endpoints(wanted: list[Json], slices: list[list[Json]]) -> list[list[Json]]:
    """Spread endpoints over slices of at most 100, each staying in the slice where it is.

    `slices` are the endpoints of the present slices; the result has as many lists or more, some perhaps empty.
    """
    pending = {item["targetRef"]["uid"]: item for item in wanted}
    result: list[list[Json]] = []
    for present in slices:
        uids = [(item.get("targetRef") or {}).get("uid") for item in present]
        result.append([pending.pop(uid) for uid in uids if uid in pending])
    rest = list(pending.values())
    for members in result:
        room = MAX_ENDPOINTS - len(members)
        members.extend(rest[:room])
        rest = rest[room:]
    while rest:
        result.append(rest[:MAX_ENDPOINTS])
        rest = rest[MAX_ENDPOINTS:]
    return result


class EndpointSliceController(Controller):
    watched_kinds = frozenset({kinds.SERVICE, kinds.POD, kinds.ENDPOINT_SLICE})

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # By service: when its pods last turned ready or unready, as of the sync before (by uid; RFC 3339).
        self._readiness_changed_at: dict[QueueKey, dict[str, str]] = {}

    def _trigger_time(self, service: Json, pods: list[Json]) -> str | None:
        """The time of the earliest change that this sync is about; None where no pod's readiness changed."""
        key = key_of(service)
        known = self._readiness_changed_at.get(key)
        turned = {uid_of(pod): timestamp(at) for pod in pods if (at := ready_changed_at(pod)) is not None}
        self._readiness_changed_at[key] = turned
        news = [at for uid, at in turned.items() if known is None or known.get(uid) != at]
        if known is None:
            news.append(service["metadata"]["creationTimestamp"])
        return min(news, default=None)

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        obj = change.current
        if change.kind is kinds.SERVICE:
            return [key_of(obj)]
        if change.kind is kinds.ENDPOINT_SLICE:
            # Only changes by another client matter; our own writes lead to a sync that finds no work.
            owner = labels_of(obj).get(SERVICE_NAME)
            return [(namespace_of(obj), owner)] if owner and labels_of(obj).get(MANAGED_BY) == MANAGER else []
        states = [labels_of(state) for state in (obj, change.previous) if state is not None]
        return [
            key_of(service)
            for service in self.store.items(kinds.SERVICE, namespace_of(obj))
            if any(map(selectors.match_map(service["spec"].get("selector")), states))
        ]

    def sync(self, namespace: str, name: str) -> None:
        service = self.store.get(kinds.SERVICE, namespace, name)
        if service is None:
            self._readiness_changed_at.pop((namespace, name), None)
            return
        if not service["spec"].get("selector") or service["spec"]["type"] == "ExternalName":
            return  # the slices of a Service that is gone go with it, as its dependents
        matches = selectors.match_map(service["spec"]["selector"])
        groups: dict[str, tuple[list[Json], list[Json]]] = {}
        pods = [pod for pod in self.store.items(kinds.POD, namespace) if matches(labels_of(pod))]
        trigger = self._trigger_time(service, pods)
        for pod in filter(_is_endpoint, pods):
            resolved = resolve_ports(service, pod)
            groups.setdefault(repr(resolved), (resolved, []))[1].append(make_endpoint(service, pod))
        present = [
            item
            for _, item in self.store.owned_by(uid_of(service), kinds.ENDPOINT_SLICE)
            if labels_of(item).get(MANAGED_BY) == MANAGER
        ]
        if not groups:
            groups = {"": ([], [])}
        for resolved, members in groups.values():
            same = [item for item in present if (item.get("ports") or []) == resolved] if members else present[:1]
            present = [item for item in present if item not in same]
            self._reconcile(service, same, resolved, members, trigger)
        for item in present:
            self.api.delete(kinds.ENDPOINT_SLICE, namespace, name_of(item))

    def _reconcile(
        self, service: Json, present: list[Json], resolved: list[Json], wanted: list[Json], trigger: str | None
    ) -> None:
        spread = distribute_endpoints(wanted, [item.get("endpoints") or [] for item in present]) or [[]]
        # Without any endpoint, one empty slice stays.
        kept = next((index for index, members in enumerate(spread) if members), 0)
        for index, (members, old) in enumerate(zip_longest(spread, present)):
            if members or index == kept:
                self._write(service, old, {"endpoints": members, "ports": resolved}, trigger)
            elif old is not None:
                self.api.delete(kinds.ENDPOINT_SLICE, namespace_of(service), name_of(old))

    def _write(self, service: Json, old: Json | None, content: dict[str, Any], trigger: str | None) -> None:
        namespace = namespace_of(service)
        labels = {**labels_of(service), MANAGED_BY: MANAGER, SERVICE_NAME: name_of(service)}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        notes = {TRIGGER_TIME: trigger} if trigger else {}
        if old is None:
            metadata = {
                "generateName": name_of(service) + "-",
                "labels": labels,
                "annotations": notes or None,
                "ownerReferences": [controller_reference(service)],
            }
            body = {"metadata": metadata, "addressType": "IPv4", **content}
            self.api.create(kinds.ENDPOINT_SLICE, namespace, body)
            return
        before = {"endpoints": old.get("endpoints"), "ports": old.get("ports")}
        if before == content and labels_of(old) == labels:
            return
        notes = {k: v for k, v in annotations_of(old).items() if k != TRIGGER_TIME} | notes
        metadata = {**old["metadata"], "labels": labels, "annotations": notes or None}
        self.api.update(kinds.ENDPOINT_SLICE, namespace, name_of(old), {**old, **content, "metadata": metadata})


def _is_endpoint(pod: Json) -> bool:
    """A pod with an address that has not ended; a terminating one stays until it is gone."""
    status = pod["status"]
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")

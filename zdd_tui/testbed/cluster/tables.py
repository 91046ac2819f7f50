"""Tables: what `kubectl get` prints. Columns and cells of pkg/printers/internalversion/printers.go 1.34."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import (
    Json,
    condition_of,
    condition_true,
    is_deleting,
    labels_of,
    name_of,
    parse_time,
    status_of,
)

NONE = "<none>"


Printer = Callable[[Json], list[Any]]
_PRINTERS: dict[ResourceType, tuple[list[Json], Printer]] = {}
"""Columns, and the function that makes the cells of an object."""


def _table(kind: ResourceType, columns: str) -> Callable[[Printer], Printer]:
    """The decorated function makes the cells of a kind. Columns are separated by `|`.

    `+` before a name: only with `-o wide`; `#` before a name: a whole number.
    """

    def definition(column: str) -> Json:
        name = column.lstrip("+#")
        return {
            "name": name,
            "type": "integer" if "#" in column else "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": 1 if "+" in column else 0,
        }

    def register(printer: Printer) -> Printer:
        _PRINTERS[kind] = [definition(column) for column in columns.split("|")], printer
        return printer

    return register


def format_kubectl_duration(seconds: int) -> str:
    """An age as kubectl shows it (duration.HumanDuration): 45s, 3m20s, 5h2m, 3d4h, 2y30d."""
    if seconds < 60 * 2:
        return f"{max(seconds, 0)}s"
    minutes = seconds // 60
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    hours = seconds // 3600
    if minutes < 60 * 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    if years < 8 and days % 365:
        return f"{years}y{days % 365}d"
    return f"{years}y"


def format_kubectl_age(text: str | None) -> str:
    if not text:
        return "<unknown>"
    return format_kubectl_duration(int((datetime.now(UTC) - parse_time(text)).total_seconds()))


def _age(obj: Json) -> str:
    return format_kubectl_age(obj["metadata"].get("creationTimestamp"))


def label_selector(selector: Json | None) -> str:
    """A label selector as one string, as metav1.FormatLabelSelector writes it."""
    selector = selector or {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for item in selector.get("matchExpressions") or ():
        key, operator, values = item["key"], item["operator"], ",".join(sorted(item.get("values") or ()))
        shown = {"Exists": key, "DoesNotExist": f"!{key}"}
        parts.append(shown.get(operator, f"{key} {operator.lower()} ({values})"))
    return ",".join(sorted(parts)) or NONE


def _container_cells(template: Json) -> list[str]:
    containers = template["spec"].get("containers") or []
    return [",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)]


def _pod_reason(pod: Json) -> tuple[int, int, str]:
    """Ready containers, restarts and the word of the STATUS column."""
    status = status_of(pod)
    reason = status.get("reason") or status.get("phase") or ""
    ready = restarts = 0
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        restarts += container.get("restartCount", 0)
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif ended is not None:
            code = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"
            reason = ended.get("reason") or code
        elif container.get("ready") and "running" in state:
            running = True
            ready += 1
    if reason == "Completed" and running:
        reason = "Running" if condition_true(pod, "Ready") else "NotReady"
    if is_deleting(pod) and status.get("phase") not in ("Succeeded", "Failed"):
        reason = "Terminating"
    return ready, restarts, reason


def _last_restart(pod: Json) -> str | None:
    ends = [
        ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
        for container in status_of(pod).get("containerStatuses") or ()
    ]
    return max((end for end in ends if end), default=None)


@_table(kinds.POD, "Name|Ready|Status|Restarts|Age|+IP|+Node|+Nominated Node|+Readiness Gates")
def _pod(pod: Json) -> list[Any]:
    ready, restarts, reason = _pod_reason(pod)
    last = _last_restart(pod)
    gates = pod["spec"].get("readinessGates") or []
    passed = sum(condition_true(pod, gate["conditionType"]) for gate in gates)
    return [
        name_of(pod),
        f"{ready}/{len(pod['spec'].get('containers') or ())}",
        reason,
        f"{restarts} ({format_kubectl_age(last)} ago)" if restarts and last else str(restarts),
        _age(pod),
        status_of(pod).get("podIP") or NONE,
        pod["spec"].get("nodeName") or NONE,
        NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


@_table(kinds.DEPLOYMENT, "Name|Ready|Up-to-date|Available|Age|+Containers|+Images|+Selector")
def _deployment(obj: Json) -> list[Any]:
    status = status_of(obj)
    ready = f"{status.get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    selector = label_selector(obj["spec"].get("selector"))
    return [name_of(obj), ready, *counts, _age(obj), *_container_cells(obj["spec"]["template"]), selector]


@_table(kinds.REPLICA_SET, "Name|#Desired|#Current|#Ready|Age|+Containers|+Images|+Selector")
def _replica_set(obj: Json) -> list[Any]:
    status = status_of(obj)
    counts = [obj["spec"].get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    selector = label_selector(obj["spec"].get("selector"))
    return [name_of(obj), *counts, _age(obj), *_container_cells(obj["spec"]["template"]), selector]


@_table(kinds.SERVICE, "Name|Type|Cluster-IP|External-IP|Port(s)|Age|+Selector")
def _service(obj: Json) -> list[Any]:
    spec = obj["spec"]
    ports = [
        f"{p['port']}:{p['nodePort']}/{p['protocol']}" if p.get("nodePort") else f"{p['port']}/{p['protocol']}"
        for p in spec.get("ports") or ()
    ]
    external = {"ExternalName": spec.get("externalName"), "LoadBalancer": "<pending>"}.get(spec.get("type"))
    address = spec.get("clusterIP") or NONE
    shown = ",".join(ports) or NONE
    selector = label_selector({"matchLabels": spec.get("selector")})
    return [name_of(obj), spec.get("type"), address, external or NONE, shown, _age(obj), selector]


@_table(kinds.EVENT, "Last Seen|Type|Reason|Object|+Subobject|+Source|Message|+First Seen|+Count|+Name")
def _event(obj: Json) -> list[Any]:
    first = format_kubectl_age(obj.get("firstTimestamp") or obj.get("eventTime"))
    last = format_kubectl_age(obj.get("lastTimestamp")) if obj.get("lastTimestamp") else first
    about = obj.get("involvedObject") or {}
    target = "/".join(filter(None, [about.get("kind", "").lower(), about.get("name")]))
    source = obj.get("source") or {}
    component = ", ".join(filter(None, [source.get("component"), source.get("host")]))
    return [
        last, obj.get("type"), obj.get("reason"), target,
        about.get("fieldPath", ""), component or obj.get("reportingComponent", ""),
        (obj.get("message") or "").strip(), first, obj.get("count") or 1, name_of(obj),
    ]  # fmt: skip


@_table(
    kinds.NODE, "Name|Status|Roles|Age|Version|+Internal-IP|+External-IP|+OS-Image|+Kernel-Version|+Container-Runtime"
)
def _node(obj: Json) -> list[Any]:
    status = status_of(obj)
    word = "Ready" if condition_true(obj, "Ready") else "NotReady" if condition_of(obj, "Ready") else "Unknown"
    if obj.get("spec", {}).get("unschedulable"):
        word += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = ",".join(sorted(key.removeprefix(prefix) for key in labels_of(obj) if key.startswith(prefix)))
    addresses = {item["type"]: item["address"] for item in status.get("addresses") or ()}
    info = status.get("nodeInfo") or {}
    return [
        name_of(obj), word, roles or NONE, _age(obj), info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE), addresses.get("ExternalIP", NONE),
        info.get("osImage") or "<unknown>", info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]  # fmt: skip


def _first_three(items: list[str]) -> str:
    """The first three, and how many more."""
    shown = ",".join(items[:3])
    return f"{shown} + {len(items) - 3} more..." if len(items) > 3 else shown or "<unset>"


@_table(kinds.ENDPOINT_SLICE, "Name|AddressType|Ports|Endpoints|Age")
def _endpoint_slice(obj: Json) -> list[Any]:
    ports = [str(port.get("port", "*")) for port in obj.get("ports") or ()]
    addresses = [address for item in obj.get("endpoints") or () for address in item["addresses"]]
    return [name_of(obj), obj.get("addressType"), _first_three(ports), _first_three(addresses), _age(obj)]


_table(kinds.NAMESPACE, "Name|Status|Age")(lambda obj: [name_of(obj), status_of(obj).get("phase"), _age(obj)])
_table(kinds.CONFIG_MAP, "Name|Data|Age")(
    lambda obj: [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _age(obj)]
)
_table(kinds.SECRET, "Name|Type|Data|Age")(
    lambda obj: [name_of(obj), obj.get("type"), len(obj.get("data") or {}), _age(obj)]
)
_table(kinds.SERVICE_ACCOUNT, "Name|Secrets|Age")(lambda obj: [name_of(obj), len(obj.get("secrets") or ()), _age(obj)])
_table(kinds.LEASE, "Name|Holder|Age")(
    lambda obj: [name_of(obj), (obj.get("spec") or {}).get("holderIdentity") or "", _age(obj)]
)


@_table(kinds.INGRESS, "Name|Class|Hosts|Address|Ports|Age")
def _ingress(obj: Json) -> list[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or () if rule.get("host")]
    shown, ports = _first_three(hosts) if hosts else "*", "80, 443" if spec.get("tls") else "80"
    return [name_of(obj), spec.get("ingressClassName") or NONE, shown, "", ports, _age(obj)]


@_table(kinds.GATEWAY_CLASS, "Name|Controller|Accepted|Age")
def _gateway_class(obj: Json) -> list[Any]:
    accepted = condition_of(obj, "Accepted") or {}
    return [name_of(obj), (obj.get("spec") or {}).get("controllerName"), accepted.get("status", ""), _age(obj)]


@_table(kinds.GATEWAY, "Name|Class|Address|Programmed|Age")
def _gateway(obj: Json) -> list[Any]:
    programmed = condition_of(obj, "Programmed") or {}
    address = next((item.get("value", "") for item in status_of(obj).get("addresses") or ()), "")
    return [name_of(obj), obj["spec"].get("gatewayClassName"), address, programmed.get("status", ""), _age(obj)]


@_table(kinds.HTTP_ROUTE, "Name|Hostnames|Age")
def _http_route(obj: Json) -> list[Any]:
    hosts = obj["spec"].get("hostnames")
    return [name_of(obj), json.dumps(hosts, separators=(",", ":")) if hosts else "", _age(obj)]


def _row(kind: ResourceType, obj: Json, include: str | None) -> Json:
    row: Json = {"cells": _PRINTERS[kind][1](obj)}
    phase = status_of(obj).get("phase") if kind is kinds.POD else None
    if phase in ("Succeeded", "Failed"):
        row["conditions"] = [{"type": "Completed", "status": "True", "reason": phase}]
    if include == "Object":
        row["object"] = obj
    elif include != "None":
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        row["object"] = {**partial, "metadata": obj["metadata"]}
    return row


def render_table(kind: ResourceType, objects: list[Json], include: str | None, *, headers: bool = True) -> Json:
    """A meta.k8s.io/v1 Table. `include` is includeObject of the query. Its version is that of a single object."""
    version = objects[0]["metadata"].get("resourceVersion", "") if len(objects) == 1 else ""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": _PRINTERS[kind][0] if headers else [],
        "rows": [_row(kind, obj, include) for obj in objects],
    }

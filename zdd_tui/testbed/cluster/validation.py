"""What a client gets wrong most often, refused as the real API server refuses it (422 with causes).

Sources: pkg/apis/{core,apps}/validation and apimachinery/pkg/util/validation 1.34. Not a schema: a field that we
do not know passes.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from zdd_tui.testbed.cluster import kinds, selectors
from zdd_tui.testbed.cluster.errors import (
    StatusCause,
    duplicate,
    forbidden_field,
    invalid,
    required,
    unprocessable,
    unsupported,
)
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123 = re.compile(_LABEL)
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
    " and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end"
    " with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
DNS_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is"
    " '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _name(kind: ResourceType, obj: Json) -> Iterator[StatusCause]:
    name = obj["metadata"].get("name") or ""
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind is kinds.SERVICE:
        if not _DNS_1035.fullmatch(name) or len(name) > 63:
            yield invalid("metadata.name", name, DNS_1035_RULE)
    elif kind is kinds.NAMESPACE:
        if not _DNS_1123.fullmatch(name) or len(name) > 63:
            yield invalid("metadata.name", name, LABEL_RULE)
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield invalid("metadata.name", name, SUBDOMAIN_RULE)


def _labels(labels: Any, field: str) -> Iterator[StatusCause]:
    for value in (labels or {}).values():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield invalid(field, value, VALUE_RULE)


def _containers(spec: Json, path: str) -> Iterator[StatusCause]:
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{path}.containers")
    names: set[str] = set()
    for index, container in enumerate(containers):
        at = f"{path}.containers[{index}]"
        name = container.get("name") or ""
        if not name:
            yield required(f"{at}.name")
        elif not _DNS_1123.fullmatch(name) or len(name) > 63:
            yield invalid(f"{at}.name", name, LABEL_RULE)
        elif name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        if not container.get("image"):
            yield required(f"{at}.image")
        for number, port in enumerate(container.get("ports") or ()):
            yield from _port(port.get("containerPort"), f"{at}.ports[{number}].containerPort")


def _port(value: Any, field: str) -> Iterator[StatusCause]:
    if not value:
        yield required(field)
    elif not isinstance(value, int) or not 1 <= value <= 65535:
        yield invalid(field, value, "must be between 1 and 65535, inclusive")


def _pod_spec(spec: Json, path: str) -> Iterator[StatusCause]:
    yield from _containers(spec, path)
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield unsupported(f"{path}.restartPolicy", spec.get("restartPolicy", ""), "Always", "OnFailure", "Never")


def _pod(obj: Json) -> Iterator[StatusCause]:
    yield from _pod_spec(obj["spec"], "spec")


def _workload(obj: Json) -> Iterator[StatusCause]:
    spec = obj["spec"]
    for field in ("replicas", "minReadySeconds"):
        if isinstance(spec.get(field), int) and spec[field] < 0:
            yield invalid(f"spec.{field}", spec[field], "must be greater than or equal to 0")
    selector = spec.get("selector")
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", selector, "empty selector is invalid for deployment")
    if not selectors.match_label_selector(selector)(labels):
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from _labels(labels, "spec.template.labels")
    template = spec["template"]["spec"]
    yield from _pod_spec(template, "spec.template.spec")
    if template.get("restartPolicy") != "Always":
        yield unsupported("spec.template.spec.restartPolicy", template["restartPolicy"], "Always")


_PERCENT = re.compile(r"[0-9]+%")


def _int_or_percent(value: Any, field: str) -> Iterator[StatusCause]:
    if isinstance(value, int):
        if value < 0:
            yield invalid(field, value, "must be greater than or equal to 0")
    elif not _PERCENT.fullmatch(str(value)):
        detail = (
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex"
            " used for validation is '[0-9]+%')"
        )
        yield invalid(field, value, detail)


def _deployment(obj: Json) -> Iterator[StatusCause]:
    yield from _workload(obj)
    spec = obj["spec"]
    kind, rolling = spec["strategy"].get("type"), spec["strategy"].get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        yield forbidden_field("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    elif kind == "RollingUpdate":
        path = "spec.strategy.rollingUpdate"
        yield from _int_or_percent(rolling["maxUnavailable"], f"{path}.maxUnavailable")
        yield from _int_or_percent(rolling["maxSurge"], f"{path}.maxSurge")
        if rolling["maxUnavailable"] in (0, "0%") and rolling["maxSurge"] in (0, "0%"):
            yield invalid(f"{path}.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")
    elif kind != "Recreate":
        whole = {"Type": kind, "RollingUpdate": rolling}
        yield unsupported("spec.strategy", whole, "Recreate", "RollingUpdate")
    deadline = spec.get("progressDeadlineSeconds")
    if isinstance(deadline, int):
        if deadline < 0:
            yield invalid("spec.progressDeadlineSeconds", deadline, "must be greater than or equal to 0")
        if deadline <= spec.get("minReadySeconds", 0):
            yield invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _service(obj: Json) -> Iterator[StatusCause]:
    spec = obj["spec"]
    if spec["type"] not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        yield unsupported("spec.type", spec["type"], "ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    for index, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{index}].name")
        if not isinstance(port.get("port"), int) or not 1 <= port["port"] <= 65535:
            yield invalid(f"spec.ports[{index}].port", port.get("port", 0), "must be between 1 and 65535, inclusive")


MAX_WEIGHT = 1_000_000


def _http_route(obj: Json) -> Iterator[StatusCause]:
    """What a release writes: the shares. The rest of the CustomResourceDefinition is not validated."""
    for at, rule in enumerate(obj["spec"]["rules"]):
        for number, backend in enumerate(rule.get("backendRefs") or ()):
            path = f"spec.rules[{at}].backendRefs[{number}]"
            if not backend.get("name"):
                yield required(f"{path}.name")
            weight = backend["weight"]
            if not isinstance(weight, int) or weight < 0:
                yield invalid(f"{path}.weight", weight, f"{path}.weight in body should be greater than or equal to 0")
            elif weight > MAX_WEIGHT:
                detail = f"{path}.weight in body should be less than or equal to {MAX_WEIGHT}"
                yield invalid(f"{path}.weight", weight, detail)


_VALIDATORS: dict[ResourceType, Callable[[Json], Iterator[StatusCause]]] = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _deployment,
    kinds.REPLICA_SET: _workload,
    kinds.SERVICE: _service,
    kinds.HTTP_ROUTE: _http_route,
}


def validate(kind: ResourceType, obj: Json) -> None:
    """Raises ApiError 422 that lists every invalid field."""
    causes = [*_name(kind, obj), *_labels(obj["metadata"].get("labels"), "metadata.labels")]
    if kind in _VALIDATORS:
        causes += _VALIDATORS[kind](obj)
    if causes:
        raise unprocessable(kind, obj["metadata"].get("name") or "", causes)


_IMMUTABLE = "field is immutable"
_POD_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def _immutable_pod_spec(spec: Json) -> Json:
    """What may not change in a pod's spec once it exists."""
    fixed = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations")}
    for field in ("containers", "initContainers"):
        if field in fixed:
            fixed[field] = [{k: v for k, v in item.items() if k != "image"} for item in fixed[field]]
    return fixed


def validate_update(kind: ResourceType, old: Json, new: Json) -> None:
    """Raises ApiError 422 where a field was changed that cannot change."""
    causes: list[StatusCause] = []
    if kind in (kinds.DEPLOYMENT, kinds.REPLICA_SET) and old["spec"]["selector"] != new["spec"].get("selector"):
        causes.append(invalid("spec.selector", new["spec"].get("selector"), _IMMUTABLE))
    elif kind is kinds.POD and _immutable_pod_spec(old["spec"]) != _immutable_pod_spec(new["spec"]):
        causes.append(forbidden_field("spec", _POD_RULE))
    elif kind is kinds.SERVICE and old["spec"].get("clusterIP") != new["spec"].get("clusterIP"):
        causes.append(invalid("spec.clusterIPs[0]", new["spec"].get("clusterIP"), "may not change once set"))
    if causes:
        raise unprocessable(kind, new["metadata"]["name"], causes)

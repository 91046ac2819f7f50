"""Default values and admission of the real API server 1.34, for the kinds that we serve.

Sources: pkg/apis/{core,apps}/v1/defaults.go, and the admission plugins ServiceAccount, DefaultTolerationSeconds
and Priority. All functions fill the given object in place.
"""

from collections.abc import Callable
from typing import Any

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json


def _set_default(obj: Json, key: str, value: Any) -> None:
    if obj.get(key) is None:
        obj[key] = value


def _pull_policy(image: str) -> str:
    if "@" in image:
        return "IfNotPresent"
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _http_get(handler: Json) -> None:
    if handler.get("httpGet") is not None:
        _set_default(handler["httpGet"], "path", "/")
        _set_default(handler["httpGet"], "scheme", "HTTP")
    if handler.get("grpc") is not None:
        _set_default(handler["grpc"], "service", "")


def _probe(probe: Json) -> None:
    _set_default(probe, "timeoutSeconds", 1)
    _set_default(probe, "periodSeconds", 10)
    _set_default(probe, "successThreshold", 1)
    _set_default(probe, "failureThreshold", 3)
    _http_get(probe)


def _container(container: Json) -> None:
    _set_default(container, "imagePullPolicy", _pull_policy(container.get("image") or ""))
    _set_default(container, "terminationMessagePath", "/dev/termination-log")
    _set_default(container, "terminationMessagePolicy", "File")
    _set_default(container, "resources", {})
    for port in container.get("ports") or ():
        _set_default(port, "protocol", "TCP")
    for variable in container.get("env") or ():
        if variable.get("value") == "":
            del variable["value"]  # Go's omitempty: an empty value and none are the same
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            _set_default(reference, "apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _probe(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _http_get(handler)


def _volume(volume: Json) -> None:
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if volume.get(source) is not None:
            _set_default(volume[source], "defaultMode", 420)
    for item in (volume.get("downwardAPI") or {}).get("items") or ():
        if item.get("fieldRef") is not None:
            _set_default(item["fieldRef"], "apiVersion", "v1")
    if volume.get("hostPath") is not None:
        _set_default(volume["hostPath"], "type", "")
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}


def pod_spec(spec: Json) -> None:
    """Defaults of a pod template and of a pod."""
    _set_default(spec, "restartPolicy", "Always")
    _set_default(spec, "terminationGracePeriodSeconds", 30)
    _set_default(spec, "dnsPolicy", "ClusterFirst")
    _set_default(spec, "securityContext", {})
    _set_default(spec, "schedulerName", "default-scheduler")
    if spec.get("serviceAccountName"):
        _set_default(spec, "serviceAccount", spec["serviceAccountName"])
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        _container(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)


def _pod(pod: Json) -> None:
    spec = pod.setdefault("spec", {})
    pod_spec(spec)
    _set_default(spec, "enableServiceLinks", True)
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container["resources"]
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)
    for condition in (pod.get("status") or {}).get("conditions") or ():
        condition.setdefault("lastProbeTime", None)  # written even when it is unset
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        container.setdefault("lastState", {})
        container.setdefault("state", {})


def admit_pod(pod: Json) -> None:
    """What admission adds to a new pod; no token volume, because we issue no tokens to pods."""
    spec = pod["spec"]
    _set_default(spec, "serviceAccountName", "default")
    _set_default(spec, "serviceAccount", spec["serviceAccountName"])
    _set_default(spec, "priority", 0)
    _set_default(spec, "preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    for taint in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(item.get("key") in (taint, None) for item in tolerations):
            tolerations.append({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of the containers."""
    requests: list[Json] = []
    limits: list[Json] = []
    for container in spec.get("containers") or ():
        resources = container.get("resources") or {}
        requests.append(resources.get("requests") or {})
        limits.append(resources.get("limits") or {})
    if not any(requests) and not any(limits):
        return "BestEffort"
    full = all({"cpu", "memory"} <= set(item) for item in limits)
    same = all(limit == {**limit, **request} for limit, request in zip(limits, requests, strict=True))
    return "Guaranteed" if full and same else "Burstable"


def _template(spec: Json) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def _deployment(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set_default(spec, "replicas", 1)
    strategy = spec.setdefault("strategy", {})
    _set_default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set_default(strategy, "rollingUpdate", {})
        _set_default(strategy["rollingUpdate"], "maxUnavailable", "25%")
        _set_default(strategy["rollingUpdate"], "maxSurge", "25%")
    _set_default(spec, "revisionHistoryLimit", 10)
    _set_default(spec, "progressDeadlineSeconds", 600)
    _template(spec)


def _replica_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set_default(spec, "replicas", 1)
    _template(spec)


def _service(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set_default(spec, "type", "ClusterIP")
    _set_default(spec, "sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or ():
        _set_default(port, "protocol", "TCP")
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set_default(spec, "externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        _set_default(spec, "allocateLoadBalancerNodePorts", True)
    if spec["type"] != "ExternalName":
        _set_default(spec, "internalTrafficPolicy", "Cluster")
        _set_default(spec, "ipFamilyPolicy", "SingleStack")
        _set_default(spec, "ipFamilies", ["IPv4"])


def _namespace(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    # The controller that publishes the name as a label is admission in the real server.
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")


def _endpoint_slice(obj: Json) -> None:
    for port in obj.get("ports") or ():
        _set_default(port, "name", "")
        _set_default(port, "protocol", "TCP")


def _event(obj: Json) -> None:
    for name in ("firstTimestamp", "lastTimestamp", "eventTime"):
        obj.setdefault(name, None)
    obj.setdefault("source", {})
    obj.setdefault("reportingComponent", "")
    obj.setdefault("reportingInstance", "")


def _secret(obj: Json) -> None:
    _set_default(obj, "type", "Opaque")


def _reference(obj: Json, group: str, kind: str) -> None:
    _set_default(obj, "group", group)
    _set_default(obj, "kind", kind)


def _gateway(obj: Json) -> None:
    for listener in obj.setdefault("spec", {}).get("listeners") or ():
        _set_default(listener, "allowedRoutes", {"namespaces": {"from": "Same"}})


def _http_route(obj: Json) -> None:
    """Of the HTTPRoute's CustomResourceDefinition in Gateway API 1.x."""
    spec = obj.setdefault("spec", {})
    for parent in spec.get("parentRefs") or ():
        _reference(parent, "gateway.networking.k8s.io", "Gateway")
    _set_default(spec, "rules", [{}])
    for rule in spec["rules"]:
        _set_default(rule, "matches", [{"path": {"type": "PathPrefix", "value": "/"}}])
        for backend in rule.get("backendRefs") or ():
            _reference(backend, "", "Service")
            _set_default(backend, "weight", 1)


_DEFAULTERS: dict[ResourceType, Callable[[Json], None]] = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _deployment,
    kinds.REPLICA_SET: _replica_set,
    kinds.SERVICE: _service,
    kinds.NAMESPACE: _namespace,
    kinds.ENDPOINT_SLICE: _endpoint_slice,
    kinds.EVENT: _event,
    kinds.SECRET: _secret,
    kinds.GATEWAY: _gateway,
    kinds.HTTP_ROUTE: _http_route,
}


def apply_defaults(kind: ResourceType, obj: Json) -> None:
    """Fill the defaults of the kind in place."""
    if kind in _DEFAULTERS:
        _DEFAULTERS[kind](obj)

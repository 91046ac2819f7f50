"""Default values, admission and addresses of the real API server 1.34, for the kinds that we serve.

Sources: pkg/apis/{core,apps}/v1/defaults.go, and the admission plugins ServiceAccount, DefaultTolerationSeconds
and Priority. All functions fill the given object in place.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.errors import invalid, unprocessable
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, name_of

# The range that kubeadm gives a cluster. Nothing routes it here; it is what kubectl shows.
SERVICE_NETWORK = "10.96"
NODE_PORTS = range(30_000, 32_768)


def _set_defaults(obj: Json, /, **values: Any) -> None:
    obj.update({key: value for key, value in values.items() if obj.get(key) is None})


def _pull_policy(image: str) -> str:
    if "@" in image:
        return "IfNotPresent"
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _http_get(handler: Json) -> None:
    if handler.get("httpGet") is not None:
        _set_defaults(handler["httpGet"], path="/", scheme="HTTP")
    if handler.get("grpc") is not None:
        _set_defaults(handler["grpc"], service="")


def _probe(probe: Json) -> None:
    _set_defaults(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    _http_get(probe)


def _container(container: Json) -> None:
    _set_defaults(
        container,
        imagePullPolicy=_pull_policy(container.get("image") or ""),
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    for port in container.get("ports") or ():
        _set_defaults(port, protocol="TCP")
    for variable in container.get("env") or ():
        if variable.get("value") == "":
            del variable["value"]  # Go's omitempty: an empty value and none are the same
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            _set_defaults(reference, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _probe(container[name])
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _http_get(handler)


def _volume(volume: Json) -> None:
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if volume.get(source) is not None:
            _set_defaults(volume[source], defaultMode=420)
    for item in (volume.get("downwardAPI") or {}).get("items") or ():
        if item.get("fieldRef") is not None:
            _set_defaults(item["fieldRef"], apiVersion="v1")
    if volume.get("hostPath") is not None:
        _set_defaults(volume["hostPath"], type="")
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}


def pod_spec(spec: Json) -> None:
    """Defaults of a pod template and of a pod."""
    _set_defaults(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if spec.get("serviceAccountName"):
        _set_defaults(spec, serviceAccount=spec["serviceAccountName"])
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        _container(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)


def _pod(pod: Json) -> None:
    spec = pod.setdefault("spec", {})
    pod_spec(spec)
    _set_defaults(spec, enableServiceLinks=True)
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
    _set_defaults(spec, serviceAccountName="default", priority=0, preemptionPolicy="PreemptLowerPriority")
    _set_defaults(spec, serviceAccount=spec["serviceAccountName"])
    tolerations = spec.setdefault("tolerations", [])
    for taint in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(item.get("key") in (taint, None) for item in tolerations):
            tolerations.append({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort, by the requests and limits of the containers."""
    resources = [container.get("resources") or {} for container in spec.get("containers") or ()]
    requests, limits = ([each.get(field) or {} for each in resources] for field in ("requests", "limits"))
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
    _set_defaults(spec, replicas=1)
    strategy = spec.setdefault("strategy", {})
    _set_defaults(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set_defaults(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")
    _set_defaults(spec, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _template(spec)


def _replica_set(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set_defaults(spec, replicas=1)
    _template(spec)


def _service(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    _set_defaults(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    for port in spec.get("ports") or ():
        _set_defaults(port, protocol="TCP")
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set_defaults(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set_defaults(spec, allocateLoadBalancerNodePorts=True)
    if spec["type"] != "ExternalName":
        _set_defaults(spec, internalTrafficPolicy="Cluster", ipFamilyPolicy="SingleStack", ipFamilies=["IPv4"])


def _namespace(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    # The controller that publishes the name as a label is admission in the real server.
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")


def _endpoint_slice(obj: Json) -> None:
    for port in obj.get("ports") or ():
        _set_defaults(port, name="", protocol="TCP")


def _event(obj: Json) -> None:
    _set_defaults(obj, firstTimestamp=None, lastTimestamp=None, eventTime=None)
    _set_defaults(obj, source={}, reportingComponent="", reportingInstance="")


def _secret(obj: Json) -> None:
    _set_defaults(obj, type="Opaque")


def _gateway(obj: Json) -> None:
    for listener in obj.setdefault("spec", {}).get("listeners") or ():
        _set_defaults(listener, allowedRoutes={"namespaces": {"from": "Same"}})


def _http_route(obj: Json) -> None:
    """Of the HTTPRoute's CustomResourceDefinition in Gateway API 1.x."""
    spec = obj.setdefault("spec", {})
    for parent in spec.get("parentRefs") or ():
        _set_defaults(parent, group="gateway.networking.k8s.io", kind="Gateway")
    _set_defaults(spec, rules=[{}])
    for rule in spec["rules"]:
        _set_defaults(rule, matches=[{"path": {"type": "PathPrefix", "value": "/"}}])
        for backend in rule.get("backendRefs") or ():
            _set_defaults(backend, group="", kind="Service", weight=1)


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


def assign_addresses(service: Json, services: Iterable[Json]) -> None:
    """Give a Service the clusterIP and node ports that no other has. Raises ApiError 422 for an IP that is taken."""
    spec = service["spec"]
    if spec["type"] == "ExternalName":
        return
    others = [item["spec"] for item in services]
    taken = {item.get("clusterIP") for item in others}
    wanted = spec.get("clusterIP")
    if wanted and wanted != "None" and wanted in taken:
        cause = invalid("spec.clusterIPs", [wanted], "failed to allocate IP: provided IP is already allocated")
        raise unprocessable(kinds.SERVICE, name_of(service), [cause])
    while not wanted or (wanted != "None" and wanted in taken):
        wanted = f"{SERVICE_NETWORK}.{random.randrange(256)}.{random.randrange(2, 255)}"  # noqa: S311 - no secret
    spec["clusterIP"] = wanted
    spec["clusterIPs"] = [wanted]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        used = {port.get("nodePort") for item in others for port in item.get("ports") or ()}
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                port["nodePort"] = next(number for number in NODE_PORTS if number not in used)
            used.add(port["nodePort"])

"""What the doctor keeps of raw Kubernetes objects: probes, hooks, and whatever binds a client to one pod."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from zdd_tui.model.doctor.facts import PreStop, TrafficFacts, WorkloadFacts
from zdd_tui.model.json_access import JsonObject, get_number, get_object, get_objects, get_text

DEFAULT_GRACE = 30

STICKY_ANNOTATIONS: tuple[tuple[str, str], ...] = (
    # (annotation, pattern of a value that makes it sticky): from the documentation of each controller
    ("nginx.ingress.kubernetes.io/affinity", r"cookie"),
    ("nginx.ingress.kubernetes.io/upstream-hash-by", r".+"),
    ("nginx.org/sticky-cookie-services", r".+"),
    ("nginx.org/lb-method", r"(ip_hash|hash .+)"),
    ("traefik.ingress.kubernetes.io/service.sticky.cookie", r"true"),
    ("traefik.ingress.kubernetes.io/affinity", r"true"),
    ("haproxy.org/cookie-persistence", r".+"),
    ("haproxy.org/load-balance", r"(source|uri|hdr.*|url_param.*)"),
    ("haproxy-ingress.github.io/affinity", r"cookie"),
    ("ingress.kubernetes.io/affinity", r"cookie"),
    ("alb.ingress.kubernetes.io/target-group-attributes", r".*stickiness\.enabled=true.*"),
    ("alb.ingress.kubernetes.io/actions.*", r'.*"?[eE]nabled"?:\s*true.*'),
    ("service.beta.kubernetes.io/aws-load-balancer-target-group-attributes", r".*stickiness\.enabled=true.*"),
    ("appgw.ingress.kubernetes.io/cookie-based-affinity", r"true"),
    ("service.beta.kubernetes.io/do-loadbalancer-sticky-sessions-type", r"cookies"),
    ("konghq.com/upstream-policy", r".+"),
)
"""Patterns match the whole value; a trailing ``*`` matches the rest of a name."""

_IN_MEMORY = re.compile(r"(in[-_]?)?memory|local|file(system)?|array|none|inproc", re.IGNORECASE)
_SESSION = re.compile(r"session", re.IGNORECASE)
_SLEEP = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)\s*s?\b")
_DRAIN_NAMES = ("DRAIN_SECONDS",)  # what zdd_tui.service is usually given


def extract_workload_facts(raw: Any, container: str, *, drain_seconds: float | None) -> WorkloadFacts | None:
    """The facts of a raw Deployment; None when it has no such container.

    Args:
        drain_seconds: seconds, where the plan sets them.
    """
    pod = get_object(raw, "spec", "template", "spec")
    found = next((each for each in get_objects(pod, "containers") if get_text(each, "name") == container), None)
    if found is None:
        return None
    env = {get_text(each, "name"): get_text(each, "value") for each in get_objects(found, "env")}
    if drain_seconds is None:
        drain_seconds = next((float(env[name]) for name in _DRAIN_NAMES if _is_number(env.get(name, ""))), None)
    return WorkloadFacts(
        image=get_text(found, "image"),
        startup=describe_probe(found, "startupProbe"),
        readiness=describe_probe(found, "readinessProbe"),
        liveness=describe_probe(found, "livenessProbe"),
        pre_stop=_pre_stop(get_object(found, "lifecycle", "preStop")),
        grace=float(get_number(pod, "terminationGracePeriodSeconds", default=DEFAULT_GRACE)),
        drain=drain_seconds,
        session_hints=tuple(_session_hints(env, found, pod)),
    )


def describe_probe(container: JsonObject, name: str) -> str:
    """The call of a probe in one form, so that equal probes compare equal; empty where there is none."""
    probe = get_object(container, name)
    if http := get_object(probe, "httpGet"):
        return f"GET {_port(http)}{get_text(http, 'path') or '/'}"
    if tcp := get_object(probe, "tcpSocket"):
        return f"TCP {_port(tcp)}"
    if grpc := get_object(probe, "grpc"):
        return f"gRPC {_port(grpc)}/{get_text(grpc, 'service')}"
    command = get_object(probe, "exec").get("command")
    return f"exec {' '.join(map(str, command))}" if isinstance(command, list) else ""


def extract_traffic_facts(
    service: Any, ingresses: Iterable[Any], routes: Iterable[Any], unavailable: Iterable[str] = ()
) -> TrafficFacts:
    """The facts of a raw Service, and of the Ingresses and HTTPRoutes of its namespace: those that lead to it count."""
    name = get_text(service, "metadata", "name")
    leading = [
        (f"ingress/{get_text(each, 'metadata', 'name')}", each) for each in ingresses if _ingress_leads_to(each, name)
    ]
    gateway = [(f"httproute/{get_text(each, 'metadata', 'name')}", each) for each in routes if _routes_to(each, name)]
    sticky = [
        found for where, each in [(f"service/{name}", service), *leading, *gateway] for found in _sticky(where, each)
    ]
    sticky += [
        f"{where}: sessionPersistence"
        for where, each in gateway
        if any("sessionPersistence" in rule for rule in get_objects(each, "spec", "rules"))
    ]
    return TrafficFacts(
        service=name,
        affinity=get_text(service, "spec", "sessionAffinity") or "None",
        sticky=tuple(sticky),
        routes=len(leading) + len(gateway),
        unavailable=tuple(unavailable),
    )


def _port(action: JsonObject) -> str:
    port = action.get("port")
    return str(port) if isinstance(port, int | str) else "?"


def _pre_stop(hook: JsonObject) -> PreStop | None:
    if sleep := get_object(hook, "sleep"):
        return PreStop(f"sleep {get_number(sleep, 'seconds')}s", float(get_number(sleep, "seconds")))
    command = get_object(hook, "exec").get("command")
    if isinstance(command, list):
        shown = " ".join(map(str, command))
        slept = _SLEEP.findall(shown)
        return PreStop(f"exec {shown}", sum(map(float, slept)) if slept else None)
    if http := get_object(hook, "httpGet"):
        return PreStop(f"GET {_port(http)}{get_text(http, 'path')}", None)
    return None


def _session_hints(env: dict[str, str], container: JsonObject, pod: JsonObject) -> Iterator[str]:
    for name, value in env.items():
        if _SESSION.search(name) and _IN_MEMORY.fullmatch(value):
            yield f"env {name}={value}"
    scratch = {get_text(volume, "name") for volume in get_objects(pod, "volumes") if "emptyDir" in volume}
    for mount in get_objects(container, "volumeMounts"):
        if get_text(mount, "name") in scratch and _SESSION.search(get_text(mount, "mountPath")):
            yield f"emptyDir at {get_text(mount, 'mountPath')}"


def _sticky(where: str, raw: Any) -> Iterator[str]:
    for key, value in get_object(raw, "metadata", "annotations").items():
        for name, pattern in STICKY_ANNOTATIONS:
            same = key.startswith(name[:-1]) if name.endswith("*") else key == name
            if same and isinstance(value, str) and re.fullmatch(pattern, value.strip(), re.DOTALL):
                yield f"{where}: {key}={value.strip()[:60]}"


def _ingress_leads_to(ingress: Any, service: str) -> bool:
    backends = [get_object(ingress, "spec", "defaultBackend")]
    for rule in get_objects(ingress, "spec", "rules"):
        backends += [get_object(path, "backend") for path in get_objects(rule, "http", "paths")]
    return any(get_text(backend, "service", "name") == service for backend in backends)


def _routes_to(route: Any, service: str) -> bool:
    references = (ref for rule in get_objects(route, "spec", "rules") for ref in get_objects(rule, "backendRefs"))
    return any(
        get_text(ref, "name") == service and (get_text(ref, "kind") or "Service") == "Service" for ref in references
    )


def _is_number(value: str) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+)?", value))

"""What the doctor keeps of raw Kubernetes objects: probes, hooks, and whatever binds a client to one pod."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from zdd_tui.model.doctor.facts import PreStop, TrafficFacts, WorkloadFacts
from zdd_tui.model.json_access import Json, number, obj, objects, text

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
"""Patterns match the whole value; a trailing ``*`` in a name stands for the rest of it."""

_IN_MEMORY = re.compile(r"(in[-_]?)?memory|local|file(system)?|array|none|inproc", re.IGNORECASE)
_SESSION = re.compile(r"session", re.IGNORECASE)
_SLEEP = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)\s*s?\b")
_DRAIN_NAMES = ("DRAIN_SECONDS",)  # what zdd_tui.service is usually given


def workload_facts(raw: Any, container: str, *, drain: float | None) -> WorkloadFacts | None:
    """The facts of a raw Deployment; None when it has no such container.

    Args:
        drain: seconds, where the plan says them.
    """
    pod = obj(raw, "spec", "template", "spec")
    found = next((each for each in objects(pod, "containers") if text(each, "name") == container), None)
    if found is None:
        return None
    env = {text(each, "name"): text(each, "value") for each in objects(found, "env")}
    if drain is None:
        drain = next((float(env[name]) for name in _DRAIN_NAMES if _is_number(env.get(name, ""))), None)
    return WorkloadFacts(
        image=text(found, "image"),
        startup=probe(found, "startupProbe"),
        readiness=probe(found, "readinessProbe"),
        liveness=probe(found, "livenessProbe"),
        pre_stop=_pre_stop(obj(found, "lifecycle", "preStop")),
        grace=float(number(pod, "terminationGracePeriodSeconds", default=DEFAULT_GRACE)),
        drain=drain,
        session_hints=tuple(_session_hints(env, found, pod)),
    )


def probe(container: Json, name: str) -> str:
    """What a probe asks, so that two that ask the same read the same; empty where there is none."""
    asked = obj(container, name)
    if http := obj(asked, "httpGet"):
        return f"GET {_port(http)}{text(http, 'path') or '/'}"
    if tcp := obj(asked, "tcpSocket"):
        return f"TCP {_port(tcp)}"
    if grpc := obj(asked, "grpc"):
        return f"gRPC {_port(grpc)}/{text(grpc, 'service')}"
    command = obj(asked, "exec").get("command")
    return f"exec {' '.join(map(str, command))}" if isinstance(command, list) else ""


def traffic_facts(
    service: Any, ingresses: Iterable[Any], routes: Iterable[Any], not_looked: Iterable[str] = ()
) -> TrafficFacts:
    """The facts of a raw Service, and of the Ingresses and HTTPRoutes of its namespace: those that lead to it count."""
    name = text(service, "metadata", "name")
    leading = [(f"ingress/{text(each, 'metadata', 'name')}", each) for each in ingresses if _leads(each, name)]
    gateway = [(f"httproute/{text(each, 'metadata', 'name')}", each) for each in routes if _routes_to(each, name)]
    sticky = [
        found for where, each in [(f"service/{name}", service), *leading, *gateway] for found in _sticky(where, each)
    ]
    sticky += [
        f"{where}: sessionPersistence"
        for where, each in gateway
        if any("sessionPersistence" in rule for rule in objects(each, "spec", "rules"))
    ]
    return TrafficFacts(
        service=name,
        affinity=text(service, "spec", "sessionAffinity") or "None",
        sticky=tuple(sticky),
        routes=len(leading) + len(gateway),
        not_looked=tuple(not_looked),
    )


def _port(action: Json) -> str:
    port = action.get("port")
    return str(port) if isinstance(port, int | str) else "?"


def _pre_stop(hook: Json) -> PreStop | None:
    if sleep := obj(hook, "sleep"):
        return PreStop(f"sleep {number(sleep, 'seconds')}s", float(number(sleep, "seconds")))
    command = obj(hook, "exec").get("command")
    if isinstance(command, list):
        shown = " ".join(map(str, command))
        slept = _SLEEP.findall(shown)
        return PreStop(f"exec {shown}", sum(map(float, slept)) if slept else None)
    if http := obj(hook, "httpGet"):
        return PreStop(f"GET {_port(http)}{text(http, 'path')}", None)
    return None


def _session_hints(env: dict[str, str], container: Json, pod: Json) -> Iterator[str]:
    for name, value in env.items():
        if _SESSION.search(name) and _IN_MEMORY.fullmatch(value):
            yield f"env {name}={value}"
    scratch = {text(volume, "name") for volume in objects(pod, "volumes") if "emptyDir" in volume}
    for mount in objects(container, "volumeMounts"):
        if text(mount, "name") in scratch and _SESSION.search(text(mount, "mountPath")):
            yield f"emptyDir at {text(mount, 'mountPath')}"


def _sticky(where: str, raw: Any) -> Iterator[str]:
    for key, value in obj(raw, "metadata", "annotations").items():
        for name, pattern in STICKY_ANNOTATIONS:
            same = key.startswith(name[:-1]) if name.endswith("*") else key == name
            if same and isinstance(value, str) and re.fullmatch(pattern, value.strip(), re.DOTALL):
                yield f"{where}: {key}={value.strip()[:60]}"


def _leads(ingress: Any, service: str) -> bool:
    backends = [obj(ingress, "spec", "defaultBackend")]
    for rule in objects(ingress, "spec", "rules"):
        backends += [obj(path, "backend") for path in objects(rule, "http", "paths")]
    return any(text(backend, "service", "name") == service for backend in backends)


def _routes_to(route: Any, service: str) -> bool:
    references = (ref for rule in objects(route, "spec", "rules") for ref in objects(rule, "backendRefs"))
    return any(text(ref, "name") == service and (text(ref, "kind") or "Service") == "Service" for ref in references)


def _is_number(value: str) -> bool:
    return bool(re.fullmatch(r"\d+(\.\d+)?", value))

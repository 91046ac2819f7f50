"""The sample application's Deployment, Service and HTTPRoute as Kubernetes manifests."""

import sys
from typing import Any

from zdd_tui.demo.plan import FLAG_STALENESS, ChangeKind, DualWriteMode

NAME = "users-api"
CONTAINER = "app"
PORT = 8080
LABELS = {"app": NAME}


def image_name(version: int) -> str:
    return f"shop/users-api:{version}"


def deployment_manifest(
    *,
    dsn: str,
    redis_url: str,
    kind: ChangeKind = "column",
    dual_write: DualWriteMode = "application",
    version: int = 1,
    replicas: int = 4,
    drain: int = 2,
    flag_staleness: str = FLAG_STALENESS,
    namespace: str = "default",
    fault_file: str = "",
    requires_flags: bool = False,
) -> dict[str, Any]:
    """
    Args:
        dsn, redis_url: with their passwords, in plain env, which only a demo may do. In production: secretKeyRef.
        drain: seconds of preStop, and as many of serving late requests after it.
        flag_staleness: ``flags.max_staleness`` of the plan.
        fault_file: file in which versions above 1 read the name of a fault; empty for none.
        requires_flags: version 2 is not ready while one of its flags is missing.
    """
    env = {
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "PORT": str(PORT),
        "CHANGE_KIND": kind,
        "DUAL_WRITE": dual_write,
        "ZDD_FLAG_WRITE": "users_full_name_write",
        "ZDD_FLAG_READ": "users_full_name_read",
        # preStop has already waited for the routers; together they stay well inside the grace period.
        "DRAIN_SECONDS": str(drain),
        "FLAG_STALENESS": flag_staleness,
        "INJECT_FILE": fault_file,
        "ZDD_FLAGS_REQUIRED": "1" if requires_flags else "",
    }
    container = {
        "name": CONTAINER,
        "image": image_name(version),
        "command": [sys.executable, "-m", "zdd_tui.demo.sample"],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _http_probe("/ready", failureThreshold=60),
        "readinessProbe": _http_probe("/ready", failureThreshold=2),
        "livenessProbe": _http_probe("/health", periodSeconds=5, failureThreshold=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": drain}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": namespace, "labels": LABELS},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": 1,
            "progressDeadlineSeconds": 120,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"terminationGracePeriodSeconds": 15, "containers": [container]},
            },
        },
    }


def service_manifest(*, namespace: str = "default") -> dict[str, Any]:
    """Port 80 to the pods' 8080."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": namespace, "labels": LABELS},
        "spec": {"selector": LABELS, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }


ROUTE = NAME
_GATEWAY_API = "gateway.networking.k8s.io/v1"


def gateway_manifests() -> dict[str, dict[str, Any]]:
    """GatewayClass, Gateway and an HTTPRoute that sends every request to the Service, by API path."""
    base = f"/apis/{_GATEWAY_API}"
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    rule = {"backendRefs": [{"name": NAME, "port": 80}]}

    def manifest(kind: str, name: str, spec: dict[str, Any], **scope: str) -> dict[str, Any]:
        return {"apiVersion": _GATEWAY_API, "kind": kind, "metadata": {"name": name, **scope}, "spec": spec}

    gateway = {"gatewayClassName": "zdd-demo", "listeners": [listener]}
    route = {"parentRefs": [{"name": "public"}], "rules": [rule]}
    return {
        f"{base}/gatewayclasses": manifest("GatewayClass", "zdd-demo", {"controllerName": "zdd.dev/demo-load"}),
        f"{base}/namespaces/default/gateways": manifest("Gateway", "public", gateway, namespace="default"),
        f"{base}/namespaces/default/httproutes": manifest("HTTPRoute", ROUTE, route, namespace="default"),
    }


def _http_probe(path: str, *, periodSeconds: int = 1, failureThreshold: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": periodSeconds,
        "timeoutSeconds": 3,
        "failureThreshold": failureThreshold,
    }

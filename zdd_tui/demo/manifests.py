"""The Deployment and the Service of the sample application, as Kubernetes takes them (apps/v1, v1)."""

import sys
from typing import Any, Literal

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
    kind: Literal["column", "table"] = "column",
    dual_write: Literal["application", "trigger"] = "application",
    version: int = 1,
    replicas: int = 4,
    drain: int = 2,
    namespace: str = "default",
    write_flag: str = "users_full_name_write",
    read_flag: str = "users_full_name_read",
    inject_file: str = "",
) -> dict[str, Any]:
    """
    Args:
        drain: seconds of preStop, and again of serving what comes late.
        fault_file: where versions above 1 look for the name of a fault; empty for none.
        dsn, redis_url: with their passwords, in plain env: this is the demo. In production, secretKeyRef.
    """
    env = {
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "PORT": str(PORT),
        "CHANGE_KIND": kind,
        "DUAL_WRITE": dual_write,
        "ZDD_FLAG_WRITE": write_flag,
        "ZDD_FLAG_READ": read_flag,
        # preStop has already waited for the routers; together they stay well inside the grace period.
        "DRAIN_SECONDS": str(drain),
        "INJECT_FILE": inject_file,
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


def gateway_manifests(*, namespace: str = "default") -> dict[str, dict[str, Any]]:
    """GatewayClass, Gateway and the HTTPRoute that gives the Service every request, by path of creation."""
    base = f"/apis/{_GATEWAY_API}"
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    rule = {"backendRefs": [{"name": NAME, "port": 80}]}

    def made(kind: str, name: str, spec: dict[str, Any], **scope: str) -> dict[str, Any]:
        return {"apiVersion": _GATEWAY_API, "kind": kind, "metadata": {"name": name, **scope}, "spec": spec}

    return {
        f"{base}/gatewayclasses": made("GatewayClass", "zdd-demo", {"controllerName": "zdd.dev/demo-load"}),
        f"{base}/namespaces/{namespace}/gateways": made(
            "Gateway", "public", {"gatewayClassName": "zdd-demo", "listeners": [listener]}, namespace=namespace
        ),
        f"{base}/namespaces/{namespace}/httproutes": made(
            "HTTPRoute", ROUTE, {"parentRefs": [{"name": "public"}], "rules": [rule]}, namespace=namespace
        ),
    }


def _http_probe(path: str, *, periodSeconds: int = 1, failureThreshold: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": periodSeconds,
        "timeoutSeconds": 3,
        "failureThreshold": failureThreshold,
    }

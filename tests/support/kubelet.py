"""A cluster with a kubelet for one test, each test in its own namespace.

The cluster is the embedded one; ZDD_TEST_KUBECONFIG names another (a real control plane without a scheduler and
without nodes), which shows that the two agree.
"""

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from aiohttp import web

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.model.json_access import get_objects, get_text
from zdd_tui.testbed.cluster.cluster import local_cluster
from zdd_tui.testbed.kubelet.node import Kubelet

T = TypeVar("T")
APP = Path(__file__).with_name("kubelet_app.py")
REAL_KUBECONFIG = os.environ.get("ZDD_TEST_KUBECONFIG")
NAME = "users"


@dataclass
class TestCluster:
    """What a test works with. `node` names the kubelet's node, `folder` holds its logs and working directories."""

    __test__ = False  # pytest would collect it by its name

    cluster: Cluster
    kubeconfig: str
    folder: Path
    node: str

    async def create(self, resource: str, body: dict[str, Any]) -> Any:
        api = "apis/apps/v1" if resource == "deployments" else "api/v1"
        return await self.cluster.http.request_json("POST", self.cluster.path(api, resource), body=body)

    async def pod(self, name: str = "one") -> Any:
        return await self.cluster.http.request_json("GET", self.cluster.path("api/v1", "pods", name))

    async def delete_pod(self, name: str = "one", grace: int | None = None) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions"} | ({} if grace is None else {"gracePeriodSeconds": grace})
        await self.cluster.http.request_json("DELETE", self.cluster.path("api/v1", "pods", name), body=body)

    async def pod_names(self) -> list[str]:
        found = await self.cluster.http.request_json("GET", self.cluster.path("api/v1", "pods"))
        return [get_text(item, "metadata", "name") for item in get_objects(found, "items")]

    async def event_reasons(self) -> dict[str, str]:
        """Reason to messages, one a line, of all Events in the namespace."""
        found = await self.cluster.http.request_json("GET", self.cluster.path("api/v1", "events"))
        message: dict[str, list[str]] = {}
        for item in get_objects(found, "items"):
            message.setdefault(get_text(item, "reason"), []).append(get_text(item, "message"))
        return {reason: "\n".join(messages) for reason, messages in message.items()}

    def working_directory(self, name: str = "one") -> Path:
        """The working directory of a pod's process."""
        return self.folder / "pods" / name

    def log(self, name: str = "one") -> list[str]:
        """The lines that a pod's process has written."""
        return (self.folder / "logs" / f"{name}.log").read_text().splitlines()

    async def ask(self, address: str, path: str = "/") -> str:
        """What the pod at an address answers; its process listens on loopback whatever the API shows."""
        local = "127." + address.split(".", 1)[1]
        async with aiohttp.ClientSession() as session, session.get(f"http://{local}:8080{path}") as answer:
            return await answer.text()


async def wait_until(read: Callable[[], Awaitable[T]], good: Callable[[T], Any], *, seconds: float = 20.0) -> T:
    """Ask the API until the answer is good. For outside state that no event announces to the test."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await read()
        if good(answer):
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s; the last answer was {answer}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[str]:
    """The path of a kubeconfig."""
    if REAL_KUBECONFIG:
        yield REAL_KUBECONFIG
        return
    async with local_cluster(folder / "cluster") as cluster:
        yield str(cluster.kubeconfig)


@asynccontextmanager
async def make_cluster(folder: Path, *, kubelet: bool = True) -> AsyncIterator[TestCluster]:
    """A namespace of its own and, unless told otherwise, a kubelet."""
    namespace, node = f"test-{secrets.token_hex(4)}", f"node-{secrets.token_hex(4)}"
    async with api_server(folder) as kubeconfig, Cluster.connect(kubeconfig, None, namespace) as cluster:
        await cluster.http.request_json("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
        if REAL_KUBECONFIG:  # pods are refused until the namespace's ServiceAccount is there
            account = cluster.path("api/v1", "serviceaccounts", "default")
            await wait_until(lambda: _exists(cluster, account), bool)
        here = TestCluster(cluster, kubeconfig, folder / "node", node)
        running = asyncio.create_task(make_kubelet(here).run()) if kubelet else None
        try:
            yield here
        finally:
            with contextlib.suppress(Exception):
                await _clear(cluster)
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


def make_kubelet(here: TestCluster) -> Kubelet:
    return Kubelet(
        here.cluster.http,
        here.folder,
        name=here.node,
        bind=bool(REAL_KUBECONFIG),
        advertise=10 if REAL_KUBECONFIG else 127,
        backoff=0.2,
    )


async def _exists(cluster: Cluster, path: str) -> bool:
    with contextlib.suppress(Exception):
        await cluster.http.request_json("GET", path)
        return True
    return False


async def _clear(cluster: Cluster) -> None:
    http = cluster.http
    await http.request_json("DELETE", cluster.path("apis/apps/v1", "deployments"))
    await http.request_json("DELETE", cluster.path("apis/apps/v1", "replicasets"))
    await http.request_json("DELETE", cluster.path("api/v1", "pods"), params={"gracePeriodSeconds": 0})
    await http.request_json("DELETE", f"/api/v1/namespaces/{cluster.namespace}")
    await http.request_json("DELETE", "/api/v1/nodes")


def container(**changes: Any) -> dict[str, Any]:
    """A container that serves."""
    return {
        "name": "app",
        "image": "shop/users:1",
        "command": ["python", str(APP)],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1},
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        **changes,
    }


def pod(name: str = "one", *, grace: int = 10, policy: str = "Always", **changes: Any) -> dict[str, Any]:
    """A bare pod of one container."""
    return {
        "metadata": {"name": name, "labels": {"app": NAME}},
        "spec": {
            "terminationGracePeriodSeconds": grace,
            "restartPolicy": policy,
            "automountServiceAccountToken": False,
            "containers": [container(**changes)],
        },
    }


def deployment(replicas: int = 3, **changes: Any) -> dict[str, Any]:
    """A Deployment that never has fewer than `replicas` available."""
    template = pod(**changes)
    return {
        "metadata": {"name": NAME},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": template["spec"]},
        },
    }


def service() -> dict[str, Any]:
    return {
        "metadata": {"name": NAME},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": "http"}]},
    }


def is_ready(raw: Any) -> bool:
    return any(
        get_text(c, "type") == "Ready" and get_text(c, "status") == "True"
        for c in get_objects(raw, "status", "conditions")
    )


def main_status(raw: Any) -> Any:
    """The status of the pod's one container, or an empty object."""
    return (get_objects(raw, "status", "containerStatuses") or [{}])[0]


def read(kubeconfig: str) -> Any:
    """The content of a kubeconfig."""
    return yaml.safe_load(Path(kubeconfig).read_text())


def write_config(folder: Path, server: str | dict[str, Any], **user: Any) -> str:
    """A kubeconfig for a server, given by its address or by the whole cluster entry."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server} if isinstance(server, str) else server}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    """The address of a web application on an ephemeral port of loopback."""
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


PYTHON = sys.executable

"""A Gateway API in front of the local cluster: one HTTPRoute with the rules of the API server, and a Gateway that takes
new weights a moment later. Everything else goes through to the cluster. Requests are not split: nobody routes here."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from zdd_tui.backends.kube_errors import KubeApiError
from zdd_tui.backends.kubernetes import Cluster

BASE = "/apis/gateway.networking.k8s.io/v1"
ROUTE = "users"


class Gateway:
    """The one route, as the API server would keep it."""

    def __init__(self, service: str) -> None:
        ref = {"group": "", "kind": "Service", "name": service, "port": 80, "weight": 5}
        self.route: dict[str, Any] = {
            "metadata": {"name": ROUTE, "resourceVersion": "1", "generation": 1, "annotations": {}},
            "spec": {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [ref]}]},
        }
        self.conflicts = 1
        self.taken: list[dict[str, int]] = []
        self._take()

    @property
    def weights(self) -> dict[str, int]:
        return {ref["name"]: ref["weight"] for ref in self.route["spec"]["rules"][0]["backendRefs"]}

    def comparable(self) -> dict[str, Any]:
        """What a release must leave as it was."""
        return deepcopy({"spec": self.route["spec"], "annotations": self.route["metadata"]["annotations"]})

    async def get(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != ROUTE:
            return web.json_response({"reason": "NotFound", "message": "no such route"}, status=404)
        answer = web.json_response(self.route)
        self._take()  # whoever asks again sees that the Gateway has followed
        return answer

    async def patch(self, request: web.Request) -> web.Response:
        body = await request.json()
        meta = self.route["metadata"]
        if self.conflicts or body["metadata"].pop("resourceVersion") != meta["resourceVersion"]:
            self.conflicts = max(0, self.conflicts - 1)
            return web.json_response({"reason": "Conflict", "message": "the object has been modified"}, status=409)
        before = deepcopy(self.route["spec"])
        _merge(self.route, body)
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        meta["generation"] += self.route["spec"] != before
        return web.json_response(self.route)

    def _take(self) -> None:
        seen = {"type": "Accepted", "status": "True", "observedGeneration": self.route["metadata"]["generation"]}
        self.route["status"] = {"parents": [{"parentRef": {"name": "public"}, "conditions": [seen]}]}
        if not self.taken or self.taken[-1] != self.weights:
            self.taken.append(self.weights)


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


@asynccontextmanager
async def gateway_api(kubeconfig: Path, folder: Path, service: str) -> AsyncIterator[tuple[Gateway, Path]]:
    """The gateway, and the kubeconfig by which its API and the cluster's are reached."""
    gateway = Gateway(service)
    async with Cluster.connect(str(kubeconfig), None, "default") as cluster:

        async def through(request: web.Request) -> web.Response:
            text = await request.text()
            try:
                answer = await cluster.http.json(
                    request.method,
                    request.path,
                    params=dict(request.query),
                    body=json.loads(text) if text else None,
                    content_type=request.content_type if text else "application/json",
                )
            except KubeApiError as error:
                return web.json_response({"reason": error.reason, "message": error.title}, status=error.status)
            return web.json_response(answer)

        async def discovery(_request: web.Request) -> web.Response:
            return web.json_response({"kind": "APIResourceList", "resources": []})

        app = web.Application()
        app.router.add_get(BASE, discovery)
        app.router.add_get(f"{BASE}/namespaces/default/httproutes/{{name}}", gateway.get)
        app.router.add_patch(f"{BASE}/namespaces/default/httproutes/{{name}}", gateway.patch)
        app.router.add_route("*", "/{path:.*}", through)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            path = folder / "gateway-kubeconfig"
            path.write_text(yaml.safe_dump(_config(f"http://127.0.0.1:{runner.addresses[0][1]}")))
            yield gateway, path
        finally:
            await runner.cleanup()


def _config(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "g", "cluster": {"server": server}}],
        "users": [{"name": "g", "user": {}}],
        "contexts": [{"name": "g", "context": {"cluster": "g", "user": "g", "namespace": "default"}}],
        "current-context": "g",
    }

"""A node without containers: it binds, reports Ready after a delay, and stops pods gracefully after another.

Deterministic, and the same on both planes. A pod's annotations set its delays in seconds: `test/ready-after`
(`never` for a pod that does not get ready) and `test/stop-after` (a pod that stops later than its grace allows is
killed at the end of the grace). The tag of an image says what goes wrong with it: see `FAILURES`.
"""

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.cluster.planes import ControlPlane

NODE = "node-a"
READY_AFTER = 0.15
STOP_AFTER = 0.1
Json = dict[str, Any]

FAILURES: dict[str, Json] = {
    "missing": {
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}},
    },
    "unkeyed": {
        "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}},
    },
    "crashing": {
        "restartCount": 4,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
        "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
    },
}
"""By the tag of the image: the status of a container that does not run, as the kubelet reports it."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class FakeNode:
    """Runs in a thread with its own event loop while the context is open."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="fake-node")
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._addresses = itertools.count(2)
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            assert self._up.wait(60), "the fake node did not start"
            yield
        finally:
            if self._loop is not None and self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        headers = {"Authorization": f"Bearer {self._plane.token}"}
        connector = aiohttp.TCPConnector(ssl=self._plane.ssl_context(), limit=40)
        async with aiohttp.ClientSession(self._plane.url, headers=headers, connector=connector) as session:
            self._session = session
            await self._register()
            watch = asyncio.create_task(self._watch())
            self._up.set()
            await self._stop.wait()
            tasks = [watch, *self._starting.values(), *self._stopping.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._send("DELETE", f"/api/v1/nodes/{NODE}", {})
        # aiohttp closes TLS transports after the session says that it is closed, and offers nothing to await.
        await asyncio.sleep(0.1)

    async def _send(self, method: str, path: str, body: Json, kind: str = "application/json") -> int:
        headers = {"Content-Type": kind}
        async with self._session.request(method, path, data=json.dumps(body), headers=headers) as response:
            await response.read()
            return response.status

    async def _register(self) -> None:
        status = {
            "conditions": [
                {
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
                    "lastHeartbeatTime": _now(), "lastTransitionTime": _now(),
                }
            ],
            "addresses": [{"type": "InternalIP", "address": "10.1.0.1"}],
        }  # fmt: skip
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        assert await self._send("POST", "/api/v1/nodes", node) == 201
        patch = {"status": status}
        path = f"/api/v1/nodes/{NODE}/status"
        assert await self._send("PATCH", path, patch, "application/strategic-merge-patch+json") == 200

    async def _watch(self) -> None:
        # Without a resourceVersion the watch begins with what exists; a reconnect sees everything again.
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with self._session.get("/api/v1/pods", params={"watch": "1"}, timeout=timeout) as response:
                    async for line in response.content:
                        event = json.loads(line)
                        self._on_pod_event(event["type"], event["object"])

    def _on_pod_event(self, kind: str, pod: Json) -> None:
        metadata = pod.get("metadata", {})
        uid = metadata.get("uid")
        if kind in ("ERROR", "BOOKMARK") or not uid:
            return
        if kind == "DELETED":
            for tasks in (self._starting, self._stopping):
                task = tasks.pop(uid, None)
                if task is not None:
                    task.cancel()
        elif "deletionTimestamp" in metadata:
            if pod["spec"].get("nodeName") == NODE and uid not in self._stopping:
                self._stopping[uid] = asyncio.create_task(self._stop_pod(pod))
        elif uid not in self._starting:
            self._starting[uid] = asyncio.create_task(self._start_pod(pod))

    def _path(self, pod: Json) -> str:
        metadata = pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    async def _start_pod(self, pod: Json) -> None:
        if self._plane.real and not pod["spec"].get("nodeName"):
            # No scheduler there. The embedded cluster has one.
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
            await self._send("POST", self._path(pod) + "/binding", {**binding, "target": target})
        delay = pod["metadata"].get("annotations", {}).get("test/ready-after", str(READY_AFTER))
        number = next(self._addresses)
        address = f"10.244.{number // 250}.{number % 250 + 1}"
        await self._report(pod, address, ready=False)
        tags = {c["image"].rpartition(":")[2] for c in pod["spec"]["containers"]}
        if delay != "never" and not tags & FAILURES.keys():
            await asyncio.sleep(float(delay))
            await self._report(pod, address, ready=True)

    async def _report(self, pod: Json, address: str, *, ready: bool) -> None:
        value = "True" if ready else "False"
        conditions = [
            {"type": kind, "status": status, "lastTransitionTime": _now()}
            for kind, status in (("Initialized", "True"), ("Ready", value), ("ContainersReady", value))
        ]
        containers = [
            {
                "name": c["name"], "image": c["image"], "imageID": "", "ready": ready, "restartCount": 0,
                "started": True, "state": {"running": {"startedAt": _now()}},
            }
            | FAILURES.get(c["image"].rpartition(":")[2], {})
            for c in pod["spec"]["containers"]
        ]  # fmt: skip
        status = {
            "phase": "Running", "conditions": conditions, "containerStatuses": containers,
            "podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.1.0.1", "startTime": _now(),
        }  # fmt: skip
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        await self._send("PATCH", self._path(pod) + "/status", body, "application/strategic-merge-patch+json")

    async def _stop_pod(self, pod: Json) -> None:
        grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
        wanted = float(pod["metadata"].get("annotations", {}).get("test/stop-after", STOP_AFTER))
        await asyncio.sleep(min(grace, wanted))
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self._send("DELETE", self._path(pod), options)

"""The node: registered, kept alive, and watched for pods."""

import asyncio
import logging
import os
import platform
import uuid
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.backends.kubernetes.watch import RETRY_PAUSES, Changed, Disconnected, Listed, list_and_watch
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import JsonObject, get_text
from zdd_tui.testbed.cluster.meta import now
from zdd_tui.testbed.kubelet.addresses import PodAddressAllocator
from zdd_tui.testbed.kubelet.container import base_environment, kill_leftovers
from zdd_tui.testbed.kubelet.events import PodEventRecorder
from zdd_tui.testbed.kubelet.worker import NodeContext, PodWorker
from zdd_tui.testbed.kubelet.zygote import Zygote

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 10.0
"""The node controller calls a node lost after 40 to 50 seconds without one."""

HOST = "127.0.0.1"


class Kubelet:
    """Runs the pods of one node. `ready` is set once the node is registered.

    Args:
        bind: take pods that no scheduler has placed. For a cluster that has none.
        advertise: first octet of the pod addresses in the API; see `addresses`.
        backoff: first wait of a crash loop, in seconds.
    """

    def __init__(
        self,
        http: KubeHttp,
        folder: Path,
        *,
        name: str = "local",
        bind: bool = False,
        advertise: int = 127,
        backoff: float = 10.0,
    ) -> None:
        self._http = http
        self._folder = folder
        self._name = name
        self._bind = bind
        self._advertise = advertise
        self._backoff = backoff
        self._workers: dict[str, tuple[PodWorker, asyncio.Task[None]]] = {}
        self._since = now()
        self._binding: set[str] = set()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; then every process is ended."""
        kill_leftovers(self._folder / "pods")
        # One connection a probe, like the real kubelet: a pod that closes idle connections must not look ill.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        headers, jar = {"User-Agent": "kube-probe/zdd"}, aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=jar) as session:
            events = PodEventRecorder(self._http, self._name)
            addresses = PodAddressAllocator(self._advertise)
            host = addresses.advertised(HOST)
            zygote = Zygote(self._folder, base_environment())
            node = NodeContext(
                self._name, host, self._folder, self._backoff, self._http, session, events, addresses, zygote
            )
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(events.run())
                    group.create_task(self._keep_alive(host))
                    group.create_task(self._watch(node))
            finally:
                tasks = [task for _, task in self._workers.values()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                zygote.close()
                addresses.close()

    async def _keep_alive(self, host: str) -> None:
        backoff = Backoff(*RETRY_PAUSES)
        while True:
            try:
                await self._report(host)
            except ClusterError as error:
                log.warning("node %s: %s", self._name, error.title)
                await backoff.sleep()
                continue
            backoff.reset()
            self.ready.set()
            await asyncio.sleep(HEARTBEAT_INTERVAL)

    async def _report(self, host: str) -> None:
        """Write the node's status; the first one creates the node."""
        path, status = f"/api/v1/nodes/{self._name}/status", {"status": self._node_status(host)}
        try:
            await self._http.request_json("PATCH", path, body=status, content_type=MERGE_PATCH)
        except KubeApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            labels = {"kubernetes.io/hostname": self._name, "kubernetes.io/os": "linux"}
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "labels": labels}}
            await self._http.request_json("POST", "/api/v1/nodes", body=body)
            await self._http.request_json("PATCH", path, body=status, content_type=MERGE_PATCH)

    def _node_status(self, host: str) -> dict[str, Any]:
        times = {"lastHeartbeatTime": now(), "lastTransitionTime": self._since}
        healthy = {
            "Ready": ("True", "KubeletReady", "pods run as processes"),
            "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        }
        size = {"cpu": str(os.cpu_count() or 1), "memory": "8Gi", "pods": "250"}
        system = platform.uname()
        ident = str(uuid.uuid5(uuid.NAMESPACE_DNS, self._name))
        return {
            "capacity": size,
            "allocatable": size,
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": message, **times}
                for kind, (status, reason, message) in healthy.items()
            ],
            "addresses": [{"type": "InternalIP", "address": host}, {"type": "Hostname", "address": self._name}],
            "nodeInfo": {
                "architecture": system.machine,
                "bootID": ident,
                "containerRuntimeVersion": "process://1",
                "kernelVersion": system.release,
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.34.0-zdd",
                "machineID": ident,
                "operatingSystem": "linux",
                "osImage": system.system,
                "systemUUID": ident,
            },
        }

    async def _watch(self, node: NodeContext) -> None:
        fields = {} if self._bind else {"fieldSelector": f"spec.nodeName={self._name}"}
        async with aclosing(list_and_watch(self._http, "/api/v1/pods", lambda pod: pod, fields)) as events:
            async for event in events:
                match event:
                    case Listed():
                        present = {get_text(pod, "metadata", "uid") for pod in event.items}
                        for uid in self._workers.keys() - present:
                            self._workers[uid][0].mark_deleted()
                        for pod in event.items:
                            await self._handle_pod(node, pod)
                    case Changed(kind="DELETED"):
                        uid = get_text(event.item, "metadata", "uid")
                        if uid in self._workers:
                            self._workers[uid][0].mark_deleted()
                    case Changed():
                        await self._handle_pod(node, event.item)
                    case Disconnected():
                        log.warning("pods: %s", event.reason)

    async def _handle_pod(self, node: NodeContext, pod: JsonObject) -> None:
        uid, where = get_text(pod, "metadata", "uid"), get_text(pod, "spec", "nodeName")
        if uid in self._workers:
            self._workers[uid][0].update(pod)
        elif where == self._name:
            self._binding.discard(uid)
            worker = PodWorker(node, pod)
            task = asyncio.create_task(worker.run(), name=get_text(pod, "metadata", "name"))
            task.add_done_callback(lambda done: self._remove_worker(uid, done))
            self._workers[uid] = (worker, task)
        elif self._bind and not where and uid not in self._binding:
            await self._bind_pod(node, pod)

    def _remove_worker(self, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the worker of pod %s failed", task.get_name(), exc_info=error)

    async def _bind_pod(self, node: NodeContext, pod: JsonObject) -> None:
        if get_text(pod, "metadata", "deletionTimestamp"):
            return
        namespace, name = get_text(pod, "metadata", "namespace"), get_text(pod, "metadata", "name")
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "uid": get_text(pod, "metadata", "uid")},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self._name},
        }
        try:
            await self._http.request_json("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", body=body)
        except ClusterError as error:
            log.warning("binding of %s: %s", name, error.title)
            return
        self._binding.add(get_text(pod, "metadata", "uid"))
        message = f"Successfully assigned {namespace}/{name} to {self._name}"
        node.events.record(pod, "Scheduled", message, by="default-scheduler")

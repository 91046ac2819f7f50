"""An API server with many pods of one Deployment, some of which change continuously; a process of its own.

    python -m benchmarks.pod_server --pods 500 --dir DIR

It is the testbed's API server without its controllers: only the changes below happen. The first line of its output is
{"kubeconfig": PATH}. It then reads lines of JSON, responds to each with one, and exits at the end of its input:

    {"visible": 10, "others": 160}   changes per second, of the first rows and of all other pods; responds {}
    {"word": "Crashed"}              sets the reason in the first pod's status; responds {"at": monotonic seconds}
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from zdd_tui.demo import manifests
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster import tls as kubeconfig
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers.endpoints import MAX_ENDPOINTS, SERVICE_NAME, make_endpoint
from zdd_tui.testbed.cluster.meta import controller_reference, timestamp
from zdd_tui.testbed.cluster.server import ApiServer
from zdd_tui.testbed.cluster.store import ObjectStore
from zdd_tui.testbed.cluster.tls import self_signed, server_context
from zdd_tui.testbed.kubelet.status import PodRecord

Json = dict[str, Any]
ADDRESS, NAMESPACE, TOKEN, TEMPLATE = "127.0.0.1", "default", "benchmark", "6d4f9c7b5d"
NODES = 20
STARTED_AT = timestamp(datetime.now(UTC) - timedelta(days=3))
"""Age of the pods: one of days does not change during a measurement."""

VISIBLE_PODS = 6
"""Rows that every terminal shows without scrolling; the visible changes rotate among them."""


class PodFleet:
    """A Deployment without a rollout and with all its pods ready, and the changes of its pods."""

    def __init__(self, count: int) -> None:
        self.store = ObjectStore()
        self.api = Api(self.store)
        self.names = [f"{manifests.NAME}-{TEMPLATE}-{number:05}" for number in range(count)]
        self._next_pod = {"visible": 0, "others": 0}
        self._fill(count)

    def _fill(self, count: int) -> None:
        for name in (NAMESPACE, "kube-system"):
            self.api.create(kinds.NAMESPACE, "", {"metadata": {"name": name}})
        for number in range(NODES):
            self.api.create(kinds.NODE, "", {"metadata": {"name": f"node-{number}"}})
        wanted = manifests.deployment_manifest(
            dsn="postgresql://db.shop/shop", redis_url="redis://cache.shop/0", replicas=count
        )
        made = self.api.create(kinds.DEPLOYMENT, NAMESPACE, wanted)
        template = made["spec"]["template"]
        labels = {**template["metadata"]["labels"], "pod-template-hash": TEMPLATE}
        head = {"labels": labels, "annotations": {"deployment.kubernetes.io/revision": "1"}}
        counts = {"replicas": count, "readyReplicas": count, "availableReplicas": count}
        spec = {"replicas": count, "selector": {"matchLabels": labels}}
        body = {
            "metadata": {
                **head,
                "name": f"{manifests.NAME}-{TEMPLATE}",
                "ownerReferences": [controller_reference(made)],
            },
            "spec": {**spec, "template": {"metadata": {"labels": labels}, "spec": template["spec"]}},
        }
        owner = self.api.create(kinds.REPLICA_SET, NAMESPACE, body)
        owner = self._put(kinds.REPLICA_SET, owner, status={**counts, "observedGeneration": 1})
        made = self._annotated(made, head["annotations"])
        self._put(kinds.DEPLOYMENT, made, status={**counts, "updatedReplicas": count, "observedGeneration": 1})
        service = self.api.create(kinds.SERVICE, NAMESPACE, manifests.service_manifest())
        meta = {"labels": labels, "ownerReferences": [controller_reference(owner)]}
        pods = [self._pod(number, {**meta, "name": name}, template) for number, name in enumerate(self.names)]
        for start in range(0, count, MAX_ENDPOINTS):
            self._slice(service, pods[start : start + MAX_ENDPOINTS])

    def _annotated(self, obj: Json, annotations: dict[str, str]) -> Json:
        return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}

    def _pod(self, number: int, meta: Json, template: Json) -> Json:
        node = f"node-{number % NODES}"
        body = {"metadata": meta, "spec": {**template["spec"], "nodeName": node}}
        pod = self.api.create(kinds.POD, NAMESPACE, body)
        status = PodRecord(
            address=f"10.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}",
            host=f"192.168.0.{number % NODES}",
            started_at=STARTED_AT,
            state={"running": {"startedAt": STARTED_AT}},
            started=True,
            ready=True,
            has_run=True,
            container_id=f"containerd://{pod['metadata']['uid']}",
        )
        meta = {
            **pod["metadata"],
            "creationTimestamp": STARTED_AT,
            "managedFields": managed_fields(STARTED_AT),
        }
        return self._put(kinds.POD, {**pod, "metadata": meta}, status=status.render(pod))

    def _slice(self, service: Json, pods: list[Json]) -> None:
        name = f"{manifests.NAME}-{pods[0]['metadata']['name'][-5:]}"
        body = {
            "metadata": {
                "name": name,
                "labels": {SERVICE_NAME: manifests.NAME},
                "ownerReferences": [controller_reference(service)],
            },
            "addressType": "IPv4",
            "endpoints": [make_endpoint(service, pod) for pod in pods],
            "ports": [{"name": "http", "port": manifests.PORT, "protocol": "TCP"}],
        }
        self.api.create(kinds.ENDPOINT_SLICE, NAMESPACE, body)

    def _put(self, kind: kinds.ResourceType, obj: Json, *, status: Json) -> Json:
        # A stored object is immutable: changed parts are new, all others are shared.
        return self.store.put(kind, {**obj, "metadata": {**obj["metadata"]}, "status": status})

    def restart(self, which: str) -> None:
        """Increments the restarts of the next of the `visible` or of the `others`; after 99 comes 0."""
        number = self._next_pod[which]
        self._next_pod[which] += 1
        others = len(self.names) - VISIBLE_PODS
        # A step without a common factor with their count reaches every one of them.
        index = number % VISIBLE_PODS if which == "visible" else VISIBLE_PODS + number * 7919 % others
        pod = self.api.get(kinds.POD, NAMESPACE, self.names[index])
        (container,) = pod["status"]["containerStatuses"]
        changed = {**container, "restartCount": (container["restartCount"] + 1) % 100}
        self._put(kinds.POD, pod, status={**pod["status"], "containerStatuses": [changed]})

    def set_reason(self, word: str) -> float:
        """Sets the first pod's reason; returns the monotonic time."""
        pod = self.api.get(kinds.POD, NAMESPACE, self.names[0])
        self._put(kinds.POD, pod, status={**pod["status"], "reason": word})
        return time.monotonic()


def managed_fields(at: str) -> list[Json]:
    """The managedFields of a real server: a third of the size of each pod."""
    names = ("type", "status", "lastProbeTime", "lastTransitionTime")
    condition: Json = {".": {}, **{f"f:{name}": {} for name in names}}
    kinds_of = ("ContainersReady", "Initialized", "PodReadyToStartContainers", "Ready")
    kubelet = {
        "f:conditions": {f'k:{{"type":"{kind}"}}': condition for kind in kinds_of},
        **{f"f:{name}": {} for name in ("containerStatuses", "hostIP", "hostIPs", "phase", "podIP", "startTime")},
        "f:podIPs": {".": {}, 'k:{"ip":"10.1.0.1"}': {".": {}, "f:ip": {}}},
    }
    fields = ("command", "env", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports", "resources")
    container: Json = {".": {}, **{f"f:{name}": {} for name in (*fields, "readinessProbe", "startupProbe")}}
    controller = {
        "f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}}},
        "f:spec": {
            "f:containers": {f'k:{{"name":"{manifests.CONTAINER}"}}': container},
            **{f"f:{name}": {} for name in ("dnsPolicy", "restartPolicy", "schedulerName", "securityContext")},
        },
    }
    head = {"operation": "Update", "apiVersion": "v1", "time": at, "fieldsType": "FieldsV1"}
    return [
        {**head, "manager": "kube-controller-manager", "fieldsV1": controller},
        {**head, "manager": "kubelet", "fieldsV1": {"f:status": kubelet}, "subresource": "status"},
    ]


@asynccontextmanager
async def serve_api(api: Api, directory: Path) -> AsyncIterator[Path]:
    """The path of a kubeconfig for the objects, served on loopback until the context ends."""
    identity = self_signed(ADDRESS)
    server = ApiServer(api, TOKEN, directory)
    runner = web.AppRunner(server.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, ADDRESS, 0, ssl_context=server_context(identity, directory)).start()
        path = directory / "kubeconfig"
        kubeconfig.write_kubeconfig(path, f"https://{ADDRESS}:{runner.addresses[0][1]}", identity.certificate, TOKEN)
        yield path
        server.close()
    finally:
        await runner.cleanup()


async def change_pods(pods: PodFleet, which: str, rate: float) -> None:
    """Changes pods at an even rate until cancelled."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        pods.restart(which)


async def serve(count: int, directory: Path) -> None:
    pods, tasks = PodFleet(count), list[asyncio.Task[None]]()
    async with serve_api(pods.api, directory) as path:
        print_json({"kubeconfig": str(path)})
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            if "word" in request:
                print_json({"at": pods.set_reason(request["word"])})
                continue
            for task in tasks:
                task.cancel()
            tasks = [asyncio.create_task(change_pods(pods, which, rate)) for which, rate in request.items() if rate]
            print_json({})


def print_json(response: Json) -> None:
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True, help="folder of the kubeconfig")
    given = parser.parse_args()
    asyncio.run(serve(given.pods, given.dir))

"""A small synchronous client of the Kubernetes API for the cases: requests, and watches as iterators."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

from tests.cluster.planes import ControlPlane

Json = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class RequestRefused(Exception):
    """An answer outside 2xx; `status` is the Status object."""

    def __init__(self, code: int, status: Json) -> None:
        super().__init__(f"{code}: {status.get('message')}")
        self.code = code
        self.status = status

    @property
    def reason(self) -> str:
        return str(self.status.get("reason"))


class KubernetesClient:
    """Requests to one plane. Paths: `deployments/web` and the like are in the case's namespace."""

    GROUPS: ClassVar = {
        "deployments": "apis/apps/v1",
        "replicasets": "apis/apps/v1",
        "endpointslices": "apis/discovery.k8s.io/v1",
        "leases": "apis/coordination.k8s.io/v1",
        "httproutes": "apis/gateway.networking.k8s.io/v1",
    }

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self._context = plane.ssl_context()
        self._address = urlsplit(plane.url)

    def path(self, resource: str) -> str:
        if resource.startswith("/"):
            return resource
        plural = resource.split("/", maxsplit=1)[0].split("?", maxsplit=1)[0]
        prefix = self.GROUPS.get(plural, "api/v1")
        scope = "" if plural in ("nodes", "namespaces") else f"namespaces/{self.namespace}/"
        return f"/{prefix}/{scope}{resource}"

    @contextmanager
    def _open(
        self, method: str, path: str, body: Any, headers: dict[str, str], timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        assert self._address.hostname
        connection = http.client.HTTPSConnection(
            self._address.hostname, self._address.port, context=self._context, timeout=timeout
        )
        data = None if body is None else json.dumps(body)
        try:
            authorization = {"Authorization": f"Bearer {self.plane.token}"}
            connection.request(method, path, data, {"Content-Type": "application/json"} | authorization | headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def send(self, method: str, resource: str, body: Any = None, **headers: str) -> Json:
        """One request. Raises Refused."""
        with self._open(method, self.path(resource), body, headers, 20) as response:
            text = response.read()
            parsed: Json = json.loads(text) if text.strip().startswith(b"{") else {"message": text.decode()}
            if response.status >= 300:
                raise RequestRefused(response.status, parsed)
            return parsed

    def get(self, resource: str) -> Json:
        return self.send("GET", resource)

    def create(self, resource: str, body: Json) -> Json:
        return self.send("POST", resource, body)

    def put(self, resource: str, body: Json) -> Json:
        return self.send("PUT", resource, body)

    def patch(self, resource: str, body: Any, kind: str = MERGE_PATCH) -> Json:
        return self.send("PATCH", resource, body, **{"Content-Type": kind})

    def delete(self, resource: str, options: Json | None = None) -> Json:
        return self.send("DELETE", resource, options)

    @contextmanager
    def watch(self, resource: str, seconds: int = 30, **query: str) -> Iterator[Iterator[Json]]:
        """The events of a watch as an iterator that ends with the watch's timeout."""
        query = {"watch": "true", "timeoutSeconds": str(seconds)} | query
        path = f"{self.path(resource)}?{urlencode(query)}"
        with self._open("GET", path, None, {}, seconds + 15) as response:
            if response.status != 200:
                raise RequestRefused(response.status, json.loads(response.read()))
            yield (json.loads(line) for line in response)

    def items(self, resource: str, **query: str) -> list[Json]:
        items: list[Json] = self.get(f"{resource}?{urlencode(query)}" if query else resource)["items"]
        return items

    def until(self, resource: str, accept: Callable[[list[Json]], bool], seconds: int = 40, **query: str) -> list[Json]:
        """Follow a resource by list and watch until `accept` says yes to all its objects; they are returned."""
        listed = self.get(f"{resource}?{urlencode(query)}" if query else resource)
        state = {item["metadata"]["uid"]: item for item in listed["items"]}
        if accept(list(state.values())):
            return list(state.values())
        version = listed["metadata"]["resourceVersion"]
        end = time.monotonic() + seconds
        with self.watch(resource, seconds, resourceVersion=version, **query) as events:
            for event in events:
                item = event["object"]
                assert event["type"] != "ERROR", item
                if event["type"] == "DELETED":
                    state.pop(item["metadata"]["uid"], None)
                else:
                    state[item["metadata"]["uid"]] = item
                if accept(list(state.values())):
                    return list(state.values())
                if time.monotonic() > end:
                    break
        raise AssertionError(f"not seen in {seconds} s; {resource} at last: {json.dumps(list(state.values()))[:4000]}")


def is_complete(deployment: Json) -> bool:
    """Everything rolled out: as `kubectl rollout status` judges."""
    wanted, status = deployment["spec"]["replicas"], deployment.get("status", {})
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def condition(obj: Json, kind: str) -> Json:
    """The condition of a type; empty where there is none."""
    return next((c for c in obj.get("status", {}).get("conditions", ()) if c["type"] == kind), {})

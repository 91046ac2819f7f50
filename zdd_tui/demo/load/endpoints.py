"""Chooses the endpoint that receives a request, as a Gateway and kube-proxy do: a Service of the HTTPRoute by its
weight, then one of its addresses.

Rules: Kubernetes documentation, "EndpointSlices" and "Virtual IPs and service proxies": only ready endpoints; where
there are none, those that still serve while they terminate. Gateway API documentation, "HTTPRoute" (backendRefs,
weight) and its conditions (Accepted, with the observed generation). Only the first rule counts: the demo's route has
no other.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, SERVICE_LABEL, Cluster
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES
from zdd_tui.backends.kubernetes.watch import Changed, Listed
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_number, get_objects, get_text
from zdd_tui.model.workload.pod import EndpointFacts, project_endpoints

Address = tuple[str, int]

GATEWAY_CONTROLLER = "zdd.dev/demo-load"
RETRY_DELAY = 0.5
"""Seconds until a route's status that the API refused is written again."""


class Endpoints:
    """The addresses of one or more Services, of which those with a weight receive requests.

    Args:
        on_leave: called with each address that leaves its Service.

    Attributes:
        picked: requests by Service.
    """

    def __init__(self, on_leave: Callable[[Address], None] = lambda _: None) -> None:
        self.picked: Counter[str] = Counter()
        self._addresses: dict[str, tuple[Address, ...]] = {}
        self._weights: dict[str, int] = {}
        self._on_leave = on_leave
        self._any = asyncio.Event()
        self._known: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those of every Service with a weight."""
        weighted = (name for name, weight in self._weights.items() if weight)
        return tuple(sorted({address for name in weighted for address in self._addresses.get(name, ())}))

    def set_addresses(self, service: str, addresses: Iterable[Address]) -> None:
        """Replaces a Service's addresses. It receives requests once :meth:`set_weights` has given it a weight."""
        before = self._addresses.get(service, ())
        self._addresses[service] = tuple(sorted(set(addresses)))
        for address in set(before) - set(self._addresses[service]):
            self._on_leave(address)
        self._known[service].set()
        self._update_any()

    def set_weights(self, weights: Mapping[str, int]) -> None:
        """Replaces the weights. The addresses of Services that are not among them leave."""
        self._weights = dict(weights)
        for name in self._addresses.keys() - weights.keys():
            for address in self._addresses.pop(name):
                self._on_leave(address)
            del self._known[name]
        self._update_any()

    def pick(self, rng: random.Random) -> Address | None:
        """None where no Service has a weight or the chosen one has no address: behind a Gateway that request fails."""
        if not any(self._weights.values()):
            return None
        (name,) = rng.choices(tuple(self._weights), tuple(self._weights.values()))
        self.picked[name] += 1
        addresses = self._addresses.get(name, ())
        return rng.choice(addresses) if addresses else None

    async def wait_for_first(self) -> None:
        """Waits until there has been an address that receives requests."""
        await self._any.wait()

    async def wait_until_known(self, service: str) -> None:
        """Waits until a Service's addresses were set, even to none."""
        await self._known[service].wait()

    def _update_any(self) -> None:
        if self.addresses:
            self._any.set()


def routable_addresses(endpoints: Iterable[EndpointFacts]) -> list[Address]:
    """The addresses of a Service that receive new requests now."""
    known = [endpoint for endpoint in endpoints if endpoint.address]
    chosen = [e for e in known if e.ready] or [e for e in known if e.serving and e.terminating]
    return [(endpoint.address, endpoint.port) for endpoint in chosen]


async def follow_service(cluster: Cluster, service: str, endpoints: Endpoints) -> None:
    """Follows a Service's EndpointSlices until cancelled. While the API is unreachable the last addresses stay."""
    slices: dict[str, tuple[EndpointFacts, ...]] = {}

    def project(raw: Any) -> tuple[str, tuple[EndpointFacts, ...]]:
        return raw["metadata"]["name"], tuple(project_endpoints(raw))

    watch = cluster.watch("apis/discovery.k8s.io/v1", "endpointslices", project, labels=f"{SERVICE_LABEL}={service}")
    async with aclosing(watch) as events:
        async for event in events:
            match event:
                case Listed(items=items):
                    slices = dict(items)
                case Changed(kind="DELETED", item=(name, _)):
                    slices.pop(name, None)
                case Changed(item=(name, members)):
                    slices[name] = members
                case _:
                    continue
            found = (endpoint for members in slices.values() for endpoint in members)
            endpoints.set_addresses(service, routable_addresses(found))


def route_weights(route: Any) -> dict[str, int]:
    """Weight by Service, of the route's first rule."""
    rule = next(iter(get_objects(route, "spec", "rules")), {})
    return {get_text(ref, "name"): get_number(ref, "weight", default=1) for ref in get_objects(rule, "backendRefs")}


def accepted_status(route: Any) -> dict[str, Any]:
    """The status of a route whose present generation is in effect."""
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "the load distributes its requests by these weights",
        "observedGeneration": get_number(route, "metadata", "generation"),
        "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    return {
        "parents": [
            {"parentRef": parent, "controllerName": GATEWAY_CONTROLLER, "conditions": [condition]}
            for parent in get_objects(route, "spec", "parentRefs")
        ]
    }


async def follow_route(cluster: Cluster, name: str, endpoints: Endpoints) -> None:
    """Follows an HTTPRoute until cancelled: first its Services' endpoints, then the weights, then the route's status.

    While the API is unreachable the last weights stay.
    """
    followers: dict[str, asyncio.Task[None]] = {}
    generation = -1
    async with asyncio.TaskGroup() as group, aclosing(_route_states(cluster, name)) as states:
        async for route in states:
            if (current := get_number(route, "metadata", "generation")) == generation:
                continue
            weights = route_weights(route)
            for service in weights.keys() - followers.keys():
                followers[service] = group.create_task(follow_service(cluster, service, endpoints))
            for service in weights:
                await endpoints.wait_until_known(service)
            for service in followers.keys() - weights.keys():
                followers.pop(service).cancel()
            endpoints.set_weights(weights)
            if route:
                await _update_status(cluster, name, accepted_status(route))
            generation = current


async def _route_states(cluster: Cluster, name: str) -> AsyncGenerator[Any, None]:
    """The route each time it changes; empty where it is deleted."""
    watch = cluster.watch(*HTTP_ROUTES, lambda raw: raw, fields=f"metadata.name={name}")
    async with aclosing(watch) as events:
        async for event in events:
            match event:
                case Listed(items=items):
                    yield items[0] if items else {}
                case Changed(kind="DELETED"):
                    yield {}
                case Changed(item=raw):
                    yield raw
                case _:
                    continue


async def _update_status(cluster: Cluster, name: str, status: dict[str, Any]) -> None:
    path = cluster.path(*HTTP_ROUTES, name, "status")
    while True:
        try:
            await cluster.http.request_json("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)
        except ClusterError as error:
            if getattr(error, "status", 0) == 404:  # deleted meanwhile; the watch reports it
                return
            await asyncio.sleep(RETRY_DELAY)
        else:
            return

"""Chooses the endpoint that receives a request: a Service by its weight, then one of its addresses.

Rules: Kubernetes documentation, "EndpointSlices" and "Virtual IPs and service proxies": only ready endpoints; where
there are none, those that still serve while they terminate.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from zdd_tui.backends.kubernetes.cluster import SERVICE_LABEL, Cluster
from zdd_tui.backends.kubernetes.watch import Changed, Disconnected, Listed
from zdd_tui.model.workload.pod import EndpointFacts, project_endpoints

Address = tuple[str, int]


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
                case Disconnected():
                    continue
                case _:
                    continue
            found = (endpoint for members in slices.values() for endpoint in members)
            endpoints.set_addresses(service, routable_addresses(found))

"""Which endpoints of a Service receive new requests.

Rules: Kubernetes documentation, "EndpointSlices" and "Virtual IPs and service proxies": ready endpoints only; when
there is none, those that are still serving while they terminate.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

from zdd_tui.backends.kubernetes.cluster import SERVICE_LABEL, Cluster
from zdd_tui.backends.kubernetes.watch import Changed, Disconnected, Listed
from zdd_tui.model.workload.pod import EndpointFacts, project_endpoints

Address = tuple[str, int]


class Endpoints:
    """The present choice. ``on_leave`` hears of every address that leaves it."""

    def __init__(self, on_leave: Callable[[Address], None] = lambda _: None) -> None:
        self.addresses: tuple[Address, ...] = ()
        self._on_leave = on_leave
        self._any = asyncio.Event()
        self._known = asyncio.Event()

    def set_addresses(self, addresses: Iterable[Address]) -> None:
        before, self.addresses = self.addresses, tuple(sorted(set(addresses)))
        for gone in set(before) - set(self.addresses):
            self._on_leave(gone)
        self._known.set()
        if self.addresses:
            self._any.set()

    def pick(self, rng: random.Random) -> Address | None:
        """Any of them with equal chance; None when there is none."""
        return rng.choice(self.addresses) if self.addresses else None

    async def wait_for_first(self) -> None:
        """Until there has been an endpoint once."""
        await self._any.wait()

    async def wait_until_known(self) -> None:
        """Until it was told once which endpoints there are, be it none."""
        await self._known.wait()


def routable_addresses(endpoints: Iterable[EndpointFacts]) -> list[Address]:
    """The addresses that receive new requests now."""
    known = [endpoint for endpoint in endpoints if endpoint.address]
    chosen = [e for e in known if e.ready] or [e for e in known if e.serving and e.terminating]
    return [(endpoint.address, endpoint.port) for endpoint in chosen]


async def follow_service(cluster: Cluster, service: str, endpoints: Endpoints) -> None:
    """Keep ``endpoints`` in step with a Service, for ever. While the API is away the last choice stands."""
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
            endpoints.set_addresses(routable_addresses(endpoint for members in slices.values() for endpoint in members))

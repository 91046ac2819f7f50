"""The Gateway of the demo: requests are shared out among the Services of an HTTPRoute by weight.

Rules: Gateway API documentation, "HTTPRoute" (backendRefs, weight) and its conditions (Accepted, with the generation
that was seen). One rule is looked at, the first: the demo's route has no other.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES
from zdd_tui.backends.kubernetes.watch import Changed, Listed
from zdd_tui.demo.load.endpoints import Address, Endpoints, follow_service
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_number, get_objects, get_text

CONTROLLER = "zdd.dev/demo-load"
RETRY_DELAY = 0.5
"""Seconds until a status is written again that the API did not take."""


class WeightedEndpoints:
    """Picks a Service by its weight, then one of its endpoints; has the manners of `Endpoints`."""

    def __init__(self, on_leave: Callable[[Address], None] = lambda _: None) -> None:
        self.services: dict[str, Endpoints] = {}
        self.picked: Counter[str] = Counter()
        self._weights: dict[str, int] = {}
        self._on_leave = on_leave
        self._any = asyncio.Event()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Those of every Service that gets requests."""
        found = (each for name, weight in self._weights.items() if weight for each in self.services[name].addresses)
        return tuple(sorted(set(found)))

    def backend(self, name: str) -> Endpoints:
        """The endpoints of a Service; requests go there once :meth:`set_weights` has given it a weight."""
        return self.services.setdefault(name, Endpoints(self._on_leave))

    def set_weights(self, weights: dict[str, int]) -> None:
        """From now on requests go by these weights. Idle connections to Services without one are closed."""
        self._weights = weights
        for name in self.services.keys() - weights.keys():
            self.services.pop(name).set_addresses(())
        if self.addresses:
            self._any.set()

    def pick(self, rng: random.Random) -> Address | None:
        """None where no Service has a weight, or the chosen one has no endpoint: that request fails, as behind a
        Gateway it would."""
        if not any(self._weights.values()):
            return None
        (name,) = rng.choices(tuple(self._weights), tuple(self._weights.values()))
        self.picked[name] += 1
        return self.services[name].pick(rng)

    async def wait_for_first(self) -> None:
        """Until there has been an endpoint once."""
        await self._any.wait()


def route_weights(route: Any) -> dict[str, int]:
    """Weight by Service, of the route's first rule."""
    rule = next(iter(get_objects(route, "spec", "rules")), {})
    return {get_text(ref, "name"): get_number(ref, "weight", default=1) for ref in get_objects(rule, "backendRefs")}


def accepted_status(route: Any) -> dict[str, Any]:
    """The status that says: requests go by this generation."""
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "the load shares its requests out by these weights",
        "observedGeneration": get_number(route, "metadata", "generation"),
        "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    return {
        "parents": [
            {"parentRef": parent, "controllerName": CONTROLLER, "conditions": [condition]}
            for parent in get_objects(route, "spec", "parentRefs")
        ]
    }


async def follow_route(cluster: Cluster, name: str, split: WeightedEndpoints) -> None:
    """Keep ``split`` in step with an HTTPRoute, for ever: first its Services' endpoints, then the weights, then the
    route's status. While the API is away the last shares stand."""
    followers: dict[str, asyncio.Task[None]] = {}
    generation = -1
    async with asyncio.TaskGroup() as group, aclosing(_route_states(cluster, name)) as states:
        async for route in states:
            if (seen := get_number(route, "metadata", "generation")) == generation:
                continue
            weights = route_weights(route)
            for service in weights.keys() - followers.keys():
                followers[service] = group.create_task(follow_service(cluster, service, split.backend(service)))
            for service in weights:
                await split.backend(service).wait_until_known()
            split.set_weights(weights)
            for service in followers.keys() - weights.keys():
                followers.pop(service).cancel()
            if route:
                await _update_status(cluster, name, accepted_status(route))
            generation = seen


async def _route_states(cluster: Cluster, name: str) -> AsyncGenerator[Any, None]:
    """The route again and again as it changes; empty where it is gone."""
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
            if getattr(error, "status", 0) == 404:  # deleted meanwhile; the watch tells
                return
            await asyncio.sleep(RETRY_DELAY)
        else:
            return

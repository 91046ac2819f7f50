"""The Gateway of the demo: distributes requests among the Services of an HTTPRoute by weight.

Rules: Gateway API documentation, "HTTPRoute" (backendRefs, weight) and its conditions (Accepted, with the observed
generation). Only the first rule counts: the demo's route has no other.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES
from zdd_tui.backends.kubernetes.watch import Changed, Listed
from zdd_tui.demo.load.endpoints import Endpoints, follow_service
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_number, get_objects, get_text

CONTROLLER = "zdd.dev/demo-load"
RETRY_DELAY = 0.5
"""Seconds until a status that the API refused is written again."""


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
            {"parentRef": parent, "controllerName": CONTROLLER, "conditions": [condition]}
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

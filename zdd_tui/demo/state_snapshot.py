"""Is everything as it was? What a rollback must restore, read from the systems themselves."""

import json
from dataclasses import dataclass
from typing import Any

import asyncpg

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES
from zdd_tui.backends.postgres.catalog import read_schema_objects
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment

FLAG_KEYS = ("users_full_name_write", "users_full_name_read", "users_sql_name_shadow", "users_sql_name_read")


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """What a release may have touched."""

    schema: tuple[str, ...]
    flags: dict[str, str | None]
    image: str
    annotations: dict[str, Any]
    pods: tuple[str, ...]
    objects: tuple[str, ...] = ()


async def read_environment_state(env: Environment) -> EnvironmentState:
    """Reads it all. Rows are judged by the load, which knows what every row must hold."""
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS zdd")
        schema = tuple(await read_schema_objects(connection))
    finally:
        await connection.close()
    async with await FlagStore.connect(env.redis.url) as store:
        flags = await store.read_raw(FLAG_KEYS)
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        view = await cluster.get_deployment(manifests.NAME)
        raw = await cluster.http.request_json("GET", cluster.path("apis/apps/v1", "deployments", manifests.NAME))
        pods = await cluster.list_pods(view.selector)
        objects = await _read_cluster_objects(cluster)
    notes = {
        key: value
        for key, value in raw["metadata"].get("annotations", {}).items()
        if key != "deployment.kubernetes.io/revision"  # counts every rollout, the ones back too
    }
    return EnvironmentState(
        schema, dict(flags), view.images[manifests.CONTAINER], notes, tuple(sorted(p.image for p in pods)), objects
    )


async def _read_cluster_objects(cluster: Cluster) -> tuple[str, ...]:
    """Deployments with their sizes, Services with what they select, HTTPRoutes with their rules, and our notes."""
    deployments = await cluster.http.request_json("GET", cluster.path("apis/apps/v1", "deployments"))
    services = await cluster.http.request_json("GET", cluster.path("api/v1", "services"))
    found = [
        f"deployment {raw['metadata']['name']}, {raw['spec']['replicas']} replicas" for raw in deployments["items"]
    ]
    for raw in services["items"]:
        notes = raw["metadata"].get("annotations", {})
        found.append(f"service {raw['metadata']['name']} selects {raw['spec'].get('selector')}, {notes}")
    for raw in (await cluster.http.request_json("GET", cluster.path(*HTTP_ROUTES)))["items"]:
        notes = raw["metadata"].get("annotations", {})
        found.append(
            f"httproute {raw['metadata']['name']} has {json.dumps(raw['spec']['rules'], sort_keys=True)}, {notes}"
        )
    return tuple(sorted(found))


def describe_differences(before: EnvironmentState, after: EnvironmentState) -> list[str]:
    """What is not as it was, in words."""
    found = [f"gone: {line}" for line in before.schema if line not in after.schema]
    found += [f"left behind: {line}" for line in after.schema if line not in before.schema]
    for name in ("flags", "image", "annotations", "pods", "objects"):
        was, now = getattr(before, name), getattr(after, name)
        if was != now:
            found.append(f"{name}: {was} became {now}")
    return found

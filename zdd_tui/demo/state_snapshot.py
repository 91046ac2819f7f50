"""The state that a rollback must restore, read from the systems themselves."""

import json
from dataclasses import dataclass
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES
from zdd_tui.backends.postgres.catalog import read_schema_objects
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.demo import manifests
from zdd_tui.demo.data import open_connection
from zdd_tui.demo.environment import Environment

FLAG_KEYS = ("users_full_name_write", "users_full_name_read", "users_sql_name_shadow", "users_sql_name_read")


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """Everything that a release may change, except rows: the load checks those, it knows what each must contain."""

    schema: tuple[str, ...]
    flags: dict[str, str | None]
    image: str
    annotations: dict[str, Any]
    pods: tuple[str, ...]
    objects: tuple[str, ...] = ()


async def read_environment_state(env: Environment) -> EnvironmentState:
    async with open_connection(env.postgres.dsn) as connection:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS zdd")
        schema = tuple(await read_schema_objects(connection))
    async with await FlagStore.connect(env.redis.url) as store:
        flags = await store.read_raw(FLAG_KEYS)
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        view = await cluster.get_deployment(manifests.NAME)
        raw = await cluster.http.request_json("GET", cluster.path("apis/apps/v1", "deployments", manifests.NAME))
        pods = await cluster.list_pods(view.selector)
        objects = await _read_cluster_objects(cluster)
    annotations = raw["metadata"].get("annotations", {})
    annotations.pop("deployment.kubernetes.io/revision", None)  # a rollback increments it too
    images = tuple(sorted(pod.image for pod in pods))
    return EnvironmentState(schema, dict(flags), view.images[manifests.CONTAINER], annotations, images, objects)


async def _read_cluster_objects(cluster: Cluster) -> tuple[str, ...]:
    """A line for each Deployment with its replicas, Service with its selector and HTTPRoute with its rules."""

    async def list_objects(group: str, resource: str) -> list[tuple[str, Any, Any]]:
        response = await cluster.http.request_json("GET", cluster.path(group, resource))
        return [
            (raw["metadata"]["name"], raw["spec"], raw["metadata"].get("annotations", {})) for raw in response["items"]
        ]

    lines = [
        f"deployment {name}, {spec['replicas']} replicas"
        for name, spec, _ in await list_objects("apis/apps/v1", "deployments")
    ]
    for name, spec, annotations in await list_objects("api/v1", "services"):
        lines.append(f"service {name} selects {spec.get('selector')}, {annotations}")
    for name, spec, annotations in await list_objects(*HTTP_ROUTES):
        lines.append(f"httproute {name} has {json.dumps(spec['rules'], sort_keys=True)}, {annotations}")
    return tuple(sorted(lines))


def describe_differences(before: EnvironmentState, after: EnvironmentState) -> list[str]:
    """A line for each difference; empty where the states are equal."""
    lines = [f"missing: {line}" for line in before.schema if line not in after.schema]
    lines += [f"left over: {line}" for line in after.schema if line not in before.schema]
    for name in ("flags", "image", "annotations", "pods", "objects"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            lines.append(f"{name}: {old} became {new}")
    return lines

"""Reads the facts for `zdd doctor` from a cluster: the Deployment, the Service, and the routes to it."""

from http import HTTPStatus
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.model.doctor.facts import Fact, TrafficFacts, WorkloadFacts
from zdd_tui.model.doctor.workload import extract_traffic_facts, extract_workload_facts
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_objects
from zdd_tui.model.plan.base import WorkloadPlan

ROUTES = (
    ("apis/networking.k8s.io/v1", "ingresses"),
    ("apis/gateway.networking.k8s.io/v1", "httproutes"),
)


async def read_cluster(plan: WorkloadPlan) -> tuple[Fact[WorkloadFacts], Fact[TrafficFacts]]:
    """Reads how the application runs and how requests reach it."""
    names = plan.kubernetes
    try:
        async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
            return await read_workload_facts(cluster, plan), await read_traffic_facts(cluster, plan.service)
    except ClusterError as error:
        return Fact(None, error.title, error.hint), Fact(None, error.title, error.hint)


async def read_workload_facts(cluster: Cluster, plan: WorkloadPlan) -> Fact[WorkloadFacts]:
    names = plan.kubernetes
    try:
        raw = await cluster.http.request_json("GET", cluster.path("apis/apps/v1", "deployments", names.deployment))
    except ClusterError as error:
        return Fact(None, error.title, error.hint)
    facts = extract_workload_facts(raw, names.container, drain_seconds=names.drain)
    if facts is None:
        return Fact(
            None,
            f"Deployment {names.deployment!r} has no container {names.container!r}",
            "correct kubernetes.container",
        )
    return Fact(facts)


async def read_traffic_facts(cluster: Cluster, service: str) -> Fact[TrafficFacts]:
    try:
        raw = await cluster.http.request_json("GET", cluster.path("api/v1", "services", service))
    except ClusterError as error:
        return Fact(None, error.title, error.hint)
    unavailable: list[str] = []
    ingresses, routes = [await _list_objects(cluster, api, resource, unavailable) for api, resource in ROUTES]
    return Fact(extract_traffic_facts(raw, ingresses, routes, unavailable))


async def _list_objects(cluster: Cluster, api: str, resource: str, unavailable: list[str]) -> list[Any]:
    """Lists all objects of a kind; empty where the server does not know the kind."""
    try:
        return list(get_objects(await cluster.http.request_json("GET", cluster.path(api, resource)), "items"))
    except KubeApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            unavailable.append(error.title)
        return []

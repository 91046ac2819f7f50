"""What the doctor asks a cluster: the Deployment, the Service, and what leads to it. Raw JSON in, facts out."""

from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.model.doctor.facts import Look, TrafficFacts, WorkloadFacts
from zdd_tui.model.doctor.workload import traffic_facts, workload_facts
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import objects
from zdd_tui.model.plan.base import BasePlan

ROUTES = (
    ("apis/networking.k8s.io/v1", "ingresses"),
    ("apis/gateway.networking.k8s.io/v1", "httproutes"),
)
_NOT_SERVED = 404


async def read_cluster(plan: BasePlan) -> tuple[Look[WorkloadFacts], Look[TrafficFacts]]:
    """How the application runs and how requests reach it."""
    names = plan.kubernetes
    try:
        async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
            return await read_workload(cluster, plan), await read_traffic(cluster, plan.service)
    except ClusterError as error:
        return Look(None, error.title, error.mend), Look(None, error.title, error.mend)


async def read_workload(cluster: Cluster, plan: BasePlan) -> Look[WorkloadFacts]:
    names = plan.kubernetes
    try:
        raw = await cluster.http.json("GET", cluster.path("apis/apps/v1", "deployments", names.deployment))
    except ClusterError as error:
        return Look(None, error.title, error.mend)
    facts = workload_facts(raw, names.container, drain=names.drain)
    if facts is None:
        return Look(
            None, f"deployment {names.deployment!r} has no container {names.container!r}", "name one that it has"
        )
    return Look(facts)


async def read_traffic(cluster: Cluster, service: str) -> Look[TrafficFacts]:
    try:
        raw = await cluster.http.json("GET", cluster.path("api/v1", "services", service))
    except ClusterError as error:
        return Look(None, error.title, error.mend)
    not_looked: list[str] = []
    ingresses, routes = [await _list(cluster, api, resource, not_looked) for api, resource in ROUTES]
    return Look(traffic_facts(raw, ingresses, routes, not_looked))


async def _list(cluster: Cluster, api: str, resource: str, not_looked: list[str]) -> list[Any]:
    """All objects of a kind; none where the server does not know the kind, for then there can be none."""
    try:
        return list(objects(await cluster.http.json("GET", cluster.path(api, resource)), "items"))
    except KubeApiError as error:
        if error.status != _NOT_SERVED:
            not_looked.append(error.title)
        return []

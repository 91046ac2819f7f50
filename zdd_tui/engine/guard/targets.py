"""What the guard looks at: the pods of every version, as Kubernetes shows them now."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.guard.series import Counts, Target
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts


class Pods:
    """The pods of the release's Deployments, terminating ones included, and which of them take traffic.

    Args:
        cluster: None while there is no connection yet.
    """

    def __init__(self, plan: BasePlan, cluster: Callable[[], Cluster | None]) -> None:
        self._plan = plan
        self._cluster = cluster
        self.known = False
        """They were listed at least once."""
        self._pods: dict[str, PodFacts] = {}
        self._rotating: set[str] = set()
        self._port = 0

    async def refresh(self) -> None:
        """
        Raises:
            ClusterError: Kubernetes is away or refuses us; what was known stays.
        """
        plan, cluster = self._plan, self._cluster()
        if cluster is None:
            raise ClusterError("there is no connection to Kubernetes yet")
        pods = asyncio.gather(*(self._list(cluster, name, index == 0) for index, name in enumerate(plan.workloads)))
        endpoints = asyncio.gather(*(cluster.list_endpoint_slices(name) for name in plan.services))
        found, slices = await asyncio.gather(pods, endpoints)
        self._pods = {pod.name: pod for some in found for pod in some}
        known: Sequence[EndpointFacts] = [endpoint for some in slices for endpoint in some]
        self._rotating = {endpoint.pod_name for endpoint in known if endpoint.ready}
        self._port = next((endpoint.port for endpoint in known if endpoint.port), self._port)
        self.known = True

    async def _list(self, cluster: Cluster, deployment: str, must_exist: bool) -> list[PodFacts]:
        names = self._plan.kubernetes
        try:
            view = await cluster.get_deployment(deployment)
        except KubeApiError as error:
            if error.status == 404 and not must_exist:
                return []
            raise
        return await cluster.list_pods(view.selector, container=names.container)

    def _target(self, pod: PodFacts) -> Target:
        return Target(
            key=pod.name,
            version=self._plan.version_of(pod.image),
            rotating=pod.name in self._rotating,
            # One that starts, crashes or leaves need not answer.
            expected=pod.containers_ready and pod.deadline is None,
        )

    def restarts(self) -> tuple[list[Target], dict[str, Counts | str]]:
        """How often the containers of each pod began anew."""
        found: dict[str, Counts | str] = {
            pod.name: Counts(
                restarts=float(sum(container.restarts for container in pod.containers)), known=frozenset({"restarts"})
            )
            for pod in self._pods.values()
        }
        # Kubernetes tells this of every pod, also of one that crashes and so could not answer for itself.
        return [replace(self._target(pod), expected=True) for pod in self._pods.values()], found

    def to_scrape(self, port: int | None) -> tuple[list[Target], dict[str, str]]:
        """Every pod, and ``http://ip:port`` of those that may answer."""
        pods = self._pods.values()
        number = port or self._port
        addresses = {pod.name: f"http://{_host(pod.ip)}:{number}" for pod in pods if pod.ip and number and _runs(pod)}
        return [self._target(pod) for pod in pods], addresses

    def to_probe(self, path: str) -> tuple[list[Target], dict[str, str]]:
        """The pods that take traffic, with the URL of a path at each."""
        pods = [pod for pod in self._pods.values() if pod.name in self._rotating and pod.ip and self._port]
        addresses = {pod.name: f"http://{_host(pod.ip)}:{self._port}{path}" for pod in pods}
        return [self._target(pod) for pod in pods], addresses


def url_target(url: str) -> tuple[list[Target], dict[str, str]]:
    """One address from outside, which has no version."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return [Target(host, "service")], {host: url}


def _runs(pod: PodFacts) -> bool:
    return any(container.running for container in pod.containers)


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip

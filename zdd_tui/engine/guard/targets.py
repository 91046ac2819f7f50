"""The targets of the guard's sources: the pods of every version, as Kubernetes lists them now."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.workload_cache import WorkloadCache, WorkloadReading
from zdd_tui.backends.read_scope import read_scope
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.guard.series import CounterSample, MetricTarget
from zdd_tui.model.plan.base import BasePlan, WorkloadPlan
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts
from zdd_tui.model.workload.version import PodVersions


class PodTargets:
    """The pods of the release's Deployments, terminating ones included, and which of them are in rotation.

    Args:
        workloads: returns None while there is no connection.
    """

    def __init__(self, plan: BasePlan, workloads: Callable[[], WorkloadCache | None]) -> None:
        self._plan = plan
        self._workloads = workloads
        self.read_at: float | None = None
        """Time of the oldest of the pods and endpoints, in monotonic seconds; None before the first list."""
        self._pods: dict[str, PodFacts] = {}
        self._versions: PodVersions | None = None
        self._in_rotation: set[str] = set()
        self._port = 0

    async def refresh(self) -> None:
        """Reads the pods and endpoints again.

        Raises:
            ClusterError: Kubernetes is unreachable or refuses; the last list stays.
        """
        with read_scope() as scope:
            await self._refresh()
        self.read_at = time.monotonic() - scope.age

    async def _refresh(self) -> None:
        plan, cache = self._plan, self._workloads()
        if not isinstance(plan, WorkloadPlan):
            raise ClusterError("this release has no Deployment")
        if cache is None:
            raise ClusterError("not connected to Kubernetes yet")
        # Each Deployment with a Service: the last Service again where there are fewer of them.
        services = [*plan.services, *[plan.services[-1]] * (len(plan.workloads) - len(plan.services))]
        pairs = list(zip(plan.workloads, services, strict=False))
        found = await asyncio.gather(
            *(self._read(cache, name, service, must_exist=index == 0) for index, (name, service) in enumerate(pairs))
        )
        workloads = [each for each in found if each is not None]
        # A terminal pod, such as an evicted one, is no target any more.
        pods = (pod for each in workloads for pod in each.pods if not pod.is_terminal)
        self._pods = {pod.name: pod for pod in pods}
        sets = {uid: one for each in workloads for uid, one in each.sets_by_uid.items()}
        self._versions = PodVersions(plan, sets)
        all_endpoints: Sequence[EndpointFacts] = [endpoint for each in workloads for endpoint in each.endpoints]
        self._in_rotation = {endpoint.pod_name for endpoint in all_endpoints if endpoint.ready}
        self._port = next((endpoint.port for endpoint in all_endpoints if endpoint.port), self._port)

    @staticmethod
    async def _read(cache: WorkloadCache, deployment: str, service: str, *, must_exist: bool) -> WorkloadReading | None:
        try:
            return await cache.read(deployment, service)
        except KubeApiError as error:
            if error.status == HTTPStatus.NOT_FOUND and not must_exist:
                return None
            raise

    def _build_target(self, pod: PodFacts) -> MetricTarget:
        assert self._versions is not None, "pods were listed together with their versions"
        return MetricTarget(
            key=pod.name,
            version=self._versions.version_of(pod),
            in_rotation=pod.name in self._in_rotation,
            # A pod that starts, crashes or terminates may not respond.
            must_answer=pod.containers_ready and pod.deletion_deadline is None,
            restarts=sum(container.restarts for container in pod.containers),
        )

    def restart_counts(self) -> tuple[list[MetricTarget], dict[str, CounterSample | str]]:
        """The restarts of the containers of each pod."""
        samples: dict[str, CounterSample | str] = {
            pod.name: CounterSample(
                restarts=float(sum(container.restarts for container in pod.containers)),
                available=frozenset({"restarts"}),
            )
            for pod in self._pods.values()
        }
        # Kubernetes reports this for every pod, also for one that crashes and does not respond itself.
        return [replace(self._build_target(pod), must_answer=True) for pod in self._pods.values()], samples

    def scrape_targets(self, port: int | None) -> tuple[list[MetricTarget], dict[str, str]]:
        """Every pod, and ``http://ip:port`` of those with a running container."""
        pods = self._pods.values()
        number = port or self._port
        addresses = {
            pod.name: f"http://{_url_host(pod.ip)}:{number}" for pod in pods if pod.ip and number and _is_running(pod)
        }
        return [self._build_target(pod) for pod in pods], addresses

    def probe_targets(self, path: str) -> tuple[list[MetricTarget], dict[str, str]]:
        """The pods in rotation, and the URL of a path at each."""
        pods = [pod for pod in self._pods.values() if pod.name in self._in_rotation and pod.ip and self._port]
        addresses = {pod.name: f"http://{_url_host(pod.ip)}:{self._port}{path}" for pod in pods}
        return [self._build_target(pod) for pod in pods], addresses


def build_url_target(url: str) -> tuple[list[MetricTarget], dict[str, str]]:
    """One URL from outside the cluster, without a version."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return [MetricTarget(host, "service")], {host: url}


def _is_running(pod: PodFacts) -> bool:
    return any(container.running for container in pod.containers)


def _url_host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip

"""The Deployments of a release, kept current by watches: what gates, the guard and the standing conditions read.

Reading 2,000 pods takes some 50 ms; a gate that lists them every second costs a tenth of a core. A watch costs nothing
while nothing changes, and proves its age: the server ends an idle watch every few seconds, and accepts the next one
only from a version that it still has.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch, EndpointWatch
from zdd_tui.backends.read_scope import report_age, requires_fresh
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts
from zdd_tui.model.workload.rollout import (
    DeploymentView,
    ReplicaSetView,
    RolloutStatus,
    evaluate_rollout,
    select_own_pods,
)
from zdd_tui.model.workload.version import group_by_origin

SILENCE_TIMEOUT = 2.0
"""Seconds without news after which a watch is renewed; see the setting of the same name in `watch`. An idle one is
confirmed every second, so that a verdict, which is evaluated every second, counts as current while Kubernetes answers.
"""

MAX_AGE = 6.0
"""Seconds; what is known for longer without any news is not used. Longer than two renewals of an idle watch."""


@dataclass(frozen=True)
class WorkloadReading:
    """A Deployment and everything that belongs to it, at one time. Derived values are computed once.

    Attributes:
        endpoints: of the Service.
        pods: everything that the Deployment's selector finds.
    """

    view: DeploymentView
    replica_sets: tuple[ReplicaSetView, ...]
    pods: tuple[PodFacts, ...]
    endpoints: tuple[EndpointFacts, ...]

    @cached_property
    def sets_by_uid(self) -> dict[str, ReplicaSetView]:
        return {each.uid: each for each in self.replica_sets}

    @cached_property
    def serving_pods(self) -> list[PodFacts]:
        """The pods that the Service sends requests to."""
        pods = {pod.name: pod for pod in self.pods}
        return [pods[one.pod_name] for one in self.endpoints if one.ready and one.pod_name in pods]

    @cached_property
    def serving_groups(self) -> tuple[tuple[PodFacts, ...], ...]:
        """The serving pods, in groups of one version."""
        return group_by_origin(self.serving_pods)

    @cached_property
    def rollout(self) -> RolloutStatus:
        return evaluate_rollout(self.view, self.replica_sets, select_own_pods(self.view, self.replica_sets, self.pods))


@dataclass(slots=True)
class _WatchedDeployment:
    watch: DeploymentWatch
    listeners: list[Callable[[DeploymentWatch], None]]
    task: asyncio.Task[None]


@dataclass(slots=True)
class _WatchedService:
    watch: EndpointWatch
    task: asyncio.Task[None]


class WorkloadCache:
    """The watched Deployments and Services: one watch of each, whoever reads it.

    Without :meth:`run` every reading is a direct one.

    Args:
        container: the plan's; its image decides a pod's version.
    """

    def __init__(self, cluster: Cluster, container: str) -> None:
        self._cluster = cluster
        self._container = container
        self._deployments: dict[str, _WatchedDeployment] = {}
        self._services: dict[str, _WatchedService] = {}
        self._readings: dict[tuple[str, str], WorkloadReading] = {}
        self._is_running = False

    async def run(self) -> None:
        """Keeps the watches until cancelled. A Deployment is watched from its first reader on."""
        self._is_running = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_running = False
            await self._stop_watches()

    async def _stop_watches(self) -> None:
        tasks = [deployment.task for deployment in self._deployments.values()]
        tasks += [service.task for service in self._services.values()]
        self._deployments.clear()
        self._services.clear()
        self._readings.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def follow(self, deployment: str, on_change: Callable[[DeploymentWatch], None]) -> None:
        """Calls back now, where the Deployment is known already, and after every change or proof of the age, until
        cancelled. Ends where :meth:`run` does, which must have been started."""
        assert self._is_running, "the watches belong to run()"
        watched = self._watch_deployment(deployment)
        watched.listeners.append(on_change)
        try:
            if watched.watch.is_complete or watched.watch.error:
                on_change(watched.watch)
            await asyncio.wait([watched.task])
            if not watched.task.cancelled():
                watched.task.result()
        finally:
            watched.listeners.remove(on_change)

    async def read(self, deployment: str, service: str) -> WorkloadReading:
        """A Deployment with its pods, and the endpoints of a Service.

        Raises:
            ClusterError: there is none of that name, Kubernetes is unreachable, or the watch has no news.
        """
        if not self._is_running or requires_fresh():
            return await self._read_directly(deployment, service)
        watched, endpoints = self._watch_deployment(deployment), self._watch_service(service)
        watch, slices = watched.watch, endpoints.watch.slices
        is_known = watch.is_complete and not watch.is_absent and slices.is_listed
        if watched.task.done() or endpoints.task.done() or not is_known:
            return await self._read_directly(deployment, service)
        if error := watch.error or slices.error:
            raise ClusterError(f"Kubernetes: {error}")
        age = time.monotonic() - min(watch.confirmed_at, slices.last_seen_at)
        if age > MAX_AGE:
            raise ClusterError(f"Kubernetes: no news about {deployment} for {age:.0f} s")
        report_age(age)
        view, sets, pods = watch.objects
        assert view is not None, "an absent Deployment is read directly"
        return self._reading((deployment, service), WorkloadReading(view, sets, pods, endpoints.watch.endpoints))

    def _reading(self, key: tuple[str, str], newest: WorkloadReading) -> WorkloadReading:
        """The reading from before, with what was derived from it, while its objects are the same."""
        known = self._readings.get(key)
        is_same = (
            known is not None
            and known.view is newest.view
            and known.replica_sets is newest.replica_sets
            and known.pods is newest.pods
            and known.endpoints is newest.endpoints
        )
        if known is None or not is_same:
            self._readings[key] = known = newest
        return known

    def _watch_deployment(self, name: str) -> _WatchedDeployment:
        if name not in self._deployments:
            watch = DeploymentWatch(
                self._cluster, name, container=self._container, for_screen=False, silence_timeout=SILENCE_TIMEOUT
            )
            listeners: list[Callable[[DeploymentWatch], None]] = []

            def notify() -> None:
                for listener in tuple(listeners):
                    listener(watch)

            self._deployments[name] = _WatchedDeployment(watch, listeners, asyncio.create_task(watch.follow(notify)))
        return self._deployments[name]

    def _watch_service(self, name: str) -> _WatchedService:
        if name not in self._services:
            watch = EndpointWatch(self._cluster, name, silence_timeout=SILENCE_TIMEOUT)
            self._services[name] = _WatchedService(watch, asyncio.create_task(watch.follow()))
        return self._services[name]

    async def _read_directly(self, deployment: str, service: str) -> WorkloadReading:
        """The Deployment is read first: once its rollout is complete, no pod of an older template can appear."""
        view = await self._cluster.get_deployment(deployment)
        sets = await self._cluster.list_replica_sets(view.selector)
        pods = await self._cluster.list_pods(view.selector, container=self._container)
        endpoints = await self._cluster.list_endpoint_slices(service)
        return WorkloadReading(view, tuple(sets), tuple(pods), tuple(endpoints))

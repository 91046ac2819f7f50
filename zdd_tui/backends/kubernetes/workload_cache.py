"""The Deployments of a release, kept current by watches: what gates and the guard read every second.

Reading 2,000 pods takes some 50 ms; a gate that lists them every second costs a tenth of a core. A watch costs nothing
while nothing changes, and proves its age: the server ends an idle watch every few seconds, and accepts the next one
only from a version that it still has.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts
from zdd_tui.model.workload.rollout import (
    DeploymentView,
    ReplicaSetView,
    RolloutStatus,
    evaluate_rollout,
    select_own_pods,
)

SILENCE_TIMEOUT = 4.0
"""Seconds without news after which a watch is renewed; see the setting of the same name in `watch`."""

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
    def rollout(self) -> RolloutStatus:
        return evaluate_rollout(self.view, self.replica_sets, select_own_pods(self.view, self.replica_sets, self.pods))


@dataclass(slots=True)
class ReadScope:
    """Attributes:
    fresh: nothing is read from the cache.
    age: seconds; the greatest age of what was read from the cache.
    """

    fresh: bool = False
    age: float = 0.0


_SCOPE: ContextVar[ReadScope | None] = ContextVar("zdd_read_scope", default=None)


@contextmanager
def read_scope(*, fresh: bool) -> Iterator[ReadScope]:
    """Everything that the present task reads in this block is fresh, or its age is reported."""
    scope = ReadScope(fresh)
    token = _SCOPE.set(scope)
    try:
        yield scope
    finally:
        _SCOPE.reset(token)


@dataclass(slots=True)
class _Watched:
    watch: DeploymentWatch
    task: asyncio.Task[None]
    source: tuple[object, ...] = ()
    objects: WorkloadReading | None = None


class WorkloadCache:
    """The watched Deployments. Without :meth:`run` every reading is a direct one.

    Args:
        container: the plan's; its image decides a pod's version.
    """

    def __init__(self, cluster: Cluster, container: str) -> None:
        self._cluster = cluster
        self._container = container
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._is_running = False

    async def run(self) -> None:
        """Keeps the watches until cancelled. A Deployment is watched from its first reading on."""
        self._is_running = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._is_running = False
            tasks = [watched.task for watched in self._watched.values()]
            self._watched.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self, deployment: str, service: str) -> WorkloadReading:
        """A Deployment with its pods, and the endpoints of a Service.

        Raises:
            ClusterError: there is none of that name, Kubernetes is unreachable, or the watch has no news.
        """
        scope = _SCOPE.get()
        if not self._is_running or (scope is not None and scope.fresh):
            return await self._read_directly(deployment, service)
        watched = self._watched.get((deployment, service)) or self._start(deployment, service)
        if watched.task.done() or not watched.watch.is_complete or watched.watch.is_absent:
            return await self._read_directly(deployment, service)
        if watched.watch.error:
            raise ClusterError(f"Kubernetes: {watched.watch.error}")
        age = time.monotonic() - watched.watch.confirmed_at
        if age > MAX_AGE:
            raise ClusterError(f"Kubernetes: no news about {deployment} for {age:.0f} s")
        if scope is not None:
            scope.age = max(scope.age, age)
        return self._objects_of(watched)

    def _objects_of(self, watched: _Watched) -> WorkloadReading:
        view, sets, pods = watched.watch.objects
        endpoints = watched.watch.endpoints
        source = (view, sets, pods, endpoints)
        if watched.objects is None or any(a is not b for a, b in zip(source, watched.source, strict=True)):
            assert view is not None, "an absent Deployment is read directly"
            watched.source, watched.objects = source, WorkloadReading(view, sets, pods, endpoints)
        return watched.objects

    def _start(self, deployment: str, service: str) -> _Watched:
        watch = DeploymentWatch(
            self._cluster,
            deployment,
            service=service,
            container=self._container,
            with_events=False,
            silence_timeout=SILENCE_TIMEOUT,
        )
        watched = _Watched(watch, asyncio.create_task(watch.follow()))
        self._watched[deployment, service] = watched
        return watched

    async def _read_directly(self, deployment: str, service: str) -> WorkloadReading:
        """The Deployment is read first: once its rollout is complete, no pod of an older template can appear."""
        view = await self._cluster.get_deployment(deployment)
        sets = await self._cluster.list_replica_sets(view.selector)
        pods = await self._cluster.list_pods(view.selector, container=self._container)
        endpoints = await self._cluster.list_endpoint_slices(service)
        return WorkloadReading(view, tuple(sets), tuple(pods), tuple(endpoints))

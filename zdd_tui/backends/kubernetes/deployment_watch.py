"""One Deployment with its ReplicaSets, pods, endpoints and Events: read once for a gate, or watched.

Both use the same `SnapshotBuilder`, so the agent and the dashboard apply the same rules.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from zdd_tui.backends.kubernetes.cluster import SERVICE_LABEL, Cluster
from zdd_tui.backends.kubernetes.snapshot import DeploymentObjects, EndpointSlice, SnapshotBuilder
from zdd_tui.backends.kubernetes.watch import SILENCE_TIMEOUT, Changed, Connected, Disconnected, Listed, WatchEvent
from zdd_tui.model.json_access import get_text
from zdd_tui.model.rate_limiter import RateLimiter
from zdd_tui.model.release.claims import uncounted_seconds
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts, project_endpoints, project_pod
from zdd_tui.model.workload.rollout import (
    DeploymentView,
    EventView,
    ReplicaSetView,
    WorkloadSnapshot,
    project_deployment,
    project_event,
    project_replica_set,
)

T = TypeVar("T")

SHOW_DELETED_SECONDS = 5.0
"""How long a deleted pod stays on the screen: long enough to be read."""

MIN_INTERVAL = 0.15
"""Seconds between two snapshots: a burst of changes becomes one."""

TICK = 1.0
"""Seconds between snapshots while some pod's state depends on the time alone (countdown, overdue, warming)."""


@dataclass(frozen=True, slots=True)
class _Event:
    uid: str
    view: EventView


def _project_slice(raw: Any) -> EndpointSlice:
    return EndpointSlice(get_text(raw, "metadata", "name"), tuple(project_endpoints(raw)))


def _project_event(raw: Any) -> _Event:
    return _Event(get_text(raw, "metadata", "uid"), project_event(raw))


@dataclass(slots=True)
class _WatchedCollection(Generic[T]):
    """The objects of one watch, as far as they are relevant, and the state of the watch."""

    key: Callable[[T], str]
    is_relevant: Callable[[T], bool] = lambda item: True
    items: dict[str, T] = field(default_factory=dict)
    _all: tuple[T, ...] | None = None
    is_listed: bool = False
    last_seen_at: float = 0.0
    error: str | None = None

    def handle_event(self, event: WatchEvent[T], now: float) -> list[T]:
        """Apply an event; returns the deleted objects."""
        match event:
            case Disconnected():
                self.error = event.reason
                return []
            case Listed():
                fresh = {self.key(item): item for item in event.items if self.is_relevant(item)}
                deleted = [item for key, item in self.items.items() if key not in fresh]
                self.items, self.is_listed, self._all = fresh, True, None
            case Changed(kind="DELETED"):
                deleted = [event.item] if self.items.pop(self.key(event.item), None) is not None else []
                self._all = None
            case Changed():
                deleted = []
                if self.is_relevant(event.item):
                    self.items[self.key(event.item)], self._all = event.item, None
            case Connected():
                deleted = []
        self.last_seen_at, self.error = now, None
        return deleted

    @property
    def all(self) -> tuple[T, ...]:
        """The objects in the order of arrival; the same tuple until one of them changes."""
        if self._all is None:
            self._all = tuple(self.items.values())
        return self._all


class EndpointWatch:
    """Watches the EndpointSlices of one Service.

    Args:
        silence_timeout: seconds without news after which the watch is renewed.
    """

    def __init__(self, cluster: Cluster, service: str, *, silence_timeout: float = SILENCE_TIMEOUT) -> None:
        self._cluster = cluster
        self._service = service
        self._silence_timeout = silence_timeout
        self.slices: _WatchedCollection[EndpointSlice] = _WatchedCollection(lambda item: item.name)
        self._flattened: tuple[tuple[EndpointSlice, ...], tuple[EndpointFacts, ...]] = ((), ())

    async def follow(self, on_change: Callable[[], None] | None = None) -> None:
        """Keeps the slices current, and calls back after every event. Ends by cancellation."""
        events = self._cluster.watch(
            "apis/discovery.k8s.io/v1",
            "endpointslices",
            _project_slice,
            labels=f"{SERVICE_LABEL}={self._service}",
            silence_timeout=self._silence_timeout,
        )
        async with aclosing(events):
            async for event in events:
                self.slices.handle_event(event, time.monotonic())
                if on_change is not None:
                    on_change()

    @property
    def endpoints(self) -> tuple[EndpointFacts, ...]:
        """The endpoints in all slices; the same tuple until one of them changes."""
        slices = self.slices.all
        if slices is not self._flattened[0]:
            self._flattened = slices, tuple(endpoint for piece in slices for endpoint in piece.endpoints)
        return self._flattened[1]


class DeploymentWatch:
    """Watches one Deployment and all that belongs to it.

    Args:
        service: its EndpointSlices show which pods serve; where it does not exist, readiness is used.
        container: its image is the version; None takes the first.
        for_screen: also watch the EndpointSlices and Events, which snapshots show.
        silence_timeout: seconds without news after which a watch is renewed; those of Events after `SILENCE_TIMEOUT`.
    """

    def __init__(
        self,
        cluster: Cluster,
        deployment: str,
        *,
        service: str | None = None,
        container: str | None = None,
        for_screen: bool = True,
        silence_timeout: float = SILENCE_TIMEOUT,
    ) -> None:
        self._cluster = cluster
        self._name = deployment
        self._container = container
        self._for_screen = for_screen
        self._silence_timeout = silence_timeout
        self._deployments: _WatchedCollection[DeploymentView] = _WatchedCollection(lambda item: item.name)
        self._sets: _WatchedCollection[ReplicaSetView] = _WatchedCollection(lambda item: item.uid)
        self._pods: _WatchedCollection[PodFacts] = _WatchedCollection(lambda item: item.uid)
        self._endpoints = EndpointWatch(cluster, service or deployment, silence_timeout=silence_timeout)
        self._events: _WatchedCollection[_Event] = _WatchedCollection(
            lambda item: item.uid, lambda item: _is_about_deployment(item.view.object, deployment)
        )
        self._views: tuple[tuple[_Event, ...], tuple[EventView, ...]] = ((), ())
        self._deleted_pods: dict[str, tuple[float, PodFacts]] = {}
        self._keeps_deleted_pods = False  # snapshots show them for a while, and drop them
        self._snapshot_builder = SnapshotBuilder()
        self._changed = asyncio.Event()
        self._started = time.monotonic()
        self._selector = ""
        self._selected: list[asyncio.Task[None]] = []

    async def run(self, on_change: Callable[[WorkloadSnapshot], None]) -> None:
        """Call back with a new snapshot after every change and every bookmark. Ends only by cancellation.

        The first call comes when everything was listed once, or when a list failed.
        """
        self._keeps_deleted_pods = True
        await self.follow(lambda: on_change(self.snapshot()))

    async def follow(self, on_change: Callable[[], None] | None = None) -> None:
        """Keeps the objects current, and calls back as :meth:`run` does, without snapshots. Ends by cancellation."""
        self._started = time.monotonic()
        limiter = RateLimiter(MIN_INTERVAL, MIN_INTERVAL / 2)
        async with asyncio.TaskGroup() as group:
            self._start_watches(group)
            while on_change is not None:
                await self._wait_for_change()
                if wait := limiter.seconds_until_allowed(time.monotonic()):
                    await asyncio.sleep(wait)
                self._changed.clear()
                if self.is_complete or self.error:
                    limiter.record(time.monotonic())
                    on_change()

    def _start_watches(self, group: asyncio.TaskGroup) -> None:
        group.create_task(self._watch_deployment(group))
        if self._for_screen:
            group.create_task(self._endpoints.follow(self._changed.set))
            group.create_task(self._watch(self._events, "api/v1", "events", _project_event, silence=SILENCE_TIMEOUT))

    async def _wait_for_change(self) -> None:
        limit = TICK if self._snapshot_builder.depends_on_time or self._deleted_pods else None
        try:
            async with asyncio.timeout(limit):
                await self._changed.wait()
        except TimeoutError:
            pass  # the elapsed time is the change

    async def _watch(
        self,
        source: _WatchedCollection[T],
        api: str,
        resource: str,
        project: Callable[[Any], T],
        labels: str = "",
        fields: str = "",
        silence: float | None = None,
    ) -> None:
        events = self._cluster.watch(
            api, resource, project, labels=labels, fields=fields, silence_timeout=silence or self._silence_timeout
        )
        async with aclosing(events):
            async for event in events:
                now = time.monotonic()
                for item in source.handle_event(event, now):
                    if self._keeps_deleted_pods and isinstance(item, PodFacts):
                        self._deleted_pods[item.uid] = (now, item)
                self._changed.set()

    async def _watch_deployment(self, group: asyncio.TaskGroup) -> None:
        events = self._cluster.watch(
            "apis/apps/v1",
            "deployments",
            project_deployment,
            fields=f"metadata.name={self._name}",
            silence_timeout=self._silence_timeout,
        )
        async with aclosing(events):
            async for event in events:
                self._deployments.handle_event(event, time.monotonic())
                view = self._deployments.items.get(self._name)
                if view is not None and view.selector != self._selector:
                    await self._watch_selected(group, view.selector)
                self._changed.set()

    async def _watch_selected(self, group: asyncio.TaskGroup, selector: str) -> None:
        """Watch the objects of the selector; a Deployment that was created again may have another one."""
        for task in self._selected:
            task.cancel()
        await asyncio.gather(*self._selected, return_exceptions=True)
        self._selector = selector
        self._pods.is_listed = self._sets.is_listed = False

        def project(raw: Any) -> PodFacts:
            return project_pod(raw, self._container)

        self._selected = [
            group.create_task(self._watch(self._pods, "api/v1", "pods", project, labels=selector)),
            group.create_task(
                self._watch(self._sets, "apis/apps/v1", "replicasets", project_replica_set, labels=selector)
            ),
        ]

    @property
    def _sources(self) -> tuple[_WatchedCollection[Any], ...]:
        # Events are left out: without them a pane is empty, but the pods are still correct.
        sources = (self._deployments, self._sets, self._pods)
        return (*sources, self._endpoints.slices) if self._for_screen else sources

    @property
    def is_complete(self) -> bool:
        """Whether everything was listed once."""
        return all(source.is_listed for source in self._sources)

    @property
    def objects(self) -> tuple[DeploymentView | None, tuple[ReplicaSetView, ...], tuple[PodFacts, ...]]:
        """The Deployment, None where it does not exist, and everything that its selector finds."""
        return self._deployments.items.get(self._name), self._sets.all, self._pods.all

    @property
    def confirmed_at(self) -> float:
        """Monotonic time up to which every source is known to be current."""
        if self.is_absent:  # nothing else is watched
            return self._deployments.last_seen_at
        return min(source.last_seen_at or self._started for source in self._sources)

    @property
    def is_absent(self) -> bool:
        """Whether the server has no such Deployment."""
        return self._deployments.is_listed and not self._deployments.error and self._name not in self._deployments.items

    @property
    def error(self) -> str | None:
        """Why the newest data is unavailable; None while every source works."""
        if self._deployments.is_listed and self._name not in self._deployments.items:
            return f"no Deployment {self._name!r} in namespace {self._cluster.namespace!r}"
        return next((source.error for source in self._sources if source.error), None)

    def snapshot(self) -> WorkloadSnapshot:
        """Builds a snapshot of the present state. Countdowns stop where the cluster does not confirm that they run."""
        now = time.monotonic()
        confirmed_at = self.confirmed_at
        wall = time.time() - uncounted_seconds(now - confirmed_at)
        self._deleted_pods = {
            uid: deleted for uid, deleted in self._deleted_pods.items() if now - deleted[0] < SHOW_DELETED_SECONDS
        }
        if self._events.all is not self._views[0]:
            self._views = (self._events.all, tuple(event.view for event in self._events.all))
        objects = DeploymentObjects(
            self._deployments.items.get(self._name),
            self._sets.all,
            self._pods.all,
            self._endpoints.slices.all,
            self._views[1],
            tuple(pod for _, pod in self._deleted_pods.values()),
        )
        return self._snapshot_builder.build(
            objects,
            now=wall,
            clock_skew=self._cluster.http.clock.skew,
            observed_at=confirmed_at,
            error=self.error,
        )


async def read_workload_snapshot(
    cluster: Cluster, deployment: str, *, service: str | None = None, container: str | None = None
) -> WorkloadSnapshot:
    """Reads a snapshot for a gate, directly from the server, without Events.

    The Deployment is read first: once its rollout is complete, no pod of an older template can appear, so the pods
    that are read later cannot miss one.

    Raises:
        ClusterError: as `Cluster.get_deployment`.
    """
    began = time.monotonic()
    view = await cluster.get_deployment(deployment)
    sets = await cluster.list_replica_sets(view.selector)
    endpoints = await cluster.list_endpoint_slices(service or deployment)
    pods = await cluster.list_pods(view.selector, container=container)
    slices = (EndpointSlice("", tuple(endpoints)),) if endpoints else ()
    return SnapshotBuilder().build(
        DeploymentObjects(view, tuple(sets), tuple(pods), slices),
        now=time.time(),
        clock_skew=cluster.http.clock.skew,
        observed_at=began,
        error=None,
    )


def _is_about_deployment(name: str, deployment: str) -> bool:
    """Whether an Event's object belongs to the Deployment, by the naming of its controller."""
    kind, _, name = name.partition("/")
    if kind in ("pod", "replicaset"):
        return name.startswith(deployment + "-")
    return kind in ("deployment", "service") and name == deployment

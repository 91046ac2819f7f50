"""The sources of standing conditions: watches of Kubernetes and Redis, one catalog query a second of PostgreSQL.

Each source keeps its newest facts and says how current they are. None of them raises: a system that cannot be read has
an error, and its conditions become unknown.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeVar

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.services import SERVICES, get_raw_object
from zdd_tui.backends.kubernetes.watch import Changed, Disconnected, Listed
from zdd_tui.backends.postgres.condition_queries import ReliedObjects, read_database_facts, read_operation_facts
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, translate_error
from zdd_tui.backends.redis_changes import watch_changes
from zdd_tui.engine.context import Context
from zdd_tui.model.errors import BackendError, ZddError
from zdd_tui.model.operations.relied_objects import ReliedObjectsOfPlan, relied_objects
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.plan.strategies import BlueGreenPlan
from zdd_tui.model.release.condition_findings import DatabaseFacts, DeploymentFacts
from zdd_tui.model.workload.second_deployment import ServiceView, project_service

T = TypeVar("T")

READ_INTERVAL = 1.0
"""Seconds between two catalog queries."""

READ_TIMEOUT = 5.0
"""Seconds for one reading of a system."""


@dataclass(slots=True)
class SourceState(Generic[T]):
    """The newest facts of one source.

    Attributes:
        value: None before the first reading.
        began_at: monotonic seconds; changes before this time are in `value`.
        error: why newer facts are missing; empty while the source works.
        hint: what to do about it; empty where nobody has said so.
        failed_at: monotonic seconds of the first failure since the last success.
        is_live: a watch keeps `value` current, however old it is.
    """

    value: T | None = None
    began_at: float = 0.0
    error: str = "not read yet"
    hint: str = ""
    failed_at: float = 0.0
    is_live: bool = False

    def succeed(self, value: T, began_at: float, *, is_live: bool = False) -> bool:
        """Returns whether this changes the state. An equal value stays the object that it is."""
        is_new = bool(self.error) or self.value != value
        if is_new:
            self.value = value
        self.began_at, self.error, self.failed_at, self.is_live = began_at, "", 0.0, is_live
        return is_new

    def fail(self, reason: str, hint: str = "") -> bool:
        """Returns whether this changes the state."""
        is_new = self.error != reason
        if not self.error or not self.failed_at:
            self.failed_at = time.monotonic()
        self.error, self.hint, self.is_live = reason, hint, False
        return is_new


class KubernetesSource:
    """The Deployments of the plan with their pods, and for blue/green the Service that is switched."""

    def __init__(self, ctx: Context, on_change: Callable[[], None]) -> None:
        self._plan = ctx.workload_plan
        self._cluster: Cluster = ctx.cluster
        self._workloads = ctx.workloads
        self._on_change = on_change
        started = time.monotonic()
        self.workloads = {name: SourceState[DeploymentFacts](failed_at=started) for name in ctx.plan.workloads}
        self.service = SourceState[ServiceView | None](failed_at=started)

    async def run(self) -> None:
        """Watches until cancelled. The Deployments' watches are those of the gates: `WorkloadCache.run` keeps them."""
        async with asyncio.TaskGroup() as group:
            for name in self.workloads:
                group.create_task(self._watch_workload(name))
            if isinstance(self._plan, BlueGreenPlan):
                group.create_task(self._watch_service(self._plan.service))

    async def _watch_workload(self, name: str) -> None:
        observation = self.workloads[name]

        def update(watch: DeploymentWatch) -> None:
            if not watch.is_absent and watch.error:
                is_new = observation.fail(watch.error)
            else:
                is_new = observation.succeed(DeploymentFacts(*watch.objects), time.monotonic(), is_live=True)
            if is_new:  # a watch also reports that nothing has changed
                self._on_change()

        await self._workloads.follow(name, update)

    async def _watch_service(self, name: str) -> None:
        events = self._cluster.watch(*SERVICES, project_service, fields=f"metadata.name={name}")
        current: ServiceView | None = None
        async with aclosing(events):
            async for event in events:
                match event:
                    case Disconnected():
                        self.service.fail(event.reason)
                    case Listed():
                        current = event.items[0] if event.items else None
                    case Changed():
                        current = None if event.kind == "DELETED" else event.item
                if not isinstance(event, Disconnected):
                    self.service.succeed(current, time.monotonic(), is_live=True)
                self._on_change()

    async def read_workload(self, name: str) -> None:
        """Reads a Deployment and its pods now, past the watch."""
        began, observation = time.monotonic(), self.workloads[name]
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                view = await self._cluster.get_deployment(name)
                sets, pods = await asyncio.gather(
                    self._cluster.list_replica_sets(view.selector),
                    self._cluster.list_pods(view.selector, container=self._plan.kubernetes.container),
                )
            observation.succeed(DeploymentFacts(view, tuple(sets), tuple(pods)), began, is_live=observation.is_live)
        except KubeApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                observation.fail(error.title, error.hint)
            else:
                observation.succeed(DeploymentFacts(None), began, is_live=observation.is_live)
        except (BackendError, TimeoutError) as error:
            observation.fail(*_describe(error))

    async def read_service(self, name: str) -> None:
        """Reads the Service now, past the watch."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                raw = await get_raw_object(self._cluster, SERVICES, name)
            self.service.succeed(None if raw is None else project_service(raw), began, is_live=self.service.is_live)
        except (BackendError, TimeoutError) as error:
            self.service.fail(*_describe(error))


class FlagSource:
    """The stored values of the plan's flags."""

    def __init__(self, ctx: Context, on_change: Callable[[], None]) -> None:
        self._ctx = ctx
        self._keys = tuple(ctx.plan.flag_roles)
        self._on_change = on_change
        self.flags = SourceState[dict[str, str | None]](failed_at=time.monotonic())

    async def run(self) -> None:
        """Reads after every change, and once a second, until cancelled."""
        assert self._ctx.plan.redis_url is not None
        async with aclosing(watch_changes(self._ctx.plan.redis_url.get_secret_value())) as changes:
            async for _ in changes:
                if await self.read():
                    self._on_change()

    async def read(self) -> bool:
        """Reads the flags now; returns whether they, or the state of the source, have changed."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return self.flags.succeed(await self._ctx.flags.read_raw(self._keys), began)
        except (BackendError, TimeoutError) as error:
            return self.flags.fail(*_describe(error))


class DatabaseSource:
    """The catalog, as far as the plan relies on it, and the details of the steps."""

    def __init__(self, ctx: Context, on_change: Callable[[], None]) -> None:
        self._ctx = ctx
        self._on_change = on_change
        self.facts = SourceState[DatabaseFacts](failed_at=time.monotonic())
        self.relied: ReliedObjects | None = None
        self.operations: ReliedObjectsOfPlan | None = None

    async def run(self) -> None:
        """Reads once a second, until cancelled."""
        while True:
            if await self.read():
                self._on_change()
            await asyncio.sleep(READ_INTERVAL)

    async def read(self) -> bool:
        """Reads the catalog now; returns whether it, or the state of the source, has changed."""
        began = time.monotonic()
        plan = self._ctx.plan
        try:
            if self.relied is None and isinstance(plan, Plan):
                # Parsing the plan's SQL loads the parser.
                self.relied = await asyncio.to_thread(ReliedObjects.from_plan, plan)
            if self.operations is None and isinstance(plan, BaseOperationsPlan):
                self.operations = await asyncio.to_thread(relied_objects, plan)
            async with asyncio.timeout(READ_TIMEOUT), self._ctx.read_connection() as conn:
                release_id = self._ctx.store.release_id
                if self.operations is not None:
                    facts = await read_operation_facts(conn, release_id, self.operations)
                else:
                    facts = await read_database_facts(conn, release_id, self.relied)
                return self.facts.succeed(facts, began)
        except (ZddError, TimeoutError) as error:
            return self.facts.fail(*_describe(error))
        except CONNECTION_ERRORS as error:
            return self.facts.fail(*_describe(translate_error(error, plan.database.dsn.get_secret_value())))


def _describe(error: ZddError | TimeoutError) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    return (
        (error.title, error.hint) if isinstance(error, ZddError) else (f"no response within {READ_TIMEOUT:.0f} s", "")
    )

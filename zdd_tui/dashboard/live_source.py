"""Live sources of the dashboard state: one thread with its own event loop reads store, cluster and flags separately.

A lost source keeps its last value, with its age and its error, and is retried with backoff until the dashboard ends.
Modules that are slow to import (asyncpg, redis, the Kubernetes client) are imported here after the first paint.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zdd_tui.dashboard.live_queries import DISCONNECTED_LOG, NOT_CONNECTED, LiveQueries, failed_future
from zdd_tui.dashboard.live_views import EventCache, FlagCache, build_plan_view, describe_error, observe_pods
from zdd_tui.dashboard.state import DashboardState, Observed, UnavailableLog
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.agent_start import AgentStart
from zdd_tui.model.errors import DatabaseError, DatabaseUnavailable, ZddError
from zdd_tui.model.fleet.stored import require_known_cluster, require_known_value
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.queries import LogQuery, LogTail, Query
from zdd_tui.model.release.claims import FRESH_SECONDS, format_silence
from zdd_tui.model.release.delivery import VALID_SECONDS, Delivery
from zdd_tui.model.release.records import Actor, CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Release
from zdd_tui.model.workload.drain import has_leaving_pods
from zdd_tui.model.workload.rollout import WorkloadSnapshot
from zdd_tui.model.workload.route import canary_percentages

if TYPE_CHECKING:
    from zdd_tui.backends.store.client import Store
    from zdd_tui.model.ddl import Catalog
    from zdd_tui.model.doctor import Report

    Examine = Callable[[], Awaitable[Report]]

T = TypeVar("T")

READ_INTERVAL = 0.25
"""Minimum seconds between two readings of the store."""

HEARTBEAT_SECONDS = 1.0
"""Seconds after which the store is read without a notification: the reading holds the agent's age. Flags likewise."""

WATCH_SILENCE = 2.5
"""Seconds without news after which a watch of the cluster is renewed: an idle one is confirmed every two seconds, and
a frozen API server is known within three."""

RETRY_PAUSES = (0.2, 4.0)
"""Upper bounds in seconds of the first and of the longest pause before a lost source is retried."""

ANSWER_TIMEOUT = 60.0
"""Seconds of one wait for the result of a command; the wait is repeated."""

FIRST_PAINT_TIMEOUT = 1.0
"""Maximum seconds to wait for the first paint before reading starts."""

SESSIONS_INTERVAL = 2.0
"""Seconds between two counts of the database's sessions."""

SESSIONS_TIMEOUT = 3.0

NEWER_RELEASE_INTERVAL = 2.0
"""Seconds between two checks for a newer release of the plan."""


class Slot(StrEnum):
    """A field of :class:`DashboardState` that a source fills with an :class:`Observed` value."""

    RELEASE = "release"
    WORKLOAD = "workload"
    SECOND_WORKLOAD = "second_workload"
    FLAGS = "flags"
    DOCTOR_REPORT = "doctor_report"
    SESSIONS = "sessions"
    ROUTE_WEIGHT = "route_weight"


_SYSTEMS = {
    Slot.RELEASE: "PostgreSQL",
    Slot.WORKLOAD: "Kubernetes",
    Slot.SECOND_WORKLOAD: "Kubernetes",
    Slot.FLAGS: "Redis",
    Slot.ROUTE_WEIGHT: "Kubernetes",
}
"""What is read for each part of the state that has an age."""


class LiveSource:
    """A :class:`zdd_tui.dashboard.state.StateSource` over the real systems.

    Args:
        plan: its newest release is shown.
        actor: the sender of commands.
        doctor: examines the release; runs in this thread's loop. None if unavailable.
        path: of the plan's file, for the plan screen; empty without a file.
        release_id: shows this release, and no newer one of the plan; None for the newest.

    Attributes:
        starter: starts an agent in the background, and reports to :meth:`report_agent_start`; None if unavailable.
    """

    def __init__(
        self,
        plan: BasePlan,
        *,
        actor: Actor,
        doctor: "Examine | None" = None,
        path: str = "",
        release_id: int | None = None,
    ) -> None:
        self._plan = plan
        self._pinned_id = release_id
        self._actor = actor
        self._doctor = doctor
        self._state = DashboardState(build_plan_view(plan, path))
        self._callbacks: list[Callable[[], None]] = []
        self._screen_ready = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._is_callback_scheduled = False
        self.starter: Callable[[], None] | None = None
        self._store: Store | None = None
        self._release_id: int | None = None
        self._catalog: Catalog | None = None
        self._missing: set[str] = set()
        self._catalog_of: tuple[object, ...] = ()
        self._event_cache = EventCache()
        self._flag_cache = FlagCache(plan)
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._live_queries = LiveQueries(plan, path)
        self._delivery_task: asyncio.Task[Any] | None = None

    # --- for the screens, from any thread ------------------------------------------------------------------------

    def start(self, *, wait_for_screen: float = FIRST_PAINT_TIMEOUT) -> None:
        """Starts reading, after the first paint or the given seconds."""
        self._thread = threading.Thread(target=self._run, args=(wait_for_screen,), name="zdd-live-source", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> bool:
        """Stops every source; True if the thread has ended within the timeout in seconds."""
        self._stopping.set()
        self._screen_ready.set()
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(main.cancel)
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def wait_for_screen(self, seconds: float = FIRST_PAINT_TIMEOUT) -> None:
        """Returns when a screen subscribes, or after the given seconds: the first paint gets the processor."""
        self._screen_ready.wait(seconds)

    def state(self) -> DashboardState:
        return self._state

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        self._screen_ready.set()

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        loop = self._running_loop()
        return failed_future() if loop is None else asyncio.run_coroutine_threadsafe(self._send(request), loop)

    def stop_session(self, request: StopRequest) -> "Future[bool]":
        loop = self._running_loop()
        return failed_future() if loop is None else asyncio.run_coroutine_threadsafe(self._stop_session(request), loop)

    def run_doctor(self) -> None:
        if loop := self._running_loop():
            loop.call_soon_threadsafe(self._start_doctor)

    def start_agent(self) -> None:
        if self.starter is None:
            self.report_agent_start(
                AgentStart("failed", time.monotonic(), error="this dashboard has no plan file", hint="zdd agent PLAN")
            )
        else:
            # It takes seconds until there is a process: the key has had its effect before that.
            self.report_agent_start(AgentStart("starting", time.monotonic()))
            self.starter()

    def report_agent_start(self, start: AgentStart | None) -> None:
        """Publishes what became of an agent that was started; call it from any thread. None: it has ended well."""
        if loop := self._running_loop():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(partial(self._publish, agent_start=start))

    def fetch(self, query: "Query[T]") -> "Future[T]":
        loop = self._running_loop()
        if loop is None:
            return failed_future()
        return asyncio.run_coroutine_threadsafe(self._live_queries.execute(query, self._store, self._release_id), loop)

    def follow_log(self, query: LogQuery) -> LogTail:
        loop = self._running_loop()
        return UnavailableLog(DISCONNECTED_LOG) if loop is None else self._live_queries.follow_log(query, loop)

    def _running_loop(self) -> asyncio.AbstractEventLoop | None:
        return None if self._loop is None or self._loop.is_closed() else self._loop

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self, wait_for_screen: float) -> None:
        self.wait_for_screen(wait_for_screen)
        with suppress(asyncio.CancelledError):
            asyncio.run(self._run_sources())

    async def _run_sources(self) -> None:
        self._main = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            return
        sources: dict[Slot, Callable[[], Awaitable[None]]] = {Slot.RELEASE: self._watch_store}
        for slot, deployment in zip((Slot.WORKLOAD, Slot.SECOND_WORKLOAD), self._plan.workloads, strict=False):
            sources[slot] = partial(self._watch_pods, slot, deployment)
        sources[Slot.SESSIONS] = self._watch_sessions
        if isinstance(self._plan, CanaryPlan) and self._plan.canary.route is not None:
            sources[Slot.ROUTE_WEIGHT] = partial(self._watch_route, self._plan, self._plan.canary.route)
        if self._plan.redis_url is not None:
            sources[Slot.FLAGS] = self._watch_flags
        async with aclosing(self._live_queries), asyncio.TaskGroup() as group:
            for slot, read in sources.items():
                group.create_task(self._run_source(slot, read))
            group.create_task(self._report_silence([slot for slot in sources if slot in _SYSTEMS]))

    async def _run_source(self, slot: Slot, read: Callable[[], Awaitable[None]]) -> None:
        """Runs a source until cancelled; publishes the error of each attempt that ends."""
        from zdd_tui.backends.backoff import Backoff  # noqa: PLC0415  # backends are for later than the first paint

        first, longest = RETRY_PAUSES
        backoff = Backoff(first, longest, reset_after=2 * longest)
        while True:
            try:
                await read()
            except Exception as error:
                # Includes bugs: in an incident a screen with one dead pane is better than none.
                self._publish_error(slot, *describe_error(slot, error))
            await backoff.sleep()

    async def _report_silence(self, slots: Sequence[Slot]) -> None:
        """Says which system has not responded since the start, before the first attempt gives up with an error."""
        began = time.monotonic()
        await asyncio.sleep(FRESH_SECONDS)
        noted: dict[Slot, str] = {}
        while slots:
            seen: dict[Slot, Observed[object]] = {slot: getattr(self._state, slot) for slot in slots}
            slots = [slot for slot, each in seen.items() if each.age(0.0) is None and each.error == noted.get(slot, "")]
            for slot in slots:
                noted[slot] = f"{_SYSTEMS[slot]} has not responded for {format_silence(time.monotonic() - began)}"
                self._publish_error(slot, noted[slot])
            await asyncio.sleep(1.0)

    def _start_side_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)

    # --- publishing ----------------------------------------------------------------------------------------------

    def _publish(self, **changes: object) -> None:
        """Replaces parts of the state; notifies the screens if more than an age has changed. For this thread only."""
        before = self._state
        self._state = replace(before, **changes)  # type: ignore[arg-type]
        if any(getattr(before, name) != value for name, value in changes.items()):
            self._schedule_callbacks()

    def _publish_value(self, slot: Slot, value: Observed[object]) -> None:
        self._publish(**{slot: value})

    def _publish_error(self, slot: Slot, title: str, hint: str = "") -> None:
        """Adds an error to the last known value, which keeps its age."""
        self._publish_value(slot, replace(getattr(self._state, slot), error=title, hint=hint))

    def _schedule_callbacks(self) -> None:
        if not self._is_callback_scheduled and self._loop is not None:
            self._is_callback_scheduled = True
            self._loop.call_soon(self._run_callbacks)  # once for all changes of this iteration of the loop

    def _run_callbacks(self) -> None:
        self._is_callback_scheduled = False
        for callback in self._callbacks:
            callback()

    # --- store ---------------------------------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        from zdd_tui.backends.postgres.connection import describe_dsn  # noqa: PLC0415  # slow: after the first paint
        from zdd_tui.backends.store.client import Store  # noqa: PLC0415

        dsn = self._plan.database.dsn.get_secret_value()
        self._publish(plan=replace(self._state.plan, database=describe_dsn(dsn)))
        timeout = self._plan.database.connect_timeout
        async with await Store.open(dsn, application_name="zdd dashboard", timeout=timeout) as store:
            try:
                self._store = store
                while (release_id := self._pinned_id or await store.find_release(self._plan.name)) is None:
                    start = self._state.agent_start
                    if start is not None and start.status == "failed":
                        self._publish_error(Slot.RELEASE, start.error, start.hint)
                    else:
                        title = f"{store.address} has no release {self._plan.name}"
                        hint = "start it with zdd open PLAN or zdd agent PLAN"
                        # The database has answered: there is nothing to read yet.
                        self._publish_value(Slot.RELEASE, Observed(None, time.monotonic(), title, hint))
                    await asyncio.sleep(HEARTBEAT_SECONDS)
                while True:
                    self._release_id = release_id
                    release_id = await self._watch_release(store, release_id)
            finally:
                self._store = None

    async def _watch_release(self, store: "Store", release_id: int) -> int:
        """Reads a release until a newer one of the plan exists; returns the newer one."""
        checked_at = time.monotonic()
        async with aclosing(
            store.watch_changes(release_id, idle_timeout=HEARTBEAT_SECONDS, on_connection=self._on_store_connection)
        ) as changes:
            async for _ in changes:
                read_at = time.monotonic()
                try:
                    if self._may_have_successor() and read_at - checked_at >= NEWER_RELEASE_INTERVAL:
                        checked_at = read_at
                        newest = await store.find_release(self._plan.name)
                        if newest is not None and newest != release_id:
                            return newest
                    event_count = self._event_cache.events_to_read(release_id)
                    reading = await store.read_release(release_id, events=event_count)
                    record = self._event_cache.merge(reading, event_count)
                except DatabaseError as error:
                    self._publish_error(Slot.RELEASE, error.title, error.hint)
                else:
                    self._publish(release=Observed(record, read_at), **self._build_previews(record.release))
                    self._schedule_catalog_read(record)
                await asyncio.sleep(READ_INTERVAL)
        return release_id  # not reached: changes never ends

    def _may_have_successor(self) -> bool:
        """A plan has one active release at most: a newer one exists only after this one has ended or was deleted."""
        if self._pinned_id is not None:
            return False
        known = self._state.release
        return bool(known.error) or (known.value is not None and known.value.release.state.has_ended)

    def _on_store_connection(self, connected: bool, error: str) -> None:
        if not connected:
            self._publish_error(Slot.RELEASE, error, "check that PostgreSQL runs and that this machine reaches it")

    def _build_previews(self, release: Release) -> dict[str, object]:
        """What each command would run; computed only when the release has changed."""
        known = self._state.release.value
        if known is not None and known.release == release and self._state.previews:
            return {}
        from zdd_tui.model.release.preview import preview_blocks  # noqa: PLC0415  # imports an SQL parser

        blocks = self._state.blocks or preview_blocks(self._plan)
        return {"previews": self._preview_commands(release), "blocks": blocks}

    def _preview_commands(self, release: Release) -> Mapping[CommandKind, tuple[str, ...]]:
        from zdd_tui.model.release.preview import preview_command  # noqa: PLC0415  # imports an SQL parser

        return {kind: preview_command(self._plan, release, kind, self._catalog, self._missing) for kind in CommandKind}

    def _set_missing(self, names: set[str]) -> None:
        """Which Deployments do not exist; the preview of a rollback says so."""
        known = self._state.release.value
        if names != self._missing:
            self._missing = names
            if known is not None:
                self._publish(previews=self._preview_commands(known.release))

    def _schedule_catalog_read(self, record: ReleaseRecord) -> None:
        """Reads the catalog after each phase, as tables change; in a task of its own, so that readings continue."""
        position = (record.release.state, record.release.phase)
        if isinstance(self._plan, Plan) and position != self._catalog_of:
            self._catalog_of = position
            self._start_side_task(self._read_catalog(self._plan, record.release))

    async def _read_catalog(self, plan: Plan, release: Release) -> None:
        from zdd_tui.backends.postgres.catalog import read_catalog  # noqa: PLC0415  # slow: after the first paint
        from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect  # noqa: PLC0415

        dsn = plan.database.dsn.get_secret_value()
        try:
            connection = await connect(dsn, application_name="zdd dashboard", timeout=5.0)
            try:
                self._catalog = await read_catalog(connection, plan)
            finally:
                connection.terminate()
        except (ZddError, *CONNECTION_ERRORS):
            self._catalog = None  # previews then describe the statements
        current = self._state.release.value
        if current is not None and current.release == release:
            self._publish(previews=self._preview_commands(release))

    async def _send(self, request: CommandRequest) -> StoredCommand:
        """Delivers a command and waits for the agent's result; the state has the progress of the delivery."""
        from zdd_tui.backends.store.delivery import deliver_command  # noqa: PLC0415  # slow: after the first paint

        before, self._delivery_task = self._delivery_task, asyncio.current_task()
        if before is not None:  # a rollback overtakes a command that is not stored yet
            before.cancel()
        delivery = Delivery(request.request_id, time.monotonic())
        self._publish(delivery=delivery)

        def on_failure(error: DatabaseError) -> None:
            self._publish(delivery=delivery.attempt_failed(error.title, error.hint))

        try:
            command_id = await deliver_command(partial(self._attempt_to_send, request), on_failure)
        except DatabaseError as error:
            self._publish(delivery=delivery.given_up(error.title, error.hint))
            raise
        finally:
            if self._delivery_task is asyncio.current_task():
                self._delivery_task = None
        self._publish(delivery=delivery.stored())
        while True:
            try:
                if self._store is not None:
                    stored = await self._store.wait_command(command_id, ANSWER_TIMEOUT)
                    if stored.status != "queued":
                        return stored
                    continue
            except DatabaseError:
                pass  # the command is stored; only its result cannot be read now
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _attempt_to_send(self, request: CommandRequest) -> int:
        source, server_now = self._state.release, self._state.server_now(time.monotonic())
        if self._release_id is None:
            raise DatabaseError(*((source.error, source.hint) if source.error else NOT_CONNECTED))
        if self._store is None:
            # The error is of a reading that began before the command, perhaps longer ago than its attempts last.
            last = (f"not connected; last: {source.error}", source.hint)
            raise DatabaseUnavailable(*(last if source.error else NOT_CONNECTED))
        valid_until = None if server_now is None else server_now + VALID_SECONDS
        return await self._store.send_command(self._release_id, request, actor=self._actor, valid_until=valid_until)

    async def _stop_session(self, request: StopRequest) -> bool:
        if self._store is None or self._release_id is None:
            raise DatabaseError(*NOT_CONNECTED)
        return await self._store.stop_session(self._release_id, request, actor=self._actor)

    # --- doctor --------------------------------------------------------------------------------------------------

    def _start_doctor(self) -> None:
        """Starts an examination, unless one is running."""
        if self._doctor is None:
            self._publish_error(Slot.DOCTOR_REPORT, "this dashboard has no doctor", "run `zdd doctor PLAN`")
        elif not self._state.is_doctor_running:
            self._publish(is_doctor_running=True)
            self._start_side_task(self._run_doctor(self._doctor))

    async def _run_doctor(self, doctor: "Examine") -> None:
        try:
            report = await doctor()
        except Exception as error:
            self._publish_error(Slot.DOCTOR_REPORT, *describe_error("doctor", error))
        else:
            self._publish_value(Slot.DOCTOR_REPORT, Observed(report, time.monotonic()))
        finally:
            self._publish(is_doctor_running=False)

    # --- cluster -------------------------------------------------------------------------------------------------

    async def _watch_pods(self, slot: Slot, deployment: str) -> None:
        from zdd_tui.backends.kubernetes.cluster import Cluster  # noqa: PLC0415  # slow: after the first paint
        from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch  # noqa: PLC0415

        is_second = slot is Slot.SECOND_WORKLOAD
        assert isinstance(self._plan, WorkloadPlan), "a plan without a Deployment has no pods to watch"
        names = self._plan.kubernetes
        require_known_cluster(self._plan)
        async with Cluster.connect(names.kubeconfig, names.context, names.namespace, check=False) as cluster:
            # With a gateway the pods of the second Deployment have a Service of their own.
            service = self._plan.services[-1 if is_second else 0]
            watch = DeploymentWatch(
                cluster, deployment, service=service, container=names.container, silence_timeout=WATCH_SILENCE
            )

            def publish_pods(snapshot: WorkloadSnapshot) -> None:
                # The second Deployment exists only during parts of the release: its absence is no error.
                is_absent = is_second and watch.is_absent
                if not is_second:
                    self._set_missing({deployment} if watch.is_absent else set())
                seen = observe_pods(snapshot, is_absent=watch.is_absent)
                self._publish_value(slot, Observed(None, snapshot.observed_at) if is_absent else seen)

            await watch.run(publish_pods)

    async def _watch_sessions(self) -> None:
        """Counts the sessions of the database while a pod leaves."""
        from zdd_tui.backends.postgres.activity import read_sessions  # noqa: PLC0415  # slow: after the first paint

        while True:
            store = self._store
            if store is not None and any(has_leaving_pods(each.pods) for each in self._state.workloads):
                read_at = time.monotonic()
                async with asyncio.timeout(SESSIONS_TIMEOUT):
                    self._publish_value(Slot.SESSIONS, Observed(await read_sessions(store.pool), read_at))
            await asyncio.sleep(SESSIONS_INTERVAL)

    async def _watch_route(self, plan: CanaryPlan, route: str) -> None:
        """Reads the share of the requests that the HTTPRoute gives to the canary."""
        from zdd_tui.backends.kubernetes.cluster import Cluster  # noqa: PLC0415  # slow: after the first paint
        from zdd_tui.backends.kubernetes.routes import get_route  # noqa: PLC0415

        names = plan.kubernetes
        require_known_cluster(plan)
        async with Cluster.connect(names.kubeconfig, names.context, names.namespace, check=False) as cluster:
            while True:
                read_at = time.monotonic()
                view = await get_route(cluster, route)
                shares = canary_percentages(view, plan.service, plan.canary_service)
                # Rules with several shares have no single weight, and a Gateway may not have observed the newest ones.
                is_known = len(set(shares)) == 1 and not view.pending_reason
                self._publish_value(Slot.ROUTE_WEIGHT, Observed(shares[0] if is_known else None, read_at))
                await asyncio.sleep(HEARTBEAT_SECONDS)

    # --- flags ---------------------------------------------------------------------------------------------------

    async def _watch_flags(self) -> None:
        from zdd_tui.backends.redis_flags import FlagStore, describe_redis_url  # noqa: PLC0415  # slow: after first paint

        assert self._plan.redis_url is not None
        url = self._plan.redis_url.get_secret_value()
        require_known_value(url, "flags.url")
        self._publish(plan=replace(self._state.plan, flags=describe_redis_url(url)))
        async with await FlagStore.connect(url) as store:
            while True:
                read_at = time.monotonic()
                values = await store.read_raw(tuple(self._plan.flag_roles))
                self._publish_value(Slot.FLAGS, Observed(self._flag_cache.update(values, time.time()), read_at))
                await asyncio.sleep(HEARTBEAT_SECONDS)

"""The sources of the board: one thread with its own event loop reads store, cluster and flags, each on its own.

A source that is lost keeps its last value, with its age and its error, and is tried again for ever with jitter. What
is heavy to import (asyncpg, redis, the cluster's client) is imported in this thread, after the first paint.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from zdd_tui.backends.backoff import Backoff
from zdd_tui.dashboard.live_queries import DisconnectedTail, LiveQueries, failed_future
from zdd_tui.dashboard.live_views import build_plan_view, describe_error, observe_pods
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.queries import LogQuery, LogTail, Query
from zdd_tui.model.release.records import Actor, CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Release
from zdd_tui.model.workload.rollout import WorkloadSnapshot

if TYPE_CHECKING:
    from zdd_tui.backends.store.client import Store
    from zdd_tui.model.ddl import Catalog
    from zdd_tui.model.doctor import Report

    Examine = Callable[[], Awaitable[Report]]

from zdd_tui.dashboard.live_views import build_flag_view
from zdd_tui.dashboard.state import FlagView
from zdd_tui.model.plan.strategies import CanaryPlan, DarkLaunchPlan
from zdd_tui.model.release.records import Event

# --- What the feeds remember from reading to reading: the whole audit, and when a flag was seen to change.


NEWEST_EVENTS = 50
"""Events in a usual reading."""

MAX_EVENTS = 5000
"""Events that are read and kept at most."""


class EventCache:
    """A release's events. Each reading brings the newest only; together they are all of them."""

    def __init__(self) -> None:
        self._release: int | None = None
        self._events: tuple[Event, ...] = ()
        self._may_have_gap = True

    def events_to_read(self, release_id: int) -> int:
        """How many events to read: all of them at first, and where some may have been missed."""
        return MAX_EVENTS if self._may_have_gap or release_id != self._release else NEWEST_EVENTS

    def merge(self, record: ReleaseRecord, requested: int) -> ReleaseRecord:
        """The reading, with every event known.

        Args:
            requested: what :meth:`events_to_read` had said for it.
        """
        read = record.events
        if record.id != self._release or requested == MAX_EVENTS:
            new = read != self._events
            self._release, self._may_have_gap = record.id, False
            self._events = read if new else self._events
        else:
            last = self._events[-1].id if self._events else 0
            fresh = tuple(event for event in read if event.id > last)
            self._may_have_gap = len(fresh) == len(read) >= requested
            if fresh:
                self._events = (*self._events, *fresh)[-MAX_EVENTS:]
        return replace(record, events=self._events)


class FlagCache:
    """A plan's flags, with who answers for them and when they were seen to change."""

    def __init__(self, plan: BasePlan) -> None:
        self._roles = plan.flag_roles
        self._owner, self._expires = _find_owner(plan)
        self._raw: dict[str, str | None] = {}
        self._changed: dict[str, float] = {}

    def update(self, raw: Mapping[str, str | None], now: float) -> tuple[FlagView, ...]:
        """What the screens show of a reading.

        Args:
            raw: the stored values, by key.
            now: seconds since the epoch.
        """
        for key, value in raw.items():
            if key in self._raw and self._raw[key] != value:
                self._changed[key] = now
            self._raw[key] = value
        return tuple(
            replace(
                build_flag_view(key, role, raw[key]),
                owner=self._owner,
                expires=self._expires,
                changed_at=self._changed.get(key),
            )
            for key, role in self._roles.items()
        )


def _find_owner(plan: BasePlan) -> tuple[str, str]:
    """Who answers for the plan's flags, and the day on which they should be gone; empty where nobody said."""
    flags = plan.flags if isinstance(plan, Plan | DarkLaunchPlan) else None
    found = plan.canary.flag if isinstance(plan, CanaryPlan) else flags
    if found is None:
        return "", ""
    return found.owner or "", found.expires.isoformat() if found.expires else ""


# --- end


T = TypeVar("T")

READ_INTERVAL = 0.25
"""Seconds between two readings of the store, however much it changes."""

HEARTBEAT_SECONDS = 1.0
"""Seconds after which the store is read although it told of no change: the agent's age is in it. Flags likewise."""

RETRY_PAUSES = (0.2, 4.0)
"""First and longest pause before a lost source is tried again; each is drawn from half of it to all of it."""

ANSWER_TIMEOUT = 60.0

FIRST_PAINT_TIMEOUT = 1.0
"""At most so long is the processor left to the first paint."""

NEWER_RELEASE_INTERVAL = 2.0
"""Seconds between two looks for a newer release of the plan's name."""


class LiveSource:
    """A :class:`zdd_tui.dashboard.state.StateSource` over the real systems.

    Args:
        plan: whose release is shown: the newest one of its name.
        actor: in whose name commands are sent.
        run_doctor: examines the release; awaited in this thread's loop. None where nobody can.
        path: of the plan's file, for its screen.

    `no_agent` tells why the agent that was started has ended; it is shown where there is no release.
    """

    def __init__(self, plan: BasePlan, *, actor: Actor, doctor: "Examine | None" = None, path: str = "") -> None:
        self._plan = plan
        self._actor = actor
        self._doctor = doctor
        self._state = DashboardState(build_plan_view(plan))
        self._callbacks: list[Callable[[], None]] = []
        self._screen_ready = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._callback_scheduled = False
        self.agent_error: ZddError | None = None
        self._store: Store | None = None
        self._release_id: int | None = None
        self._catalog: Catalog | None = None
        self._catalog_of: tuple[object, ...] = ()
        self._event_cache = EventCache()
        self._flag_cache = FlagCache(plan)
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._live_queries = LiveQueries(plan, path)

    # --- for the screens, from any thread ------------------------------------------------------------------------

    def start(self, *, wait_for_screen: float = FIRST_PAINT_TIMEOUT) -> None:
        """Begins to read, after the first paint or so many seconds."""
        self._thread = threading.Thread(target=self._run, args=(wait_for_screen,), name="zdd-feeds", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> bool:
        """Ends every feed; True when the thread has ended within the time."""
        self._stopping.set()
        self._screen_ready.set()
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with suppress(RuntimeError):  # the loop may have ended by itself
                loop.call_soon_threadsafe(main.cancel)
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def wait_for_screen(self, seconds: float = FIRST_PAINT_TIMEOUT) -> None:
        """Leaves the processor to the first paint: returns when a screen subscribes, or after so many seconds."""
        self._screen_ready.wait(seconds)

    def state(self) -> DashboardState:
        return self._state

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        self._screen_ready.set()

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        loop = self._loop
        if loop is None or loop.is_closed():
            failed: Future[StoredCommand] = Future()
            failed.set_exception(DatabaseError("the database is not connected yet", "wait a moment, then repeat it"))
            return failed
        return asyncio.run_coroutine_threadsafe(self._send(request), loop)

    def run_doctor(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._start_doctor)

    def fetch(self, query: "Query[T]") -> "Future[T]":
        loop = self._loop
        if loop is None or loop.is_closed():
            return failed_future()
        return asyncio.run_coroutine_threadsafe(self._live_queries.execute(query, self._store, self._release_id), loop)

    def follow_log(self, query: LogQuery) -> LogTail:
        loop = self._loop
        return DisconnectedTail() if loop is None or loop.is_closed() else self._live_queries.follow_log(query, loop)

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
        async with aclosing(self._live_queries), asyncio.TaskGroup() as group:
            group.create_task(self._run_source_forever("release", self._watch_store))
            for slot, deployment in zip(("workload", "second_workload"), self._plan.workloads, strict=False):
                group.create_task(self._run_source_forever(slot, partial(self._watch_pods, slot, deployment)))
            if self._plan.redis_url is not None:
                group.create_task(self._run_source_forever("flags", self._watch_flags))

    async def _run_source_forever(self, source_name: str, read: Callable[[], Awaitable[None]]) -> None:
        """Runs a feed for ever; whatever ends it is told on the board."""
        backoff = Backoff(*RETRY_PAUSES, reset_after=2 * RETRY_PAUSES[1])
        while True:
            try:
                await read()
            except Exception as error:
                # Also a defect of ours: in an incident a screen with one dead pane is worth more than none.
                self._publish_error(source_name, *describe_error(source_name, error))
            await backoff.sleep()

    # --- slots ---------------------------------------------------------------------------------------------------

    def _publish(self, **changes: object) -> None:
        """Replaces parts of the board, telling the screens where more than an age is new. For the thread only."""
        before = self._state
        self._state = replace(before, **changes)  # type: ignore[arg-type]
        if any(getattr(before, name) != value for name, value in changes.items()):
            self._schedule_callbacks()

    def _publish_error(self, source_name: str, title: str, hint: str = "") -> None:
        """Keeps the last known value and its age, and tells why there is none newer."""
        self._publish(**{source_name: replace(getattr(self._state, source_name), error=title, hint=hint)})

    def _schedule_callbacks(self) -> None:
        if not self._callback_scheduled and self._loop is not None:
            self._callback_scheduled = True
            self._loop.call_soon(self._run_callbacks)  # what else changes in this turn of the loop is told with it

    def _run_callbacks(self) -> None:
        self._callback_scheduled = False
        for callback in self._callbacks:
            callback()

    # --- store ---------------------------------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        from zdd_tui.backends.postgres.connection import describe_dsn  # noqa: PLC0415  # heavy: after the first paint
        from zdd_tui.backends.store.client import Store  # noqa: PLC0415

        dsn = self._plan.database.dsn.get_secret_value()
        self._publish(plan=replace(self._state.plan, database=describe_dsn(dsn)))
        timeout = self._plan.database.connect_timeout
        async with await Store.open(dsn, application_name="zdd dashboard", timeout=timeout) as store:
            try:
                self._store = store
                while (found := await store.find_release(self._plan.name)) is None:
                    why = self.agent_error or ZddError(
                        f"{store.address} has no release {self._plan.name}",
                        "start it with zdd open PLAN or zdd agent PLAN",
                    )
                    self._publish_error("release", why.title, why.hint)
                    await asyncio.sleep(HEARTBEAT_SECONDS)
                while True:
                    self._release_id = found
                    found = await self._watch_release(store, found)
            finally:
                self._store = None

    async def _watch_release(self, store: "Store", release_id: int) -> int:
        """Reads a release until a newer one of its name is registered; returns that one."""
        looked_at = time.monotonic()
        async with aclosing(
            store.watch_changes(release_id, idle_timeout=HEARTBEAT_SECONDS, on_connection=self._on_store_connection)
        ) as changes:
            async for _ in changes:
                asked_at = time.monotonic()
                try:
                    if self._may_have_successor() and asked_at - looked_at >= NEWER_RELEASE_INTERVAL:
                        looked_at = asked_at
                        newest = await store.find_release(self._plan.name)
                        if newest is not None and newest != release_id:
                            return newest
                    asked = self._event_cache.events_to_read(release_id)
                    record = self._event_cache.merge(await store.read_release(release_id, events=asked), asked)
                except DatabaseError as error:
                    self._publish_error("release", error.title, error.hint)
                else:
                    self._publish(release=Observed(record, asked_at), **self._build_previews(record.release))
                    self._schedule_catalog_read(record)
                await asyncio.sleep(READ_INTERVAL)
        return release_id  # not reached: changes has no end

    def _may_have_successor(self) -> bool:
        """A name has one active release at most: another can only be there after this one's end, or its loss."""
        known = self._state.release
        return bool(known.error) or (known.value is not None and known.value.release.state.has_ended)

    def _on_store_connection(self, connected: bool, error: str) -> None:
        if not connected:
            self._publish_error("release", error, "check that PostgreSQL runs and that this machine reaches it")

    def _build_previews(self, release: Release) -> dict[str, object]:
        """What each command would run; made anew only when the release has moved."""
        from zdd_tui.model.release.preview import preview_command  # noqa: PLC0415  # it brings an SQL parser

        known = self._state.release.value
        if known is not None and known.release == release and self._state.previews:
            return {}
        return {"previews": {kind: preview_command(self._plan, release, kind, self._catalog) for kind in CommandKind}}

    def _schedule_catalog_read(self, record: ReleaseRecord) -> None:
        """The tables look different after each phase; what reads them must not hold up the feed."""
        moved = (record.release.state, record.release.phase)
        if isinstance(self._plan, Plan) and moved != self._catalog_of:
            self._catalog_of = moved
            task = asyncio.get_running_loop().create_task(self._read_catalog(self._plan, record.release))
            self._side_tasks.add(task)
            task.add_done_callback(self._side_tasks.discard)

    async def _read_catalog(self, plan: Plan, release: Release) -> None:
        from zdd_tui.backends.postgres.catalog import read_catalog  # noqa: PLC0415  # heavy: after the first paint
        from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect  # noqa: PLC0415
        from zdd_tui.model.release.preview import preview_command  # noqa: PLC0415

        try:
            connection = await connect(
                plan.database.dsn.get_secret_value(), application_name="zdd dashboard", timeout=5.0
            )
            try:
                self._catalog = await read_catalog(connection, plan)
            finally:
                connection.terminate()
        except (ZddError, *CONNECTION_ERRORS):
            self._catalog = None  # the preview describes what it cannot show
        previews = {kind: preview_command(plan, release, kind, self._catalog) for kind in CommandKind}
        current = self._state.release.value
        if current is not None and current.release == release:
            self._publish(previews=previews)

    async def _send(self, request: CommandRequest) -> StoredCommand:
        store, release_id = self._store, self._release_id
        if store is None or release_id is None:
            error = self._state.release.error
            raise DatabaseError(error or "the database is not connected yet", self._state.release.hint)
        command_id = await store.send_command(release_id, request, actor=self._actor)
        while True:
            try:
                stored = await store.wait_command(command_id, ANSWER_TIMEOUT)
            except DatabaseError:
                # It is sent; only its outcome cannot be read now.
                await asyncio.sleep(HEARTBEAT_SECONDS)
                continue
            if stored.status != "queued":
                return stored

    # --- doctor --------------------------------------------------------------------------------------------------

    def _start_doctor(self) -> None:
        """One at a time: whoever asks meanwhile gets the result of the one that is under way."""
        if self._doctor is None:
            self._publish_error("doctor_report", "this dashboard has no doctor", "run `zdd doctor PLAN`")
        elif not self._state.is_doctor_running:
            self._publish(is_doctor_running=True)
            task = asyncio.get_running_loop().create_task(self._run_doctor(self._doctor))
            self._side_tasks.add(task)
            task.add_done_callback(self._side_tasks.discard)

    async def _run_doctor(self, doctor: "Examine") -> None:
        try:
            report = await doctor()
        except Exception as error:
            self._publish_error("doctor_report", *describe_error("doctor", error))
        else:
            self._publish(doctor_report=Observed(report, time.monotonic()))
        finally:
            self._publish(is_doctor_running=False)

    # --- cluster -------------------------------------------------------------------------------------------------

    async def _watch_pods(self, source_name: str, deployment: str) -> None:
        from zdd_tui.backends.kubernetes.cluster import Cluster  # noqa: PLC0415
        from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch  # noqa: PLC0415  # heavy: after the first paint

        names = self._plan.kubernetes
        async with Cluster.connect(names.kubeconfig, names.context, names.namespace, check=False) as cluster:
            # By gateway the second Deployment's pods are in a Service of their own.
            service = self._plan.services[-1 if source_name == "second_workload" else 0]
            watch = DeploymentWatch(cluster, deployment, service=service, container=names.container)

            def changed(snapshot: WorkloadSnapshot) -> None:
                # The second Deployment comes and goes with the release: without it all is well.
                away = source_name == "second_workload" and watch.is_absent
                self._publish(**{source_name: Observed(None, snapshot.observed_at) if away else observe_pods(snapshot)})

            await watch.run(changed)

    # --- flags ---------------------------------------------------------------------------------------------------

    async def _watch_flags(self) -> None:
        from zdd_tui.backends.redis_flags import FlagStore, describe_redis_url  # noqa: PLC0415  # heavy: after the first paint

        assert self._plan.redis_url is not None
        url = self._plan.redis_url.get_secret_value()
        self._publish(plan=replace(self._state.plan, flags=describe_redis_url(url)))
        async with await FlagStore.connect(url) as store:
            while True:
                asked_at = time.monotonic()
                raw = await store.read_raw(tuple(self._plan.flag_roles))
                self._publish(flags=Observed(self._flag_cache.update(raw, time.time()), asked_at))
                await asyncio.sleep(HEARTBEAT_SECONDS)

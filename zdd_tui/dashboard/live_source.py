"""The sources of the board: one thread with its own event loop reads store, cluster and flags, each on its own.

A source that is lost keeps its last value, with its age and its error, and is tried again for ever with jitter. What
is heavy to import (asyncpg, redis, the cluster's client) is imported in this thread, after the first paint.
"""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from zdd_tui.dashboard.live_queries import Details, NoTail, not_started
from zdd_tui.dashboard.live_views import explained, plan_view, pods_source
from zdd_tui.dashboard.state import Board, Sourced
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

from zdd_tui.dashboard.live_views import flag_view
from zdd_tui.dashboard.state import FlagView
from zdd_tui.model.plan.strategies import CanaryPlan, DarkLaunchPlan
from zdd_tui.model.release.records import Event

# --- What the feeds remember from reading to reading: the whole audit, and when a flag was seen to change.


NEWEST = 50
"""Events in a usual reading."""

ALL = 5000
"""Events that are read and kept at most."""


class Audit:
    """A release's events. Each reading brings the newest only; together they are all of them."""

    def __init__(self) -> None:
        self._release: int | None = None
        self._events: tuple[Event, ...] = ()
        self._gap = True

    def wanted(self, release_id: int) -> int:
        """How many events to read: all of them at first, and where some may have been missed."""
        return ALL if self._gap or release_id != self._release else NEWEST

    def whole(self, record: ReleaseRecord, asked: int) -> ReleaseRecord:
        """The reading, with every event known.

        Args:
            asked: what :meth:`wanted` had said for it.
        """
        read = record.events
        if record.id != self._release or asked == ALL:
            new = read != self._events
            self._release, self._gap = record.id, False
            self._events = read if new else self._events
        else:
            last = self._events[-1].id if self._events else 0
            fresh = tuple(event for event in read if event.id > last)
            self._gap = len(fresh) == len(read) >= asked
            if fresh:
                self._events = (*self._events, *fresh)[-ALL:]
        return replace(record, events=self._events)


class FlagMemory:
    """A plan's flags, with who answers for them and when they were seen to change."""

    def __init__(self, plan: BasePlan) -> None:
        self._roles = plan.flag_roles
        self._owner, self._expires = _owner(plan)
        self._raw: dict[str, str | None] = {}
        self._changed: dict[str, float] = {}

    def views(self, raw: Mapping[str, str | None], now: float) -> tuple[FlagView, ...]:
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
                flag_view(key, role, raw[key]),
                owner=self._owner,
                expires=self._expires,
                changed_at=self._changed.get(key),
            )
            for key, role in self._roles.items()
        )


def _owner(plan: BasePlan) -> tuple[str, str]:
    """Who answers for the plan's flags, and the day on which they should be gone; empty where nobody said."""
    flags = plan.flags if isinstance(plan, Plan | DarkLaunchPlan) else None
    found = plan.canary.flag if isinstance(plan, CanaryPlan) else flags
    if found is None:
        return "", ""
    return found.owner or "", found.expires.isoformat() if found.expires else ""


# --- end


T = TypeVar("T")

READ_EVERY = 0.25
"""Seconds between two readings of the store, however much it changes."""

HEARTBEAT = 1.0
"""Seconds after which the store is read although it told of no change: the agent's age is in it. Flags likewise."""

PAUSES = (0.2, 4.0)
"""First and longest pause before a lost source is tried again; each is drawn from half of it to all of it."""

ANSWER_SECONDS = 60.0

SCREEN_SECONDS = 1.0
"""At most so long is the processor left to the first paint."""

NEWER_EVERY = 2.0
"""Seconds between two looks for a newer release of the plan's name."""


class Feeds:
    """A :class:`zdd_tui.dashboard.state.BoardSource` over the real systems.

    Args:
        plan: whose release is shown: the newest one of its name.
        actor: in whose name commands are sent.
        examine: examines the release; awaited in this thread's loop. None where nobody can.
        path: of the plan's file, for its screen.

    `no_agent` tells why the agent that was started has ended; it is shown where there is no release.
    """

    def __init__(self, plan: BasePlan, *, actor: Actor, examine: "Examine | None" = None, path: str = "") -> None:
        self._plan = plan
        self._actor = actor
        self._examiner = examine
        self._board = Board(plan_view(plan))
        self._callbacks: list[Callable[[], None]] = []
        self._watched = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._planned = False
        self.no_agent: ZddError | None = None
        self._store: Store | None = None
        self._release_id: int | None = None
        self._catalog: Catalog | None = None
        self._catalog_of: tuple[object, ...] = ()
        self._audit = Audit()
        self._flags = FlagMemory(plan)
        self._side_tasks: set[asyncio.Task[None]] = set()
        self._details = Details(plan, path)

    # --- for the screens, from any thread ------------------------------------------------------------------------

    def start(self, *, wait_for_screen: float = SCREEN_SECONDS) -> None:
        """Begins to read, after the first paint or so many seconds."""
        self._thread = threading.Thread(target=self._run, args=(wait_for_screen,), name="zdd-feeds", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> bool:
        """Ends every feed; True when the thread has ended within the time."""
        self._stopping.set()
        self._watched.set()
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with suppress(RuntimeError):  # the loop may have ended by itself
                loop.call_soon_threadsafe(main.cancel)
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def wait_for_screen(self, seconds: float = SCREEN_SECONDS) -> None:
        """Leaves the processor to the first paint: returns when a screen subscribes, or after so many seconds."""
        self._watched.wait(seconds)

    def board(self) -> Board:
        return self._board

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)
        self._watched.set()

    def send(self, request: CommandRequest) -> "Future[StoredCommand]":
        loop = self._loop
        if loop is None or loop.is_closed():
            failed: Future[StoredCommand] = Future()
            failed.set_exception(DatabaseError("the database is not connected yet", "wait a moment, then repeat it"))
            return failed
        return asyncio.run_coroutine_threadsafe(self._send(request), loop)

    def examine(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._begin_examination)

    def ask(self, query: "Query[T]") -> "Future[T]":
        loop = self._loop
        if loop is None or loop.is_closed():
            return not_started()
        return asyncio.run_coroutine_threadsafe(self._details.answer(query, self._store, self._release_id), loop)

    def follow(self, query: LogQuery) -> LogTail:
        loop = self._loop
        return NoTail() if loop is None or loop.is_closed() else self._details.follow(query, loop)

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self, wait_for_screen: float) -> None:
        self.wait_for_screen(wait_for_screen)
        with suppress(asyncio.CancelledError):
            asyncio.run(self._all())

    async def _all(self) -> None:
        self._main = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._stopping.is_set():
            return
        async with aclosing(self._details), asyncio.TaskGroup() as group:
            group.create_task(self._keep("release", self._store_feed))
            for slot, deployment in zip(("pods", "twin"), self._plan.workloads, strict=False):
                group.create_task(self._keep(slot, partial(self._pod_feed, slot, deployment)))
            if self._plan.redis_url is not None:
                group.create_task(self._keep("flags", self._flag_feed))

    async def _keep(self, slot: str, feed: Callable[[], Awaitable[None]]) -> None:
        """Runs a feed for ever; whatever ends it is told on the board."""
        pause = PAUSES[0]
        while True:
            began = time.monotonic()
            try:
                await feed()
            except Exception as error:
                # Also a defect of ours: in an incident a screen with one dead pane is worth more than none.
                self._fail(slot, *explained(slot, error))
            if time.monotonic() - began > 2 * PAUSES[1]:
                pause = PAUSES[0]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, PAUSES[1])

    # --- slots ---------------------------------------------------------------------------------------------------

    def _publish(self, **changes: object) -> None:
        """Replaces parts of the board, telling the screens where more than an age is new. For the thread only."""
        before = self._board
        self._board = replace(before, **changes)  # type: ignore[arg-type]
        if any(getattr(before, name) != value for name, value in changes.items()):
            self._tell()

    def _fail(self, slot: str, title: str, mend: str = "") -> None:
        """Keeps the last known value and its age, and tells why there is none newer."""
        self._publish(**{slot: replace(getattr(self._board, slot), error=title, mend=mend)})

    def _tell(self) -> None:
        if not self._planned and self._loop is not None:
            self._planned = True
            self._loop.call_soon(self._call_back)  # what else changes in this turn of the loop is told with it

    def _call_back(self) -> None:
        self._planned = False
        for callback in self._callbacks:
            callback()

    # --- store ---------------------------------------------------------------------------------------------------

    async def _store_feed(self) -> None:
        from zdd_tui.backends.postgres.connection import describe  # noqa: PLC0415  # heavy: after the first paint
        from zdd_tui.backends.store.client import Store  # noqa: PLC0415

        dsn = self._plan.database.dsn.get_secret_value()
        self._publish(plan=replace(self._board.plan, database=describe(dsn)))
        timeout = self._plan.database.connect_timeout
        async with await Store.open(dsn, application_name="zdd dashboard", timeout=timeout) as store:
            try:
                self._store = store
                while (found := await store.find(self._plan.name)) is None:
                    why = self.no_agent or ZddError(
                        f"{store.place} has no release {self._plan.name}",
                        "start it with zdd open PLAN or zdd agent PLAN",
                    )
                    self._fail("release", why.title, why.mend)
                    await asyncio.sleep(HEARTBEAT)
                while True:
                    self._release_id = found
                    found = await self._follow(store, found)
            finally:
                self._store = None

    async def _follow(self, store: "Store", release_id: int) -> int:
        """Reads a release until a newer one of its name is registered; returns that one."""
        looked_at = time.monotonic()
        async with aclosing(store.changes(release_id, quiet=HEARTBEAT, on_state=self._store_state)) as changes:
            async for _ in changes:
                asked_at = time.monotonic()
                try:
                    if self._may_be_followed() and asked_at - looked_at >= NEWER_EVERY:
                        looked_at = asked_at
                        newest = await store.find(self._plan.name)
                        if newest is not None and newest != release_id:
                            return newest
                    asked = self._audit.wanted(release_id)
                    record = self._audit.whole(await store.read(release_id, events=asked), asked)
                except DatabaseError as error:
                    self._fail("release", error.title, error.mend)
                else:
                    self._publish(release=Sourced(record, asked_at), **self._previews(record.release))
                    self._renew_catalog(record)
                await asyncio.sleep(READ_EVERY)
        return release_id  # not reached: changes has no end

    def _may_be_followed(self) -> bool:
        """A name has one active release at most: another can only be there after this one's end, or its loss."""
        known = self._board.release
        return bool(known.error) or (known.value is not None and known.value.release.state.ended)

    def _store_state(self, connected: bool, error: str) -> None:
        if not connected:
            self._fail("release", error, "check that PostgreSQL runs and that this machine reaches it")

    def _previews(self, release: Release) -> dict[str, object]:
        """What each command would run; made anew only when the release has moved."""
        from zdd_tui.model.release.preview import preview  # noqa: PLC0415  # it brings an SQL parser

        known = self._board.release.value
        if known is not None and known.release == release and self._board.previews:
            return {}
        return {"previews": {kind: preview(self._plan, release, kind, self._catalog) for kind in CommandKind}}

    def _renew_catalog(self, record: ReleaseRecord) -> None:
        """The tables look different after each phase; what reads them must not hold up the feed."""
        moved = (record.release.state, record.release.phase)
        if isinstance(self._plan, Plan) and moved != self._catalog_of:
            self._catalog_of = moved
            task = asyncio.get_running_loop().create_task(self._read_catalog(self._plan, record.release))
            self._side_tasks.add(task)
            task.add_done_callback(self._side_tasks.discard)

    async def _read_catalog(self, plan: Plan, release: Release) -> None:
        from zdd_tui.backends.postgres.catalog import read_catalog  # noqa: PLC0415  # heavy: after the first paint
        from zdd_tui.backends.postgres.connection import FAILURES, connect  # noqa: PLC0415
        from zdd_tui.model.release.preview import preview  # noqa: PLC0415

        try:
            connection = await connect(
                plan.database.dsn.get_secret_value(), application_name="zdd dashboard", timeout=5.0
            )
            try:
                self._catalog = await read_catalog(connection, plan)
            finally:
                connection.terminate()
        except (ZddError, *FAILURES):
            self._catalog = None  # the preview describes what it cannot show
        previews = {kind: preview(plan, release, kind, self._catalog) for kind in CommandKind}
        current = self._board.release.value
        if current is not None and current.release == release:
            self._publish(previews=previews)

    async def _send(self, request: CommandRequest) -> StoredCommand:
        store, release_id = self._store, self._release_id
        if store is None or release_id is None:
            error = self._board.release.error
            raise DatabaseError(error or "the database is not connected yet", self._board.release.mend)
        command_id = await store.send(release_id, request, actor=self._actor)
        while True:
            try:
                stored = await store.wait_command(command_id, ANSWER_SECONDS)
            except DatabaseError:
                # It is sent; only its outcome cannot be read now.
                await asyncio.sleep(HEARTBEAT)
                continue
            if stored.status != "queued":
                return stored

    # --- doctor --------------------------------------------------------------------------------------------------

    def _begin_examination(self) -> None:
        """One at a time: whoever asks meanwhile gets the result of the one that is under way."""
        if self._examiner is None:
            self._fail("doctor", "this dashboard has no doctor", "run `zdd doctor PLAN`")
        elif not self._board.examining:
            self._publish(examining=True)
            task = asyncio.get_running_loop().create_task(self._examine(self._examiner))
            self._side_tasks.add(task)
            task.add_done_callback(self._side_tasks.discard)

    async def _examine(self, examiner: "Examine") -> None:
        try:
            report = await examiner()
        except Exception as error:
            self._fail("doctor", *explained("doctor", error))
        else:
            self._publish(doctor=Sourced(report, time.monotonic()))
        finally:
            self._publish(examining=False)

    # --- cluster -------------------------------------------------------------------------------------------------

    async def _pod_feed(self, slot: str, deployment: str) -> None:
        from zdd_tui.backends.kubernetes.cluster import Cluster  # noqa: PLC0415
        from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch  # noqa: PLC0415  # heavy: after the first paint

        names = self._plan.kubernetes
        async with Cluster.connect(names.kubeconfig, names.context, names.namespace, check=False) as cluster:
            # By gateway the second Deployment's pods are in a Service of their own.
            service = self._plan.services[-1 if slot == "twin" else 0]
            watch = DeploymentWatch(cluster, deployment, service=service, container=names.container)

            def changed(snapshot: WorkloadSnapshot) -> None:
                # The second Deployment comes and goes with the release: without it all is well.
                away = slot == "twin" and watch.absent
                self._publish(**{slot: Sourced(None, snapshot.observed_at) if away else pods_source(snapshot)})

            await watch.run(changed)

    # --- flags ---------------------------------------------------------------------------------------------------

    async def _flag_feed(self) -> None:
        from zdd_tui.backends.redis_flags import FlagStore, describe  # noqa: PLC0415  # heavy: after the first paint

        assert self._plan.redis_url is not None
        url = self._plan.redis_url.get_secret_value()
        self._publish(plan=replace(self._board.plan, flags=describe(url)))
        async with await FlagStore.connect(url) as store:
            while True:
                asked_at = time.monotonic()
                raw = await store.read_raw(tuple(self._plan.flag_roles))
                self._publish(flags=Sourced(self._flags.views(raw, time.time()), asked_at))
                await asyncio.sleep(HEARTBEAT)

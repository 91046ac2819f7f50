"""The live fleet: one thread reads every database in turn while the fleet is on screen.

Each database has one session and one statement for each interval, with a timeout; a limited number of them is read at
the same time. One that does not answer is a row, is tried again with a back-off, and delays no other.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zdd_tui.dashboard.live_views import describe_error
from zdd_tui.dashboard.state import PlanView, StateSource
from zdd_tui.model.errors import ZddError
from zdd_tui.model.fleet.config import FleetDatabase, FleetSettings, join_databases
from zdd_tui.model.fleet.rows import (
    Fleet,
    FleetRow,
    add_missing_regions,
    build_connecting_row,
    build_error_row,
    find_region_row,
    mark_last_known,
    mark_recent_rollbacks,
    order_rows,
)
from zdd_tui.model.fleet.stored import load_stored_plan
from zdd_tui.model.plan.base import BasePlan

if TYPE_CHECKING:
    from zdd_tui.backends.store.fleet import FleetReader
    from zdd_tui.dashboard.live_source import LiveSource

READ_INTERVAL_SECONDS = 2.0
"""Seconds between two readings of a database."""

RETRY_SECONDS = (2.0, 30.0)
"""Seconds before the first and the longest pause until a database that does not answer is tried again."""

MAX_CONCURRENT_READS = 64

START_PAUSE_SECONDS = 0.01
"""Seconds between the first readings of two databases: a login is work for both sides, and the first rows come sooner
than if all log in at once."""

PUBLISH_SECONDS = 0.1
"""Seconds for which answers are collected before the screen gets them; the first one is not delayed."""

OPEN_TIMEOUT = 5.0
"""Seconds until the stored plan of a release must have been read."""

LoadSettings = Callable[[], FleetSettings]
"""Reads the configuration; may raise a ZddError."""
OpenSource = Callable[[BasePlan, int | None], "LiveSource"]
"""Makes and starts the source of a release: of its plan, and of one release of that name, or None for the newest."""
OpenRegion = Callable[[str, str], "LiveSource | None"]
"""The same by name and region of the plan file that the dashboard was started on; None for any other."""


@dataclass(slots=True)
class _DatabaseState:
    """What is known of one database."""

    database: FleetDatabase
    rows: tuple[FleetRow, ...] = ()
    error: FleetRow | None = None
    answered_at: float | None = None
    lease_ends: Mapping[int, float] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[FleetRow, ...]:
        database = self.database
        if self.error is not None:
            releases = (mark_last_known(row) for row in self.rows if row.release_id is not None)
            return (self.error, *releases)
        return self.rows or (build_connecting_row(database.name, database.group, database.environment),)


class LiveFleet:
    """A :class:`zdd_tui.dashboard.fleet_source.FleetSource` over the real databases.

    Args:
        load_settings: called once, in the thread of the fleet, when the fleet is first shown.
        open_source: makes the dashboard's source of a release.
        opened: the source of the release that the dashboard was started on; it ends when another one is opened.
        open_region: regions of the plan file that the dashboard was started on.
    """

    def __init__(
        self,
        load_settings: LoadSettings,
        open_source: OpenSource,
        *,
        opened: "LiveSource | None" = None,
        open_region: OpenRegion | None = None,
    ) -> None:
        self._load_settings, self._open_source, self._open_plan_region = load_settings, open_source, open_region
        self._opened = opened
        self.colours: Mapping[str, str] = {}
        self._fleet = Fleet()
        self._states: dict[str, _DatabaseState] = {}
        """By the databases' names, which are different."""
        self._callbacks: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_ready = threading.Event()
        self._reading: asyncio.Task[None] | None = None
        self._is_publishing = False
        self._requests = 0
        """Releases that were to be opened: a late answer must not end the source of a later one."""

    # --- for the screens, from any thread -------------------------------------------------------------------------

    def fleet(self) -> Fleet:
        return self._fleet

    def answered_at(self, database: str) -> float | None:
        state = self._states.get(database)
        return state.answered_at if state is not None else None

    def lease_ends(self, row: FleetRow) -> float | None:
        state = self._states.get(row.database)
        return state.lease_ends.get(row.release_id) if state is not None and row.release_id is not None else None

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def resume(self) -> None:
        self._call(self._start_reading)

    def pause(self) -> None:
        self._call(self._stop_reading)

    def open_release(self, row: FleetRow) -> "Future[StateSource]":
        self._requests += 1
        return asyncio.run_coroutine_threadsafe(self._open_release(row, self._requests), self._running_loop())

    def open_region(self, plan: PlanView, region: str) -> "Future[StateSource]":
        self._requests += 1
        return asyncio.run_coroutine_threadsafe(self._open_region(plan, region, self._requests), self._running_loop())

    def stop(self, timeout: float = 2.0) -> None:
        """Ends the sessions, and the source that was opened last."""
        loop, opened = self._loop, self._opened
        if loop is not None and self._thread is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout)
        if opened is not None:
            opened.stop(timeout)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="zdd-fleet", daemon=True)
            self._thread.start()
        self._is_ready.wait()
        assert self._loop is not None
        return self._loop

    def _call(self, function: Callable[[], None]) -> None:
        self._running_loop().call_soon_threadsafe(function)

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._is_ready.set()
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
            loop.run_until_complete(asyncio.sleep(0))  # the closed sessions leave the loop
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _start_reading(self) -> None:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all())

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _read_all(self) -> None:
        from zdd_tui.backends.store.fleet import FleetReader  # noqa: PLC0415  # slow: after the first paint

        if not self._states:
            self._set_databases()
        self._publish()
        # Its own ones: the task of a list that is shown again begins before this one has ended.
        states = list(self._states.values())
        readers = [FleetReader(state.database) for state in states]
        slots = asyncio.Semaphore(MAX_CONCURRENT_READS)
        try:
            async with asyncio.TaskGroup() as group:
                for number, (state, reader) in enumerate(zip(states, readers, strict=True)):
                    group.create_task(self._read_database(state, reader, slots, number * START_PAUSE_SECONDS))
        finally:
            for reader in readers:
                reader.close()

    def _set_databases(self) -> None:
        try:
            settings = self._load_settings()
        except ZddError as error:
            # The list of a dashboard that was started on a plan: its configuration is a row too.
            databases: Iterable[FleetDatabase] = [FleetDatabase("config.toml", "", error=error.title, hint=error.hint)]
        else:
            databases = join_databases(settings.databases)
            self.colours = settings.colours
        self._states = {database.name: _DatabaseState(database) for database in databases}

    async def _read_database(
        self, state: _DatabaseState, reader: "FleetReader", slots: asyncio.Semaphore, start_after: float
    ) -> None:
        database, pause = state.database, RETRY_SECONDS[0]
        await asyncio.sleep(start_after)
        while True:
            try:
                async with slots:
                    rows = await reader.read()
            except Exception as error:  # includes bugs: one dead row is better than no list
                title, hint = describe_error(database.name, error)
                row = build_error_row(
                    database.name, database.group, database.environment, title, hint, answered_at=state.answered_at
                )
                if row != state.error:
                    state.error = row
                    self._schedule_publication()
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
                continue
            pause = RETRY_SECONDS[0]
            state.answered_at, state.lease_ends = time.time(), reader.lease_ends
            if rows != state.rows or state.error is not None:
                state.rows, state.error = rows, None
                self._schedule_publication()
            # All databases at the same moment: their answers are one paint.
            await asyncio.sleep(READ_INTERVAL_SECONDS - time.monotonic() % READ_INTERVAL_SECONDS)

    # --- publishing -----------------------------------------------------------------------------------------------

    def _schedule_publication(self) -> None:
        if not self._is_publishing:
            self._is_publishing = True
            is_first = self._fleet.pending == self._fleet.databases
            asyncio.get_running_loop().call_later(0.0 if is_first else PUBLISH_SECONDS, self._publish)

    def _publish(self) -> None:
        self._is_publishing = False
        states = self._states.values()
        unanswered = sum(state.error is not None for state in states)
        pending = sum(state.error is None and not state.rows for state in states)
        rows = [*mark_recent_rollbacks([row for state in states for row in state.shown], time.time())]
        if not pending:  # the next answer may have the region
            rows = [*add_missing_regions(rows, time.time(), is_complete=not unanswered)]
        self._fleet = Fleet(order_rows(rows), len(states), unanswered, pending)
        for callback in self._callbacks:
            callback()

    # --- opening --------------------------------------------------------------------------------------------------

    async def _open_release(self, row: FleetRow, request: int) -> StateSource:
        from zdd_tui.backends.store.fleet import FleetReader  # noqa: PLC0415  # slow: when needed

        state = self._states.get(row.database)
        if row.release_id is None or state is None:
            raise ZddError(f"{row.database} has no release to open", row.hint)
        reader = FleetReader(state.database)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                copy = await reader.read_plan_copy(row.release_id)
        except TimeoutError:
            raise ZddError(
                f"{row.database} does not respond within {OPEN_TIMEOUT:.0f} s", "retry in a moment"
            ) from None
        finally:
            reader.close()
        plan = load_stored_plan(
            copy.text, release=copy.release, region=copy.region, database=state.database, environment=os.environ
        )
        if request != self._requests:
            raise ZddError("another release was opened meanwhile")
        return await self._replace_opened(self._open_source(plan, row.release_id if row.has_ended else None))

    async def _open_region(self, plan: PlanView, region: str, request: int) -> StateSource:
        source = self._open_plan_region(plan.name, region) if self._open_plan_region is not None else None
        if source is not None:
            return await self._replace_opened(source)
        row = find_region_row(self._fleet.rows, plan.name, region)
        if row is None:
            raise ZddError(
                f"no database of the fleet has region {region} of {plan.name}",
                "add its database to config.toml, or start with `zdd open --region NAME PLAN`",
            )
        return await self._open_release(row, request)

    async def _replace_opened(self, source: "LiveSource") -> StateSource:
        before, self._opened = self._opened, source
        if before is not None:
            await asyncio.to_thread(before.stop)
        return source

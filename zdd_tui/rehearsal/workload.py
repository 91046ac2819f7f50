"""The application during the release: sessions that insert, update and delete rows."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.engine.backfill.transaction import describe_row_error
from zdd_tui.rehearsal.expected_rows import REHEARSAL_SCHEMA
from zdd_tui.rehearsal.statements import StatementBuilder, WriteStatements

APPLICATION_NAME = "zdd rehearsal writer"
SESSIONS = 3
WRITE_INTERVAL = 0.04
"""Seconds between two writes of a session, on average: some sixty writes a second in all, a modest load."""

MAX_KNOWN_KEYS = 500
WRITE_TIMEOUT = 30.0
"""Seconds that a write may take before it counts as failed."""


@dataclass(frozen=True, slots=True)
class LiveVersions:
    """What the application is at a moment.

    Attributes:
        versions: those that have pods, of 1, 2 and 3; two while one takes the other's place.
        is_dual_write: V2 writes both sides.
    """

    versions: tuple[int, ...] = (1,)
    is_dual_write: bool = False


@dataclass(slots=True)
class WriterStats:
    """What the writers met.

    Attributes:
        slowest: seconds of the slowest write since it was last read.
        refused: writes that a unique index or a foreign key refused: made-up rows meet that, a release is no cause.
        retried: writes that ran into a deadlock and went well the second time.
        failures: what the application would have seen as an error, with how often.
    """

    writes: int = 0
    slowest: float = 0.0
    refused: int = 0
    retried: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    def take_slowest(self) -> float:
        slowest, self.slowest = self.slowest, 0.0
        return slowest


class Writers:
    """Runs the sessions; ``async with`` starts and ends them.

    Args:
        live_versions: called before every write.
        hide_values: keep the server's words out of the report: they could quote production's values.
    """

    def __init__(
        self,
        dsn: str,
        statements: StatementBuilder,
        live_versions: Callable[[], Awaitable[LiveVersions]],
        *,
        hide_values: bool,
    ) -> None:
        self.stats = WriterStats()
        self._dsn = dsn
        self._statements = statements
        self._live_versions = live_versions
        self._hide_values = hide_values
        self._statements_by_version: dict[tuple[int, bool], WriteStatements] = {}
        self._keys: list[tuple[str, ...]] = []
        self._inserted_keys: list[tuple[str, ...]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._running = asyncio.Event()
        self._idle = asyncio.Condition()
        self._writes_in_progress = 0

    async def __aenter__(self) -> "Writers":
        conn = await asyncpg.connect(self._dsn)
        try:
            self._keys = [tuple(row) for row in await conn.fetch(self._statements.sample_keys, MAX_KNOWN_KEYS)]
        finally:
            await conn.close()
        self._running.set()
        self._tasks = [asyncio.create_task(self._session(random.Random(seed))) for seed in range(SESSIONS)]  # noqa: S311
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for report in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(report, Exception):
                raise report

    async def pause(self) -> None:
        """Returns when no write is under way; none begins until :meth:`resume`."""
        self._running.clear()
        async with self._idle:
            await self._idle.wait_for(lambda: self._writes_in_progress == 0)

    async def drain(self) -> None:
        """Returns when every write that was under way has ended."""
        await self.pause()
        self.resume()

    def resume(self) -> None:
        self._running.set()

    async def _session(self, rng: random.Random) -> None:
        settings = {"application_name": APPLICATION_NAME, "search_path": self._statements.search_path}
        conn = await asyncpg.connect(self._dsn, server_settings=settings)
        try:
            while True:
                await asyncio.sleep(WRITE_INTERVAL * SESSIONS * 0.5 * rng.uniform(0.5, 1.5))
                while not self._running.is_set():  # woken, but paused again before it was our turn
                    await self._running.wait()
                self._writes_in_progress += 1
                try:
                    await self._run_one_write(conn, rng)
                finally:
                    async with self._idle:
                        self._writes_in_progress -= 1
                        self._idle.notify_all()
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await conn.close(timeout=2)

    async def _run_one_write(self, conn: Connection, rng: random.Random) -> None:
        if not self._keys:
            return
        live_versions = await self._live_versions()
        writes = self._statements_for(rng.choice(live_versions.versions), live_versions.is_dual_write)
        began = time.monotonic()
        for attempt in (1, 2):
            try:
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await self._write(conn, writes, rng)
            except asyncpg.DeadlockDetectedError as error:
                if attempt == 2:
                    self._count_failure(error)
                self.stats.retried += 1
                continue
            except (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError, asyncpg.ExclusionViolationError):
                self.stats.refused += 1
            except (asyncpg.PostgresError, TimeoutError) as error:
                self._count_failure(error)
            break
        self.stats.writes += 1
        self.stats.slowest = max(self.stats.slowest, time.monotonic() - began)

    def _count_failure(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            text = f"no response within {WRITE_TIMEOUT:.0f} s"
        elif self._hide_values and isinstance(error, asyncpg.PostgresError):
            text = describe_row_error(error)
        else:
            text = str(error).splitlines()[0]
        self.stats.failures[text] = self.stats.failures.get(text, 0) + 1

    def _statements_for(self, version: int, dual_write: bool) -> WriteStatements:
        kind = (3, False) if version == 3 else (1, dual_write and version == 2)
        if kind not in self._statements_by_version:
            self._statements_by_version[kind] = (
                self._statements.new_side_statements()
                if version == 3
                else self._statements.old_side_statements(dual_write=kind[1])
            )
        return self._statements_by_version[kind]

    async def _write(self, conn: Connection, writes: WriteStatements, rng: random.Random) -> None:
        draw, key = rng.random(), rng.choice(self._keys)
        born: tuple[str, ...] | None = None
        async with conn.transaction():
            if draw < 0.25 and writes.insert is not None:
                await conn.execute(f"SELECT nextval('{REHEARSAL_SCHEMA}.ordinal')")
                row = await conn.fetchrow(writes.insert, *key)
                if row is None:
                    return
                for statement in writes.after:
                    await conn.execute(statement, *row)
                born = tuple(row)
            elif draw < 0.35 and self._inserted_keys:
                # Only rows that we made: nothing refers to them.
                key = self._inserted_keys.pop(rng.randrange(len(self._inserted_keys)))
                await conn.execute(writes.delete, *key)
                for statement in writes.after_delete:
                    await conn.execute(statement, *key)
            elif writes.update is not None:
                other = rng.choice(self._keys)
                if (await conn.execute(writes.update, *key, *other)).endswith(" 0"):
                    return
                for statement in writes.after:
                    await conn.execute(statement, *key)
        if born is not None:  # and it is committed
            self._inserted_keys.append(born)

"""The application at work while the release goes on: sessions that insert, change and delete rows."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg

from zdd_tui.engine.backfill.transaction import reason_of
from zdd_tui.rehearsal.expected_rows import SCHEMA
from zdd_tui.rehearsal.statements import Author, Writes

Connection: TypeAlias = Any

APPLICATION = "zdd rehearsal writer"
SESSIONS = 3
PAUSE = 0.04
"""Seconds between two writes of a session, on average: some sixty writes a second in all, a modest load."""

KNOWN_KEYS = 500
PATIENCE = 30.0
"""Seconds that a write may take before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Stance:
    """What the application is at a moment.

    Attributes:
        versions: those that have pods, of 1, 2 and 3; two while one takes the other's place.
        dual: V2 writes both sides.
    """

    versions: tuple[int, ...] = (1,)
    dual: bool = False


@dataclass(slots=True)
class Tally:
    """What the writers met.

    Attributes:
        slowest: seconds of the slowest write since it was last asked for.
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
        stance: asked before every write.
        discreet: keep the server's words out of the report: they could quote production's values.
    """

    def __init__(self, dsn: str, author: Author, stance: Callable[[], Awaitable[Stance]], *, discreet: bool) -> None:
        self.tally = Tally()
        self._dsn = dsn
        self._author = author
        self._stance = stance
        self._discreet = discreet
        self._writes: dict[tuple[int, bool], Writes] = {}
        self._keys: list[tuple[str, ...]] = []
        self._born: list[tuple[str, ...]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._running = asyncio.Event()
        self._idle = asyncio.Condition()
        self._busy = 0

    async def __aenter__(self) -> "Writers":
        conn = await asyncpg.connect(self._dsn)
        try:
            self._keys = [tuple(row) for row in await conn.fetch(self._author.keys, KNOWN_KEYS)]
        finally:
            await conn.close()
        self._running.set()
        self._tasks = [asyncio.create_task(self._session(random.Random(seed))) for seed in range(SESSIONS)]  # noqa: S311
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def rest(self) -> None:
        """Returns when no write is under way; none begins until :meth:`go_on`."""
        self._running.clear()
        async with self._idle:
            await self._idle.wait_for(lambda: self._busy == 0)

    async def drain(self) -> None:
        """Returns when every write that was under way has ended."""
        await self.rest()
        self.go_on()

    def go_on(self) -> None:
        self._running.set()

    async def _session(self, chance: random.Random) -> None:
        settings = {"application_name": APPLICATION, "search_path": self._author.search_path}
        conn = await asyncpg.connect(self._dsn, server_settings=settings)
        try:
            while True:
                await asyncio.sleep(PAUSE * SESSIONS * 0.5 * chance.uniform(0.5, 1.5))
                while not self._running.is_set():  # woken, and told to rest again before it was our turn
                    await self._running.wait()
                self._busy += 1
                try:
                    await self._one(conn, chance)
                finally:
                    async with self._idle:
                        self._busy -= 1
                        self._idle.notify_all()
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await conn.close(timeout=2)

    async def _one(self, conn: Connection, chance: random.Random) -> None:
        if not self._keys:
            return
        stance = await self._stance()
        writes = self._of(chance.choice(stance.versions), stance.dual)
        began = time.monotonic()
        for attempt in (1, 2):
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._write(conn, writes, chance)
            except asyncpg.DeadlockDetectedError as error:
                if attempt == 2:
                    self._failed(error)
                self.tally.retried += 1
                continue
            except (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError, asyncpg.ExclusionViolationError):
                self.tally.refused += 1
            except (asyncpg.PostgresError, TimeoutError) as error:
                self._failed(error)
            break
        self.tally.writes += 1
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            text = f"no answer within {PATIENCE:.0f} s"
        elif self._discreet and isinstance(error, asyncpg.PostgresError):
            text = reason_of(error)
        else:
            text = str(error).splitlines()[0]
        self.tally.failures[text] = self.tally.failures.get(text, 0) + 1

    def _of(self, version: int, dual: bool) -> Writes:
        kind = (3, False) if version == 3 else (1, dual and version == 2)
        if kind not in self._writes:
            self._writes[kind] = self._author.new_side() if version == 3 else self._author.old_side(dual=kind[1])
        return self._writes[kind]

    async def _write(self, conn: Connection, writes: Writes, chance: random.Random) -> None:
        draw, key = chance.random(), chance.choice(self._keys)
        born: tuple[str, ...] | None = None
        async with conn.transaction():
            if draw < 0.25 and writes.insert is not None:
                await conn.execute(f"SELECT nextval('{SCHEMA}.ordinal')")
                row = await conn.fetchrow(writes.insert, *key)
                if row is None:
                    return
                for statement in writes.after:
                    await conn.execute(statement, *row)
                born = tuple(row)
            elif draw < 0.35 and self._born:
                # Only rows that we made: nothing refers to them.
                key = self._born.pop(chance.randrange(len(self._born)))
                await conn.execute(writes.delete, *key)
                for statement in writes.after_delete:
                    await conn.execute(statement, *key)
            elif writes.update is not None:
                other = chance.choice(self._keys)
                if (await conn.execute(writes.update, *key, *other)).endswith(" 0"):
                    return
                for statement in writes.after:
                    await conn.execute(statement, *key)
        if born is not None:  # and it is committed
            self._born.append(born)

"""What a step costs: how long it holds which lock, how long it makes others wait, WAL, time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.rehearsal.workload import APPLICATION_NAME, Writers

SAMPLE_INTERVAL = 0.03
"""Seconds between two samples from outside; the transaction itself reports what is shorter."""

LOCK_MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
"""Weakest first (PostgreSQL documentation, "Explicit Locking")."""

# Relations that were there before the transaction: a new table may be locked as one likes.
_HELD_LOCKS = """
SELECT DISTINCT l.mode, extract(epoch FROM clock_timestamp() - now())::float8 AS seconds
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.pid = pg_backend_pid() AND l.granted AND l.locktype = 'relation'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'zdd', 'pg_toast')
"""

_OBSERVED_LOCKS = """
SELECT l.pid, l.mode, l.granted, a.application_name = $1 AS writer,
       extract(epoch FROM clock_timestamp() - l.waitstart)::float8 AS waited,
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::float8, 0) AS open
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (NOT l.granted AND a.application_name = $1)
   OR (l.granted AND l.locktype = 'relation' AND c.relkind IN ('r', 'p') AND a.application_name = $2
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'zdd', 'pg_toast'))
"""


@dataclass(slots=True)
class StepMetrics:
    """One run, or one undo, of a step.

    Attributes:
        seconds: from its intent to its record.
        locks: seconds that a lock of each mode was held on a table, at most; of one transaction.
        blocked_seconds: seconds of the longest wait of a writer for a lock.
        slowest_write: seconds of the slowest write meanwhile.
        wal_bytes: bytes, the writers' included.
    """

    step: str
    direction: str
    seconds: float = 0.0
    locks: dict[str, float] = field(default_factory=dict)
    blocked_seconds: float = 0.0
    slowest_write: float = 0.0
    wal_bytes: int = 0

    def add_lock(self, mode: str, seconds: float) -> None:
        self.locks[mode] = max(self.locks.get(mode, 0.0), seconds)

    @property
    def strongest_lock(self) -> tuple[str, float] | None:
        """Mode and seconds of the strongest lock."""
        if not self.locks:
            return None
        mode = max(self.locks, key=lambda mode: LOCK_MODES.index(mode) if mode in LOCK_MODES else -1)
        return mode, self.locks[mode]


class MeteredStore(AgentStore):
    """The lease's store; at the end of each transaction it reads which locks it holds."""

    step_metrics: StepMetrics | None = None

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[Connection]:
        """As :meth:`AgentStore.fenced`."""
        async with super().fenced() as conn:
            yield conn
            if self.step_metrics is not None:
                for row in await conn.fetch(_HELD_LOCKS):
                    self.step_metrics.add_lock(row["mode"], row["seconds"])


class StepMetricsCollector:
    """Samples from a session of its own while a step runs."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._conn: asyncpg.Connection

    async def __aenter__(self) -> "StepMetricsCollector":
        self._conn = await asyncpg.connect(self._dsn, server_settings={"application_name": "zdd rehearsal meter"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._conn.close()

    @asynccontextmanager
    async def measure(
        self, store: MeteredStore, writers: Writers | None, step: str, direction: str
    ) -> AsyncIterator[StepMetrics]:
        """Measures what happens inside the block."""
        metrics = StepMetrics(step, direction)
        if writers is not None:
            writers.stats.take_slowest()
        before, began = await self._wal_position(), time.monotonic()
        store.step_metrics = metrics
        looking = asyncio.create_task(self._sample_locks(store.application_name, metrics))
        try:
            yield metrics
        finally:
            store.step_metrics = None
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            metrics.seconds = time.monotonic() - began
            metrics.wal_bytes = await self._wal_position() - before
            if writers is not None:
                metrics.slowest_write = writers.stats.take_slowest()

    async def _sample_locks(self, application: str, metrics: StepMetrics) -> None:
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL)
            # Shielded, so that the end of the step cannot leave the session in the middle of an answer.
            for row in await asyncio.shield(self._conn.fetch(_OBSERVED_LOCKS, APPLICATION_NAME, application)):
                if row["writer"]:
                    metrics.blocked_seconds = max(metrics.blocked_seconds, row["waited"] or 0.0)
                else:
                    metrics.add_lock(row["mode"], row["open"])

    async def _wal_position(self) -> int:
        while True:
            try:
                return int(await self._conn.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
            except asyncpg.InterfaceError:  # the last query is still running
                await asyncio.sleep(0.005)

"""Signals that make the backfill wait, each with a name for the screens, a value and a limit.

Each signal is one cheap query. A value that is not visible to the role (pg_monitor) is no reason to wait.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import Backfill

READ_INTERVAL = 1.0
"""Seconds between two reads of the signals; a batch takes less."""

MEGABYTE = 1024 * 1024


class ThrottleSignal(Protocol):
    """One reason to wait."""

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        """The reason to wait, starting with the signal's name; empty if there is none.

        Args:
            now: seconds, monotonic.
        """
        ...


def build_signals(release_id: int, tables: tuple[str, ...]) -> tuple[ThrottleSignal, ...]:
    """All signals by priority: first those that affect other sessions now.

    Args:
        tables: quoted names of those that the backfill reads and writes.
    """
    return (
        LockWaitSignal(tables),
        GuardLatencySignal(release_id),
        ReplicaLagSignal(),
        WalRateSignal(),
        VacuumSignal(tables),
        OldestSnapshotSignal(),
    )


@dataclass(slots=True)
class ReplicaLagSignal:
    """The lag of the slowest standby.

    The server's own ``replay_lag`` does not grow while a standby replays nothing. The signal therefore records the
    primary's positions, and computes from them the age of the position that a standby has replayed.
    """

    lsn_history: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=1000))

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        rows = await conn.fetch(
            "SELECT coalesce(application_name, '') AS name, (replay_lsn - '0/0'::pg_lsn)::bigint AS replayed,"
            " (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS written,"
            " extract(epoch FROM replay_lag)::float8 AS lag"
            " FROM pg_stat_replication WHERE state IN ('streaming', 'catchup')"
        )
        if not rows:
            self.lsn_history.clear()
            return ""
        self.lsn_history.append((now, rows[0]["written"]))
        name, lag = max(
            ((row["name"], max(row["lag"] or 0.0, self.seconds_behind(row["replayed"], now))) for row in rows),
            key=lambda pair: pair[1],
        )
        if lag <= limits.max_replica_lag:
            return ""
        return f"replica lag {format_duration(lag)} ({name}), limit {format_duration(limits.max_replica_lag)}"

    def seconds_behind(self, replayed: int | None, now: float) -> float:
        """Seconds since the primary wrote the first position that the standby has not replayed."""
        if replayed is None:  # not visible to the role (pg_monitor)
            return 0.0
        return next((now - at for at, written in self.lsn_history if written > replayed), 0.0)


@dataclass(frozen=True, slots=True)
class LockWaitSignal:
    """The longest wait of a session for a lock on one of the tables or its rows, whoever holds the lock.

    Args:
        tables: quoted names.
    """

    tables: tuple[str, ...]

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        row = await conn.fetchrow(
            # A session that waits for a row waits for a transaction, and holds a lock on the table meanwhile.
            "WITH held AS (SELECT pid, granted, waitstart, relation = ANY (ARRAY(SELECT to_regclass(t)::oid"
            "   FROM unnest($1::text[]) t)) AND database = (SELECT oid FROM pg_database"
            "   WHERE datname = current_database()) AS ours FROM pg_locks)"
            " SELECT count(*) AS waiters, (array_agg(pid ORDER BY waitstart))[1] AS first,"
            " extract(epoch FROM clock_timestamp() - min(waitstart))::float8 AS seconds"
            # Our own workers wait for each other's checkpoints, never for long.
            " FROM held w WHERE NOT granted AND pid NOT IN (SELECT pid FROM pg_stat_activity"
            "   WHERE application_name = current_setting('application_name') AND pid IS NOT NULL)"
            "  AND (ours OR EXISTS (SELECT FROM held h WHERE h.pid = w.pid AND h.granted AND h.ours))",
            list(self.tables),
        )
        assert row is not None
        seconds = row["seconds"] or 0.0
        if seconds <= limits.max_lock_wait:
            return ""
        waiters = "1 session" if row["waiters"] == 1 else f"{row['waiters']} sessions"
        blocker = await conn.fetchrow(
            "SELECT blocker AS pid, coalesce(application_name, '') AS application"
            " FROM unnest(pg_blocking_pids($1)) blocker LEFT JOIN pg_stat_activity a ON a.pid = blocker"
            " ORDER BY a.xact_start LIMIT 1",
            row["first"],
        )
        if blocker is not None:
            waiters += f" behind pid {blocker['pid']} {blocker['application']}".rstrip()
        return f"lock waits {format_duration(seconds)} ({waiters}), limit {format_duration(limits.max_lock_wait)}"


@dataclass(frozen=True, slots=True)
class OldestSnapshotSignal:
    """The oldest transaction of this database, prepared ones included. It prevents the cleanup of dead rows, of which a
    backfill creates many."""

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        row = await conn.fetchrow(
            "SELECT who, extract(epoch FROM clock_timestamp() - at)::float8 AS seconds FROM ("
            "  SELECT xact_start AS at, 'pid ' || pid || coalesce(', ' || nullif(application_name, ''), '') AS who"
            "  FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            "   AND backend_type = 'client backend' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"
            "  UNION ALL SELECT prepared, 'prepared ' || gid FROM pg_prepared_xacts WHERE database = current_database()"
            ") AS found WHERE at IS NOT NULL ORDER BY at LIMIT 1"
        )
        if row is None or row["seconds"] <= limits.max_snapshot_age:
            return ""
        limit = format_duration(limits.max_snapshot_age)
        return f"oldest snapshot {format_duration(row['seconds'])} ({row['who']}), limit {limit}"


@dataclass(slots=True)
class WalRateSignal:
    """The WAL rate of the whole server since the last read, the application's share included."""

    last_reading: tuple[float, int] | None = None

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        written = await conn.fetchval("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint")
        before, self.last_reading = self.last_reading, (now, written)
        if before is None or limits.max_wal_mb_per_second is None or now <= before[0]:
            return ""
        rate = (written - before[1]) / (now - before[0]) / MEGABYTE
        if rate <= limits.max_wal_mb_per_second:
            return ""
        return f"WAL rate {rate:.0f}MB/s, limit {limits.max_wal_mb_per_second}MB/s"


@dataclass(slots=True)
class VacuumSignal:
    """A running vacuum of one of the tables: each batch makes more work for it. The wait has a limit, because a vacuum
    of a large table takes hours.

    Args:
        tables: quoted names.
    """

    tables: tuple[str, ...]
    first_seen_at: dict[int, float] = field(default_factory=dict)

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        rows = await conn.fetch(
            "SELECT v.pid, v.phase, v.relid::regclass::text AS name, a.backend_type = 'autovacuum worker' AS auto"
            " FROM pg_stat_progress_vacuum v JOIN pg_stat_activity a ON a.pid = v.pid"
            " WHERE v.datname = current_database()"
            "  AND v.relid = ANY (ARRAY(SELECT to_regclass(t)::oid FROM unnest($1::text[]) t))",
            list(self.tables),
        )
        self.first_seen_at = {row["pid"]: self.first_seen_at.get(row["pid"], now) for row in rows}
        for row in rows:
            waited = now - self.first_seen_at[row["pid"]]
            if waited < limits.max_vacuum_wait:
                word = "autovacuum" if row["auto"] else "vacuum"
                limit = format_duration(limits.max_vacuum_wait)
                return f"{word} of {row['name']} ({row['phase']}) {format_duration(waited)}, limit {limit}"
        return ""


@dataclass(frozen=True, slots=True)
class GuardLatencySignal:
    """The newest latency of the guard's rule that is nearest to its limit: the backfill waits before the guard acts."""

    release_id: int

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        row = await conn.fetchrow(
            'SELECT rule, value, "limit", 100 * value / "limit" AS percent FROM zdd.guard'
            " WHERE release_id = $1 AND unit = 'seconds' AND is_applicable AND value IS NOT NULL AND \"limit\" > 0"
            "  AND observed_at > clock_timestamp() - make_interval(secs => max_age)"
            " ORDER BY percent DESC LIMIT 1",
            self.release_id,
        )
        if row is None or row["percent"] <= limits.max_guard_latency:
            return ""
        numbers = f"{row['value'] * 1000:.0f}ms of {row['limit'] * 1000:.0f}ms"
        return f"guard latency {row['percent']:.0f}% ({row['rule']} {numbers}), limit {limits.max_guard_latency}%"


@dataclass(slots=True)
class Throttle:
    """Reads the signals at most once in READ_INTERVAL; the result is used until the next read."""

    clock: Callable[[], float]
    signals: Sequence[ThrottleSignal]
    reason: str = ""
    _read_at: float = float("-inf")

    def is_due(self) -> bool:
        return self.clock() - self._read_at >= READ_INTERVAL

    async def evaluate(self, conn: Connection, limits: Backfill) -> str:
        """Returns the first reason to wait, or an empty text."""
        self._read_at = now = self.clock()
        # Every signal is read every time: some compare with their last value.
        reasons = [await signal.read(conn, limits, now) for signal in self.signals]
        self.reason = next((reason for reason in reasons if reason), "")
        return self.reason

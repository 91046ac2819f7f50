"""Signals that make the backfill wait, each with a name that the screens show. More of them join the list."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zdd_tui.backends.catalog import Connection
from zdd_tui.model.backfill import Limits
from zdd_tui.model.duration import human_duration

READ_EVERY = 0.5
"""Seconds between two looks at the signals; a batch takes less."""


class Signal(Protocol):
    """One reason to wait."""

    async def read(self, conn: Connection, limits: Limits, now: float) -> str:
        """Why to wait, in words that begin with the signal's name; empty when there is no reason."""
        ...


@dataclass(slots=True)
class ReplicaLag:
    """The standby that is furthest behind.

    The server's own ``replay_lag`` stands still while a standby replays nothing at all. So we remember when the
    primary was where, and tell from that how old the position is that a standby has replayed.
    """

    history: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=1000))

    async def read(self, conn: Connection, limits: Limits, now: float) -> str:
        rows = await conn.fetch(
            "SELECT coalesce(application_name, '') AS name, (replay_lsn - '0/0'::pg_lsn)::bigint AS replayed,"
            " (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS written,"
            " extract(epoch FROM replay_lag)::float8 AS lag"
            " FROM pg_stat_replication WHERE state IN ('streaming', 'catchup')"
        )
        if not rows:
            self.history.clear()
            return ""
        self.history.append((now, rows[0]["written"]))
        name, lag = max(
            ((row["name"], max(row["lag"] or 0.0, self.behind(row["replayed"], now))) for row in rows),
            key=lambda pair: pair[1],
        )
        if lag <= limits.max_replica_lag:
            return ""
        return f"replica lag {human_duration(lag)} ({name}), limit {human_duration(limits.max_replica_lag)}"

    def behind(self, replayed: int | None, now: float) -> float:
        """Seconds since the primary was at a position that a standby has not replayed."""
        if replayed is None:  # the role may not look (pg_monitor), so nothing is known
            return 0.0
        return next((now - at for at, written in self.history if written > replayed), 0.0)


@dataclass(slots=True)
class Throttle:
    """Asks the signals, not more often than they are worth."""

    clock: Callable[[], float]
    signals: Sequence[Signal]
    reason: str = ""
    _asked: float = float("-inf")

    def due(self) -> bool:
        return self.clock() - self._asked >= READ_EVERY

    async def ask(self, conn: Connection, limits: Limits) -> str:
        """The first reason to wait, or empty."""
        self._asked = self.clock()
        self.reason = ""
        for signal in self.signals:
            if reason := await signal.read(conn, limits, self._asked):
                self.reason = reason
                break
        return self.reason

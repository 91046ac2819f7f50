"""Reads what happens in a database: sessions, replication, vacuum. Takes no lock on the tables of the application."""

import asyncio
from collections.abc import Sequence

from zdd_tui.backends.postgres.connection import Connection, Pool, Row
from zdd_tui.model.activity import DatabaseActivity, Replica, Session, TableVacuum
from zdd_tui.model.masking import mask_text
from zdd_tui.model.operations.registry import list_tables
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.sql import quote_qualified
from zdd_tui.model.workload.drain import DatabaseSessions, SessionCount

MAX_SESSIONS = 500
MAX_QUERY_CHARACTERS = 4000
MAX_CLIENTS = 2000
"""Clients whose sessions are counted."""
STATEMENT_TIMEOUT = "3s"

# pg_blocking_pids is for those that wait alone: it stops the lock manager for a moment.
_SESSIONS = """
WITH waiting AS (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted)
SELECT a.pid, a.backend_start::text AS started, coalesce(a.usename, '') AS role,
  coalesce(a.application_name, '') AS application, coalesce(host(a.client_addr), '') AS address,
  coalesce(a.state, CASE WHEN a.backend_start IS NULL THEN 'hidden' ELSE a.backend_type END, '') AS state,
  extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS transaction_seconds,
  extract(epoch FROM clock_timestamp() - a.state_change)::float8 AS state_seconds,
  coalesce(a.wait_event_type || ' ' || a.wait_event, '') AS wait, left(coalesce(a.query, ''), $1) AS query,
  CASE WHEN a.pid IN (SELECT pid FROM waiting) THEN pg_blocking_pids(a.pid) ELSE '{}' END AS blocked_by
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start NULLS LAST LIMIT $2
"""

# Of the sessions of the application alone: a background worker has no client.
_CLIENTS = """
SELECT coalesce(application_name, '') AS application, coalesce(host(client_addr), '') AS address,
  backend_start IS NULL AS is_hidden, count(*) AS sessions
FROM pg_stat_activity
WHERE datname = current_database() AND (backend_type = 'client backend' OR backend_start IS NULL)
GROUP BY 1, 2, 3 ORDER BY sessions DESC LIMIT $1
"""

_PREPARED = """
SELECT 0 AS pid, '' AS started, owner AS role, gid AS application, '' AS address, 'prepared' AS state,
  extract(epoch FROM clock_timestamp() - prepared)::float8 AS transaction_seconds,
  extract(epoch FROM clock_timestamp() - prepared)::float8 AS state_seconds, '' AS wait, '' AS query,
  '{}'::int[] AS blocked_by
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 1
"""

_REPLICAS = """
SELECT coalesce(nullif(application_name, ''), host(client_addr), '?') AS name, coalesce(state, 'hidden') AS state,
  extract(epoch FROM replay_lag)::float8 AS seconds,
  (CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn() END - replay_lsn)::bigint AS bytes
FROM pg_stat_replication
UNION ALL
SELECT 'slot ' || slot_name, 'inactive', NULL,
  (CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn() END - restart_lsn)::bigint
FROM pg_replication_slots WHERE NOT active
ORDER BY 1 LIMIT 50
"""

_TABLES = """
SELECT n.nspname || '.' || c.relname AS table, s.n_live_tup AS live, s.n_dead_tup AS dead,
  extract(epoch FROM clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::float8 AS last_seconds,
  100.0 * age(c.relfrozenxid) / current_setting('autovacuum_freeze_max_age')::float8 AS wraparound,
  (SELECT coalesce(a.backend_type, 'vacuum') || ': ' || v.phase || CASE WHEN v.heap_blks_total > 0
     THEN ', ' || (100 * v.heap_blks_scanned / v.heap_blks_total) || '%' ELSE '' END
   FROM pg_stat_progress_vacuum v LEFT JOIN pg_stat_activity a ON a.pid = v.pid
   WHERE v.relid = c.oid LIMIT 1) AS running
FROM unnest($1::text[]) WITH ORDINALITY AS t (name, place)
JOIN pg_class c ON c.oid = to_regclass(t.name) JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid ORDER BY t.place
"""


async def read_activity(conn: Connection, plan: BasePlan) -> DatabaseActivity:
    """One reading; of the tables that the plan changes also the vacuum."""
    names = await asyncio.to_thread(_table_names, plan)  # parsing operations takes time
    async with conn.transaction(readonly=True):
        await conn.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
        sessions = [_session(row) for row in await conn.fetch(_SESSIONS, MAX_QUERY_CHARACTERS, MAX_SESSIONS)]
        sessions += [_session(row) for row in await conn.fetch(_PREPARED)]
        replicas = [
            Replica(row["name"], row["state"], row["seconds"], row["bytes"]) for row in await conn.fetch(_REPLICAS)
        ]
        tables = {row["table"]: _table(row) for row in await conn.fetch(_TABLES, names)}
    hidden = sum(session.state == "hidden" for session in sessions)
    return DatabaseActivity(tuple(sessions), tuple(replicas), tuple(tables.values()), hidden)


async def read_sessions(conn: Connection | Pool) -> DatabaseSessions:
    """The number of sessions of each client."""
    rows = await conn.fetch(_CLIENTS, MAX_CLIENTS + 1)
    clients = [
        SessionCount(row["application"], row["address"], row["sessions"]) for row in rows if not row["is_hidden"]
    ]
    hidden = sum(row["sessions"] for row in rows if row["is_hidden"])
    return DatabaseSessions(tuple(clients[:MAX_CLIENTS]), hidden, len(rows) > MAX_CLIENTS)


def _table_names(plan: BasePlan) -> Sequence[str]:
    if isinstance(plan, BaseOperationsPlan):
        return list_tables(plan)
    if not isinstance(plan, Plan):
        return []
    names = (plan.change.table, plan.change.target_table)
    return list(dict.fromkeys(quote_qualified(table.schema_, table.name) for table in names))


def _session(row: Row) -> Session:
    return Session(
        pid=row["pid"],
        started=row["started"] or "",
        role=row["role"],
        application=row["application"],
        address=row["address"],
        state=row["state"],
        transaction_seconds=row["transaction_seconds"],
        state_seconds=row["state_seconds"],
        wait=row["wait"],
        query=mask_text(row["query"]),
        blocked_by=tuple(dict.fromkeys(row["blocked_by"])),
    )


def _table(row: Row) -> TableVacuum:
    return TableVacuum(
        row["table"], row["live"] or 0, row["dead"] or 0, row["last_seconds"], row["running"] or "", row["wraparound"]
    )

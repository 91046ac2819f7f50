"""Reads who queries what: pg_stat_activity, pg_stat_statements, and the counters of indexes and sequences.

Sessions of zdd do not count. Statements inside functions are left out of pg_stat_statements: the bodies of functions
are read instead.
"""

# ruff: noqa: S608  names are quoted

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.removed_use import resolve_removed
from zdd_tui.model.counting import count_noun
from zdd_tui.model.doctor.facts import OldSideQuery, QueryFacts
from zdd_tui.model.duration import format_duration
from zdd_tui.model.operations.base import RemovedKind
from zdd_tui.model.operations.removed_use import (
    ClientSession,
    ResolvedObject,
    StatementCount,
    UseFacts,
    names_object,
    old_side,
)
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import name_sql, quote_qualified, redact_query

_CANNOT_SEE_ALL = """
SELECT NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""
"""Whether the queries of other roles are hidden."""

_STATEMENTS_SCHEMA = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""
"""The schema of pg_stat_statements; no row where it is not installed."""

_ACTIVITY = """
SELECT pid, coalesce(usename, '')::text AS role, application_name AS application, coalesce(host(client_addr), '')
         AS address, query, coalesce(query_id, 0) AS query_id,
       state = 'active' OR state LIKE 'idle in transaction%' AS is_busy,
       coalesce(extract(epoch FROM query_start), 0)::float8 AS started_at,
       octet_length(query) >= size - 1 AS is_cut
FROM (SELECT *, pg_size_bytes(current_setting('track_activity_query_size')) AS size FROM pg_stat_activity) AS a
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND application_name !~ '^zdd( |$)'
"""

_NOT_TRACKED = """
SELECT coalesce(string_agg(who, ', '), '') FROM (
  SELECT 'every session' AS who WHERE current_setting('pg_stat_statements.track') = 'none'
  UNION ALL
  SELECT CASE WHEN s.setrole <> 0 THEN 'role ' || pg_get_userbyid(s.setrole) ELSE 'this database' END
  FROM pg_db_role_setting s
  WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND 'pg_stat_statements.track=none' = ANY (s.setconfig)) AS settings
"""


@dataclass(slots=True)
class _Counts:
    """What pg_stat_statements has counted; the attributes as in :class:`UseFacts`."""

    schema: str = ""
    statements: tuple[StatementCount, ...] = ()
    reset_at: float = 0.0
    discarded: int = 0
    unavailable: list[tuple[str, str]] = field(default_factory=list)


async def read_use_facts(conn: Connection, objects: Sequence[ResolvedObject]) -> UseFacts:
    """Reads who queries what, as far as the objects may be named."""
    unavailable = []
    if await conn.fetchval(_CANNOT_SEE_ALL):
        role = await conn.fetchval("SELECT quote_ident(current_user)")
        unavailable.append(("queries of other roles are hidden", f"GRANT pg_read_all_stats TO {role}"))
    rows = await conn.fetch(_ACTIVITY)
    cut = [row["query_id"] for row in rows if row["is_cut"] and row["query_id"]]
    words = sorted({word for each in objects for word in each.target.words})
    counts = await _read_statements(conn, words, cut)
    texts = {each.key[2]: each.query for each in counts.statements}
    sessions = tuple(
        ClientSession(
            row["pid"],
            row["role"],
            row["application"],
            row["address"],
            texts.get(row["query_id"], row["query"]) if row["is_cut"] else row["query"],
            row["query_id"],
            bool(row["is_busy"]),
            row["started_at"],
            bool(row["is_cut"]) and row["query_id"] not in texts,
        )
        for row in rows
        if row["query"] != "<insufficient privilege>"
    )
    return UseFacts(
        float(await conn.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")),
        sessions,
        counts.statements,
        await _read_scans(conn, objects),
        counts.schema,
        counts.reset_at,
        counts.discarded,
        (*unavailable, *counts.unavailable),
    )


async def _read_statements(conn: Connection, words: list[str], query_ids: list[int]) -> _Counts:
    schema = await conn.fetchval(_STATEMENTS_SCHEMA)
    if schema is None:
        return _Counts(unavailable=[("pg_stat_statements is not installed", _INSTALL)])
    counts = _Counts(name_sql(schema))
    view, info = (quote_qualified(schema, name) for name in ("pg_stat_statements", "pg_stat_statements_info"))
    try:
        rows = await conn.fetch(
            f"SELECT userid::int8, dbid::int8, queryid, coalesce(pg_get_userbyid(userid), '')::text AS role, query,"
            # Since PostgreSQL 17; read so that older ones have no error.
            " calls, extract(epoch FROM (to_jsonb(s) ->> 'stats_since')::timestamptz)::float8 AS first_at"
            f" FROM {view} AS s WHERE toplevel AND queryid IS NOT NULL"
            " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (queryid = ANY ($2) OR query ILIKE '%u&\"%'"
            "  OR EXISTS (SELECT FROM unnest($1::text[]) AS word WHERE position(word IN lower(query)) > 0))",
            words,
            query_ids,
        )
        known = await conn.fetchrow(f"SELECT dealloc, extract(epoch FROM stats_reset)::float8 FROM {info}")
        if untracked := await conn.fetchval(_NOT_TRACKED):
            counts.unavailable.append((f"pg_stat_statements.track is none for {untracked}", "set it to top"))
    except asyncpg.ObjectNotInPrerequisiteStateError:
        counts.unavailable.append(("pg_stat_statements is not in shared_preload_libraries", _INSTALL))
        return counts
    except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError):
        counts.unavailable.append(("pg_stat_statements is too old", "ALTER EXTENSION pg_stat_statements UPDATE"))
        return counts
    assert known is not None, "the view has one row"
    counts.discarded, counts.reset_at = known[0], known[1] or 0.0
    counts.statements = tuple(
        StatementCount(
            (row["userid"], row["dbid"], row["queryid"]),
            row["role"],
            row["query"],
            row["calls"],
            row["first_at"] or 0.0,
        )
        for row in rows
    )
    return counts


_INSTALL = "add it to shared_preload_libraries, restart, and CREATE EXTENSION pg_stat_statements"
"""What makes the use of objects visible."""


async def _read_scans(conn: Connection, objects: Sequence[ResolvedObject]) -> dict[int, int]:
    """Scans of indexes, and reads of sequences, by OID."""
    indexes = [oid for each in objects if each.removed.kind is not RemovedKind.SEQUENCE for oid in each.relations]
    sequences = [oid for each in objects if each.removed.kind is RemovedKind.SEQUENCE for oid in each.relations]
    rows = await conn.fetch(
        "SELECT oid::int8, pg_stat_get_numscans(oid) AS count FROM unnest($1::oid[]) AS oid UNION ALL"
        " SELECT oid::int8, pg_stat_get_blocks_fetched(oid) FROM unnest($2::oid[]) AS oid",
        indexes,
        sequences,
    )
    return {row["oid"]: row["count"] or 0 for row in rows}


# --- the old side of a change

SAMPLE_SECONDS = 2.0
"""Seconds between two readings of the counts, which have no time of the last call."""


async def read_old_queries(
    conn: Connection, plan: Plan, *, since: float | None, sample_seconds: float = SAMPLE_SECONDS
) -> QueryFacts:
    """Finds the queries of this database that name the old side of the plan's change.

    A statement is in use when its count grew between two readings, or when it was first called after the cutover.

    Args:
        since: time of the cutover, seconds since 1970; None before it: then the counts are read once.
        sample_seconds: seconds between the two readings.
    """
    objects = await resolve_removed(conn, old_side(plan), ())
    facts = await read_use_facts(conn, objects)
    statements = [each for each in facts.statements if names_object(each.query, objects)]
    if since is None:
        return QueryFacts(tuple(OldSideQuery(redact_query(each.query), "") for each in statements), facts.unavailable)
    before = {each.key: each.calls for each in statements}
    if statements:
        await asyncio.sleep(sample_seconds)
        facts = await read_use_facts(conn, objects)
    queries = [
        OldSideQuery(
            redact_query(each.query),
            f"pid {each.pid} ({each.application or 'no application_name'}) sent it"
            f" {format_duration(max(0.0, facts.at - each.started_at))} ago",
        )
        for each in facts.sessions
        if (each.is_busy or each.started_at >= since) and names_object(each.query, objects)
    ]
    counted = [
        OldSideQuery(redact_query(each.query), _describe_calls(each, before, since, sample_seconds))
        for each in facts.statements
        if names_object(each.query, objects)
    ]
    return QueryFacts((*queries, *sorted(counted, key=lambda each: not each.evidence)), facts.unavailable)


def _describe_calls(
    statement: StatementCount, before: dict[tuple[int, int, int], int], since: float, seconds: float
) -> str:
    """Why a statement counts as live; empty where it may be old."""
    if (more := statement.calls - before.get(statement.key, 0)) > 0:
        return f"called {count_noun(more, 'time')} within {seconds:g} s"
    if statement.first_at > since:
        return f"first called {format_duration(statement.first_at - since)} after the cutover"
    return ""

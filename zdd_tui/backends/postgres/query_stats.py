"""Finds queries that still use the old side: running ones in pg_stat_activity, others in pg_stat_statements.

pg_stat_statements counts calls since its reset, without the time of the last call. So it is read twice: a statement
is in use when its count grew in between, or when it was first seen after the cutover.
"""

import asyncio
from typing import TypeAlias

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.doctor.facts import OldSideQuery, QueryFacts
from zdd_tui.model.doctor.pitfalls import references_old_side
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.sql import quote_identifier, quote_qualified, redact_query

_StatementCounts: TypeAlias = dict[tuple[object, ...], tuple[str, int, float | None]]
"""By user and query id: text, calls, and seconds from the cutover to the first call."""

SAMPLE_SECONDS = 2.0
"""Seconds between the two readings of the counts."""

# Idle sessions are left out: their last query may be old. So are the sessions of zdd, which may read both sides.
_ACTIVITY = """
SELECT pid, application_name, query, extract(epoch FROM clock_timestamp() - query_start)::float8 AS age
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND application_name !~ '^zdd( |$)'
  AND (state = 'active' OR state LIKE 'idle in transaction%' OR query_start >= to_timestamp($1::float8))
"""

CANNOT_SEE_ALL = """
SELECT NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""
"""Whether the queries of other roles are hidden."""

STATEMENTS_SCHEMA = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""
"""The schema of pg_stat_statements; no row where it is not installed."""


async def read_old_queries(
    conn: Connection, plan: BasePlan, *, since: float | None, sample_seconds: float = SAMPLE_SECONDS
) -> QueryFacts:
    """Finds the queries of this database that name the old side of the plan's change.

    Args:
        since: time of the cutover, seconds since 1970; None before it: then the counts are read once.
        sample_seconds: seconds between the two readings.
    """
    limitations: list[tuple[str, str]] = []
    if await conn.fetchval(CANNOT_SEE_ALL):
        role = await conn.fetchval("SELECT current_user::text")
        limitations.append(
            (
                f"queries of other roles are hidden: role {role} is not a member of pg_read_all_stats",
                f"GRANT pg_read_all_stats TO {quote_identifier(role)}",
            )
        )
    schema = await conn.fetchval(STATEMENTS_SCHEMA)
    statements: list[OldSideQuery] = []
    if schema is None:
        limitations.append(
            (
                "pg_stat_statements is not installed: only running queries are visible",
                "CREATE EXTENSION pg_stat_statements; it also needs shared_preload_libraries",
            )
        )
    else:
        try:
            before = await _read_statements(conn, plan, schema, since)
            if since is not None and before:
                await asyncio.sleep(sample_seconds)
                after = await _read_statements(conn, plan, schema, since)
                statements = _compare_statements(before, after, sample_seconds)
            else:
                statements = [OldSideQuery(redact_query(query), "") for query, _, _ in before.values()]
        except asyncpg.ObjectNotInPrerequisiteStateError:
            limitations.append(
                (
                    "pg_stat_statements is installed, but not in shared_preload_libraries",
                    "add it to shared_preload_libraries, and restart the server",
                )
            )
    activity = await _read_activity(conn, plan, since)
    return QueryFacts((*activity, *statements), tuple(limitations))


async def _read_activity(conn: Connection, plan: BasePlan, since: float | None) -> list[OldSideQuery]:
    rows = await conn.fetch(_ACTIVITY, since if since is not None else float("inf"))
    queries = []
    for row in rows:
        if row["query"] and references_old_side(plan, row["query"]):
            who = f"pid {row['pid']} ({row['application_name'] or 'no application_name'})"
            age = format_duration(max(0.0, row["age"] or 0.0))
            queries.append(OldSideQuery(redact_query(row["query"]), f"{who} sent it {age} ago"))
    return queries


async def _read_statements(conn: Connection, plan: BasePlan, schema: str, since: float | None) -> _StatementCounts:
    """Reads the statements that name the old side."""
    view = quote_qualified(schema, "pg_stat_statements")
    has_first_call = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'stats_since')", view
    )
    first = "extract(epoch FROM stats_since)::float8" if has_first_call else "NULL::float8"
    rows = await conn.fetch(
        f"SELECT userid, queryid, query, calls, {first} AS first_seen FROM {view}"  # noqa: S608  a quoted name
        # Statements inside functions are left out: they may come from our sync triggers.
        " WHERE toplevel AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    statements: _StatementCounts = {}
    for row in rows:
        if references_old_side(plan, row["query"] or ""):
            first_call = None if since is None or row["first_seen"] is None else row["first_seen"] - since
            statements[row["userid"], row["queryid"]] = (row["query"], row["calls"], first_call)
    return statements


def _compare_statements(before: _StatementCounts, after: _StatementCounts, seconds: float) -> list[OldSideQuery]:
    queries = []
    for key, (query, calls, first_call) in after.items():
        more = calls - (before[key][1] if key in before else 0)
        if more > 0:
            proof = f"called {more} time{'' if more == 1 else 's'} within {seconds:g} s"
        elif first_call is not None and first_call > 0:
            proof = f"first called {format_duration(first_call)} after the cutover"
        else:
            proof = ""
        queries.append(OldSideQuery(redact_query(query), proof))
    return sorted(queries, key=lambda query: not query.evidence)

"""Who still asks for the old side: pg_stat_activity for now, pg_stat_statements for what comes and goes.

pg_stat_statements counts since it was reset, and does not say when a statement was called last. So it is read twice:
a count that grew in between is alive, and so is a statement that was first seen after the cutover.
"""

import asyncio

import asyncpg

from zdd_tui.backends.postgres.catalog import Connection
from zdd_tui.model.doctor.evidence import redact_query, references_old_side
from zdd_tui.model.doctor.facts import OldSideQuery, QueryFacts
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.sql import quote_qualified

StatementCounts = dict[tuple[object, ...], tuple[str, int, float | None]]
"""Statements: text, calls, and seconds from the cutover to the first call."""

SAMPLE_SECONDS = 2.0
"""Between the two readings of the counts."""

# Not what is idle: its last query may be of yesterday. Ours are the agent's, which may read both sides.
_ACTIVITY = """
SELECT pid, application_name, query, extract(epoch FROM clock_timestamp() - query_start)::float8 AS age
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND application_name !~ '^zdd( |$)'
  AND (state = 'active' OR state LIKE 'idle in transaction%' OR query_start >= to_timestamp($1::float8))
"""

_CANNOT_SEE_ALL = """
SELECT NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
"""

_EXTENSION = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""


async def read_old_queries(
    conn: Connection, plan: BasePlan, *, since: float | None, sample_seconds: float = SAMPLE_SECONDS
) -> QueryFacts:
    """Queries of this database that name the old side of the plan's change.

    Args:
        since: the cutover; None before it, and then nothing is waited for.
        sample_seconds: seconds between the two readings.
    """
    not_looked: list[str] = []
    if await conn.fetchval(_CANNOT_SEE_ALL):
        not_looked.append("other roles' queries are hidden: this role is no member of pg_read_all_stats")
    schema = await conn.fetchval(_EXTENSION)
    found: list[OldSideQuery] = []
    if schema is None:
        not_looked.append("pg_stat_statements is not installed: only what runs this instant can be seen")
        activity = await _read_activity(conn, plan, since)
    else:
        try:
            before = await _read_statements(conn, plan, schema, since)
            if since is not None and before:
                await asyncio.sleep(sample_seconds)
                found = _compare_statements(before, await _read_statements(conn, plan, schema, since), sample_seconds)
            else:
                found = [OldSideQuery(redact_query(query), "") for query, _, _ in before.values()]
        except asyncpg.ObjectNotInPrerequisiteStateError:
            not_looked.append("pg_stat_statements is installed, but not in shared_preload_libraries")
        activity = await _read_activity(conn, plan, since)
    return QueryFacts((*activity, *found), tuple(not_looked))


async def _read_activity(conn: Connection, plan: BasePlan, since: float | None) -> list[OldSideQuery]:
    rows = await conn.fetch(_ACTIVITY, since if since is not None else float("inf"))
    found = []
    for row in rows:
        if row["query"] and references_old_side(plan, row["query"]):
            who = f"pid {row['pid']} ({row['application_name'] or 'no name'})"
            age = format_duration(max(0.0, row["age"] or 0.0))
            found.append(OldSideQuery(redact_query(row["query"]), f"{who} sent it {age} ago"))
    return found


async def _read_statements(conn: Connection, plan: BasePlan, schema: str, since: float | None) -> StatementCounts:
    """The statements that name the old side."""
    view = quote_qualified(schema, "pg_stat_statements")
    dated = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'stats_since')", view
    )
    first = "extract(epoch FROM stats_since)::float8" if dated else "NULL::float8"
    rows = await conn.fetch(
        f"SELECT userid, queryid, query, calls, {first} AS first_seen FROM {view}"  # noqa: S608  a quoted name
        # What functions run is left out: it may be our own triggers, which keep both sides in step.
        " WHERE toplevel AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    found: StatementCounts = {}
    for row in rows:
        if references_old_side(plan, row["query"] or ""):
            late = None if since is None or row["first_seen"] is None else row["first_seen"] - since
            found[row["userid"], row["queryid"]] = (row["query"], row["calls"], late)
    return found


def _compare_statements(before: StatementCounts, after: StatementCounts, seconds: float) -> list[OldSideQuery]:
    found = []
    for key, (query, calls, late) in after.items():
        more = calls - (before[key][1] if key in before else 0)
        if more > 0:
            proof = f"called {more} time{'' if more == 1 else 's'} within {seconds:g} s"
        elif late is not None and late > 0:
            proof = f"called first {format_duration(late)} after it"
        else:
            proof = ""
        found.append(OldSideQuery(redact_query(query), proof))
    return sorted(found, key=lambda each: not each.evidence)

"""Reads who uses what a release removes: pg_stat_activity, pg_stat_statements, and the counters of indexes.

Sessions of zdd do not count. Statements inside functions are left out of pg_stat_statements: the bodies of functions
are read instead.
"""

# ruff: noqa: S608  names are quoted

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.query_stats import CANNOT_SEE_ALL, STATEMENTS_SCHEMA
from zdd_tui.backends.postgres.row_visibility import WITH_DESCENDANTS
from zdd_tui.model.operations.base import RemovedKind, RemovedObject
from zdd_tui.model.operations.removed_use import (
    ClientSession,
    ResolvedObject,
    StatementCount,
    UseFacts,
)
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.statement_uses import RemovedTarget, may_be_named_in
from zdd_tui.model.sql import name_sql, quote_qualified

_TABLE = f"""
WITH RECURSIVE {WITH_DESCENDANTS.format(roots="ARRAY[$1]")}
SELECT array_agg(DISTINCT ARRAY[n.nspname::text, c.relname::text]) AS names,
  (SELECT array_agg(DISTINCT ARRAY[on_.nspname::text, o.relname::text])
   FROM pg_attribute a JOIN pg_class o ON o.oid = a.attrelid JOIN pg_namespace on_ ON on_.oid = o.relnamespace
   WHERE a.attname = $2 AND NOT a.attisdropped AND a.attnum > 0 AND o.relkind IN ('r', 'p', 'v', 'm', 'f')
     AND o.oid NOT IN (SELECT oid FROM family)) AS others,
  EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped) AS is_there
FROM family JOIN pg_class c ON c.oid = family.oid JOIN pg_namespace n ON n.oid = c.relnamespace
"""

_RELATION = """
SELECT c.oid::int8, n.nspname::text, c.relname::text,
  (SELECT array_agg(ARRAY[on_.nspname::text, o.relname::text])
   FROM pg_class o JOIN pg_namespace on_ ON on_.oid = o.relnamespace
   WHERE o.relname = c.relname AND o.oid <> c.oid AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
     AND on_.nspname !~ '^pg_') AS others
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)
"""

_INDEX_FACTS = """,
family AS (SELECT oid FROM start UNION SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid)
SELECT n.nspname::text AS schema, t.relname::text AS name, i.indisunique AS is_unique,
  (SELECT coalesce(array_agg(a.attname::text), '{}') FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k (number)
   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) AS key,
  coalesce((SELECT k.conname::text FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
   LIMIT 1), '') AS "constraint",
  (SELECT array_agg(oid::int8) FROM family) AS indexes
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE i.indexrelid = (SELECT oid FROM start)
"""

_INDEX = f"""
WITH RECURSIVE start AS (SELECT to_regclass($1)::oid AS oid){_INDEX_FACTS}
"""

_CONSTRAINT = f"""
WITH RECURSIVE start AS (
  SELECT conindid AS oid FROM pg_constraint
  WHERE conrelid = to_regclass($1) AND conname = $2 AND contype IN ('p', 'u', 'x')){_INDEX_FACTS}
"""

_ROUTINE = """
SELECT n.nspname::text AS schema, p.proname::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = $1 AND CASE WHEN $2 = '' THEN pg_function_is_visible(p.oid) ELSE n.nspname = $2 END
"""

_TYPE = """
SELECT n.nspname::text AS schema, t.typname::text AS name FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid = to_regtype($1)
"""


async def resolve_removed(
    conn: Connection, objects: Iterable[RemovedObject], replaced: Iterable[ObjectKey]
) -> list[ResolvedObject]:
    """The objects that exist.

    Args:
        replaced: functions that the release itself replaces or removes: their bodies do not count.
    """
    resolved = []
    for each in objects:
        async with conn.transaction(readonly=True):
            for setting in each.settings:
                await conn.execute(setting)
            if (found := await _resolve(conn, each)) is not None:
                resolved.append(found)
    return await _with_functions(conn, resolved, replaced)


async def _resolve(conn: Connection, removed: RemovedObject) -> ResolvedObject | None:
    kind, names = removed.kind, removed.names
    match kind:
        case RemovedKind.COLUMN | RemovedKind.DEFAULT:
            row = await conn.fetchrow(_TABLE, name_sql(*names[:-1]), names[-1])
            if row is None or not row["is_there"]:
                return None
            also = await _other_names(conn, removed)
            target = RemovedTarget(kind, _pairs(row["names"]) | also, names[-1], _pairs(row["others"]) - also)
            return ResolvedObject(removed, target)
        case RemovedKind.RELATION | RemovedKind.SEQUENCE:
            row = await conn.fetchrow(_RELATION, name_sql(*names))
            if row is None:
                return None
            target = RemovedTarget(kind, frozenset({(row[1], row[2])}), others=_pairs(row["others"]))
            return ResolvedObject(removed, target, (row[0],) if kind is RemovedKind.SEQUENCE else ())
        case RemovedKind.INDEX | RemovedKind.CONSTRAINT:
            return await _resolve_index(conn, removed)
        case RemovedKind.ROUTINE:
            rows = await conn.fetch(_ROUTINE, names[-1], names[-2] if len(names) > 1 else "")
            found = frozenset((row["schema"], row["name"]) for row in rows)
            # One of several functions of a name: a call does not tell which.
            others = found if len(rows) > 1 else frozenset[tuple[str, str]]()
            return ResolvedObject(removed, RemovedTarget(kind, found, others=others)) if found else None
        case RemovedKind.TYPE:
            row = await conn.fetchrow(_TYPE, name_sql(*names))
            found = frozenset({(row["schema"], row["name"])}) if row is not None else frozenset()
            return ResolvedObject(removed, RemovedTarget(kind, found)) if found else None


async def _resolve_index(conn: Connection, removed: RemovedObject) -> ResolvedObject | None:
    names = removed.names
    if removed.kind is RemovedKind.INDEX:
        row = await conn.fetchrow(_INDEX, name_sql(*names))
    else:
        row = await conn.fetchrow(_CONSTRAINT, name_sql(*names[:-1]), names[-1])
    if row is None:
        return None  # a CHECK or foreign key, which no query uses
    target = RemovedTarget(
        removed.kind,
        frozenset({(row["schema"], row["name"])}) | await _other_names(conn, removed),
        key=frozenset(row["key"]) if row["is_unique"] else frozenset(),
        constraint=row["constraint"],
    )
    return ResolvedObject(removed, target, tuple(row["indexes"]))


async def _other_names(conn: Connection, removed: RemovedObject) -> frozenset[tuple[str, str]]:
    """The view that has the table's other name while the release renames it."""
    row = await conn.fetchrow(_RELATION, name_sql(*removed.other_names[:-1])) if removed.other_names else None
    return frozenset() if row is None else frozenset({(row[1], row[2])})


def _pairs(rows: Any) -> frozenset[tuple[str, str]]:
    return frozenset((schema, name) for schema, name in rows or ())


_FUNCTIONS = """
SELECT p.oid::regprocedure::text AS label, n.nspname::text AS schema, p.proname::text AS name, p.prosrc AS body,
  (SELECT coalesce(array_agg(DISTINCT ARRAY[tn.nspname::text, c.relname::text]), '{}')
   FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace tn ON tn.oid = c.relnamespace
   WHERE t.tgfoid = p.oid AND NOT t.tgisinternal) AS tables
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('sql', 'plpgsql') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'zdd')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
  AND EXISTS (SELECT FROM unnest($1::text[]) AS word WHERE position(word IN lower(p.prosrc)) > 0)
"""


async def _with_functions(
    conn: Connection, objects: Sequence[ResolvedObject], replaced: Iterable[ObjectKey]
) -> list[ResolvedObject]:
    """The objects with the functions whose bodies, which pg_depend does not know, name them."""
    words = {word for each in objects for word in (*each.target.words, each.target.column.lower()) if word}
    rows = await conn.fetch(_FUNCTIONS, sorted(words)) if words else []
    gone = {(key.schema, key.name.partition("(")[0]) for key in replaced}
    rows = [row for row in rows if (row["schema"], row["name"]) not in gone]
    return [
        replace(
            each,
            functions=tuple(
                row["label"]
                for row in rows
                if may_be_named_in(
                    row["body"], each.target, is_of_table=bool(_pairs(row["tables"]) & each.target.names)
                )
            ),
        )
        for each in objects
    ]


# --- queries

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
    unavailable: list[str] = field(default_factory=list)


async def read_use_facts(conn: Connection, objects: Sequence[ResolvedObject]) -> UseFacts:
    """Reads who queries what, as far as the objects may be named."""
    unavailable = []
    if await conn.fetchval(CANNOT_SEE_ALL):
        role = await conn.fetchval("SELECT quote_ident(current_user)")
        unavailable.append(f"queries of other roles are hidden: GRANT pg_read_all_stats TO {role}")
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
    schema = await conn.fetchval(STATEMENTS_SCHEMA)
    if schema is None:
        return _Counts(unavailable=[f"pg_stat_statements is not installed: {_INSTALL}"])
    counts = _Counts(name_sql(schema))
    view, info = (quote_qualified(schema, name) for name in ("pg_stat_statements", "pg_stat_statements_info"))
    try:
        rows = await conn.fetch(
            f"SELECT userid::int8, dbid::int8, queryid, coalesce(pg_get_userbyid(userid), '')::text AS role, query,"
            f" calls FROM {view} WHERE toplevel AND queryid IS NOT NULL"
            " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND (queryid = ANY ($2) OR query ILIKE '%u&\"%'"
            "  OR EXISTS (SELECT FROM unnest($1::text[]) AS word WHERE position(word IN lower(query)) > 0))",
            words,
            query_ids,
        )
        known = await conn.fetchrow(f"SELECT dealloc, extract(epoch FROM stats_reset)::float8 FROM {info}")
        if untracked := await conn.fetchval(_NOT_TRACKED):
            counts.unavailable.append(f"pg_stat_statements.track is none for {untracked}: set it to top")
    except asyncpg.ObjectNotInPrerequisiteStateError:
        counts.unavailable.append(f"pg_stat_statements is not in shared_preload_libraries: {_INSTALL}")
        return counts
    except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError):
        counts.unavailable.append("pg_stat_statements is too old: ALTER EXTENSION pg_stat_statements UPDATE")
        return counts
    assert known is not None, "the view has one row"
    counts.discarded, counts.reset_at = known[0], known[1] or 0.0
    counts.statements = tuple(
        StatementCount((row["userid"], row["dbid"], row["queryid"]), row["role"], row["query"], row["calls"])
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

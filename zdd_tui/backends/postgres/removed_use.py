"""What a release removes, as the catalog has it, with the functions whose bodies name it."""

# ruff: noqa: S608  names are quoted

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.operations import reading_with
from zdd_tui.backends.postgres.row_visibility import WITH_DESCENDANTS
from zdd_tui.model.operations.base import RemovedKind, RemovedObject
from zdd_tui.model.operations.removed_use import ResolvedObject
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.statement_uses import RemovedTarget, may_be_named_in
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql

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
WITH RECURSIVE readers (oid) AS (
  SELECT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass($1) AND r.ev_class <> d.refobjid
  UNION
  SELECT r.ev_class FROM readers u JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid
  JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
)
SELECT c.oid::int8, n.nspname::text, c.relname::text,
  (SELECT array_agg(ARRAY[on_.nspname::text, o.relname::text])
   FROM pg_class o JOIN pg_namespace on_ ON on_.oid = o.relnamespace
   WHERE o.relname = c.relname AND o.oid <> c.oid AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
     AND on_.nspname !~ '^pg_') AS others,
  (SELECT array_agg(ARRAY[vn.nspname::text, v.relname::text])
   FROM readers JOIN pg_class v USING (oid) JOIN pg_namespace vn ON vn.oid = v.relnamespace) AS views
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)
"""

_INDEX_FACTS = """
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
"""The rest of a statement that begins with the CTE ``start`` of the index's oid."""

_INDEX = f"""
WITH RECURSIVE start AS (SELECT to_regclass($1)::oid AS oid),{_INDEX_FACTS}
"""

_CONSTRAINT = f"""
WITH RECURSIVE start AS (
  SELECT conindid AS oid FROM pg_constraint
  WHERE conrelid = to_regclass($1) AND conname = $2 AND contype IN ('p', 'u', 'x')),{_INDEX_FACTS}
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
        async with reading_with(conn, each.settings):
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
            # In expand views have not been replaced yet: who reads one of it uses it, too.
            views = _pairs(row["views"]) if removed.phase is Phase.EXPAND else frozenset[tuple[str, str]]()
            target = RemovedTarget(kind, frozenset({(row[1], row[2])}) | views, others=_pairs(row["others"]))
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

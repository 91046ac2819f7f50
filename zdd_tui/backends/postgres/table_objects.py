"""Reads everything that the catalog knows about a table: for the comparison of the new side with the old one."""

# ruff: noqa: S608  the only text inserted is a list of constants

import json
import re
from dataclasses import replace
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.sequence_options import SEQUENCE_OPTIONS
from zdd_tui.model.ddl.canonical import Renaming, renamed_constraint, uses_whole_row
from zdd_tui.model.ddl.names import SCHEMA
from zdd_tui.model.ddl.table_objects import (
    CatalogObject,
    Grant,
    ObjectKind,
    SequenceObject,
    TableColumn,
    TableObjects,
)
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.sql import quote_identifier

LOCK_TIMEOUT = "500ms"

_TABLE = """
SELECT json_build_object(
  'oid', c.oid::bigint, 'owner', pg_get_userbyid(c.relowner), 'row_security', c.relrowsecurity,
  'force_row_security', c.relforcerowsecurity, 'comment', obj_description(c.oid, 'pg_class'),
  'replica_identity', c.relreplident,
  'replica_index', (SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident),
  'options', (SELECT json_agg(o) FROM unnest(c.reloptions) o),
  'toast_options', (SELECT json_agg(o) FROM pg_class t, unnest(t.reloptions) o WHERE t.oid = c.reltoastrelid),
  'unlogged', c.relpersistence = 'u',
  'of_type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
  'method', (SELECT m.amname FROM pg_am m WHERE m.oid = c.relam),
  'tablespace', (SELECT s.spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace),
  'grants', (SELECT json_agg(json_build_object('role', a.grantee::bigint, 'name', pg_get_userbyid(a.grantee),
      'privilege', a.privilege_type, 'grantable', a.is_grantable) ORDER BY a.grantee, a.privilege_type)
    FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner),
  'columns', (SELECT json_agg(json_build_object(
      'name', a.attname, 'type_oid', a.atttypid::bigint, 'mod', a.atttypmod,
      'collation', (SELECT quote_ident(n.nspname) || '.' || quote_ident(l.collname) FROM pg_collation l
                    JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation),
      'not_null', a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid
                    AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated),
      'not_null_constraint', (SELECT json_build_object('name', k.conname,
                                                       'comment', obj_description(k.oid, 'pg_constraint'))
                              FROM pg_constraint k
                              WHERE k.conrelid = c.oid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]),
      'identity', a.attidentity, 'generated', a.attgenerated <> '',
      'expression', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
                     WHERE d.adrelid = c.oid AND d.adnum = a.attnum),
      'storage', CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END, 'compression', a.attcompression,
      'statistics', to_jsonb(a)->>'attstattarget', 'options', a.attoptions,
      'comment', col_description(c.oid, a.attnum),
      'grants', (SELECT json_agg(json_build_object('role', g.grantee::bigint, 'name', pg_get_userbyid(g.grantee),
          'privilege', g.privilege_type, 'grantable', g.is_grantable) ORDER BY g.grantee, g.privilege_type)
        FROM aclexplode(a.attacl) g WHERE g.grantee <> c.relowner)
      ) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
)::text
FROM pg_class c WHERE c.oid = $1::bigint::oid
"""

# From a domain down to the type that it is based on: each level may have a default, NOT NULL and checks.
_DOMAINS = """
WITH RECURSIVE wanted AS (SELECT DISTINCT w.root, w.mod FROM unnest($1::bigint[], $2::int[]) AS w (root, mod)),
levels AS (
  SELECT w.root, w.mod, t.oid, t.typtype, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault, 0 AS level
  FROM wanted w JOIN pg_type t ON t.oid = w.root::oid
  UNION ALL
  SELECT l.root, l.mod, t.oid, t.typtype, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefault, l.level + 1
  FROM levels l JOIN pg_type t ON t.oid = l.typbasetype WHERE l.typtype = 'd')
SELECT l.root, l.mod, format_type(l.oid, CASE WHEN l.level = 0 THEN l.mod ELSE (
         SELECT u.typtypmod FROM levels u
         WHERE u.root = l.root AND u.mod = l.mod AND u.level = l.level - 1) END) AS type,
       l.typnotnull AS not_null, l.typdefault AS default,
       (SELECT json_agg(json_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid),
                                          'valid', k.convalidated))
        FROM pg_constraint k WHERE k.contypid = l.oid AND k.contype = 'c')::text AS checks
FROM levels l ORDER BY l.root, l.mod, l.level
"""

# What definitions leave out. An index's columns have statistics targets of their own where they are expressions.
_INDEX_PROPERTIES = """'tablespace', (SELECT s.spcname FROM pg_class x JOIN pg_tablespace s ON s.oid = x.reltablespace
      WHERE x.oid = {oid}),
    'clustered', (SELECT 'yes' FROM pg_index x WHERE x.indexrelid = {oid} AND x.indisclustered),
    'statistics', (SELECT string_agg(a.attnum || ' ' || (to_jsonb(a)->>'attstattarget'), ', ' ORDER BY a.attnum)
      FROM pg_attribute a WHERE a.attrelid = {oid} AND nullif(to_jsonb(a)->>'attstattarget', '-1') IS NOT NULL),
    'extension', {extension}"""
_EXTENSION = """(SELECT string_agg(quote_ident(e.extname), ', ' ORDER BY 1) FROM pg_depend d
      JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
      WHERE d.classid = '{catalog}'::regclass AND d.objid = {oid} AND d.deptype = 'x')"""


def _properties(catalog: str, oid: str, index: str = "", more: str = "") -> str:
    """SQL of the properties of an object, and of the index behind it, as JSON text.

    Args:
        index: its oid.
        more: further arguments of json_build_object.
    """
    parts = [f"'comment', obj_description({oid}, '{catalog}')"]
    if index:
        parts.append(_INDEX_PROPERTIES.format(oid=index, extension=_EXTENSION.format(catalog="pg_class", oid=index)))
    parts += [more] if more else []
    return f"json_strip_nulls(json_build_object({', '.join(parts)}))::text"


_CONSTRAINTS = f"""
SELECT k.conname AS name, k.contype::text AS type, pg_get_constraintdef(k.oid) AS definition, k.convalidated AS valid,
  k.conrelid = $1::bigint::oid AS own, n.nspname AS schema, r.relname AS table,
  r.relkind = 'p' AND k.contype = 'f' AND current_setting('server_version_num')::int < 180000 AS is_indivisible,
  CASE WHEN k.contype IN ('p', 'u') THEN pg_get_indexdef(k.conindid) END AS index,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = $1::bigint::oid AND a.attnum = ANY (
      CASE WHEN k.conrelid = $1::bigint::oid THEN k.conkey ELSE k.confkey END)) AS columns,
  ARRAY(SELECT a.attname::text FROM pg_depend d
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = k.conindid AND k.contype = 'x'
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::bigint::oid AND d.refobjsubid > 0) AS predicate,
  CASE WHEN k.conrelid = k.confrelid THEN ARRAY(SELECT a.attname::text FROM pg_attribute a
      WHERE a.attrelid = $1::bigint::oid AND a.attnum = ANY (k.confkey)) ELSE '{{}}' END AS own_targets,
  {_properties("pg_constraint", "k.oid", "CASE WHEN k.contype IN ('p', 'u', 'x') THEN k.conindid END")} AS properties
FROM pg_constraint k JOIN pg_class r ON r.oid = k.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE k.contype IN ('c', 'p', 'u', 'x', 'f') AND k.conparentid = 0
  AND (k.conrelid = $1::bigint::oid OR k.confrelid = $1::bigint::oid)
ORDER BY k.oid
"""

_USED_COLUMNS = """ARRAY(SELECT DISTINCT a.attname::text FROM pg_depend d
  JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = '{catalog}'::regclass AND d.objid = {oid} AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid = $1::bigint::oid AND d.refobjsubid > 0 ORDER BY 1)"""


def _used_columns(catalog: str, oid: str) -> str:
    return _USED_COLUMNS.format(catalog=catalog, oid=oid)


_INDEXES = f"""
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition, i.indisvalid AND i.indisready AS valid,
  {_used_columns("pg_class", "i.indexrelid")} AS columns,
  {_properties("pg_class", "i.indexrelid", "i.indexrelid")} AS properties
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::bigint::oid
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY i.indexrelid
"""

_POLICIES = f"""
SELECT p.polname AS name, p.polpermissive AS permissive, p.polcmd::text AS command,
  ARRAY(SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END
        FROM unnest(p.polroles) r ORDER BY 1) AS roles,
  pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check,
  {_used_columns("pg_policy", "p.oid")} AS columns, {_properties("pg_policy", "p.oid")} AS properties
FROM pg_policy p WHERE p.polrelid = $1::bigint::oid ORDER BY p.oid
"""

_FIRING = (
    "'fires', CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' END,"
    f" 'extension', {_EXTENSION.format(catalog='pg_trigger', oid='t.oid')}"
)
_TRIGGERS = f"""
SELECT t.tgname AS name, pg_get_triggerdef(t.oid) AS definition, t.tgenabled::text AS enabled,
  f.proname AS function, f.prosrc AS source, {_used_columns("pg_trigger", "t.oid")} AS columns,
  {_properties("pg_trigger", "t.oid", more=_FIRING)} AS properties
FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace n ON n.oid = f.pronamespace
WHERE t.tgrelid = $1::bigint::oid AND NOT t.tgisinternal AND n.nspname <> '{SCHEMA}' ORDER BY t.oid
"""

_RULES = f"""
SELECT r.rulename AS name, pg_get_ruledef(r.oid) AS definition, {_used_columns("pg_rewrite", "r.oid")} AS columns,
  '{{}}' AS properties
FROM pg_rewrite r WHERE r.ev_class = $1::bigint::oid AND r.rulename <> '_RETURN' ORDER BY r.oid
"""

_STATISTICS_TARGET = "'target', nullif(to_jsonb(s)->>'stxstattarget', '-1')"
_STATISTICS = f"""
SELECT s.stxname AS name, pg_get_statisticsobjdef(s.oid) AS definition,
  {_used_columns("pg_statistic_ext", "s.oid")} AS columns,
  {_properties("pg_statistic_ext", "s.oid", more=_STATISTICS_TARGET)} AS properties
FROM pg_statistic_ext s WHERE s.stxrelid = $1::bigint::oid ORDER BY s.oid
"""

_PUBLICATIONS = """
SELECT p.pubname AS name, 'table' AS scope, ARRAY(SELECT a.attname::text FROM pg_attribute a
    WHERE a.attrelid = r.prrelid AND a.attnum = ANY ({columns}) ORDER BY a.attnum) AS columns,
  {columns} IS NOT NULL AS listed, {filter} AS filter, {used} AS used
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = $1::bigint::oid
UNION ALL
SELECT p.pubname, 'all', '{{}}', false, NULL, '{{}}' FROM pg_publication p WHERE p.puballtables
"""
_SCHEMA_PUBLICATIONS = """
UNION ALL
SELECT p.pubname, 'schema', '{}', false, NULL, '{}' FROM pg_publication_namespace s
JOIN pg_publication p ON p.oid = s.pnpubid JOIN pg_class c ON c.relnamespace = s.pnnspid WHERE c.oid = $1::bigint::oid
"""

# What depends on the table, on its columns or on its row type, and is no part of the table itself.
_DEPENDENTS = """
WITH used AS (
  SELECT d.classid, d.objid, d.objsubid, d.refobjsubid AS attnum FROM pg_depend d
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::bigint::oid AND d.deptype <> 'i'
  UNION ALL
  SELECT d.classid, d.objid, d.objsubid, 0 FROM pg_depend d
  JOIN pg_type t ON t.oid = d.refobjid AND d.refclassid = 'pg_type'::regclass
  WHERE (t.typrelid = $1::bigint::oid
         OR t.typelem = (SELECT c.reltype FROM pg_class c WHERE c.oid = $1::bigint::oid) AND t.typelem <> 0)
    AND d.deptype <> 'i')
SELECT coalesce(v.relkind::text, '') AS view_kind, u.classid = 'pg_proc'::regclass AS function,
  CASE WHEN v.oid IS NOT NULL THEN v.oid::regclass::text
       WHEN u.classid = 'pg_proc'::regclass THEN u.objid::regprocedure::text
       ELSE pg_describe_object(u.classid, u.objid, u.objsubid) END AS name,
  CASE WHEN v.oid IS NOT NULL THEN pg_get_viewdef(v.oid) ELSE '' END AS definition,
  coalesce(f.prosrc, '') AS source,
  array_remove(array_agg(DISTINCT a.attname::text), NULL) AS columns,
  ARRAY(WITH RECURSIVE above AS (
          SELECT w2.ev_class AS oid FROM pg_depend d JOIN pg_rewrite w2 ON w2.oid = d.objid
          WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid
            AND w2.ev_class <> v.oid
          UNION
          SELECT w2.ev_class FROM above
          JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = above.oid
            AND d.classid = 'pg_rewrite'::regclass
          JOIN pg_rewrite w2 ON w2.oid = d.objid)
        SELECT oid::regclass::text FROM above WHERE oid <> v.oid AND oid <> $1::bigint::oid ORDER BY 1) AS users
FROM used u
LEFT JOIN pg_rewrite w ON u.classid = 'pg_rewrite'::regclass AND w.oid = u.objid
LEFT JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
LEFT JOIN pg_proc f ON u.classid = 'pg_proc'::regclass AND f.oid = u.objid
LEFT JOIN pg_attribute a ON a.attrelid = $1::bigint::oid AND a.attnum = u.attnum AND u.attnum > 0
WHERE NOT (u.classid = 'pg_class'::regclass AND (
        EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = u.objid AND i.indrelid = $1::bigint::oid)
        OR EXISTS (SELECT FROM pg_class s WHERE s.oid = u.objid AND s.relkind IN ('S', 't'))
        OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = u.objid AND h.inhparent = $1::bigint::oid)
        OR u.objid = $1::bigint::oid))
  AND NOT (u.classid = 'pg_attrdef'::regclass
           AND EXISTS (SELECT FROM pg_attrdef f WHERE f.oid = u.objid AND f.adrelid = $1::bigint::oid))
  AND NOT (u.classid = 'pg_constraint'::regclass
           AND EXISTS (SELECT FROM pg_constraint k WHERE k.oid = u.objid
                       AND (k.conrelid = $1::bigint::oid OR k.confrelid = $1::bigint::oid)))
  AND NOT (u.classid = 'pg_policy'::regclass
           AND EXISTS (SELECT FROM pg_policy p WHERE p.oid = u.objid AND p.polrelid = $1::bigint::oid))
  AND NOT (u.classid = 'pg_trigger'::regclass
           AND EXISTS (SELECT FROM pg_trigger t WHERE t.oid = u.objid
                       AND (t.tgrelid = $1::bigint::oid OR t.tgisinternal)))
  AND NOT (u.classid = 'pg_statistic_ext'::regclass
           AND EXISTS (SELECT FROM pg_statistic_ext s WHERE s.oid = u.objid AND s.stxrelid = $1::bigint::oid))
  AND NOT (u.classid = 'pg_rewrite'::regclass AND w.ev_class = $1::bigint::oid)
  AND NOT (u.classid = 'pg_publication_rel'::regclass)
  AND NOT (u.classid = 'pg_type'::regclass)
GROUP BY 1, 2, 3, 4, 5, v.oid ORDER BY 3
"""

# Bodies that are text are parsed when they run: the catalog has no dependency for them.
_FUNCTION_BODIES = f"""
SELECT p.oid::regprocedure::text AS name, p.prosrc AS source
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', '{SCHEMA}') AND l.lanname IN ('sql', 'plpgsql')
  AND p.prosqlbody IS NULL AND position(lower($1) IN lower(p.prosrc)) > 0
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1
"""

_SEQUENCES = f"""
SELECT DISTINCT n.nspname AS schema, s.relname AS name, format_type(q.seqtypid, NULL) AS type, a.attname AS column,
  coalesce(own.deptype = 'i', false) AS identity, q.seqincrement AS increment,
  coalesce(o.attname, '') AS owner_column,
  (SELECT coalesce(array_agg(CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
                   || ' ' || g.privilege_type), '{{}}')
   FROM aclexplode(s.relacl) g WHERE g.grantee <> s.relowner) AS grants,
  {SEQUENCE_OPTIONS} AS options,
  ARRAY(SELECT DISTINCT pg_describe_object(u.classid, u.objid, u.objsubid) FROM pg_depend u
        LEFT JOIN pg_attrdef f ON u.classid = 'pg_attrdef'::regclass AND f.oid = u.objid
        WHERE u.refclassid = 'pg_class'::regclass AND u.refobjid = s.oid AND u.deptype = 'n'
          AND f.adrelid IS DISTINCT FROM $1::bigint::oid ORDER BY 1) AS users
FROM (
  SELECT d.objid AS sequence, d.refobjsubid AS attnum FROM pg_depend d
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::bigint::oid
    AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
  UNION
  SELECT u.refobjid, f.adnum FROM pg_attrdef f
  JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = f.oid AND u.refclassid = 'pg_class'::regclass
  WHERE f.adrelid = $1::bigint::oid) AS used
JOIN pg_class s ON s.oid = used.sequence AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
JOIN pg_attribute a ON a.attrelid = $1::bigint::oid AND a.attnum = used.attnum AND NOT a.attisdropped
LEFT JOIN pg_depend own ON own.classid = 'pg_class'::regclass AND own.objid = s.oid AND own.deptype IN ('a', 'i')
  AND own.refclassid = 'pg_class'::regclass AND own.refobjid = $1::bigint::oid AND own.refobjsubid > 0
LEFT JOIN pg_attribute o ON o.attrelid = own.refobjid AND o.attnum = own.refobjsubid
ORDER BY 1, 2
"""

_INHERITANCE = """
SELECT i.inhparent::regclass::text AS name FROM pg_inherits i WHERE i.inhrelid = $1::bigint::oid
UNION ALL SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = $1::bigint::oid
"""

_SECURITY_LABELS = """
SELECT l.provider AS provider, l.label AS label, coalesce(a.attname, '') AS column FROM pg_seclabel l
LEFT JOIN pg_attribute a ON a.attrelid = l.objoid AND a.attnum = l.objsubid AND l.objsubid > 0
WHERE l.classoid = 'pg_class'::regclass AND l.objoid = $1::bigint::oid
"""

_CONSTRAINT_KINDS = {
    "c": ObjectKind.CHECK,
    "u": ObjectKind.UNIQUE,
    "p": ObjectKind.PRIMARY_KEY,
    "x": ObjectKind.EXCLUSION,
    "f": ObjectKind.FOREIGN_KEY,
}
_POLICY_COMMANDS = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "*": "ALL"}
_STORAGE = {"p": "plain", "e": "external", "x": "extended", "m": "main"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}


async def read_table_objects(conn: Connection, table: str, *, with_dependents: bool = True) -> TableObjects | None:
    """Reads a table and everything that belongs to it; None where there is no such table.

    Takes no lock beyond ACCESS SHARE, and does not wait for it. Names in definitions come with their schemas.

    Args:
        table: quoted and qualified.
        with_dependents: also what depends on the table, its publications, and functions that name it.

    Raises:
        DatabaseError: another session holds an exclusive lock.
    """
    oid = await conn.fetchval("SELECT to_regclass($1)::oid::bigint", table)
    if oid is None:
        return None
    try:
        async with conn.transaction():
            settings = "SELECT current_setting('search_path') AS path, current_setting('lock_timeout') AS timeout"
            before = await conn.fetchrow(settings)
            assert before is not None
            # Definitions of views are read under a lock; whoever waits for it makes others wait too.
            await conn.execute(f"SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            found = await _read(conn, oid, with_dependents)
            restore = "SELECT set_config('search_path', $1, true), set_config('lock_timeout', $2, true)"
            await conn.execute(restore, before["path"], before["timeout"])
            return found
    except asyncpg.LockNotAvailableError:
        raise DatabaseError(
            f"{table}, or something that depends on it, is locked by another session",
            "repeat the command when its transaction has ended",
        ) from None


async def _read(conn: Connection, oid: int, with_dependents: bool) -> TableObjects:
    table = json.loads(await conn.fetchval(_TABLE, oid))
    schema, name = await conn.fetchval(
        "SELECT ARRAY[n.nspname, c.relname]::text[] FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = $1::bigint::oid",
        oid,
    )
    sequences = await _read_sequences(conn, oid)
    columns, checks = await _read_columns(conn, table["columns"] or [], sequences)
    names = [column.name for column in columns]
    objects = [*await _read_own_objects(conn, oid, names), *checks]
    objects += [
        CatalogObject(ObjectKind.DEPENDENT, f"generated column {name}", definition, used, is_attached=True)
        for name, definition, used in await _read_generated(conn, oid)
    ]
    if with_dependents:
        objects += await _read_publications(conn, oid)
        objects += await _read_dependents(conn, oid, name, names)
    index = table["replica_index"] or "NOTHING"
    return TableObjects(
        schema=schema,
        name=name,
        owner=table["owner"],
        columns=columns,
        objects=tuple(objects),
        sequences=sequences,
        grants=_read_grants(table),
        settings=_read_settings(table),
        row_security=table["row_security"],
        force_row_security=table["force_row_security"],
        replica_identity={"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}.get(table["replica_identity"], index),
        comment=table["comment"] or "",
    )


def _read_grants(table: dict[str, Any]) -> tuple[Grant, ...]:
    sources = [("", table["grants"]), *((column["name"], column["grants"]) for column in table["columns"] or [])]
    return tuple(
        Grant("public" if not each["role"] else each["name"], each["privilege"], column, each["grantable"])
        for column, grants in sources
        for each in grants or []
    )


def _read_settings(table: dict[str, Any]) -> dict[str, str]:
    settings = dict(option.split("=", 1) for option in table["options"] or [])
    settings |= {f"toast.{option.split('=', 1)[0]}": option.split("=", 1)[1] for option in table["toast_options"] or []}
    if table["unlogged"]:
        settings["persistence"] = "unlogged"
    if table["method"] not in (None, "heap"):
        settings["access method"] = table["method"]
    if table["tablespace"]:
        settings["tablespace"] = table["tablespace"]
    if table["of_type"]:
        settings["type"] = table["of_type"]
    return settings


async def _read_columns(
    conn: Connection, found: list[dict[str, Any]], sequences: tuple[SequenceObject, ...]
) -> tuple[tuple[TableColumn, ...], list[CatalogObject]]:
    """Returns the columns, and the checks of their domains as checks of the table."""
    columns, checks = [], []
    types, mods = [column["type_oid"] for column in found], [column["mod"] for column in found]
    levels: dict[tuple[int, int], list[Any]] = {}
    for row in await conn.fetch(_DOMAINS, types, mods):
        levels.setdefault((row["root"], row["mod"]), []).append(row)
    by_column = {each.column: each for each in reversed(sequences)}
    for column in found:
        *domains, base = levels[column["type_oid"], column["mod"]]
        default = next((level["default"] for level in domains if level["default"]), "")
        checks += [
            CatalogObject(
                ObjectKind.CHECK,
                check["name"],
                _replace_value(check["definition"], column["name"]),
                (column["name"],),
                check["valid"],
            )
            for level in domains
            for check in json.loads(level["checks"] or "[]")
        ]
        expression = column["expression"] or ""
        sequence = by_column.get(column["name"])
        not_null = column["not_null_constraint"] or {}
        columns.append(
            TableColumn(
                name=column["name"],
                type=base["type"],
                collation=column["collation"] or "",
                not_null=column["not_null"] or any(level["not_null"] for level in domains),
                not_null_name=not_null.get("name") or "",
                not_null_comment=not_null.get("comment") or "",
                default="" if column["generated"] else (expression or default or ""),
                generated=expression if column["generated"] else "",
                identity=column["identity"],
                sequence=sequence.pair if sequence and (column["identity"] or "nextval(" in expression) else None,
                storage=_storage_settings(column),
                domain=domains[0]["type"] if domains else "",
                comment=column["comment"] or "",
            )
        )
    return tuple(columns), checks


def _replace_value(definition: str, column: str) -> str:
    """A domain's check as a check of a column: VALUE is the column."""
    return renamed_constraint(definition, Renaming({"value": column})) or definition


def _storage_settings(column: dict[str, Any]) -> tuple[str, ...]:
    settings = []
    if column["storage"]:
        settings.append(f"STORAGE {_STORAGE[column['storage']]}")
    if column["compression"] in _COMPRESSION:
        settings.append(f"COMPRESSION {_COMPRESSION[column['compression']]}")
    if column["statistics"] not in (None, "-1"):
        settings.append(f"STATISTICS {column['statistics']}")
    settings += [f"({option})" for option in column["options"] or []]
    return tuple(settings)


async def _read_own_objects(conn: Connection, oid: int, names: list[str]) -> list[CatalogObject]:
    objects = []
    for row in await conn.fetch(_CONSTRAINTS, oid):
        columns = tuple(dict.fromkeys([*row["columns"], *row["predicate"], *row["own_targets"]]))
        if row["own"]:
            objects.append(
                CatalogObject(
                    _CONSTRAINT_KINDS[row["type"]],
                    row["name"],
                    row["definition"],
                    columns,
                    row["valid"],
                    index=row["index"] or "",
                    properties=json.loads(row["properties"]),
                )
            )
        else:
            objects.append(
                CatalogObject(
                    ObjectKind.REFERENCING_KEY,
                    f"{row['name']} of {row['schema']}.{row['table']}",
                    row["definition"],
                    columns,
                    row["valid"],
                    owner_table=(row["schema"], row["table"]),
                    is_indivisible=row["is_indivisible"],
                    properties=json.loads(row["properties"]),
                )
            )
    objects += [
        CatalogObject(
            ObjectKind.INDEX,
            row["name"],
            row["definition"],
            tuple(row["columns"]),
            row["valid"],
            properties=json.loads(row["properties"]),
        )
        for row in await conn.fetch(_INDEXES, oid)
    ]
    objects += [
        CatalogObject(
            ObjectKind.POLICY,
            row["name"],
            _policy_sql(row),
            tuple(row["columns"]),
            properties=json.loads(row["properties"]),
        )
        for row in await conn.fetch(_POLICIES, oid)
    ]
    for row in await conn.fetch(_TRIGGERS, oid):
        named = _columns_in_trigger_body(row["source"], names)
        columns = tuple(dict.fromkeys([*row["columns"], *named]))
        objects.append(
            CatalogObject(
                ObjectKind.TRIGGER,
                row["name"],
                row["definition"],
                columns,
                row["enabled"] != "D",
                properties=json.loads(row["properties"]),
            )
        )
    for kind, query in ((ObjectKind.RULE, _RULES), (ObjectKind.STATISTICS, _STATISTICS)):
        objects += [
            CatalogObject(
                kind,
                row["name"],
                row["definition"],
                tuple(row["columns"]),
                is_attached=kind is ObjectKind.RULE,
                properties=json.loads(row["properties"]),
            )
            for row in await conn.fetch(query, oid)
        ]
    objects = [_with_whole_row(each) for each in objects]
    objects += [
        CatalogObject(ObjectKind.INHERITANCE, row["name"], row["name"]) for row in await conn.fetch(_INHERITANCE, oid)
    ]
    objects += [
        CatalogObject(
            ObjectKind.SECURITY_LABEL,
            f"{row['provider']} {row['column']}".strip(),
            row["label"],
            (row["column"],) if row["column"] else (),
        )
        for row in await conn.fetch(_SECURITY_LABELS, oid)
    ]
    return objects


def _with_whole_row(each: CatalogObject) -> CatalogObject:
    """The catalog has no dependency for a reference to a whole row: it is found in the text."""
    return replace(each, is_whole_row=True) if uses_whole_row(each.definition) else each


def _policy_sql(row: Any) -> str:
    text = (
        f"CREATE POLICY {quote_identifier(row['name'])} ON zdd"
        f" AS {'PERMISSIVE' if row['permissive'] else 'RESTRICTIVE'}"
        f" FOR {_POLICY_COMMANDS[row['command']]} TO {', '.join(row['roles'])}"
    )
    if row["using"] is not None:
        text += f" USING ({row['using']})"
    return text + (f" WITH CHECK ({row['check']})" if row["check"] is not None else "")


def _columns_in_trigger_body(source: str, names: list[str]) -> list[str]:
    """The columns that a trigger function reads or writes as NEW.x or OLD.x."""
    found = {match.lower() for match in re.findall(r'(?i)\b(?:new|old)\s*\.\s*"?([\w$]+)', source or "")}
    return [name for name in names if name.lower() in found]


async def _read_generated(conn: Connection, oid: int) -> list[tuple[str, str, tuple[str, ...]]]:
    rows = await conn.fetch(
        "SELECT a.attname::text AS name, pg_get_expr(f.adbin, f.adrelid) AS definition,"
        " ARRAY(SELECT DISTINCT r.attname::text FROM pg_depend d JOIN pg_attribute r ON r.attrelid = d.refobjid"
        "   AND r.attnum = d.refobjsubid WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = f.adrelid"
        "   AND d.refobjsubid > 0 AND d.refobjsubid <> f.adnum"
        "   AND (d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid"
        "     OR d.classid = 'pg_class'::regclass AND d.objid = f.adrelid AND d.objsubid = f.adnum)) AS used"
        " FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum"
        " WHERE f.adrelid = $1::bigint::oid AND a.attgenerated <> ''",
        oid,
    )
    return [(row["name"], row["definition"], tuple(row["used"])) for row in rows]


async def _read_publications(conn: Connection, oid: int) -> list[CatalogObject]:
    version = int(await conn.fetchval("SELECT current_setting('server_version_num')"))
    has_lists = version >= 150000  # column lists, row filters and schemas came with PostgreSQL 15
    query = _PUBLICATIONS.format(
        columns="r.prattrs::int2[]" if has_lists else "NULL::int2[]",
        filter="pg_get_expr(r.prqual, r.prrelid)" if has_lists else "NULL",
        used=_used_columns("pg_publication_rel", "r.oid"),
    ) + (_SCHEMA_PUBLICATIONS if has_lists else "")
    return [
        CatalogObject(
            ObjectKind.PUBLICATION,
            row["name"],
            publication_text(row["scope"], row["columns"] if row["listed"] else [], row["filter"] or ""),
            tuple(row["used"]),
            is_attached=bool(row["used"]),
        )
        for row in await conn.fetch(query, oid)
    ]


def publication_text(scope: str, columns: list[str], row_filter: str) -> str:
    """What a publication has of a table, as JSON: scope (table, schema or all), columns (none: all) and row filter."""
    return json.dumps({"scope": scope, "columns": columns, "filter": row_filter})


async def _read_dependents(conn: Connection, oid: int, table: str, names: list[str]) -> list[CatalogObject]:
    objects = []
    kinds = {"v": ObjectKind.VIEW, "m": ObjectKind.MATERIALIZED_VIEW}
    for row in await conn.fetch(_DEPENDENTS, oid):
        kind = kinds.get(row["view_kind"]) or (ObjectKind.FUNCTION if row["function"] else ObjectKind.DEPENDENT)
        found = CatalogObject(
            kind,
            row["name"],
            row["definition"],
            tuple(row["columns"]),
            is_attached=True,
            users=tuple(row["users"]),
        )
        if not found.columns and row["source"]:  # it has a parameter or a result of the row's type
            words = set(re.findall(r"[\w$]+", row["source"].lower()))
            named = tuple(name for name in names if name.lower() in words)
            found = replace(found, columns=named, is_by_name=True)
        objects.append(_with_whole_row(found))
    for row in await conn.fetch(_FUNCTION_BODIES, table):
        words = set(re.findall(r"[\w$]+", row["source"].lower()))
        if table.lower() in words:
            columns = tuple(name for name in names if name.lower() in words)
            objects.append(CatalogObject(ObjectKind.FUNCTION, row["name"], "", columns))
    return objects


async def _read_sequences(conn: Connection, oid: int) -> tuple[SequenceObject, ...]:
    return tuple(
        SequenceObject(
            schema=row["schema"],
            name=row["name"],
            type=row["type"],
            column=row["column"],
            owner_column=row["owner_column"],
            is_identity=row["identity"],
            increment=row["increment"],
            grants=tuple((role, privilege) for role, _, privilege in (g.rpartition(" ") for g in row["grants"])),
            options=tuple(row["options"]),
            users=tuple(row["users"]),
        )
        for row in await conn.fetch(_SEQUENCES, oid)
    )

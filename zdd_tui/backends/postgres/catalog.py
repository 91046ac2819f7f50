"""Reads the facts that the SQL builders need from PostgreSQL's catalog: columns, key, sequences, triggers, and the
present place of the old side."""

import json
import re
from contextlib import suppress
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.sequence_options import SEQUENCE_OPTIONS
from zdd_tui.model.ddl.catalog import (
    AttachedObject,
    Catalog,
    CatalogColumn,
    KeySequence,
    RowCheck,
    RowKey,
    RowReference,
    Table,
)
from zdd_tui.model.ddl.lint import down_source_columns, suggest_name, up_source_columns
from zdd_tui.model.ddl.names import (
    ARCHIVE_SCHEMA,
    SCHEMA,
    archived_name,
    left_out_name,
    lock_order_name,
    sync_name,
    witness_functions,
    witness_triggers,
)
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import DualWriteMode, Plan, TableName
from zdd_tui.model.sql import quote_qualified

_TABLE = """
SELECT json_build_object(
  'oid', c.oid::bigint, 'kind', c.relkind, 'rows', c.reltuples::bigint, 'partition', c.relispartition,
  'relatives', EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)),
  'children', EXISTS (SELECT FROM pg_inherits i WHERE c.oid = i.inhparent),
  'extension', (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                  AND d.refclassid = 'pg_extension'::regclass),
  'blocks', pg_relation_size(c.oid) / current_setting('block_size')::bigint,
  'attributes', c.relnatts, 'of_type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
  'owner', pg_get_userbyid(c.relowner), 'owned', pg_has_role(c.relowner, 'USAGE'),
  'columns', (SELECT json_agg(json_build_object(
      'name', a.attname, 'not_null', a.attnotnull, 'default', a.atthasdef AND a.attgenerated = '',
      'identity', a.attidentity, 'generated', a.attgenerated <> '', 'type_oid', a.atttypid::bigint,
      'type', format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'unique', (SELECT json_agg(json_build_object('primary', i.indisprimary, 'columns', (
        SELECT json_agg(a.attname ORDER BY k.n)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE k.n <= i.indnkeyatts)) ORDER BY i.indisprimary DESC, i.indexrelid)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL AND m.amname = 'btree'),
  'triggers', (SELECT json_agg(json_build_object('name', t.tgname, 'type', t.tgtype, 'on', t.tgenabled <> 'D'))
    FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

_DEFAULTS = """
SELECT a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS expression
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
"""

_CONSTANT = re.compile(r"""NULL|(?:'(?:[^']|'')*'|-?[0-9.]+|true|false)(?:::[\w ."()\[\]]+)?""")
"""A default that is the same for every row, as the server prints it."""

# ruff: noqa: S608  the only text inserted is a constant
_SEQUENCES = f"""
SELECT a.attname AS key, n.nspname AS schema, s.relname AS name, d.deptype = 'i' AS identity,
       EXISTS (SELECT FROM pg_attrdef f JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = f.oid
               WHERE f.adrelid = $2::bigint::oid AND u.refobjid = s.oid) AS shared, q.seqincrement AS increment,
       ARRAY(SELECT g.privilege_type || ' ' || CASE g.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE quote_ident(pg_get_userbyid(g.grantee)) END
             FROM aclexplode(s.relacl) g WHERE g.grantee <> s.relowner ORDER BY 1) AS grants,
       {SEQUENCE_OPTIONS} AS options
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::bigint::oid
  AND d.deptype IN ('a', 'i')
"""

# A type has a default operator class itself, by the type that it is binary coercible to, or by its kind.
_ORDERED_TYPES = """
SELECT t.oid::bigint AS oid FROM pg_type t
JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
WHERE t.oid = ANY ($1::bigint[]::oid[]) AND (
  b.typtype IN ('e', 'r', 'm', 'c') OR e.typtype IN ('e', 'r', 'm', 'c') OR EXISTS (
    SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
    WHERE o.opcdefault AND (o.opcintype = coalesce(e.oid, b.oid) OR EXISTS (
      SELECT FROM pg_cast k WHERE k.castsource = coalesce(e.oid, b.oid) AND k.casttarget = o.opcintype
        AND k.castmethod = 'b' AND k.castcontext = 'i'))))
"""

_ARCHIVE_IN_USE = """
SELECT NOT pg_has_role(n.nspowner, 'USAGE')
    OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
               AND c.relname <> $2)
    OR EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid)
    OR EXISTS (SELECT FROM pg_type t WHERE t.typnamespace = n.oid AND t.typrelid = 0 AND t.typelem = 0)
FROM pg_namespace n WHERE n.nspname = $1
"""

# Whatever the gate `catalog-diff` has accepted: its successor is on the new side, or the plan names it as lost.
_ATTACHED = """
WITH columns AS (SELECT a.attnum FROM pg_attribute a
                 WHERE a.attrelid = $1::bigint::oid AND a.attname = ANY ($2::text[])),
used AS (SELECT d.classid, d.objid FROM pg_depend d JOIN columns c ON c.attnum = d.refobjsubid
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::bigint::oid)
SELECT 'constraint' AS kind, n.nspname AS schema, r.relname AS table, k.conname AS name
FROM pg_constraint k JOIN pg_class r ON r.oid = k.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = $1::bigint::oid
  AND CASE WHEN cardinality($2::text[]) = 0 THEN k.conrelid <> k.confrelid
      ELSE EXISTS (SELECT FROM columns c WHERE c.attnum = ANY (k.confkey)) END
UNION ALL
SELECT 'policy', n.nspname, r.relname, p.polname
FROM pg_policy p JOIN pg_class r ON r.oid = p.polrelid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE p.polrelid = $1::bigint::oid
  AND EXISTS (SELECT FROM used u WHERE u.classid = 'pg_policy'::regclass AND u.objid = p.oid)
UNION ALL
SELECT 'trigger', n.nspname, r.relname, t.tgname
FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE t.tgrelid = $1::bigint::oid AND NOT t.tgisinternal AND t.tgname <> ALL ($3::text[])
  AND EXISTS (SELECT FROM used u WHERE u.classid = 'pg_trigger'::regclass AND u.objid = t.oid)
ORDER BY 1, 2, 3, 4
"""


# A domain's checks act when a value is assigned, inside the trigger.
_ROW_CHECKS = """
SELECT k.conname::text AS name, pg_get_expr(k.conbin, k.conrelid) AS expression,
  ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS columns
FROM pg_constraint k WHERE k.conrelid = $1::bigint::oid AND k.contype = 'c'
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
              AND a.attname = ANY ($2::text[]))
ORDER BY 1
"""

_LOCK_TIMEOUT = "100ms"

_ROW_RULES = """
SELECT k.contype::text AS kind, k.conname::text AS name,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS c (attnum, n)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.attnum ORDER BY c.n) AS columns,
  (SELECT format('%I.%I', n.nspname, r.relname) FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
   WHERE r.oid = k.confrelid) AS target,
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS c (attnum, n)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = c.attnum ORDER BY c.n) AS targets
FROM pg_constraint k WHERE k.conrelid = $1::bigint::oid AND k.contype = 'f'
UNION ALL
SELECT 'u', x.relname::text,
  ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS c (attnum, n)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = c.attnum
        WHERE c.n <= i.indnkeyatts ORDER BY c.n), '', '{}'
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = $1::bigint::oid AND i.indisunique AND i.indisready AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY 1, 2
"""


async def find_table(conn: Connection, schema: str, name: str) -> dict[str, Any] | None:
    """Reads a relation from the catalog; None when there is none of that name."""
    raw = await conn.fetchval(_TABLE, schema, name)
    return json.loads(raw) if raw else None


async def read_table(conn: Connection, schema: str, name: str) -> Table | None:
    """Reads a table's columns; None where there is no such table."""
    found = await find_table(conn, schema, name)
    return await _read_table(conn, found, schema, name, {}) if found else None


async def ordered_types(conn: Connection, oids: list[int]) -> set[int]:
    """Returns those of the types that have an order and an equality, as keys need them."""
    return {row["oid"] for row in await conn.fetch(_ORDERED_TYPES, oids)}


def trigger_names(plan: Plan) -> tuple[str, ...]:
    """Returns the names of the triggers (and functions) of a plan."""
    return (
        *(sync_name(plan, "forward"), sync_name(plan, "reverse"), lock_order_name(plan), left_out_name(plan)),
        *witness_functions(plan),
        *witness_triggers(plan, "old"),
        *witness_triggers(plan, "new"),
    )


async def read_catalog(conn: Connection, plan: Plan) -> Catalog:
    """Reads the facts of a plan at any point of the release: before expand, old side archived, or dropped.

    Raises:
        PlanError: table or column does not exist, there is no usable key, or its type has no order.
    """
    async with conn.transaction():
        # The types then come with their schemas, whatever search path the statements will run with.
        before = await conn.fetchval("SELECT current_setting('search_path')")
        await conn.execute("SET LOCAL search_path = pg_catalog")
        catalog = await _read_catalog(conn, plan)
        await conn.execute("SELECT set_config('search_path', $1, true)", before)
        return catalog


async def _read_catalog(conn: Connection, plan: Plan) -> Catalog:
    change = plan.change
    found = await find_table(conn, change.table.schema_, change.table.name)
    schema, is_archived, is_dropped = change.table.schema_, False, False
    target = await find_table(conn, change.target_table.schema_, change.target_table.name) if change.into else found
    if found is None and change.into is not None:
        found = await find_table(conn, ARCHIVE_SCHEMA, change.table.name)
        schema, is_archived, is_dropped = (
            (ARCHIVE_SCHEMA, True, False) if found else (schema, False, target is not None)
        )
    if found is None and not is_dropped:
        raise await _table_not_found(conn, change.table)
    names = {archived_name(plan, column): column for column in change.down}
    if change.kind == "column" and found is not None:
        present = {column["name"] for column in found["columns"]}
        is_archived = set(names) <= present
        is_dropped = not is_archived and not set(change.down) & present
    old = await _read_table(conn, found, schema, change.table.name, names) if found else _empty_table(change.table)
    new = old if change.into is None else None
    if change.into is not None and target is not None:
        new = await _read_table(conn, target, change.target_table.schema_, change.target_table.name, {})
    triggers = [t for relation in (found, target) if relation for t in relation["triggers"] or []]
    own_triggers = trigger_names(plan)
    archive_in_use = await conn.fetchval(_ARCHIVE_IN_USE, ARCHIVE_SCHEMA, change.table.name)
    is_trigger_column = change.into is None and change.dual_write is DualWriteMode.TRIGGER
    return Catalog(
        old=old,
        new=new,
        key=await _read_key(conn, plan, found or target or {}),
        is_archived=is_archived,
        is_dropped=is_dropped,
        up_source_columns=_select_existing(old, up_source_columns(plan)),
        down_source_columns=_select_existing(new, down_source_columns(plan)),
        triggers=frozenset(t["name"] for t in triggers if t["name"] in own_triggers and t["on"]),
        other_before_triggers=tuple(
            trigger["name"]
            for trigger in (found or {}).get("triggers") or []
            # pg_trigger.h: 1 is ROW, 2 is BEFORE, 4 is INSERT, 16 is UPDATE
            if trigger["on"]
            and trigger["type"] & 3 == 3
            and trigger["type"] & 20
            and trigger["name"] not in own_triggers
        ),
        sequences=await _read_sequences(conn, plan, found, target),
        archive_in_use=bool(archive_in_use),
        attached=await _read_attached(conn, plan, found) if found and is_archived else (),
        **(await _read_row_rules(conn, plan, found["oid"]) if found and change.into is None else {}),
        **(await _read_defaults(conn, plan, found["oid"], names) if found and is_trigger_column else {}),
        required_columns=tuple(column["name"] for column in (found or {}).get("columns") or [] if column["not_null"]),
    )


async def _read_row_rules(conn: Connection, plan: Plan, oid: int) -> dict[str, Any]:
    """What the table itself will refuse after a trigger has filled columns of a row."""
    rows = await conn.fetch(_ROW_RULES, oid)
    filled = [*plan.change.up, *plan.change.down, *(archived_name(plan, column) for column in plan.change.down)]
    checks: list[Any] = []
    # The server locks the table to print an expression. Where another session holds it, the table alone tests a row.
    with suppress(asyncpg.LockNotAvailableError):
        async with conn.transaction():
            before = await conn.fetchval("SELECT current_setting('lock_timeout')")
            await conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            checks = await conn.fetch(_ROW_CHECKS, oid, filled)
            await conn.execute("SELECT set_config('lock_timeout', $1, true)", before)
    return {
        "row_checks": tuple(RowCheck(row["name"], tuple(row["columns"]), row["expression"]) for row in checks),
        "row_keys": tuple(RowKey(row["name"], tuple(row["columns"])) for row in rows if row["kind"] == "u"),
        "row_references": tuple(
            RowReference(row["name"], tuple(row["columns"]), row["target"], tuple(row["targets"]))
            for row in rows
            if row["kind"] == "f"
        ),
    }


async def _read_defaults(conn: Connection, plan: Plan, oid: int, names: dict[str, str]) -> dict[str, Any]:
    """What tells an INSERT of V3 from one of an older version, where a trigger keeps both columns equal."""
    function = left_out_name(plan)
    rows: list[Any] = []
    with suppress(asyncpg.LockNotAvailableError):  # as above; without the defaults the triggers do not use them
        async with conn.transaction():
            before = await conn.fetchval("SELECT current_setting('lock_timeout')")
            await conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            rows = await conn.fetch(_DEFAULTS, oid)
            await conn.execute("SELECT set_config('lock_timeout', $1, true)", before)
    defaults = {names.get(row["name"], row["name"]): row["expression"] or "NULL" for row in rows}
    old = {name: defaults[name] for name in plan.change.down if name in defaults}
    is_known = len(old) == len(plan.change.down) and all(_CONSTANT.fullmatch(each) for each in old.values())
    return {
        "constant_defaults": tuple(old.items()) if is_known else (),
        "left_out_columns": tuple(name for name in plan.change.up if function in defaults.get(name, "")),
        "has_left_out_function": await conn.fetchval(
            "SELECT to_regproc($1) IS NOT NULL", quote_qualified(SCHEMA, function)
        ),
    }


async def _read_attached(conn: Connection, plan: Plan, relation: dict[str, Any]) -> tuple[AttachedObject, ...]:
    names = [archived_name(plan, column) for column in plan.change.down] if plan.change.into is None else []
    rows = await conn.fetch(_ATTACHED, relation["oid"], names, list(trigger_names(plan)))
    return tuple(AttachedObject(row["kind"], row["schema"], row["table"], row["name"]) for row in rows)


def _select_existing(table: Table | None, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if table is not None and table.column(name) is not None)


def _empty_table(table: TableName) -> Table:
    return Table(table.schema_, table.name, ())


async def _table_not_found(conn: Connection, table: TableName) -> PlanError:
    rows = await conn.fetch(
        "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'zdd')"
    )
    return PlanError(
        f"change.table: {table} does not exist in database {await conn.fetchval('SELECT current_database()')}"
        f"{suggest_name(str(table), [row['name'] for row in rows])}",
        "name an existing table, with its schema unless it is public; check the database in database.dsn",
    )


async def _read_table(
    conn: Connection, relation: dict[str, Any], schema: str, name: str, names: dict[str, str]
) -> Table:
    comparable = await ordered_types(conn, [column["type_oid"] for column in relation["columns"] or []])
    columns = tuple(
        CatalogColumn(
            name=names.get(column["name"], column["name"]),
            type=column["type"],
            not_null=column["not_null"],
            has_default=column["default"],
            identity=column["identity"],
            is_generated=column["generated"],
            is_comparable=column["type_oid"] in comparable,
        )
        for column in relation["columns"] or []
    )
    return Table(schema, name, columns, rows=relation["rows"], blocks=relation["blocks"])


async def _read_key(conn: Connection, plan: Plan, relation: dict[str, Any]) -> tuple[CatalogColumn, ...]:
    wanted, columns = plan.change.key, {column["name"]: column for column in relation["columns"] or []}
    for name in wanted:
        if name not in columns:
            raise PlanError(
                f"change.key: {plan.change.table} has no column {name}{suggest_name(name, list(columns))}",
                "name existing columns",
            )
    ordered = await ordered_types(conn, [columns[name]["type_oid"] for name in wanted])
    for name in wanted:
        if columns[name]["type_oid"] not in ordered:
            raise PlanError(
                f"change.key: column {name} of {plan.change.table} is of type {columns[name]['type']}, "
                "which has no order and cannot be a key",
                "choose columns of a type with an order, such as bigint, text or uuid",
            )
        if not columns[name]["not_null"]:
            raise PlanError(
                f"change.key: column {name} of {plan.change.table} can be NULL", "choose columns that are NOT NULL"
            )
    for index in relation["unique"] or []:
        if (set(index["columns"]) == set(wanted)) if wanted else index["primary"]:
            # Pages follow the index, so its order of columns counts, not that of the plan.
            return tuple(
                CatalogColumn(
                    name,
                    columns[name]["type"],
                    not_null=True,
                    has_default=columns[name]["default"],
                    identity=columns[name]["identity"],
                )
                for name in index["columns"]
            )
    if wanted:
        raise PlanError(
            f"change.key: {plan.change.table} has no unique index on ({', '.join(wanted)})",
            "name the columns of a unique, valid btree index without condition, or create one",
        )
    raise PlanError(
        f"change.table: {plan.change.table} has no primary key",
        "add one, or name the columns of a unique index as change.key",
    )


async def _read_sequences(
    conn: Connection, plan: Plan, relation: dict[str, Any] | None, target: dict[str, Any] | None
) -> tuple[KeySequence, ...]:
    if plan.change.into is None or relation is None or target is None:
        return ()
    sequences = []
    for row in await conn.fetch(_SEQUENCES, relation["oid"], target["oid"]):
        successor = await _unused_name(
            conn, plan.change.target_table, f"{plan.change.target_table.name}_{row['key']}_seq"
        )
        sequences.append(
            KeySequence(
                row["schema"],
                row["name"],
                row["key"],
                row["identity"],
                row["shared"],
                successor,
                row["increment"],
                tuple(tuple(grant.split(" ", 1)) for grant in row["grants"]),
                tuple(row["options"]),
            )
        )
    return tuple(sequences)


async def _unused_name(conn: Connection, table: TableName, wanted: str) -> str:
    taken = {
        row["relname"]
        for row in await conn.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1",
            table.schema_,
        )
    }
    stem = wanted.encode()[:58].decode(errors="ignore")
    return next(name for name in [stem, *(f"{stem}{n}" for n in range(1, 10_000))] if name not in taken)


_SCHEMA_OBJECTS = """
SELECT 'column' AS kind, format('%s.%s %s %s %s', c.table_schema, c.table_name, c.column_name, c.data_type,
                                c.is_nullable) AS what
FROM information_schema.columns c WHERE c.table_schema NOT IN ('pg_catalog', 'information_schema', 'zdd')
UNION ALL
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'zdd')
UNION ALL
SELECT 'trigger', pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid
WHERE NOT t.tgisinternal AND r.relnamespace <> 'zdd'::regnamespace
UNION ALL
SELECT 'function', p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace IN ('public'::regnamespace, 'zdd'::regnamespace) AND p.proname LIKE 'zdd\\_%'
UNION ALL
SELECT 'sequence', format('%s.%s', schemaname, sequencename) FROM pg_sequences WHERE schemaname <> 'zdd'
ORDER BY 1, 2
"""


async def read_schema_objects(connection: Connection) -> list[str]:
    """Describes the columns, indexes, triggers, zdd functions and sequences of a database with a `zdd` schema."""
    return [f"{row['kind']} {row['what']}" for row in await connection.fetch(_SCHEMA_OBJECTS)]

"""What standing conditions say about the database: one catalog query, and who may have changed an object."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import asyncpg

from zdd_tui.backends.postgres.catalog import trigger_names
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.operations import reading_with
from zdd_tui.backends.postgres.row_visibility import WITH_DESCENDANTS
from zdd_tui.model.ddl.jobs import list_read_tables
from zdd_tui.model.ddl.lint import created_objects, down_source_columns, up_source_columns
from zdd_tui.model.ddl.names import archived_name
from zdd_tui.model.operations.relied_objects import ReliedObjectsOfPlan
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.condition_findings import (
    DEFAULT_MARK,
    DatabaseFacts,
    SchemaObject,
    TriggerFacts,
    plain_name,
)
from zdd_tui.model.sql import quote_qualified

RECENT_SECONDS = 15.0
"""A session whose last statement is older than this is not named as the one that changed an object."""

_LOCATIONS = r":(location|list_start|list_end) -?\d+"
"""Places of the statement's text in a stored expression: they say nothing about what it computes."""

_NUMBERS = r":(varattno|varattnosyn|varnosyn) -?\d+"
"""Numbers of columns in a stored expression."""

_NAMES = (
    "(SELECT string_agg(coalesce(c.attname, ''), ',' ORDER BY u.place) FROM unnest({columns}) WITH ORDINALITY"
    " AS u (number, place) LEFT JOIN pg_attribute c ON c.attrelid = {table} AND c.attnum = u.number)"
)
"""The names of columns by their numbers."""

_NAMED_DEFAULT = rf"""(SELECT concat_ws('|', regexp_replace(
        regexp_replace(d.adbin::text, '(:consttype 2205 [^}}]*):constvalue [^]]*]', '\1', 'g'),
        '{_LOCATIONS}', '', 'g'),
        CASE WHEN d.adbin::text LIKE '%:consttype 2205 %' THEN (SELECT string_agg(r.oid::regclass::text, ',' ORDER BY
            r.oid::regclass::text) FROM pg_depend p JOIN pg_class r ON r.oid = p.refobjid AND r.relkind = 'S'
            WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass) END)
        FROM pg_attrdef d WHERE d.adrelid = x.oid AND d.adnum = a.attnum)"""  # noqa: S608 - a constant
"""The default or expression of a column, with the names of sequences (type 2205 is regclass) for their numbers."""

_TRIGGER_DIGEST = r"md5(concat_ws(E'\n', pg_get_functiondef(t.tgfoid), pg_get_triggerdef(t.oid)))"

_FACTS = f"""
WITH RECURSIVE {WITH_DESCENDANTS.format(roots="$2")}, tables AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY (SELECT to_regclass(t)::oid FROM unnest($2::text[]) AS t))
SELECT json_build_object(
'details', (SELECT json_object_agg(name, detail) FROM zdd.step WHERE release_id = $1),
'triggers', (SELECT coalesce(json_agg(json_build_array(t.tgname, coalesce(x.name, t.tgrelid::regclass::text),
        t.tgenabled, {_TRIGGER_DIGEST})), '[]')
    FROM pg_trigger t JOIN tables x ON x.oid = t.tgrelid WHERE t.tgname = ANY ($3::text[])),
'replica', (SELECT coalesce(json_agg(DISTINCT who), '[]') FROM (
    SELECT CASE WHEN s.setrole <> 0 THEN 'role ' || pg_get_userbyid(s.setrole)
           ELSE 'database ' || current_database() END AS who
    FROM pg_db_role_setting s
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND 'session_replication_role=replica' = ANY (s.setconfig)
    UNION ALL
    SELECT 'the whole server' FROM pg_settings WHERE name = 'session_replication_role' AND reset_val = 'replica'
      AND source NOT IN ('database', 'user', 'database user', 'session')) AS settings),
'hidden', (SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '[]')
    FROM family JOIN pg_class c ON c.oid = family.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE row_security_active(c.oid)),
'columns', (SELECT coalesce(json_agg(json_build_array(x.oid::bigint, a.attnum, a.attname, x.name,
        format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attcollation <> t.typcollation
            THEN ' COLLATE ' || a.attcollation::regcollation::text ELSE '' END,
        (SELECT md5(regexp_replace(d.adbin::text, '{_LOCATIONS}', '', 'g'))
            FROM pg_attrdef d WHERE d.adrelid = x.oid AND d.adnum = a.attnum AND a.attgenerated = ''),
        md5(concat_ws('|', a.attnotnull, a.attgenerated, a.attidentity, {_NAMED_DEFAULT})))), '[]')
    FROM tables x JOIN pg_attribute a ON a.attrelid = x.oid JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attnum > 0 AND NOT a.attisdropped),
'constraints', (SELECT coalesce(json_agg(json_build_array(k.conname, x.name, k.convalidated,
        md5(concat_ws('|', k.contype, k.conkey, k.confrelid, k.confkey, k.conbin IS NULL)),
        md5(concat_ws('|', k.confupdtype, k.confdeltype, k.confmatchtype, k.conexclop,
            regexp_replace(k.conbin::text, '{_LOCATIONS}', '', 'g'))),
        md5(concat_ws('|', k.contype, {_NAMES.format(columns="k.conkey", table="k.conrelid")}, k.confrelid::regclass,
            {_NAMES.format(columns="k.confkey", table="k.confrelid")}, k.conbin IS NULL)),
        md5(concat_ws('|', k.confupdtype, k.confdeltype, k.confmatchtype, k.conexclop,
            regexp_replace(k.conbin::text, '{_LOCATIONS}|{_NUMBERS}', '', 'g'))))), '[]')
    FROM tables x JOIN pg_constraint k ON k.conrelid = x.oid WHERE k.contype <> 'n'),
'indexes', (SELECT coalesce(json_agg(json_build_array(format('%I.%I', n.nspname, c.relname), x.name,
        i.indisvalid AND i.indisready AND i.indislive,
        md5(concat_ws('|', i.indrelid, i.indkey, i.indclass, i.indcollation, i.indoption, i.indisunique,
            i.indnkeyatts, i.indpred IS NULL, i.indexprs IS NULL)),
        md5(concat_ws('|', to_jsonb(i)->>'indnullsnotdistinct', regexp_replace(concat_ws('|', i.indpred::text,
            i.indexprs::text), '{_LOCATIONS}', '', 'g'))),
        md5(concat_ws('|', x.name, {_NAMES.format(columns="i.indkey", table="i.indrelid")}, i.indclass, i.indcollation,
            i.indoption, i.indisunique, i.indnkeyatts, i.indpred IS NULL, i.indexprs IS NULL)),
        md5(concat_ws('|', to_jsonb(i)->>'indnullsnotdistinct', regexp_replace(concat_ws('|', i.indpred::text,
            i.indexprs::text), '{_LOCATIONS}|{_NUMBERS}', '', 'g'))))), '[]')
    FROM tables x JOIN pg_index i ON i.indrelid = x.oid JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace)
)::text
"""  # noqa: S608 - a constant

_CHANGED_BY = """
SELECT pid, coalesce(usename, '') AS role, coalesce(application_name, '') AS app, coalesce(host(client_addr), 'local')
       AS address, extract(epoch FROM clock_timestamp() - state_change)::float8 AS age
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name NOT LIKE 'zdd agent %'
  AND query ~* '^\\s*(alter|drop|create|set|do|begin|truncate|comment|reindex)'
  AND EXISTS (SELECT FROM unnest($1::text[]) AS word WHERE position(lower(word) IN lower(query)) > 0)
  AND state_change > clock_timestamp() - make_interval(secs => $2)
ORDER BY state_change DESC LIMIT 1
"""

_HIDDEN_QUERIES = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = '<insufficient privilege>')
"""


@dataclass(frozen=True, slots=True)
class ReliedObjects:
    """Names of what a plan relies on in the database.

    Attributes:
        tables: quoted names of the old table, at both of its places, and of the new one.
        new_columns, old_columns: of the new and of the old side.
        own_tables: quoted names of the tables that the plan creates; all their constraints and indexes count.
        constraints: of the old table, that the plan creates.
        indexes: quoted names.
    """

    tables: tuple[str, ...]
    old_table: str
    new_table: str
    triggers: tuple[str, ...]
    new_columns: tuple[str, ...]
    old_columns: tuple[str, ...]
    own_tables: tuple[str, ...]
    constraints: tuple[str, ...]
    indexes: tuple[str, ...]
    archived: dict[str, str]

    @classmethod
    def from_plan(cls, plan: Plan) -> Self:
        change, created = plan.change, created_objects(plan)
        old = quote_qualified(change.table.schema_, change.table.name)
        new = quote_qualified(change.target_table.schema_, change.target_table.name)
        return cls(
            tables=list_read_tables(plan),
            old_table=old,
            new_table=new,
            triggers=trigger_names(plan),
            new_columns=tuple(dict.fromkeys([*change.up, *down_source_columns(plan)])),
            old_columns=tuple(dict.fromkeys([*change.down, *up_source_columns(plan)])),
            own_tables=tuple(quote_qualified(*name) for name in created.tables),
            constraints=created.constraints,
            indexes=tuple(quote_qualified(*name) for name in created.indexes),
            archived=(
                {column: archived_name(plan, column) for column in change.down} if change.kind == "column" else {}
            ),
        )


async def read_operation_facts(conn: Connection, release_id: int, relied: ReliedObjectsOfPlan) -> DatabaseFacts:
    """Reads what the operations of a plan rely on. Tables are looked up as the migration does."""
    names: dict[str, str] = {}
    for settings in dict.fromkeys(each for _, each in relied.tables):
        async with reading_with(conn, settings):
            rows = await conn.fetch(_TABLE_NAMES, [table for table, own in relied.tables if own == settings])
            names |= {row["name"]: row["qualified"] for row in rows}
    indexed = [names[each.table] for each in relied.indexes if each.table in names]
    family = [row["name"] for row in await conn.fetch(_DESCENDANTS, indexed)] if indexed else []
    facts = await _read_facts(conn, release_id, {*names.values(), *family}, relied.triggers, of_operations=True)
    plain = {name: plain_name(qualified) for name, qualified in names.items()}
    definitions = {}
    if relied.functions or relied.views:
        views = [plain[each] for each in relied.views if each in plain]
        definitions = {row["key"]: row["digest"] for row in await _fetch_definitions(conn, relied.functions, views)}
    return replace(facts, names=plain, definitions=definitions)


_DEFINITIONS = """
SELECT 'function ' || p.proname AS key, md5(string_agg(d.text, E'\n' ORDER BY d.text)) AS digest,
  json_agg(d.text ORDER BY d.text)::text AS shape
FROM pg_proc p, pg_get_functiondef(p.oid) AS d (text)
WHERE p.pronamespace = to_regnamespace('zdd') AND p.proname = ANY ($1) GROUP BY p.proname
UNION ALL
SELECT 'view ' || n.nspname || '.' || c.relname, md5(concat_ws(E'\n', d.text, d.owner)),
  json_build_array(d.text, d.owner, (
    SELECT string_agg(format('GRANT %s%s ON %I.%I TO %s%s', a.privilege_type, a.part, n.nspname, c.relname,
      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
      CASE WHEN a.is_grantable AND a.grantee <> c.relowner THEN ' WITH GRANT OPTION' ELSE '' END), '; ')
    FROM (SELECT acl.*, '' AS part FROM aclexplode(c.relacl) AS acl UNION ALL
          SELECT acl.*, format(' (%I)', attname) FROM pg_attribute, aclexplode(attacl) AS acl
          WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS a))::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, LATERAL (SELECT
  format('CREATE VIEW %I.%I%s AS %s', n.nspname, c.relname,
    ' WITH (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(c.oid)),
  format('ALTER VIEW %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))) AS d (text, owner)
WHERE c.relkind = 'v' AND n.nspname || '.' || c.relname = ANY ($2)
"""
"""The views and functions of the release: a digest, and the statements that create each. Later grants do not count."""


async def _fetch_definitions(
    conn: Connection, functions: Sequence[str], views: Sequence[str], *, shapes: bool = False
) -> list[asyncpg.Record]:
    async with conn.transaction(readonly=True):
        await conn.execute("SET LOCAL search_path = pg_catalog")
        columns = "key, digest, shape" if shapes else "key, digest"
        return list(await conn.fetch(f"SELECT {columns} FROM ({_DEFINITIONS}) AS d", functions, views))  # noqa: S608


async def read_definition(conn: Connection, key: str) -> tuple[str, str]:
    """The digest of a view or function of the release, and the statements that create it, as a list in JSON.

    Args:
        key: see :func:`zdd_tui.model.release.condition_findings.definition_key`.

    Returns:
        empty texts where there is none.
    """
    kind, _, name = key.partition(" ")
    names = ((name,), ()) if kind == "function" else ((), (name,))
    try:
        rows = await _fetch_definitions(conn, *names, shapes=True)
    except asyncpg.InternalServerError:
        return "", ""  # a view was dropped while its definition was read
    return (rows[0]["digest"], rows[0]["shape"]) if rows else ("", "")


_TABLE_NAMES = """
SELECT t AS name, format('%I.%I', n.nspname, c.relname) AS qualified
FROM unnest($1::text[]) AS t JOIN pg_class c ON c.oid = to_regclass(t) JOIN pg_namespace n ON n.oid = c.relnamespace
"""


_DESCENDANTS = f"""
WITH RECURSIVE {WITH_DESCENDANTS.format(roots="$1")}
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM family JOIN pg_class c ON c.oid = family.oid JOIN pg_namespace n ON n.oid = c.relnamespace
"""  # noqa: S608 - a constant
"""The tables with their partitions, whose indexes are built one by one."""


_STATEMENTS = """
WITH tables AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name, format('ALTER TABLE %I.%I ADD', n.nspname, c.relname) AS add
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = ANY ($1))
SELECT 'column' AS kind, x.name AS table, a.attname AS name, concat_ws(' ',
    'CREATE SEQUENCE ' || s.name || ' AS ' || s.type || ';', x.add, 'COLUMN', quote_ident(a.attname),
    format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
    CASE a.attidentity WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY'
        ELSE CASE WHEN a.attnotnull THEN 'NOT NULL' END END,
    CASE a.attgenerated WHEN '' THEN 'DEFAULT ' || d.text
        ELSE format('GENERATED ALWAYS AS (%s) %s', d.text, CASE a.attgenerated WHEN 's' THEN 'STORED' END)
    END, '; ALTER SEQUENCE ' || s.name || ' OWNED BY ' || x.oid::regclass || '.' || quote_ident(a.attname)) AS statement
FROM tables x JOIN pg_attribute a ON a.attrelid = x.oid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN LATERAL (SELECT q.seqrelid::regclass::text AS name, format_type(q.seqtypid, NULL) AS type
        FROM pg_depend p JOIN pg_sequence q ON q.seqrelid = p.objid
        WHERE p.refclassid = 'pg_class'::regclass AND p.refobjid = x.oid AND p.refobjsubid = a.attnum
          AND p.classid = 'pg_class'::regclass AND p.deptype = 'a' LIMIT 1) AS s ON true,
    LATERAL (SELECT (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = x.oid AND adnum = a.attnum))
    AS d (text)
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2)
UNION ALL
SELECT 'constraint', x.name, k.conname, concat_ws(' ', x.add, 'CONSTRAINT', quote_ident(k.conname),
    pg_get_constraintdef(k.oid))
FROM tables x JOIN pg_constraint k ON k.conrelid = x.oid WHERE k.conname = ANY ($2)
UNION ALL
SELECT 'index', x.name, c.relname, coalesce((
    SELECT concat_ws(' ', x.add, 'CONSTRAINT', quote_ident(k.conname), pg_get_constraintdef(k.oid))
    FROM pg_constraint k WHERE k.conindid = c.oid AND k.conrelid = x.oid), pg_get_indexdef(c.oid))
FROM tables x JOIN pg_index i ON i.indrelid = x.oid JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = ANY ($2)
"""


async def read_statements(conn: Connection, objects: Sequence[SchemaObject]) -> list[SchemaObject]:
    """The objects with the statements that create them; without, where they are gone or locked by another session."""
    if not objects:
        return []
    tables, names = [each.table for each in objects], [each.name for each in objects]
    try:
        async with conn.transaction(readonly=True):
            await conn.execute("SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '200ms'")
            rows = await conn.fetch(_STATEMENTS, tables, names)
    except (asyncpg.LockNotAvailableError, asyncpg.InternalServerError):
        return list(objects)
    found = {(row["kind"], row["table"], row["name"]): row["statement"] for row in rows}
    return [replace(each, statement=found.get((each.kind, each.table, each.name), "")) for each in objects]


async def read_trigger_definition(conn: Connection, table: str, name: str) -> tuple[str, str]:
    """The digest of a trigger, and the definitions of its function and its own, as a list in JSON.

    Args:
        table: the qualified name, unquoted.

    Returns:
        empty texts where there is none.
    """
    async with conn.transaction(readonly=True):
        await conn.execute("SET LOCAL search_path = pg_catalog")
        row = await conn.fetchrow(
            f"SELECT {_TRIGGER_DIGEST},"  # noqa: S608  a constant
            " json_build_array(pg_get_functiondef(t.tgfoid), pg_get_triggerdef(t.oid),"
            " format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER %I', n.nspname, c.relname, t.tgname))::text"
            " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE t.tgname = $2 AND n.nspname || '.' || c.relname = $1",
            table,
            name,
        )
    return (row[0], row[1]) if row is not None else ("", "")


async def read_database_facts(conn: Connection, release_id: int, relied: ReliedObjects | None) -> DatabaseFacts:
    """Reads everything that the conditions about the database need, in one statement.

    Args:
        relied: None where the strategy leaves the schema alone; then only the details of the steps are read.
    """
    return await _read_facts(conn, release_id, *((relied.tables, relied.triggers) if relied else ((), ())))


async def _read_facts(
    conn: Connection,
    release_id: int,
    tables: Iterable[str],
    triggers: Iterable[str],
    *,
    of_operations: bool = False,
) -> DatabaseFacts:
    """
    Args:
        of_operations: the shape of a column has its default; that of an index or constraint lacks its expressions,
            which an operation that changes the type of a column changes too.
    """

    def shape(columns: str, expressions: str) -> str:
        return columns if of_operations else f"{columns} {expressions}"

    def column_shape(type_name: str, default: str | None) -> str:
        return f"{type_name}{DEFAULT_MARK}{default}" if of_operations and default else type_name

    async with conn.transaction(readonly=True):
        await conn.execute("SET LOCAL search_path = pg_catalog")  # types and names then read the same for every role
        raw = json.loads(await conn.fetchval(_FACTS, release_id, list(tables), list(triggers)))
    objects = [
        SchemaObject(
            "column",
            f"{oid}.{number}",
            name,
            plain_name(table),
            column_shape(type_name, default),
            by_names=f"{type_name} {by_names}" if of_operations else "",
        )
        for oid, number, name, table, type_name, default, by_names in raw["columns"]
    ]
    objects += [
        SchemaObject(
            "constraint",
            f"{table}.{name}",
            name,
            plain_name(table),
            shape(*digests[:2]),
            valid,
            by_names=shape(*digests[2:]),
        )
        for name, table, valid, *digests in raw["constraints"]
    ]
    objects += [
        SchemaObject(
            "index",
            name,
            plain_name(name).rpartition(".")[2],
            plain_name(table),
            shape(*digests[:2]),
            valid,
            by_names=shape(*digests[2:]),
        )
        for name, table, valid, *digests in raw["indexes"]
    ]
    return DatabaseFacts(
        triggers=tuple(TriggerFacts(*each) for each in raw["triggers"]),
        replica_settings=tuple(raw["replica"]),
        objects=tuple(objects),
        hidden_tables=tuple(raw["hidden"]),
        details=raw["details"] or {},
    )


def select_baseline(relied: ReliedObjects, facts: DatabaseFacts, *, with_indexes: bool) -> list[SchemaObject]:
    """The objects that the release relies on, as they are now.

    Args:
        with_indexes: the plan's indexes are built.
    """
    old, new = plain_name(relied.old_table), plain_name(relied.new_table)
    own_tables = {plain_name(table) for table in relied.own_tables}
    indexes = {plain_name(name) for name in relied.indexes} if with_indexes else set()
    chosen = []
    for each in facts.objects:
        if each.kind == "column":
            if each.table == new and each.name in relied.new_columns:
                chosen.append(each)
            elif each.table == old and each.name in relied.old_columns:
                is_old = old != new or each.name in relied.archived
                chosen.append(replace(each, is_old=is_old))
        elif each.kind == "constraint":
            if each.table in own_tables or (each.table == old and each.name in relied.constraints):
                chosen.append(each)
        elif each.table in own_tables or plain_name(each.key) in indexes:
            chosen.append(each)
    return chosen


def find_missing(relied: ReliedObjects, facts: DatabaseFacts, *, with_indexes: bool) -> list[str]:
    """The objects that the release relies on and that do not exist: somebody was faster than the first reading."""
    old, new = plain_name(relied.old_table), plain_name(relied.new_table)
    present = {(each.kind, each.table, each.name) for each in facts.objects}
    wanted = [("column", new, name) for name in relied.new_columns]
    wanted += [("column", old, name) for name in relied.old_columns]
    wanted += [("constraint", old, name) for name in relied.constraints]
    missing = [
        f"{kind} {name} of {table} is missing" for kind, table, name in wanted if (kind, table, name) not in present
    ]
    if with_indexes:
        indexes = {plain_name(each.key) for each in facts.objects if each.kind == "index"}
        missing += [
            f"index {plain_name(name)} is missing" for name in relied.indexes if plain_name(name) not in indexes
        ]
    return missing


def has_planned_indexes(relied: ReliedObjects, baseline: Iterable[SchemaObject]) -> bool:
    """Whether a baseline was taken after the plan's indexes were built. A new table has others from the start."""
    noted = {plain_name(each.key) for each in baseline if each.kind == "index"}
    return {plain_name(name) for name in relied.indexes} <= noted


async def find_schema_changer(conn: Connection, words: Sequence[str]) -> str:
    """Who may have run DDL on an object: the newest session of this database whose last statement names it.

    Args:
        words: names of the object and of its table.
    """
    row = await conn.fetchrow(_CHANGED_BY, list(words), RECENT_SECONDS)
    if row is not None:
        app = f", application {row['app']}" if row["app"] else ""
        return f"probably by role {row['role']}{app}, address {row['address']}, pid {row['pid']}"
    if await conn.fetchval(_HIDDEN_QUERIES):
        return "by whom is unknown: the agent's role may not see the statements of other roles"
    return "by whom is unknown: PostgreSQL does not record it, and no session's last statement names it"

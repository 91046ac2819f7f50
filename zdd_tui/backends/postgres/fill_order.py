"""What the catalog knows about the order of fills: which names are the same table, and which tables refer to which."""

from collections.abc import Sequence

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.backends.postgres.operations import reading_with
from zdd_tui.model.operations.fill_order import Reference, StepNames, StepUse

_RELATIONS = """
WITH RECURSIVE named AS (SELECT name, to_regclass(name)::oid AS id FROM unnest($1::text[]) AS name),
tree AS (
    SELECT name, id FROM named UNION SELECT t.name, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.id
)
SELECT t.name, array_agg(t.id::bigint) AS ids, bool_and(coalesce(c.relkind IN ('r', 'p'), false)) AS are_tables
FROM tree t LEFT JOIN pg_class c ON c.oid = t.id GROUP BY t.name
"""

# An immutable function reads no table. Of a name that several functions have it is not known which one is meant.
_MAY_READ_TABLES = """
SELECT EXISTS (
    SELECT FROM unnest($1::text[], $2::text[]) AS f (schema, name)
    JOIN pg_proc p ON p.proname = f.name JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> 'pg_catalog' AND (f.schema = '' OR n.nspname = f.schema) AND p.provolatile <> 'i')
"""

_REFERENCES = """
SELECT conrelid::bigint AS child, confrelid::bigint AS parent,
    (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey))
        AS child_columns,
    (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = confrelid AND attnum = ANY (confkey))
        AS parent_columns
FROM pg_constraint WHERE contype = 'f' AND conrelid::bigint = ANY ($1) AND confrelid::bigint = ANY ($1)
"""


async def read_step_use(conn: Connection, names: StepNames) -> StepUse:
    """The relations of a step. One that names a view, or calls a function that may read tables, is unknown."""
    unknown = StepUse(names.name, bool(names.table), is_unknown=True)
    if names.is_unknown:
        return unknown
    written = {*names.written, *([names.table] if names.table else [])}
    functions = sorted(names.functions)
    try:
        async with reading_with(conn, names.settings):
            found = await conn.fetch(_RELATIONS, sorted(written | names.read))
            may_read = await conn.fetchval(
                _MAY_READ_TABLES, [schema for schema, _ in functions], [name for _, name in functions]
            )
    except asyncpg.PostgresError as error:
        if is_session_lost(error):
            raise
        return unknown  # a role or a schema of its settings does not exist yet
    ids = {row["name"]: frozenset(row["ids"]) for row in found if row["are_tables"]}
    if may_read or len(ids) < len(found):
        return unknown
    return StepUse(
        names.name,
        bool(names.table),
        names.columns,
        frozenset[int]().union(*(ids[name] for name in written)),
        frozenset[int]().union(*(ids[name] for name in names.read)),
    )


async def read_references(conn: Connection, steps: Sequence[StepUse]) -> list[Reference]:
    """The foreign keys between tables that the steps write."""
    written = sorted(frozenset[int]().union(*(step.written for step in steps)))
    return [
        Reference(row["child"], frozenset(row["child_columns"]), row["parent"], frozenset(row["parent_columns"]))
        for row in await conn.fetch(_REFERENCES, written)
    ]

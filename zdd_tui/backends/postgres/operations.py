"""What the steps of operations read from the catalog and from the tables."""

from collections.abc import Iterable

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import MAX_VIOLATIONS, OperationStep, Violation
from zdd_tui.model.operations.indexes import copied_index
from zdd_tui.model.sql import quote_qualified

_INDEX = """
SELECT n.nspname::text, c.relname::text, pg_get_indexdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $2 AND c.relkind IN ('i', 'I')
  AND CASE WHEN $1 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END
"""


async def is_needed(conn: Connection, step: OperationStep) -> bool:
    """Whether a step has anything to do: its ``only_if``."""
    return not step.only_if or bool(await conn.fetchval(step.only_if))


async def table_schema(conn: Connection, table: str) -> str:
    """The schema of a table whose name is SQL.

    Raises:
        StepFailed: there is no such table.
    """
    found = await conn.fetchval(
        "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass($1)",
        table,
    )
    if found is None:
        raise StepFailed(f"there is no table {table}", "correct the operation's name of it")
    return str(found)


async def find_index(conn: Connection, schema: str, name: str) -> tuple[str, str, str] | None:
    """Schema, name and definition of an index.

    Args:
        schema: empty to look in the search path.
    """
    row = await conn.fetchrow(_INDEX, schema, name)
    return None if row is None else (row[0], row[1], row[2])


async def is_valid_index(conn: Connection, schema: str, name: str) -> bool:
    """Whether there is such an index, and queries can use it."""
    return bool(
        await conn.fetchval(
            "SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($1)",
            quote_qualified(schema, name),
        )
    )


async def is_invalid_index(conn: Connection, schema: str, name: str) -> bool:
    """Whether there is such an index, and queries cannot use it."""
    return bool(
        await conn.fetchval(
            "SELECT NOT (indisvalid AND indisready) FROM pg_index WHERE indexrelid = to_regclass($1)",
            quote_qualified(schema, name),
        )
    )


_INDEXES_OF_COLUMNS = """
SELECT i.indexrelid::oid AS oid, pg_get_indexdef(i.indexrelid) AS definition, i.indimmediate AS is_immediate
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND c.relname NOT LIKE 'zdd\\_next\\_%' AND EXISTS (
  SELECT FROM pg_attribute a
  WHERE a.attrelid = i.indrelid AND a.attname = ANY ($2) AND NOT a.attisdropped AND (
    a.attnum = ANY (i.indkey::int2[])
    OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)))
ORDER BY i.indexrelid
"""

_PRESENT_COLUMNS = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attname = ANY ($2) AND NOT attisdropped
"""


async def index_copies(conn: Connection, table: str, copies: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The indexes of the old columns on the new ones: name and statement of each.

    A constraint that is checked at the end of a transaction gets an index that is not unique.

    Args:
        copies: pairs of columns' names; those whose new column does not exist are left out.
    """
    pairs = list(copies)
    found = {row[0] for row in await conn.fetch(_PRESENT_COLUMNS, table, [new for _, new in pairs])}
    columns = {old: new for old, new in pairs if new in found}
    copied = []
    for row in await conn.fetch(_INDEXES_OF_COLUMNS, table, list(columns)):
        name = f"zdd_next_{row['oid']}"
        copied.append((name, copied_index(row["definition"], columns, name, is_unique=row["is_immediate"])))
    return copied


async def count_violations(conn: Connection, violations: Iterable[Violation]) -> list[str]:
    """What violates, with the number of rows; empty where nothing does."""
    found = []
    for violation in violations:
        try:
            count = await conn.fetchval(violation.query)
        except (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError):
            continue  # an earlier operation of the plan adds it
        if count:
            found.append(f"{violation.what}: {count:,}{' or more' if count >= MAX_VIOLATIONS else ''} rows")
    return found

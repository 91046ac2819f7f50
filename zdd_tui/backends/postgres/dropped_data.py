"""Counts what is in the columns and tables that a rollback of operations drops."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.operations import reading_with
from zdd_tui.model.masking import mask_urls
from zdd_tui.model.operations.base import DroppedData
from zdd_tui.model.rollback import DroppedCount
from zdd_tui.model.sql import quote_literal

PAGE_BLOCKS = 4096
"""Blocks of a table that one statement reads: what was counted before the time is up counts as a lower bound."""

# The names are looked up as the migration does: $1 is the table, $2 and $3 are the column's names until contract and
# from then on, as SQL or NULL.
_FIND = """
SELECT c.oid, quote_ident(a.attname) AS column, coalesce(a.attgenerated <> '', false) AS is_computed
FROM pg_class c LEFT JOIN LATERAL (
    SELECT * FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped AND quote_ident(attname) IN ($2, $3)
    ORDER BY quote_ident(attname) = $2 DESC LIMIT 1) a ON true
WHERE c.oid = to_regclass($1) AND (a.attname IS NOT NULL OR $2::text IS NULL)
"""

_PARTS = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint AS blocks,
       c.oid, coalesce(a.atthasmissing, false) AS has_default
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND quote_ident(a.attname) = $2 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'm') AND c.oid IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1) WHERE isleaf)
"""


async def count_dropped_data(
    conn: Connection, dropped: Iterable[DroppedData], *, seconds: float
) -> Mapping[DroppedData, DroppedCount]:
    """How many rows are in each table, and how many values in each column that is no copy of another one.

    Takes no lock that blocks reading or writing.

    Args:
        seconds: for all of them; an operator waits.
    """
    ends = time.monotonic() + seconds
    return {each: await _count(conn, each, ends, seconds) for each in dict.fromkeys(dropped) if not each.is_copy}


async def _count(conn: Connection, each: DroppedData, ends: float, seconds: float) -> DroppedCount:
    late = DroppedCount(error=f"not counted within {seconds:g} s")
    found: asyncpg.Record | None = None
    counted = DroppedCount(0)
    is_begun = False
    try:
        if ends <= time.monotonic():
            return late
        async with reading_with(conn, each.settings, seconds=ends - time.monotonic()):
            found = await conn.fetchrow(_FIND, each.table, each.column or None, each.later or None)
            if found is None:
                return DroppedCount(exists=False)
            parts = await conn.fetch(_PARTS, found["oid"], found["column"])
        if found["is_computed"]:
            return counted
        counted = DroppedCount(0, has_default=any(part["has_default"] for part in parts))
        for part in parts:
            query = _count_query(part, found["column"])
            parameters = (part["oid"],) if part["has_default"] else ()
            for first in range(0, part["blocks"], PAGE_BLOCKS):
                if ends <= time.monotonic():
                    raise asyncpg.QueryCanceledError
                async with reading_with(conn, ("SET LOCAL row_security = off",), seconds=ends - time.monotonic()):
                    count = await conn.fetchval(query, first, first + PAGE_BLOCKS, *parameters)
                counted, is_begun = replace(counted, count=(counted.count or 0) + count), True
    except asyncpg.QueryCanceledError:
        return replace(counted, is_complete=False) if is_begun else late
    except asyncpg.PostgresError as error:
        return DroppedCount(error=mask_urls(str(error).partition("\n")[0]))
    return counted


def _count_query(part: asyncpg.Record, column: str | None) -> str:
    """Counts the rows, or the values of a column, in a page of a table or partition."""
    page = "ctid >= ('(' || $1::bigint || ',0)')::tid AND ctid < ('(' || $2::bigint || ',0)')::tid"
    query = f"SELECT count(*) FROM ONLY {part['name']} AS part WHERE {page}"  # noqa: S608  quoted by the server
    if column is None:
        return query
    query += f" AND part.{column} IS NOT NULL"
    if part["has_default"]:  # the value that ADD COLUMN gave the rows that existed
        default = "SELECT to_jsonb(attmissingval) -> 0 FROM pg_attribute"
        same = f"({default} WHERE attrelid = $3::oid AND quote_ident(attname) = {quote_literal(column)})"
        query += f" AND to_jsonb(part.{column}) IS DISTINCT FROM {same}"
    return query

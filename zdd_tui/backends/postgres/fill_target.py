"""Finds the table of a fill, and the key in whose order it is read."""

from zdd_tui.backends.postgres.catalog import find_table, ordered_types, read_table
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.ddl.catalog import CatalogColumn, Table
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import Fill, shorten
from zdd_tui.model.operations.fills import CTID

_PLACE = (
    "SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)"
)


class NotInBatches(StepFailed):
    """The rows of a table cannot be found batch by batch."""


async def read_reason_for_one(conn: Connection, fill: Fill, max_rows: int) -> str:
    """Why a fill runs as one statement; empty where it runs in batches.

    Raises:
        StepFailed: the table has more than that many rows, or is no table.
    """
    reason = f"it {fill.reason}" if fill.statement else ""
    if not reason:
        try:
            await read_fill_target(conn, fill)
        except NotInBatches as error:
            reason = error.title
    if not reason or await conn.fetchrow(_PLACE, fill.table) is None:
        return reason
    some = f"SELECT count(*) FROM (SELECT FROM {fill.table} LIMIT $1) AS page"  # noqa: S608  a name quoted by the parser
    if await conn.fetchval(some, max_rows + 1) > max_rows:
        raise StepFailed(
            f"{shorten(fill.sql)} cannot run in batches: {reason}; and as one statement it would lock rows of a table"
            f" with more than {max_rows:,} rows",
            "write it so that batches can do it; or allow more rows: backfill.max_statement_rows of the plan; or give"
            " the operation undo: and phase:",
        )
    return reason


async def read_fill_target(conn: Connection, fill: Fill) -> tuple[Table, tuple[CatalogColumn, ...]] | None:
    """The table and its key; None where there is no such table, as before an operation creates it.

    A table without a key is read in the order of its blocks. That is right only where the fill's condition finds the
    rows that a writer has moved meanwhile: such a fill reads the table again at its end.

    Raises:
        StepFailed: the table cannot be filled in batches.
    """
    place = await conn.fetchrow(_PLACE, fill.table)
    if place is None:
        return None
    schema, name = place["schema"], place["name"]
    async with conn.transaction():
        # The types then come with their schemas, whatever search path the statements will run with.
        before = await conn.fetchval("SELECT current_setting('search_path')")
        await conn.execute("SET LOCAL search_path = pg_catalog")
        relation, table = await find_table(conn, schema, name), await read_table(conn, schema, name)
        await conn.execute("SELECT set_config('search_path', $1, true)", before)
        if relation is None or table is None or relation["kind"] not in ("r", "p"):
            raise StepFailed(f"{fill.table} is not a table", "name the table itself in the statement")
        columns = {column["name"]: column for column in relation["columns"] or []}
        ordered = await ordered_types(conn, [column["type_oid"] for column in columns.values()])
    # The index of a new key is built in expand, after this was read for the first time.
    found = sorted(relation["unique"] or [], key=lambda index: tuple(index["columns"]) != fill.key)
    for index in found:
        key = [columns[column] for column in index["columns"]]
        if all(column["not_null"] and column["type_oid"] in ordered for column in key):
            _require_fixed_key(fill, [column["name"] for column in key])
            return table, tuple(CatalogColumn(column["name"], column["type"], not_null=True) for column in key)
    return table, (_require_place(fill, relation["kind"], has_children=relation["children"]),)


# pg_trigger.h: 1 is ROW, 8 is DELETE, 16 is UPDATE
_ROW_TRIGGERS = """
SELECT tgname::text AS name FROM pg_trigger
WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & $2 <> 0 ORDER BY 1
"""


async def list_row_triggers(conn: Connection, table: Table, *, deletes: bool) -> list[str]:
    """The enabled triggers of the application on UPDATE, or on DELETE, of a table."""
    return [row["name"] for row in await conn.fetch(_ROW_TRIGGERS, table.sql, 8 if deletes else 16)]


def _require_fixed_key(fill: Fill, key: list[str]) -> None:
    """A row whose key changes moves to another page, and would be written again or not at all."""
    changed = [column for column, _ in fill.values if column in key]
    if changed:
        raise NotInBatches(
            f"{fill.table}: {', '.join(changed)} is part of the key by which the batches are found",
            "run the statement as one: write it as a mapping with sql:, undo: and phase:",
        )


def _require_place(fill: Fill, kind: str, *, has_children: bool) -> CatalogColumn:
    if fill.is_once or fill.into:
        raise NotInBatches(
            f"{fill.table} has no unique index over columns that are NOT NULL: a row that a session changes meanwhile"
            " moves, and would get the values twice or not at all",
            "add a primary key first, or a WHERE that no updated row meets, such as: WHERE column IS NULL",
        )
    if kind == "p" or has_children:
        raise NotInBatches(
            f"{fill.table} has partitions and no unique index over columns that are NOT NULL",
            "add a primary key first, or fill each partition by its own name",
        )
    return CTID

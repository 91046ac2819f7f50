"""Compares rows with the ledger and the schema with the one from before, in plain SQL. Imports nothing of zdd."""

from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.chaos.saboteur.ledger import Content, ExpectedRows

OLD = "SELECT id, first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END, email FROM public.users"
NEW = {
    "column": "SELECT id, full_name, email FROM public.users",
    "table": "SELECT id, full_name, email FROM public.people",
}

COLUMNS = r"""
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
  regexp_replace(pg_get_expr(adbin, adrelid), '^nextval\(.*', 'nextval')
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"""
CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
WHERE conrelid = to_regclass($1) AND contype <> 'n'"""
INDEXES = """
SELECT relname, pg_get_indexdef(indexrelid), indisvalid AND indisready FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indrelid = to_regclass($1)"""
GRANTS = """
SELECT '', a.grantee::regrole::text, a.privilege_type, a.is_grantable
FROM pg_class, aclexplode(relacl) a WHERE oid = to_regclass($1)
UNION ALL SELECT attname, a.grantee::regrole::text, a.privilege_type, a.is_grantable
FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = to_regclass($1) AND NOT attisdropped"""
TRIGGERS = "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal"
OWNER = "SELECT relowner::regrole::text, relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = to_regclass($1)"


@dataclass
class TableSchema:
    """A table as the catalog has it; each part is a set of lines."""

    columns: set[tuple[Any, ...]] = field(default_factory=set)
    constraints: set[tuple[Any, ...]] = field(default_factory=set)
    indexes: set[tuple[Any, ...]] = field(default_factory=set)
    grants: set[tuple[Any, ...]] = field(default_factory=set)
    triggers: set[tuple[Any, ...]] = field(default_factory=set)
    owner: set[tuple[Any, ...]] = field(default_factory=set)


async def read_schema(connection: asyncpg.Connection, table: str) -> TableSchema:
    """Everything empty where the table does not exist."""

    async def lines(query: str) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in await connection.fetch(query, table)}

    return TableSchema(
        await lines(COLUMNS),
        await lines(CONSTRAINTS),
        await lines(INDEXES),
        await lines(GRANTS),
        await lines(TRIGGERS),
        await lines(OWNER),
    )


def expected_schema(before: TableSchema, kind: str, *, has_not_null: bool, index_table: str) -> TableSchema:
    """The surviving table after a release that is done.

    Args:
        before: the old table before the release.
        has_not_null: the plan makes the new column NOT NULL.
        index_table: the table whose name is in the definitions of indexes.
    """
    new_column = ("full_name", "text", has_not_null, "", None)
    if kind == "column":
        columns = {row for row in before.columns if row[0] not in ("first_name", "last_name")} | {new_column}
        index = (
            "users_full_name_idx",
            "CREATE INDEX users_full_name_idx ON public.users USING btree (full_name)",
            True,
        )
        return TableSchema(columns, before.constraints, before.indexes | {index}, before.grants, set(), before.owner)

    def renamed(rows: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        return {(row[0].replace("users", index_table), row[1].replace("users", index_table), row[2]) for row in rows}

    columns = {("id", "bigint", True, "", "nextval"), ("email", "text", False, "", None), new_column}
    index = ("people_full_name_idx", "CREATE INDEX people_full_name_idx ON public.people USING btree (full_name)", True)
    return TableSchema(
        columns, renamed(before.constraints), renamed(before.indexes) | {index}, before.grants, set(), before.owner
    )


def compare_schemas(expected: TableSchema, found: TableSchema, table: str) -> list[str]:
    """A line for everything that is missing, other, or left behind."""
    lines = []
    for part, wanted in vars(expected).items():
        present = getattr(found, part)
        lines += [f"{part} of {table}: missing {row}" for row in sorted(wanted - present, key=str)]
        lines += [f"{part} of {table}: left behind {row}" for row in sorted(present - wanted, key=str)]
    return lines


def compare_rows(expected: ExpectedRows, found: dict[int, Content]) -> list[str]:
    """A line for each row that is lost, has another content, or that nobody wrote."""
    lines = []
    for row_id, possible in expected.rows.items():
        content = found.get(row_id)
        if content not in possible:
            what = "lost" if content is None else f"is {content!r}" if None not in possible else f"exists: {content!r}"
            wanted = " or ".join(repr(each) if each else "no row" for each in possible)
            last = expected.history.get(row_id, [{}])[-1]
            by = f", last {last['op']} by {last['writer']} at {last['at']}" if last else ", as seeded"
            lines.append(f"row {row_id} {what}, expected {wanted}{by}")
    for row_id, content in found.items():
        if row_id not in expected.rows and content not in expected.unconfirmed:
            lines.append(f"row {row_id} was written by nobody: {content!r}")
    return lines


async def read_rows(connection: asyncpg.Connection, query: str) -> dict[int, Content] | None:
    """None where the side does not exist."""
    try:
        return {row[0]: (row[1], row[2]) for row in await connection.fetch(query)}
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return None


async def find_lost_rows(connection: asyncpg.Connection, expected: ExpectedRows, kind: str, state: str) -> list[str]:
    """Rows of the side that survives; while a release has not ended, those that are right on neither side."""
    old, new = await read_rows(connection, OLD), await read_rows(connection, NEW[kind])
    if state == "done":
        return ["the new side does not exist"] if new is None else compare_rows(expected, new)
    if state == "rolled-back":
        return ["the old side does not exist"] if old is None else compare_rows(expected, old)
    sides = [compare_rows(expected, side) for side in (old, new) if side is not None]
    if not sides:
        return []  # the columns are archived under other names
    names = [{line.split()[1] for line in lines} for lines in sides]
    in_all = set.intersection(*names)
    return [line for line in sides[-1] if line.split()[1] in in_all]


async def find_lost_objects(
    connection: asyncpg.Connection, before: TableSchema, kind: str, state: str, *, has_not_null: bool
) -> list[str]:
    """What constraints, indexes, grants, columns and triggers lack or have too much, once a release has ended."""
    if state == "done":
        table = {"column": "users", "table": "people"}[kind]
        wanted = expected_schema(before, kind, has_not_null=has_not_null, index_table=table)
        return compare_schemas(wanted, await read_schema(connection, f"public.{table}"), table)
    if state == "rolled-back":
        lines = compare_schemas(before, await read_schema(connection, "public.users"), "users")
        if kind == "table":
            lines += compare_schemas(TableSchema(), await read_schema(connection, "public.people"), "people")
        return lines
    return []

"""What the steps of operations read from the catalog and from the tables."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.backends.postgres.ddl import execute_ddl
from zdd_tui.backends.postgres.table_objects import LOCK_TIMEOUT
from zdd_tui.model.counting import count_up_to
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    MissingParents,
    ObjectAddress,
    Operation,
    OperationStep,
    Requirement,
    Violation,
    old_object_name,
)
from zdd_tui.model.operations.constraints import orphans_sql
from zdd_tui.model.operations.indexes import copied_index
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import MAX_IDENTIFIER_BYTES, name_sql, quote_qualified

_INDEX = """
SELECT n.nspname::text, c.relname::text, pg_get_indexdef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $2 AND c.relkind IN ('i', 'I')
  AND CASE WHEN $1 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END
"""


@asynccontextmanager
async def with_settings(conn: Connection, step: OperationStep) -> AsyncIterator[None]:
    """A transaction in which names are looked up as the migration says."""
    async with conn.transaction():
        for setting in step.settings:
            await execute_ddl(conn, setting)
        yield


@asynccontextmanager
async def reading_with(
    conn: Connection, settings: Iterable[str], *, seconds: float | None = None, readonly: bool = True
) -> AsyncIterator[None]:
    """A transaction with settings of the migration: names are looked up as it says.

    Args:
        settings: see :attr:`zdd_tui.model.operations.base.OperationStep.settings`.
        seconds: until a statement is cancelled; None for the server's own limit.
        readonly: False where statements are tried that are rolled back.

    Raises:
        asyncpg.PostgresError: a setting is refused, such as a role that an operation creates.
    """
    async with conn.transaction(readonly=readonly):
        if seconds is not None:
            await conn.execute(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}")
        for setting in settings:
            await conn.execute(setting)
        yield


def in_settings(step: OperationStep, statements: tuple[str, ...]) -> tuple[str, ...]:
    """The statements of a transaction in which names are looked up as the migration says."""
    return (*step.settings, *statements, "RESET ROLE") if step.settings else statements


async def is_needed(conn: Connection, step: OperationStep) -> bool:
    """Whether a step has anything to do: IF EXISTS, and its ``only_if``."""
    if not (step.only_if or step.only_if_exists):
        return True
    async with with_settings(conn, step):
        if step.only_if_exists is not None and not await has_address(conn, step.only_if_exists):
            return False
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
        raise StepFailed(f"there is no table {table}", "correct the table's name in the operation")
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


async def index_copies(
    conn: Connection, table: str, copies: Iterable[tuple[str, str]], prefix: str
) -> list[tuple[str, str]]:
    """The indexes of the old columns on the new ones: name and statement of each.

    A constraint that is checked at the end of a transaction gets an index that is not unique.

    Args:
        copies: pairs of columns' names; those whose new column does not exist are left out.
        prefix: of the names; the OID of the original follows.
    """
    pairs = list(copies)
    found = {row[0] for row in await conn.fetch(_PRESENT_COLUMNS, table, [new for _, new in pairs])}
    columns = {old: new for old, new in pairs if new in found}
    copied = []
    for row in await conn.fetch(_INDEXES_OF_COLUMNS, table, list(columns)):
        name = f"{prefix}{row['oid']}"
        copied.append((name, copied_index(row["definition"], columns, name, is_unique=row["is_immediate"])))
    return copied


_NO_SUCH_OBJECT = (
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidParameterValueError,
    asyncpg.WrongObjectTypeError,
)


async def has_address(conn: Connection, address: ObjectAddress) -> bool:
    """Whether there is such an object. Call it in a transaction."""
    return bool(await _find_address(conn, address))


async def _find_address(conn: Connection, address: ObjectAddress) -> list[tuple[int, int, int]]:
    try:
        async with conn.transaction():
            rows = await conn.fetch(f"SELECT classid::int8, objid::int8, objsubid FROM {address.sql} AS found")  # noqa: S608
    except _NO_SUCH_OBJECT:
        return []
    return [(row[0], row[1], row[2]) for row in rows]


_DEPENDENTS = """
WITH RECURSIVE gone (classid, objid, objsubid, is_own) AS (
  SELECT c, o, s, number <= $4 FROM unnest($1::oid[], $2::oid[], $3::int[]) WITH ORDINALITY AS g (c, o, s, number)
  UNION
  SELECT d.classid, d.objid, d.objsubid, g.is_own
  FROM gone g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
   AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
  WHERE d.deptype IN ('a', 'i', 'P', 'S')
)
SELECT DISTINCT pg_describe_object(
  CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(r.ev_class, d.objid), d.objsubid
)
FROM gone g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
 AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.rulename = '_RETURN'
WHERE g.is_own AND d.deptype = 'n' AND NOT EXISTS (
  SELECT FROM gone o WHERE o.classid = d.classid AND o.objid = d.objid AND o.objsubid IN (0, d.objsubid)
)
ORDER BY 1
"""
"""What depends on the first $4 of dropped objects and would not go with all: what DROP without CASCADE refuses."""


async def find_problems(conn: Connection, operations: Iterable[Operation]) -> list[tuple[str, str]]:
    """What would stop a phase, each with a hint: requirements that do not hold, statements that PostgreSQL refuses when
    they are tried, objects that are dropped and do not exist, and what depends on them and is not dropped."""
    operations = list(operations)
    problems: list[tuple[str, str]] = []
    for operation in operations:
        async with reading_with(conn, operation.settings, readonly=False):
            for requirement in operation.requirements:
                problems += [(row[0], requirement.hint) for row in await _read_problems(conn, requirement.query)]
                if requirement.tried and (refusal := await _find_refusal(conn, requirement)) is not None:
                    problems.append((f"{operation.summary}: {refusal[0]}", refusal[1]))
    missing = await _find_missing(conn, operations)
    problems += [(text, "correct the name, or the search_path of the migration") for text in missing]
    found = await find_dependents(conn, operations, lambda _: True)
    return [*problems, *((text, "drop each of them by name, before it") for text in found)]


async def _exists(conn: Connection, address: ObjectAddress) -> bool:
    return any([await has_address(conn, each) for each in _names_of(address)])


async def _is_relation(conn: Connection, names: Iterable[str]) -> bool:
    return bool(await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", name_sql(*names)))


_DROP = re.compile(r"(?!.*\bIF\s+EXISTS\b).*\bDROP\b", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r'"((?:[^"]|"")+)"|(\w+)')
_CODE = re.compile(r"^\s*(DO|CALL|SELECT|WITH|IMPORT)\b", re.IGNORECASE | re.MULTILINE)


async def _find_missing(conn: Connection, operations: Iterable[Operation]) -> list[str]:
    """What the migration drops and does not exist: its drop in contract would be the first to notice.

    A name that an earlier operation mentions counts as made by it, and so do the parts of such a table, and names that
    the server makes of the table's. What code of an earlier operation makes is not known: nothing is missing after it.
    """
    lines: list[str] = []
    mentioned: set[str] = set()
    for operation in operations:
        if operation.drops and _DROP.match(operation.text):
            async with reading_with(conn, operation.settings):
                for address in operation.drops:
                    *table, name = address.names
                    # PostgreSQL accepts DROP DEFAULT where there is none.
                    if address.kind == "default value" or _is_made(name, mentioned) or await _exists(conn, address):
                        continue
                    if not any(each.lower() in mentioned for each in table) or await _is_relation(conn, table):
                        kind = address.kind.removeprefix("table ")
                        lines.append(f"{operation.summary}: {kind} {'.'.join(address.names)} does not exist")
        if _CODE.search(operation.text):
            break
        found = _NAME.findall(operation.text)
        mentioned.update((quoted.replace('""', '"') or plain).lower() for quoted, plain in found)
    return lines


def _is_made(name: str, mentioned: Iterable[str]) -> bool:
    """Whether it is a name, or one that the server makes of it: t_a_key of t. It shortens both parts of a long one."""
    name = name.lower()
    is_cut = len(name.encode()) >= MAX_IDENTIFIER_BYTES - 1
    return any(name == each or name.startswith(each[:28] if is_cut else f"{each}_") for each in mentioned)


async def find_dependents(
    conn: Connection, operations: Iterable[Operation], is_judged: Callable[[Operation], bool]
) -> list[str]:
    """The objects that depend on one that the migration drops, and that no operation drops before it by name.

    Args:
        is_judged: whether an operation's object counts.
    """
    lines: list[str] = []
    gone: list[tuple[int, int, int]] = []
    operations = list(operations)
    for position, operation in enumerate(operations):
        rest = operations[position + 1 :]
        together = list(takewhile(lambda each: each.text == operation.text, rest))  # noqa: B023  objects of one DROP
        async with reading_with(conn, operation.settings):
            found = await _find_addresses(conn, (operation,))
            gone = [*found, *await _find_addresses(conn, together), *gone]
            if found and is_judged(operation):
                rows = await conn.fetch(_DEPENDENTS, *map(list, zip(*gone, strict=True)), len(found))
                if rows:
                    listed = ", ".join(str(row[0]) for row in rows)
                    lines.append(f"{operation.summary}: {listed} would be dropped with it")
    return lines


async def _find_addresses(conn: Connection, operations: Iterable[Operation]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for address in (each for operation in operations for each in operation.drops):
        for name in _names_of(address):
            if present := await _find_address(conn, name):
                found += present
                break
    return found


def _names_of(address: ObjectAddress) -> tuple[ObjectAddress, ...]:
    """An object by the name that it has once it is archived, when another one may have its own; and by its own."""
    *schema, name = address.names
    is_archived = address.kind in ("view", "materialized view", "function", "trigger") and not address.query
    return (replace(address, names=(*schema, old_object_name(name))), address) if is_archived else (address,)


async def _read_problems(conn: Connection, query: str) -> list[asyncpg.Record]:
    try:
        async with conn.transaction():
            return list(await conn.fetch(query))
    except _NO_SUCH_OBJECT:
        return []  # an earlier operation of the plan adds it


async def _find_refusal(conn: Connection, requirement: Requirement) -> tuple[str, str] | None:
    """Why the server refuses a statement that is tried, with a hint; None where it accepts all of them."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        for statement in requirement.tried:
            await conn.execute(statement)
    except asyncpg.PostgresError as error:
        if is_session_lost(error):
            raise
        return str(error).splitlines()[0], _TRY_HINTS.get(type(error), requirement.hint)
    finally:
        await transaction.rollback()
    return None


_TRY_HINTS: Mapping[type[asyncpg.PostgresError], str] = {
    asyncpg.LockNotAvailableError: "repeat it when the other session's transaction has ended",
    asyncpg.InsufficientPrivilegeError: "GRANT TEMPORARY ON DATABASE … to the role of database.dsn",
    asyncpg.ReadOnlySQLTransactionError: "name the primary in database.dsn",
}

MAX_COUNT_SECONDS = 60
"""Rows are counted no longer than this for each constraint; VALIDATE then finds what the count has not."""


@dataclass(frozen=True, slots=True)
class CountedViolations:
    """What violates a constraint of the migration.

    Attributes:
        found: with the number of rows.
        uncounted: what could not be counted in time.
    """

    found: tuple[str, ...]
    uncounted: tuple[str, ...]


async def read_notes(conn: Connection, operations: Iterable[Operation]) -> list[str]:
    """What the operations tell before the start, as far as the database decides it."""
    found = []
    for operation in operations:
        if operation.notes:
            async with reading_with(conn, operation.settings):
                for query in operation.notes:
                    found += [f"note: {row[0]}" for row in await _read_problems(conn, query)]
    return found


_SAMPLE_SECONDS = 0.5
"""Seconds at least to read the values of rows that were counted."""


async def count_rollback_losses(
    conn: Connection, operations: Iterable[Operation], *, seconds: float
) -> CountedViolations:
    """Counts the rows that a rollback now could not keep as they are.

    Args:
        seconds: for all of them; an operator waits.
    """
    found, uncounted = [], []
    ends = time.monotonic() + seconds
    for operation, loss in ((each, loss) for each in operations for loss in each.rollback_losses):
        left = ends - time.monotonic()
        count = await _count(conn, operation, loss, left) if left > 0 else None
        if count is None:
            uncounted.append(f"whether {loss.what} is not known within {seconds:g} s")
        elif count:
            values = await _read_sample(conn, operation, loss, max(_SAMPLE_SECONDS, ends - time.monotonic()))
            found.append(f"{loss.what}: {count_up_to(count, MAX_VIOLATIONS, 'row')}{values}")
    return CountedViolations(tuple(found), tuple(uncounted))


async def count_violations(
    conn: Connection, operations: Iterable[Operation], *, repaired: Iterable[Phase] = ()
) -> CountedViolations:
    """Counts the rows that violate, each constraint's for :data:`MAX_COUNT_SECONDS`.

    Args:
        repaired: phases that have ended; what the release repairs in any other one is left out.
    """
    found, uncounted = [], []
    phases = {None, *repaired}
    for operation, violation in ((each, violation) for each in operations for violation in each.violations):
        if violation.repaired_in not in phases:
            continue
        count = await _count(conn, operation, violation)
        if count is None:
            uncounted.append(
                f"{violation.what}: not counted within {MAX_COUNT_SECONDS} s; VALIDATE in contract decides"
            )
        elif count:
            values = await _read_sample(conn, operation, violation)
            found.append(f"{violation.what}: {count_up_to(count, MAX_VIOLATIONS, 'row')}{values}")
    return CountedViolations(tuple(found), tuple(uncounted))


async def _count(
    conn: Connection,
    operation: Operation,
    violation: Violation | MissingParents,
    seconds: float = MAX_COUNT_SECONDS,
) -> int | None:
    try:
        async with reading_with(conn, operation.settings, seconds=seconds):
            query = violation.query if isinstance(violation, Violation) else await _orphans_query(conn, violation)
            return int(await conn.fetchval(query) or 0) if query else 0
    except _NO_SUCH_OBJECT:
        return 0  # an earlier operation of the plan adds it
    except asyncpg.QueryCanceledError:
        return None


async def _read_sample(
    conn: Connection,
    operation: Operation,
    violation: Violation | MissingParents,
    seconds: float = MAX_COUNT_SECONDS,
) -> str:
    if not (isinstance(violation, Violation) and violation.sample):
        return ""
    try:
        async with reading_with(conn, operation.settings, seconds=seconds):
            return f" ({await conn.fetchval(violation.sample)})"
    except asyncpg.QueryCanceledError:
        return ""


async def _orphans_query(conn: Connection, key: MissingParents) -> str:
    parents = key.parent_columns or tuple(
        row[0]
        for row in await conn.fetch(
            "SELECT a.attname::text FROM pg_index x, unnest(x.indkey) WITH ORDINALITY AS k (number, position)"
            " JOIN pg_attribute a ON a.attnum = k.number WHERE x.indisprimary AND x.indrelid = to_regclass($1)"
            " AND a.attrelid = x.indrelid ORDER BY k.position",
            key.parent,
        )
    )
    if len(parents) != len(key.columns):
        return ""
    return orphans_sql(key, parents)


# --- NOT NULL that a rollback restores


@dataclass(frozen=True, slots=True)
class NotNullState:
    """NOT NULL of a column, as it was.

    Attributes:
        name, definition: of the constraint, since PostgreSQL 18; empty before.
        has_value: a row that does not name the column gets a value.
    """

    name: str
    definition: str
    is_partitioned: bool
    has_value: bool

    def to_json(self) -> list[Any]:
        return [self.name, self.definition, self.is_partitioned, self.has_value]

    @classmethod
    def from_json(cls, value: Any) -> "NotNullState | None":
        return cls(*value) if value else None

    def plain_sql(self, table: str, column: str) -> str:
        """The statement that restores it, reading the table under a lock."""
        if self.name:
            return f"ALTER TABLE {table} ADD CONSTRAINT {name_sql(self.name)} {self.definition}"
        return f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)} SET NOT NULL"


async def read_not_null(conn: Connection, table: str, column: str) -> NotNullState | None:
    """None where the column may be NULL, or is none.

    Args:
        table: as SQL.
    """
    row = await conn.fetchrow(
        "SELECT coalesce(k.conname::text, ''), coalesce(pg_get_constraintdef(k.oid), ''), c.relkind = 'p',"
        " a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]"
        " WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnotnull AND NOT a.attisdropped",
        table,
        column,
    )
    return None if row is None else NotNullState(*row)


async def has_nulls(conn: Connection, table: str, column: str) -> bool:
    """
    Args:
        table, column: as SQL.
    """
    return bool(await conn.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE {column} IS NULL)"))  # noqa: S608


async def has_constraint(conn: Connection, table: str, name: str) -> bool:
    """
    Args:
        table: as SQL.
    """
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2)", table, name
        )
    )

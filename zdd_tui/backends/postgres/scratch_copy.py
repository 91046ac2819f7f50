"""Reads what the new side of a plan will be: its DDL runs on empty, temporary copies of the tables it touches.

Everything happens in one transaction that is rolled back. The originals get an ACCESS SHARE lock, as from a SELECT.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.ddl import find_creating_owner
from zdd_tui.backends.postgres.table_objects import LOCK_TIMEOUT, publication_text, read_table_objects
from zdd_tui.model.ddl.canonical import TablePair
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.lint import created_objects, read_constrain, resolve_name
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.ddl.scratch_copy import (
    TEMPORARY,
    ScratchNames,
    copied_constraints,
    creates_table,
    needed_tables,
    planned_owner,
    planned_publications,
    planned_sequence_grants,
    scratch_statement,
    scratch_statements,
)
from zdd_tui.model.ddl.table_objects import CatalogObject, ObjectKind, SequenceObject, TableObjects
from zdd_tui.model.errors import DatabaseError, PlanError
from zdd_tui.model.plan.base import Plan, TableName
from zdd_tui.model.sql import quote_identifier, quote_qualified

# Default privileges of one schema do not apply to temporary tables.
_DEFAULT_RIGHTS = """
SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
  a.privilege_type AS privilege, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole, aclexplode(d.defaclacl) a
WHERE d.defaclobjtype = 'r' AND r.rolname = $1 AND a.grantee <> d.defaclrole
  AND d.defaclnamespace IN (0, (SELECT n.oid FROM pg_namespace n WHERE n.nspname = $2))
"""


@dataclass(frozen=True, slots=True)
class PlannedSides:
    """The new side as it will be.

    Attributes:
        after_expand: with the DDL of expand and indexes.
        complete: also with that of constrain.
    """

    after_expand: TableObjects
    complete: TableObjects


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A change that was tried: what its table is now, and copies of the tables on which expand has run.

    Attributes:
        catalog, old: the facts of the plan, and the old table, before the change.
        scratch: in an open transaction, which is rolled back.
    """

    catalog: Catalog
    old: TableObjects
    scratch: "Scratch"

    async def read_sides(self) -> PlannedSides:
        """The new side as it will be. The copies are then as expand has left them.

        Raises:
            PlanError: the server refuses a statement of constrain, also on an empty copy.
            DatabaseError: copies cannot be made.
        """
        async with _translate_scratch_errors(self.scratch.plan):
            return await self.scratch.read_sides()


@asynccontextmanager
async def open_planned_change(
    conn: Connection, plan: Plan, catalog: Catalog | None = None
) -> AsyncIterator[PlannedChange | None]:
    """Runs the plan's expand on copies of its tables, in a transaction that is rolled back at the end.

    Args:
        catalog: the facts of the plan where they have just been read.

    Returns:
        None where the old side is archived or dropped.

    Raises:
        PlanError: the server refuses a statement of the plan, also on an empty copy.
        DatabaseError: copies cannot be made.
    """
    catalog = catalog or await read_catalog(conn, plan)
    old = None
    if not catalog.is_archived and not catalog.is_dropped:
        old = await read_table_objects(conn, catalog.old.sql)
    if old is None:
        yield None
        return
    transaction = conn.transaction()
    await transaction.start()
    try:
        scratch = Scratch(conn, plan, old)
        async with _translate_scratch_errors(plan):
            await scratch.expand()
        yield PlannedChange(catalog, old, scratch)
    finally:
        await transaction.rollback()


@asynccontextmanager
async def _translate_scratch_errors(plan: Plan) -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.LockNotAvailableError:
        raise DatabaseError(
            f"{plan.change.table} or a table that it refers to is locked by another session",
            "repeat the check when its transaction has ended",
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"no temporary copy of the plan's tables can be made: {error}",
            "GRANT TEMPORARY ON DATABASE …, and SELECT on the tables that the change refers to, to the role of"
            " database.dsn",
        ) from None
    except asyncpg.ReadOnlySQLTransactionError:
        raise DatabaseError(
            "the server is read-only, so no temporary copy of the plan's tables can be made",
            "name the primary in database.dsn",
        ) from None


class Scratch:
    """Copies of the plan's tables, in the open transaction of a connection that the caller rolls back."""

    def __init__(self, conn: Connection, plan: Plan, old: TableObjects) -> None:
        self.conn, self.plan, self.old = conn, plan, old
        self.names = ScratchNames.for_plan(plan)
        self.resolved: dict[TablePair, TableName] = {}
        self.made: set[str] = set()
        self.owner = planned_owner(plan)
        self.creator = ""

    async def expand(self) -> None:
        """Runs the statements of expand and indexes on the copies."""
        await self.conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        await self.conn.execute(f"SET LOCAL search_path = {search_path(self.plan)}")
        await self.conn.execute("SET LOCAL client_min_messages = warning")
        if self.plan.change.into is not None:
            table = quote_qualified(self.plan.change.table.schema_, self.plan.change.table.name)
            found = await find_creating_owner(self.conn, table, self.plan.change.target_table.schema_)
            self.creator = found[0] if found is not None else await self.conn.fetchval("SELECT current_user::text")
            self.owner = self.owner or (found[0] if found is not None else "")
        if self.plan.change.into is None:
            await self.copy_table(TableName(schema_=self.old.schema, name=self.old.name))
            await self._remove_planned()
        await self._execute(scratch_statements(self.plan, constrain=False))

    async def read_sides(self) -> PlannedSides:
        """Reads the new side after expand, and after constrain, which is then taken back."""
        after_expand, made = await self._read(), set(self.made)
        savepoint = self.conn.transaction()
        await savepoint.start()
        try:
            await self._execute(scratch_statements(self.plan, constrain=True))
            return PlannedSides(after_expand, self._constrain_sequences(await self._read()))
        finally:
            await savepoint.rollback()
            self.made = made

    async def copy_table(self, table: TableName) -> None:
        """Makes an empty copy of an existing table, unless there is one."""
        copy = self.names.add(table)
        if copy in self.made:
            return
        self.made.add(copy)
        original = quote_qualified(table.schema_, table.name)
        name, kept = quote_identifier(copy), "INCLUDING ALL"
        objects = await read_table_objects(self.conn, original, with_dependents=False)
        has_whole_rows = objects is not None and any(each.is_whole_row for each in objects.objects)
        if has_whole_rows:
            kept += " EXCLUDING CONSTRAINTS EXCLUDING INDEXES"  # the server refuses to copy those; others follow below
        # A partitioned table refuses some statements that others take.
        key = await self.conn.fetchval("SELECT pg_get_partkeydef($1::regclass)", original)
        await self.conn.execute(
            f"CREATE TEMPORARY TABLE {name} (LIKE {original} {kept}){f' PARTITION BY {key}' if key else ''}"
        )
        if key:
            bounds = "FOR VALUES WITH (MODULUS 1, REMAINDER 0)" if key.startswith("HASH") else "DEFAULT"
            partition = quote_identifier(f"{copy}_part")
            await self.conn.execute(f"CREATE TEMPORARY TABLE {partition} PARTITION OF {name} {bounds}")
        if objects is not None and has_whole_rows:
            for sql in copied_constraints(objects, copy):
                await self.conn.execute(sql)

    async def _remove_planned(self) -> None:
        """A release that has started has its columns and constraints in the original already."""
        created, copy = created_objects(self.plan), self._target_copy()
        for constraint in created.constraints:
            await self.conn.execute(f"ALTER TABLE {copy} DROP CONSTRAINT IF EXISTS {quote_identifier(constraint)}")
        for column in created.columns:
            await self.conn.execute(f"ALTER TABLE {copy} DROP COLUMN IF EXISTS {quote_identifier(column)} CASCADE")

    def _target_copy(self) -> str:
        copy = self.names.find(self.plan.change.target_table)
        assert copy is not None, "the plan's tables have copies"
        return quote_qualified(TEMPORARY, copy)

    async def _execute(self, statements: Sequence[tuple[str, str]]) -> None:
        planned = {(table.schema_, table.name) for table in (self.plan.change.table, self.plan.change.target_table)}
        planned |= set(created_objects(self.plan).tables)
        for plan_key, text in statements:
            for relation in needed_tables(text):
                table = await self._resolve(relation)
                is_old_table = table == self.plan.change.table and self.plan.change.into is not None
                if (table.schema_, table.name) not in planned or is_old_table:
                    await self.copy_table(table)
            sql = scratch_statement(text, self.names, self.resolve_now)
            if sql is None:
                continue
            try:
                async with self.conn.transaction():
                    await self.conn.execute(sql)
                    if creates_table(text, self.plan, self.resolve_now):
                        await self._grant_defaults()
            except (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError):
                raise
            except asyncpg.FeatureNotSupportedError:
                pass  # a temporary table cannot have it: what it would carry counts as lost
            except asyncpg.PostgresError as error:
                raise PlanError(
                    f"{plan_key}: PostgreSQL refuses it: {str(error).splitlines()[0]}", "correct the statement"
                ) from None

    async def _grant_defaults(self) -> None:
        """The rights that the new table will have by default privileges."""
        for row in await self.conn.fetch(_DEFAULT_RIGHTS, self.creator, self.plan.change.target_table.schema_):
            await self.conn.execute(
                f"GRANT {row['privilege']} ON {self._target_copy()} TO {row['role']}{row['option']}"
            )

    async def _resolve(self, relation: Any) -> TableName:
        """The existing table that a name means under the plan's search path, or the plan's own."""
        table = self.resolve_now(relation)
        if relation.schemaname or self.names.find(table) is not None:
            return table
        found = await self.conn.fetchval(
            "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = to_regclass($1)",
            quote_identifier(relation.relname),
        )
        if found is not None:
            self.resolved[("", relation.relname)] = TableName(schema_=found, name=relation.relname)
        return self.resolve_now(relation)

    def resolve_now(self, relation: Any) -> TableName:
        """The table that a name means, as far as it was resolved."""
        if not relation.schemaname and (known := self.resolved.get(("", relation.relname))) is not None:
            return known
        return resolve_name(self.plan, relation)

    async def _read(self) -> TableObjects:
        found = await read_table_objects(self.conn, self._target_copy(), with_dependents=False)
        if found is None:
            raise PlanError(f"change.expand: nothing creates {self.plan.change.target_table}", "add its CREATE TABLE")
        return self._translate(found)

    def _translate(self, found: TableObjects) -> TableObjects:
        """The copy as the table that it stands for; its definitions still have the names of the copies."""
        originals = self.names.originals()
        objects = [self._translate_object(each, originals) for each in found.objects]
        objects += self._publications()
        aliases: dict[TablePair, TablePair] = {}
        for copy, pair in originals.items():
            aliases |= {("", copy): pair, (found.schema, copy): pair}
        grants = found.grants
        if self.plan.change.into is None:  # rights on the whole table include its new columns
            grants = (*grants, *(grant for grant in self.old.grants if not grant.column))
        return replace(
            found,
            objects=tuple(objects),
            aliases=aliases,
            grants=grants,
            owner=self.owner or found.owner,
            sequences=tuple(self._translate_sequence(each, found) for each in found.sequences),
            columns=tuple(
                replace(column, sequence=self._sequence_name(column.sequence, found)) if column.sequence else column
                for column in found.columns
            ),
        )

    def _translate_object(self, each: CatalogObject, originals: Any) -> CatalogObject:
        if each.owner_table is None:
            return each
        pair = originals.get(each.owner_table[1], each.owner_table)
        name = each.name.partition(" of ")[0]
        return replace(each, owner_table=pair, name=f"{name} of {'.'.join(pair)}")

    def _sequence_name(self, pair: TablePair, found: TableObjects) -> TablePair:
        if pair[0] != found.schema:
            return pair
        target = self.plan.change.target_table
        return (target.schema_, pair[1].replace(found.name, target.name, 1))

    def _translate_sequence(self, sequence: SequenceObject, found: TableObjects) -> SequenceObject:
        schema, name = self._sequence_name(sequence.pair, found)
        granted = [
            (each.role, privilege)
            for each in planned_sequence_grants(self.plan)
            if (each.sequence.schema_, each.sequence.name) == (schema, name)
            for privilege in (("USAGE", "SELECT", "UPDATE") if each.privilege == "ALL" else (each.privilege,))
        ]
        grants = tuple(dict.fromkeys([*sequence.grants, *granted]))
        real = self.old.sequence((schema, name))
        if real is not None and self.plan.change.into is None:  # it belongs to the original, not to the copy
            return replace(real, column=sequence.column, grants=grants)
        return replace(sequence, schema=schema, name=name, grants=grants)

    def _constrain_sequences(self, found: TableObjects) -> TableObjects:
        """ALTER SEQUENCE of constrain, which does not run on the real sequence."""
        sequences = {each.pair: each for each in found.sequences}
        for statement in read_constrain(self.plan):
            if statement.sequence is None:
                continue
            pair = (statement.sequence.schema_, statement.sequence.name)
            if pair not in sequences:
                real = self.old.sequence(pair)  # one that gives no value to a column of the copy
                if real is None or statement.sequence_owner is None:
                    continue
                sequences[pair] = real
            if statement.sequence_owner is not None:
                sequences[pair] = replace(sequences[pair], owner_column=statement.sequence_owner[1])
            if statement.sequence_type:
                sequences[pair] = replace(sequences[pair], type=statement.sequence_type)
        return replace(found, sequences=tuple(sequences.values()))

    def _publications(self) -> list[CatalogObject]:
        """The publications that the new table will be in."""
        old = self.old.of_kind(ObjectKind.PUBLICATION)
        if self.plan.change.into is None:
            return list(old)
        same_schema = self.plan.change.target_table.schema_ == self.plan.change.table.schema_
        found = [
            each
            for each in old
            if '"scope": "all"' in each.definition or ('"scope": "schema"' in each.definition and same_schema)
        ]
        return found + [
            CatalogObject(
                ObjectKind.PUBLICATION, each.name, publication_text("table", list(each.columns), each.row_filter)
            )
            for each in planned_publications(self.plan)
        ]

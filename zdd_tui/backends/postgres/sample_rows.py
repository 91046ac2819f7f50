"""Tries a change on copies of real rows: expressions, sync triggers, constraints and unique keys, forward and back.

Everything happens in temporary tables, in a transaction that is rolled back. The original gets an ACCESS SHARE lock,
as from a SELECT, and a bounded number of its rows is read.
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import asyncpg

from zdd_tui.backends.postgres.catalog import read_table
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.scratch_copy import PlannedChange, Scratch
from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, Table
from zdd_tui.model.ddl.lint import down_source_columns
from zdd_tui.model.ddl.names import Direction
from zdd_tui.model.ddl.rows import new_columns
from zdd_tui.model.ddl.scratch_copy import scratch_statement, scratch_statements
from zdd_tui.model.ddl.sync import drop_sync_statements, sync_statements
from zdd_tui.model.ddl.tries import (
    FAILURES_SQL,
    NEW_ROWS,
    SAMPLE,
    RowFailure,
    count_changed_statement,
    count_unequal_statement,
    fill_statement,
    insert_statement,
    sample_statements,
    try_expressions_statement,
    try_rows_statement,
)
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.plan.base import DualWriteMode, Plan, TableName
from zdd_tui.model.sql import quote_identifier, quote_qualified

SAMPLE_ROWS = 500
STATEMENT_TIMEOUT = "4s"
"""For each statement of a try: the whole check has ten seconds."""


@dataclass(slots=True)
class TriedRows:
    """What became of the sampled rows.

    Attributes:
        rows: how many were tried.
        types: of the columns that ``up`` fills, as SQL.
        broken: rows that the old table itself would refuse today; they are left out.
        has_target_key: the new table has a unique key on the columns of the key.
        unfilled: columns of the new table that are NOT NULL and that nothing fills.
        old_writes: failures of an INSERT that knows the old columns only, after expand, without a trigger.
        forward: failures of the copy to the new side.
        forward_columns: of them, the columns whose expression alone fails.
        unequal: for each new column the rows in which it is not what ``up`` gives.
        orphans: for each foreign key of the new side the rows that refer to nothing.
        constrain: statement of change.constrain and what the server says about it.
        reverse: failures of the copy back to the old side.
        reverse_columns: of them, the columns whose expression alone fails.
        changed: for each old column the rows that come back with another value.
    """

    rows: int = 0
    types: dict[str, str] = field(default_factory=dict)
    broken: tuple[RowFailure, ...] = ()
    has_target_key: bool = True
    unfilled: tuple[str, ...] = ()
    old_writes: tuple[RowFailure, ...] = ()
    forward: tuple[RowFailure, ...] = ()
    forward_columns: tuple[RowFailure, ...] = ()
    unequal: dict[str, int] = field(default_factory=dict)
    orphans: dict[str, int] = field(default_factory=dict)
    constrain: tuple[tuple[str, str], ...] = ()
    reverse: tuple[RowFailure, ...] = ()
    reverse_columns: tuple[RowFailure, ...] = ()
    changed: dict[str, int] = field(default_factory=dict)


async def try_sampled_rows(conn: Connection, change: PlannedChange, *, rows: int = SAMPLE_ROWS) -> TriedRows:
    """Tries the change on at most that many rows, on the copies of its tables; they are then as before.

    Raises:
        DatabaseError: the try takes too long, or the table is locked.
    """
    plan, scratch = change.scratch.plan, change.scratch
    async with _rolled_back(conn, plan):
        made = set(scratch.made)
        try:
            await scratch.copy_table(plan.change.table)
            return await _Try(conn, plan, change.catalog, scratch).run(rows)
        finally:
            scratch.made = made


@asynccontextmanager
async def _rolled_back(conn: Connection, plan: Plan) -> AsyncIterator[None]:
    transaction = conn.transaction()
    await transaction.start()
    try:
        await conn.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'; SET LOCAL row_security = off")
        yield
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
        raise DatabaseError(
            f"the change could not be tried on rows of {plan.change.table}: {str(error).splitlines()[0]}",
            "repeat the check when the table is not locked and the server is less busy",
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"the change could not be tried on rows of {plan.change.table}: {error}",
            "GRANT TEMPORARY ON DATABASE …, and SELECT on the table, to the role of database.dsn",
        ) from None
    finally:
        await transaction.rollback()


class _Try:
    def __init__(self, conn: Connection, plan: Plan, catalog: Catalog, scratch: Scratch) -> None:
        self.conn, self.plan, self.real, self.scratch = conn, plan, catalog, scratch
        self.key = catalog.key_names
        self.catalog: Catalog
        self.schema = ""
        self._references: list[tuple[str, list[str], str, list[str]]] = []
        self.found = TriedRows()

    async def run(self, rows: int) -> TriedRows:
        self.schema = await self.conn.fetchval("SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()")
        self.catalog = await self._read_copies()
        self.found.types = {column.name: column.type for column in new_columns(self.plan, self.catalog)}
        await self._check_target()
        given = [c.name for c in self.real.old.columns if not c.is_generated and c.name not in self._planned()]
        for statement in sample_statements(self.real.old, given, self.key, rows):
            await self.conn.execute(statement)
        await self._drop_references()
        await self._leave_out_broken(given)
        self.found.rows = await self.conn.fetchval(f"SELECT count(*) FROM {SAMPLE}")
        if self.found.rows and self.found.has_target_key and not self.found.unfilled:
            await self._forward(given)
            await self._reverse(given)
        return self.found

    def _planned(self) -> frozenset[str]:
        """New columns of a release that has started; the sample is of the old ones."""
        return frozenset(self.plan.change.up) if self.plan.change.into is None else frozenset()

    async def _read_copies(self) -> Catalog:
        old = await self._read_copy(self.plan.change.table)
        new = old if self.plan.change.into is None else await self._read_copy(self.plan.change.target_table)
        sources = tuple(name for name in down_source_columns(self.plan) if new.column(name) is not None)
        return replace(
            self.real,
            old=old,
            new=new,
            down_source_columns=sources,
            row_checks=(),
            row_keys=(),
            row_references=(),
            required_columns=(),
        )

    async def _read_copy(self, table: TableName) -> Table:
        copy = self.scratch.names.find(table)
        assert copy is not None, "the plan's tables have copies"
        found = await read_table(self.conn, self.schema, copy)
        assert found is not None, "the copy was made in this transaction"
        return found

    async def _check_target(self) -> None:
        """What makes every copy fail, whatever the rows."""
        if self.plan.change.into is None:
            return
        new, given = self.catalog.new_table, {*self.plan.change.up, *self.key}
        self.found.unfilled = tuple(c.name for c in new.columns if c.is_required and c.name not in given)
        self.found.has_target_key = await self.conn.fetchval(
            "SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1::text::regclass AND i.indisunique"
            " AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND (SELECT array_agg(a.attname::text"
            " ORDER BY a.attname::text) FROM pg_attribute a WHERE a.attrelid = i.indrelid"
            " AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) = $2::text[])",
            new.sql,
            sorted(self.key),
        )

    async def _drop_references(self) -> None:
        """The copies of referenced tables are empty; references are compared with the real tables."""
        originals = self.scratch.names.originals()
        for table in {self.catalog.old.name, self.catalog.new_table.name}:
            rows = await self.conn.fetch(
                "SELECT k.conname::text AS name, r.relname::text AS target, n.nspname::text AS schema,"
                " ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY c (attnum, n) JOIN pg_attribute a"
                "  ON a.attrelid = k.conrelid AND a.attnum = c.attnum ORDER BY c.n) AS columns,"
                " ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY c (attnum, n) JOIN pg_attribute a"
                "  ON a.attrelid = k.confrelid AND a.attnum = c.attnum ORDER BY c.n) AS targets"
                " FROM pg_constraint k JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace n"
                " ON n.oid = r.relnamespace WHERE k.contype = 'f' AND k.conrelid = $1::text::regclass",
                quote_qualified(self.schema, table),
            )
            for row in rows:
                name = quote_identifier(row["name"])
                await self.conn.execute(f"ALTER TABLE {quote_qualified(self.schema, table)} DROP CONSTRAINT {name}")
                target = originals.get(row["target"], (row["schema"], row["target"]))
                if table == self.catalog.new_table.name and set(row["columns"]) & set(self.plan.change.up):
                    self._references.append((row["name"], row["columns"], quote_qualified(*target), row["targets"]))

    async def _failures(self, create: str) -> tuple[RowFailure, ...]:
        await self.conn.execute(create)
        return tuple(
            RowFailure(row["state"], row["message"], row["place"] or "", row["rule"] or "", row["rows"])
            for row in await self.conn.fetch(FAILURES_SQL)
        )

    async def _insert_rows(self, source: str, table: str, columns: Sequence[str]) -> tuple[RowFailure, ...]:
        return await self._failures(try_rows_statement(self.plan, source, insert_statement(table, columns)))

    async def _leave_out_broken(self, given: Sequence[str]) -> None:
        """Rows that break a constraint of the old table itself (NOT VALID, or of a domain) prove nothing here."""
        original = self.real.old.sql
        await self.conn.execute(f"CREATE TEMPORARY TABLE zdd_base (LIKE {original} INCLUDING ALL)")
        self.found.broken = await self._insert_rows(SAMPLE, "pg_temp.zdd_base", given)
        if self.found.broken:
            match = " AND ".join(f"b.{quote_identifier(n)} = s.{quote_identifier(n)}" for n in self.key)
            await self.conn.execute(
                f"DELETE FROM {SAMPLE} AS s WHERE NOT EXISTS (SELECT FROM pg_temp.zdd_base AS b WHERE {match})"
            )

    async def _forward(self, given: Sequence[str]) -> None:
        plan, catalog, found = self.plan, self.catalog, self.found
        old, new = catalog.old, catalog.new_table
        filled = new_columns(plan, catalog)
        is_column = plan.change.into is None
        is_trigger = plan.change.dual_write is DualWriteMode.TRIGGER
        if is_column:
            found.old_writes = await self._insert_rows(SAMPLE, old.sql, given)
        if is_column and not is_trigger:
            found.forward = await self._failures(
                try_rows_statement(plan, SAMPLE, fill_statement(plan, old.sql, filled, self.key))
            )
        elif not found.old_writes:
            await self.conn.execute(f"TRUNCATE {old.sql}")
            await self._sync("forward")
            found.forward = await self._insert_rows(SAMPLE, old.sql, given)
            for statement in drop_sync_statements(plan, catalog, "forward", scratch_schema=self.schema):
                await self.conn.execute(statement)
        sources = catalog.up_source_columns
        if found.forward:
            names = [*dict.fromkeys([*sources, *self.key])]
            found.forward_columns = await self._failures(
                try_expressions_statement(plan, filled, plan.change.up, SAMPLE, names, plan.change.table.name)
            )
        else:
            counts = await self._counts(count_unequal_statement(plan, old.sql, new.sql, filled, sources, self.key))
            found.unequal = {c.name: count for c, count in zip(filled, counts, strict=True) if count}
        for name, columns, target, targets in self._references:
            given_sql = " AND ".join(f"n.{quote_identifier(c)} IS NOT NULL" for c in columns)
            match = " AND ".join(
                f"r.{quote_identifier(t)} = n.{quote_identifier(c)}" for c, t in zip(columns, targets, strict=True)
            )
            count = await self.conn.fetchval(
                f"SELECT count(*) FROM {new.sql} AS n WHERE {given_sql}"
                f" AND NOT EXISTS (SELECT FROM {target} AS r WHERE {match})"
            )
            if count:
                found.orphans[name] = count
        await self._constrain()

    async def _counts(self, statement: str) -> list[int]:
        row = await self.conn.fetchrow(statement)
        assert row is not None, "counts are one row"
        return list(row.values())

    async def _sync(self, direction: Direction) -> None:
        for statement in sync_statements(self.plan, self.catalog, direction, scratch_schema=self.schema):
            await self.conn.execute(statement)

    async def _constrain(self) -> None:
        """Runs change.constrain on the filled copy, each statement for itself; references were compared before."""
        refused = []
        for plan_key, text in scratch_statements(self.plan, constrain=True):
            if "references" in text.lower():
                continue
            sql = scratch_statement(text, self.scratch.names, self.scratch.resolve_now)
            if sql is None:
                continue
            try:
                async with self.conn.transaction():
                    await self.conn.execute(sql)
            except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
                refused.append((plan_key, self._with_original_names(str(error).splitlines()[0])))
            except asyncpg.PostgresError:
                pass  # the comparison of the sides checks what a copy cannot have
        self.found.constrain = tuple(refused)

    def _with_original_names(self, text: str) -> str:
        for copy, (_, name) in self.scratch.names.originals().items():
            text = text.replace(f'"{copy}"', f'"{name}"')
        return text

    async def _reverse(self, given: Sequence[str]) -> None:
        """Writes the new side alone, as V3 does, and reads what the old side gets."""
        plan, catalog, found = self.plan, self.catalog, self.found
        old, new = catalog.old, catalog.new_table
        back: list[CatalogColumn] = [c for name in plan.change.down if (c := old.column(name)) is not None]
        if plan.change.into is None:
            columns = [*(name for name in given if name not in plan.change.down), *plan.change.up]
        else:
            columns = [*self.key, *plan.change.up]
        await self.conn.execute(f"CREATE TEMPORARY TABLE zdd_new_rows AS SELECT * FROM {new.sql}")
        await self.conn.execute(f"TRUNCATE {', '.join(dict.fromkeys([old.sql, new.sql]))}")
        await self._sync("reverse")
        found.reverse = await self._insert_rows(NEW_ROWS, new.sql, columns)
        if found.reverse:
            names = [*dict.fromkeys([*catalog.down_source_columns, *plan.change.up, *self.key])]
            found.reverse_columns = await self._failures(
                try_expressions_statement(plan, back, plan.change.down, NEW_ROWS, names, plan.change.target_table.name)
            )
        *counts, _ = await self._counts(count_changed_statement(old.sql, back, self.key))
        found.changed = {column.name: count for column, count in zip(back, counts, strict=True) if count}

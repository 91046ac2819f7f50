"""What an operation is: steps by phase, each one effect with its undo."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, quote_literal

_DROPS_DATA = re.compile(r"^DROP TABLE |^ALTER TABLE .* DROP COLUMN ")


class StepMode(StrEnum):
    """How a step's statements are executed."""

    TRANSACTION = "transaction"
    """All in one transaction, together with the step's record."""
    BUILD_INDEX = "build-index"
    """CREATE INDEX CONCURRENTLY of :attr:`OperationStep.index`, outside a transaction."""
    DROP_INDEX = "drop-index"
    """DROP INDEX CONCURRENTLY of :attr:`OperationStep.index`, outside a transaction."""
    COPY_INDEXES = "copy-indexes"
    """CREATE INDEX CONCURRENTLY for every index of the old columns of :attr:`OperationStep.copies`, on the new ones."""
    FILL = "fill"
    """:attr:`OperationStep.fill`, in batches, each with its checkpoint."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Values that the rows of a table get in batches, in the order of its key.

    Attributes:
        table: as SQL.
        values: pairs of a column's name and an SQL expression over the row's columns; empty to delete the rows.
        only_where: SQL condition: the rows that still need the values. At the end no row meets it.
        is_once: the condition may still hold after a row got its values: each row gets them once, because its batch
            commits with its checkpoint, and rows that are inserted later do not need them.
        is_partial: rows that meet the condition may be left; a later step writes them.
        alias: of the table in the expressions; empty for its own name.
        source: further items for FROM, as SQL; empty for none.
    """

    table: str
    values: tuple[tuple[str, str], ...]
    only_where: str
    is_once: bool = False
    is_partial: bool = False
    alias: str = ""
    source: str = ""

    @property
    def sql(self) -> str:
        """The statement that the batches are parts of, for people."""
        name = f"{self.table} AS {self.alias}" if self.alias else self.table
        where = f" WHERE {self.only_where}" if self.only_where else ""
        if not self.values:
            return f"DELETE FROM {name}{f' USING {self.source}' if self.source else ''}{where}"
        values = ", ".join(f"{name_sql(column)} = {value}" for column, value in self.values)
        return f"UPDATE {name} SET {values}{f' FROM {self.source}' if self.source else ''}{where}"


@dataclass(frozen=True, slots=True)
class OperationStep:
    """One effect of an operation.

    Attributes:
        label: what an operator reads, such as ``add column users.bio``.
        statements: SQL, in order.
        undo: SQL that takes the effect back, in order.
        undo_query: a query of one text column: further statements of the undo, which depend on what the database holds
            before the effect. Read in the transaction of the effect and kept with the step's record.
        then_query: as ``undo_query``, for statements of the effect itself; read and run after ``statements``.
        index: the name of the index that is built or dropped.
        table: of the index that is built, as SQL.
        schema: of the index that is dropped; empty where the statement names none.
        is_optional: IF EXISTS or IF NOT EXISTS of an index.
        copies: pairs of columns' names, old and new, of the table.
        are_locks_known: the form of the statements says what they lock, and only the catalog changes under a lock that
            blocks others. No check has to find that out on a copy of the schema, where some branches are not taken.
        is_reversed: the step does nothing; its undo builds the indexes, or runs the statements of the undo.
        fill: what :attr:`StepMode.FILL` writes; the phase of such a step is backfill.
        only_if: a query of one truth value; where it is false, nothing runs and nothing is undone.
    """

    phase: Phase
    label: str
    statements: tuple[str, ...]
    undo: tuple[str, ...] = ()
    undo_query: str = ""
    then_query: str = ""
    mode: StepMode = StepMode.TRANSACTION
    index: str = ""
    table: str = ""
    schema: str = ""
    is_optional: bool = False
    only_if: str = ""
    copies: tuple[tuple[str, str], ...] = ()
    are_locks_known: bool = False
    is_reversed: bool = False
    fill: Fill | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """What the step runs, for people."""
        if self.fill is not None:
            return (f"in batches: {self.fill.sql}",)
        if self.mode is StepMode.COPY_INDEXES:
            columns = ", ".join(f"{new} as on {old}" for old, new in self.copies)
            return () if self.is_reversed else (f"CREATE INDEX CONCURRENTLY on {columns}",)
        return tuple(line for sql in self.statements for line in self._readable(sql))

    def _readable(self, sql: str) -> tuple[str, ...]:
        """A statement for people: of a block of ours only its length."""
        lines = tuple(sql.splitlines())
        is_block = self.are_locks_known and len(lines) > 1 and sql.startswith(("DO ", "CREATE OR REPLACE FUNCTION"))
        return (f"{lines[0].split('$zdd')[0].strip()} … ({len(lines)} lines: {self.label})",) if is_block else lines

    @property
    def undo_lines(self) -> tuple[str, ...]:
        """What the undo runs, for people; what depends on the database is told in words."""
        if self.mode is StepMode.BUILD_INDEX:
            return (f"DROP INDEX CONCURRENTLY {self.index}",)
        if self.mode is StepMode.COPY_INDEXES:
            return (f"{'builds' if self.is_reversed else 'drops'} these indexes, concurrently",)
        if self.mode is StepMode.DROP_INDEX:
            return (f"builds {self.index} again, concurrently",)
        restored = ("restores what the database held before",) if self.undo_query else ()
        undo = (
            f"{line}, with the data in it" if _DROPS_DATA.search(line) else line
            for sql in self.undo
            for line in self._readable(sql)
        )
        return (*restored, *undo) or ("nothing to undo",)


@dataclass(frozen=True, slots=True)
class Violation:
    """Rows that would not satisfy a constraint, counted before anything starts.

    Attributes:
        what: such as ``users.email is NULL``.
        query: counts them, up to a limit; one integer.
        table: of the constraint, as SQL.
        columns: what the constraint reads of the table.
        condition: SQL condition of a row that violates; empty where single rows do not.
        repaired_in: where the release itself last writes such rows; before the end of that phase they are not counted.
    """

    what: str
    query: str
    table: str = ""
    columns: tuple[str, ...] = ()
    condition: str = ""
    repaired_in: Phase | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What one statement brings to the phases.

    Attributes:
        text: the statement, as the team wrote it or as one command of it.
        removes: the objects that running code may still use, such as ``column users.legacy``.
    """

    text: str
    summary: str
    steps: tuple[OperationStep, ...]
    violations: tuple[Violation, ...] = ()
    removes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RenameOperation(Operation):
    """A rename. Until contract both names exist, and only one of them is the original.

    Attributes:
        tables: names without a schema that the table has before and after.
        columns: the old and the new name of the column; empty where the table itself is renamed.
    """

    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OperationOptions:
    """What a plan says beside the statement.

    Attributes:
        has_rollout: an older version of the application may run until cutover.
        undo: statements, for an operation whose undo cannot be derived; None where the plan has none.
        phase: where a statement of the team's own runs, as one; None where the plan has none.
        repair: SQL expression of the value by column, for rows that a constraint would refuse.
        created: tables that the migration creates.
        added: pairs of a table and a column that the migration adds.
        down: the expression that computes the value of a column's old type; empty for an assignment.
    """

    has_rollout: bool = False
    undo: tuple[str, ...] | None = None
    phase: Phase | None = None
    repair: tuple[tuple[str, str], ...] = ()
    created: frozenset[str] = frozenset()
    added: frozenset[tuple[str, str]] = frozenset()
    down: str = ""

    def creates(self, table: str) -> bool:
        """Whether the migration creates a table, whose name is SQL."""
        return same_table(table) in self.created

    def adds(self, table: str, column: str) -> bool:
        """Whether the migration adds a column to a table."""
        return (same_table(table), column) in self.added


def on_new_table(text: str, label: str, *undo: str) -> Operation:
    """The plain statement, on a table that the migration itself creates: nobody uses it."""
    return Operation(text, label, (OperationStep(Phase.EXPAND, label, (text,), undo),))


MAX_VIOLATIONS = 1000
"""Violating rows are counted up to this number."""


def same_table(table: str) -> str:
    """The name of a table, the same with and without the schema ``public``."""
    return table.removeprefix("public.")


def relation_sql(relation: Any) -> str:
    """The name of a RangeVar as SQL, with its schema where it has one."""
    return name_sql(*(part for part in (relation.schemaname, relation.relname) if part))


def column_exists(table: str, column: str) -> str:
    """A query for ``only_if``.

    Args:
        table: as SQL.
    """
    return (
        f"SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass({quote_literal(table)})"
        f" AND attname = {quote_literal(column)} AND NOT attisdropped)"
    )


def exists_query(relation: str, statement: str) -> str:
    """A query for ``undo_query``: the statement, unless the relation exists already."""
    return f"SELECT {quote_literal(statement)} WHERE to_regclass({quote_literal(relation)}) IS NULL"

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
    FILL = "fill"
    """:attr:`OperationStep.fill`, in batches, each with its checkpoint."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Values that the rows of a table get in batches, in the order of its key.

    Attributes:
        table: as SQL.
        values: pairs of a column's name and an SQL expression over the row's columns.
        only_where: SQL condition: the rows that still need the values. At the end no row meets it.
    """

    table: str
    values: tuple[tuple[str, str], ...]
    only_where: str


@dataclass(frozen=True, slots=True)
class OperationStep:
    """One effect of an operation.

    Attributes:
        label: what an operator reads, such as ``add column users.bio``.
        statements: SQL, in order.
        undo: SQL that takes the effect back, in order.
        undo_query: a query of one text column: further statements of the undo, which depend on what the database holds
            before the effect. Read in the transaction of the effect and kept with the step's record.
        index: the name of the index that is built or dropped.
        table: of the index that is built, as SQL.
        schema: of the index that is dropped; empty where the statement names none.
        is_optional: IF EXISTS or IF NOT EXISTS of an index.
        fill: what :attr:`StepMode.FILL` writes; the phase of such a step is backfill.
        only_if: a query of one truth value; where it is false, nothing runs and nothing is undone.
    """

    phase: Phase
    label: str
    statements: tuple[str, ...]
    undo: tuple[str, ...] = ()
    undo_query: str = ""
    mode: StepMode = StepMode.TRANSACTION
    index: str = ""
    table: str = ""
    schema: str = ""
    is_optional: bool = False
    only_if: str = ""
    fill: Fill | None = None

    @property
    def undo_lines(self) -> tuple[str, ...]:
        """What the undo runs, for people; what depends on the database is told in words."""
        if self.mode is StepMode.BUILD_INDEX:
            return (f"DROP INDEX CONCURRENTLY {self.index}",)
        if self.mode is StepMode.DROP_INDEX:
            return (f"builds {self.index} again, concurrently",)
        restored = ("restores what the database held before",) if self.undo_query else ()
        undo = (f"{sql}, with the data in it" if _DROPS_DATA.search(sql) else sql for sql in self.undo)
        return (*restored, *undo) or ("nothing to undo",)


@dataclass(frozen=True, slots=True)
class Violation:
    """Rows that would not satisfy a constraint, counted before anything starts.

    Attributes:
        what: such as ``users.email is NULL``.
        query: counts them, up to a limit; one integer.
    """

    what: str
    query: str


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
class OperationOptions:
    """What a plan says beside the statement.

    Attributes:
        has_rollout: an older version of the application may run until cutover.
        undo: statements, for an operation whose undo cannot be derived; None where the plan has none.
        phase: of such an operation.
    """

    has_rollout: bool = False
    undo: tuple[str, ...] | None = None
    phase: Phase = Phase.EXPAND


MAX_VIOLATIONS = 1000
"""Violating rows are counted up to this number."""


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

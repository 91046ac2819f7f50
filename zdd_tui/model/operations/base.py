"""What an operation is: steps by phase, each one effect with its undo."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from zdd_tui.model.operations.scope import ObjectKey, Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import MAX_IDENTIFIER_BYTES, name_sql, quote_literal

_DROPS_DATA = re.compile(r"^DROP TABLE |^ALTER TABLE .* DROP COLUMN ")


class StepMode(StrEnum):
    """How a step's statements are executed."""

    TRANSACTION = "transaction"
    """All in one transaction, together with the step's record."""
    BUILD_INDEX = "build-index"
    """CREATE INDEX CONCURRENTLY of :attr:`OperationStep.index`, outside a transaction."""
    DROP_INDEX = "drop-index"
    """DROP INDEX CONCURRENTLY of :attr:`OperationStep.index`, outside a transaction."""
    AUTOCOMMIT = "autocommit"
    """Each statement by itself, outside a transaction: maintenance that may be repeated and is not undone."""


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """An object of the database, as the function pg_get_object_address identifies it.

    Attributes:
        kind: such as ``table column``.
        names, args: as that function expects them for the kind.
    """

    kind: str
    names: tuple[str, ...]
    args: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The call; it fails where there is no such object."""
        names, args = (f"ARRAY[{', '.join(map(quote_literal, each))}]::text[]" for each in (self.names, self.args))
        return f"pg_get_object_address({quote_literal(self.kind)}, {names}, {args})"


@dataclass(frozen=True, slots=True)
class NotNullRestore:
    """NOT NULL of a column that a rollback brings back.

    Attributes:
        table: as SQL.
        fill: an expression over the row for rows that a newer version wrote without a value; empty for none.
    """

    table: str
    column: str
    fill: str = ""


@dataclass(frozen=True, slots=True)
class OperationStep:
    """One effect of an operation.

    Attributes:
        label: what an operator reads, such as ``add column users.bio``.
        statements: SQL, in order.
        undo: SQL that takes the effect back, in order.
        undo_query: further statements of the undo, which depend on what the database holds before the effect. Read in
            the transaction of the effect and kept with the step's record. One text column; or four: ``sql`` for a
            statement like the others, or ``index`` (schema and name) or ``constraint`` (table and name) or ``validate``
            for one that runs before them by itself, because it reads rows; its SQL; two names.
        index: the name of the index that is built or dropped.
        table: of the index that is built, as SQL.
        schema: of the index that is dropped; empty where the statement names none.
        is_optional: IF EXISTS or IF NOT EXISTS of an index.
        only_if: a query of one truth value; where it is false, nothing runs and nothing is undone.
        only_if_exists: the same for IF EXISTS of any object.
        created: where it exists before, ``undo`` is left out: IF NOT EXISTS.
        settings: SET LOCAL of the migration's own settings, such as its search_path.
        before: a step whose effect belongs to the same transaction, before this one.
        not_null: what ``undo`` restores last.
        renames: the old and the new name of an index that the operation has built.
        is_replacement: what one statement takes away from running code, a later one gives back.
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
    only_if_exists: ObjectAddress | None = None
    created: ObjectAddress | None = None
    settings: tuple[str, ...] = ()
    before: "OperationStep | None" = None
    not_null: NotNullRestore | None = None
    renames: tuple[str, str] | None = None
    is_replacement: bool = False

    @property
    def undo_lines(self) -> tuple[str, ...]:
        """What the undo runs, for people; what depends on the database is told in words."""
        if self.mode is StepMode.BUILD_INDEX:
            return (f"DROP INDEX CONCURRENTLY {self.index}",)
        if self.mode is StepMode.DROP_INDEX:
            return (f"builds {self.index} again, concurrently",)
        restored = ("restores what the database held before",) if self.undo_query else ()
        undo = (f"{sql}, with the data in it" if _DROPS_DATA.search(sql) else sql for sql in self.undo)
        earlier = self.before.undo_lines if self.before is not None else ()
        if (column := self.not_null) is not None:
            filled = f", NULL becomes {column.fill}" if column.fill else ""
            restored = (f"{column.table}.{name_sql(column.column)} is NOT NULL again, if it was{filled}",)
        return (*restored, *undo, *earlier) or ("nothing to undo",)


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
class MissingParents:
    """Rows that a foreign key would refuse, counted before anything starts.

    Attributes:
        table, parent: as SQL.
        parent_columns: empty for the parent's primary key.
        is_full: MATCH FULL: a row with some columns NULL violates it, too.
    """

    what: str
    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold before anything starts.

    Attributes:
        query: returns a text for each problem.
    """

    query: str
    hint: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What one statement brings to the phases.

    Attributes:
        text: the statement, as the team wrote it or as one command of it.
        removes: the objects that running code may still use, such as ``column users.legacy``.
        drops: what is dropped in cleanup; before the start nothing may depend on it that the migration keeps.
        requirements: other things that must hold before the start.
        settings: see :attr:`OperationStep.settings`.
        creates, archives: an object, where one may replace another of the same name.
        on: the table that it changes.
        topic: what it sets; an earlier operation on the same in a later phase must not have the last word.
    """

    text: str
    summary: str
    steps: tuple[OperationStep, ...]
    violations: tuple[Violation | MissingParents, ...] = ()
    removes: tuple[str, ...] = ()
    drops: tuple[ObjectAddress, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    settings: tuple[str, ...] = ()
    creates: ObjectKey | None = None
    archives: ObjectKey | None = None
    on: ObjectKey | None = None
    topic: str = ""


@dataclass(frozen=True, slots=True)
class OperationOptions:
    """What a plan says beside the statement.

    Attributes:
        has_rollout: an older version of the application may run until cutover.
        undo: statements, for an operation whose undo cannot be derived; None where the plan has none.
        phase: of such an operation.
        down: an expression by column: what a rollback writes where a removed column that was NOT NULL has no value.
        scope: what the statements before have created.
    """

    has_rollout: bool = False
    undo: tuple[str, ...] | None = None
    phase: Phase = Phase.EXPAND
    down: tuple[tuple[str, str], ...] = ()
    scope: Scope = field(default_factory=Scope, compare=False)

    @property
    def last_phase(self) -> Phase:
        """Where only the new version runs."""
        return Phase.CONTRACT if self.has_rollout else Phase.EXPAND


MAX_VIOLATIONS = 1000
"""Violating rows are counted up to this number."""


def old_object_name(name: str) -> str:
    """The name of an object between contract and cleanup; two names never become the same one."""
    return fit_name("zdd_old_", name)


def fit_name(prefix: str, name: str) -> str:
    """A name with a prefix, within PostgreSQL's 63 bytes; a hash stands for what is cut off."""
    if len((prefix + name).encode()) <= MAX_IDENTIFIER_BYTES:
        return prefix + name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: MAX_IDENTIFIER_BYTES - len(prefix) - len(digest) - 1].decode(errors="ignore")
    return f"{prefix}{kept}_{digest}"


def shorten(text: str, length: int = 60) -> str:
    """A statement in one line of at most that many characters, for labels and errors."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


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

"""What an operation is: steps by phase, each one effect with its undo."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from zdd_tui.model.operations.generated import HELPER_PREFIX, OLD_PREFIX
from zdd_tui.model.operations.scope import ObjectKey, Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import MAX_IDENTIFIER_BYTES, enum_name, name_sql, parse_sql, quote_literal, string_values


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
    AUTOCOMMIT = "autocommit"
    """Each statement by itself, outside a transaction: maintenance that may be repeated and is not undone."""
    WAIT = "wait"
    """Waits for the transactions whose snapshot is from before now: they do not see rows that were filled meanwhile.
    With :attr:`OperationStep.compares`, rows that differ are copied, and it waits again, until none differs."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Values that the rows of a table get in batches, in the order of its key.

    Attributes:
        table: as SQL.
        values: pairs of a column's name and an SQL expression over the row's columns, which is empty where there is a
            statement; no pairs to delete the rows.
        only_where: SQL condition: the rows that still need the values. At the end no row meets it.
        is_once: the condition may still hold after a row got its values: each row gets them once, because its batch
            commits with its checkpoint, and rows that are inserted later do not need them.
        is_partial: rows that meet the condition may be left; a later step writes them.
        alias: of the table in the expressions; empty for its own name.
        source: further items for FROM, as SQL; empty for none.
        into: the name of a table in the same schema that gets the rows; then there are no values and no condition.
        key: columns of the unique index in whose order they are read; empty for the primary key.
        copy, differing: functions of :mod:`zdd_tui.model.operations.partition_swap` for ``into``, as SQL.
        statement: what runs as one statement, because it cannot run in batches; empty where batches do the same.
        reason: why it cannot.
    """

    table: str
    values: tuple[tuple[str, str], ...]
    only_where: str
    is_once: bool = False
    is_partial: bool = False
    alias: str = ""
    source: str = ""
    into: str = ""
    key: tuple[str, ...] = ()
    copy: str = ""
    differing: str = ""
    statement: str = ""
    reason: str = ""

    @property
    def sql(self) -> str:
        """The statement that the batches are parts of."""
        if self.into:
            return f"INSERT INTO {name_sql(self.into)} SELECT * FROM {self.table}"
        if self.statement:
            return self.statement
        name = f"{self.table} AS {name_sql(self.alias)}" if self.alias else self.table
        where = f" WHERE {self.only_where}" if self.only_where else ""
        if not self.values:
            return f"DELETE FROM {name}{f' USING {self.source}' if self.source else ''}{where}"
        values = ", ".join(f"{name_sql(column)} = {value}" for column, value in self.values)
        return f"UPDATE {name} SET {values}{f' FROM {self.source}' if self.source else ''}{where}"


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """An object of the database, as the function pg_get_object_address identifies it.

    Attributes:
        kind: such as ``table column``.
        names, args: as that function expects them for the kind.
        query: finds the object where that function cannot, or several: the same three columns.
    """

    kind: str
    names: tuple[str, ...]
    args: tuple[str, ...] = ()
    query: str = ""

    @property
    def sql(self) -> str:
        """An item of FROM without its alias; a call fails where there is no such object."""
        if self.query:
            return f"({self.query})"
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


class ReliedKind(StrEnum):
    """What an object is that a step makes and later ones rely on."""

    COLUMN = "column"
    CONSTRAINT = "constraint"
    TABLE = "table"
    TRIGGER = "trigger"
    VIEW = "view"
    FUNCTION = "function"
    """In the schema of zdd."""
    HELPERS = "helpers"
    """The constraints and indexes of a table that zdd has named; they get the names of others later."""


@dataclass(frozen=True, slots=True)
class ReliedObject:
    """An object that exists unchanged from the step that makes it to the last one that needs it.

    Attributes:
        table: as SQL.
        differing: of a trigger: the condition, as SQL, of rows that were written while it did not fire.
        reads: of a view: what it reads, as SQL; its definition has the names of the columns there.
        statement: the migration's own that makes it; empty where zdd's SQL does.
    """

    kind: ReliedKind
    table: str
    name: str
    differing: str = ""
    reads: str = ""
    statement: str = ""


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
        then_query: a query of one text column: further statements of the effect; read and run after ``statements``.
        index: the name of the index that is built or dropped.
        table: of the index that is built, as SQL.
        key: the constraint that the built index is for: ``UNIQUE`` or ``PRIMARY KEY``. On a partitioned table, whose
            constraint no index can become, each partition gets the index, and its constraint from it.
        on_partitioned: on such a table, instead of ``statements``: the constraint that takes over those of partitions.
        is_helper: the index goes in cleanup.
        schema: of the index that is dropped; empty where the statement names none.
        is_optional: IF EXISTS or IF NOT EXISTS of an index.
        copies: pairs of columns' names, old and new, of the table.
        copy_prefix: what the names of copied indexes begin with.
        are_locks_known: the form of the statements says what they lock, and only the catalog changes under a lock that
            blocks others. No check has to find that out on a copy of the schema, where some branches are not taken.
        is_reversed: the step does nothing; its undo builds the indexes, or runs the statements of the undo.
        fill: what :attr:`StepMode.FILL` writes; the phase of such a step is backfill.
        compares: the copy that :attr:`StepMode.WAIT` completes before the step is done.
        only_if: a query of one truth value; where it is false, nothing runs and nothing is undone.
        only_if_exists: the same for IF EXISTS of any object.
        created: where it exists before, ``undo`` is left out: IF NOT EXISTS.
        settings: SET LOCAL of the migration's own settings, such as its search_path.
        before: a step whose effect belongs to the same transaction, before this one.
        not_null: what ``undo`` restores last.
        renames: the old and the new name of an index that the operation has built.
        is_replacement: what one statement takes away from running code, a later one gives back.
        may_break: running code may notice it, as the statement says: a check tells so instead of refusing it.
        keeps: what must exist unchanged from now on, where no statement says so by itself.
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
    key: str = ""
    on_partitioned: str = ""
    is_helper: bool = False
    schema: str = ""
    is_optional: bool = False
    only_if: str = ""
    copies: tuple[tuple[str, str], ...] = ()
    copy_prefix: str = HELPER_PREFIX
    are_locks_known: bool = False
    is_reversed: bool = False
    fill: Fill | None = None
    compares: Fill | None = None
    only_if_exists: ObjectAddress | None = None
    created: ObjectAddress | None = None
    settings: tuple[str, ...] = ()
    before: "OperationStep | None" = None
    not_null: NotNullRestore | None = None
    renames: tuple[str, str] | None = None
    is_replacement: bool = False
    may_break: bool = False
    keeps: tuple[ReliedObject, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What the step runs, for people."""
        if self.fill is not None:
            return (f"{'as one statement' if self.fill.statement else 'in batches'}: {self.fill.sql}",)
        if self.mode is StepMode.WAIT:
            copied = ("copies the rows that differ, one by one",) if self.compares is not None else ()
            return () if self.is_reversed else (*copied, "waits for transactions whose snapshot is older")
        if self.mode is StepMode.COPY_INDEXES:
            columns = ", ".join(f"{new} as on {old}" for old, new in self.copies)
            return () if self.is_reversed else (f"CREATE INDEX CONCURRENTLY on {columns}",)
        earlier = self.before.lines if self.before is not None else ()
        return (*earlier, *(line for sql in self.statements for line in self._readable(sql)))

    def _readable(self, sql: str) -> tuple[str, ...]:
        """A statement for people: of a block of ours only its length."""
        lines = tuple(sql.splitlines())
        return (self._block_title(lines),) if self._is_block(sql) else lines

    def _is_block(self, sql: str) -> bool:
        begin = ("DO ", "CREATE OR REPLACE FUNCTION") if self.are_locks_known else "DO $zdd$"
        return "\n" in sql and sql.startswith(begin)

    def _block_title(self, lines: tuple[str, ...]) -> str:
        return f"{lines[0].split('$zdd')[0].strip()} … ({len(lines)} lines: {self.label})"

    @property
    def blocks(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The lines of each block that :attr:`lines` and :attr:`undo_lines` shorten, with the title that is shown."""
        earlier = self.before.blocks if self.before is not None else ()
        found = (tuple(sql.splitlines()) for sql in (*self.statements, *self.undo) if self._is_block(sql))
        return (*earlier, *((self._block_title(lines), lines) for lines in found))

    @property
    def undo_lines(self) -> tuple[str, ...]:
        """What the undo runs, for people; what depends on the database is told in words."""
        if self.mode is StepMode.BUILD_INDEX:
            return (f"DROP INDEX CONCURRENTLY {self.index}",)
        if self.mode is StepMode.COPY_INDEXES:
            return (f"{'builds' if self.is_reversed else 'drops'} these indexes, concurrently",)
        if self.mode is StepMode.WAIT and self.is_reversed:
            return ("copies the rows that differ, one by one",)
        if self.mode is StepMode.DROP_INDEX:
            return (f"builds {self.index} again, concurrently",)
        restored = (f"restores what the database held before this step: {self.label}",) if self.undo_query else ()
        undo = [line for sql in self.undo for line in self._readable_undo(sql)]
        earlier = self.before.undo_lines if self.before is not None else ()
        if (column := self.not_null) is not None:
            filled = f", NULL becomes {column.fill}" if column.fill else ""
            restored = (f"{column.table}.{name_sql(column.column)} is NOT NULL again, if it was{filled}",)
        return (*restored, *undo, *earlier) or ("nothing to undo",)

    def _readable_undo(self, sql: str) -> tuple[str, ...]:
        *lines, last = self._readable(sql) or ("",)
        return (*lines, f"{last}, with the data in it" if _list_dropped(sql) else last)

    @property
    def dropped_by_undo(self) -> tuple["DroppedData", ...]:
        """The columns and tables that the undo drops, with the data in them."""
        is_optional = bool(self.created or self.only_if or self.only_if_exists)
        earlier = () if self.before is None else self.before.dropped_by_undo
        dropped = (each for sql in self.undo for each in _list_dropped(sql))
        return (*earlier, *(replace(each, is_optional=is_optional, settings=self.settings) for each in dropped))


def _list_dropped(sql: str) -> list["DroppedData"]:
    """The columns and tables that a statement drops, with the data in them."""
    if sql.startswith("DO ") or "DROP " not in sql.upper():
        return []  # most are not parsed
    dropped = []
    for node in (each.stmt for each in parse_sql(sql).stmts):
        drop, alter = node.drop_stmt, node.alter_table_stmt
        if node.HasField("drop_stmt") and enum_name(drop, "remove_type") == "OBJECT_TABLE":
            dropped += [DroppedData(name_sql(*string_values(each.list.items))) for each in drop.objects]
        for command in (each.alter_table_cmd for each in alter.cmds):
            if enum_name(command, "subtype") == "AT_DropColumn":
                dropped.append(DroppedData(relation_sql(alter.relation), name_sql(command.name)))
    return dropped


@dataclass(frozen=True, slots=True)
class DroppedData:
    """A column or a table that an undo drops.

    Attributes:
        table, column: as SQL; no column where the table is dropped.
        is_optional: it may have existed before the release, and then it stays.
        is_copy: the old column holds each value, too: a trigger keeps both equal.
        is_filled: the release itself writes values of it.
        later: the name of the column from contract on, as SQL; empty where it keeps its name.
        settings: of the step, see :attr:`OperationStep.settings`.
    """

    table: str
    column: str = ""
    is_optional: bool = False
    is_copy: bool = False
    is_filled: bool = False
    later: str = ""
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``column users.nick``."""
        return f"column {self.table}.{self.column}" if self.column else f"table {self.table}"


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
        sample: a query of one text: some of the values; empty for none.
    """

    what: str
    query: str
    table: str = ""
    columns: tuple[str, ...] = ()
    condition: str = ""
    repaired_in: Phase | None = None
    sample: str = ""


@dataclass(frozen=True, slots=True)
class MissingParents:
    """Rows that a foreign key would refuse, counted before anything starts.

    Attributes:
        table, parent: as SQL.
        parent_columns: empty for the parent's primary key.
        is_full: MATCH FULL: a row with some columns NULL violates it, too.
        condition, repaired_in: as of a :class:`Violation`.
    """

    what: str
    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    is_full: bool = False
    condition: str = ""
    repaired_in: Phase | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must hold before anything starts.

    Attributes:
        query: returns a text for each problem.
        tried: statements that the server must accept, in a transaction that is rolled back.
    """

    query: str
    hint: str
    tried: tuple[str, ...] = ()


class RemovedKind(StrEnum):
    """How the use of an object by queries is seen."""

    COLUMN = "column"
    RELATION = "relation"
    INDEX = "index"
    CONSTRAINT = "constraint"
    DEFAULT = "default"
    SEQUENCE = "sequence"
    ROUTINE = "routine"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class RemovedObject:
    """An object that running code may still use.

    Attributes:
        names: dotted; of a column, default or constraint those of the table and its own.
        other_names: the same, where the migration renames the table.
        label: its name in the plan's ``accept:`` and on screen, such as ``column users.legacy``.
        phase: that takes it away.
        settings: see :attr:`OperationStep.settings`.
    """

    kind: RemovedKind
    names: tuple[str, ...]
    label: str
    phase: Phase
    settings: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What one statement brings to the phases.

    Attributes:
        text: the statement, as the team wrote it or as one command of it.
        removes: what queries must have stopped using before the phase that takes it away.
        drops: what is dropped in cleanup; before the start nothing may depend on it that the migration keeps.
        requirements: other things that must hold before the start.
        settings: see :attr:`OperationStep.settings`.
        creates, archives: an object, where one may replace another of the same name.
        object_type: of the object that a CREATE or DROP is about, such as MATERIALIZED VIEW; empty for others, and for
            CREATE OR REPLACE.
        on: the table that it changes.
        topic: what it sets; an earlier operation on the same in a later phase must not have the last word.
        rollback_losses: rows whose value a rollback could not keep; there are none before the step that allows them.
        notes: queries of one text each, or none: what a check tells before the start.
    """

    text: str
    summary: str
    steps: tuple[OperationStep, ...]
    violations: tuple[Violation | MissingParents, ...] = ()
    removes: tuple[RemovedObject, ...] = ()
    drops: tuple[ObjectAddress, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    settings: tuple[str, ...] = ()
    creates: ObjectKey | None = None
    archives: ObjectKey | None = None
    object_type: str = ""
    on: ObjectKey | None = None
    topic: str = ""
    rollback_losses: tuple[Violation, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RenameOperation(Operation):
    """A rename. Until contract both names exist, and only one of them is the original.

    Attributes:
        tables: names without a schema that the table has before and after.
        columns: the old and the new name of the column; empty where the table itself is renamed.
        moved: the old and the new name of the table as SQL; empty where a column is renamed.
        schema: of the table, as the statement writes it; empty where it names none.
    """

    schema: str = ""
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    @property
    def is_table_rename(self) -> bool:
        """Whether the table gets another name in its schema; in another schema its indexes have another one, too."""
        return bool(self.moved) and len(self.tables) > 1


@dataclass(frozen=True, slots=True)
class TypeRename(Operation):
    """A type that gets another name in contract. Until then the migration's statements use the name that it has.

    Attributes:
        key, names: that it has until contract; the names as the statement writes them.
        name: that it gets.
        is_new: the migration creates it.
    """

    key: ObjectKey = field(default_factory=lambda: ObjectKey("type", "", ""))
    names: tuple[str, ...] = ()
    name: str = ""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class OperationOptions:
    """What a plan says beside the statement.

    Attributes:
        has_rollout: an older version of the application may run until cutover.
        undo: statements, for an operation whose undo cannot be derived; None where the plan has none.
        phase: where a statement of the team's own runs, as one; None where the plan has none.
        repair: SQL expression of the value by column, for rows that a constraint would refuse.
        down: an expression by column, for a rollback: what a removed column that was NOT NULL gets where it has no
            value, or the value of a column's old type. The name is empty for any column.
        scope: what the statements before have created.
    """

    has_rollout: bool = False
    undo: tuple[str, ...] | None = None
    phase: Phase | None = None
    repair: tuple[tuple[str, str], ...] = ()
    down: tuple[tuple[str, str], ...] = ()
    scope: Scope = field(default_factory=Scope, compare=False)

    @property
    def last_phase(self) -> Phase:
        """Where only the new version runs."""
        return Phase.CONTRACT if self.has_rollout else Phase.EXPAND

    def down_of(self, column: str) -> str:
        """The expression for a column; empty for none."""
        given = dict(self.down)
        return given.get(column, "") or given.get("", "")


def on_new_table(text: str, label: str, *undo: str) -> Operation:
    """The plain statement, on a table that the migration itself creates: nobody uses it."""
    return Operation(text, label, (OperationStep(Phase.EXPAND, label, (text,), undo),))


MAX_VIOLATIONS = 1000
"""Violating rows are counted up to this number."""


def same_table(table: str) -> str:
    """The name of a table, the same with and without the schema ``public``."""
    return table.removeprefix("public.")


def old_object_name(name: str) -> str:
    """The name of an object between contract and cleanup; two names never become the same one."""
    return fit_name(OLD_PREFIX, name)


def fit_name(prefix: str, name: str) -> str:
    """A name with a prefix, within PostgreSQL's 63 bytes; a hash stands for what is cut off."""
    if len((prefix + name).encode()) <= MAX_IDENTIFIER_BYTES:
        return prefix + name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: MAX_IDENTIFIER_BYTES - len(prefix) - len(digest) - 1].decode(errors="ignore")
    return f"{prefix}{kept}_{digest}"


def fit_name_sql(prefix: str, name: str) -> str:
    """As :func:`fit_name`, for a name that only the server knows.

    Args:
        name: an SQL expression of type text.
    """
    first = quote_literal(prefix)
    room = MAX_IDENTIFIER_BYTES - len(prefix) - 9  # an underscore and eight digits
    return (
        f"CASE WHEN octet_length(convert_to({first} || {name}, 'UTF8')) <= {MAX_IDENTIFIER_BYTES}"
        f" THEN {first} || {name} ELSE {first} || (SELECT left({name}, max(n)) FROM generate_series(0, length({name}))"
        f" AS n WHERE octet_length(convert_to(left({name}, n), 'UTF8')) <= {room})"
        f" || '_' || left(encode(sha256(convert_to({name}, 'UTF8')), 'hex'), 8) END"
    )


def shorten(text: str, length: int = 60) -> str:
    """A statement in one line of at most that many characters, for labels and errors."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def relation_names(relation: Any) -> tuple[str, ...]:
    """The parts of the name of a RangeVar."""
    return tuple(part for part in (relation.schemaname, relation.relname) if part)


def relation_sql(relation: Any) -> str:
    """The name of a RangeVar as SQL, with its schema where it has one."""
    return name_sql(*relation_names(relation))


def default_topic(table: str, column: str) -> str:
    """What statements about the default of a column set: an identity takes its place, too."""
    return f"default of {same_table(table)}.{column}"


def column_exists(table: str, column: str) -> str:
    """A query for ``only_if``.

    Args:
        table: as SQL.
    """
    return (
        f"SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass({quote_literal(table)})"
        f" AND attname = {quote_literal(column)} AND NOT attisdropped)"
    )

"""Constrain: what the new side may have only when no older version runs, in online form, and how to undo it.

NOT NULL is set through a validated CHECK, so that the table is not read under an exclusive lock. Constraints are added
NOT VALID and validated afterwards. A statement may be repeated after a crash.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import TableName
from zdd_tui.model.sql import (
    MAX_IDENTIFIER_BYTES,
    enum_name,
    quote_identifier,
    quote_qualified,
    string_values,
    type_sql,
)

CONSTRAIN_HINT = (
    "constrain may hold ALTER TABLE … ALTER COLUMN … SET NOT NULL, SET DEFAULT or ADD GENERATED; ADD CONSTRAINT name … "
    "NOT VALID, or USING INDEX; VALIDATE CONSTRAINT; ALTER SEQUENCE … OWNED BY or AS; CREATE POLICY"
)


@dataclass(frozen=True, slots=True)
class ConstrainStatement:
    """One statement of `change.constrain`.

    Attributes:
        first: runs before all validations, in one transaction with those of the others.
        validations: read the table under a lock that lets writers continue, each in a transaction of its own.
        last: runs after all validations, in one transaction with those of the others.
        undo: takes it back.
        sequence: the sequence whose owner changes, and its new owner: table and column.
        sequence_type: the type that the sequence gets.
        table: the altered table.
        is_default: it sets the default of a column.
    """

    text: str
    table: TableName | None = None
    first: tuple[str, ...] = ()
    validations: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    sequence: TableName | None = None
    sequence_owner: tuple[TableName, str] | None = None
    sequence_type: str = ""
    is_default: bool = False


Resolve = Callable[[Any], TableName]


def read_constrain_statement(plan_key: str, node: Any, text: str, resolve: Resolve) -> ConstrainStatement:
    """
    Args:
        resolve: the table that a RangeVar means.

    Raises:
        PlanError: not one of the statements in :data:`CONSTRAIN_HINT`.
    """
    kind = node.WhichOneof("node")
    statement = getattr(node, kind)
    if kind == "create_policy_stmt":
        table = resolve(statement.table)
        undo = f"DROP POLICY IF EXISTS {quote_identifier(statement.policy_name)} ON {_sql(table)}"
        return ConstrainStatement(text, table, last=(undo, text), undo=(undo,))
    if kind == "alter_seq_stmt":
        return _read_sequence(plan_key, statement, text, resolve)
    if kind == "alter_table_stmt" and enum_name(statement, "objtype") == "OBJECT_TABLE" and len(statement.cmds) == 1:
        command = statement.cmds[0].alter_table_cmd
        return _read_alter(plan_key, command, text, resolve(statement.relation))
    raise _refused(plan_key, text)


def _read_alter(plan_key: str, command: Any, text: str, table: TableName) -> ConstrainStatement:
    alter, column = f"ALTER TABLE {_sql(table)}", command.name
    definition = getattr(command, "def")
    match enum_name(command, "subtype"):
        case "AT_SetNotNull":
            check = quote_identifier(_check_name(column))
            return ConstrainStatement(
                text,
                table,
                first=(
                    f"{alter} DROP CONSTRAINT IF EXISTS {check},"
                    f" ADD CONSTRAINT {check} CHECK ({quote_identifier(column)} IS NOT NULL) NOT VALID",
                ),
                validations=(f"{alter} VALIDATE CONSTRAINT {check}",),
                last=(f"{alter} ALTER COLUMN {quote_identifier(column)} SET NOT NULL, DROP CONSTRAINT {check}",),
                undo=(
                    f"{alter} ALTER COLUMN {quote_identifier(column)} DROP NOT NULL, DROP CONSTRAINT IF EXISTS {check}",
                ),
            )
        case "AT_ColumnDefault" if definition.WhichOneof("node") is not None:
            undo = f"{alter} ALTER COLUMN {quote_identifier(column)} DROP DEFAULT"
            return ConstrainStatement(text, table, last=(text,), undo=(undo,), is_default=True)
        case "AT_AddIdentity":
            undo = f"{alter} ALTER COLUMN {quote_identifier(column)} DROP IDENTITY IF EXISTS"
            return ConstrainStatement(text, table, last=(text,), undo=(undo,))
        case "AT_ValidateConstraint":
            return ConstrainStatement(text, table, validations=(text,))
        case "AT_AddConstraint" if definition.constraint.conname:
            return _read_constraint(plan_key, definition.constraint, text, table)
    raise _refused(plan_key, text)


def _read_constraint(plan_key: str, constraint: Any, text: str, table: TableName) -> ConstrainStatement:
    drop = f"DROP CONSTRAINT IF EXISTS {quote_identifier(constraint.conname)}"
    undo = f"ALTER TABLE {_sql(table)} {drop}"
    if constraint.skip_validation and enum_name(constraint, "contype") in ("CONSTR_CHECK", "CONSTR_FOREIGN"):
        return ConstrainStatement(text, table, first=(undo, text), undo=(undo,))
    if constraint.indexname and enum_name(constraint, "contype") in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
        return ConstrainStatement(text, table, last=(text,), undo=(undo,))
    raise PlanError(
        f"{plan_key}: the constraint would read the whole table under a lock",
        "add NOT VALID to a CHECK or FOREIGN KEY; UNIQUE and PRIMARY KEY get an index of change.indexes: USING INDEX",
    )


def _read_sequence(plan_key: str, statement: Any, text: str, resolve: Resolve) -> ConstrainStatement:
    sequence = resolve(statement.sequence)
    if len(statement.options) != 1:
        raise _refused(plan_key, text)
    option = statement.options[0].def_elem
    if option.defname == "as":
        return ConstrainStatement(text, last=(text,), sequence=sequence, sequence_type=type_sql(option.arg.type_name))
    names = string_values(option.arg.list.items)
    if option.defname != "owned_by" or len(names) < 2:
        raise _refused(plan_key, text)
    *table, column = names
    owner = TableName(schema_=table[0] if len(table) > 1 else sequence.schema_, name=table[-1])
    return ConstrainStatement(text, last=(text,), sequence=sequence, sequence_owner=(owner, column))


def _refused(plan_key: str, text: str) -> PlanError:
    return PlanError(f"{plan_key}: {' '.join(text.split())[:40]} is not allowed here", CONSTRAIN_HINT)


def _check_name(column: str) -> str:
    return f"zdd_not_null_{column}".encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore")


def _sql(table: TableName) -> str:
    return quote_qualified(table.schema_, table.name)


def constrain_batches(statements: Iterable[ConstrainStatement]) -> tuple[tuple[str, ...], ...]:
    """The SQL of each transaction, in order; the last one belongs together with the step's record."""
    statements = tuple(statements)
    first = tuple(sql for each in statements for sql in each.first)
    validations = tuple((sql,) for each in statements for sql in each.validations)
    last = tuple(sql for each in statements for sql in each.last)
    return (*((first,) if first else ()), *validations, last)


def undo_constrain_statements(
    statements: Iterable[ConstrainStatement], owners: Iterable[tuple[str, str]]
) -> tuple[str, ...]:
    """
    Args:
        owners: of every sequence whose owner was changed: the sequence, and the column that owned it, quoted.
    """
    undo = [sql for each in reversed(tuple(statements)) for sql in each.undo]
    return (*undo, *(f"ALTER SEQUENCE {sequence} OWNED BY {column}" for sequence, column in owners))

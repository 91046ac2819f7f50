"""From SQL to operations: the reader of each kind of statement."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    Operation,
    OperationOptions,
    OperationStep,
    StepMode,
    relation_sql,
    same_table,
)
from zdd_tui.model.operations.columns import (
    read_add_column,
    read_column_default,
    read_drop_column,
    read_drop_not_null,
    read_set_not_null,
)
from zdd_tui.model.operations.combinations import refuse_combinations
from zdd_tui.model.operations.constraints import add_table_constraint, read_drop_constraint
from zdd_tui.model.operations.identities import (
    read_add_identity,
    read_alter_sequence,
    read_drop_expression,
    read_drop_identity,
    read_set_identity,
)
from zdd_tui.model.operations.indexes import read_create_index, read_drop_index
from zdd_tui.model.operations.objects import OBJECT_READERS, read_drop
from zdd_tui.model.operations.renames import read_rename
from zdd_tui.model.operations.repairs import add_repairs, repeat_fills
from zdd_tui.model.operations.row_changes import read_delete, read_update
from zdd_tui.model.operations.settings import SETTING_READERS
from zdd_tui.model.operations.statements import read_own_statement, read_own_statements
from zdd_tui.model.operations.tables import read_create_table, read_set_schema
from zdd_tui.model.operations.types import TypeOperation, combine_type_changes, read_column_type
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationSection
from zdd_tui.model.sql import SqlSyntaxError, enum_name, parse_sql, single_command_sql, split_statements, string_values

Reader = Callable[[Any, str, OperationOptions], tuple[Operation, ...]]
CommandReader = Callable[[Any, Any, str, OperationOptions], tuple[Operation, ...]]


def plan_operations(plan: BaseOperationsPlan) -> tuple[Operation, ...]:
    """The operations of a plan, in their order.

    Raises:
        PlanError: names the operation that cannot be executed.
    """
    return _read_sections(plan.operations, has_rollout=isinstance(plan, BaseOperationsPlan))


@lru_cache(maxsize=16)
def _read_sections(sections: tuple[OperationSection, ...], *, has_rollout: bool) -> tuple[Operation, ...]:
    found: list[Operation] = []
    created, added = new_objects([section.sql for section in sections])
    for number, section in enumerate(sections):
        options = OperationOptions(
            has_rollout,
            section.undo,
            section.phase,
            tuple(section.repair.items()),
            frozenset(created),
            frozenset(added),
            section.down,
        )
        try:
            read = read_operations(section.sql, options)
            if section.down and not any(isinstance(each, TypeOperation) for each in read):
                raise PlanError(
                    "down: no ALTER COLUMN TYPE of this statement uses it",
                    "put down beside the change of a type; for a statement of your own, write undo",
                )
            found += add_repairs(read, options)
        except PlanError as error:
            raise PlanError(f"operations[{number}]: {error.title}", error.hint) from None
    refuse_combinations(found)
    return _after_fills(repeat_fills(list(combine_type_changes(found))))


def _after_fills(operations: list[Operation]) -> tuple[Operation, ...]:
    """What depends on rows that the operation itself, or one before it, fills: violations are counted after that, and
    unique indexes are built after that, as both would be by the plain migration."""
    filled: set[tuple[str, str]] = set()
    marked = []
    for operation in operations:
        for step in operation.steps:
            if step.fill is not None:
                table = same_table(step.fill.table)
                filled |= {(table, column) for column, _ in step.fill.values}
                filled |= {(table, "")} if not step.fill.values else set()  # a deleted row violates nothing
        violations = tuple(
            replace(each, repaired_in=each.repaired_in or Phase.BACKFILL)
            if any((same_table(each.table), column) in filled for column in ("", *each.columns))
            else each
            for each in operation.violations
        )
        tables = {table for table, _ in filled}
        is_late = any(each.repaired_in for each in violations) and not any(step.fill for step in operation.steps)
        steps = tuple(
            replace(step, phase=Phase.BACKFILL)
            if _needs_rows(step, tables) and not is_late
            # Without a rollout too: the constraint would refuse updates of rows that have no value yet.
            else replace(step, phase=Phase.CONTRACT)
            if is_late and step.phase is Phase.EXPAND
            else step
            for step in operation.steps
        )
        marked.append(replace(operation, violations=violations, steps=steps))
    return tuple(marked)


def _needs_rows(step: OperationStep, filled: set[str]) -> bool:
    """Whether a step of expand builds a unique index on a table whose rows are filled."""
    return (
        step.phase is Phase.EXPAND
        and step.mode is StepMode.BUILD_INDEX
        and step.statements[0].startswith("CREATE UNIQUE INDEX")
        and same_table(step.table) in filled
    )


def new_objects(scripts: Iterable[str]) -> tuple[set[str], set[tuple[str, str]]]:
    """The tables that a migration creates, and pairs of a table and a column that it adds."""
    created: set[str] = set()
    added: set[tuple[str, str]] = set()
    for script in scripts:
        try:
            statements = [each.stmt for each in parse_sql(script).stmts]
        except SqlSyntaxError:
            continue  # the reader of the section says so
        for node in statements:
            kind = node.WhichOneof("node")
            if kind == "create_stmt" and not node.create_stmt.if_not_exists:
                created.add(same_table(relation_sql(node.create_stmt.relation)))
            if kind != "alter_table_stmt":
                continue
            for command in (each.alter_table_cmd for each in node.alter_table_stmt.cmds):
                if enum_name(command, "subtype") == "AT_AddColumn" and not command.missing_ok:
                    table = same_table(relation_sql(node.alter_table_stmt.relation))
                    added.add((table, getattr(command, "def").column_def.colname))
    return created, added


def numbered_steps(plan: BaseOperationsPlan, phase: Phase) -> tuple[tuple[int, OperationStep], ...]:
    """The steps of all operations in a phase, in their order, each with its number in the plan."""
    return tuple((number, step) for number, step in enumerate(_all_steps(plan)) if step.phase is phase)


OPERATION_STEPS = ("run-operation", "fill-rows")
"""Keys of the engine's steps whose value is the number of an operation's step."""


def named_steps(plan: BaseOperationsPlan, phase: Phase) -> tuple[tuple[str, int, OperationStep], ...]:
    """As :func:`numbered_steps`, each with the name of its step in the strategy."""
    return tuple(
        (f"{phase}-{position}", number, step) for position, (number, step) in enumerate(numbered_steps(plan, phase), 1)
    )


def find_step(plan: BaseOperationsPlan, number: int) -> OperationStep:
    """The step with a number that :func:`numbered_steps` returned."""
    return _all_steps(plan)[number]


def _all_steps(plan: BaseOperationsPlan) -> list[OperationStep]:
    return [step for operation in plan_operations(plan) for step in operation.steps]


def read_operations(sql: str, options: OperationOptions) -> tuple[Operation, ...]:
    """The operations of one or several statements, in their order.

    Raises:
        PlanError: a statement cannot be executed online, or not be undone.
    """
    try:
        statements = split_statements(sql)
        trees = [parse_sql(statement).stmts for statement in statements]
    except SqlSyntaxError as error:
        raise PlanError(f"PostgreSQL cannot read it: {error.reason}", "correct the SQL") from None
    if options.undo is not None and statements and not _is_one_row_change(trees):
        return (read_own_statements(statements, options),)
    operations: list[Operation] = []
    for text, found in zip(statements, trees, strict=True):
        for each in found:
            operations += _read_statement(each.stmt, text, options)
    return _require_distinct_indexes(operations)


def _is_one_row_change(trees: Sequence[Any]) -> bool:
    """Whether it is a single UPDATE or DELETE: it runs in batches, also with an undo of its own."""
    nodes = [each.stmt.WhichOneof("node") for found in trees for each in found]
    return len(nodes) == 1 and nodes[0] in _ROW_READERS


def _require_distinct_indexes(operations: list[Operation]) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: two indexes would get the same name.
    """
    seen: set[tuple[str, str]] = set()
    for step in (step for operation in operations for step in operation.steps if step.mode is StepMode.BUILD_INDEX):
        key = (step.table.rpartition(".")[0], step.index)
        if key in seen:
            raise PlanError(f"two indexes would have the name {step.index}", "name them: CREATE INDEX name ON …")
        seen.add(key)
    return tuple(operations)


def _read_statement(node: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    kind = node.WhichOneof("node")
    if kind in _ROW_READERS:
        return _ROW_READERS[kind](getattr(node, kind), text, options)
    if kind not in _READERS:
        return (read_own_statement(text, options),)
    return _READERS[kind](getattr(node, kind), text, options)


def _read_nothing(_statement: Any, _text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """BEGIN and COMMIT: each step has a transaction of its own."""
    return ()


_OWN_SETTINGS = {"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "client_min_messages"}
"""Settings that each step has a value for, or that change nothing."""


def _read_set(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    return () if statement.name in _OWN_SETTINGS else (read_own_statement(text, options),)


def _read_alter_table(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    if enum_name(statement, "objtype") != "OBJECT_TABLE":
        return (read_own_statement(text, options),)
    operations: list[Operation] = []
    for each in statement.cmds:
        subtype = enum_name(each.alter_table_cmd, "subtype")
        own = single_command_sql(statement, each)
        if subtype not in _COMMAND_READERS:
            operations.append(read_own_statement(own, options))
        else:
            operations += _COMMAND_READERS[subtype](statement, each, own, options)
    return tuple(operations)


def _read_add_constraint(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    constraint = getattr(command.alter_table_cmd, "def").constraint
    return (add_table_constraint(alter.relation, constraint, text, options),)


def _read_drop(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    if enum_name(statement, "remove_type") != "OBJECT_INDEX":
        return read_drop(statement, text, options)
    return tuple(
        read_drop_index(string_values(each.list.items), text, missing_ok=statement.missing_ok)
        for each in statement.objects
    )


_ROW_READERS: Mapping[str, Reader] = {"update_stmt": read_update, "delete_stmt": read_delete}
"""They take ``undo:`` of the plan."""

_READERS: Mapping[str, Reader] = {
    **OBJECT_READERS,
    "transaction_stmt": _read_nothing,
    "variable_set_stmt": _read_set,
    "alter_table_stmt": _read_alter_table,
    "create_stmt": read_create_table,
    "drop_stmt": _read_drop,
    "index_stmt": read_create_index,
    "alter_seq_stmt": read_alter_sequence,
    "rename_stmt": read_rename,
    "alter_object_schema_stmt": read_set_schema,
}
_COMMAND_READERS: Mapping[str, CommandReader] = {
    **SETTING_READERS,
    "AT_AddColumn": read_add_column,
    "AT_AddIdentity": read_add_identity,
    "AT_SetIdentity": read_set_identity,
    "AT_DropIdentity": read_drop_identity,
    "AT_DropExpression": read_drop_expression,
    "AT_AlterColumnType": read_column_type,
    "AT_AddConstraint": _read_add_constraint,
    "AT_ColumnDefault": read_column_default,
    "AT_DropColumn": read_drop_column,
    "AT_DropConstraint": read_drop_constraint,
    "AT_DropNotNull": read_drop_not_null,
    "AT_SetNotNull": read_set_not_null,
}

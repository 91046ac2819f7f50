"""From SQL to operations: the reader of each kind of statement."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, StepMode
from zdd_tui.model.operations.columns import (
    read_add_column,
    read_column_default,
    read_drop_column,
    read_drop_not_null,
    read_set_not_null,
)
from zdd_tui.model.operations.constraints import add_table_constraint, read_drop_constraint
from zdd_tui.model.operations.indexes import read_create_index, read_drop_index
from zdd_tui.model.operations.objects import OBJECT_READERS, read_drop
from zdd_tui.model.operations.settings import SETTING_READERS
from zdd_tui.model.operations.statements import read_own_statement, read_own_statements
from zdd_tui.model.operations.tables import read_create_table
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationSection, OperationsPlan
from zdd_tui.model.sql import SqlSyntaxError, enum_name, parse_sql, single_command_sql, split_statements, string_values

Reader = Callable[[Any, str, OperationOptions], tuple[Operation, ...]]
CommandReader = Callable[[Any, Any, str, OperationOptions], tuple[Operation, ...]]


def plan_operations(plan: BaseOperationsPlan) -> tuple[Operation, ...]:
    """The operations of a plan, in their order.

    Raises:
        PlanError: names the operation that cannot be executed.
    """
    return _read_sections(plan.operations, has_rollout=isinstance(plan, OperationsPlan))


@lru_cache(maxsize=16)
def _read_sections(sections: tuple[OperationSection, ...], *, has_rollout: bool) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for number, section in enumerate(sections):
        try:
            found += read_operations(section.sql, OperationOptions(has_rollout, section.undo, section.phase))
        except PlanError as error:
            raise PlanError(f"operations[{number}]: {error.title}", error.hint) from None
    return tuple(found)


def numbered_steps(plan: BaseOperationsPlan, phase: Phase) -> tuple[tuple[int, OperationStep], ...]:
    """The steps of all operations in a phase, in their order, each with its number in the plan."""
    return tuple((number, step) for number, step in enumerate(_all_steps(plan)) if step.phase is phase)


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
    if options.undo is not None and statements:
        return (read_own_statements(statements, options),)
    operations: list[Operation] = []
    for text, found in zip(statements, trees, strict=True):
        for each in found:
            operations += _read_statement(each.stmt, text, options)
    return _require_distinct_indexes(operations)


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


_READERS: Mapping[str, Reader] = {
    **OBJECT_READERS,
    "transaction_stmt": _read_nothing,
    "variable_set_stmt": _read_set,
    "alter_table_stmt": _read_alter_table,
    "create_stmt": read_create_table,
    "drop_stmt": _read_drop,
    "index_stmt": read_create_index,
}
_COMMAND_READERS: Mapping[str, CommandReader] = {
    **SETTING_READERS,
    "AT_AddColumn": read_add_column,
    "AT_AddConstraint": _read_add_constraint,
    "AT_ColumnDefault": read_column_default,
    "AT_DropColumn": read_drop_column,
    "AT_DropConstraint": read_drop_constraint,
    "AT_DropNotNull": read_drop_not_null,
    "AT_SetNotNull": read_set_not_null,
}

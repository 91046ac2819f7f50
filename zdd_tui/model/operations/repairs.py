"""Rows that a constraint would refuse get values, in batches, before it is validated.

Once in phase backfill, by ``repair:`` of the plan or by an UPDATE of the migration, while the older version may still
write such rows; and once more in contract, when the constraint is there and refuses new ones.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    Fill,
    MissingParents,
    Operation,
    OperationOptions,
    OperationStep,
    RenameOperation,
    StepMode,
    Violation,
    same_table,
)
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import SqlSyntaxError, name_sql, parse_expression, unsafe_token


def add_repairs(operations: tuple[Operation, ...], options: OperationOptions) -> tuple[Operation, ...]:
    """The operations of one section of the plan, with what ``repair:`` says.

    Raises:
        PlanError: an expression is no SQL, or no constraint of the section reads the column.
    """
    if not options.repair:
        return operations
    if options.undo is not None:
        raise PlanError(
            "repair belongs to a constraint that zdd adds, and undo to a statement of your own", "remove one"
        )
    for column, expression in options.repair:
        try:
            parse_expression(expression)
            reason = unsafe_token(expression)
        except SqlSyntaxError as error:
            reason = error.reason
        if reason is not None:
            raise PlanError(f"repair: {column}: {reason}", "write one plain SQL expression")
        if not any(column in each.columns and each.condition for one in operations for each in one.violations):
            raise PlanError(
                f"repair: {column}: no NOT NULL or CHECK of this statement reads it",
                "put repair beside the statement that adds the constraint",
            )
    return tuple(_repaired(operation, dict(options.repair)) for operation in operations)


def _repaired(operation: Operation, repair: dict[str, str]) -> Operation:
    violation = next(
        (each for each in operation.violations if each.condition and any(name in repair for name in each.columns)), None
    )
    if violation is None:
        return operation
    values = tuple((name, repair[name]) for name in violation.columns if name in repair)
    fill = Fill(violation.table, values, violation.condition)
    # The first step adds the constraint, not validated: no session writes a violating row after it.
    first, *others = operation.steps
    steps = (
        _step(Phase.BACKFILL, first, violation, replace(fill, is_partial=True)),
        replace(first, phase=Phase.CONTRACT),
        _step(Phase.CONTRACT, first, violation, fill),
    )
    violations = (
        replace(each, repaired_in=Phase.CONTRACT) if each is violation else each for each in operation.violations
    )
    return replace(operation, steps=(*steps, *_late(others)), violations=tuple(violations))


def _late(steps: Iterable[OperationStep]) -> tuple[OperationStep, ...]:
    """Steps of a constraint, after the rows that it needs: without a rollout, too, where they would run in expand."""
    return tuple(replace(each, phase=Phase.CONTRACT) if each.phase is Phase.EXPAND else each for each in steps)


def repeat_fills(operations: list[Operation]) -> list[Operation]:
    """The operations, with the fills of a column repeated before its NOT NULL is validated.

    Such a NOT NULL comes before whatever the migration archives or renames after the fill: the fill reads its columns
    under the names of that time.
    """
    fills: _Fills = {}
    found: list[Operation] = []
    for operation in operations:
        violation = _read_nulls(operation)
        fill = _find_fill(operation, violation, fills) if violation is not None else None
        if violation is not None and fill is not None:
            found.insert(_end_of_fill(found, fill), _with_repeated_fill(operation, violation, fill))
        else:
            found.append(operation)
        if isinstance(operation, RenameOperation):
            continue  # a trigger keeps its column filled, and in contract the old name is gone
        for each in (step.fill for step in operation.steps if step.phase is Phase.BACKFILL):
            if each is not None and not each.source and not each.statement:
                fills |= {(same_table(each.table), column): (each, operation.settings) for column, _ in each.values}
    return found


def _end_of_fill(operations: list[Operation], fill: Fill) -> int:
    return next(n for n, each in enumerate(operations, 1) if any(step.fill == fill for step in each.steps))


_Fills: TypeAlias = dict[tuple[str, str], tuple[Fill, tuple[str, ...]]]
"""By table and column: with the settings under which names are looked up."""


def _read_nulls(operation: Operation) -> Violation | None:
    """What the rows that NOT NULL refuses have in common; None for another operation."""
    if len(operation.violations) != 1 or any(step.fill is not None for step in operation.steps):
        return None
    (violation,) = operation.violations
    nulls = {f"{name_sql(column)} IS NULL" for column in violation.columns}
    return violation if isinstance(violation, Violation) and violation.condition in nulls else None


def _find_fill(operation: Operation, violation: Violation, fills: _Fills) -> Fill | None:
    column = violation.columns[0]
    fill, settings = fills.get((same_table(violation.table), column), (None, ()))
    is_same = fill is not None and dict(fill.values)[column] != "DEFAULT" and settings == operation.settings
    return fill if is_same else None


def _with_repeated_fill(operation: Operation, violation: Violation, before: Fill) -> Operation:
    column = violation.columns[0]
    expression = dict(before.values)[column]
    parts = (before.only_where, f"({expression}) IS NOT NULL")
    where = " AND ".join([violation.condition, *(f"({part})" for part in parts if part)])
    fill = replace(before, values=((column, expression),), only_where=where, is_once=False)
    first, *others = operation.steps
    steps = (replace(first, phase=Phase.CONTRACT), _step(Phase.CONTRACT, first, violation, fill), *_late(others))
    # What the repetition cannot repair is counted after phase backfill.
    source = f"{violation.table} AS {name_sql(fill.alias)}" if fill.alias else violation.table
    left = f"{violation.condition} AND ({where}) IS NOT TRUE"
    query = f"SELECT count(*)::int FROM (SELECT FROM {source} WHERE {left} LIMIT {MAX_VIOLATIONS}) AS zdd_violating"
    return replace(operation, steps=steps, violations=(replace(violation, query=query, repaired_in=Phase.BACKFILL),))


def _step(phase: Phase, constraint: OperationStep, violation: Violation | MissingParents, fill: Fill) -> OperationStep:
    """
    Args:
        constraint: the step that adds it.
    """
    return OperationStep(
        phase,
        f"repair rows: {violation.what}",
        (),
        mode=StepMode.FILL,
        fill=fill,
        only_if=constraint.only_if,
        settings=constraint.settings,
    )

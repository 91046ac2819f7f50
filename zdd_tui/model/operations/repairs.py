"""``repair:`` of the plan: rows that a constraint would refuse get values, in batches, before it is validated.

Once in phase backfill, while the older version may still write such rows; and once more in contract, when the
constraint is there and refuses new ones.
"""

from dataclasses import replace

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Fill, Operation, OperationOptions, OperationStep, StepMode, Violation
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import SqlSyntaxError, parse_expression


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
        except SqlSyntaxError as error:
            raise PlanError(f"repair: {column}: {error.reason}", "write one SQL expression") from None
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
        _step(Phase.BACKFILL, violation, replace(fill, is_partial=True)),
        first,
        _step(first.phase, violation, fill),
    )
    violations = (
        replace(each, repaired_in=Phase.CONTRACT) if each is violation else each for each in operation.violations
    )
    return replace(operation, steps=(*steps, *others), violations=tuple(violations))


def _step(phase: Phase, violation: Violation, fill: Fill) -> OperationStep:
    return OperationStep(phase, f"repair rows: {violation.what}", (), mode=StepMode.FILL, fill=fill)

"""A statement of the team's own, with the undo and the phase that the plan gives it."""

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, shorten
from zdd_tui.model.phase import Phase

UNKNOWN_UNDO = "zdd does not know how to undo it"


class UndoRequired(PlanError):
    """A statement whose undo only the team knows."""


def read_own_statement(text: str, options: OperationOptions, reason: str = UNKNOWN_UNDO) -> Operation:
    """
    Args:
        reason: why zdd cannot undo it.

    Raises:
        UndoRequired: the plan does not say how it is undone.
    """
    return read_own_statements((text,), options, reason)


def read_own_statements(
    statements: tuple[str, ...], options: OperationOptions, reason: str = UNKNOWN_UNDO
) -> Operation:
    """Statements with one undo: one operation with one step, in one transaction.

    Raises:
        UndoRequired: the plan does not say how they are undone.
    """
    shown = shorten(statements[0], 50)
    if options.undo is None:
        raise UndoRequired(
            f"{shown}: {reason}",
            "write the operation as a mapping with sql: and undo:, where undo: [] says that there is nothing to undo",
        )
    shown += f" and {len(statements) - 1} more" if len(statements) > 1 else ""
    settings = tuple(options.scope.settings.values())
    step = OperationStep(options.phase or Phase.EXPAND, f"run {shown}", statements, options.undo, settings=settings)
    return Operation(";\n".join(statements), shown, (step,), settings=settings)

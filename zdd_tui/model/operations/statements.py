"""A statement of the team's own, with the undo and the phase that the plan gives it."""

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep
from zdd_tui.model.phase import Phase


def shorten(text: str) -> str:
    """A statement on one line of at most 50 characters."""
    shown = " ".join(text.split())
    return shown if len(shown) <= 50 else shown[:49] + "…"


class UndoRequired(PlanError):
    """A statement whose undo only the team knows."""


def read_own_statement(text: str, options: OperationOptions) -> Operation:
    """
    Raises:
        UndoRequired: the plan does not say how it is undone.
    """
    return read_own_statements((text,), options)


def read_own_statements(statements: tuple[str, ...], options: OperationOptions) -> Operation:
    """Statements with one undo: one operation with one step, in one transaction.

    Raises:
        UndoRequired: the plan does not say how they are undone.
    """
    shown = shorten(statements[0])
    if options.undo is None:
        raise UndoRequired(
            f"{shown}: zdd does not know how to undo it",
            "write the operation as a mapping with sql: and undo:, where undo: [] says that there is nothing to undo",
        )
    shown += f" and {len(statements) - 1} more" if len(statements) > 1 else ""
    step = OperationStep(options.phase or Phase.EXPAND, f"run {shown}", statements, options.undo)
    return Operation(";\n".join(statements), shown, (step,))

"""A statement of the team's own, with the undo and the phase that the plan gives it."""

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep
from zdd_tui.model.phase import Phase


def shorten(text: str) -> str:
    """A statement on one line of at most 50 characters."""
    shown = " ".join(text.split())
    return shown if len(shown) <= 50 else shown[:49] + "…"


def read_own_statement(text: str, options: OperationOptions) -> Operation:
    """
    Raises:
        PlanError: the plan does not say how it is undone.
    """
    shown = shorten(text)
    if options.undo is None:
        raise PlanError(
            f"{shown}: zdd does not know how to undo it",
            "write the operation as a mapping with sql: and undo:, where undo: [] says that there is nothing to undo",
        )
    step = OperationStep(options.phase or Phase.EXPAND, f"run {shown}", (text,), options.undo)
    return Operation(text, shown, (step,))

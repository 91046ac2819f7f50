"""A statement of the team's own, with the undo and the phase that the plan gives it."""

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, shorten

UNKNOWN_UNDO = "zdd does not know how to undo it"


def read_own_statement(text: str, options: OperationOptions, reason: str = UNKNOWN_UNDO) -> Operation:
    """
    Args:
        reason: why zdd cannot undo it.

    Raises:
        PlanError: the plan does not say how it is undone.
    """
    shown = shorten(text, 50)
    if options.undo is None:
        raise PlanError(
            f"{shown}: {reason}",
            "write the operation as a mapping with sql: and undo:, where undo: [] says that there is nothing to undo",
        )
    step = OperationStep(options.phase, f"run {shown}", (text,), options.undo)
    return Operation(text, shown, (step,))

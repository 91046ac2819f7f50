"""Glyph and text of a step's status, wherever steps are listed."""

from collections.abc import Mapping

from zdd_tui.dashboard.widgets.drawing.line import TextStyle
from zdd_tui.model.release.state import StepStatus

STEP_GLYPHS: Mapping[StepStatus, tuple[str, TextStyle]] = {
    StepStatus.PENDING: ("○", TextStyle.DIM),
    StepStatus.STARTED: ("▶", TextStyle.RUNNING),
    StepStatus.DONE: ("✔", TextStyle.GOOD),
    StepStatus.FAILED: ("✗", TextStyle.BAD),
    StepStatus.UNDOING: ("◀", TextStyle.WARN),
    StepStatus.UNDO_FAILED: ("✗", TextStyle.BAD),
    StepStatus.UNDONE: ("◁", TextStyle.DIM),
}


def step_status_text(status: StepStatus) -> str:
    """``running``, ``done``, ``undo failed``."""
    return "running" if status is StepStatus.STARTED else status.value.replace("_", " ").replace("-", " ")

"""How a step's status looks and what it is called, wherever steps are listed."""

from collections.abc import Mapping

from zdd_tui.dashboard.widgets.drawing.line import Tone
from zdd_tui.model.release.state import StepStatus

STEP_SIGNS: Mapping[StepStatus, tuple[str, Tone]] = {
    StepStatus.PENDING: ("○", Tone.DIM),
    StepStatus.INTENT: ("▶", Tone.BUSY),
    StepStatus.DONE: ("✔", Tone.GOOD),
    StepStatus.FAILED: ("✗", Tone.BAD),
    StepStatus.UNDOING: ("◀", Tone.WARN),
    StepStatus.UNDO_FAILED: ("✗", Tone.BAD),
    StepStatus.UNDONE: ("◁", Tone.DIM),
}


def step_word(status: StepStatus) -> str:
    """What a person calls it: an intent is a step that runs."""
    return "running" if status is StepStatus.INTENT else status.value.replace("_", " ").replace("-", " ")

"""Glyph, text and style of verdicts, steps and states, wherever they are shown."""

from collections.abc import Mapping

from zdd_tui.dashboard.widgets.drawing.line import TextStyle
from zdd_tui.model.release.claims import Activity
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.release.summary import Severity

VERDICT_GLYPHS: Mapping[Verdict, tuple[str, TextStyle]] = {
    Verdict.FAIL: ("✗", TextStyle.BAD),
    Verdict.UNKNOWN: ("?", TextStyle.WARN),
    Verdict.INCONCLUSIVE: ("~", TextStyle.WARN),
    Verdict.PENDING: ("◆", TextStyle.DIM),
    Verdict.PASS: ("✔", TextStyle.GOOD),
}
"""The most urgent first."""

VERDICT_ORDER: Mapping[Verdict, int] = {verdict: place for place, verdict in enumerate(VERDICT_GLYPHS)}

SEVERITY_STYLES: Mapping[Severity, TextStyle] = {
    Severity.IDLE: TextStyle.STRONG,
    Severity.WORKING: TextStyle.RUNNING,
    Severity.WAITING: TextStyle.WARN,
    Severity.PAUSED: TextStyle.WARN,
    Severity.ROLLING_BACK: TextStyle.WARN,
    Severity.ERROR: TextStyle.ALARM,
    Severity.SUCCESS: TextStyle.GOOD,
}

STEP_GLYPHS: Mapping[StepStatus, tuple[str, TextStyle]] = {
    StepStatus.PENDING: ("○", TextStyle.DIM),
    StepStatus.STARTED: ("▶", TextStyle.RUNNING),
    StepStatus.DONE: ("✔", TextStyle.GOOD),
    StepStatus.FAILED: ("✗", TextStyle.BAD),
    StepStatus.UNDOING: ("◀", TextStyle.WARN),
    StepStatus.UNDO_FAILED: ("✗", TextStyle.BAD),
    StepStatus.UNDONE: ("◁", TextStyle.DIM),
}


def describe_step_status(status: StepStatus, activity: Activity) -> tuple[str, TextStyle, str]:
    """Glyph, style and text: ``running``, ``done``, ``undo failed``; a step on which nobody is known to work has only
    started."""
    if status in (StepStatus.STARTED, StepStatus.UNDOING) and not activity.is_active:
        return "?", TextStyle.WARN, "started" if status is StepStatus.STARTED else "undo started"
    text = "running" if status is StepStatus.STARTED else status.value.replace("_", " ").replace("-", " ")
    return *STEP_GLYPHS[status], text


def describe_step_note(step: StepRecord, activity: Activity) -> str:
    """What the step does now, or what a dead agent said of it last."""
    is_open = step.status in (StepStatus.STARTED, StepStatus.UNDOING)
    is_last = bool(step.note) and is_open and not activity.is_active
    return f"last: {step.note}; {activity.description}" if is_last else step.note

"""Glyph, text and style of verdicts, steps and states, wherever they are shown."""

from collections.abc import Mapping

from zdd_tui.dashboard.widgets.drawing.line import TextStyle
from zdd_tui.model.release.claims import Activity, Progress, ProgressState, assess_phase, assess_progress
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import Release, StepStatus
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
    StepStatus.SUSPENDED: ("‖", TextStyle.WARN),
    StepStatus.DONE: ("✔", TextStyle.GOOD),
    StepStatus.FAILED: ("✗", TextStyle.BAD),
    StepStatus.UNDOING: ("◀", TextStyle.WARN),
    StepStatus.UNDO_FAILED: ("✗", TextStyle.BAD),
    StepStatus.UNDONE: ("◁", TextStyle.DIM),
}


PROGRESS_STYLES: Mapping[ProgressState, TextStyle] = {
    ProgressState.NOT_STARTED: TextStyle.DIM,
    ProgressState.MOVING: TextStyle.RUNNING,
    ProgressState.STOPPED: TextStyle.BAD,
    ProgressState.PAUSED: TextStyle.WARN,
    ProgressState.WAITING: TextStyle.WARN,
    ProgressState.STALLED: TextStyle.BAD,
    ProgressState.UNKNOWN: TextStyle.WARN,
    ProgressState.FAILED: TextStyle.BAD,
    ProgressState.DONE: TextStyle.GOOD,
    ProgressState.UNDOING: TextStyle.WARN,
    ProgressState.UNDONE: TextStyle.DIM,
}


def progress_glyph(progress: Progress) -> tuple[str, TextStyle]:
    """Glyph and style."""
    return progress.glyph, PROGRESS_STYLES[progress.state]


def describe_step_status(release: Release, status: StepStatus, activity: Activity) -> tuple[str, TextStyle, str]:
    """Glyph, style and text of a step: ``running``, ``done``, ``paused``, ``undo failed``; one on which nobody is known
    to work has only started."""
    is_undo = status is StepStatus.UNDOING
    if status is not StepStatus.STARTED and not is_undo:
        return *STEP_GLYPHS[status], status.value.replace("-", " ")
    progress = assess_progress(release, activity, status)
    if progress.moves:
        return *STEP_GLYPHS[status], "undoing" if is_undo else "running"
    if progress.state in (ProgressState.STOPPED, ProgressState.PAUSED):
        return *progress_glyph(progress), progress.state.value
    return "?", TextStyle.WARN, "undo started" if is_undo else "started"


def phase_glyph(release: Release, index: int, activity: Activity) -> tuple[str, TextStyle]:
    """Glyph and style of one phase."""
    return progress_glyph(assess_phase(release, index, activity))

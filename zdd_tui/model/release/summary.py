"""What an operator has to know at once: what the release does now, what it waits for, and what to press."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.actions import default_keys
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import Refused
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Lease, ReleaseRecord, StepRecord
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    closed_gates,
    is_irreversible,
)
from zdd_tui.model.release.state import current_readings as gate_readings

# --- How long a release has been waiting, and whether that is longer than its plan allows (`gates.wait_limit`).


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """A release whose phase has run, and which waits.

    Attributes:
        since: seconds since the epoch, by the database's clock; another wait has another one.
        description: how long, for whom or what, and the limit.
        is_overdue: it has lasted longer than the plan allows.
    """

    since: float
    description: str
    is_overdue: bool


def find_wait(record: ReleaseRecord, now: float) -> WaitStatus | None:
    """What the release waits for: its owner, where every gate passes; else the gate that could not be judged for
    longest. None while something runs, while it is paused, and where a gate says no, since then nobody is late.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    phase = release.current_phase
    if release.state is not ReleaseState.WAITING or release.paused or phase is None or release.next_phase is None:
        return None
    names = {step.name for step in phase.steps}
    ran = max((step.ended_at or 0.0 for step in record.steps if step.name in names), default=0.0)
    gates = [record.gates[gate.name] for gate in phase.gates if gate.name in record.gates]
    if not closed_gates(release, record.gates, now):
        since = max([ran, *(gate.since for gate in gates)])
        who = record.owner or "a person"
        return _build_wait_status(since, now, record.wait_limit, "waits", f" for {who}")
    undecided = [gate for gate in gates if gate.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE)]
    if any(gate.verdict is Verdict.FAIL for gate in gates) or not undecided:
        return None
    oldest = min(undecided, key=lambda gate: gate.since)
    label = next(gate.label for gate in phase.gates if gate.name == oldest.name)
    return _build_wait_status(
        max(ran, oldest.since), now, record.wait_limit, f"“{label}” has been {oldest.verdict} for", ""
    )


def _build_wait_status(since: float, now: float, limit: float | None, prefix: str, suffix: str) -> WaitStatus | None:
    if not since:  # it is not known
        return None
    seconds = max(0.0, now - since)
    text = f"{prefix} {format_duration(seconds)}{suffix}"
    if limit is None:
        return WaitStatus(since, text, is_overdue=False)
    return WaitStatus(since, f"{text}, limit {format_duration(limit)}", is_overdue=seconds > limit)


# --- end


AWAITING_APPROVAL = "WAITING FOR YOU"
SHOW_WAIT_AFTER_SECONDS = 60.0
"""Seconds that a release has waited for its owner before the screen counts them."""


class Severity(StrEnum):
    """How a situation looks; always told by glyph and word as well."""

    IDLE = "idle"
    WORKING = "working"
    WAITING = "waiting"
    PAUSED = "paused"
    ROLLING_BACK = "backwards"
    ERROR = "bad"
    SUCCESS = "good"


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """A release in three answers.

    Attributes:
        glyph: one cell that no other kind of situation shares.
        state_label: the state, in capitals.
        text: what it does now.
        notes: what it waits for, or why it failed; each may be long.
        next_action: what the operator can do next; empty when there is nothing to do.
        cause: why the guard stopped the release, with the numbers it saw; to be read before all else.
    """

    severity: Severity
    glyph: str
    state_label: str
    text: str
    notes: tuple[str, ...] = ()
    next_action: str = ""
    cause: str = ""


def summarize_release(record: ReleaseRecord, now: float, keys: Mapping[str, str] | None = None) -> ReleaseSummary:
    """Judges a release.

    Args:
        now: seconds since the epoch, by the database's clock.
        keys: what each action's key is called, by the action's id; the defaults where it is None.
    """
    told = _summarize_state(record, now)
    wait = find_wait(record, now)
    if wait is not None and (
        wait.is_overdue
        or (record.owner and told.state_label == AWAITING_APPROVAL and now - wait.since >= SHOW_WAIT_AFTER_SECONDS)
    ):
        told = replace(told, notes=(wait.description, *told.notes))
    told = replace(told, next_action=told.next_action.format_map(keys or default_keys()))
    release = record.release
    if record.cause and (release.state.is_rolling_back or release.state is ReleaseState.ROLLED_BACK or release.paused):
        return replace(told, cause=f"guard: {record.cause}")
    return told


def _summarize_state(record: ReleaseRecord, now: float) -> ReleaseSummary:
    release = record.release
    match release.state:
        case ReleaseState.PLANNED:
            return _summarize_planned(record, now)
        case ReleaseState.RUNNING:
            return _summarize_running(record, now)
        case ReleaseState.WAITING:
            return _summarize_waiting(record, now)
        case ReleaseState.FAILED:
            return _summarize_failed(record)
        case ReleaseState.ROLLING_BACK:
            return _summarize_rolling_back(record, now)
        case ReleaseState.ROLLBACK_FAILED:
            step = _find_step_with_status(record, StepStatus.UNDO_FAILED)
            text = f"undoing “{_step_label(release, step)}” failed"
            press = "{rollback} tries the undo again"
            return ReleaseSummary(Severity.ERROR, "✗", "ROLLBACK FAILED", text, _collect_errors(release, step), press)
        case ReleaseState.ROLLED_BACK:
            text = f"every step is undone{_format_total_duration(record)}"
            return ReleaseSummary(Severity.SUCCESS, "◀", "ROLLED BACK", text, (), "{quit} leaves")
        case ReleaseState.DONE:
            text = f"all {len(release.strategy.phases)} phases are complete{_format_total_duration(record)}"
            return ReleaseSummary(Severity.SUCCESS, "✔", "DONE", text, (), "{quit} leaves")


def _summarize_planned(record: ReleaseRecord, now: float) -> ReleaseSummary:
    release = record.release
    first = release.next_phase.name if release.next_phase else "?"
    text = "nothing has run yet"
    if shut := closed_gates(release, record.gates, now):
        notes = tuple(reading.reason for reading in shut)
        press = f"wait: {{advance}} starts {first} once its gate passes"
        return ReleaseSummary(Severity.WAITING, "○", "PLANNED", text, notes, press)
    return ReleaseSummary(Severity.IDLE, "○", "PLANNED", text, (), f"{{advance}} starts {first}")


def _summarize_running(record: ReleaseRecord, now: float) -> ReleaseSummary:
    release = record.release
    phase = release.current_phase
    assert phase is not None
    done = sum(release.status(step.name) is StepStatus.DONE for step in phase.steps)
    at = min(done, len(phase.steps) - 1)
    step = _find_step_record(record, phase.steps[at].name)
    place = f"{phase.name}, step {at + 1} of {len(phase.steps)}: {phase.steps[at].label}"
    notes = (step.note,) if step and step.note else ()
    if release.paused:
        return ReleaseSummary(
            Severity.PAUSED, "‖", "PAUSED", place, notes, f"{{resume}} resumes{_rollback_hint(release)}"
        )
    begun = step is not None and step.status is StepStatus.STARTED
    return ReleaseSummary(
        Severity.WORKING,
        "▶",
        "RUNNING",
        f"{place}{_format_elapsed(step, now)}" if begun else place,
        notes,
        f"{{pause}} pauses{_rollback_hint(release)}",
    )


def _summarize_waiting(record: ReleaseRecord, now: float) -> ReleaseSummary:
    release = record.release
    phase, following = release.current_phase, release.next_phase
    assert phase is not None
    shut = closed_gates(release, record.gates, now)
    total = len(phase.gates)
    if release.paused:
        press = f"{{resume}} resumes{_rollback_hint(release)}"
        return ReleaseSummary(Severity.PAUSED, "‖", "PAUSED", f"{phase.name} has run", (), press)
    if shut:
        text = f"{phase.name} has run; {len(shut)} of {total} gates are not open"
        then = "the release is done" if following is None else f"{{advance}} opens {following.name}"
        differ = any(each.name == "shadow-agrees" and each.verdict is Verdict.FAIL for each in shut)
        first = "{topology} shows which results differ; " if differ else "wait: "
        press = f"{first}{then} once all pass"
        return ReleaseSummary(Severity.WAITING, "◆", "WAITING FOR GATES", text, (), press)
    if following is None:
        return ReleaseSummary(Severity.WAITING, "◆", "WAITING", "the last gates pass; the agent ends the release")
    asks = " (asks for the release’s name)" if phase.typed_confirm else ""
    return ReleaseSummary(
        Severity.WAITING,
        "◆",
        AWAITING_APPROVAL,
        f"{phase.name} has run, all {total} gates pass" if total > 1 else f"{phase.name} has run, its gate passes",
        (),
        f"{{advance}} runs {following.name}{asks}{_rollback_hint(release)}",
    )


def _summarize_failed(record: ReleaseRecord) -> ReleaseSummary:
    release = record.release
    step = _find_step_with_status(record, StepStatus.FAILED)
    phase = release.current_phase.name if release.current_phase else "?"
    press = "{resume} resumes, then {advance} tries again" if release.paused else "{advance} tries the step again"
    return ReleaseSummary(
        Severity.ERROR,
        "✗",
        "FAILED",
        f"in {phase} at “{_step_label(release, step)}”",
        _collect_errors(release, step),
        f"{press}{_rollback_hint(release)}, {{details}} shows all",
    )


def _summarize_rolling_back(record: ReleaseRecord, now: float) -> ReleaseSummary:
    release = record.release
    left = sum(status.has_effect for status in release.statuses)
    undone = sum(status is StepStatus.UNDONE for status in release.statuses)
    step = _find_step_with_status(record, StepStatus.UNDOING)
    doing = f"undoing “{_step_label(release, step)}”{_format_elapsed(step, now)}, " if step else ""
    notes = (step.note,) if step and step.note else ()
    return ReleaseSummary(
        Severity.ROLLING_BACK,
        "◀",
        "ROLLING BACK",
        f"{doing}{undone} of {undone + left} steps undone",
        notes,
        "nothing: it goes on by itself",
    )


def has_no_agent(lease: Lease | None) -> bool:
    """Nobody carries the release out: what is asked for waits."""
    return lease is None or not lease.is_live


def explain_refusal(
    release: Release, kind: CommandKind, gates: Mapping[str, GateReading], now: float, *, assume_typed: bool = True
) -> str:
    """Why the rules would refuse a command now, with the mend; empty when they would take it.

    Args:
        assume_typed: take the release's name as typed, because it is asked for later.
    """
    try:
        apply_command(release, Command(kind, typed=release.name if assume_typed else None), gates, now)
    except Refused as error:
        return f"{error.title} ({error.hint})" if error.hint else error.title
    return ""


def list_current_gates(record: ReleaseRecord, now: float) -> tuple[tuple[str, GateReading], ...]:
    """Label and reading of each gate of the current phase, or of those before the first."""
    labels = {gate.name: gate.label for gate in record.release.gates}
    return tuple((labels[reading.name], reading) for reading in gate_readings(record.release, record.gates, now))


def _find_step_record(record: ReleaseRecord, name: str) -> StepRecord | None:
    return next((step for step in record.steps if step.name == name), None)


def _find_step_with_status(record: ReleaseRecord, status: StepStatus) -> StepRecord | None:
    return next((step for step in record.steps if step.status is status), None)


def _step_label(release: Release, step: StepRecord | None) -> str:
    if step is None:
        return "?"
    return next((spec.label for spec in release.strategy.steps if spec.name == step.name), step.name)


def _collect_errors(release: Release, step: StepRecord | None) -> tuple[str, ...]:
    found = [release.error, step.error if step else ""]
    return tuple(dict.fromkeys(text for text in found if text))


def _format_elapsed(step: StepRecord | None, now: float) -> str:
    if step is None or step.started_at is None:
        return ""
    seconds = max(0.0, now - step.started_at)
    return f" ({int(seconds)}s)" if seconds < 60 else f" ({format_duration(seconds)})"


def _rollback_hint(release: Release) -> str:
    return "" if is_irreversible(release) else ", {rollback} rolls back"


def _format_total_duration(record: ReleaseRecord) -> str:
    if record.finished_at is None:
        return ""
    return f", after {format_duration(max(0.0, record.finished_at - record.created_at))}"

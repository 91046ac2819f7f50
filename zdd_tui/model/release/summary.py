"""What an operator has to know at once: what the release does now, what it waits for, and what to press."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.actions import default_keys
from zdd_tui.model.duration import human_duration
from zdd_tui.model.errors import Refused
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Lease, ReleaseRecord, StepRecord
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    State,
    StepStatus,
    closed_gates,
    command,
    no_way_back,
)
from zdd_tui.model.release.state import readings as gate_readings

# --- How long a release has been waiting, and whether that is longer than its plan allows (`gates.wait_limit`).


@dataclass(frozen=True, slots=True)
class Wait:
    """A release whose phase has run, and which waits.

    Attributes:
        since: seconds since the epoch, by the database's clock; another wait has another one.
        text: how long, for whom or what, and the limit.
        over: it has lasted longer than the plan allows.
    """

    since: float
    text: str
    over: bool


def wait_of(record: ReleaseRecord, now: float) -> Wait | None:
    """What the release waits for: its owner, where every gate passes; else the gate that could not be judged for
    longest. None while something runs, while it is paused, and where a gate says no, since then nobody is late.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    phase = release.current
    if release.state is not State.WAITING or release.paused or phase is None or release.next is None:
        return None
    names = {step.name for step in phase.steps}
    ran = max((step.ended_at or 0.0 for step in record.steps if step.name in names), default=0.0)
    gates = [record.gates[gate.name] for gate in phase.gates if gate.name in record.gates]
    if not closed_gates(release, record.gates, now):
        since = max([ran, *(gate.since for gate in gates)])
        who = record.owner or "a person"
        return _wait(since, now, record.wait_limit, "waits", f" for {who}")
    undecided = [gate for gate in gates if gate.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE)]
    if any(gate.verdict is Verdict.FAIL for gate in gates) or not undecided:
        return None
    oldest = min(undecided, key=lambda gate: gate.since)
    label = next(gate.label for gate in phase.gates if gate.name == oldest.name)
    return _wait(max(ran, oldest.since), now, record.wait_limit, f"“{label}” has been {oldest.verdict} for", "")


def _wait(since: float, now: float, limit: float | None, before: str, after: str) -> Wait | None:
    if not since:  # it is not known
        return None
    seconds = max(0.0, now - since)
    text = f"{before} {human_duration(seconds)}{after}"
    if limit is None:
        return Wait(since, text, over=False)
    return Wait(since, f"{text}, limit {human_duration(limit)}", over=seconds > limit)


# --- end


FOR_YOU = "WAITING FOR YOU"
WORTH_A_LINE = 60.0
"""Seconds that a release has waited for its owner before the screen counts them."""


class Mood(StrEnum):
    """How a situation looks; always told by glyph and word as well."""

    IDLE = "idle"
    WORKING = "working"
    WAITING = "waiting"
    PAUSED = "paused"
    BACKWARDS = "backwards"
    BAD = "bad"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Situation:
    """A release in three answers.

    Attributes:
        glyph: one cell that no other kind of situation shares.
        word: the state, in capitals.
        text: what it does now.
        notes: what it waits for, or why it failed; each may be long.
        press: what the operator can do next; empty when there is nothing to do.
        cause: why the guard stopped the release, with the numbers it saw; to be read before all else.
    """

    mood: Mood
    glyph: str
    word: str
    text: str
    notes: tuple[str, ...] = ()
    press: str = ""
    cause: str = ""


def situation(record: ReleaseRecord, now: float, keys: Mapping[str, str] | None = None) -> Situation:
    """Judges a release.

    Args:
        now: seconds since the epoch, by the database's clock.
        keys: what each action's key is called, by the action's id; the defaults where it is None.
    """
    told = _situation(record, now)
    wait = wait_of(record, now)
    if wait is not None and (wait.over or (record.owner and told.word == FOR_YOU and now - wait.since >= WORTH_A_LINE)):
        told = replace(told, notes=(wait.text, *told.notes))
    told = replace(told, press=told.press.format_map(keys or default_keys()))
    release = record.release
    if record.cause and (release.state.backwards or release.state is State.ROLLED_BACK or release.paused):
        return replace(told, cause=f"guard: {record.cause}")
    return told


def _situation(record: ReleaseRecord, now: float) -> Situation:
    release = record.release
    match release.state:
        case State.PLANNED:
            return _planned(record, now)
        case State.RUNNING:
            return _running(record, now)
        case State.WAITING:
            return _waiting(record, now)
        case State.FAILED:
            return _failed(record)
        case State.ROLLING_BACK:
            return _rolling_back(record, now)
        case State.ROLLBACK_FAILED:
            step = _step(record, StepStatus.UNDO_FAILED)
            text = f"undoing “{_label(release, step)}” failed"
            press = "{rollback} tries the undo again"
            return Situation(Mood.BAD, "✗", "ROLLBACK FAILED", text, _errors(release, step), press)
        case State.ROLLED_BACK:
            text = f"every step is undone{_after(record)}"
            return Situation(Mood.GOOD, "◀", "ROLLED BACK", text, (), "{quit} leaves")
        case State.DONE:
            text = f"all {len(release.strategy.phases)} phases are complete{_after(record)}"
            return Situation(Mood.GOOD, "✔", "DONE", text, (), "{quit} leaves")


def _planned(record: ReleaseRecord, now: float) -> Situation:
    release = record.release
    first = release.next.name if release.next else "?"
    text = "nothing has run yet"
    if shut := closed_gates(release, record.gates, now):
        notes = tuple(reading.reason for reading in shut)
        press = f"wait: {{advance}} starts {first} once its gate passes"
        return Situation(Mood.WAITING, "○", "PLANNED", text, notes, press)
    return Situation(Mood.IDLE, "○", "PLANNED", text, (), f"{{advance}} starts {first}")


def _running(record: ReleaseRecord, now: float) -> Situation:
    release = record.release
    phase = release.current
    assert phase is not None
    done = sum(release.status(step.name) is StepStatus.DONE for step in phase.steps)
    at = min(done, len(phase.steps) - 1)
    step = _record(record, phase.steps[at].name)
    place = f"{phase.name}, step {at + 1} of {len(phase.steps)}: {phase.steps[at].label}"
    notes = (step.note,) if step and step.note else ()
    if release.paused:
        return Situation(Mood.PAUSED, "‖", "PAUSED", place, notes, f"{{resume}} resumes{_or_back(release)}")
    begun = step is not None and step.status is StepStatus.INTENT
    return Situation(
        Mood.WORKING,
        "▶",
        "RUNNING",
        f"{place}{_for(step, now)}" if begun else place,
        notes,
        f"{{pause}} pauses{_or_back(release)}",
    )


def _waiting(record: ReleaseRecord, now: float) -> Situation:
    release = record.release
    phase, following = release.current, release.next
    assert phase is not None
    shut = closed_gates(release, record.gates, now)
    total = len(phase.gates)
    if release.paused:
        press = f"{{resume}} resumes{_or_back(release)}"
        return Situation(Mood.PAUSED, "‖", "PAUSED", f"{phase.name} has run", (), press)
    if shut:
        text = f"{phase.name} has run; {len(shut)} of {total} gates are not open"
        then = "the release is done" if following is None else f"{{advance}} opens {following.name}"
        differ = any(each.name == "shadow-agrees" and each.verdict is Verdict.FAIL for each in shut)
        first = "{picture} shows which answers differ; " if differ else "wait: "
        press = f"{first}{then} once all pass"
        return Situation(Mood.WAITING, "◆", "WAITING FOR GATES", text, (), press)
    if following is None:
        return Situation(Mood.WAITING, "◆", "WAITING", "the last gates pass; the agent ends the release")
    asks = " (asks for the release’s name)" if phase.typed_confirm else ""
    return Situation(
        Mood.WAITING,
        "◆",
        FOR_YOU,
        f"{phase.name} has run, all {total} gates pass" if total > 1 else f"{phase.name} has run, its gate passes",
        (),
        f"{{advance}} runs {following.name}{asks}{_or_back(release)}",
    )


def _failed(record: ReleaseRecord) -> Situation:
    release = record.release
    step = _step(record, StepStatus.FAILED)
    phase = release.current.name if release.current else "?"
    press = "{resume} resumes, then {advance} tries again" if release.paused else "{advance} tries the step again"
    return Situation(
        Mood.BAD,
        "✗",
        "FAILED",
        f"in {phase} at “{_label(release, step)}”",
        _errors(release, step),
        f"{press}{_or_back(release)}, {{details}} shows all",
    )


def _rolling_back(record: ReleaseRecord, now: float) -> Situation:
    release = record.release
    left = sum(status.touched for status in release.statuses)
    undone = sum(status is StepStatus.UNDONE for status in release.statuses)
    step = _step(record, StepStatus.UNDOING)
    doing = f"undoing “{_label(release, step)}”{_for(step, now)}, " if step else ""
    notes = (step.note,) if step and step.note else ()
    return Situation(
        Mood.BACKWARDS,
        "◀",
        "ROLLING BACK",
        f"{doing}{undone} of {undone + left} steps undone",
        notes,
        "nothing: it goes on by itself",
    )


def no_agent(lease: Lease | None) -> bool:
    """Nobody carries the release out: what is asked for waits."""
    return lease is None or not lease.live


def refusal(
    release: Release, kind: CommandKind, gates: Mapping[str, GateReading], now: float, *, typed: bool = True
) -> str:
    """Why the rules would refuse a command now, with the mend; empty when they would take it.

    Args:
        typed: take the release's name as typed, because it is asked for later.
    """
    try:
        command(release, Command(kind, typed=release.name if typed else None), gates, now)
    except Refused as error:
        return f"{error.title} ({error.mend})" if error.mend else error.title
    return ""


def current_gates(record: ReleaseRecord, now: float) -> tuple[tuple[str, GateReading], ...]:
    """Label and reading of each gate of the current phase, or of those before the first."""
    labels = {gate.name: gate.label for gate in record.release.gates}
    return tuple((labels[reading.name], reading) for reading in gate_readings(record.release, record.gates, now))


def _record(record: ReleaseRecord, name: str) -> StepRecord | None:
    return next((step for step in record.steps if step.name == name), None)


def _step(record: ReleaseRecord, status: StepStatus) -> StepRecord | None:
    return next((step for step in record.steps if step.status is status), None)


def _label(release: Release, step: StepRecord | None) -> str:
    if step is None:
        return "?"
    return next((spec.label for spec in release.strategy.steps if spec.name == step.name), step.name)


def _errors(release: Release, step: StepRecord | None) -> tuple[str, ...]:
    found = [release.error, step.error if step else ""]
    return tuple(dict.fromkeys(text for text in found if text))


def _for(step: StepRecord | None, now: float) -> str:
    if step is None or step.began_at is None:
        return ""
    seconds = max(0.0, now - step.began_at)
    return f" ({int(seconds)}s)" if seconds < 60 else f" ({human_duration(seconds)})"


def _or_back(release: Release) -> str:
    return "" if no_way_back(release) else ", {rollback} rolls back"


def _after(record: ReleaseRecord) -> str:
    if record.finished_at is None:
        return ""
    return f", after {human_duration(max(0.0, record.finished_at - record.created_at))}"

"""What an operator must know at once: what the release does now, what it waits for, and which key to press."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from zdd_tui.model.actions import default_keys
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.claims import (
    ACTIVE,
    Activity,
    Progress,
    ProgressState,
    assess_progress,
    count_verdicts,
    find_agent_waits,
    format_silence,
    is_current,
    list_agent_waits,
    withdraw_verdicts,
)
from zdd_tui.model.release.condition import CONTINUES_IN_HINT, ROLLBACK_IN_HINT, ConditionReading, ConditionStatus
from zdd_tui.model.release.fills import late_seconds, limits_now
from zdd_tui.model.release.gate import GateReading, Verdict, unread_gate
from zdd_tui.model.release.next_commands import (
    NextCommand,
    describe_closed_gates,
    fix_of_rolled_back_region,
    next_commands,
)
from zdd_tui.model.release.records import Lease, ReleaseRecord, StepRecord
from zdd_tui.model.release.state import (
    CommandKind,
    Release,
    ReleaseState,
    StepStatus,
    closed_gates,
    current_readings,
    current_step,
    is_held_by_tables,
)
from zdd_tui.model.release.system import System

AGENT_WAITING = "AGENT WAITS"
"""State of a release whose agent waits for a system before it runs a step."""

AWAITING_APPROVAL = "AWAITING APPROVAL"
CONTINUES_AUTOMATICALLY = "No action needed; it continues automatically"
CONTINUES_WHEN = "It continues when "
"""Begins what is said instead where an undo, or the agent, waits for something."""
FAILS_IF_REFUSED = "It continues if that is accepted in time, else it fails"
"""Instead, where a step repeats what a system refuses."""
CONTINUES_WHEN_ENDED = f"{CONTINUES_WHEN}the sessions that it waits for have ended"
"""The same, where a note names sessions."""
SHOW_WAIT_AFTER_SECONDS = 60.0
"""Seconds that a release has waited for its owner before the screen counts them."""

MAX_REASON_LENGTH = 200
"""Characters of a reason in the summary; the audit has all of it."""


class Severity(StrEnum):
    """How a summary looks on screen; glyph and label always say the same."""

    IDLE = "idle"
    WORKING = "working"
    WAITING = "waiting"
    PAUSED = "paused"
    ROLLING_BACK = "rolling-back"
    ERROR = "error"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class NextAction:
    """Something that a person can do next, or must know for that.

    Attributes:
        text: with its key, such as ``a runs cutover``; until the summary is complete, the key is ``{advance}``.
        action: id of the registered action whose key it names; empty where it names none.
    """

    text: str
    action: str = ""


def join_actions(actions: Sequence[NextAction]) -> str:
    """``a runs cutover, R rolls back``; a semicolon before a text that names no key, and after one that has commas."""
    text = actions[0].text if actions else ""
    for before, each in pairwise(actions):
        text += f"{', ' if each.action and ',' not in before.text else '; '}{each.text}"
    return text


_NEXT_AFTER_END = (
    NextAction("{quit} quits", "quit"),
    NextAction("to begin another release of this plan: zdd agent --new PLAN"),
)


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """The state of a release in a few lines.

    Attributes:
        glyph: one cell, different for every kind of state.
        state_label: the state, in capitals.
        text: what it does now.
        notes: what it waits for, or why it failed; each may be long.
        fix: what ends a breach, or what else prevents the release from going on; empty where nothing does.
        actions: what the operator can do next.
        cause: why the guard stopped the release, with its numbers, or which standing condition does not hold and who
            broke it; shown before everything else.
    """

    severity: Severity
    glyph: str
    state_label: str
    text: str
    notes: tuple[str, ...] = ()
    fix: str = ""
    actions: tuple[NextAction, ...] = ()
    cause: str = ""

    @property
    def next_action(self) -> str:
        """The fix and the actions in one line."""
        return "; ".join(filter(None, (self.fix and f"Fix: {self.fix}", join_actions(self.actions))))

    @property
    def is_automatic(self) -> bool:
        """Whether the release continues without a person."""
        return self.next_action == CONTINUES_AUTOMATICALLY or self.next_action.startswith(CONTINUES_WHEN)


def summarize_release(
    record: ReleaseRecord,
    now: float,
    keys: Mapping[str, str] | None = None,
    activity: Activity = ACTIVE,
    *,
    following_region: str = "",
) -> ReleaseSummary:
    """Summarizes a release.

    Args:
        now: seconds since the epoch, by the database's clock.
        keys: the shown name of each action's key, by the action's id; the defaults where it is None.
        activity: whether an agent is known to work on it.
        following_region: the region that is released after this one, once this one is done; else empty.
    """
    labels = keys or default_keys()
    last_known, record = record, withdraw_verdicts(record, activity, now)
    progress = assess_progress(record.release, activity)
    # A pause lasts without an agent, too; no duration of a step counts on then.
    until = now if record.release.state.has_ended or activity.is_known else activity.worked_until(now)
    summary = _summarize_state(record, until, progress)
    if progress.state is ProgressState.UNKNOWN and not has_no_agent(last_known.lease):
        # What was known then, with its verdicts; what can be done rests on those that count now.
        as_known = _summarize_state(last_known, activity.worked_until(now), progress)
        summary = replace(as_known, fix=summary.fix, actions=summary.actions)
    summary = _summarize_inactivity(record, summary, activity, progress)
    if following_region and record.release.state is ReleaseState.DONE:
        opens = NextAction(f"{{next-region}} opens region {following_region}, the one after this", "next-region")
        summary = replace(summary, actions=(opens, *summary.actions))
    if progress.state is ProgressState.STOPPED and record.release.breach is not None:
        return _with_keys(_summarize_breach(record, record.release.breach, summary), labels)
    if waits := list_agent_waits(record, activity):
        summary = replace(summary, notes=(*(f"the agent waits for {each}" for each in waits), *summary.notes))
    pauses = tuple(pause.describe(until) for pause in record.release.table_pauses)
    summary = replace(summary, notes=(*pauses, *summary.notes))
    if above := list_old_above_limit(record, now):
        summary = replace(summary, notes=(*above, *summary.notes))
    wait = find_wait(record, now) if activity.is_active else None  # without an agent its gates are unknown
    if wait is not None and (
        wait.is_overdue
        or (record.owner and summary.state_label == AWAITING_APPROVAL and now - wait.since >= SHOW_WAIT_AFTER_SECONDS)
    ):
        late = "✗ LATE: " if wait.is_overdue else ""
        summary = replace(summary, notes=(f"{late}{wait.description}", *summary.notes))
    summary = _with_keys(summary, labels)
    release = record.release
    if record.cause and (release.state.is_rolling_back or release.paused):
        return replace(summary, cause=f"guard: {record.cause}")
    return summary


def list_old_above_limit(record: ReleaseRecord, now: float) -> tuple[str, ...]:
    """What users have now that the guard does not act on: the old version is above the limit of a rule about the new
    one, which does not run. None once the release has ended.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    readings = () if record.release.state.has_ended else record.guard
    return tuple(f"! {each.rule}: {each.reason}" for each in readings if each.as_of(now).is_old_above_limit)


def _with_keys(summary: ReleaseSummary, labels: Mapping[str, str]) -> ReleaseSummary:
    """The summary with the name of a key in the place of each ``{action}``."""
    actions = (
        replace(each, text=each.text.replace(f"{{{each.action}}}", labels[each.action])) if each.action else each
        for each in summary.actions
    )
    return replace(summary, actions=tuple(actions))


def _summarize_inactivity(
    record: ReleaseRecord, summary: ReleaseSummary, activity: Activity, progress: Progress
) -> ReleaseSummary:
    """Where no agent is known to work, nothing is said to move, and the text says since when."""
    release = record.release
    if activity.is_active or release.state.has_ended:
        return summary
    text = f"{summary.text}; {activity.description}"
    notes = summary.notes
    if release.state in (ReleaseState.RUNNING, ReleaseState.ROLLING_BACK):
        notes = tuple(f"last: {note}" for note in notes)  # of the step that was running
    if release.state is not ReleaseState.ROLLING_BACK:  # its notes have them
        notes = (*(reading.title for reading in release.unmet), *notes)
    actions = () if summary.is_automatic else summary.actions
    if progress.state is ProgressState.UNKNOWN:
        label = f"LAST KNOWN: {summary.state_label if release.last_breach is None else _held_label('STOPPED', release)}"
        return replace(
            summary,
            severity=Severity.WAITING,
            glyph="?",
            state_label=label,
            text=text,
            notes=notes,
            actions=actions,
        )
    if progress.state is ProgressState.STALLED:
        label = _held_label("STALLED", release)
        return ReleaseSummary(Severity.ERROR, "✗", label, text, notes, summary.fix, actions)
    return replace(summary, notes=notes, actions=actions)


def list_holds(release: Release) -> tuple[str, ...]:
    """What holds a release besides a breach or a missing agent: a person must continue it, too."""
    if release.state.has_ended:
        return ()
    failed = ("failed",) if release.state is ReleaseState.FAILED else ()
    return (*failed, "paused") if release.paused else failed


def _held_label(state: str, release: Release) -> str:
    """``STOPPED, PAUSED``: what prevents progress, and what a person must continue besides."""
    return ", ".join((state, *list_holds(release))).upper()


def _summarize_breach(record: ReleaseRecord, breach: ConditionReading, summary: ReleaseSummary) -> ReleaseSummary:
    """Progress is stopped. What was done before stays below the cause; the next action is what ends the breach, and
    what a person must do besides: a release that is paused or failed does not continue by itself."""
    release = record.release
    others = [reading.title for reading in release.unmet if reading is not breach]
    hints = (reading.hint for reading in release.unmet if reading.status is ConditionStatus.BREACHED and reading.hint)
    hint = next(hints, "") if breach.status is not ConditionStatus.RECHECKING else ""  # two may have one cause
    held = " and ".join(list_holds(release))
    fix, actions = hint.replace(ROLLBACK_IN_HINT, ""), tuple[NextAction, ...]()
    if ROLLBACK_IN_HINT in hint:
        actions = (NextAction("{rollback} rolls back", "rollback"),)
    if held:  # the actions name the rollback, too
        fix = fix.replace(CONTINUES_IN_HINT, "")
        actions = (NextAction(f"the release is {held}, too"), *summary.actions)
    if not fix and not actions:
        actions = (NextAction(CONTINUES_AUTOMATICALLY),)
    return replace(
        summary,
        severity=Severity.ERROR,
        glyph="✗",
        state_label=_held_label("STOPPED", release),
        notes=(*summary.notes, *others) if release.state is ReleaseState.FAILED else (*others, *summary.notes),
        fix=fix,
        actions=actions,
        cause=breach.title,
    )


def _summarize_state(record: ReleaseRecord, now: float, progress: Progress) -> ReleaseSummary:
    release = record.release
    match release.state:
        case ReleaseState.PLANNED:
            return _summarize_planned(record, now)
        case ReleaseState.RUNNING:
            return _summarize_running(record, now, progress)
        case ReleaseState.WAITING:
            return _summarize_waiting(record, now, progress)
        case ReleaseState.FAILED:
            return _summarize_failed(record, now)
        case ReleaseState.ROLLING_BACK:
            return _summarize_rolling_back(record, now, progress)
        case ReleaseState.ROLLBACK_FAILED:
            step = _find_step_with_status(record, StepStatus.UNDO_FAILED)
            text = _with_rollback(f"undoing “{_step_label(release, step)}” failed", record)
            errors = list_errors(record, now)
            return ReleaseSummary(
                Severity.ERROR, "✗", "ROLLBACK FAILED", text, errors, actions=_next_actions(record, now)
            )
        case ReleaseState.ROLLED_BACK:
            was_run = any(status is StepStatus.UNDONE for status in release.statuses)
            text = _with_rollback("every step is undone" if was_run else "nothing had run", record)
            text += _describe_end(record, now)
            return ReleaseSummary(Severity.SUCCESS, "◀", "ROLLED BACK", text, actions=_NEXT_AFTER_END)
        case ReleaseState.DONE:
            text = f"all {len(release.strategy.phases)} phases are complete{_format_total_duration(record)}"
            text += _describe_end(record, now)
            return ReleaseSummary(Severity.SUCCESS, "✔", "DONE", text, actions=_NEXT_AFTER_END)


def _summarize_planned(record: ReleaseRecord, now: float) -> ReleaseSummary:
    closed = closed_gates(record.release, record.gates, now)
    if record.release.paused:
        actions = _next_actions(record, now)
        text = f"nothing has run yet{_describe_pause(record, now)}"
        return ReleaseSummary(Severity.PAUSED, "‖", "PAUSED", text, actions=actions)
    reasons = tuple(reading.reason for reading in closed)
    if fix := fix_of_rolled_back_region(record.release, record.gates):
        ends = NextAction("{rollback} ends the release", "rollback")
        return ReleaseSummary(Severity.ERROR, "✗", "PLANNED", "it cannot start", reasons, fix, (ends,))
    return ReleaseSummary(
        Severity.WAITING if closed else Severity.IDLE,
        "○",
        "PLANNED",
        "nothing has run yet",
        reasons,
        actions=_next_actions(record, now),
    )


def _summarize_running(record: ReleaseRecord, now: float, progress: Progress) -> ReleaseSummary:
    release = record.release
    phase = release.current_phase
    assert phase is not None
    spec = current_step(release) or phase.steps[-1]
    step = _find_step_record(record, spec.name)
    text = f"{phase.name}, step {phase.steps.index(spec) + 1} of {len(phase.steps)}: {spec.label}"
    notes = (step.note,) if step and step.note else ()
    actions = _next_actions(record, now)
    if release.table_pauses:
        actions = (*actions, NextAction("{pause-table} resumes a table", "pause-table"))
    backfill = record.backfill
    late = late_seconds(backfill, limits_now(record), now) if backfill is not None and progress.moves else None
    if backfill is not None and late is not None and phase.writes_rows and not backfill.verified_rows:
        notes = (f"no batch for {format_silence(late)}: {backfill.throttle or 'the last one has not ended'}", *notes)
    if release.paused:
        text += _describe_pause(record, now)
        return ReleaseSummary(Severity.PAUSED, "‖", "PAUSED", text, notes, actions=actions)
    if is_held_by_tables(release):
        return ReleaseSummary(Severity.PAUSED, "‖", "PAUSED", text, actions=actions[::-1])
    if step is not None and step.status is StepStatus.STARTED and progress.moves:
        text += _format_elapsed(step, now)
    if progress.state is ProgressState.WAITING:
        return ReleaseSummary(Severity.WAITING, progress.glyph, AGENT_WAITING, text, actions=actions)
    return ReleaseSummary(Severity.WORKING, "▶", "RUNNING", text, notes, actions=actions)


def _summarize_waiting(record: ReleaseRecord, now: float, progress: Progress) -> ReleaseSummary:
    release = record.release
    phase = release.current_phase
    assert phase is not None
    closed = closed_gates(release, record.gates, now)
    total = len(phase.gates)
    actions = _next_actions(record, now)
    if release.paused:
        text = f"{phase.name} has run{_describe_pause(record, now)}"
        return ReleaseSummary(Severity.PAUSED, "‖", "PAUSED", text, actions=actions)
    if closed:
        text = f"{phase.name} has run; {len(closed)} of {total} gates not open"
        if release.next_phase is None:
            actions = (NextAction(f"Wait: the release is done once {describe_closed_gates(release)}"),)
        if any(each.name == "shadow-agrees" and each.verdict is Verdict.FAIL for each in closed):
            actions = (NextAction("{topology} shows which responses differ", "topology"), *actions)
        return ReleaseSummary(Severity.WAITING, "◆", "WAITING FOR GATES", text, actions=actions)
    if release.next_phase is None:
        passes = "passed" if progress.state is ProgressState.UNKNOWN else "pass"
        text = f"the last gates {passes}; the agent ends the release"
        return ReleaseSummary(Severity.WAITING, "◆", "WAITING", text, actions=(NextAction(CONTINUES_AUTOMATICALLY),))
    text = f"{phase.name} has run, {f'all {total} gates' if total > 1 else 'its gate'}"
    oldest = max((reading.age(now) for reading in current_readings(release, record.gates, now)), default=0.0)
    if progress.state is ProgressState.UNKNOWN:
        text += " passed"  # since when that is not known follows
    elif is_current(oldest):
        text += " pass" if total > 1 else " passes"
    else:
        text += f" passed {format_silence(oldest)} ago"
    return ReleaseSummary(Severity.WAITING, "◆", AWAITING_APPROVAL, text, actions=actions)


def _summarize_failed(record: ReleaseRecord, now: float) -> ReleaseSummary:
    release = record.release
    step = _find_step_with_status(record, StepStatus.FAILED)
    phase = release.current_phase.name if release.current_phase else "?"
    return ReleaseSummary(
        Severity.ERROR,
        "✗",
        "FAILED",
        f"in {phase} at “{_step_label(release, step)}”",
        list_errors(record, now),
        actions=(*_next_actions(record, now), NextAction("{details} shows all", "details")),
    )


def _summarize_rolling_back(record: ReleaseRecord, now: float, progress: Progress) -> ReleaseSummary:
    release = record.release
    left = sum(status.has_effect for status in release.statuses)
    undone = sum(status is StepStatus.UNDONE for status in release.statuses)
    step = _find_step_with_status(record, StepStatus.UNDOING)
    is_waiting = progress.state is ProgressState.WAITING  # nothing is undone
    elapsed = _format_elapsed(step, now) if progress.moves else ""
    doing = f"undoing “{_step_label(release, step)}”{elapsed}, " if step else ""
    return ReleaseSummary(
        Severity.ROLLING_BACK,
        progress.glyph if is_waiting else "◀",
        "ROLLING BACK",
        _with_rollback(f"{doing}{undone} of {undone + left} steps undone", record),
        (*(reading.title for reading in release.unmet), *((step.note,) if step and step.note else ())),
        actions=(NextAction(describe_continuation(record)),),
    )


def describe_continuation(record: ReleaseRecord) -> str:
    """When a release continues for which a person can do nothing: by itself, or when that is available again for which
    a rollback or the agent waits, which is named."""
    step = _find_step_with_status(record, StepStatus.UNDOING)
    if step is not None and step.is_retrying:
        return FAILS_IF_REFUSED
    if step is not None and step.waits_for_sessions:
        return CONTINUES_WHEN_ENDED
    waits = [each.subject for each in find_agent_waits(record, ACTIVE)]
    waits += [step.waits_for] if step is not None and step.waits_for else []
    return describe_return(waits) if waits else CONTINUES_AUTOMATICALLY


def describe_return(names: Sequence[str]) -> str:
    """``It continues when Redis responds again``.

    Args:
        names: systems, or what else the agent waits for, such as ``the gates``.
    """
    systems = [each for each in dict.fromkeys(names) if each in set(System)]
    others = [f"it no longer waits for {each}" for each in dict.fromkeys(names) if each not in set(System)]
    responds = [f"{' and '.join(systems)} respond{'s' if len(systems) == 1 else ''} again"] if systems else []
    return CONTINUES_WHEN + " and ".join(responds + others)


def _next_actions(record: ReleaseRecord, now: float) -> tuple[NextAction, ...]:
    """The primary commands with their keys."""
    # A missing agent has a line of its own on every screen.
    commands = next_commands(record.release, record.gates, now, has_agent=True)
    return tuple(_describe_command(each) for each in commands if each.is_primary)


def _describe_command(command: NextCommand) -> NextAction:
    name = " (asks for the release’s name)" if command.requires_name and not command.blocked_until else ""
    return NextAction(f"{{{command.kind}}} {command.label}{name}", str(command.kind))


def has_no_agent(lease: Lease | None) -> bool:
    """No agent runs the release: its steps stop, and commands stay in the queue."""
    return lease is None or not lease.is_live


def list_current_gates(record: ReleaseRecord, now: float) -> tuple[tuple[str, GateReading], ...]:
    """Label and reading of each gate of the current phase, or of those before the first; of a release that is rolled
    back or has ended the last ones."""
    release = record.release
    labels = {gate.name: gate.label for gate in release.gates}
    if release.state.has_ended or release.state.is_rolling_back:
        readings = tuple(record.gates.get(gate.name, unread_gate(gate.name, now)) for gate in release.gates)
    else:
        readings = current_readings(release, count_verdicts(record, now).gates, now)
    return tuple((labels[reading.name], reading) for reading in readings)


# --- how long it has been waiting ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitStatus:
    """How long a release has been waiting.

    Attributes:
        since: start of the wait, seconds since the epoch by the database's clock; it identifies the wait.
        description: how long, for whom or what, and the limit.
        is_overdue: longer than the plan's ``gates.wait_limit``.
        waits_for: whom or what, in a few words.
    """

    since: float
    description: str
    is_overdue: bool
    waits_for: str


def find_wait(record: ReleaseRecord, now: float) -> WaitStatus | None:
    """What the release waits for: its owner, where every gate passes; else the gate that has been undecided longest.

    A gate is undecided while it is pending, inconclusive or unknown. None while a step runs, while the release is
    paused, and where a gate fails: then it does not wait but needs a person.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    phase = release.current_phase
    if release.state is not ReleaseState.WAITING or release.paused or phase is None or release.next_phase is None:
        return None
    if release.breach is not None:  # it does not wait but needs a person
        return None
    names = {step.name for step in phase.steps}
    steps_ended = max((step.ended_at or 0.0 for step in record.steps if step.name in names), default=0.0)
    gates = [record.gates[gate.name] for gate in phase.gates if gate.name in record.gates]
    if not closed_gates(release, record.gates, now):
        since = max([steps_ended, *(gate.since for gate in gates)])
        person = record.owner or "a person"
        return _build_wait_status(since, now, record.wait_limit, f"waiting for {person} for", person)
    undecided = [gate for gate in gates if gate.verdict not in (Verdict.PASS, Verdict.FAIL)]
    if any(gate.verdict is Verdict.FAIL for gate in gates) or not undecided:
        return None
    oldest = min(undecided, key=lambda gate: gate.since)
    label = next(gate.label for gate in phase.gates if gate.name == oldest.name)
    since = max(steps_ended, oldest.since)
    prefix = f"“{label}” has been {oldest.verdict} for"
    return _build_wait_status(since, now, record.wait_limit, prefix, f"gate: {label}")


def _build_wait_status(since: float, now: float, limit: float | None, prefix: str, waits_for: str) -> WaitStatus | None:
    if not since:  # it is not known
        return None
    seconds = max(0.0, now - since)
    text = f"{prefix} {format_duration(seconds)}"
    if limit is None:
        return WaitStatus(since, text, is_overdue=False, waits_for=waits_for)
    text = f"{text}, limit {format_duration(limit)}"
    return WaitStatus(since, text, is_overdue=seconds > limit, waits_for=waits_for)


# --- parts of the texts -------------------------------------------------------------------------------------------


def _find_step_record(record: ReleaseRecord, name: str) -> StepRecord | None:
    return next((step for step in record.steps if step.name == name), None)


def _find_step_with_status(record: ReleaseRecord, status: StepStatus) -> StepRecord | None:
    return next((step for step in record.steps if step.status is status), None)


def _step_label(release: Release, step: StepRecord | None) -> str:
    if step is None:
        return "?"
    return next((spec.label for spec in release.strategy.steps if spec.name == step.name), step.name)


def list_errors(record: ReleaseRecord, now: float) -> tuple[str, ...]:
    """Why a release failed, and how long ago: what was unavailable then may respond now.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    failed = StepStatus.UNDO_FAILED if release.state is ReleaseState.ROLLBACK_FAILED else StepStatus.FAILED
    step = _find_step_with_status(record, failed)
    found = tuple(dict.fromkeys(text for text in (release.error, step.error if step else "") if text))
    if step is None or step.ended_at is None:
        return found
    return tuple(f"{format_silence(max(0.0, now - step.ended_at))} ago: {text}" for text in found)


def _format_elapsed(step: StepRecord | None, now: float) -> str:
    if step is None or step.started_at is None:
        return ""
    return f" ({format_silence(max(0.0, now - step.started_at))})"


def _describe_pause(record: ReleaseRecord, now: float) -> str:
    """``; paused for 3m05s``; empty where the record does not have its command any more."""
    at = [each.at for each in record.events if each.kind == "command" and each.message.startswith(CommandKind.PAUSE)]
    return f"; paused for {format_silence(max(0.0, now - at[-1]))}" if at else ""


def _describe_end(record: ReleaseRecord, now: float) -> str:
    """``; ended 3m05s ago``."""
    return "" if record.finished_at is None else f"; ended {format_silence(max(0.0, now - record.finished_at))} ago"


def describe_rollback(record: ReleaseRecord) -> str:
    """``in 42s, triggered by ana@bastion: orders fail``: its duration once it has ended, who triggered it, and why.

    Empty where there was no rollback. The guard's reason is the release's cause, which is shown by itself.
    """
    start = record.rollback
    if start is None:
        return ""
    ended = record.finished_at if record.release.state is ReleaseState.ROLLED_BACK else None
    took = "" if ended is None else f"in {format_duration(max(0.0, ended - start.started_at))}, "
    reason = "" if start.reason == record.cause else start.reason
    shown = reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[: MAX_REASON_LENGTH - 1]}…"
    return f"{took}triggered by {start.actor}{f': {shown}' if shown else ''}"


def _with_rollback(text: str, record: ReleaseRecord) -> str:
    return ", ".join(part for part in (text, describe_rollback(record)) if part)


def _format_total_duration(record: ReleaseRecord) -> str:
    if record.finished_at is None:
        return ""
    return f", after {format_duration(max(0.0, record.finished_at - record.created_at))}"

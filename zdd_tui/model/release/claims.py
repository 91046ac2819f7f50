"""What may be claimed from a reading some time after it was taken.

A reading proves what was so when it was taken, not what is so now. Before anything is shown as current, running or
ending at some time, screens and `zdd status` ask here: whether a source still answers, whether an agent is known to
work, and whether what it does moves. The rules hold for a snapshot and a time; nothing here reads a clock.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.condition import STOPPED_NOTE, ConditionStatus
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import (
    AGENT_CONTINUES,
    AGENT_WAITS,
    LEASE_ACQUIRED,
    BackfillRecord,
    Event,
    GuardReading,
    Lease,
    ReleaseRecord,
    StepRecord,
)
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus, is_held_by_tables
from zdd_tui.model.release.system import System, systems_of_undo

FRESH_SECONDS = 3.0
"""Seconds after the last confirmation of a source within which its values count as current. A source that answers is
confirmed at least every two seconds."""

RECONNECT_SECONDS = 1.5
"""Seconds for which the error of a source is not reported: most connections recover within that time."""


class SourceStatus(StrEnum):
    """Whether a source can be relied on now."""

    FRESH = "fresh"
    LOST = "lost"
    UNKNOWN = "unknown"
    """It was not read yet; or its state is known from another source that is lost."""
    NOT_NEEDED = "not needed"


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """The health of one source at one time.

    Attributes:
        age: seconds since the last confirmation; None where there never was one.
        error: why there is no newer one, as far as it is known.
        is_required: the release relies on it now, so that its loss comes before everything else.
    """

    name: System
    status: SourceStatus
    age: float | None = None
    error: str = ""
    hint: str = ""
    is_required: bool = False

    @property
    def description(self) -> str:
        """``Redis: no response for 7s (connection refused)``."""
        if self.age is None and self.error:
            return f"{self.name}: {self.error}"
        silent = "no response yet" if self.age is None else f"no response for {format_silence(self.age)}"
        return f"{self.name}: {silent}{f' ({self.error})' if self.error else ''}"


def is_current(age: float | None, error: str = "", limit: float = FRESH_SECONDS) -> bool:
    """Whether a value counts as current: confirmed within `limit` seconds, and without an error that lasts."""
    if age is None or age > limit:
        return False
    return not (error and age > RECONNECT_SECONDS)


def overdue_after(interval: float) -> float:
    """Seconds after which a value that is renewed every so many seconds does not count as current: the next is late."""
    return max(FRESH_SECONDS, interval + 1.0)


def rests_on_old_data(reading: GateReading | GuardReading, now: float, limit: float = FRESH_SECONDS) -> bool:
    """Whether a verdict was so, and need not be so now: it is dimmed, with its age. An unknown one claims nothing.

    Args:
        now: seconds since the epoch, by the database's clock.
        limit: seconds within which its data count as current.
    """
    return reading.verdict is not Verdict.UNKNOWN and not is_current(reading.age(now), limit=limit)


def uncounted_seconds(age: float) -> float:
    """How far a clock that runs on from a reading must be set back: countdowns and ages stop once it is not current.

    Args:
        age: seconds since the source was confirmed.
    """
    return max(0.0, age - FRESH_SECONDS)


def assess_source(
    name: System, age: float | None, error: str = "", hint: str = "", *, is_required: bool = False
) -> SourceHealth:
    """The health of a source that is read directly.

    Args:
        age: seconds since its last confirmation; None before the first.
    """
    if is_current(age, error):
        return SourceHealth(name, SourceStatus.FRESH, age, "", "", is_required)
    status = SourceStatus.UNKNOWN if age is None and not error else SourceStatus.LOST
    return SourceHealth(name, status, age, error, hint, is_required)


# --- the agent -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Activity:
    """Whether an agent is known to work on a release.

    Attributes:
        is_active: an agent holds the lease, by a reading that counts as current. Without it nothing that an agent does
            moves; whether it does with it, :func:`assess_progress` says.
        is_known: whether an agent works is known, by a reading that counts as current.
        idle_seconds: since an agent was last known to work; None where there never was one.
        waits_for: what it waits for before it runs a step at all, such as ``Redis: connection refused``; else empty.
    """

    is_active: bool
    is_known: bool
    idle_seconds: float | None
    waits_for: str = ""

    @property
    def description(self) -> str:
        """Since when nobody is known to work, such as ``no agent for 13s``; empty while an agent works."""
        if self.is_active:
            return ""
        if self.idle_seconds is None:
            return "no agent yet"
        silent = format_silence(self.idle_seconds)
        return f"no agent for {silent}" if self.is_known else f"state not known for {silent}"

    def worked_until(self, now: float) -> float:
        """Until when durations of running work may be counted: now while an agent works, else when it was last known
        to.

        Args:
            now: seconds since the epoch, by the database's clock.
        """
        return now if self.is_active else now - (self.idle_seconds or 0.0)


ACTIVE = Activity(is_active=True, is_known=True, idle_seconds=0.0)


def assess_activity(lease: Lease | None, reading_age: float, error: str = "") -> Activity:
    """Whether an agent is known to work.

    Args:
        lease: as it was read.
        reading_age: seconds since it was read.
        error: why there is no newer reading; empty without an error.
    """
    is_known = is_current(reading_age, error)
    if lease is None or not lease.holder:
        return Activity(False, is_known, None if is_known else reading_age)
    age = lease.age + reading_age
    is_active = is_known and age <= lease.ttl
    # A lease that has run out since it was read may have been renewed: once the next reading is late, it is not known.
    has_run_out = lease.age > lease.ttl or reading_age <= RECONNECT_SECONDS
    return Activity(is_active, is_known and (is_active or has_run_out), age)


def assess_agent_activity(record: ReleaseRecord, reading_age: float = 0.0, error: str = "") -> Activity:
    """The same of a release that was read, with what its agent waits for.

    Args:
        reading_age, error: as of :func:`assess_activity`.
    """
    activity = assess_activity(record.lease, reading_age, error)
    waits = list_agent_waits(record, activity)
    # A step of this session runs beside the command that waits.
    has_begun = any(event.kind == "step" for event in _session_events(record))
    return replace(activity, waits_for="; ".join(waits)) if waits and not has_begun else activity


def count_verdicts(record: ReleaseRecord, now: float, error: str = "") -> ReleaseRecord:
    """The release with the verdicts of its gates, of its guard and of its standing conditions as they count: while no
    agent is known to work, each is unknown. A release that has ended keeps its last ones.

    Args:
        now: seconds since the epoch, by the database's clock.
        error: why there is no newer record; empty without an error.
    """
    return withdraw_verdicts(record, assess_activity(record.lease, max(0.0, now - record.now), error), now)


def withdraw_verdicts(record: ReleaseRecord, activity: Activity, now: float) -> ReleaseRecord:
    """The same, for what is known of the agent."""
    if activity.is_active or record.release.state.has_ended:
        return record
    why = "no agent" if activity.is_known else "agent not known"  # the age is shown beside each
    unmet = tuple(reading.withdrawn(activity.description) for reading in record.release.unmet)
    return replace(
        record,
        release=replace(record.release, unmet=unmet),
        gates={name: reading.withdrawn(why) for name, reading in record.gates.items()},
        guard=tuple(reading.withdrawn(why) for reading in record.guard),
    )


def assess_agent(record: ReleaseRecord | None, activity: Activity) -> SourceHealth:
    """The agent as a source of the health line."""
    if record is None:
        return SourceHealth(System.AGENT, SourceStatus.UNKNOWN)
    age = activity.idle_seconds
    if activity.is_active:
        return SourceHealth(System.AGENT, SourceStatus.FRESH, age, is_required=True)
    if not activity.is_known:
        return SourceHealth(System.AGENT, SourceStatus.UNKNOWN, age, is_required=True)
    if record.release.state.has_ended:
        return SourceHealth(System.AGENT, SourceStatus.NOT_NEEDED)
    return SourceHealth(System.AGENT, SourceStatus.LOST, age, is_required=True)


@dataclass(frozen=True, slots=True)
class AgentWait:
    """What the agent waits for.

    Attributes:
        subject: the system, or what it does.
        reason: such as ``connection refused``.
        since: when it said so, in seconds since the epoch by the database's clock.
    """

    subject: str
    reason: str
    since: float

    @property
    def text(self) -> str:
        """``Redis: connection refused``."""
        return f"{self.subject}: {self.reason}"


def find_agent_waits(record: ReleaseRecord, activity: Activity) -> tuple[AgentWait, ...]:
    """What the agent waits for before it can run a step or handle a command, each with the reason.

    By its events since it acquired the lease, as far as the record has them; none where no agent is known to work.
    """
    waits: dict[str, AgentWait] = {}
    for event in _session_events(record) if activity.is_active else ():
        if event.message.startswith(AGENT_WAITS):
            subject, _, reason = event.message.removeprefix(AGENT_WAITS).partition(": ")
            since = waits[subject].since if subject in waits else event.at
            waits[subject] = AgentWait(subject, reason.partition("\n")[0], since)
        elif event.message.startswith(AGENT_CONTINUES):
            waits.pop(event.message.removeprefix(AGENT_CONTINUES), None)
    return tuple(waits.values())


def list_agent_waits(record: ReleaseRecord, activity: Activity) -> tuple[str, ...]:
    """The texts of :func:`find_agent_waits`."""
    return tuple(each.text for each in find_agent_waits(record, activity))


def _session_events(record: ReleaseRecord) -> tuple[Event, ...]:
    """The events since the agent acquired the lease; all that the record has, where it has no such event."""
    begins = (
        number
        for number, event in enumerate(record.events)
        if event.kind == "lease" and event.message.startswith(LEASE_ACQUIRED)
    )
    return record.events[max(begins, default=0) :]


# --- what moves ------------------------------------------------------------------------------------------------------


class ProgressState(StrEnum):
    """Whether something that an agent does moves, and what holds it where it does not."""

    NOT_STARTED = "not started"
    MOVING = "running"
    STOPPED = "stopped"
    """A standing condition does not hold: no step runs until it does."""
    PAUSED = "paused"
    WAITING = "waiting"
    """For its gates and an approval; for a system without which its agent runs no step; of a step that was running when
    a rollback started: for its undo."""
    STALLED = "stalled"
    """No agent runs the release."""
    UNKNOWN = "unknown"
    """The database is silent, so it is not known whether an agent works."""
    FAILED = "failed"
    DONE = "done"
    UNDOING = "undoing"
    """Of a phase: a rollback undoes its steps now."""
    UNDONE = "undone"
    """Of a phase: a rollback has undone what had run of it."""


PROGRESS_GLYPHS: Mapping[ProgressState, str] = {
    ProgressState.NOT_STARTED: "○",
    ProgressState.MOVING: "▶",
    ProgressState.STOPPED: "✗",
    ProgressState.PAUSED: "‖",
    ProgressState.WAITING: "◆",
    ProgressState.STALLED: "✗",
    ProgressState.UNKNOWN: "?",
    ProgressState.FAILED: "✗",
    ProgressState.DONE: "✔",
    ProgressState.UNDOING: "◀",
    ProgressState.UNDONE: "◁",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """Whether something moves.

    Attributes:
        reason: what holds it, such as ``no agent for 13s``; empty where nothing does.
    """

    state: ProgressState
    reason: str = ""

    @property
    def moves(self) -> bool:
        """Only then is it shown with ``▶``, seconds that count, a rate or a remaining time."""
        return self.state is ProgressState.MOVING

    @property
    def glyph(self) -> str:
        return PROGRESS_GLYPHS[self.state]


MOVING = Progress(ProgressState.MOVING)

_SETTLED = {
    StepStatus.PENDING: ProgressState.NOT_STARTED,
    StepStatus.SUSPENDED: ProgressState.PAUSED,
    StepStatus.DONE: ProgressState.DONE,
    StepStatus.FAILED: ProgressState.FAILED,
    StepStatus.UNDO_FAILED: ProgressState.FAILED,
    StepStatus.UNDONE: ProgressState.NOT_STARTED,
}
"""Of a step on which nobody works, whatever the release does."""


def assess_progress(release: Release, activity: Activity, step: StepStatus | None = None) -> Progress:
    """Whether the release, or a step of it, moves. The one rule for every screen and for `zdd status`.

    Args:
        activity: whether an agent is known to work on it.
        step: status of a step, or of a part of one; None for the current phase.
    """
    if step in _SETTLED:
        return Progress(_SETTLED[step])
    state = _hold_state(release, activity)
    runs_backwards = release.state is ReleaseState.ROLLING_BACK
    if step is not None and state is ProgressState.DONE:
        state = ProgressState.UNKNOWN  # the record contradicts itself
    elif step is StepStatus.STARTED and runs_backwards and state is ProgressState.MOVING:
        state = ProgressState.WAITING
    match state:
        case ProgressState.STALLED | ProgressState.UNKNOWN:
            return Progress(state, activity.description)
        case ProgressState.STOPPED:
            return Progress(state, STOPPED_NOTE)
        case ProgressState.PAUSED:
            titles = [pause.title for pause in release.table_pauses]
            return Progress(state, "paused" if release.paused else "; ".join(titles))
        case ProgressState.WAITING if activity.waits_for:
            return Progress(state, f"the agent waits for {activity.waits_for}")
    return Progress(state)


def assess_phase(release: Release, index: int, activity: Activity) -> Progress:
    """How far one phase is, also in a rollback; of the current phase what :func:`assess_progress` finds.

    Args:
        index: of the phase in the strategy.
    """
    if release.state is ReleaseState.DONE:
        return Progress(ProgressState.DONE)
    undone = Progress(ProgressState.UNDONE if index <= release.phase else ProgressState.NOT_STARTED)
    if release.state is ReleaseState.ROLLED_BACK:
        return undone
    progress, position = assess_progress(release, activity), release.position
    if index < position:
        return Progress(ProgressState.DONE)
    if release.state.is_rolling_back:
        if index > position:
            return undone
        return Progress(ProgressState.UNDOING) if progress.moves else progress
    return progress if index == position else Progress(ProgressState.NOT_STARTED)


def is_stopped(release: Release, activity: Activity) -> bool:
    """Whether a standing condition that does not hold stops it now."""
    return assess_progress(release, activity).state is ProgressState.STOPPED


def _hold_state(release: Release, activity: Activity) -> ProgressState:
    """The first of what holds a release; ``moving`` where nothing does."""
    state = release.state
    if state.has_ended:
        return ProgressState.DONE
    if not activity.is_known:
        return ProgressState.UNKNOWN
    if release.last_breach is not None:  # without an agent nobody sees whether it still holds the release
        return ProgressState.STOPPED if activity.is_active else ProgressState.STALLED
    if state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED):
        return ProgressState.FAILED
    if release.paused:
        return ProgressState.PAUSED
    if state is ReleaseState.PLANNED:
        return ProgressState.NOT_STARTED
    if not activity.is_active:
        return ProgressState.STALLED
    if is_held_by_tables(release):
        return ProgressState.PAUSED
    return ProgressState.WAITING if state is ReleaseState.WAITING or activity.waits_for else ProgressState.MOVING


def assess_backfill(release: Release, activity: Activity, backfill: BackfillRecord) -> Progress:
    """Whether rows are written, or verified once all are. A rate holds only while batches are committed, too."""
    if backfill.status in ("prepared", "cancelled"):
        return Progress(ProgressState.NOT_STARTED)
    found = assess_progress(release, activity, StepStatus.STARTED)
    if backfill.status == "paused" and found.moves:
        return Progress(ProgressState.PAUSED, "paused")
    return found


def verification_doubt(release: Release) -> ConditionStatus | None:
    """Whether a verification does not count now, because rows may have been written on one side only since.

    Returns:
        RECHECKING where the rows are to be verified again, UNKNOWN where that is not known, None where it counts.
    """
    found = {reading.last_status for reading in release.unmet if reading.affects_rows}
    if any(status.stops_progress for status in found):
        return ConditionStatus.RECHECKING
    return ConditionStatus.UNKNOWN if found else None


def describe_step_note(step: StepRecord, activity: Activity) -> str:
    """What a step does now, or its last note where no agent is known to work on it, whatever else holds the release."""
    is_last = step.note and step.status in (StepStatus.STARTED, StepStatus.UNDOING) and not activity.is_active
    return f"last: {step.note}; {activity.description}" if is_last else step.note


# --- what a phase relies on ------------------------------------------------------------------------------------------


def required_sources(record: ReleaseRecord) -> frozenset[System]:
    """The sources without which the release cannot continue from where it is, or is not guarded."""
    release = record.release
    if release.state.has_ended:
        return frozenset()
    required = {System.POSTGRESQL, System.AGENT}
    if release.state is ReleaseState.PLANNED:
        return frozenset(required)
    if release.strategy.name != "expand-contract":
        return frozenset(System)
    begun = (step for phase in release.strategy.phases[: release.phase + 1] for step in phase.steps)
    return frozenset(required | {System.PROMETHEUS}).union(*(systems_of_undo(release.strategy, each) for each in begun))


def metrics_answered_at(record: ReleaseRecord, rules: Collection[str]) -> float | None:
    """When the metrics server last responded, by the readings of the rules that query it and by the agent's probes: in
    seconds since the epoch, by the database's clock; None where it never did."""
    readings = [reading for reading in record.guard if reading.rule in rules]
    known = [reading.observed_at for reading in readings if reading.verdict is not Verdict.UNKNOWN]
    probe = record.metrics_probe
    known += [probe.answered_at] if probe is not None and probe.answered_at is not None else []
    return max(known, default=None)


def metrics_limit(record: ReleaseRecord, rules: Mapping[str, float]) -> float:
    """Seconds after a response within which the metrics server counts as current: a probe is repeated all the time,
    and the agent of an earlier version does not probe."""
    return FRESH_SECONDS if record.metrics_probe is not None else overdue_after(max(rules.values(), default=0.0))


def assess_queried_metrics(
    record: ReleaseRecord, rules: Mapping[str, float], now: float, activity: Activity
) -> SourceHealth:
    """The metrics server, which the agent queries: known by the readings of its rules, and by the agent's probes where
    rules are evaluated rarely. A probe that has failed is a loss at once.

    Args:
        rules: names of the rules that query it, with the seconds between two evaluations.
        now: seconds since the epoch, by the database's clock.
    """
    name, is_required = System.PROMETHEUS, System.PROMETHEUS in required_sources(record)
    if record.release.state.has_ended:
        return SourceHealth(name, SourceStatus.NOT_NEEDED)
    answered_at, probe = metrics_answered_at(record, rules), record.metrics_probe
    age = None if answered_at is None else max(0.0, now - answered_at)
    if not activity.is_active:
        return SourceHealth(name, SourceStatus.UNKNOWN, age, "the agent reads it", is_required=is_required)
    error = probe.error if probe is not None else ""
    if not error and is_current(age, limit=metrics_limit(record, rules)):
        return SourceHealth(name, SourceStatus.FRESH, age, is_required=is_required)
    error = error or next(
        (reading.reason for reading in record.guard if reading.rule in rules and reading.verdict is Verdict.UNKNOWN),
        "",
    )
    status = SourceStatus.LOST if age is not None or error else SourceStatus.UNKNOWN
    return SourceHealth(name, status, age, error, is_required=is_required)


# --- texts -----------------------------------------------------------------------------------------------------------


def format_silence(seconds: float) -> str:
    """``7s``, ``3m12s``: whole seconds."""
    return format_duration(float(int(seconds))) if seconds >= 60 else f"{int(seconds)}s"

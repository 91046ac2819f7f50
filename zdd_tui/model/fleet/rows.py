"""One row for each release of the fleet: what it does, what it waits for and since when; their order and a summary.

The state of a row is the one that the release's own screen shows (:mod:`zdd_tui.model.release.summary`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property

from zdd_tui.model.counting import count_noun
from zdd_tui.model.release.claims import (
    Activity,
    ProgressState,
    assess_agent_activity,
    assess_progress,
    count_verdicts,
    find_agent_waits,
)
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import WAITS_NOTE, ReleaseRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus, closed_gates
from zdd_tui.model.release.summary import AWAITING_APPROVAL, Severity, find_wait, has_no_agent, summarize_release

NO_ANSWER, NO_RELEASE, CONNECTING = "NO ANSWER", "NO RELEASE", "CONNECTING"
REGION_NOT_KNOWN = "NOT KNOWN"

A_PERSON = "a person"
NO_AGENT = "an agent"


class Urgency(IntEnum):
    """How soon somebody should look at a row; the lowest first."""

    BROKEN = 0
    UNANSWERED = 1
    NEEDS_PERSON = 2
    ROLLED_BACK = 3
    """Not long ago, and no newer release of the plan has begun."""
    MOVING = 4
    PLANNED = 5
    ENDED = 6
    EMPTY = 7


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """Who sent a command, when (seconds since the epoch, by the database's clock) and why."""

    actor: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What a row needs besides the record.

    Attributes:
        region_names: of the plan, in order; empty for a plan without regions.
        paused: the newest pause that the agent handled.
        rollback: the newest rollback that the agent handled.
        rollbacks: number of rollbacks that the agent handled.
    """

    region_names: tuple[str, ...] = ()
    paused: CommandFacts | None = None
    rollback: CommandFacts | None = None
    rollbacks: int = 0


@dataclass(frozen=True, slots=True)
class FleetRow:
    """A release. Or, without `release_id`: a database that has none or does not answer; or a region of a plan that
    is not started, whose `database` is empty.

    Times are seconds since the epoch by the database's clock.

    Attributes:
        database, group: as configured.
        environment: of the plan; of the configuration for a database without a release.
        region: name and position, such as ``eu 1/2``; empty without regions.
        region_order: position in the order of regions, from 0.
        region_names: of all regions of the plan, in order.
        state: None without a release.
        label: the state in words, as on the release's screen.
        phase: name and position, such as ``backfill 3/6``; empty before the first and after the last.
        progress: in the phase, such as ``step 2/5``, ``rows 43%`` or ``undo 3/12``.
        share: of the whole release that is done, 0 to 1; None without a release.
        waits_for: whom or what; empty where it waits for nothing.
        waiting_since: None where that is not known.
        guard: the worst verdict of the rules that apply now; None without one.
        guard_rule: the rule with that verdict.
        agent: the host of the agent that holds the lease; empty where none does.
        has_agent: an agent is at work, or none is needed.
        duration: seconds from registration to the end; None while it has not ended.
        rollbacks: number of rollbacks that were run.
        rollback_seconds: duration of the last rollback; None without one.
        cause: why it was rolled back, or what failed.
        error: of a database that does not answer, or of a release that cannot be read; with `hint`.
        is_last_known: its database does not answer any more; these are the last values, without guard and agent.
        clock_offset: the database's clock minus this machine's, in seconds.
    """

    database: str
    group: str
    environment: str
    release_id: int | None
    name: str
    label: str
    severity: Severity
    glyph: str
    urgency: Urgency
    region: str = ""
    region_order: int = 0
    region_names: tuple[str, ...] = ()
    strategy: str = ""
    state: ReleaseState | None = None
    phase: str = ""
    progress: str = ""
    share: float | None = None
    waits_for: str = ""
    waiting_since: float | None = None
    guard: Verdict | None = None
    guard_rule: str = ""
    agent: str = ""
    has_agent: bool = True
    created_at: float | None = None
    finished_at: float | None = None
    rollbacks: int = 0
    rollback_seconds: float | None = None
    cause: str = ""
    error: str = ""
    hint: str = ""
    is_last_known: bool = False
    clock_offset: float = field(default=0.0, compare=False)

    @property
    def key(self) -> str:
        """Identifies it while it changes."""
        if not self.database and self.release_id is None:
            return f"\n{self.name}\n{self.region}"
        return f"{self.database}\n{'' if self.release_id is None else self.release_id}"

    @property
    def has_ended(self) -> bool:
        return self.state is not None and self.state.has_ended

    @property
    def listed_since(self) -> float | None:
        """Since when it waits; of an ended release its end."""
        return self.finished_at if self.has_ended else self.waiting_since

    @property
    def duration(self) -> float | None:
        if self.finished_at is None or self.created_at is None:
            return None
        return max(0.0, self.finished_at - self.created_at)

    def seconds_since(self, at: float | None, wall: float) -> float | None:
        """Age of one of its times.

        Args:
            wall: this machine's clock, in seconds since the epoch.
        """
        return None if at is None else max(0.0, wall + self.clock_offset - at)


@dataclass(frozen=True)
class Fleet:
    """One snapshot of the fleet.

    Attributes:
        rows: in the default order: by urgency, the regions of one plan together.
        databases: number of databases.
        unanswered: of those that do not answer.
        pending: of those that have not been read yet.
    """

    rows: tuple[FleetRow, ...] = ()
    databases: int = 0
    unanswered: int = 0
    pending: int = 0

    @cached_property
    def active(self) -> tuple[FleetRow, ...]:
        """Releases that have not ended, and databases without any; ended regions of a plan that others still run; what
        was rolled back not long ago.
        """
        families = {_family(row) for row in self.rows if row.region and not row.has_ended}
        newest = {(_family(row), row.region): row.key for row in sorted(self.rows, key=lambda row: row.created_at or 0)}
        return tuple(
            row
            for row in self.rows
            if not row.has_ended
            or row.urgency is Urgency.ROLLED_BACK
            or (_family(row) in families and newest[_family(row), row.region] == row.key)
        )

    @cached_property
    def ended(self) -> tuple[FleetRow, ...]:
        """The history: the newest end first."""
        ended = [row for row in self.rows if row.has_ended]
        return tuple(sorted(ended, key=lambda row: -(row.finished_at or 0.0)))


def build_release_row(
    record: ReleaseRecord, facts: ReleaseFacts, *, database: str, group: str, clock_offset: float
) -> FleetRow:
    """The row of a release, as of the time of its record."""
    waits_for, since = find_blocker(record, facts)
    record = count_verdicts(record, record.now)
    release, now = record.release, record.now
    summary = summarize_release(record, now, activity=assess_agent_activity(record))
    label, glyph, severity = summary.state_label, summary.glyph, summary.severity
    has_agent = release.state.has_ended or not has_no_agent(record.lease)
    guard, guard_rule = _worst_guard_verdict(record)
    rollback_seconds = None
    if facts.rollback is not None and record.finished_at is not None and release.state is ReleaseState.ROLLED_BACK:
        rollback_seconds = max(0.0, record.finished_at - facts.rollback.at)
    return FleetRow(
        database=database,
        group=group,
        environment=record.environment,
        release_id=record.id,
        name=release.name,
        label=label,
        severity=severity,
        glyph=glyph,
        urgency=_find_urgency(release.state, label, severity, has_agent=has_agent),
        region=_format_region(record.region, facts.region_names),
        region_order=facts.region_names.index(record.region) if record.region in facts.region_names else 0,
        region_names=tuple(facts.region_names) if record.region in facts.region_names else (),
        strategy=release.strategy.name,
        state=release.state,
        phase=_format_phase(record),
        progress=_format_progress(record),
        share=_share_done(record),
        waits_for=waits_for,
        waiting_since=since,
        guard=guard,
        guard_rule=guard_rule,
        agent=record.lease.host if record.lease is not None and not has_no_agent(record.lease) else "",
        has_agent=has_agent,
        created_at=record.created_at,
        finished_at=record.finished_at,
        rollbacks=facts.rollbacks,
        rollback_seconds=rollback_seconds,
        cause=_find_cause(record, facts),
        clock_offset=clock_offset,
    )


def _find_urgency(state: ReleaseState, label: str, severity: Severity, *, has_agent: bool) -> Urgency:
    if state.has_ended:
        return Urgency.ENDED
    if severity is Severity.ERROR:
        return Urgency.BROKEN
    if label == AWAITING_APPROVAL or severity is Severity.PAUSED or not has_agent:
        return Urgency.NEEDS_PERSON
    return Urgency.PLANNED if state is ReleaseState.PLANNED else Urgency.MOVING


def find_blocker(record: ReleaseRecord, facts: ReleaseFacts) -> tuple[str, float | None]:
    """Whom or what a release waits for, and since when; the first that must be solved. Empty where it moves."""
    release = record.release
    activity = assess_agent_activity(record)
    progress = assess_progress(release, activity).state
    if progress is ProgressState.DONE:
        return "", None
    if not activity.is_active:  # whatever else holds it
        last = f"; last: {breach.status}, {breach.title}" if (breach := release.breach) is not None else ""
        return f"{NO_AGENT}{last}", record.created_at if record.lease is None else record.now - record.lease.age
    if progress is ProgressState.STOPPED and release.breach is not None:
        return release.breach.title, release.breach.since
    if progress is ProgressState.FAILED:
        failed = [step.ended_at for step in record.steps if step.status in (StepStatus.FAILED, StepStatus.UNDO_FAILED)]
        return f"{record.owner or A_PERSON}: retry or roll back", max((at for at in failed if at), default=None)
    if progress is ProgressState.PAUSED:
        return _find_pause(release, facts)
    return _find_system(record, activity) or _find_decision(record, facts, progress)


def _find_system(record: ReleaseRecord, activity: Activity) -> tuple[str, float | None] | None:
    """The system for which the agent, or the step that runs, waits; None where it waits for none."""
    if waits := find_agent_waits(record, activity):
        return "; ".join(each.text for each in waits), min(each.since for each in waits)
    at_work = StepStatus.UNDOING if record.release.state.is_rolling_back else StepStatus.STARTED
    steps = [step for step in record.steps if step.status is at_work and (step.waits_for or step.is_retrying)]
    return (steps[0].note.removeprefix(WAITS_NOTE), None) if steps else None


def _find_decision(record: ReleaseRecord, facts: ReleaseFacts, progress: ProgressState) -> tuple[str, float | None]:
    """The gate or the person that a release waits for; empty where it moves."""
    release, now = record.release, record.now
    labels = {gate.name: gate.label for gate in release.gates}
    closed = closed_gates(release, record.gates, now)
    if progress is ProgressState.NOT_STARTED:
        return (f"gate: {labels[closed[0].name]}" if closed else record.owner or A_PERSON), record.created_at
    wait = find_wait(record, now)
    if wait is not None:
        return wait.waits_for, wait.since
    if progress is not ProgressState.WAITING:
        return _find_pause(release, facts)
    if closed:
        return f"gate: {labels[closed[0].name]}", closed[0].since or None
    return (record.owner or A_PERSON, None) if release.next_phase is not None else ("", None)


def _find_pause(release: Release, facts: ReleaseFacts) -> tuple[str, float | None]:
    """Who has paused the release, or single tables of it, which does not hold the others; empty without a pause."""
    if release.paused:
        paused = facts.paused
        return f"resume, paused by {paused.actor}" if paused else "resume", paused.at if paused else None
    tables = release.table_pauses
    waits_for = ", ".join(f"resume of table {pause.table}, paused by {pause.by}" for pause in tables)
    return waits_for, tables[0].since if tables else None


def _find_cause(record: ReleaseRecord, facts: ReleaseFacts) -> str:
    release = record.release
    if release.state.is_rolling_back:
        if record.cause:
            return f"guard: {record.cause}"
        if facts.rollback is not None:
            reason = f": {facts.rollback.reason}" if facts.rollback.reason else ""
            return f"by {facts.rollback.actor}{reason}"
    return release.error


def _worst_guard_verdict(record: ReleaseRecord) -> tuple[Verdict | None, str]:
    ranks = {Verdict.FAIL: 0, Verdict.UNKNOWN: 1, Verdict.INCONCLUSIVE: 2, Verdict.PENDING: 3, Verdict.PASS: 4}
    if record.release.state.has_ended:
        return None, ""
    readings = [reading.as_of(record.now) for reading in record.guard]
    applicable = [reading for reading in readings if reading.is_applicable]
    worst = min(applicable, key=lambda reading: ranks[reading.verdict], default=None)
    return (None, "") if worst is None else (worst.verdict, worst.rule)


def _format_region(region: str, names: Sequence[str]) -> str:
    return f"{region} {names.index(region) + 1}/{len(names)}" if region in names else region


def _format_phase(record: ReleaseRecord) -> str:
    release = record.release
    if release.position < 0 or release.state.has_ended:
        return ""
    phases = release.strategy.phases
    return f"{phases[release.position].name} {release.position + 1}/{len(phases)}"


def _format_progress(record: ReleaseRecord) -> str:
    release, phase = record.release, record.release.current_phase
    if phase is None or release.state.has_ended:
        return ""
    if release.state.is_rolling_back:
        left = sum(status.has_effect for status in release.statuses)
        undone = sum(status is StepStatus.UNDONE for status in release.statuses)
        return f"undo {undone}/{undone + left}"
    if release.state is ReleaseState.WAITING:
        closed = len(closed_gates(release, record.gates, record.now))
        return f"gates {len(phase.gates) - closed}/{len(phase.gates)}" if phase.gates else ""
    rows = _share_of_rows(record)
    if rows is not None:
        return f"rows {int(100 * rows)}%"
    done = sum(release.status(step.name) is StepStatus.DONE for step in phase.steps)
    return f"step {min(done + 1, len(phase.steps))}/{len(phase.steps)}"


def _share_of_rows(record: ReleaseRecord) -> float | None:
    """Of the backfill while it copies: at most 99 %, because the total is an estimate."""
    backfill, phase = record.backfill, record.release.current_phase
    if backfill is None or phase is None or phase.name != "backfill" or backfill.status not in ("running", "paused"):
        return None
    return min(0.99, backfill.rows_done / backfill.rows_total) if backfill.rows_total > 0 else None


def _share_done(record: ReleaseRecord) -> float:
    release, phase = record.release, record.release.current_phase
    if release.state is ReleaseState.DONE:
        return 1.0
    if phase is None or release.state is ReleaseState.ROLLED_BACK:
        return 0.0
    done = sum(release.status(step.name) is StepStatus.DONE for step in phase.steps)
    within = _share_of_rows(record)
    within = done / max(1, len(phase.steps)) if within is None else within
    return (release.phase + within) / len(release.strategy.phases)


# --- databases without a release ------------------------------------------------------------------------------------


def build_database_row(database: str, group: str, environment: str) -> FleetRow:
    """A database that was read and has no release."""
    return FleetRow(
        database, group, environment, None, database, NO_RELEASE, Severity.IDLE, "○", Urgency.EMPTY,
        error="it has no release yet", hint="start one with `zdd open PLAN`",
    )  # fmt: skip


def build_connecting_row(database: str, group: str, environment: str) -> FleetRow:
    """A database that has not been read yet."""
    return FleetRow(database, group, environment, None, database, CONNECTING, Severity.IDLE, "…", Urgency.EMPTY)


def build_error_row(
    database: str, group: str, environment: str, error: str, hint: str, *, answered_at: float | None = None
) -> FleetRow:
    """A database that does not answer.

    Args:
        answered_at: its last answer, in seconds since the epoch by this machine's clock; None for never.
    """
    return FleetRow(
        database, group, environment, None, database, NO_ANSWER, Severity.ERROR, "✗", Urgency.UNANSWERED,
        waits_for="the database", waiting_since=answered_at, error=error, hint=hint,
    )  # fmt: skip


def build_unreadable_row(
    database: str, group: str, release_id: int, name: str, environment: str, error: str, hint: str
) -> FleetRow:
    """A release whose rows cannot be used."""
    return FleetRow(
        database, group, environment, release_id, name, "UNREADABLE", Severity.ERROR, "✗", Urgency.BROKEN,
        error=error, hint=hint,
    )  # fmt: skip


def mark_last_known(row: FleetRow) -> FleetRow:
    """The row of a database that does not answer any more. Whether the guard passes and an agent works is not known."""
    if row.is_last_known:
        return row
    guard = None if row.guard is None else Verdict.UNKNOWN
    return replace(row, is_last_known=True, guard=guard, guard_rule="", agent="")


# --- order and summary ----------------------------------------------------------------------------------------------


def order_rows(rows: Iterable[FleetRow]) -> tuple[FleetRow, ...]:
    """The most urgent first. The regions of one plan stay together, in their order, where the most urgent one is."""
    found = list(rows)
    families: dict[tuple[object, ...], Urgency] = {}
    for row in found:
        family = _family(row)
        families[family] = min(row.urgency, families.get(family, Urgency.EMPTY))

    def rank(row: FleetRow) -> tuple[object, ...]:
        return families[_family(row)], row.group, row.name, row.environment, row.region_order, row.database, row.key

    return tuple(sorted(found, key=rank))


def _family(row: FleetRow) -> tuple[object, ...]:
    """The regions of one plan are a family; an ended region belongs to it as long as another one has not ended."""
    return (row.group, row.environment, row.name) if row.region else (row.key,)


ROLLED_BACK_SHOWN_SECONDS = 86400.0
"""Seconds for which a release that was rolled back stays in the list: whoever is called for it finds it there."""


def mark_recent_rollbacks(rows: Sequence[FleetRow], wall: float) -> tuple[FleetRow, ...]:
    """The rows; what was rolled back not long ago is urgent, unless a newer release of the plan has begun there.

    Args:
        wall: this machine's clock, in seconds since the epoch.
    """
    newest: dict[tuple[str, ...], int] = {}
    for row in rows:
        newest[_place(row)] = max(newest.get(_place(row), 0), row.release_id or 0)

    def is_recent(row: FleetRow) -> bool:
        ended = row.seconds_since(row.finished_at, wall) if row.state is ReleaseState.ROLLED_BACK else None
        is_newest = row.release_id == newest[_place(row)]
        return is_newest and ended is not None and ended <= ROLLED_BACK_SHOWN_SECONDS

    return tuple(replace(row, urgency=Urgency.ROLLED_BACK) if is_recent(row) else row for row in rows)


def _place(row: FleetRow) -> tuple[str, ...]:
    """Releases of one plan in one database follow one another."""
    return row.database, row.name, row.environment, row.region


DONE_SHOWN_SECONDS = 7 * 86400.0
"""Seconds after the end of a region in which the regions after it are shown as not started."""


def add_missing_regions(rows: Sequence[FleetRow], wall: float, *, is_complete: bool) -> tuple[FleetRow, ...]:
    """The rows, and one for each region that a plan lists and that has no release of that name in any database.

    Args:
        wall: this machine's clock, in seconds since the epoch.
        is_complete: every database has answered. Else a region without a release may be in one that has not.
    """
    found: list[FleetRow] = []
    newest: dict[str, FleetRow] = {}
    for row in rows:
        if row.region_names and row.created_at is not None:
            known = newest.get(row.name)
            if known is None or (known.created_at or 0.0) < row.created_at:
                newest[row.name] = row
    for name, row in newest.items():
        ended = row.seconds_since(row.finished_at, wall) if row.has_ended else None
        if row.state is ReleaseState.ROLLED_BACK or (ended is not None and ended > DONE_SHOWN_SECONDS):
            continue
        seen = {each.region.split(" ")[0] for each in rows if each.name == name}
        found += [
            _build_missing_region_row(row, region, is_complete=is_complete)
            for region in row.region_names
            if region not in seen
        ]
    return (*rows, *found)


def _build_missing_region_row(row: FleetRow, region: str, *, is_complete: bool) -> FleetRow:
    label, error, hint = "NOT STARTED", f"region {region} has no release yet", f"zdd open --region {region} PLAN"
    if not is_complete:
        label, error = REGION_NOT_KNOWN, f"no database that responds has a release of region {region}"
        hint = f"see the databases with {NO_ANSWER}: one of them may have it"
    return FleetRow(
        "", row.group, row.environment, None, row.name, label, Severity.IDLE, "○", Urgency.PLANNED,
        region=_format_region(region, row.region_names), region_order=row.region_names.index(region),
        region_names=row.region_names, error=error, hint=hint,
    )  # fmt: skip


def summarize_fleet(fleet: Fleet, *, is_history: bool = False) -> tuple[str, tuple[str, ...]]:
    """One line: what there is, and what needs somebody, the most urgent first; empty where nothing does. What a release
    needs whose database does not respond is not known: its database is counted.

    Args:
        is_history: the releases that have ended are listed.
    """
    active = [row for row in fleet.rows if row.release_id is not None and not row.has_ended and not row.is_last_known]
    broken = sum(row.urgency is Urgency.BROKEN for row in active)
    needed = sum(row.urgency is Urgency.NEEDS_PERSON for row in active)
    rolled_back = sum(row.urgency is Urgency.ROLLED_BACK and not row.is_last_known for row in fleet.active)
    databases = count_noun(fleet.databases, "database")
    needs = []
    if broken:
        needs.append(f"{broken} broken")
    if needed:
        needs.append(f"{needed} need{'s' if needed == 1 else ''} you")
    if rolled_back:
        needs.append(f"{rolled_back} rolled back")
    if fleet.unanswered:
        needs.append(f"{fleet.unanswered} not responding")
    if fleet.pending:
        needs.append(f"{fleet.pending} connecting")
    if is_history:
        return f"{count_noun(len(fleet.ended), 'ended release')}, {_unread_databases(fleet) or databases}", tuple(needs)
    # As many as there are rows: ended regions of a plan that others still run are listed, too.
    total = count_noun(sum(row.release_id is not None for row in fleet.active), "release")
    missing = [row.label for row in fleet.active if row.release_id is None and not row.database]
    not_known = missing.count(REGION_NOT_KNOWN)
    none = len(missing) - not_known
    others = f"{count_noun(none, 'region')} without one, " if none else ""
    others += f"{count_noun(not_known, 'region')} not known, " if not_known else ""
    return f"{total}, {others}{databases}", tuple(needs)


def _unread_databases(fleet: Fleet) -> str:
    """``not known for 1 of 2 databases``; empty where all have answered."""
    unread = fleet.unanswered + fleet.pending
    return f"not known for {unread} of {count_noun(fleet.databases, 'database')}" if unread else ""


def summarize_history(fleet: Fleet) -> str:
    """``42 ended releases, 5 rolled back``, and of how many databases that is not known."""
    rolled_back = sum(row.state is ReleaseState.ROLLED_BACK for row in fleet.ended)
    texts = count_noun(len(fleet.ended), "ended release"), f"{rolled_back} rolled back", _unread_databases(fleet)
    return ", ".join(filter(None, texts))


def find_region_row(rows: Iterable[FleetRow], name: str, region: str) -> FleetRow | None:
    """The newest release of a plan in a region."""
    found = [
        row for row in rows if row.name == name and row.release_id is not None and row.region.split(" ")[0] == region
    ]
    return max(found, key=lambda row: (not row.has_ended, row.created_at or 0.0), default=None)


def row_to_dict(row: FleetRow, wall: float) -> Mapping[str, object]:
    """One row for scripts. Keys are only ever added, and what a key means does not change.

    Args:
        wall: this machine's clock, in seconds since the epoch.
    """

    def age(at: float | None) -> float | None:
        seconds = row.seconds_since(at, wall)
        return None if seconds is None else round(seconds, 1)

    return {
        "database": row.database,
        "group": row.group or None,
        "environment": row.environment or None,
        "release": row.name if row.release_id is not None or row.region else None,
        "id": row.release_id,
        "region": row.region.split(" ")[0] or None,
        "strategy": row.strategy or None,
        "state": None if row.state is None else str(row.state),
        "label": row.label,
        "phase": row.phase.split(" ")[0] or None,
        "progress": row.progress or None,
        "share": None if row.share is None else round(row.share, 3),
        "waits_for": row.waits_for or None,
        "waiting_seconds": age(row.waiting_since),
        "guard": None if row.guard is None else str(row.guard),
        "guard_rule": row.guard_rule or None,
        "agent": row.agent or None,
        "has_agent": None if row.release_id is None or row.is_last_known else row.has_agent,
        "age": age(row.created_at),
        "ended_seconds_ago": age(row.finished_at),
        "duration": None if row.duration is None else round(row.duration, 1),
        "rollbacks": row.rollbacks,
        "rollback_seconds": None if row.rollback_seconds is None else round(row.rollback_seconds, 1),
        "cause": row.cause or None,
        "error": row.error or None,
        "hint": row.hint or None,
    }

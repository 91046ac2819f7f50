"""The state of a release, and the rules by which it moves: pure functions from one state to the next.

    planned ──advance──▶ running ──all steps done──▶ waiting ──advance, gates pass──▶ running (next phase) … ──▶ done
                           │  ▲                        │
                      step fails  advance (retry)      │          rollback, from every one of them
                           ▼  │                        ▼
                          failed ──────────────▶ rolling-back ──all undone──▶ rolled-back
                                                    │   ▲
                                               undo fails  rollback (retry)
                                                    ▼   │
                                                rollback-failed

Rollback is possible until an irreversible step is done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import Refused
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.gate import GateReading, Verdict, unread_gate
from zdd_tui.model.release.strategy import GateSpec, PhaseSpec, StepSpec, Strategy
from zdd_tui.model.release.table_pause import TablePause
from zdd_tui.model.tuning import Tuning, explain_unfilled_table

LATE_SECONDS = 30.0
"""Seconds from the confirmation of a command after which it is late: it takes effect only where the release still is
where the operator saw it, and its outcome says that it was late."""


class ReleaseState(StrEnum):
    """The state of a release."""

    PLANNED = "planned"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    ROLLING_BACK = "rolling-back"
    ROLLBACK_FAILED = "rollback-failed"
    ROLLED_BACK = "rolled-back"
    DONE = "done"

    @property
    def text(self) -> str:
        """The state in a sentence."""
        return self.replace("-", " ")

    @property
    def has_ended(self) -> bool:
        return self in (ReleaseState.ROLLED_BACK, ReleaseState.DONE)

    @property
    def is_rolling_back(self) -> bool:
        return self in (ReleaseState.ROLLING_BACK, ReleaseState.ROLLBACK_FAILED, ReleaseState.ROLLED_BACK)


class StepStatus(StrEnum):
    """The state of a step.

    ``started`` and ``undoing`` are written before the effect, so the effect may or may not exist. ``suspended`` has
    started and does not run: it waits for its table to be resumed, or for its turn.
    """

    PENDING = "pending"
    STARTED = "started"
    SUSPENDED = "suspended"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDO_FAILED = "undo-failed"
    UNDONE = "undone"

    @property
    def has_effect(self) -> bool:
        """The step may have an effect that is not undone."""
        return self not in (StepStatus.PENDING, StepStatus.UNDONE)


class CommandKind(StrEnum):
    """The commands that an operator or the guard can send to the agent."""

    ADVANCE = "advance"
    PAUSE = "pause"
    RESUME = "resume"
    ROLLBACK = "rollback"
    TUNE = "tune"


@dataclass(frozen=True, slots=True)
class Precondition:
    """What the operator saw when confirming; rechecked before the command takes effect (architecture.md, invariant 10).

    Attributes:
        objects: name and uid of each Deployment that was there.
    """

    plan_hash: str
    state: ReleaseState
    phase: int
    objects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command as the rules see it.

    Attributes:
        expected: None only where nothing was confirmed, as for ``pause``.
        typed: what the operator typed as the release's name.
        tuning: for ``tune``, the limits that differ from the plan's from now on.
        confirmed_at: when the operator confirmed it, by the database's clock; None for what nobody confirmed.
        table: of ``pause`` and ``resume``, the one table that is meant; empty for the whole release.
        actor: who sent it, as shown.
        waits: of a paused table, the names of the fill steps of other tables that must wait for it.
    """

    kind: CommandKind
    expected: Precondition | None = None
    typed: str | None = None
    tuning: Tuning = ()
    confirmed_at: float | None = None
    table: str = ""
    actor: str = ""
    waits: tuple[str, ...] = ()

    def seconds_late(self, now: float) -> float:
        """Seconds since the confirmation of a command that is late; 0 for one that is not.

        Args:
            now: seconds since the epoch, by the database's clock.
        """
        waited = 0.0 if self.confirmed_at is None else now - self.confirmed_at
        return waited if waited > LATE_SECONDS else 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """A release between two changes of its state.

    Attributes:
        phase: index into the strategy's phases; -1 before the first.
        statuses: one per step of the strategy, in order.
        error: why it is failed or rollback-failed; else empty.
        tuning: the limits of the backfill that an operator has changed; see :mod:`zdd_tui.model.tuning`.
        unmet: the standing conditions that do not hold, or are unknown; breaches first.
        table_pauses: the tables whose backfill is paused by itself, the longest first.
    """

    name: str
    plan_hash: str
    strategy: Strategy
    state: ReleaseState = ReleaseState.PLANNED
    phase: int = -1
    statuses: tuple[StepStatus, ...] = ()
    paused: bool = False
    error: str = ""
    tuning: Tuning = ()
    unmet: tuple[ConditionReading, ...] = ()
    table_pauses: tuple[TablePause, ...] = ()

    def __post_init__(self) -> None:
        if not self.statuses:
            object.__setattr__(self, "statuses", (StepStatus.PENDING,) * len(self.strategy.steps))

    @property
    def breach(self) -> ConditionReading | None:
        """The first standing condition that stops progress; a rollback continues."""
        found = self.last_breach
        return found if found is not None and found.status.stops_progress else None

    @property
    def last_breach(self) -> ConditionReading | None:
        """The same; where no agent is known to work, the one that was reported last."""
        if self.state not in (ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.FAILED):
            return None
        return next((reading for reading in self.unmet if reading.last_status.stops_progress), None)

    @property
    def current_phase(self) -> PhaseSpec | None:
        return self.strategy.phases[self.phase] if 0 <= self.phase < len(self.strategy.phases) else None

    @property
    def position(self) -> int:
        """Index of the phase where it is: in a rollback, that of the newest phase with an effect that is left; -1
        before the first, and where nothing is left."""
        if not self.state.is_rolling_back:
            return self.phase
        left = (
            at
            for at, phase in enumerate(self.strategy.phases)
            if any(self.status(step.name).has_effect for step in phase.steps)
        )
        return max(left, default=-1)

    @property
    def gates(self) -> tuple[GateSpec, ...]:
        """The gates before the next phase: the current phase's, or those before the first."""
        return self.current_phase.gates if self.current_phase else self.strategy.entry

    @property
    def next_phase(self) -> PhaseSpec | None:
        following = self.phase + 1
        return self.strategy.phases[following] if following < len(self.strategy.phases) else None

    def status(self, step: str) -> StepStatus:
        return self.statuses[self._index(step)]

    def with_status(self, step: str, status: StepStatus) -> "Release":
        index = self._index(step)
        return replace(self, statuses=(*self.statuses[:index], status, *self.statuses[index + 1 :]))

    def _index(self, step: str) -> int:
        for index, spec in enumerate(self.strategy.steps):
            if spec.name == step:
                return index
        raise KeyError(step)


@dataclass(frozen=True, slots=True)
class PendingStep:
    """The step that the runner runs or undoes next."""

    step: StepSpec
    direction: Literal["run", "undo"]


# --- commands -----------------------------------------------------------------------------------------------


def apply_command(release: Release, command: Command, gates: Mapping[str, GateReading], now: float) -> Release:
    """The release after a command.

    Args:
        gates: the newest reading of each gate, by name.
        now: seconds since the epoch, by the clock that stamped the readings.

    Raises:
        Refused: the rules do not allow it; the message says why and what helps.
    """
    if command.expected is not None:
        _check_precondition(release, command, command.expected)
    if release.state.has_ended:
        raise explain_ended(release)
    if late := command.seconds_late(now):
        _check_late(release, command, late)
    match command.kind:
        case CommandKind.ADVANCE:
            return _advance(release, command, gates, now)
        case CommandKind.ROLLBACK:
            return _rollback(release)
        case CommandKind.PAUSE:
            return _pause(release, command, now)
        case CommandKind.RESUME:
            return _resume(release, command.table)
        case CommandKind.TUNE:
            return _tune(release, command.tuning)


def explain_ended(release: Release, plan: str = "PLAN", region: str = "") -> Refused:
    """Why a release that has ended takes no command, and what begins another: the same on screens and command line.

    Args:
        plan: the plan's name in the command that is shown.
        region: of the release, for a plan with several.
    """
    where = f" in region {region}" if region else ""
    no_undo = "; the old data is dropped, so rollback is not possible" if release.state is ReleaseState.DONE else ""
    text = f"release {release.name} has ended{where}: it is {release.state.text}{no_undo}"
    return Refused(text, f"to begin another: zdd agent --new {plan}")


def _check_precondition(release: Release, command: Command, expected: Precondition) -> None:
    if expected.plan_hash != release.plan_hash:
        raise Refused("the plan is not the one that was confirmed", "review the plan and retry")
    # A rollback undoes whatever was done, so it is not refused because a step ended while the dialog was open. Nor
    # does a limit, or the pause of one table, depend on which step runs.
    at_any_time = command.kind in (CommandKind.ROLLBACK, CommandKind.TUNE) or command.table
    if not at_any_time and (expected.state, expected.phase) != (release.state, release.phase):
        was = describe_position(release.strategy, expected.state, expected.phase)
        now = describe_position(release.strategy, release.state, release.phase)
        raise Refused(
            f"state changed since you confirmed: it was {was}, it is {now}",
            "review and retry",
        )


def _check_late(release: Release, command: Command, late: float) -> None:
    """A pause is safe at any time. Anything else must find the phase that the operator saw."""
    expected = command.expected
    if command.kind is CommandKind.PAUSE or (expected is not None and expected.phase == release.phase):
        return
    now = describe_position(release.strategy, release.state, release.phase)
    was = "" if expected is None else f" in {describe_position(release.strategy, expected.state, expected.phase)}"
    raise Refused(f"expired: confirmed {format_duration(late)} ago{was}; the release is {now}", "review and retry")


def describe_position(strategy: Strategy, state: ReleaseState, phase: int) -> str:
    """``running in cutover``; the state alone before the first phase."""
    return f"{state} in {strategy.phases[phase].name}" if phase >= 0 else str(state)


def _advance(release: Release, command: Command, gates: Mapping[str, GateReading], now: float) -> Release:
    if release.state.is_rolling_back:
        raise Refused("the release is being rolled back", "if its undo failed: zdd rollback PLAN")
    if release.paused:
        raise Refused("the release is paused", "resume it first: zdd resume PLAN")
    if release.breach is not None:
        raise Refused(release.breach.title, release.breach.hint or "wait until the condition holds again")
    if release.state is ReleaseState.RUNNING:
        phase = release.current_phase.name if release.current_phase else "?"
        held = f"resume the table: {release.table_pauses[0].resume_command}" if is_held_by_tables(release) else ""
        raise Refused(f"{phase} is still running", held or "wait for its steps")
    if release.state is ReleaseState.FAILED:
        return replace(release, state=ReleaseState.RUNNING, error="")
    if release.state in (ReleaseState.PLANNED, ReleaseState.WAITING):
        _check_conditions(release)
        _check_gates(release, command, gates, now)
    if release.next_phase is None:
        return replace(release, state=ReleaseState.DONE)
    # A phase without steps waits at once.
    return next_state(replace(release, state=ReleaseState.RUNNING, phase=release.phase + 1, error=""))


GATES_CLOSED, CONDITIONS_UNKNOWN = "gates are not open", "standing conditions cannot be checked"
"""How the refusals begin that only an agent can end."""


def _check_conditions(release: Release) -> None:
    if unknown := [reading for reading in release.unmet if reading.status is ConditionStatus.UNKNOWN]:
        listed = "; ".join(f"{reading.name}: {reading.text}" for reading in unknown)
        raise Refused(f"{CONDITIONS_UNKNOWN}: {listed}", "repeat the advance when they can be read")


def _check_gates(release: Release, command: Command, gates: Mapping[str, GateReading], now: float) -> None:
    if closed := closed_gates(release, gates, now):
        listed = "; ".join(f"{gate.name} {gate.verdict}: {gate.reason}" for gate in closed)
        raise Refused(f"{GATES_CLOSED}: {listed}", "wait until every gate passes")
    if requires_name(release, CommandKind.ADVANCE) and command.typed != release.name:
        phase = release.current_phase.name if release.current_phase else "?"
        raise Refused(
            f"what follows {phase} cannot be undone, and the release's name was not typed",
            f"confirm by typing {release.name} (CLI: --confirm {release.name})",
        )


def _rollback(release: Release) -> Release:
    if is_irreversible(release):
        raise Refused(
            "the old data is dropped: rollback is no longer possible",
            "write a new plan to change the schema again",
        )
    # A release of which nothing has run has nothing to undo, and ends at once.
    return next_state(replace(release, state=ReleaseState.ROLLING_BACK, paused=False, error="", table_pauses=()))


def is_irreversible(release: Release) -> bool:
    """An irreversible step is done. One that has started or failed had no effect: see StepSpec."""
    return any(
        spec.irreversible and status is StepStatus.DONE
        for spec, status in zip(release.strategy.steps, release.statuses, strict=True)
    )


def _pause(release: Release, command: Command, now: float) -> Release:
    if release.state.is_rolling_back:
        raise Refused(f"the release is {release.state.text}: there is nothing to pause", _what_remains(release))
    if command.table:
        return _pause_table(release, command, now)
    if release.paused:
        raise Refused("the release is paused already", "resume it: zdd resume PLAN")
    return replace(release, paused=True)


def _what_remains(release: Release) -> str:
    """The hint of a command that comes too late."""
    if release.state is ReleaseState.ROLLBACK_FAILED:
        return "repeat the rollback: zdd rollback PLAN"
    return "watch the rollback: zdd status PLAN"


def _resume(release: Release, table: str) -> Release:
    if table:
        return _resume_table(release, table)
    if not release.paused:
        tables = [pause.resume_command for pause in release.table_pauses]
        hint = f"resume the table: {tables[0]}" if tables else "see what it waits for: zdd status PLAN"
        raise Refused("the release is not paused", hint)
    return replace(release, paused=False)


def _pause_table(release: Release, command: Command, now: float) -> Release:
    table, tables = command.table, release.strategy.filled_tables
    if table not in tables:
        raise Refused(*explain_unfilled_table(table, tables, "pause the release: zdd pause PLAN"))
    if found := find_table_pause(release, table):
        raise Refused(f"{found.title} already", f"resume it: {found.resume_command}")
    if table not in unfilled_tables(release):
        raise Refused(f"table {table} is filled: there is nothing to pause", "see what comes next: zdd status PLAN")
    return replace(release, table_pauses=(*release.table_pauses, TablePause(table, command.actor, now, command.waits)))


def _resume_table(release: Release, table: str) -> Release:
    if find_table_pause(release, table) is None:
        paused = [pause.resume_command for pause in release.table_pauses]
        hint = f"the paused one: {paused[0]}" if paused else "see what the release waits for: zdd status PLAN"
        raise Refused(f"table {table} is not paused", hint)
    return replace(release, table_pauses=tuple(each for each in release.table_pauses if each.table != table))


def find_table_pause(release: Release, table: str) -> TablePause | None:
    """The pause of a table; None where it is not paused."""
    return next((each for each in release.table_pauses if each.table == table), None)


_TABLE = "table"
TABLE_PAUSED = f"{CommandKind.PAUSE}: {_TABLE} "
"""Beginning of the audit's message of the pause of one table."""


def describe_table_pause(release: Release, table: str) -> str:
    """The outcome of a ``pause`` or ``resume`` of one table: what holds and what goes on."""
    pause = find_table_pause(release, table)
    if pause is None:
        return f"{_TABLE} {table} is resumed{'; the release is paused' if release.paused else ''}"
    waiting = [step.label for step in release.strategy.steps if step.name in pause.waits]
    waits = f"; waiting for it: {', '.join(waiting)}" if waiting else ""
    return f"{_TABLE} {table} is paused{waits}; the release continues where it does not need it"


def unfilled_tables(release: Release) -> tuple[str, ...]:
    """The tables whose fills are not all done, in their order."""
    steps = zip(release.strategy.steps, release.statuses, strict=True)
    left = {step.table for step, status in steps if status is not StepStatus.DONE}
    return tuple(table for table in release.strategy.filled_tables if table in left)


def _tune(release: Release, tuning: Tuning) -> Release:
    phases = [phase.name for phase in release.strategy.phases]
    if "backfill" not in phases:
        raise Refused(
            f"a {release.strategy.name} release has no backfill: there are no limits to change",
            "see what it does: zdd status PLAN",
        )
    if release.state.is_rolling_back:
        raise Refused(f"the release is {release.state.text}: its backfill will not run", _what_remains(release))
    if not _has_rows_to_write(release):
        raise Refused(
            "the backfill is complete: its limits have no effect any more", "see what comes next: zdd status PLAN"
        )
    return replace(release, tuning=tuning)


def _has_rows_to_write(release: Release) -> bool:
    """Whether a backfill is still to end; a breach may set one that has ended back."""
    last = max(at for at, phase in enumerate(release.strategy.phases) if phase.writes_rows)
    steps = release.strategy.phases[last].steps
    is_left = any(release.status(step.name) is not StepStatus.DONE for step in steps)
    return release.phase < last or (release.phase == last and is_left)


def is_before_backfill(release: Release) -> bool:
    """Whether changed limits have no effect yet, because no phase that writes rows has begun."""
    return release.phase < min(at for at, phase in enumerate(release.strategy.phases) if phase.writes_rows)


# --- gates --------------------------------------------------------------------------------------------------


def current_readings(release: Release, gates: Mapping[str, GateReading], now: float) -> tuple[GateReading, ...]:
    """The gates of the current phase, or those before the first, as they count now."""
    return tuple(gates.get(spec.name, unread_gate(spec.name, now)).as_of(now) for spec in release.gates)


def closed_gates(release: Release, gates: Mapping[str, GateReading], now: float) -> tuple[GateReading, ...]:
    """Those that are not open: everything but pass closes a gate, pending included."""
    return tuple(reading for reading in current_readings(release, gates, now) if reading.verdict is not Verdict.PASS)


# --- steps --------------------------------------------------------------------------------------------------


def next_pending_step(release: Release) -> PendingStep | None:
    """The step to run or undo now; None when the release waits, is paused or stopped by a breach, or has ended; or when
    paused tables hold every step that is left."""
    can_run = release.state is ReleaseState.RUNNING and not release.paused and release.breach is None
    if can_run:
        held = held_steps(release)
        following = next((spec for spec in _steps_left(release) if spec.name not in held), None)
        return None if following is None else PendingStep(following, "run")
    if release.state is ReleaseState.ROLLING_BACK:
        return next((PendingStep(spec, "undo") for spec in steps_to_undo(release)), None)
    return None


def _steps_left(release: Release) -> tuple[StepSpec, ...]:
    """The steps of the current phase that are not done."""
    phase = release.current_phase
    statuses = {spec.name: status for spec, status in zip(release.strategy.steps, release.statuses, strict=True)}
    return tuple(spec for spec in (phase.steps if phase else ()) if statuses[spec.name] is not StepStatus.DONE)


def held_steps(release: Release) -> frozenset[str]:
    """The names of the steps of the current phase that do not run because a table is paused: its own fills, the fills
    that depend on them, and every later step that is no fill: only a fill may run before an earlier step."""
    paused = {pause.table for pause in release.table_pauses}
    waiting = {name for pause in release.table_pauses for name in pause.waits}
    held: set[str] = set()
    for spec in _steps_left(release) if paused else ():
        if spec.table in paused or (held and (not spec.fills_rows or spec.name in waiting)):
            held.add(spec.name)
    return frozenset(held)


def is_held_by_tables(release: Release) -> bool:
    """Whether nothing of the running phase can run until a table is resumed."""
    if release.state is not ReleaseState.RUNNING or not release.table_pauses:
        return False
    left = {spec.name for spec in _steps_left(release)}
    return bool(left) and held_steps(release) >= left


def current_step(release: Release) -> StepSpec | None:
    """The step of the current phase that runs, or comes next; of those that paused tables hold the first; None where
    none is left."""
    left, held = _steps_left(release), held_steps(release)
    started = (spec for spec in left if release.status(spec.name) is StepStatus.STARTED)
    return next(iter((*started, *(spec for spec in left if spec.name not in held), *left)), None)


def steps_to_undo(release: Release) -> tuple[StepSpec, ...]:
    """The steps that a rollback would undo now, in that order."""
    statuses = dict(zip(release.strategy.steps, release.statuses, strict=True))
    return tuple(spec for spec in release.strategy.undo_order if statuses[spec].has_effect)


def mark_step_started(release: Release, pending: PendingStep) -> Release:
    """The state that is stored before the effect."""
    _require_pending(release, pending)
    if pending.direction == "undo":
        return release.with_status(pending.step.name, StepStatus.UNDOING)
    for spec in _steps_left(release):  # an agent that was killed has left it so
        if release.status(spec.name) is StepStatus.STARTED:
            release = release.with_status(spec.name, StepStatus.SUSPENDED)
    return release.with_status(pending.step.name, StepStatus.STARTED)


def mark_step_suspended(release: Release, pending: PendingStep) -> Release:
    """The state that is stored when a fill has stopped between two batches, because its table is paused."""
    return release.with_status(pending.step.name, StepStatus.SUSPENDED)


def suspend_held_steps(release: Release) -> Release:
    """The state of an agent that begins: of a step that a paused table holds, nothing runs."""
    for name in held_steps(release):
        if release.status(name) is StepStatus.STARTED:
            release = release.with_status(name, StepStatus.SUSPENDED)
    return release


def mark_step_finished(release: Release, pending: PendingStep) -> Release:
    """The state that is stored after the effect: the last step of a phase makes it wait, the last undo ends it."""
    after = release.with_status(pending.step.name, StepStatus.DONE if pending.direction == "run" else StepStatus.UNDONE)
    # The pause of a table that is filled holds nothing: it may have come with the last batch.
    left = unfilled_tables(after) if after.table_pauses else ()
    return next_state(replace(after, table_pauses=tuple(each for each in after.table_pauses if each.table in left)))


def mark_step_failed(release: Release, pending: PendingStep, error: str) -> Release:
    """The state that is stored when a step or its undo failed."""
    if pending.direction == "run":
        return replace(
            release.with_status(pending.step.name, StepStatus.FAILED), state=ReleaseState.FAILED, error=error
        )
    return replace(
        release.with_status(pending.step.name, StepStatus.UNDO_FAILED), state=ReleaseState.ROLLBACK_FAILED, error=error
    )


def next_state(release: Release) -> Release:
    """The state once no step is left: a running phase waits, a rollback has ended; else the same release."""
    if release.state is ReleaseState.RUNNING and release.current_phase is not None:
        is_done = all(release.status(spec.name) is StepStatus.DONE for spec in release.current_phase.steps)
        return replace(release, state=ReleaseState.WAITING) if is_done else release
    if release.state is ReleaseState.ROLLING_BACK and not any(status.has_effect for status in release.statuses):
        return replace(release, state=ReleaseState.ROLLED_BACK)
    return release


def complete_if_open(release: Release, gates: Mapping[str, GateReading], now: float) -> Release:
    """Ends a release whose last phase is complete and whose gates pass: that needs no command."""
    is_last = release.state is ReleaseState.WAITING and release.next_phase is None
    if is_last and not release.unmet and not closed_gates(release, gates, now):
        return replace(release, state=ReleaseState.DONE)
    return release


def _require_pending(release: Release, pending: PendingStep) -> None:
    if next_pending_step(release) != pending:
        verb = "run" if pending.direction == "run" else "undone"
        raise Refused(f"{pending.step.name} is not the step to be {verb} now", "see which step is: zdd status PLAN")


def requires_name(release: Release, kind: CommandKind) -> bool:
    """Whether a command takes effect only with the release's name typed: what follows the phase cannot be undone."""
    leaves_phase = kind is CommandKind.ADVANCE and release.state is ReleaseState.WAITING
    return leaves_phase and release.current_phase is not None and release.current_phase.typed_confirm

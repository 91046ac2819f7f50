"""What is stored about a release besides its state: audit, commands, lease, steps, gates, guard, backfill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Backfill, BackfillOfTables, short_table_name
from zdd_tui.model.plan.guard import GuardAction, MetricUnit
from zdd_tui.model.release.condition import ConditionReading
from zdd_tui.model.release.gate import GateReading, Verdict, describe_withdrawn
from zdd_tui.model.release.state import Command, CommandKind, Precondition, Release, StepStatus
from zdd_tui.model.release.witness import NOTHING_RECORDED, WitnessRecord
from zdd_tui.model.tuning import Tuning, effective_limits


@dataclass(frozen=True, slots=True)
class Actor:
    """A person, the agent or the guard, and the host.

    Attributes:
        name: as the program gave it.
        role: the database role that sent the command, by the server; empty for what the agent itself does.
    """

    name: str
    host: str
    role: str = ""

    def __str__(self) -> str:
        """``ana@bastion``, or ``ana@bastion as app`` where the server knows another name."""
        return f"{self.name}@{self.host}{f' as {self.role}' if self.role not in ('', self.name) else ''}"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the append-only audit.

    Attributes:
        at: seconds since the epoch, by the database's clock.
        kind: `command`, `refused`, `step`, `phase`, `gate`, `backfill`, `lease`, `wait`, `session`, `error`.
        message: what happened.
        reason: the given reason, or empty.
    """

    id: int
    at: float
    actor: Actor
    kind: str
    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A line for the audit, not yet written.

    Attributes:
        actor: None for the agent itself.
    """

    kind: str
    message: str
    reason: str = ""
    actor: Actor | None = None


@dataclass(frozen=True, slots=True)
class StepChange:
    """Changes of a step besides its status; None leaves the stored value unchanged."""

    name: str
    detail: dict[str, Any] | None = None
    note: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command on its way from the key or the command line to the agent.

    Attributes:
        reason: for the audit.
        expected: what the operator saw when confirming; None where nothing was confirmed.
        typed: the release's name as typed, where the confirmation requires it.
        targets: the lines that the confirmation showed as what will run.
        unrehearsed: the first advance may start without a rehearsal; `reason` says why.
        tuning: for ``tune``, new limits of the backfill by name, see :mod:`zdd_tui.model.tuning`.
        request_id: the same in every attempt to send it, so that it is stored once; empty for none.
        confirmed_at: when the operator confirmed it, in seconds since the epoch by the database's clock; None for what
            nobody confirmed, such as a command of the guard.
        table: of ``pause`` and ``resume``, the one table that is meant; empty for the whole release.
    """

    kind: CommandKind
    reason: str = ""
    expected: Precondition | None = None
    typed: str | None = None
    targets: tuple[str, ...] = ()
    unrehearsed: bool = False
    tuning: Mapping[str, object] | None = None
    request_id: str = field(default="", compare=False)
    confirmed_at: float | None = field(default=None, compare=False)
    table: str = ""


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command in the queue, or its outcome.

    Attributes:
        status: `queued`, `done` or `refused`.
        outcome: why it was refused, or what it did.
    """

    id: int
    request: CommandRequest
    actor: Actor
    created_at: float
    status: str = "queued"
    outcome: str = ""

    @property
    def kind(self) -> CommandKind:
        return self.request.kind

    @property
    def to_command(self) -> Command:
        """The command for the rules."""
        request = self.request
        return Command(
            self.kind,
            request.expected,
            request.typed,
            confirmed_at=request.confirmed_at,
            table=short_table_name(request.table),
            actor=str(self.actor),
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for a release.

    Attributes:
        epoch: grows with every holder; unique in the database, not only for this release.
        age: seconds since the holder renewed it, by the database's clock.
    """

    epoch: int
    holder: str
    host: str
    pid: int
    age: float = field(compare=False)
    ttl: float

    @property
    def is_live(self) -> bool:
        return bool(self.holder) and self.age <= self.ttl


WAITS_NOTE = "waits for "
"""Beginning of the note of a step that waits until a system responds, however long that takes; before its name and a
colon."""

RETRYING_NOTE = "retrying for at most "
"""Beginning of the note of a step that repeats what a system refuses, before the limit."""

WAITING_NOTE = "waiting for "
"""Beginning of the note of a step that waits for sessions of others, before these."""


AGENT_WAITS = "agent waits for "
"""Beginning of the event of an agent that waits where no step runs, before the system and the reason."""

AGENT_CONTINUES = "agent no longer waits for "
"""Beginning of the event that ends it, before the system."""

LEASE_ACQUIRED = "acquired the lease"
"""Beginning of the event with which the session of an agent begins."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step as stored.

    Attributes:
        detail: what the step's undo needs, such as the image before the rollout.
        note: what it does now, such as the PIDs that block a lock.
        detail_error: why the stored detail cannot be used; else empty.
    """

    name: str
    status: StepStatus
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    error: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    detail_error: str = ""

    @property
    def waits_for(self) -> str:
        """The system for which it waits, by its note; empty where it waits for none."""
        return self.note.removeprefix(WAITS_NOTE).partition(":")[0] if self.note.startswith(WAITS_NOTE) else ""

    @property
    def is_retrying(self) -> bool:
        """It repeats what a system refuses, and fails if that lasts."""
        return self.note.startswith(RETRYING_NOTE)

    @property
    def waits_for_sessions(self) -> bool:
        """Its note says that sessions of others hold it up."""
        return self.note.startswith(WAITING_NOTE)

    @property
    def gets_no_further(self) -> bool:
        """It waits, or repeats what is refused: nothing moves."""
        return bool(self.waits_for) or self.is_retrying or self.waits_for_sessions

    def require_detail(self) -> dict[str, Any]:
        """The detail, for what must not go on without it: an undo would leave something behind and report success.

        Raises:
            StepFailed: it cannot be used.
        """
        if self.detail_error:
            raise StepFailed(
                f"the detail of step {self.name} cannot be used: {self.detail_error}",
                "correct the detail of that step in the zdd schema, then retry",
            )
        return self.detail


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A committed batch.

    Attributes:
        at: seconds since the epoch, by the agent's clock.
        rows: keys that it read.
        seconds: duration up to its checkpoint.
    """

    at: float
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BackfillRecord:
    """The backfill as stored.

    Attributes:
        status: `prepared`, `running`, `paused`, `done`, `cancelled`.
        rows_total: estimate from the statistics until ``done``.
        seconds: working time without pauses.
        rate: rows a second over the last seconds.
        throttle: name of the active signal, or empty.
        updated_at: when the last batch or chunk was committed, or the status changed, in seconds since the epoch by
            the database's clock.
        mismatches: of the last verification; None before it.
        recent: the last batches (at most 40), oldest first.
        started_at: first start of the batches, in seconds since the epoch by the database's clock; None before it.
        ended_at: when all rows were copied, as `started_at`; None before it.
        waits: why nothing was written and for how many seconds: ``paused`` or a throttle's name, the longest first.
        job: name of the step that fills a table; empty for the rows of a change.
    """

    status: str
    rows_total: int
    rows_done: int = 0
    batches: int = 0
    batch_rows: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    throttle: str = ""
    failed_rows: int = 0
    verified_rows: int = 0
    mismatches: int | None = None
    verified: bool = False
    updated_at: float = 0.0
    recent: tuple[BatchRecord, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    waits: tuple[tuple[str, float], ...] = ()
    job: str = ""

    def idle_seconds(self, now: float) -> float:
        """Seconds since something was written last, or since the status changed.

        Args:
            now: seconds since the epoch, by the database's clock.
        """
        return max(0.0, now - self.updated_at)

    @property
    def wall_seconds(self) -> float | None:
        """Seconds from the first batch to the last, waits included; None until all rows are copied."""
        return None if self.started_at is None or self.ended_at is None else max(0.0, self.ended_at - self.started_at)

    def describe_duration(self) -> str:
        """``in 1m45s, paused 50s, replica lag 12s``; empty until all rows are copied. A wait below 1 s is left out."""
        if (wall := self.wall_seconds) is None:
            return ""
        waits = [f"{name} {format_duration(seconds)}" for name, seconds in self.waits if seconds >= 1]
        return ", ".join([f"in {format_duration(wall)}", *waits])


def mark_paused_fills(fills: Sequence[BackfillRecord], release: Release) -> tuple[BackfillRecord, ...]:
    """The fills; of a table that is paused none runs, also where an agent was killed before it could say so."""
    paused = {pause.table for pause in release.table_pauses}
    jobs = {step.name for step in release.strategy.steps if step.table in paused}
    return tuple(
        replace(fill, status="paused") if fill.job in jobs and fill.status == "running" else fill for fill in fills
    )


def combine_backfills(fills: Sequence[BackfillRecord]) -> BackfillRecord | None:
    """Several backfills, one after the other, as one: sums, with rate, throttle and batches of the current one.

    Args:
        fills: in their order; one that is paused may be before one that runs.
    """
    if not fills:
        return None
    left = [fill for fill in fills if fill.status not in ("done", "cancelled")]
    current = next((fill for fill in left if fill.status == "running"), left[0] if left else fills[-1])
    statuses = {fill.status for fill in fills}
    status = current.status
    if status == "prepared" and statuses & {"done", "cancelled"}:
        status = "running"  # between two of them
    waits: dict[str, float] = {}
    for fill in fills:
        for name, seconds in fill.waits:
            waits[name] = waits.get(name, 0.0) + seconds
    started = [fill.started_at for fill in fills if fill.started_at is not None]
    ended = [fill.ended_at for fill in fills if fill.ended_at is not None]
    return replace(
        current,
        status=status,
        rows_total=sum(fill.rows_total for fill in fills),
        rows_done=sum(fill.rows_done for fill in fills),
        batches=sum(fill.batches for fill in fills),
        seconds=sum(fill.seconds for fill in fills),
        failed_rows=sum(fill.failed_rows for fill in fills),
        updated_at=max(fill.updated_at for fill in fills),
        started_at=min(started, default=None),
        ended_at=max(ended) if len(ended) == len(fills) else None,
        waits=tuple(sorted(waits.items(), key=lambda wait: -wait[1])),
    )


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that the backfill could not copy.

    Attributes:
        key: the values of the key's columns, as text.
        at: seconds since the epoch, by the database's clock.
        job: name of the step that fills the table; empty for the rows of a change.
    """

    key: list[str]
    reason: str
    at: float
    job: str = ""


@dataclass(frozen=True, slots=True)
class RollbackStart:
    """The accepted command that started the rollback of a release; a later retry is another command.

    Attributes:
        reason: as given, or empty; of the guard its numbers.
        started_at: seconds since the epoch, by the database's clock.
    """

    actor: Actor
    reason: str
    started_at: float


@dataclass(frozen=True, slots=True)
class GuardReading:
    """The verdict of a guard rule, with its numbers.

    Attributes:
        reason: one line with the numbers.
        unit: of value, baseline and limit.
        value: None where there was none.
        baseline: the old version's value at the same time, for a rule that compares; else None.
        limit: the highest allowed value; of a comparison it follows the baseline.
        samples: number of requests, probes or pods behind the value.
        series: the last values, oldest first; None where there was none.
        action: the rule's action when it fails.
        should_act: the guard should take `action` now: the limit was broken for as long as `for` says, or there was no
            data for as long as `no_data` says.
        is_applicable: False while there is nothing to evaluate, such as a comparison while only one version runs; such
            a reading closes no gate.
        action_taken: the guard's action about the present breach: `rollback`, `pause`, `alert` or empty.
        observed_at: time of the oldest data that it rests on, not that of the check; seconds since the epoch, by the
            database's clock.
        max_age: seconds after which the reading counts as unknown.
    """

    rule: str
    verdict: Verdict
    reason: str
    unit: MetricUnit = MetricUnit.NUMBER
    value: float | None = None
    baseline: float | None = None
    limit: float | None = None
    samples: int = 0
    series: tuple[float | None, ...] = ()
    action: GuardAction = GuardAction.ALERT
    should_act: bool = False
    is_applicable: bool = True
    action_taken: str = ""
    observed_at: float = 0.0
    max_age: float = 10.0

    @property
    def is_old_above_limit(self) -> bool:
        """The rule is about the new version, which does not run, and the old one is above its limit now. The guard does
        not act on that."""
        is_known = not self.is_applicable and self.verdict is Verdict.INCONCLUSIVE and self.value is None
        return is_known and self.baseline is not None and self.limit is not None and self.baseline > self.limit

    def age(self, now: float) -> float:
        return max(0.0, now - self.observed_at)

    def as_of(self, now: float) -> "GuardReading":
        """The reading as it counts now: a stale one is unknown, and the guard does not act on it."""
        if self.age(now) <= self.max_age:
            return self
        is_unknown = self.verdict is Verdict.UNKNOWN
        return replace(
            self,
            verdict=Verdict.UNKNOWN,
            reason=self.reason if is_unknown else f"STALE {format_duration(self.age(now))}: {self.reason}",
            should_act=False,
            is_applicable=True,
        )

    def withdrawn(self, why: str) -> "GuardReading":
        """The reading of an agent that is not known to work; see :meth:`GateReading.withdrawn`."""
        if self.verdict is Verdict.UNKNOWN:
            return self
        reason = describe_withdrawn(why, self.verdict, self.reason)
        return replace(self, verdict=Verdict.UNKNOWN, reason=reason, should_act=False, is_applicable=True)


@dataclass(frozen=True, slots=True)
class MetricsProbe:
    """The newest probe of the metrics server, which the agent makes between the evaluations of the guard's rules.

    Attributes:
        answered_at: when the server last responded to a probe, in seconds since the epoch by the database's clock; None
            where it never did.
        error: why the newest probe failed; empty where the server has responded.
    """

    answered_at: float | None = field(compare=False)
    error: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """A release as stored, read in one snapshot. Two records are equal where only time has passed.

    Attributes:
        now: when it was read, by the database's clock.
        guard: the newest reading of each rule of the guard, ordered by name.
        cause: why the guard rolled the release back or paused it, with its numbers; else empty.
        plan_limits: the plan's own limits of the backfill; None where the strategy has none.
        region: the one of this release, for a plan with several; else empty.
        owner: who advances the release; empty where the plan names no owner.
        wait_limit: seconds that it may wait; None where the plan sets no limit.
        conditions: standing conditions that were not met at some time, with their newest status.
        witness: who wrote only one side; empty where there is no witness.
        rollback: how the rollback started; None where there was none.
        fills: the backfills of single tables, in their order, where operations fill them; ``backfill`` is their sum.
        metrics_probe: None where the agent makes none, because rules are evaluated as often.
    """

    id: int
    release: Release
    environment: str
    plan_text: str
    created_at: float
    finished_at: float | None
    now: float = field(compare=False)
    steps: tuple[StepRecord, ...]
    gates: dict[str, GateReading]
    events: tuple[Event, ...]
    commands: tuple[StoredCommand, ...]
    lease: Lease | None
    backfill: BackfillRecord | None
    guard: tuple[GuardReading, ...] = ()
    cause: str = ""
    region: str = ""
    plan_limits: Backfill | BackfillOfTables | None = None
    owner: str = ""
    wait_limit: float | None = None
    conditions: tuple[ConditionReading, ...] = ()
    witness: WitnessRecord = NOTHING_RECORDED
    rollback: RollbackStart | None = None
    fills: tuple[BackfillRecord, ...] = ()
    metrics_probe: MetricsProbe | None = None

    @property
    def tuning(self) -> Tuning:
        """The limits that an operator has changed."""
        return self.release.tuning

    @property
    def limits(self) -> Backfill | None:
        """The effective limits of the backfill; None where the strategy has none."""
        return None if self.plan_limits is None else effective_limits(self.plan_limits, self.release.tuning)

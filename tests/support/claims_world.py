"""A small world for the property test of the screens: the systems of a release, an agent, and a dashboard with one
operator. It knows what is really so: when each system was last heard, when the agent last renewed its lease, which rows
the database has. The rules of :mod:`zdd_tui.model.release.claims` have no part in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import uuid4

from tests.support.states import (
    AGENT,
    ANA,
    BACKFILL_STEP,
    EPOCH,
    MONOTONIC,
    PLAN,
    FixedClock,
    backfill,
    board,
    flags,
    pod,
    record,
    release,
    workload,
)
from tests.support.strategy_states import NEW, OLD, guard_situations, pods_of
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress, CommandStage
from zdd_tui.model.activity import DatabaseActivity, Replica, Session
from zdd_tui.model.errors import Refused
from zdd_tui.model.fleet.rows import FleetRow, ReleaseFacts, build_release_row, mark_last_known
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.guard import MetricUnit
from zdd_tui.model.queries import LogLine, LogView, MetricHistory, MetricPoint
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.delivery import RETRY_SECONDS, VALID_SECONDS, Delivery
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import (
    AGENT_CONTINUES,
    AGENT_WAITS,
    LEASE_ACQUIRED,
    CommandRequest,
    Event,
    GuardReading,
    Lease,
    MetricsProbe,
    ReleaseRecord,
    StoredCommand,
)
from zdd_tui.model.release.state import (
    CommandKind,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    complete_if_open,
    mark_step_finished,
    mark_step_started,
    next_pending_step,
)
from zdd_tui.model.tuning import apply_tuning
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import RolloutStatus, WorkloadSnapshot

FRESH = 3.0
"""Seconds within which a loss must be told; and seconds for which a lease holds."""

STEP = 0.25
"""Seconds of one step of the world."""

POSTGRESQL, REDIS, KUBERNETES = "PostgreSQL", "Redis", "Kubernetes"
SECOND = "second Deployment"
"""Its watch, which may be silent alone."""
PROMETHEUS = "Prometheus"
"""The agent alone reads it."""

READ_EVERY = {POSTGRESQL: 1.0, REDIS: 1.0, KUBERNETES: 2.0, SECOND: 2.0}
"""Seconds between two readings of the dashboard."""

ACTIVITY_EVERY, HISTORY_EVERY, FLEET_EVERY = 2.0, 5.0, 2.0
"""Seconds between two readings of the database that are made for one screen."""

LATE_READING = 1.5
"""Seconds after a reading of the release after which the next one is late: what could have changed is not known."""

ATTEMPT, PAUSE = 2.5, 0.5

MAX_AGE, UNWATCHED = 10.0, 6.0
"""Seconds after which a verdict is unknown, and after which the agent itself says that it has no news."""

RARE_RULE, OFTEN_RULE = "p99", "error-rate"
RULE_INTERVALS = {OFTEN_RULE: 1.0, RARE_RULE: 30.0}
"""Seconds between two evaluations of the guard's rules; both query Prometheus."""

RARE_MAX_AGE = 100.0

LATE_RENEWAL = 1.25
"""Seconds without a renewal, of a database that responds, after which an agent is away: it renews each second."""

BREACH = ConditionReading(
    "image users-api", ConditionStatus.BREACHED, "Deployment users-api has image 1", "set by argo"
)

PODS_AT = {0: (4, 0), 10: (4, 1), 25: (3, 1), 50: (2, 2), 100: (4, 0)}
"""Pods of the stable Deployment and of the canary's, by the weight."""


@dataclass
class Attempt:
    """A statement on its way, with the time until which the database accepts it."""

    request: CommandRequest
    started_at: float
    valid_until: float
    answer_is_lost: bool


@dataclass
class World:
    """Times are monotonic seconds.

    Attributes:
        is_canary: the release is a canary with two Deployments; else expand/contract with one.
        unrenewed: seconds for which the database has responded since the agent last renewed its lease.
        missed_at: when it was last overdue.
        watched_at: when the agent last had data of each system.
        waits_since: when an agent took over that waits for Redis before it runs a step; None where none waits.
        is_wait_recorded: the audit says that it waits.
        is_cancelled: a breach has ended the running step; it starts again once nothing holds the release.
        weight: of the canary, as the steps have really set it.
        is_promoted: the stable Deployment has the new image.
        drain_until: when the draining pod must have gone; None where none drains.
        times: when each step began and ended, in seconds since the epoch.
    """

    is_canary: bool = False
    now: float = MONOTONIC
    up: dict[str, bool] = field(default_factory=lambda: dict.fromkeys((*READ_EVERY, PROMETHEUS), True))
    heard_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys(READ_EVERY, MONOTONIC))
    agent_is_alive: bool = True
    started_at: float = MONOTONIC
    renewed_at: float = MONOTONIC - 0.75
    unrenewed: float = 0.0
    missed_at: float = 0.0
    watched_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*READ_EVERY, PROMETHEUS), MONOTONIC))
    has_valid_flags: bool = True
    copies_rows: bool = True
    copied_at: float = MONOTONIC
    rows_done: int = 0
    state: Release = field(init=False)
    ended_at: float | None = None
    rows: list[StoredCommand] = field(default_factory=list)
    waiting_statements: list[Attempt] = field(default_factory=list)
    loses_answers: bool = False
    given_up: set[str] = field(default_factory=set)
    shown: DashboardState = field(init=False)
    progress: CommandProgress | None = None
    request: CommandRequest | None = None
    attempt: Attempt | None = None
    next_attempt_at: float = 0.0
    audit: list[Event] = field(default_factory=list)
    seen_audit: tuple[Event, ...] = ()
    waits_since: float | None = None
    is_wait_recorded: bool = False
    is_cancelled: bool = False
    weight: int = 0
    is_promoted: bool = False
    drain_until: float | None = None
    is_blocked: bool = False
    rule_at: dict[str, float] = field(default_factory=lambda: dict.fromkeys(RULE_INTERVALS, MONOTONIC))
    points: list[MetricPoint] = field(default_factory=list)
    history: Observed[MetricHistory] = field(default_factory=Observed)
    activity: Observed[DatabaseActivity] = field(default_factory=Observed)
    log: LogView = field(default_factory=lambda: LogView(state="following"))
    times: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    fleet_row: FleetRow = field(init=False)
    fleet_at: float = MONOTONIC
    fleet_lease_age: float = 0.0
    fleet_waits: bool = False

    def __post_init__(self) -> None:
        if self.is_canary:
            made = guard_situations()["canary"]
            assert made.release.value is not None
            base = made.release.value.release
            self.weight = 10
            statuses = (*[StepStatus.DONE] * 4, StepStatus.STARTED, *[StepStatus.PENDING] * (len(base.statuses) - 5))
            self.state = replace(base, state=ReleaseState.RUNNING, phase=1, statuses=statuses)
            self.shown = replace(made, flags=Observed(flags(), MONOTONIC), workload=Observed())
            plan = replace(made.plan, has_flags=True)
        else:
            self.state = release(ReleaseState.RUNNING, Phase.BACKFILL, done=BACKFILL_STEP, current=StepStatus.STARTED)
            self.shown = board(record(self.state))
            plan = PLAN
        plan = replace(plan, rule_names=tuple(RULE_INTERVALS), queried_rules=RULE_INTERVALS)
        self.shown = replace(self.shown, plan=plan, previews={})
        for spec, status in zip(self.state.strategy.steps, self.state.statuses, strict=True):
            if status is not StepStatus.PENDING:
                self.times[spec.name] = EPOCH - 41, EPOCH - 1 if status is StepStatus.DONE else None
        self._record_beginning()
        for system in self.watches:
            self._read(system)
        self._read(REDIS)
        self._read(POSTGRESQL)
        self._read_details()

    @property
    def server_now(self) -> float:
        return EPOCH + self.now - MONOTONIC

    @property
    def watches(self) -> tuple[str, ...]:
        return (KUBERNETES, SECOND) if self.is_canary else (KUBERNETES,)

    @property
    def systems(self) -> tuple[str, ...]:
        """What this dashboard reads."""
        return (POSTGRESQL, REDIS, *self.watches)

    def silence(self, system: str) -> float:
        """Seconds since the dashboard has heard of a system."""
        return self.now - self.heard_at[system]

    @property
    def seen(self) -> ReleaseRecord:
        """What the dashboard has read last."""
        assert self.shown.release.value is not None
        return self.shown.release.value

    @property
    def was_away(self) -> bool:
        """There is no agent; or one was missed while the database responded, and is back, until the next reading."""
        is_gone = not self.agent_is_alive and self.now - self.renewed_at > FRESH
        return is_gone or self.unrenewed > LATE_RENEWAL or self.now - self.missed_at <= LATE_READING

    @property
    def had_agent(self) -> bool:
        """By what the dashboard has read last, an agent held the lease then."""
        return self.seen.lease is not None and self.seen.lease.age <= FRESH

    @property
    def context(self) -> RenderContext:
        return RenderContext(self.now, self.server_now, FixedClock())

    # --- what happens --------------------------------------------------------------------------------------------

    def run(self, seconds: float, check: Callable[[], None], observe: Callable[[], None]) -> None:
        """Lets time pass; checks each step while things change, then each second.

        Args:
            observe: what the dashboard does with everything that it receives.
        """
        for number in range(round(seconds / STEP)):
            self.now += STEP
            if self.up[POSTGRESQL]:
                self._run_statements()
                self.unrenewed += STEP
                if self.agent_is_alive:
                    self._run_agent()
                if self.unrenewed > LATE_RENEWAL:
                    self.missed_at = self.now
            for system in self.systems:
                if self.up[system] and self.silence(system) >= READ_EVERY[system]:
                    self._read(system)
            self._read_details()
            self._deliver()
            observe()
            if (number + 1) * STEP <= FRESH + 0.5 or self.now % 1.0 == 0.0:
                check()

    def press(self, kind: CommandKind) -> None:
        if self.progress is not None and self.progress.is_unsent:
            return  # refused by the controller
        is_confirmed = kind in (CommandKind.ROLLBACK, CommandKind.ADVANCE)
        expected = self.shown.build_precondition() if is_confirmed else None
        confirmed_at = self.shown.server_now(self.now)
        tuning = {"speed": 25 if self.seen.tuning else 50} if kind is CommandKind.TUNE else None
        self.request = CommandRequest(
            kind, expected=expected, typed=self.state.name, tuning=tuning, request_id=uuid4().hex,
            confirmed_at=confirmed_at,
        )  # fmt: skip
        limits = self.seen.plan_limits
        target = apply_tuning(limits, self.seen.tuning, tuning) if limits is not None and tuning is not None else None
        self.progress = CommandProgress(
            kind, self.now, expected, request_id=self.request.request_id, target_tuning=target,
        )  # fmt: skip
        self.shown = replace(self.shown, delivery=Delivery(self.request.request_id, self.now))
        self.attempt, self.next_attempt_at = None, self.now

    def press_elsewhere(self, kind: CommandKind) -> None:
        """Another operator, whose dashboard has the newest state."""
        if self.up[POSTGRESQL]:
            request = CommandRequest(kind, typed=self.state.name, request_id=uuid4().hex, confirmed_at=self.server_now)
            self.rows.append(StoredCommand(len(self.rows) + 1, request, ANA, self.server_now))

    def start_agent(self) -> None:
        """Another agent takes over; it connects to Redis before it runs a step."""
        if not self.agent_is_alive:
            self.agent_is_alive, self.is_wait_recorded = True, False
            self.waits_since = None if self.up[REDIS] else self.now
            self.record_event("lease", f"{LEASE_ACQUIRED}, epoch 5")
            if self.waits_since is None:
                self._record_beginning()

    def _wait_for_redis(self) -> bool:
        """Whether the agent waits: within 3 s it is in the audit."""
        if self.waits_since is None:
            return False
        if self.up[REDIS]:
            self.waits_since = None
            if self.is_wait_recorded:
                self.record_event("lease", f"{AGENT_CONTINUES}Redis")
            self._record_beginning()
            return False
        if not self.is_wait_recorded and self.now - self.waits_since >= FRESH:
            self.is_wait_recorded = True
            self.record_event("error", f"{AGENT_WAITS}Redis: no response")
        return True

    def record_event(self, kind: str, message: str) -> None:
        self.audit.append(Event(len(self.audit) + 1, self.server_now, AGENT, kind, message))

    @property
    def can_act(self) -> bool:
        """The agent is there and has its database."""
        return self.up[POSTGRESQL] and self.agent_is_alive and self.waits_since is None

    @property
    def has_seen_wait(self) -> bool:
        """The dashboard has read that the agent waits and runs no step."""
        return any(event.message.startswith(AGENT_WAITS) for event in self.seen.events[-1:])

    @property
    def moves(self) -> bool:
        """The agent runs steps, as far as the release lets it."""
        return moves(self.state)

    def _record_beginning(self) -> None:
        running = next_pending_step(self.state)
        if running is not None:
            verb = "run" if running.direction == "run" else "revert"
            self.record_event("step", f"{verb} {running.step.name} begins: {running.step.label}")

    def finish_step(self) -> None:
        """The running step, or its undo, has ended."""
        pending = next_pending_step(self.state)
        if not (self.can_act and self.moves and pending is not None):
            return
        if self.state.status(pending.step.name) not in (StepStatus.STARTED, StepStatus.UNDOING):
            return  # not begun
        self.state = mark_step_finished(self.state, pending)
        self.times[pending.step.name] = self.times[pending.step.name][0], self.server_now
        if pending.step.registry_key == "set-weight":
            done = [
                step.value or 0
                for step in self.state.strategy.steps
                if step.registry_key == "set-weight" and self.state.status(step.name) is StepStatus.DONE
            ]
            self.weight = max(done, default=0)
        if pending.step.registry_key == "rollout-new":
            self.is_promoted = pending.direction == "run"
        if self.state.state.has_ended:
            self.ended_at = self.server_now

    def finish_phase(self) -> None:
        if self.can_act and self.moves and self.state.state is ReleaseState.RUNNING:
            while self.state.state is ReleaseState.RUNNING:
                self._begin_step()
                self.finish_step()

    def undo_all(self) -> None:
        if self.can_act and self.state.state is ReleaseState.ROLLING_BACK:
            while self.state.state is ReleaseState.ROLLING_BACK:
                self._begin_step()
                self.finish_step()

    def find_breach(self, status: ConditionStatus) -> None:
        if not self.can_act or not (status is ConditionStatus.BREACHED or self.state.unmet):
            return
        if status is ConditionStatus.BREACHED and self.state.state is ReleaseState.RUNNING:
            self.is_cancelled = True
            self.record_event("condition", f"breach: {BREACH.text}")
        self.state = replace(self.state, unmet=(replace(BREACH, status=status, since=self.server_now),))

    def hold_again(self) -> None:
        if self.can_act:
            self.state = replace(self.state, unmet=())

    def fail(self) -> None:
        """The running step fails."""
        pending = next_pending_step(self.state)
        if not (self.can_act and self.moves and self.state.state is ReleaseState.RUNNING and pending is not None):
            return
        self.times[pending.step.name] = self.times[pending.step.name][0], self.server_now
        self.state = replace(
            self.state.with_status(pending.step.name, StepStatus.FAILED),
            state=ReleaseState.FAILED,
            error="no space left",
        )
        self.record_event("error", f"run {pending.step.name} failed: no space left")

    def _begin_step(self) -> None:
        pending = next_pending_step(self.state)
        if pending is None:
            return
        begun = StepStatus.STARTED if pending.direction == "run" else StepStatus.UNDOING
        if self.state.status(pending.step.name) is not begun:
            self.state = mark_step_started(self.state, pending)
            self.times[pending.step.name] = self.server_now, None
            self.is_cancelled = False
            self._record_beginning()

    def _run_statements(self) -> None:
        """The database executes what has waited in it."""
        for attempt in self.waiting_statements:
            if attempt.valid_until >= self.server_now and not self.find(attempt.request.request_id):
                assert attempt.request.request_id not in self.given_up, "stored after it was said to be given up"
                self.rows.append(StoredCommand(len(self.rows) + 1, attempt.request, ANA, self.server_now))
        self.waiting_statements.clear()

    def _run_agent(self) -> None:
        if self.now - self.renewed_at >= 1.0:
            self.renewed_at, self.unrenewed = self.now, 0.0
        if self._wait_for_redis():
            return
        self.watched_at |= {system: self.now for system, is_up in self.up.items() if is_up}
        for rule, every in RULE_INTERVALS.items():
            if self.up[PROMETHEUS] and self.now - self.rule_at[rule] >= every:
                self.rule_at[rule] = self.now
        if self.is_cancelled and self.moves and self.state.state is ReleaseState.RUNNING:
            self.is_cancelled = False
            self._record_beginning()
        copying = self.state.state is ReleaseState.RUNNING and not self.is_canary
        if copying and self.copies_rows and self.moves and self.state.status("backfill-rows") is StepStatus.STARTED:
            self.rows_done, self.copied_at = min(1_000_000, self.rows_done + 500), self.now
        for at, row in enumerate(self.rows):
            if row.status == "queued":
                self._handle(at, row)
        self._begin_step()
        ended = complete_if_open(self.state, self.gates(), self.server_now)
        if ended is not self.state:
            self.state, self.ended_at = ended, self.server_now

    def _handle(self, at: int, row: StoredCommand) -> None:
        before, plan = self.state, self.seen.plan_limits
        try:
            after = apply_command(before, row.to_command, self.gates(), self.server_now)
        except Refused as refusal:
            self.rows[at] = replace(row, status="refused", outcome=str(refusal))
            return
        if plan is not None and row.request.tuning is not None:
            after = replace(after, tuning=apply_tuning(plan, after.tuning, row.request.tuning))
        late = self.server_now - (row.request.confirmed_at or 0.0)
        confirmed = row.request.expected
        assert (
            late <= RETRY_SECONDS + STEP
            or row.kind is CommandKind.PAUSE
            or (confirmed is not None and confirmed.phase == before.phase)
        ), "executed late in another phase than the confirmed one"
        self.state = after
        if after.state.has_ended:
            self.ended_at = self.server_now
        self.rows[at] = replace(row, status="done", outcome=f"{after.state}")
        self.record_event("command", f"{row.kind}: {after.state}")

    # --- what the dashboard reads --------------------------------------------------------------------------------

    def _read(self, system: str) -> None:
        self.heard_at[system] = self.now
        match system:
            case "PostgreSQL":
                self.shown = replace(self.shown, release=Observed(self.record(), self.now))
                self.seen_audit = tuple(self.audit)
            case "Redis":
                read = tuple(replace(each, problem="" if self.has_valid_flags else "not a share") for each in flags())
                self.shown = replace(self.shown, flags=Observed(read, self.now))
            case "Kubernetes":
                snapshot = self._stable_pods() if self.is_canary else self._pods()
                self.shown = replace(self.shown, workload=Observed(snapshot, self.now))
                total = self.log.total + 1
                line = LogLine(f"line {total}", self.server_now)
                self.log = replace(self.log, lines=(*self.log.lines, line)[-5:], total=total, dropped=max(0, total - 5))
            case _:
                self.shown = replace(self.shown, second_workload=Observed(self._canary_pods(), self.now))

    def _read_details(self) -> None:
        """What is read of the database for one screen; and the fleet, which reads by itself."""
        if not self.up[POSTGRESQL]:
            if self.now - self.fleet_at >= FRESH:  # the reading has failed
                self.fleet_row = mark_last_known(self.fleet_row)
            return
        is_due = self.now % HISTORY_EVERY == 0.0
        if is_due and self.agent_is_alive:
            value = 0.001 if self.up[PROMETHEUS] else None
            self.points.append(MetricPoint(self.server_now, value, value))
        if is_due or self.history.value is None:
            made = dict.fromkeys(RULE_INTERVALS, tuple(self.points))
            self.history = Observed(MetricHistory(made), self.now)
        if self.now % ACTIVITY_EVERY == 0.0:
            blocker = Session(4123, "s", "ana", "psql", "", "idle in transaction", 240.0, 240.0, "", "SELECT 1")
            waiting = Session(7, "a", "zdd", "zdd agent users", "", "active", 3.0, 3.0, "Lock", "ALTER TABLE", (4123,))
            sessions = (blocker, waiting) if self.is_blocked else ()
            replicas = (Replica("standby", "streaming", 0.1, 0),)
            self.activity = Observed(DatabaseActivity(sessions, replicas), self.now)
        if self.now % FLEET_EVERY == 0.0:
            self.fleet_at, self.fleet_lease_age = self.now, self.now - self.renewed_at
            self.fleet_waits = self.waits_since is not None and self.is_wait_recorded
            self.fleet_row = build_release_row(
                self.record(), ReleaseFacts(), database="shop", group="", clock_offset=0.0
            )

    def _pods(self) -> WorkloadSnapshot:
        """Of expand/contract: four pods, one of them may drain."""
        pods = [pod(f"6d4f9c7b5d-{tail}", "2", PodState.SERVING) for tail in ("x7k2p", "q2pzz", "m4t8c")]
        if self.drain_until is None:
            return workload([*pods, pod("6d4f9c7b5d-b9h3w", "2", PodState.SERVING)])
        left = self.drain_until - self.now
        state = PodState.DRAINING if left > 0 else PodState.OVERDUE
        leaving = pod("6d4f9c7b5d-b9h3w", "2", state, seconds_left=left)
        return workload([*pods, leaving], "3 of 4 new replicas available", ready=3)

    def _stable_pods(self) -> WorkloadSnapshot:
        return self._deployment("users-api", NEW if self.is_promoted else OLD, PODS_AT[self.weight][0])

    def _canary_pods(self) -> WorkloadSnapshot:
        return self._deployment("users-api-canary", NEW, PODS_AT[self.weight][1])

    def _deployment(self, name: str, image: str, count: int) -> WorkloadSnapshot:
        tails = tuple(f"5c9b8d7f6c-{letter * 5}" for letter in "abcde"[:count])
        made = pods_of(name, image, PodState.SERVING, tails)
        if self.drain_until is None:
            return made
        return replace(made, rollout=RolloutStatus(False, False, "waiting for a replica"))

    def record(self) -> ReleaseRecord:
        """As it is stored now."""
        lease = Lease(4, "agent", "bastion", 1, self.now - self.renewed_at, FRESH)
        found = record(self.state, note="500 rows", lease=lease)
        nothing = (None, None)
        steps = (
            replace(step, started_at=began, ended_at=ended)
            for step in found.steps
            for began, ended in (self.times.get(step.name, nothing),)
        )
        found = replace(found, steps=tuple(steps))
        if not self.is_canary:
            states = {ReleaseState.WAITING: "done", ReleaseState.ROLLED_BACK: "cancelled", ReleaseState.DONE: "done"}
            is_over = self.state.status("backfill-rows") is StepStatus.DONE
            done = backfill(
                status=states.get(self.state.state, "done" if is_over else "running"),
                rows_done=self.rows_done,
                rows_total=2_000_000,
                verified_rows=5,
                updated_at=EPOCH + self.copied_at - MONOTONIC,
            )
            found = replace(found, backfill=done)
        return replace(
            found,
            now=self.server_now,
            finished_at=self.ended_at,
            commands=tuple(self.rows[-20:]),
            events=tuple(self.audit[-50:]),
            gates=self.gates(),
            guard=tuple(self._rule(name) for name in RULE_INTERVALS),
            metrics_probe=self._probe(),
        )

    def _rule(self, name: str) -> GuardReading:
        """As the agent stored it while it worked."""
        at = EPOCH + self.rule_at[name] - MONOTONIC
        unit = MetricUnit.SECONDS if name == RARE_RULE else MetricUnit.RATIO
        limit = RARE_MAX_AGE if name == RARE_RULE else MAX_AGE
        if self.renewed_at - self.rule_at[name] > RULE_INTERVALS[name] + UNWATCHED:
            return GuardReading(name, Verdict.UNKNOWN, "no data: prom does not respond", unit, observed_at=at,
                                max_age=limit)  # fmt: skip
        return GuardReading(name, Verdict.PASS, "0.1 % of requests", unit, 0.001, limit=0.01, observed_at=at,
                            max_age=limit)  # fmt: skip

    def _probe(self) -> MetricsProbe:
        at = self.watched_at[PROMETHEUS]
        error = "prom does not respond" if self.renewed_at - at >= 2.0 else ""
        return MetricsProbe(EPOCH + at - MONOTONIC, error)

    def gates(self) -> dict[str, GateReading]:
        names = [gate.name for phase in self.state.strategy.phases for gate in phase.gates]
        return {name: self._gate(name) for name in names}

    def _gate(self, name: str) -> GateReading:
        """As the agent stored it while it worked."""
        at = self.watched_at[self.system_of(name)]
        if self.renewed_at - at > UNWATCHED:
            return GateReading(name, Verdict.UNKNOWN, "no news", EPOCH + self.renewed_at - MONOTONIC)
        return GateReading(name, Verdict.PASS, "3 of 3", EPOCH + at - MONOTONIC, MAX_AGE)

    @staticmethod
    def system_of(gate: str) -> str:
        return POSTGRESQL if gate == "backfill-complete" else KUBERNETES

    # --- the way of a command ------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """As :func:`zdd_tui.backends.store.delivery.deliver_command` and the live source do."""
        delivery, request = self.shown.delivery, self.request
        if delivery is not None and request is not None and delivery.is_open:
            self._step_delivery(delivery, request)
        row = self.find(self.request.request_id) if self.request is not None else None
        if self.progress is None:
            return
        self.progress = self.progress.with_board(self.shown, self.context)
        is_queued = self.progress.stage is CommandStage.QUEUED
        if is_queued and row is not None and row.status != "queued" and self.up[POSTGRESQL]:
            self.progress = self.progress.with_result(row, self.now)

    def _step_delivery(self, delivery: Delivery, request: CommandRequest) -> None:
        if self.attempt is None and self.now >= self.next_attempt_at:
            valid_until = (self.shown.server_now(self.now) or 0.0) + VALID_SECONDS
            self.attempt = Attempt(request, self.now, valid_until, self.loses_answers)
            self.waiting_statements.append(self.attempt)
            if self.up[POSTGRESQL]:
                self._run_statements()
        if self.attempt is None:
            return
        is_answered = self.up[POSTGRESQL] and not self.attempt.answer_is_lost and self.find(request.request_id)
        if is_answered:
            self.shown = replace(self.shown, delivery=delivery.stored())
            self.attempt = None
        elif self.now - self.attempt.started_at >= ATTEMPT:
            self.shown = replace(self.shown, delivery=delivery.attempt_failed("db does not respond within 2.5 s"))
            if self.now + PAUSE < delivery.started_at + RETRY_SECONDS:
                self.attempt, self.next_attempt_at = None, self.now + PAUSE
            elif self.now >= self.attempt.started_at + VALID_SECONDS:
                self.shown = replace(self.shown, delivery=delivery.given_up("db does not respond"))
                self.given_up.add(request.request_id)
                assert self.progress is not None
                self.progress = self.progress.with_send_error(RuntimeError("db does not respond"), self.now)
                self.attempt = None

    def find(self, request_id: str) -> StoredCommand | None:
        return next((row for row in self.rows if row.request.request_id == request_id), None)


def moves(seen: Release) -> bool:
    """A release on which an agent works, as the record says it."""
    return seen.state is ReleaseState.ROLLING_BACK or (seen.state is ReleaseState.RUNNING and not is_held(seen))


def is_held(seen: Release) -> bool:
    """The record says that no step runs, whoever works on the release."""
    can_be_held = seen.state in (ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.FAILED)
    is_breached = any(each.status.stops_progress for each in seen.unmet)
    return can_be_held and (seen.paused or is_breached or seen.state is ReleaseState.FAILED)


def serving(snapshot: WorkloadSnapshot) -> list[Pod]:
    return [each for each in snapshot.pods if each.state is PodState.SERVING]

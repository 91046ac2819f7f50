"""Fixed dashboard states, and a clock and a source that a test controls."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from zdd_tui.dashboard.state import DashboardState, FlagView, Observed, PlanView
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.flag import OFF, ON, FlagValue
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.queries import LogQuery, LogView, MetricHistory, MetricPoint, Query
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.delivery import Delivery, DeliveryStatus
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import (
    Actor,
    BackfillRecord,
    CommandRequest,
    Event,
    Lease,
    ReleaseRecord,
    RollbackStart,
    StepRecord,
    StoredCommand,
)
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import DeploymentView, RolloutStatus, WorkloadSnapshot

T = TypeVar("T")

EPOCH = datetime(2026, 11, 24, 3, 12, 0, tzinfo=UTC).timestamp()
"""Time of every record, by the database's clock."""

MONOTONIC = 1000.0
"""Monotonic seconds at which every source was read."""

ANA = Actor("ana", "bastion")
AGENT = Actor("agent", "bastion")
STRATEGY = build_expand_contract(sync_by_trigger=True)
PHASES = [phase.name for phase in STRATEGY.phases]

PLAN = PlanView(
    name="users-full-name",
    strategy="expand-contract",
    environment="production",
    target="users-api@shop",
    database="zdd@db.shop:5432/shop",
    cluster="eu-1, deployment shop/users-api",
    flags="cache.shop:6379/0",
)


@dataclass
class FixedClock:
    """A clock that a test moves."""

    seconds: float = MONOTONIC + 1

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return EPOCH + self.seconds - MONOTONIC

    def time_of_day(self, at: float) -> str:
        return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


@dataclass
class FixedLogTail:
    """A log that a test sets."""

    query: LogQuery
    current: LogView
    closed: bool = False

    def snapshot(self) -> LogView:
        return self.current

    def close(self) -> None:
        self.closed = True


@dataclass
class FixedSource:
    """A StateSource whose states and command results a test sets. Commands are stored at once if `stores`."""

    current: DashboardState
    sent_commands: list[CommandRequest] = field(default_factory=list)
    futures: list[Future[StoredCommand]] = field(default_factory=list)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    examinations: int = 0
    agent_starts: int = 0
    stopped_sessions: list[StopRequest] = field(default_factory=list)
    stop_result: bool | Exception = True
    answers: dict[type, Any] = field(default_factory=dict)
    queries: list[Query[Any]] = field(default_factory=list)
    log: LogView = field(default_factory=LogView)
    tails: list["FixedLogTail"] = field(default_factory=list)
    stores: bool = True

    def state(self) -> DashboardState:
        return self.current

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def set_board(self, board: DashboardState) -> None:
        self.current = board
        for callback in self.callbacks:
            callback()

    def send_command(self, request: CommandRequest) -> Future[StoredCommand]:
        future: Future[StoredCommand] = Future()
        self.sent_commands.append(request)
        self.futures.append(future)
        if self.stores:
            stored = Delivery(request.request_id, MONOTONIC, DeliveryStatus.QUEUED)
            self.current = replace(self.current, delivery=stored)
        return future

    def stop_session(self, request: StopRequest) -> Future[bool]:
        self.stopped_sessions.append(request)
        future: Future[bool] = Future()
        if isinstance(self.stop_result, Exception):
            future.set_exception(self.stop_result)
        else:
            future.set_result(self.stop_result)
        return future

    def run_doctor(self) -> None:
        self.examinations += 1

    def start_agent(self) -> None:
        self.agent_starts += 1

    def fetch(self, query: Query[T]) -> Future[T]:
        """A future with the answer for the query's class; without one it never ends."""
        self.queries.append(query)
        future: Future[T] = Future()
        answer = self.answers.get(type(query))
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future

    def follow_log(self, query: LogQuery) -> "FixedLogTail":
        self.tails.append(FixedLogTail(query, self.log))
        return self.tails[-1]

    def answer(self, status: str, outcome: str) -> None:
        self.futures[-1].set_result(StoredCommand(7, self.sent_commands[-1], ANA, EPOCH, status, outcome))


def metric_history(now: float = EPOCH) -> MetricHistory:
    """Five minutes of two rules: the agent was away for one minute, and the new version is slower at the end."""
    ages = [age for age in range(300, 0, -5) if not 120 < age < 180]
    return MetricHistory(
        {
            "errors": tuple(
                MetricPoint(now - age, None if age > 220 else 0.001 + age % 15 / 10_000, 0.001) for age in ages
            ),
            "p99": tuple(
                MetricPoint(now - age, None if age > 220 else 0.082 if age > 60 else 0.101, 0.079 + age % 4 / 1000)
                for age in ages
            ),
        }
    )


def release(
    state: ReleaseState,
    phase: str | None = None,
    *,
    done: int | None = None,
    current: StepStatus | None = None,
    paused: bool = False,
    error: str = "",
) -> Release:
    """A release in a phase: the first `done` steps of the whole strategy are done, the next one has `current`.

    Without `done`: every step up to the end of the phase.
    """
    index = -1 if phase is None else PHASES.index(phase)
    steps = len(STRATEGY.steps)
    upto = sum(len(each.steps) for each in STRATEGY.phases[: index + 1]) if done is None else done
    statuses = [StepStatus.DONE] * upto + [StepStatus.PENDING] * (steps - upto)
    if current is not None:
        statuses[upto] = current
    return Release("users-full-name", "hash-1", STRATEGY, state, index, tuple(statuses), paused, error)


def record(rel: Release, *, note: str = "", running_for: float = 41.0, **changes: Any) -> ReleaseRecord:
    """A stored release; the running step has a note, and started `running_for` seconds ago."""
    steps = tuple(
        StepRecord(
            spec.name,
            status,
            note=note if status in (StepStatus.STARTED, StepStatus.UNDOING) else "",
            error=rel.error if status in (StepStatus.FAILED, StepStatus.UNDO_FAILED) else "",
            started_at=EPOCH - running_for if status is not StepStatus.PENDING else None,
        )
        for spec, status in zip(rel.strategy.steps, rel.statuses, strict=True)
    )
    made = ReleaseRecord(
        id=1,
        release=rel,
        environment="production",
        plan_text="",
        created_at=EPOCH - 754,
        finished_at=EPOCH if rel.state.has_ended else None,
        now=EPOCH,
        steps=steps,
        gates={},
        events=events(("lease", "acquired the lease, epoch 4", ""), ("phase", "expand started", "")),
        commands=(),
        lease=Lease(4, "agent", "bastion", 4211, 0.3, 3.0),
        backfill=None,
        plan_limits=Backfill() if rel.strategy.name == "expand-contract" else None,
    )
    return replace(made, **changes)


def events(*lines: tuple[str, str, str]) -> tuple[Event, ...]:
    return tuple(
        Event(number, EPOCH - 60 + number, ANA if kind in ("command", "refused") else AGENT, kind, what, why)
        for number, (kind, what, why) in enumerate(lines, start=1)
    )


def gate(name: str, verdict: Verdict, reason: str, age: float = 1.0) -> tuple[str, GateReading]:
    return name, GateReading(name, verdict, reason, EPOCH - age)


def pod(name: str, version: str, state: PodState, **changes: Any) -> Pod:
    made = Pod(
        name=f"users-api-{name}",
        uid=name,
        namespace="shop",
        image=f"shop/users-api:{version}",
        version=version,
        template_hash=name.split("-", maxsplit=1)[0],
        state=state,
        seconds_left=None,
        prestop_estimated=False,
        restarts=0,
        node="node-1",
        created_at=EPOCH - 754,
        reason="",
    )
    return replace(made, **changes)


def workload(pods: Sequence[Pod], message: str = "", *, gone: Sequence[Pod] = (), ready: int = 4) -> WorkloadSnapshot:
    view = DeploymentView(
        name="users-api",
        uid="d",
        namespace="shop",
        resource_version="1",
        generation=2,
        observed_generation=2,
        images={"app": "shop/users-api:2"},
        selector="app=users-api",
        desired=4,
        replicas=4,
        updated=4,
        ready=ready,
        available=ready,
        paused=False,
        min_ready_seconds=0,
        conditions=(),
        revision="2",
        epoch=4,
        change_cause=None,
    )
    rollout = RolloutStatus(not message, False, message or "rolled out")
    return WorkloadSnapshot(
        tuple(sorted(pods, key=lambda each: each.name)), tuple(gone), view, rollout, (), 0.0, MONOTONIC, None
    )


SERVING = [pod(f"6d4f9c7b5d-{tail}", "2", PodState.SERVING) for tail in ("x7k2p", "q2pzz", "m4t8c", "b9h3w")]


def flags(write: FlagValue | None = None, read: FlagValue | None = None) -> tuple[FlagView, ...]:
    return (FlagView("users_full_name_write", "write", write), FlagView("users_full_name_read", "read", read))


def board(rec: ReleaseRecord | None, **changes: Any) -> DashboardState:
    made = DashboardState(
        PLAN,
        Observed(rec, MONOTONIC) if rec else Observed(),
        Observed(workload(SERVING), MONOTONIC),
        Observed(flags(), MONOTONIC),
        {
            CommandKind.ADVANCE: (
                "rollout-v2: roll out V2",
                "  kubectl -n shop set image deployment/users-api app=shop/users-api:2",
                "write-flag-on: turn the write flag on",
                "  SET ff:users_full_name_write true",
            )
        },
    )
    return replace(made, **changes)


def backfill(**changes: Any) -> BackfillRecord:
    made = BackfillRecord("running", 1_200_000, 756_000, 378, 2000, 18.0, 41_000.0, updated_at=EPOCH)
    return replace(made, **changes)


BACKFILL_STEP = 7
"""Steps done when `backfill-rows` runs: four of expand, two of dual-write, prepare-backfill."""


def dashboard_situations() -> dict[str, DashboardState]:
    """Every state of the dashboard that has a snapshot."""
    made: dict[str, DashboardState] = {
        "connecting": DashboardState(PLAN),
        "planned": board(record(release(ReleaseState.PLANNED), events=events())),
        "lock": board(
            record(
                release(ReleaseState.RUNNING, Phase.EXPAND, done=1, current=StepStatus.STARTED),
                note="waiting for a lock on public.users held by pid 4123 "
                "(idle in transaction for 4m, app “report”); try 7 of 40",
            )
        ),
        "backfill": _backfilling(),
        "paused": _backfilling(paused=True),
        "gates": _gates(),
        "open": _open(),
        "failed": _failed(),
        "stopped": _stopped(),
        "rolling-back": _rolling_back(),
        "rolled-back": _rolled_back(),
        "done": board(
            record(
                release(ReleaseState.DONE, Phase.CLEANUP),
                backfill=backfill(
                    status="done",
                    rows_done=1_200_000,
                    verified=True,
                    verified_rows=1_200_000,
                    mismatches=0,
                    seconds=34.0,
                ),
            )
        ),
        "contract": board(
            record(
                release(ReleaseState.WAITING, Phase.CONTRACT),
                gates=dict(
                    [
                        gate("catalog-diff", Verdict.PASS, "the new side has what the old side has"),
                        gate("no-old-snapshot", Verdict.PASS, "oldest started after cutover"),
                        gate("serving-v3", Verdict.PASS, "4 of 4 pods serve V3"),
                        gate("no-older-pod", Verdict.PASS, "none"),
                    ]
                ),
            )
        ),
        "no-agent": board(
            record(
                release(ReleaseState.RUNNING, Phase.DUAL_WRITE, done=4, current=StepStatus.STARTED),
                note="2 of 4 new replicas available",
                lease=Lease(4, "agent", "bastion", 4211, 12.0, 3.0),
            )
        ),
    }
    made["stale"] = _stale(made["backfill"])
    return made


def _backfilling(*, paused: bool = False) -> DashboardState:
    rel = release(ReleaseState.RUNNING, Phase.BACKFILL, done=BACKFILL_STEP, current=StepStatus.STARTED, paused=paused)
    rec = record(
        rel,
        running_for=18.0,
        backfill=backfill(status="paused" if paused else "running", throttle="" if paused else "replica lag 6.1s"),
        gates=dict(
            [
                gate("backfill-complete", Verdict.PENDING, "756k of 1.2M"),
                gate("no-mismatch", Verdict.PENDING, "not verified yet"),
            ]
        ),
        events=events(
            ("phase", "backfill started", ""),
            ("command", "resume", "lag recovered"),
            ("refused", "advance: backfill is still running", ""),
            ("backfill", "throttled by replica lag", ""),
        ),
    )
    return board(rec, flags=Observed(flags(ON, OFF), MONOTONIC))


def _gates() -> DashboardState:
    rec = record(
        release(ReleaseState.WAITING, Phase.CUTOVER),
        gates=dict(
            [
                gate("soak-passed", Verdict.PASS, "30s without an error"),
                gate(
                    "serving-v3",
                    Verdict.FAIL,
                    "2 of 4 pods are v2: users-api-6d4f9c7b5d-x7k2p, users-api-6d4f9c7b5d-q2pzz",
                ),
                gate("no-older-pod", Verdict.FAIL, "2 older pods", age=31.0),
            ]
        ),
    )
    pods = [
        pod("6d4f9c7b5d-x7k2p", "2", PodState.DRAINING, seconds_left=18.0, prestop_estimated=True),
        pod("6d4f9c7b5d-q2pzz", "2", PodState.OVERDUE, seconds_left=-7.0),
        pod("7f8c6d9b4f-aaaaa", "3", PodState.SERVING, created_at=EPOCH - 30),
        pod("7f8c6d9b4f-bbbbb", "3", PodState.WARMING, created_at=EPOCH - 4),
        pod("7f8c6d9b4f-ccccc", "3", PodState.STARTING, created_at=EPOCH - 60, restarts=5, reason="CrashLoopBackOff"),
        pod("6d4f9c7b5d-m4t8c", "2", PodState.STOPPING, seconds_left=3.0),
    ]
    gone = [pod("6d4f9c7b5d-b9h3w", "2", PodState.GONE)]
    return board(
        rec,
        workload=Observed(
            workload(pods, "2 older pods still there: users-api-6d4f9c7b5d-x7k2p", gone=gone, ready=2), MONOTONIC
        ),
        flags=Observed(flags(ON, ON), MONOTONIC),
    )


def _open() -> DashboardState:
    return board(
        record(
            release(ReleaseState.WAITING, Phase.EXPAND),
            gates=dict(
                [
                    gate("schema-valid", Verdict.PASS, "users.full_name text"),
                    gate("catalog-diff", Verdict.PASS, "the new side has what the old side has"),
                    gate("no-waiters", Verdict.PASS, "No blocked sessions"),
                ]
            ),
        )
    )


LOCK_ERROR = (
    "lock on public.users not acquired in 40 attempts over 2m10s; held by pid 4123 (app “report”, user “bi”, idle in "
    "transaction for 14m): SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE o.created_at > now() - "
    "interval '90 days' ORDER BY o.created_at. End that session with SELECT pg_terminate_backend(4123), or wait "
    "until it ends, then retry"
)


def _failed() -> DashboardState:
    rel = release(ReleaseState.FAILED, Phase.EXPAND, done=1, current=StepStatus.FAILED, error=LOCK_ERROR)
    return board(record(rel, events=events(("step", "add the new schema started", ""), ("error", LOCK_ERROR, ""))))


def _stopped() -> DashboardState:
    """A GitOps controller has set the image back while the release waits."""
    image = ConditionReading(
        "image users-api",
        ConditionStatus.BREACHED,
        "Deployment users-api has image shop/users-api:1, expected shop/users-api:2",
        "set by argocd-controller at 2026-11-24 03:11:50 UTC",
        "set shop/users-api:2 where argocd-controller takes the image from (its Git repository); the release continues"
        " then, or: zdd rollback PLAN",
        affects_rows=True,
        since=EPOCH - 10,
    )
    rel = replace(release(ReleaseState.WAITING, Phase.BACKFILL), unmet=(image,))
    gates = dict(
        gate(name, Verdict.PENDING, f"withdrawn: {image.text}") for name in ("backfill-complete", "no-mismatch")
    )
    audit = events(("condition", f"breach: {image.title}", image.hint))
    return board(record(rel, gates=gates, events=audit, backfill=backfill(status="done")))


def _rolling_back() -> DashboardState:
    statuses = [StepStatus.DONE] * 4 + [StepStatus.UNDOING, StepStatus.UNDONE] + [StepStatus.UNDONE] * 2
    rel = release(ReleaseState.ROLLING_BACK, Phase.BACKFILL)
    rel = replace(rel, statuses=(*statuses, *[StepStatus.PENDING] * (len(STRATEGY.steps) - len(statuses))))
    pods = [
        pod("6d4f9c7b5d-x7k2p", "2", PodState.DRAINING, seconds_left=18.0),
        *[pod(f"5c9b8d7f6c-{tail}", "1", PodState.SERVING) for tail in ("aaaaa", "bbbbb", "ccccc")],
    ]
    return board(
        record(
            rel,
            note="3 of 4 new replicas available",
            running_for=12,
            backfill=backfill(status="cancelled"),
            rollback=RollbackStart(ANA, "orders fail", EPOCH - 30),
        ),
        workload=Observed(workload(pods, "3 of 4 new replicas available", ready=3), MONOTONIC),
        flags=Observed(flags(OFF, None), MONOTONIC),
    )


def _rolled_back() -> DashboardState:
    rel = release(ReleaseState.ROLLED_BACK, Phase.BACKFILL)
    return board(
        record(
            replace(rel, statuses=(StepStatus.UNDONE,) * 9 + (StepStatus.PENDING,) * (len(STRATEGY.steps) - 9)),
            rollback=RollbackStart(ANA, "orders fail", EPOCH - 42),
        )
    )


def _stale(fresh: DashboardState) -> DashboardState:
    late = MONOTONIC - 41
    return replace(
        fresh,
        release=Observed(
            fresh.release.value, late, "PostgreSQL zdd@db.shop:5432/shop: connection refused", "check that it runs"
        ),
        workload=Observed(fresh.workload.value, late, "the API server does not respond", "check the VPN"),
        flags=Observed(fresh.flags.value, late, "Redis cache.shop:6379/0 timed out", "check that it runs"),
    )

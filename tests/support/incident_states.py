"""Fixed states of incidents: lost sources, dead agents, failed rollbacks, long names, many pods and gates."""

from dataclasses import replace

from tests.support.states import (
    ANA,
    EPOCH,
    MONOTONIC,
    PLAN,
    backfill,
    board,
    dashboard_situations,
    events,
    flags,
    gate,
    pod,
    record,
    release,
    workload,
)
from tests.support.strategy_states import BREACHED, GUARDED, errors, guard_situations, guarded, latency
from zdd_tui.dashboard.state import DashboardState, FlagView, Observed
from zdd_tui.model.flag import ON, FlagValue
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import (
    BackfillRecord,
    CommandRequest,
    Lease,
    ReleaseRecord,
    RollbackStart,
    StoredCommand,
)
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import GateSpec
from zdd_tui.model.release.witness import WitnessRecord, Writer
from zdd_tui.model.workload.pod import Pod, PodState

DEAD = Lease(4, "agent", "bastion", 4211, 72.0, 3.0)
UNDO_ERROR = (
    "Deployment users-api cannot be rolled back: quota shop-pods allows pods 12, and 12 are used: no pod can be "
    "created beside the old ones"
)


def incident_situations() -> dict[str, DashboardState]:
    """Every state of an incident that has a snapshot."""
    return {
        "redis-frozen": _redis_frozen(),
        "queued-no-agent": _queued_without_agent(),
        "rollback-stalled": _rollback_stalled(),
        "rollback-failed": _rollback_failed(),
        "long-names": _long_names(),
        "late-approval": _late_approval(),
        "backfill-trouble": _backfill_trouble(),
        "stopped-no-agent": _changed(dashboard_situations()["stopped"], lease=DEAD),
        "old-verdicts": _old_verdicts(),
        "backfill-idle": _changed(
            dashboard_situations()["backfill"], backfill=backfill(throttle="replica lag 6.1 s", updated_at=EPOCH - 14)
        ),
        "stopped-paused": _stopped_paused(),
        "region-not-started": _region_not_started(),
    }


def _changed(made: DashboardState, **changes: object) -> DashboardState:
    return replace(made, release=Observed(replace(_record_of(made), **changes), MONOTONIC))  # type: ignore[arg-type]


def _record_of(made: DashboardState) -> ReleaseRecord:
    assert made.release.value is not None
    return made.release.value


def _verified() -> BackfillRecord:
    return backfill(status="done", rows_done=1_200_000, verified=True, verified_rows=1_200_000, mismatches=0)


def _redis_frozen() -> DashboardState:
    """Reads ramp to the new side while Redis answers no client."""
    rel = release(ReleaseState.RUNNING, Phase.CUTOVER, done=11, current=StepStatus.STARTED)
    late = Observed(
        flags(ON, FlagValue(25)),
        MONOTONIC - 8,
        "cache.shop:6379 does not respond within 1 s",
        "check that Redis runs and that this machine reaches it",
    )
    return board(record(rel, backfill=_verified()), flags=late)


def _old_verdicts() -> DashboardState:
    """Kubernetes has not answered for five seconds: what rests on its data is as old."""
    made = guard_situations()["guard-pass"]
    found = _record_of(made)
    gates = {
        name: replace(reading, observed_at=EPOCH - (0 if name == "recent-rows-agree" else 5))
        for name, reading in found.gates.items()
    }
    rules = tuple(replace(reading, observed_at=EPOCH - 5) for reading in found.guard)
    lost = replace(made, workload=replace(made.workload, observed_at=MONOTONIC - 5))
    return _changed(lost, gates=gates, guard=rules)


def _queued_without_agent() -> DashboardState:
    """The agent was lost in the backfill, and two commands wait for the next one."""
    queued = tuple(
        StoredCommand(number, CommandRequest(kind), ANA, EPOCH - ago)
        for number, kind, ago in ((7, CommandKind.PAUSE, 50.0), (8, CommandKind.ROLLBACK, 20.0))
    )
    return _changed(dashboard_situations()["backfill"], lease=DEAD, commands=queued)


def _rollback_stalled() -> DashboardState:
    return _changed(dashboard_situations()["rolling-back"], lease=DEAD)


def _rollback_failed() -> DashboardState:
    statuses = (StepStatus.DONE,) * 4 + (StepStatus.UNDO_FAILED,) + (StepStatus.UNDONE,) * 3
    made = dashboard_situations()["rolling-back"]
    rel = replace(
        _record_of(made).release,
        state=ReleaseState.ROLLBACK_FAILED,
        statuses=(*statuses, *_record_of(made).release.statuses[len(statuses) :]),
        error=UNDO_ERROR,
    )
    audit = events(
        ("command", "rollback", "orders fail"),
        ("step", "revert rollout-v2 begins: roll out V2", ""),
        ("error", f"revert rollout-v2 failed: {UNDO_ERROR}", ""),
    )
    rec = record(
        rel,
        backfill=backfill(status="cancelled"),
        rollback=RollbackStart(ANA, "orders fail", EPOCH - 300),
        events=audit,
    )
    return replace(made, release=Observed(rec, MONOTONIC))


LONG_GATES = (
    ("region-order", "the region before it is done and has soaked", Verdict.PASS, "region eu is done"),
    ("soak-passed", "soak passed", Verdict.PENDING, "4m12s of 10m00s without an error"),
    ("serving-v3", "every pod is V3", Verdict.FAIL, "31 of 40 pods are v2026.11.23-rc.14+build.8f3a1c"),
    ("no-older-pod", "no older pod is left, terminating ones included", Verdict.FAIL, "31 older pods"),
    ("witness-empty", "no writer writes only one side", Verdict.FAIL, "nightly-report 10.2.14.7 as bi: 12 rows"),
    ("no-mismatch", "zero mismatches", Verdict.PASS, "0 mismatches in 1.2M rows"),
    ("catalog-diff", "the new side has what the old side has", Verdict.PASS, "the new side has what the old side has"),
    ("no-waiters", "no blocked sessions", Verdict.PASS, "No blocked sessions"),
    ("recent-rows-agree", "recent rows agree on both sides", Verdict.INCONCLUSIVE, "only 12 of 50 recent rows"),
    ("pods-healthy", "new pods are ready and have not restarted", Verdict.FAIL, "3 of 9 restarted"),
    ("sequences-ahead", "sequences are past the old ones", Verdict.PASS, "by 100,000"),
    ("guard", "every rule of the guard passes", Verdict.UNKNOWN, "errors: no data for 14s"),
)
"""More gates than any phase has, the labels and reasons of all of them."""


def _long_names() -> DashboardState:
    """40 pods of a Deployment with a long name, in the middle of the last rollout, with 12 gates."""
    made = release(ReleaseState.WAITING, Phase.CUTOVER)
    phases = list(made.strategy.phases)
    phases[made.phase] = replace(phases[made.phase], gates=tuple(GateSpec(*each[:2]) for each in LONG_GATES))
    rel = replace(made, name=LONG_NAME, strategy=replace(made.strategy, phases=tuple(phases)))
    rec = record(
        rel,
        environment="production-eu-central-1",
        gates=dict(gate(name, verdict, reason) for name, _, verdict, reason in LONG_GATES),
        backfill=_verified(),
        guard=(errors(rule="checkout-error-rate-by-status"), latency(rule="checkout-p99")),
        events=events(
            ("phase", "cutover started", ""),
            ("command", "advance: cutover is running", "change CHG0042117, approved by the release board of the shop"),
            ("step", "run rollout-v3 begins: roll out V3", ""),
            ("gate", "witness-empty: fail", "nightly-report 10.2.14.7 as bi: 12 rows"),
        ),
    )
    plan = replace(
        GUARDED,
        name=LONG_NAME,
        environment="production-eu-central-1",
        production=True,
        target="checkout-payments-api@shop-production-eu-central-1",
        region="eu-central-1 1/3",
        region_names=("eu-central-1", "us-east-1", "ap-southeast-2"),
        rule_names=("checkout-error-rate-by-status", "checkout-p99"),
    )
    views = (
        FlagView(
            "checkout_payments_customer_full_name_write", "write", ON, owner="team checkout", expires="2026-12-01"
        ),
        FlagView("checkout_payments_customer_full_name_read", "read", ON, owner="team checkout", expires="2026-12-01"),
    )
    return replace(
        board(rec, flags=Observed(views, MONOTONIC)),
        plan=plan,
        workload=Observed(workload(_forty_pods(), "31 older pods still there", ready=33), MONOTONIC),
    )


LONG_NAME = "customers-full-name-to-structured-name-2026-11"


def _forty_pods() -> list[Pod]:
    states = (
        [("2026.11.23-rc.14", PodState.SERVING, {})] * 24
        + [("2026.11.23-rc.14", PodState.DRAINING, {"seconds_left": 21.0, "prestop_estimated": True})] * 4
        + [("2026.11.23-rc.14", PodState.STOPPING, {"seconds_left": 9.0})] * 2
        + [("2026.11.23-rc.14", PodState.OVERDUE, {"seconds_left": -95.0})]
        + [("2026.11.24-rc.1", PodState.SERVING, {"created_at": EPOCH - 95})] * 4
        + [("2026.11.24-rc.1", PodState.WARMING, {"created_at": EPOCH - 12})]
        + [("2026.11.24-rc.1", PodState.STARTING, {"restarts": 7, "reason": "CrashLoopBackOff"})] * 3
        + [("2026.11.24-rc.1", PodState.NOT_READY, {"reason": "readiness probe: HTTP 503", "restarts": 1})]
    )
    made = []
    for number, (version, state, changes) in enumerate(states):
        template = "6d4f9c7b5d" if "rc.14" in version else "7f8c6d9b4f"
        one = pod(f"{template}-{number:05x}", version, state, **changes)  # type: ignore[arg-type]
        name = f"checkout-payments-api-{template}-{number:05x}"
        made.append(replace(one, name=name, node=f"ip-10-2-{number % 7}-14.eu-central-1.compute.internal"))
    return made


def _late_approval() -> DashboardState:
    """Its owner has not advanced it for longer than the plan allows."""
    made = dashboard_situations()["open"]
    gates = {name: replace(reading, since=EPOCH - 9000) for name, reading in _record_of(made).gates.items()}
    return _changed(made, gates=gates, owner="ana", wait_limit=3600.0)


def _stopped_paused() -> DashboardState:
    """The backfill is paused by an operator; then a GitOps controller sets the image back."""
    made = dashboard_situations()["paused"]
    breach = _record_of(dashboard_situations()["stopped"]).release.unmet
    return _changed(made, release=replace(_record_of(made).release, unmet=breach))


def _region_not_started() -> DashboardState:
    """The second region has V1's pods, and its database has no release of the plan."""
    plan = replace(
        PLAN,
        region="us 2/2",
        region_names=("eu", "us"),
        database="zdd@db-us.shop:5432/shop",
        agent_command="zdd agent x",
    )
    absent = "db-us.shop:5432/shop has no release users-full-name"
    pods = [pod(f"5c9b8d7f6c-{tail}", "1", PodState.SERVING) for tail in ("aaaaa", "bbbbb", "ccccc", "ddddd")]
    return replace(
        board(None, workload=Observed(workload(pods), MONOTONIC)),
        plan=plan,
        release=Observed(None, MONOTONIC, absent, "start it with zdd open PLAN or zdd agent PLAN"),
        previews={},
    )


def _backfill_trouble() -> DashboardState:
    """Rows fail, replicas lag, and a nightly job writes only the old side."""
    writer = Writer("nightly-report", "10.2.14.7", "app", "bi", 12, 12, EPOCH - 300, EPOCH - 5)
    other = Writer("", "", "postgres", "postgres", 1, 1, EPOCH - 90, EPOCH - 90)
    made = dashboard_situations()["backfill"]
    rel = guarded(_record_of(made).release)
    slow = latency(verdict=Verdict.FAIL, value=0.34, reason="v2 340ms, v1 79ms, limit 118ms, for 4s")
    changed = _changed(
        made,
        release=rel,
        backfill=backfill(failed_rows=1, rate=0.0, throttle="replica lag 6.1s, guard latency 91%", mismatches=1),
        witness=WitnessRecord(13, (writer, other)),
        guard=(BREACHED, slow),
        events=events(
            ("backfill", "row 4711 failed", "not null violation (23502, users_full_name_check)"),
            ("guard", "errors: fail", BREACHED.reason),
        ),
    )
    return replace(changed, plan=GUARDED)

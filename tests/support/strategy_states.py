"""Fixed states of releases with a guard, and of the strategies that do not change the schema."""

from dataclasses import replace
from typing import Any

from tests.support.states import (
    EPOCH,
    MONOTONIC,
    PLAN,
    backfill,
    board,
    events,
    flags,
    gate,
    pod,
    record,
    release,
    workload,
)
from zdd_tui.dashboard.state import DashboardState, Observed, PlanView
from zdd_tui.model.flag import OFF, ON, FlagValue
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.plan.guard import GuardAction, MetricUnit
from zdd_tui.model.plan.operations import SchemaPlan
from zdd_tui.model.plan.strategies import CanaryPlan, DarkLaunchPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import Actor, GuardReading, combine_backfills
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import (
    add_guard_gate,
    build_blue_green,
    build_canary,
    build_dark_launch,
    build_operations,
    build_rolling,
)
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.model.release.table_pause import TablePause
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot

CAUSE = "errors: v2 7.1% of 812 requests failed in 30s, limit 1%, for 12s"
GUARDED = replace(PLAN, rule_names=("errors", "p99"))
NEW, OLD = "shop/users-api:2", "shop/users-api:1"


def errors(**changes: Any) -> GuardReading:
    made = GuardReading(
        rule="errors",
        verdict=Verdict.PASS,
        reason="v2 0.12% of 812 requests failed in 30s",
        unit=MetricUnit.RATIO,
        value=0.0012,
        limit=0.01,
        samples=812,
        series=tuple(share / 1000 for share in (1, 0, 1, 2, 1, 1, 3, 1, 0, 1, 1, 1.2)),
        action=GuardAction.ROLLBACK,
        observed_at=EPOCH - 1,
    )
    return replace(made, **changes)


def latency(**changes: Any) -> GuardReading:
    made = GuardReading(
        rule="p99",
        verdict=Verdict.PASS,
        reason="v2 82ms, v1 79ms, limit 118ms",
        unit=MetricUnit.SECONDS,
        value=0.082,
        baseline=0.079,
        limit=0.118,
        samples=812,
        series=tuple(ms / 1000 for ms in (70, 74, 90, 81, 79, 78, 80, 84, 83, 82, 81, 82)),
        action=GuardAction.PAUSE,
        observed_at=EPOCH - 1,
    )
    return replace(made, **changes)


BREACHED = errors(
    verdict=Verdict.FAIL,
    reason="v2 7.1% of 812 requests failed in 30s, limit 1%, for 12s",
    value=0.071,
    series=(0.001, 0.001, 0.002, 0.001, 0.001, 0.02, 0.04, 0.06, 0.07, 0.071),
    should_act=True,
    action_taken="rollback",
)


def guarded(made: Release) -> Release:
    """The release with a guard gate in its strategy."""
    return replace(made, strategy=add_guard_gate(made.strategy))


def of_strategy(
    strategy: Strategy, plan: PlanView, state: ReleaseState, phase: str, *, done: bool = True, **changes: Any
) -> DashboardState:
    """A release with all steps before the phase done; those of the phase only where `done`."""
    names = [each.name for each in strategy.phases]
    index = names.index(phase)
    upto = sum(len(each.steps) for each in strategy.phases[: index + done])
    statuses = [StepStatus.DONE] * upto + [StepStatus.PENDING] * (len(strategy.steps) - upto)
    if not done:
        statuses[upto] = StepStatus.STARTED
    made = Release(plan.name, "hash-1", strategy, state, index, tuple(statuses))
    return replace(board(record(made, **changes)), plan=plan, flags=Observed(), previews={})


def plan_of(strategy: str, name: str, **changes: Any) -> PlanView:
    plain = PlanView(
        name,
        strategy,
        "production",
        "users-api@shop",
        "zdd@db.shop:5432/shop",
        "eu-1, deployment shop/users-api",
        has_backfill=False,
        has_flags=False,
        new_image=NEW,
    )
    return replace(plain, **changes)


def pods_of(name: str, image: str, state: PodState, tails: tuple[str, ...], **changes: Any) -> WorkloadSnapshot:
    """All pods of one Deployment, in one state."""
    pods: list[Pod] = [
        replace(pod(tail, image[-1], state, image=image, **changes), name=f"{name}-{tail}", uid=f"{name}-{tail}")
        for tail in tails
    ]
    made = workload(pods, ready=len(tails))
    assert made.deployment is not None
    return replace(made, deployment=replace(made.deployment, name=name, desired=len(tails)))


STABLE = ("5c9b8d7f6c-aaaaa", "5c9b8d7f6c-bbbbb", "5c9b8d7f6c-ccccc", "5c9b8d7f6c-ddddd")
OTHER = ("7f8c6d9b4f-x7k2p", "7f8c6d9b4f-q2pzz", "7f8c6d9b4f-m4t8c", "7f8c6d9b4f-b9h3w")


def guard_situations() -> dict[str, DashboardState]:
    """States of the guard and of the other strategies that have a snapshot."""
    made = {
        "guard-pass": _guarded(Phase.DUAL_WRITE, errors(), latency()),
        "guard-backfill": _backfilling(errors(), latency()),
        "guard-backwards": _backwards(),
        "guard-rolled-back": _rolled_back(),
        "guard-paused": _paused(),
        "guard-unknown": _guarded(
            Phase.DUAL_WRITE,
            errors(observed_at=EPOCH - 31),
            latency(
                verdict=Verdict.UNKNOWN,
                reason="no data for 14s: 10.0.0.7:8080 does not respond",
                value=None,
                series=(0.07, 0.074, 0.09, None, None, None, None),
            ),
        ),
        "rolling": _rolling(),
        "canary": _canary(),
        "blue-green": _blue_green(),
        "dark-launch": _dark_launch(),
        "dark-mismatch": _dark_mismatch(),
        "operations": _operations(),
        "table-paused": _table_paused(),
    }
    return made


def _guarded(phase: str, *readings: GuardReading) -> DashboardState:
    worst = "pass" if all(one.verdict is Verdict.PASS for one in readings) else "unknown"
    rec = record(
        guarded(release(ReleaseState.WAITING, phase)),
        gates=dict(
            [
                gate("serving-v2", Verdict.PASS, "4 of 4"),
                gate("recent-rows-agree", Verdict.PASS, "500 recent rows agree"),
                gate("guard", Verdict(worst), "2 rules pass" if worst == "pass" else "errors: STALE 31s"),
            ]
        ),
        guard=readings,
    )
    return board(rec, plan=GUARDED, flags=Observed(flags(ON, OFF), MONOTONIC))


def _backfilling(*readings: GuardReading) -> DashboardState:
    rel = guarded(release(ReleaseState.RUNNING, Phase.BACKFILL, done=7, current=StepStatus.STARTED))
    gates = gate("backfill-complete", Verdict.PENDING, "756k of 1.2M"), gate("guard", Verdict.PASS, "2 rules pass")
    rec = record(rel, running_for=18.0, backfill=backfill(), guard=readings, gates=dict(gates))
    return board(rec, plan=GUARDED, flags=Observed(flags(ON, OFF), MONOTONIC))


def _backwards() -> DashboardState:
    rel = release(ReleaseState.ROLLING_BACK, Phase.DUAL_WRITE)
    statuses = list(rel.statuses)
    statuses[5] = StepStatus.UNDONE
    statuses[4] = StepStatus.UNDOING
    rec = record(
        replace(rel, statuses=tuple(statuses)),
        note="3 of 4 new replicas available",
        running_for=4.0,
        guard=(BREACHED, latency()),
        cause=CAUSE,
        events=tuple(
            replace(event, actor=Actor("guard", "bastion"))
            for event in events(
                ("guard", "errors: fail", BREACHED.reason),
                ("guard", "errors: triggers rollback", BREACHED.reason),
                ("command", "rollback", CAUSE),
            )
        ),
    )
    pods = [
        pod("6d4f9c7b5d-x7k2p", "2", PodState.DRAINING, seconds_left=18.0),
        *[pod(f"5c9b8d7f6c-{tail}", "1", PodState.SERVING) for tail in ("aaaaa", "bbbbb", "ccccc")],
    ]
    snapshot = workload(pods, "3 of 4 new replicas available", ready=3)
    return board(rec, plan=GUARDED, workload=Observed(snapshot, MONOTONIC), flags=Observed(flags(OFF, None), MONOTONIC))


def _rolled_back() -> DashboardState:
    rel = release(ReleaseState.ROLLED_BACK, Phase.DUAL_WRITE)
    statuses = tuple(StepStatus.UNDONE if one is StepStatus.DONE else one for one in rel.statuses)
    old = replace(BREACHED, observed_at=EPOCH - 300)
    rec = record(replace(rel, statuses=statuses), guard=(old, latency(observed_at=EPOCH - 300)), cause=CAUSE)
    return board(rec, plan=GUARDED, flags=Observed(flags(), MONOTONIC))


def _paused() -> DashboardState:
    slow = latency(
        verdict=Verdict.FAIL,
        reason="v2 340ms, v1 79ms, limit 118ms, for 12s",
        value=0.34,
        should_act=True,
        action_taken="pause",
    )
    made = _backfilling(errors(), slow)
    rec = made.release.value
    assert rec is not None
    rec = replace(
        rec,
        release=replace(rec.release, paused=True),
        cause=f"p99: {slow.reason}",
        backfill=backfill(status="paused", rate=0.0),
    )
    return replace(made, release=Observed(rec, MONOTONIC))


def _rolling() -> DashboardState:
    """Half of the rollout: two pods are new, an old one drains, a new one crashes in a loop."""
    plan = plan_of("rolling", "users-api-2", rule_names=("errors", "p99"))
    made = of_strategy(
        add_guard_gate(build_rolling()), plan, ReleaseState.RUNNING, "rollout", done=False,
        note="2 of 4 new replicas available", guard=(errors(), latency()),
        gates=dict([
            gate("capacity-kept", Verdict.PASS, "maxUnavailable 0, maxSurge 1"),
            gate("serving-new", Verdict.PENDING, "1 of 3 pods serve the new image"),
            gate("no-older-pod", Verdict.PENDING, "4 older pods still there"),
            gate("guard", Verdict.PASS, "2 rules pass"),
        ]),
    )  # fmt: skip
    pods = [
        pod("7f8c6d9b4f-x7k2p", "2", PodState.SERVING, image=NEW, created_at=EPOCH - 30),
        pod("7f8c6d9b4f-q2pzz", "2", PodState.WARMING, image=NEW, created_at=EPOCH - 4),
        pod("7f8c6d9b4f-m4t8c", "2", PodState.STARTING, image=NEW, restarts=3, reason="CrashLoopBackOff"),
        pod("5c9b8d7f6c-aaaaa", "1", PodState.SERVING, image=OLD),
        pod("5c9b8d7f6c-bbbbb", "1", PodState.SERVING, image=OLD),
        pod("5c9b8d7f6c-ccccc", "1", PodState.DRAINING, image=OLD, seconds_left=12.0),
        pod("5c9b8d7f6c-ddddd", "1", PodState.OVERDUE, image=OLD, seconds_left=-3.0),
    ]
    rec = made.release.value
    assert rec is not None
    statuses = (StepStatus.DONE, StepStatus.STARTED, *rec.release.statuses[2:])
    steps = tuple(replace(step, status=status) for step, status in zip(rec.steps, statuses, strict=True))
    rec = replace(rec, release=replace(rec.release, statuses=statuses), steps=steps)
    snapshot = workload(pods, "2 of 4 new replicas available", ready=3)
    return replace(made, release=Observed(rec, MONOTONIC), workload=Observed(snapshot, MONOTONIC))


def _canary() -> DashboardState:
    plan = plan_of(
        "canary",
        "users-api-canary",
        rule_names=("errors", "p99"),
        deployment_roles=(("stable", "users-api"), ("canary", "users-api-canary")),
        newest_image=NEW,
        weight_source="replicas",
    )
    strategy = build_canary(
        CanaryPlan.model_validate(
            {
                "name": "users-api-canary",
                "strategy": "canary",
                "database": {"dsn": "postgresql:///x"},
                "kubernetes": {"deployment": "users-api", "image": NEW},
                "canary": {"weights": [10, 25, 50]},
            }
        )
    )
    made = of_strategy(
        strategy,
        plan,
        ReleaseState.WAITING,
        "canary-50",
        guard=(errors(), latency()),
        gates=dict(
            [
                gate("weight-held", Verdict.PASS, "4 of 8 pods are new, 50%"),
                gate("pods-healthy", Verdict.PASS, "4 of 4 ready, no restart"),
                gate("soak-passed", Verdict.PASS, "30s without an error"),
            ]
        ),
    )
    return replace(
        made,
        workload=Observed(pods_of("users-api", OLD, PodState.SERVING, STABLE), MONOTONIC),
        second_workload=Observed(
            pods_of("users-api-canary", NEW, PodState.SERVING, OTHER, created_at=EPOCH - 80), MONOTONIC
        ),
    )


def _blue_green() -> DashboardState:
    plan = plan_of(
        "blue-green",
        "users-api-green",
        deployment_roles=(("blue", "users-api"), ("green", "users-api-green")),
        is_blue_green=True,
    )
    made = of_strategy(
        build_blue_green(),
        plan,
        ReleaseState.WAITING,
        "switch",
        gates=dict(
            [
                gate("serving-green", Verdict.PASS, "4 of 4 endpoints are green pods"),
                gate("green-healthy", Verdict.PASS, "4 of 4 ready, no restart"),
                gate("stable-ready", Verdict.PASS, "4 of 4 ready"),
            ]
        ),
    )
    return replace(
        made,
        workload=Observed(pods_of("users-api", OLD, PodState.WARMING, STABLE), MONOTONIC),
        second_workload=Observed(
            pods_of("users-api-green", NEW, PodState.SERVING, OTHER, created_at=EPOCH - 80), MONOTONIC
        ),
    )


MIGRATION = (
    "ALTER TABLE users ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
    "ALTER TABLE orders ADD COLUMN public_id uuid NOT NULL DEFAULT gen_random_uuid()",
    {"sql": "UPDATE orders SET currency = 'EUR' WHERE currency IS NULL", "undo": []},
    "CREATE INDEX orders_by_customer ON orders (customer_id, created_at)",
    "ALTER TABLE orders ADD CONSTRAINT orders_total_check CHECK (total >= 0)",
    "ALTER TABLE users DROP COLUMN legacy_token",
)


def _operations() -> DashboardState:
    """A migration without a rollout: one table is filled, the second one is being filled, the third one waits."""
    plan = replace(
        plan_of("expand-contract", "orders-public-id"),
        target="schema only",
        cluster="",
        has_workload=False,
        new_image="",
    )
    strategy = build_operations(
        SchemaPlan.model_validate(
            {"name": plan.name, "database": {"dsn": "postgresql:///x"}, "operations": list(MIGRATION)}
        )
    )
    made = of_strategy(strategy, plan, ReleaseState.RUNNING, "backfill", done=False)
    rec = made.release.value
    assert rec is not None
    names = [step.name for step in strategy.steps if step.registry_key == "fill-rows"]
    fills = (
        backfill(status="done", rows_total=310_000, rows_done=310_000, job=names[0], rate=0.0),
        backfill(rows_total=1_200_000, rows_done=420_000, job=names[1], failed_rows=1),
        backfill(status="prepared", rows_total=80_000, rows_done=0, job=names[2], rate=0.0),
    )
    running = next(at for at, step in enumerate(strategy.steps) if step.name == names[1])
    statuses = tuple(
        StepStatus.DONE if at < running else StepStatus.STARTED if at == running else StepStatus.PENDING
        for at in range(len(strategy.steps))
    )
    steps = tuple(
        replace(
            step,
            status=status,
            started_at=EPOCH - 90 + 8 * at if status is not StepStatus.PENDING else None,
            ended_at=EPOCH - 83 + 8 * at if status is StepStatus.DONE else None,
        )
        for at, (step, status) in enumerate(zip(rec.steps, statuses, strict=True))
    )
    changed = replace(
        rec,
        release=replace(rec.release, statuses=statuses),
        steps=steps,
        fills=fills,
        backfill=combine_backfills(fills),
        plan_limits=Backfill(),
        gates=dict(
            [
                gate("removed-unused", Verdict.PASS, "nobody has used users.legacy_token for 1h00m", age=95.0),
                gate("no-waiters", Verdict.PASS, "No blocked sessions", age=20.0),
                gate("fills-complete", Verdict.FAIL, "1 row failed; see zdd.failed_row"),
                gate("operations-valid", Verdict.PENDING, "5 of 7 steps to run: fill orders.public_id"),
            ]
        ),
    )
    return replace(made, release=Observed(changed, MONOTONIC), workload=Observed())


def _table_paused() -> DashboardState:
    """The same where the first table was paused in the middle: the second one is filled now."""
    made = _operations()
    rec = made.release.value
    assert rec is not None
    paused, running, waiting = rec.fills
    step = next(step for step in rec.release.strategy.steps if step.name == paused.job)
    steps = tuple(
        replace(each, status=StepStatus.SUSPENDED, ended_at=None) if each.name == step.name else each
        for each in rec.steps
    )
    fills = (replace(paused, status="paused", rows_done=120_000), replace(running, failed_rows=0), waiting)
    pause = TablePause(step.table, "ana@bastion", EPOCH - 192)
    release = replace(rec.release, statuses=tuple(each.status for each in steps), table_pauses=(pause,))
    changed = replace(rec, release=release, steps=steps, fills=fills, backfill=combine_backfills(fills))
    return replace(made, release=Observed(changed, MONOTONIC))


def _dark_mismatch() -> DashboardState:
    """The new path returns different results: its gate fails."""
    made = _dark_launch()
    rec = made.release.value
    assert rec is not None
    upto = sum(len(each.steps) for each in rec.release.strategy.phases[: rec.release.phase + 1])
    statuses = (StepStatus.DONE,) * upto + rec.release.statuses[upto:]
    bad = "41 mismatches in 1,203 comparisons (3.41%, limit 0.1%): 33 mismatch, 8 timeout; differs: email, name"
    rec = replace(
        rec,
        release=replace(rec.release, state=ReleaseState.WAITING, statuses=statuses),
        gates=dict(
            [
                gate("shadow-agrees", Verdict.FAIL, bad),
                gate("shadow-fast", Verdict.PASS, "p95 8.1 ms, old path 7.9 ms: 1.03 times, limit 2"),
                gate("pods-healthy", Verdict.PASS, "4 new pods are ready, none has restarted"),
            ]
        ),
    )
    return replace(made, release=Observed(rec, MONOTONIC))


def _dark_launch() -> DashboardState:
    plan = plan_of("dark-launch", "users-api-dark", has_flags=True, rule_names=("errors",), flags="cache.shop:6379/0")
    strategy = build_dark_launch(
        DarkLaunchPlan.model_validate(
            {
                "name": "users-api-dark",
                "strategy": "dark-launch",
                "database": {"dsn": "postgresql:///x"},
                "kubernetes": {"deployment": "users-api", "image": NEW},
                "flags": {"url": "redis:///", "shadow": "users_sql_shadow", "read": "users_sql_read"},
                "dark": {"path": "users_name"},
            }
        )
    )
    made = of_strategy(strategy, plan, ReleaseState.RUNNING, "shadow-25", done=False, guard=(errors(),))
    shadow, read = flags(ON, OFF)
    views = (
        replace(shadow, key="users_sql_shadow", role="shadow", value=FlagValue(25)),
        replace(read, key="users_sql_read", role="read"),
    )
    return replace(
        made,
        workload=Observed(pods_of("users-api", NEW, PodState.SERVING, OTHER), MONOTONIC),
        flags=Observed(views, MONOTONIC),
    )

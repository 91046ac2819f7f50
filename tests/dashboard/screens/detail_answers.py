"""Fixed results of the queries of the detail screens."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml

from tests.support.states import (
    AGENT,
    ANA,
    EPOCH,
    MONOTONIC,
    SERVING,
    board,
    dashboard_situations,
    flags,
    metric_history,
    record,
    release,
    workload,
)
from tests.support.strategy_states import OTHER, guard_situations
from zdd_tui.dashboard.screens.details.activity import ActivityScreen
from zdd_tui.dashboard.screens.details.backfill import BackfillScreen
from zdd_tui.dashboard.screens.details.base import DetailScreen
from zdd_tui.dashboard.screens.details.charts import ChartScreen
from zdd_tui.dashboard.screens.details.diagram import DiagramScreen
from zdd_tui.dashboard.screens.details.flag import FlagScreen
from zdd_tui.dashboard.screens.details.gate import GateDetailScreen, GateScreen
from zdd_tui.dashboard.screens.details.log import LogScreen
from zdd_tui.dashboard.screens.details.plan import PlanScreen
from zdd_tui.dashboard.screens.details.pod import PodScreen
from zdd_tui.dashboard.screens.details.timeline import TimelineScreen
from zdd_tui.dashboard.screens.details.version_log import VersionLogScreen
from zdd_tui.dashboard.screens.details.yaml import YamlScreen
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext, StateSource
from zdd_tui.model.activity import ActivityQuery, DatabaseActivity, Replica, Session, TableVacuum
from zdd_tui.model.flag import ON
from zdd_tui.model.queries import (
    AuditLog,
    AuditLogQuery,
    BackfillDetail,
    BackfillQuery,
    ChangeView,
    LogLine,
    LogView,
    MetricHistoryQuery,
    MismatchView,
    ObjectDetail,
    ObjectQuery,
    PlanQuery,
    PlanText,
    RangeView,
)
from zdd_tui.model.release.records import Actor, BackfillRecord, Event, FailedRow
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus, steps_to_undo
from zdd_tui.model.release.strategy import Phase
from zdd_tui.model.rollback import NewSideCount, PastRollback, RehearsedRollback, RollbackHistory
from zdd_tui.model.shadow import FieldDifference, ShadowQuery, ShadowSample, ShadowSamples
from zdd_tui.model.workload.rollout import EventView

POD = "users-api-6d4f9c7b5d-x7k2p"

CHANGE = ChangeView(
    "public.users",
    "public.users",
    (("first_name", "split_part(full_name, ' ', 1)"), ("last_name", "split_part(full_name, ' ', 2)")),
    (("full_name", "first_name || ' ' || last_name"),),
)


def _stamp(ago: float) -> str:
    return datetime.fromtimestamp(EPOCH - ago, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


DOCUMENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": POD,
        "namespace": "shop",
        "creationTimestamp": _stamp(754),
        "labels": {"app": "users-api", "pod-template-hash": "6d4f9c7b5d"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "users-api-6d4f9c7b5d"}],
    },
    "spec": {
        "nodeName": "node-1",
        "containers": [
            {
                "name": "app",
                "image": "shop/users-api:2",
                "env": [{"name": "DATABASE_URL", "value": "postgresql://zdd:***@db.shop:5432/shop"}],
                "readinessProbe": {"httpGet": {"path": "/ready"}, "periodSeconds": 1, "failureThreshold": 2},
            }
        ],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.2.0.7",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": _stamp(754)},
            {"type": "Initialized", "status": "True", "lastTransitionTime": _stamp(753)},
            {
                "type": "Ready",
                "status": "False",
                "reason": "ContainersNotReady",
                "message": "containers with unready status: [app]",
                "lastTransitionTime": _stamp(31),
            },
        ],
        "containerStatuses": [
            {
                "name": "app",
                "image": "shop/users-api:2",
                "ready": False,
                "restartCount": 3,
                "state": {
                    "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
                },
                "lastState": {
                    "terminated": {"reason": "Error", "exitCode": 137, "signal": 9, "finishedAt": _stamp(33)}
                },
            }
        ],
    },
}

OBJECT = ObjectDetail(
    DOCUMENT,
    yaml.safe_dump(DOCUMENT, sort_keys=False, width=10_000),
    (
        EventView(EPOCH - 750, False, "Scheduled", f"pod/{POD}", f"Successfully assigned shop/{POD} to node-1", 1),
        EventView(EPOCH - 33, True, "BackOff", f"pod/{POD}", "Back-off restarting failed container app", 7),
    ),
)

LOG = LogView(
    tuple(
        LogLine(f'{{"level": "info", "path": "/users/{n}", "ms": {n % 9}}}', EPOCH - 60 + n / 50) for n in range(2000)
    ),
    total=2310,
    dropped=310,
    state="following",
)


ROLLBACK_HISTORY = RollbackHistory(
    RehearsedRollback(EPOCH - 3 * 86400, True, 0.1, {"cutover": 2.1}),
    PastRollback("users-full-name", "cutover", 252, EPOCH - 9 * 86400),
    NewSideCount(48_211, 3, True),
)


def soaking_board() -> DashboardState:
    """Reads use the new side, V3 is rolled out, and one of four serving pods has it."""
    rel = release(ReleaseState.RUNNING, Phase.CUTOVER, done=13, current=StepStatus.STARTED)
    newest = "shop/users-api:3"
    first, *others = workload(SERVING).pods
    pods = (replace(first, image=newest, version="3"), *others)
    backfill = BackfillRecord("done", 1_200_000, 1_200_000, verified=True)
    made = board(record(rel, backfill=backfill), flags=Observed(flags(ON, ON), MONOTONIC))
    undo = tuple(f"undo {spec.name}: {spec.label}" for spec in steps_to_undo(rel))
    return replace(
        made,
        plan=replace(made.plan, change=CHANGE, newest_image=newest),
        workload=Observed(replace(workload(SERVING), pods=pods), MONOTONIC),
        previews={CommandKind.ROLLBACK: undo},
    )


def event(number: int, ago: float, kind: str, what: str, reason: str = "", actor: Actor = AGENT) -> Event:
    return Event(number, EPOCH - ago, actor, kind, what, reason)


GUARD = Actor("guard", "bastion")

AUDIT_LOG = AuditLog(
    (
        event(1, 754, "release", "registered users-full-name for production", actor=ANA),
        event(2, 753, "lease", "acquired the lease, epoch 3"),
        event(3, 700, "command", "advance: expand is running", actor=ANA),
        event(4, 699, "step", "run lint-ddl begins: lint the DDL: additive only"),
        event(5, 698.5, "step", "run lint-ddl done"),
        event(6, 698, "step", "run expand-schema begins: add the new schema"),
        event(7, 650, "error", "run expand-schema failed: lock on public.users not acquired in 40 attempts"),
        event(8, 640, "command", "advance: expand is running", "the report has ended", actor=ANA),
        event(9, 640, "step", "run expand-schema begins: add the new schema"),
        event(10, 639, "step", "run expand-schema done"),
        event(11, 630, "gate", "schema-valid: pass", "columns, indexes and triggers exist and are valid"),
        event(90, 600, "phase", "dual-write begins"),
        event(12, 600, "command", "advance: dual-write is running", "change 4711", actor=ANA),
        event(13, 600, "step", "run rollout-v2 begins: roll out V2"),
        event(14, 540, "lease", "acquired the lease, epoch 4", "no heartbeat from agent@bastion for 3.2 s"),
        event(15, 540, "step", "run rollout-v2 begins: roll out V2"),
        event(16, 520, "step", "run rollout-v2 done"),
        event(17, 520, "step", "run write-flag-on begins: turn the write flag on"),
        event(18, 518, "step", "run write-flag-on done"),
        event(19, 100, "command", "advance: backfill is running", actor=ANA),
        event(20, 100, "step", "run backfill-rows begins: move old rows in batches"),
        event(21, 60, "guard", "errors: fail", "v2 7.1% of 812 requests failed in 30s", GUARD),
        event(22, 40, "refused", "advance: the backfill is still running", actor=ANA),
        event(23, 10, "gate", "backfill-complete: pending", "756,000 of about 1,200,000 rows"),
    )
)

STORED = """\
name: users-full-name
environment: production
database: {dsn: "${DATABASE_URL}"}
kubernetes:
  namespace: shop
  deployment: users-api
gates:
  soak: 30s
"""

PLAN_TEXT = PlanText(
    STORED,
    EPOCH - 754,
    "4f1c09d2a77be3120000",
    "plans/users.yaml",
    STORED.replace("soak: 30s", "soak: 5s"),
    "",
    EPOCH - 120,
)

BACKFILL = BackfillDetail(
    (
        RangeView("backfill", 0, None, ("1200000",), ("756000",), 756_000, False),
        RangeView("verify", 0, None, ("1200000",), None, 0, False),
    ),
    (FailedRow(["4711"], "not null violation (23502, users_full_name_check)", EPOCH - 21),),
    (MismatchView(("815",), "differs", ("full_name",)),),
    "UPDATE public.users SET (full_name) = ROW((first_name || ' ' || last_name))\nWHERE (users.id) > ($1::text::bigint)"
    "\n  AND (users.full_name IS DISTINCT FROM (first_name || ' ' || last_name))",
    (
        "Update on users  (cost=0.43..1204.11 rows=0 width=0)",
        "  ->  Index Scan using users_pkey on users  (cost=0.43..1204.11 rows=1990 width=38)",
        "        Index Cond: (id > '756000'::bigint)",
    ),
    "",
    {"batch_rows_max": 2000},
)


def shadow_sample(ago: float, number: int, unit: str, *fields: FieldDifference, **changes: Any) -> ShadowSample:
    made = ShadowSample(f"users-api-{OTHER[number % 4]}", EPOCH - ago, "mismatch", number, unit, fields)
    return replace(made, **changes)


SAMPLES = ShadowSamples(
    (
        shadow_sample(2, 41, "815", FieldDifference("name", '"Ana van der Berg"', '"Ana Van Der Berg"', "only case")),
        shadow_sample(
            3,
            40,
            "4711",
            FieldDifference("email", "<text of 18>", "<null>"),
            FieldDifference(
                "name", '"山田 さくら O\'Neil de la Cruz"', '"山田 さくら O\'neil De La Cruz"', "only case"
            ),
        ),
        shadow_sample(9, 7, "90210", kind="timeout", error="TimeoutError"),
        shadow_sample(
            64,
            39,
            "ana@example.com",
            FieldDifference("display_name_short", "<absent>", '"\u202eA\x1b[2J"'),
            omitted_fields=2,
        ),
    ),
    total_failures=1_245,
    logs_read=4,
    logs_not_read=1,
    not_read_reason="pods 'users-api-7f8c6d9b4f-b9h3w' is forbidden",
    lines_per_log=2000,
)

ACTIVITY = DatabaseActivity(
    (
        Session(
            4123, "s1", "bi", "report", "10.2.0.9", "idle in transaction", 842.0, 840.0, "Client ClientRead",
            "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE o.created_at > now() - interval '90 days'",
        ),
        Session(
            4211, "s2", "zdd_agent", "zdd agent 1 4", "10.2.0.2", "active", 4.2, 4.2, "Lock relation",
            "ALTER TABLE public.users ADD COLUMN full_name text", (4123,),
        ),
        Session(4305, "s3", "app", "users-api", "10.2.0.7", "active", 3.9, 3.9, "Lock relation",
                "UPDATE public.users SET email = $2 WHERE id = $1", (4211,)),
        Session(4410, "s4", "app", "users-api", "10.2.0.8", "active", 0.2, 0.2, "", "SELECT 1"),
        Session(4500, "s5", "etl", "nightly", "10.2.0.4", "active", 3720.0, 60.0, "IO DataFileRead",
                "COPY public.orders TO STDOUT"),
    ),
    (Replica("replica-1", "streaming", 0.4, 1_200_000), Replica("slot old", "inactive", None, 91_000_000_000)),
    (TableVacuum("public.users", 1_200_000, 410_000, 5400.0, "autovacuum worker: scanning heap, 41%", 12.0),),
)  # fmt: skip

ANSWERS: dict[type, Any] = {
    ShadowQuery: SAMPLES,
    ObjectQuery: OBJECT,
    AuditLogQuery: AUDIT_LOG,
    PlanQuery: PLAN_TEXT,
    BackfillQuery: BACKFILL,
    ActivityQuery: ACTIVITY,
    MetricHistoryQuery: metric_history(),
}

Maker = Callable[[StateSource, Callable[[], RenderContext]], DetailScreen]

SITUATIONS = dashboard_situations() | guard_situations()


def with_change(board: DashboardState) -> DashboardState:
    return replace(board, plan=replace(board.plan, change=CHANGE))


SCREENS: dict[str, tuple[str, Maker]] = {
    "pod": ("backfill", lambda source, look: PodScreen(source, look, POD)),
    "log": ("backfill", lambda source, look: LogScreen(source, look, POD)),
    "yaml": ("backfill", lambda source, look: YamlScreen(source, look, ObjectQuery("Pod", POD))),
    "plan": ("backfill", PlanScreen),
    "timeline": ("backfill", TimelineScreen),
    "gates": ("gates", GateScreen),
    "gate": ("gates", lambda source, look: GateDetailScreen(source, look, "cutover", "serving-v3")),
    "flag": ("backfill", lambda source, look: FlagScreen(source, look, "users_full_name_write")),
    "backfill": ("backfill", BackfillScreen),
    "activity": ("backfill", ActivityScreen),
    "logs": ("backfill", VersionLogScreen),
    "charts": ("guard-backfill", ChartScreen),
    "topology": ("backfill", DiagramScreen),
    "topology-cutover": ("gates", DiagramScreen),
    "topology-rolling": ("rolling", DiagramScreen),
    "topology-canary": ("canary", DiagramScreen),
    "topology-blue-green": ("blue-green", DiagramScreen),
    "topology-dark-launch": ("dark-mismatch", DiagramScreen),
}

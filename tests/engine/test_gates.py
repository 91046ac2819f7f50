"""Gates: pending until the step that brings the condition about is done, and fail only for what is broken after it."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

import asyncpg
import pytest

from tests.support.operations import open_context, plan_of, run_phases
from tests.support.states import backfill, record
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.demo.plan import plan_yaml, strategy_plan_yaml
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import GATES, evaluate_gates
from zdd_tui.engine.gates.result import pass_after
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts, project_pod
from zdd_tui.model.workload.rollout import DeploymentView, project_deployment

ENVIRONMENT = {"DATABASE_URL": "postgresql://a@b/c", "REDIS_URL": "redis://d/0", "KUBECONFIG": "/none"}
OLD_IMAGE = "users:1"


class StableCluster:
    """A cluster before the release: one ready pod of the old image, and no object of the release."""

    def __init__(self, plan: BasePlan) -> None:
        self._plan = plan
        self.namespace = "demo"
        self.http = self

    def path(self, *parts: str) -> str:
        return "/".join(parts)

    async def request_json(self, _method: str, path: str) -> Any:
        raise KubeApiError(f"no {path}", status=HTTPStatus.NOT_FOUND)

    async def get_deployment(self, name: str) -> DeploymentView:
        names = self._plan.kubernetes
        if name != names.deployment:
            raise KubeApiError(f"no deployment {name}", status=HTTPStatus.NOT_FOUND)
        template = {"spec": {"containers": [{"name": names.container or "app", "image": OLD_IMAGE}]}}
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        return project_deployment(
            {
                "metadata": {"name": name, "uid": "u"},
                "spec": {"replicas": 1, "template": template, "strategy": rolling},
                "status": {"availableReplicas": 1},
            }
        )

    async def list_pods(self, *_: Any, **__: Any) -> list[PodFacts]:
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        spec = {"containers": [{"name": self._plan.kubernetes.container or "app", "image": OLD_IMAGE}]}
        return [project_pod({"metadata": {"name": "one", "uid": "p"}, "spec": spec, "status": ready})]

    async def list_replica_sets(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def list_endpoint_slices(self, _service: str) -> list[EndpointFacts]:
        return [EndpointFacts("one", "p", "10.0.0.1", 80, ready=True, serving=True, terminating=False)]


class NoFlags:
    async def read(self, keys: list[str]) -> dict[str, None]:
        return dict.fromkeys(keys)


def make_context(plan: BasePlan) -> Context:
    return Context(
        plan,
        cast(AgentStore, None),
        cast(FlagStore, NoFlags()),
        cast(Cluster, StableCluster(plan)),
        lambda: False,
        lambda _line: None,
    )


def load(text: str) -> BasePlan:
    return load_plan(text, source="", environment=ENVIRONMENT).plan


def running(plan: BasePlan, phase: int, *, done: tuple[str, ...] = (), **changes: Any) -> ReleaseRecord:
    release = Release(plan.name, "hash", build_strategy(plan), ReleaseState.RUNNING, phase)
    for name in done:
        release = release.with_status(name, StepStatus.DONE)
    return replace(record(release), **changes)


PLANS = [strategy_plan_yaml(name, name="x", soak="1s") for name in ("rolling", "canary", "blue-green", "dark-launch")]
PLANS.append(strategy_plan_yaml("canary", name="x", soak="1s", canary_by="flag"))


@pytest.mark.parametrize("text", PLANS, ids=["rolling", "canary", "blue-green", "dark-launch", "canary-by-flag"])
async def test_no_gate_fails_before_the_first_step(text: str) -> None:
    plan = load(text)
    readings = await evaluate_gates(make_context(plan), running(plan, 0))
    assert readings
    for reading in readings:
        assert reading.verdict is not Verdict.FAIL, reading
        assert "bug in zdd" not in reading.reason


def test_a_condition_that_does_not_hold_fails_only_after_its_step() -> None:
    plan = load(PLANS[0])
    before, after = running(plan, 0), running(plan, 0, done=("record-workload", "rollout-new"))
    assert pass_after(before, ["rollout-new"], False, "why") == (Verdict.PENDING, "why")
    assert pass_after(after, ["rollout-new"], False, "why") == (Verdict.FAIL, "why")
    assert pass_after(before, ["rollout-new"], True, "why") == (Verdict.PASS, "why")
    assert pass_after(running(plan, 1), ["rollout-new"], False, "why") == (Verdict.FAIL, "why"), "an earlier phase's"


async def test_pods_without_the_new_image_are_pending_during_the_rollout_and_a_failure_after_it() -> None:
    plan = load(PLANS[0])
    ctx = make_context(plan)
    for done, verdict in (((), Verdict.PENDING), (("record-workload", "rollout-new"), Verdict.FAIL)):
        for gate in ("serving-new", "pods-healthy"):
            assert (await GATES[gate](ctx, running(plan, 0, done=done)))[0] is verdict, gate


@pytest.mark.parametrize(
    ("gate", "state", "expected"),
    [
        ("backfill-complete", None, (Verdict.PENDING, "not started")),
        ("backfill-complete", backfill(status="running", rows_done=5, rows_total=10), (Verdict.PENDING, "5 of about")),
        ("backfill-complete", backfill(status="done", rows_done=10), (Verdict.PASS, "all ranges done")),
        ("backfill-complete", backfill(status="done", failed_rows=3), (Verdict.FAIL, "3 rows failed")),
        ("no-mismatch", None, (Verdict.PENDING, "not verified yet")),
        ("no-mismatch", backfill(verified_rows=7), (Verdict.PENDING, "7 rows compared so far")),
        ("no-mismatch", backfill(verified=True, mismatches=0), (Verdict.PASS, "0 mismatches")),
        ("no-mismatch", backfill(verified=True, mismatches=2), (Verdict.FAIL, "2 mismatches")),
    ],
)
async def test_an_unfinished_backfill_is_pending(gate: str, state: Any, expected: tuple[Verdict, str]) -> None:
    plan = load(plan_yaml("column", "trigger"))
    verdict, reason = await GATES[gate](make_context(plan), running(plan, 2, backfill=state))
    assert verdict is expected[0]
    assert expected[1] in reason


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (StepStatus.PENDING, "", Verdict.PENDING),
        (StepStatus.STARTED, "", Verdict.PENDING),
        (StepStatus.FAILED, "one: 500\n  Fix: roll back", Verdict.FAIL),
        (StepStatus.DONE, "", Verdict.PASS),
    ],
)
async def test_smoke_checks_and_soak_are_pending_until_they_end(
    status: StepStatus, error: str, expected: Verdict
) -> None:
    plan = load(PLANS[2])
    steps = (StepRecord("smoke-checks", status, {"passed": 4, "pods": 2}, error=error),)
    assert (await GATES["smoke-passed"](make_context(plan), running(plan, 0, steps=steps)))[0] is expected
    soak = (StepRecord("soak", status, note="soaking: 3s left"),)
    verdict, reason = await GATES["soak-passed"](make_context(plan), running(plan, 2, steps=soak))
    assert verdict is (Verdict.PASS if status is StepStatus.DONE else Verdict.PENDING)
    assert status is StepStatus.DONE or reason == "soaking: 3s left"


async def test_the_index_of_a_partitioned_table_alone_is_not_expected_to_be_valid(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    """ON ONLY: it is not valid before every partition has one, and may stay so."""
    await db.execute("CREATE TABLE p (n int) PARTITION BY LIST (n); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    plan = plan_of(pg_dsn, "CREATE INDEX alone ON ONLY p (n); CREATE INDEX whole ON p USING brin (n)")
    async with open_context(plan) as ctx:
        handles = await run_phases(ctx, plan, [Phase.EXPAND])
        steps = tuple(StepRecord(f"expand-{n}", StepStatus.DONE, detail=each.detail) for n, each in enumerate(handles))
        strategy = build_strategy(plan)
        done = (StepStatus.DONE,) * len(strategy.steps)
        release = Release("p", "", strategy, ReleaseState.RUNNING, phase=0, statuses=done)
        reading = replace(record(release), steps=steps)
        assert (await GATES["operations-valid"](ctx, reading))[0] is Verdict.PASS
        await db.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'whole'::regclass")
        assert (await GATES["operations-valid"](ctx, reading))[1] == "not valid: public.whole"
        await db.execute("UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'whole'::regclass; DROP INDEX alone")
        assert (await GATES["operations-valid"](ctx, reading))[1] == "not valid: public.alone"

"""The one poll for rollouts: an agent that has lost its lease stops polling, in every strategy."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from tests.support.kubelet import make_cluster, pod
from tests.support.store import AGENT, OTHER, open_store, plan_for
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import ApiUnreachable
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.demo.manifests import CONTAINER
from zdd_tui.demo.plan import strategy_plan_yaml
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps import blue_green, canary, rollout
from zdd_tui.engine.steps.rollout import build_status, wait_until_done
from zdd_tui.model.errors import StaleEpoch, StepFailed
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.workload.rollout import DeploymentView, RolloutStatus, project_deployment

POLLS = 3
"""Polls until another agent acquires the lease."""

ENVIRONMENT = {"DATABASE_URL": "postgresql://a@b/c", "REDIS_URL": "redis://d/0", "KUBECONFIG": "/none"}


class StalledCluster:
    """A cluster in which no change ever becomes done."""

    def __init__(self) -> None:
        self.reads = 0

    async def get_deployment(self, name: str) -> DeploymentView:
        self.reads += 1
        return self._view(name)

    @staticmethod
    def _view(name: str) -> DeploymentView:
        template = {"spec": {"containers": [{"name": CONTAINER, "image": "users:2"}]}}
        spec = {"replicas": 2, "template": template}
        return project_deployment({"metadata": {"name": name, "generation": 2}, "spec": spec})

    async def set_image(self, name: str, *_: Any, **__: Any) -> DeploymentView:
        return self._view(name)

    async def scale(self, *_: Any, **__: Any) -> None: ...

    async def list_objects(self, *_: Any, **__: Any) -> list[Any]:
        return []

    list_pods = list_replica_sets = list_endpoint_slices = list_objects


class TakenOverStep(StepHandle):
    """A step whose lease another agent acquires after some polls; each poll that is not done sets the note."""

    def __init__(self, dsn: str, release_id: int, cluster: StalledCluster) -> None:
        super().__init__(StepRecord("step", StepStatus.STARTED), **CALLBACKS)
        self._dsn, self._release_id, self._cluster = dsn, release_id, cluster
        self.polls = self.reads_before = 0

    async def set_note(self, text: str) -> None:
        self.polls += 1
        self.reads_before = self._cluster.reads
        if self.polls == POLLS:
            await take_over_lease(self._dsn, self._release_id)


async def ignore(*_: Any) -> None: ...


CALLBACKS: dict[str, Any] = {"write_note": ignore, "write_detail": ignore, "write_done": ignore}


async def take_over_lease(dsn: str, release_id: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE zdd.lease SET renewed_at = clock_timestamp() - make_interval(secs => ttl + 0.1)")
    await connection.close()
    other = await acquire_lease(dsn, release_id, OTHER)
    assert other is not None
    await other.close()


def make_context(plan: BasePlan, store: AgentStore, cluster: object) -> Context:
    return Context(plan, store, None, cast(Cluster, cluster), lambda: False, lambda _line: None)


def plan_of(strategy: str) -> BasePlan:
    return load_plan(strategy_plan_yaml(strategy, name="x", soak="1s"), source="", environment=ENVIRONMENT).plan


async def roll_out(ctx: Context, step: StepHandle) -> None:
    await rollout.roll_out(ctx, step, "users:2", "a test")


async def switch_traffic(ctx: Context, step: StepHandle) -> None:
    await blue_green._wait_until_serving(ctx, step, "users", "users-green")


async def scale_canary(ctx: Context, step: StepHandle) -> None:
    await canary._scale_canary(ctx, step, 1)


@pytest.mark.parametrize(
    ("strategy", "change"), [("rolling", roll_out), ("blue-green", switch_traffic), ("canary", scale_canary)]
)
async def test_an_agent_that_lost_its_lease_stops_polling(
    strategy: str,
    change: Callable[[Context, StepHandle], Awaitable[None]],
    pg_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollout, "POLL_INTERVAL", 0.01)
    async with open_store(pg_dsn) as (_, release_id):
        store = await acquire_lease(pg_dsn, release_id, AGENT)
        assert store is not None
        async with store:
            cluster = StalledCluster()
            step = TakenOverStep(pg_dsn, release_id, cluster)
            with pytest.raises(StaleEpoch):
                await change(make_context(plan_of(strategy), store, cluster), step)
            assert (step.polls, cluster.reads) == (POLLS, step.reads_before), "it polled after the lease was lost"


async def test_a_poll_survives_an_outage_and_fails_when_the_controller_gives_up(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "POLL_INTERVAL", 0.01)
    outcomes: list[RolloutStatus | ApiUnreachable] = [
        ApiUnreachable("no route to host"),
        build_status("1 of 2 available"),
        RolloutStatus(False, True, "ImagePullBackOff"),
    ]

    async def check() -> RolloutStatus:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ApiUnreachable):
            raise outcome
        return outcome

    async with open_store(pg_dsn) as (_, release_id):
        store = await acquire_lease(pg_dsn, release_id, AGENT)
        assert store is not None
        async with store:
            ctx = make_context(plan_for(pg_dsn), store, None)
            step = StepHandle(StepRecord("step", StepStatus.STARTED), **CALLBACKS)
            with pytest.raises(StepFailed) as caught:
                await wait_until_done(ctx, step, check, subject="rollout of users", resource="deployment/users")
    assert outcomes == []
    assert caught.value.title == "rollout of users: ImagePullBackOff"
    assert "describe deployment/users" in caught.value.hint


async def test_the_note_says_why_a_new_pod_does_not_become_ready(tmp_path: Path, pg_dsn: str) -> None:
    probe = {"exec": {"command": ["test", "-e", "up"]}, "periodSeconds": 1, "failureThreshold": 3}
    async with make_cluster(tmp_path) as here, open_store(pg_dsn) as (_, release_id):
        store = await acquire_lease(pg_dsn, release_id, AGENT)
        assert store is not None
        notes: list[str] = []

        async def write_note(text: str) -> None:
            notes.append(text)

        async def check() -> RolloutStatus:
            found = await here.cluster.list_pods("")
            restarts = sum(each.restarts for pod in found for each in pod.containers)
            return RolloutStatus(
                bool(restarts and "restarted" in notes[-1]),
                False,
                "1 of 4 new replicas created",
                waiting_pods=("one",),
                restarts=restarts,
            )

        async with store, asyncio.timeout(30):
            ctx = make_context(plan_for(pg_dsn), store, here.cluster)
            step = StepHandle(StepRecord("step", StepStatus.STARTED), **CALLBACKS | {"write_note": write_note})
            await here.create("pods", pod(startupProbe=probe))
            await wait_until_done(ctx, step, check, subject="rollout of users", resource="deployment/users")
    assert notes[0] == "1 of 4 new replicas created"
    assert any(each.startswith(f"{notes[0]}; one: startup probe: exit status 1") for each in notes), notes
    assert notes[-1].endswith(", restarted 1 time"), notes

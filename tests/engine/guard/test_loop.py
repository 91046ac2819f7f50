"""The guard's loop between a real API server, real metrics endpoints and a real store.

No kubelet: the pods are small servers on loopback addresses, and the API says that they run there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.kubelet import NAME, ClusterClient, deployment, make_cluster
from tests.support.metric_servers import serve_handler
from tests.support.store import AGENT, ANA, plan_for
from zdd_tui.backends.kubernetes.workload_cache import WorkloadCache
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.detail import read_metric_history
from zdd_tui.engine.guard.loop import GuardLoop
from zdd_tui.model.guard import history
from zdd_tui.model.guard.decisions import evaluate_guard_gate
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading, ReleaseRecord
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.service.metrics import CONTENT_TYPE, RequestMetrics
from zdd_tui.testbed.processes import free_port


@dataclass
class MetricsPod:
    """A server with metrics; without any where `alive` is False."""

    name: str
    version: int
    address: str
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    failing: bool = False
    alive: bool = True

    async def answer(self, _request: web.Request) -> web.Response:
        if not self.alive:
            return web.Response(status=404)
        return web.Response(body=self.metrics.render(0).encode(), headers={"Content-Type": CONTENT_TYPE})

    def serve(self) -> None:
        for number in range(20):
            self.metrics.observe("GET", 500 if self.failing and number % 4 == 0 else 200, 0.004)


@dataclass
class GuardScenario:
    """A running release, two pods of V1 and one of V2, and a guard."""

    api: ClusterClient
    store: Store
    agent: AgentStore
    plan: Plan
    pods: list[MetricsPod]
    session: aiohttp.ClientSession
    log: list[str] = field(default_factory=list)
    connected: bool = True

    @property
    def guard(self) -> Guard:
        assert self.plan.guard is not None
        return self.plan.guard

    async def start_loop(self) -> GuardLoop:
        """A guard as an agent starts it."""
        record = await self.record()
        workloads = WorkloadCache(self.api.cluster, self.plan.kubernetes.container)
        made = GuardLoop(
            self.plan,
            self.guard,
            self.agent,
            workloads=lambda: workloads if self.connected else None,
            release=lambda: record.release,
            log=self.log.append,
        )
        await made.resume()
        return made

    async def run_until(
        self, loop: GuardLoop, is_done: Callable[[dict[str, GuardReading]], bool]
    ) -> dict[str, GuardReading]:
        """Sends traffic and evaluates every interval until the condition holds."""
        deadline = asyncio.get_running_loop().time() + 30
        while True:
            for pod in self.pods:
                pod.serve()
            output = {reading.rule: reading for reading in await loop.evaluate_once(self.session)}
            if is_done(output):
                return output
            assert asyncio.get_running_loop().time() < deadline, output
            await asyncio.sleep(self.guard.interval)

    async def record(self) -> ReleaseRecord:
        found = await self.store.find_release(self.plan.name)
        assert found is not None
        return await self.store.read_release(found)


@asynccontextmanager
async def make_scenario(folder: Path, dsn: str, *rules: dict[str, Any]) -> AsyncIterator[GuardScenario]:
    port = free_port()
    pods = [
        MetricsPod("old-1", 1, "127.83.1.1"),
        MetricsPod("old-2", 1, "127.83.1.2"),
        MetricsPod("new-1", 2, "127.83.1.3"),
    ]
    guard = {"interval": 0.2, "sources": {"scrape": {"port": port}}, "rules": rules}
    raw = plan_for(dsn).model_copy(update={"guard": Guard.model_validate(guard)})
    names = raw.kubernetes.model_copy(update={"deployment": NAME})
    plan = raw.model_copy(update={"kubernetes": names})
    async with AsyncExitStack() as stack:
        for pod in pods:
            await stack.enter_async_context(serve_handler(pod.answer, pod.address, port))
        api = await stack.enter_async_context(make_cluster(folder, kubelet=False))
        await make_pods(api, pods, port)
        store = await stack.enter_async_context(await Store.open(dsn))
        await store.migrate()
        found = await store.register_release(plan, text="", document={}, plan_hash="hash-1", actor=ANA)
        agent = await acquire_lease(dsn, found, AGENT, ttl=30.0)
        assert agent is not None
        await stack.enter_async_context(agent)
        await agent.save(replace((await store.read_release(found)).release, state=ReleaseState.RUNNING, phase=0))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield GuardScenario(api, store, agent, plan, pods, session)


async def make_pods(api: ClusterClient, pods: list[MetricsPod], port: int) -> None:
    """Pods that run and are in rotation according to the API."""
    body = deployment(0)
    await api.create("deployments", body)
    labels = body["spec"]["selector"]["matchLabels"]
    for pod in pods:
        image = f"users:{pod.version}"
        container = {"name": "app", "image": image}
        meta = {"name": pod.name, "labels": labels}
        await api.create(
            "pods", {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}
        )
        state = {"name": "app", "image": image, "ready": True, "restartCount": 0, "state": {"running": {}}}
        conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        status = {"phase": "Running", "podIP": pod.address, "conditions": conditions, "containerStatuses": [state]}
        path = api.cluster.path("api/v1", "pods", pod.name, "status")
        await api.cluster.http.request_json(
            "PATCH", path, body={"status": status}, content_type="application/merge-patch+json"
        )
    endpoints = [
        {
            "addresses": [pod.address],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": api.cluster.namespace},
        }
        for pod in pods
    ]
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": endpoints,
    }
    await api.cluster.http.request_json(
        "POST", api.cluster.path("apis/discovery.k8s.io/v1", "endpointslices"), body=slices
    )


WORSE = {"name": "worse", "metric": "error-rate", "compare": {"ratio": 2}, "limit": "1%", "window": "3s"}


async def test_a_pass_is_as_old_as_the_list_of_pods_and_a_breach_as_its_samples(tmp_path: Path, pg_dsn: str) -> None:
    clock = asyncio.get_running_loop().time
    async with make_scenario(tmp_path, pg_dsn, WORSE) as here:
        loop = await here.start_loop()
        await here.run_until(loop, lambda now: now["worse"].verdict is Verdict.PASS)
        here.connected, lost = False, clock()
        output = await here.run_until(loop, lambda _: clock() - lost > 3.5)
        record = await here.record()
        assert output["worse"].verdict is Verdict.PASS, "the pods of the last list are read"
        assert record.guard[0].age(record.now) >= 3.5, "a pod that came since would not be seen"
        here.pods[2].failing = True
        await here.run_until(loop, lambda now: now["worse"].should_act)
        record = await here.record()
        assert record.guard[0].age(record.now) < clock() - lost - 1.0


RANKED = {"name": "slower", "metric": "error-rate", "compare": {"rank_test": 0.01}, "window": "3s", "action": "alert"}


async def test_new_is_compared_with_old_and_acts_only_once(tmp_path: Path, pg_dsn: str) -> None:
    async with make_scenario(tmp_path, pg_dsn, WORSE, RANKED) as here:
        loop = await here.start_loop()
        output = await here.run_until(loop, lambda now: all(one.verdict is Verdict.PASS for one in now.values()))
        assert output["worse"].baseline == 0
        here.pods[2].failing = True
        output = await here.run_until(loop, lambda now: now["worse"].should_act and now["slower"].should_act)
        assert output["worse"].reason.startswith("v2 errors ")
        assert "old 0%" in output["worse"].reason
        assert "p-value" in output["slower"].reason
        record = await here.record()
        assert [(one.kind, one.actor.name) for one in record.commands] == [("rollback", "guard")]
        assert record.cause.startswith("worse: v2 errors ")

        another = await here.start_loop()  # the agent was killed before it handled the command
        await here.run_until(another, lambda now: now["worse"].should_act)
        await here.run_until(another, lambda now: now["worse"].should_act)
        assert len((await here.record()).commands) == 1


async def test_lost_metrics_are_unknown_close_the_gate_and_pause_after_their_time(tmp_path: Path, pg_dsn: str) -> None:
    errors = {"name": "errors", "metric": "error-rate", "limit": "5%", "window": "5s"}
    async with make_scenario(tmp_path, pg_dsn, errors | {"no_data": {"after": "400ms", "action": "pause"}}) as here:
        loop = await here.start_loop()
        await here.run_until(loop, lambda now: now["errors"].verdict is Verdict.PASS)
        here.pods[2].alive = False
        output = await here.run_until(loop, lambda now: now["errors"].should_act)
        assert output["errors"].verdict is Verdict.UNKNOWN
        assert "1 of 1 v2 targets without data (new-1: status 404)" in output["errors"].reason
        record = await here.record()
        assert [(one.kind, one.actor.name) for one in record.commands] == [("pause", "guard")]
        verdict, why = evaluate_guard_gate(here.guard.rule_actions, {one.rule: one for one in record.guard}, record.now)
        assert (verdict, why.startswith("errors: ")) == (Verdict.UNKNOWN, True)

        here.pods[2].alive = True
        output = await here.run_until(loop, lambda now: now["errors"].verdict is Verdict.PASS)
        assert output["errors"].action_taken == "", "a rule that passes may act again"


async def test_the_next_agent_continues_the_evaluation(
    tmp_path: Path, pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of `for` had passed before the agent was killed: the next one needs only the other half."""
    monkeypatch.setattr(history, "HISTORY_SPACING", 0.0)
    slow = {"name": "errors", "metric": "error-rate", "limit": "5%", "window": "8s", "min_samples": 60, "for": "3s"}
    crashes = {"name": "crashes", "metric": "restarts", "limit": 2, "window": "8s", "action": "alert"}
    async with make_scenario(tmp_path, pg_dsn, slow, crashes) as here:
        loop = await here.start_loop()
        here.pods[2].failing = True
        output = await here.run_until(loop, lambda now: "for 1." in now["errors"].reason)
        assert output["crashes"].verdict is Verdict.PASS
        before = loop._rule_states["errors"].breached_seconds

        another = await here.start_loop()
        (errors_reading, crashes_reading) = await another.evaluate_once(here.session)
        assert another._rule_states["errors"].breached_seconds >= before
        assert "of 3.0s" in errors_reading.reason, "the window is as full as it was"
        assert errors_reading.samples >= 60
        assert crashes_reading.verdict is Verdict.PASS

        # The charts of a screen continue as well, and have both versions.
        release_id = await here.store.find_release(here.plan.name)
        assert release_id is not None
        points = (await read_metric_history(here.store.pool, release_id)).points["errors"]
        assert [point.at for point in points] == sorted(point.at for point in points)
        assert len(points) > len(loop._histories["errors"]), "those of both agents"
        assert points[-1].new == pytest.approx(errors_reading.value, rel=0.01)
        assert points[-1].old == 0
        assert abs((await here.record()).now - points[-1].at) < 5

        # Kubernetes is unreachable when the next one starts: the counters stay, and become stale.
        here.connected = False
        third = await here.start_loop()
        output = await here.run_until(third, lambda now: now["errors"].verdict is Verdict.UNKNOWN)
        assert "targets without data" in output["errors"].reason
        assert "not connected to Kubernetes yet" in output["errors"].reason
        assert third._rule_states["errors"].breached_seconds >= before

        here.connected = True
        await here.run_until(third, lambda now: now["errors"].should_act)
        await here.run_until(third, lambda now: now["errors"].should_act)
        assert [(one.kind, one.actor.name) for one in (await here.record()).commands] == [("rollback", "guard")]

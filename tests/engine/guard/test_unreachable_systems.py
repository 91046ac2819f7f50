"""An agent whose other systems are unreachable: the guard evaluates the rules it can, the rest is unknown."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tests.support.metric_servers import ServerAnswer, serve_answer
from tests.support.store import AGENT, ANA, plan_for
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.agent import Agent
from zdd_tui.engine.guard.loop import GuardLoop
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.release.claims import (
    ACTIVE,
    FRESH_SECONDS,
    SourceHealth,
    SourceStatus,
    assess_queried_metrics,
)
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.testbed.processes import free_port

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: away
clusters: [{{name: away, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: away, user: {{token: none}}}}]
contexts: [{{name: away, context: {{cluster: away, user: away}}}}]
"""
ELEMENT = '{"status": "success", "data": {"resultType": "scalar", "result": [NOW, "7"]}}'
AWAY = {"agent waits for Redis", "agent waits for Kubernetes"}


def guard(probed: str, queried: str) -> Guard:
    rules: list[dict[str, Any]] = [
        {"name": "outside", "metric": "error-rate", "source": "probe", "version": "all", "limit": "5%"},
        {"name": "orders", "metric": "query", "query": "failed", "limit": 3},
        {"name": "pods", "metric": "error-rate", "limit": "5%", "action": "pause"},
    ]
    for rule in rules[:2]:
        rule |= {"window": "20s", "min_samples": 0, "action": "alert"}
    sources = {"probe": {"url": probed}, "prometheus": {"url": queried}}
    return Guard.model_validate({"interval": 0.2, "sources": sources, "rules": rules})


async def test_the_guard_does_not_wait_for_other_systems(tmp_path: Path, pg_dsn: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(port=free_port()))
    plan = plan_for(pg_dsn)
    async with (
        serve_answer(ServerAnswer(status=503)) as probed,
        serve_answer(ServerAnswer(body=ELEMENT)) as requested,
        await Store.open(pg_dsn) as store,
    ):
        redis = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
        plan = plan.model_copy(
            update={
                "guard": guard(probed, requested),
                "flags": plan.flags.model_copy(update={"url": redis}),
                "kubernetes": plan.kubernetes.model_copy(update={"kubeconfig": str(kubeconfig)}),
            }
        )
        await store.migrate()
        release_id = await store.register_release(plan, text="", document={}, plan_hash="hash-1", actor=ANA)
        async with await acquire_lease(pg_dsn, release_id, AGENT, ttl=30.0) as holder:  # type: ignore[union-attr]
            await holder.save(
                replace((await store.read_release(release_id)).release, state=ReleaseState.RUNNING, phase=0)
            )
            await holder.release_lease()

        carrying = asyncio.create_task(Agent(plan, release_id, AGENT, log=lambda _line: None).run())
        try:
            output: dict[str, GuardReading] = {}
            waits: set[str] = set()
            async with asyncio.timeout(60):
                # Both are connected concurrently.
                while {name for name, one in output.items() if one.action_taken} != {
                    "outside",
                    "orders",
                } or waits != AWAY:
                    await asyncio.sleep(0.1)
                    record = await store.read_release(release_id)
                    output = {one.rule: one for one in record.guard}
                    waits = {event.message.split(":")[0] for event in record.events if event.kind == "error"}
        finally:
            carrying.cancel()
            with suppress(asyncio.CancelledError):
                await carrying
        assert output["outside"].verdict is output["orders"].verdict is Verdict.FAIL
        assert output["orders"].value == 7
        assert (output["pods"].verdict, output["pods"].should_act) == (Verdict.UNKNOWN, False)
        assert output["pods"].reason == "not connected to Kubernetes yet"


async def test_a_lost_metrics_server_is_known_within_seconds_however_rarely_rules_are_evaluated(pg_dsn: str) -> None:
    answer = ServerAnswer(body=ELEMENT)
    async with serve_answer(answer) as requested, await Store.open(pg_dsn) as store:
        rule = {"name": "orders", "metric": "query", "query": "failed", "limit": 30, "window": "2m", "min_samples": 0}
        sources = {"prometheus": {"url": requested}}
        rare = Guard.model_validate({"interval": 60, "sources": sources, "rules": [rule]})
        plan = plan_for(pg_dsn).model_copy(update={"guard": rare})
        await store.migrate()
        release_id = await store.register_release(plan, text="", document={}, plan_hash="hash-1", actor=ANA)

        async def wait_for(status: SourceStatus) -> SourceHealth:
            async with asyncio.timeout(30):
                while True:
                    record = await store.read_release(release_id)
                    found = assess_queried_metrics(record, {"orders": 60.0}, record.now, ACTIVE)
                    if found.status is status:
                        return found
                    await asyncio.sleep(0.1)

        async with await acquire_lease(pg_dsn, release_id, AGENT, ttl=60.0) as holder:  # type: ignore[union-attr]
            release = (await store.read_release(release_id)).release
            loop = GuardLoop(
                plan, rare, holder, workloads=lambda: None, release=lambda: release, log=lambda _line: None
            )
            running = asyncio.create_task(loop.run())
            try:
                await wait_for(SourceStatus.FRESH)
                count = answer.request_count
                await asyncio.sleep(FRESH_SECONDS)
                assert answer.request_count > count, "the next evaluation is in a minute"
                assert (await wait_for(SourceStatus.FRESH)).age < FRESH_SECONDS  # type: ignore[operator]
                answer.status, answer.body = 503, "overloaded"
                lost = await wait_for(SourceStatus.LOST)
                assert "is not a Prometheus API: status 503" in lost.error
                assert lost.age is not None
                assert lost.age < FRESH_SECONDS, "since its last response; the rule was evaluated longer ago"
                answer.status, answer.body = 200, ELEMENT
                await wait_for(SourceStatus.FRESH)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

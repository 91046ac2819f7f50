"""The second Deployment of a canary: it appears, and its absence is no error."""

import asyncio
from pathlib import Path

from tests.dashboard.test_live_source import DEPLOYMENT, wait_for_board
from tests.support.store import ANA
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.workload.pod import PodState
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import local_cluster


def canary_plan(kubeconfig: Path, **more: object) -> CanaryPlan:
    return CanaryPlan.model_validate(
        {
            "name": "users-api-canary",
            "strategy": "canary",
            "database": {"dsn": "postgresql://u:p@127.0.0.1:1/x"},
            "kubernetes": {"kubeconfig": str(kubeconfig), "deployment": "users-api", "image": "users:2"},
        }
        | more
    )


async def test_the_second_deployment_appears(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        plan = canary_plan(cluster.kubeconfig)
        cluster.api.create(kinds.DEPLOYMENT, "default", DEPLOYMENT)
        feeds = LiveSource(plan, actor=ANA)
        feeds.start(wait_for_screen=0)
        try:
            first = await wait_for_board(
                feeds, lambda b: b.workload.value is not None and b.second_workload.observed_at is not None
            )
            assert first.plan.deployment_roles == (("stable", "users-api"), ("canary", "users-api-canary"))
            assert first.second_workload.value is None
            assert not first.second_workload.error
            second = DEPLOYMENT | {"metadata": {"name": "users-api-canary", "namespace": "default"}}
            cluster.api.create(kinds.DEPLOYMENT, "default", second)
            there = await wait_for_board(feeds, lambda b: b.second_workload.value is not None)
            assert there.second_workload.value is not None
            assert there.second_workload.value.deployment is not None
            assert there.second_workload.value.deployment.name == "users-api-canary"
        finally:
            assert await asyncio.to_thread(feeds.stop, 5.0)


async def test_with_a_gateway_the_second_deployment_has_a_service_of_its_own(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        plan = canary_plan(cluster.kubeconfig, canary={"by": "gateway", "route": "users-api"})
        for name in ("users-api", "users-api-canary"):
            labels = {"app": name}
            spec = DEPLOYMENT["spec"] | {"replicas": 1, "selector": {"matchLabels": labels}}
            spec["template"] = spec["template"] | {"metadata": {"labels": labels}}
            made = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
            cluster.api.create(kinds.DEPLOYMENT, "default", made)
            service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
            cluster.api.create(kinds.SERVICE, "default", {"metadata": {"name": name}, "spec": service})
        feeds = LiveSource(plan, actor=ANA)
        feeds.start(wait_for_screen=0)
        try:
            await wait_for_board(
                feeds, lambda b: b.second_workload.value is not None and len(b.second_workload.value.pods) == 1
            )
            for pod in cluster.api.list(kinds.POD, "default"):
                ready = {"phase": "Running", "podIP": "127.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]}
                cluster.api.write(kinds.POD, pod, "status", {**pod["status"], **ready})
            there = await wait_for_board(
                feeds,
                lambda b: all(
                    side.value is not None and [pod.state for pod in side.value.pods] == [PodState.SERVING]
                    for side in (b.workload, b.second_workload)
                ),
            )
            assert there.second_workload.value is not None
            assert there.second_workload.value.pods[0].name.startswith("users-api-canary-")
        finally:
            assert await asyncio.to_thread(feeds.stop, 5.0)

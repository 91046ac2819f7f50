"""The second Deployment of a canary on the board: it comes, and its absence is no error."""

import asyncio
from pathlib import Path

from tests.integration.store_helpers import ANA
from tests.integration.test_feeds import DEPLOYMENT, until
from zdd_tui.demo.cluster import kinds
from zdd_tui.demo.cluster.cluster import local_cluster
from zdd_tui.feeds import Feeds
from zdd_tui.model.plans import CanaryPlan


async def test_the_second_deployment_comes(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        plan = CanaryPlan.model_validate(
            {
                "name": "users-api-canary",
                "strategy": "canary",
                "database": {"dsn": "postgresql://u:p@127.0.0.1:1/x"},
                "kubernetes": {
                    "kubeconfig": str(cluster.kubeconfig),
                    "deployment": "users-api",
                    "image": "users:2",
                },
            }
        )
        cluster.api.create(kinds.DEPLOYMENT, "default", DEPLOYMENT)
        feeds = Feeds(plan, actor=ANA)
        feeds.start(wait_for_screen=0)
        try:
            first = await until(feeds, lambda b: b.pods.value is not None and b.twin.observed_at is not None)
            assert first.plan.sides == (("stable", "users-api"), ("canary", "users-api-canary"))
            assert first.twin.value is None
            assert not first.twin.error
            twin = DEPLOYMENT | {"metadata": {"name": "users-api-canary", "namespace": "default"}}
            cluster.api.create(kinds.DEPLOYMENT, "default", twin)
            there = await until(feeds, lambda b: b.twin.value is not None)
            assert there.twin.value is not None
            assert there.twin.value.deployment is not None
            assert there.twin.value.deployment.name == "users-api-canary"
        finally:
            assert await asyncio.to_thread(feeds.stop, 5.0)

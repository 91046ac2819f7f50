"""Canary by gateway, with an HTTPRoute whose API is ours: weights, the way back from each phase, nothing left."""

from pathlib import Path

import pytest

from tests.integration.gateway_api import ROUTE, gateway_api
from tests.release_support import assert_nobody_was_hurt, no_progress, production
from zdd_tui.backends.kube_route import get_route
from zdd_tui.backends.kubernetes import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.cluster.cluster import local_cluster
from zdd_tui.demo.likeness import differences, take
from zdd_tui.demo.strategy_plans import IMAGE
from zdd_tui.demo.walk import Walker
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.release import State

FIRST, CANARY = manifests.NAME, f"{manifests.NAME}-canary"
BEFORE = {FIRST: 5}
PHASES = ("canary-33", "canary-50", "promote")


@pytest.mark.timeout(400)
async def test_weights_go_up_by_phases_and_back_at_once(tmp_path: Path) -> None:
    async with (
        production(tmp_path, strategy="canary", name="users-canary") as (env, store),
        gateway_api(env.kubeconfig, tmp_path, manifests.NAME) as (gateway, kubeconfig),
    ):
        text = env.plan_file.read_text().replace("by: replicas", f"by: gateway\n  route: {ROUTE}")
        env.plan_file.write_text(text.replace("${KUBECONFIG}", str(kubeconfig)))
        before, route_before = await take(env), gateway.comparable()
        for last in PHASES[1:]:
            walker = Walker(env, store, no_progress)
            await walker.begin()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await walker.advance(phase)
            assert gateway.weights == {FIRST: 50, CANARY: 50}
            await walker.rollback()
            await env.end("agent")
            assert gateway.taken == [BEFORE, {FIRST: 67, CANARY: 33}, {FIRST: 50, CANARY: 50}, BEFORE]
            assert gateway.comparable() == route_before
            assert differences(before, await take(env)) == [], f"after a rollback from {last}"
            gateway.taken = [BEFORE]

        walker = Walker(env, store, no_progress)
        await walker.begin()
        for phase in await walker.phase_names():
            await walker.advance(phase)
        assert (await walker.record()).release.state is State.DONE
        after = await take(env)
        assert (after.image, set(after.pods), after.objects) == (IMAGE, {IMAGE}, before.objects)
        assert gateway.comparable() == route_before
        await assert_nobody_was_hurt(env)


async def test_a_cluster_without_the_api_and_a_route_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as local:
        async with Cluster.connect(str(local.kubeconfig), None, "default") as cluster:
            with pytest.raises(ClusterError, match="no Gateway API") as caught:
                await get_route(cluster, ROUTE)
            assert "by: replicas" in caught.value.mend
        async with (
            gateway_api(local.kubeconfig, tmp_path, manifests.NAME) as (_, kubeconfig),
            Cluster.connect(str(kubeconfig), None, "default") as cluster,
        ):
            assert (await get_route(cluster, ROUTE)).waits == ""
            with pytest.raises(ClusterError, match="no httproute 'elsewhere'"):
                await get_route(cluster, "elsewhere")

"""Canary by gateway: an HTTPRoute distributes the requests; a rollback from each phase leaves nothing behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from tests.support.release import (
    assert_no_failures,
    ignore_progress,
    roll_back_during_cleanup,
    start_production,
)
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.routes import get_route
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.plan import IMAGE
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.workload.route import canary_percentages
from zdd_tui.testbed.cluster.cluster import local_cluster

FIRST, CANARY = manifests.NAME, f"{manifests.NAME}-canary"
PHASES = ("canary-33", "canary-50", "promote")


async def read_canary_percentages(env: Environment) -> list[float]:
    """The canary's share in the route, in percent."""
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        return canary_percentages(await get_route(cluster, manifests.ROUTE), FIRST, CANARY)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_each_phase_sets_the_weights_and_a_rollback_resets_them_at_once(tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy="canary", canary_by="gateway", name="users-canary", rate=60) as (
        env,
        store,
    ):
        before = await read_environment_state(env)
        assert any(each.startswith("httproute") for each in before.objects)
        for last in PHASES:
            driver = ReleaseDriver(env, store, ignore_progress)
            await driver.start_release()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await driver.run_phase(phase)
            assert await read_canary_percentages(env) == [33 if last == "canary-33" else 50]
            await driver.roll_back()
            await env.stop("agent")
            assert describe_differences(before, await read_environment_state(env)) == [], (
                f"after a rollback from {last}"
            )

        # By then the canary and its Service are deleted.
        await roll_back_during_cleanup(env, store)
        assert describe_differences(before, await read_environment_state(env)) == [], (
            "after a rollback from the middle of cleanup"
        )

        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.run_phase("canary-33")
        await driver.run_phase("canary-50")
        await driver.start_phase("promote")
        before_rollout = env.read_load_report()["services"]
        await assert_no_failures(env)
        assert env.read_load_report()["services"][CANARY] > before_rollout[CANARY], (
            "the canary serves during the rollout of the first Deployment"
        )
        await driver.wait_for_phase("promote")
        gate = (await driver.read_record()).gates["serving-new"]
        assert gate.reason == "2 of 2 pods serve the new image"
        await driver.run_phase("cleanup")
        assert (await driver.read_record()).release.state is ReleaseState.DONE
        after = await read_environment_state(env)
        assert (after.image, set(after.pods), after.objects) == (IMAGE, {IMAGE}, before.objects)
        await assert_no_failures(env)


@asynccontextmanager
async def bare_api(folder: Path) -> AsyncIterator[Cluster]:
    """An API server without any API group."""

    async def respond_not_found(_request: web.Request) -> web.Response:
        return web.json_response({"reason": "NotFound", "message": "the server could not find it"}, status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond_not_found)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        file = folder / "bare"
        server = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        named = {"clusters": [{"name": "b", "cluster": server}], "users": [{"name": "b", "user": {}}]}
        context = {"name": "b", "context": {"cluster": "b", "user": "b"}}
        file.write_text(yaml.safe_dump({**named, "contexts": [context], "current-context": "b"}))
        async with Cluster.connect(str(file), None, "default", check=False) as cluster:
            yield cluster
    finally:
        await runner.cleanup()


async def test_a_missing_gateway_api_and_a_missing_route_are_different_errors(tmp_path: Path) -> None:
    async with bare_api(tmp_path) as cluster:
        with pytest.raises(ClusterError, match="no Gateway API") as caught:
            await get_route(cluster, manifests.ROUTE)
        assert "canary.by to replicas" in caught.value.hint
    async with (
        local_cluster(tmp_path / "cluster") as local,
        Cluster.connect(str(local.kubeconfig), None, "default") as cluster,
    ):
        for path, body in manifests.gateway_manifests().items():
            await cluster.http.request_json("POST", path, body=body)
        assert (await get_route(cluster, manifests.ROUTE)).pending_reason == "no Gateway has accepted the route"
        with pytest.raises(ClusterError, match="no HTTPRoute 'elsewhere'"):
            await get_route(cluster, "elsewhere")

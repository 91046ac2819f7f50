"""Blue/Green under load: a rollback from each of its phases, then the whole release, without a failed request."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.release import assert_no_failures, ignore_progress, start_production
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.plan import IMAGE
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import EnvironmentState, describe_differences, read_environment_state
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState

PHASES = ("preview", "switch", "soak", "promote", "cleanup")
GREEN = "users-api-green"


async def run_until(env: Environment, store: Store, last: str) -> ReleaseDriver:
    driver = ReleaseDriver(env, store, ignore_progress)
    await driver.start_release()
    for phase in PHASES[: PHASES.index(last) + 1]:
        await driver.run_phase(phase)
    return driver


async def assert_as_before(env: Environment, driver: ReleaseDriver, before: EnvironmentState, where: str) -> None:
    await env.stop("agent")
    assert (await driver.read_record()).release.state is ReleaseState.ROLLED_BACK
    assert describe_differences(before, await read_environment_state(env)) == [], f"after a rollback from {where}"
    await assert_no_failures(env)


@contextlib.asynccontextmanager
async def keep_deployment(env: Environment, deployment: str) -> AsyncIterator[None]:
    """A finalizer keeps the Deployment from being deleted while the block runs."""
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        path = cluster.path("apis/apps/v1", "deployments", deployment)

        async def set_finalizers(finalizers: list[str]) -> Any:
            body = {"metadata": {"finalizers": finalizers}}
            return await cluster.http.request_json("PATCH", path, body=body, content_type=MERGE_PATCH)

        await set_finalizers(["example.com/keep"])
        yield
        await set_finalizers([])


def _note(record: ReleaseRecord, name: str) -> str:
    return next(step.note for step in record.steps if step.name == name)


@pytest.mark.timeout(600)
async def test_a_rollback_is_one_patch_while_the_first_deployment_is_running(tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy="blue-green") as (env, store):
        before = await read_environment_state(env)
        good = env.plan_file.read_text()
        env.plan_file.write_text(good.replace("'\"version\": 2'", "no such text"))
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.start_phase("preview")
        with pytest.raises(StepFailed, match="GET /version: 'no such text' is not in the body"):
            await driver.wait_for_phase("preview")
        await driver.roll_back()
        await assert_as_before(env, driver, before, "preview, where a smoke check failed")
        env.plan_file.write_text(good)
        for last in ("preview", "switch", "soak"):
            driver = await run_until(env, store, last)
            await driver.roll_back()
            await assert_as_before(env, driver, before, last)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_rollback_after_the_promotion_then_the_whole_release(tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy="blue-green") as (env, store):
        before = await read_environment_state(env)
        driver = await run_until(env, store, "promote")
        await driver.roll_back()
        await assert_as_before(env, driver, before, "promote")

        driver = await run_until(env, store, "promote")
        async with keep_deployment(env, GREEN):
            await driver.start_phase("cleanup")
            await driver.wait_until(lambda record: _note(record, "remove-green") != "")
            await driver.run_command(CommandKind.ROLLBACK)
        await driver.wait_until(lambda record: record.release.state is ReleaseState.ROLLED_BACK)
        await assert_as_before(env, driver, before, "the middle of cleanup")

        driver = await run_until(env, store, "cleanup")
        assert (await driver.read_record()).release.state is ReleaseState.DONE
        after = await read_environment_state(env)
        assert (after.image, set(after.pods)) == (IMAGE, {IMAGE})
        assert (after.objects, after.annotations) == (before.objects, before.annotations)
        await assert_no_failures(env)

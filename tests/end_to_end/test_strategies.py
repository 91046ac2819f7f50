"""Each strategy, rolled back from each of its phases under load: afterwards all is as before, and nobody was hurt."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.support.release import (
    assert_no_failures,
    ignore_progress,
    roll_back_during_cleanup,
    set_image,
    start_production,
)
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.plan import DARK_IMAGE, IMAGE
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import EnvironmentState, describe_differences, read_environment_state
from zdd_tui.model.errors import StepFailed, ZddError
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import ReleaseState, steps_to_undo

BROKEN = "shop/users-api:9"
"""A version that does not exist: its pods exit with an error as soon as they start."""


async def assert_as_before(env: Environment, before: EnvironmentState, where: str) -> None:
    assert describe_differences(before, await read_environment_state(env)) == [], f"after a rollback from {where}"
    await assert_no_failures(env)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("strategy", "by", "phases", "first_step"),
    [
        ("rolling", "", ("rollout", "soak"), "rollout-new"),
        pytest.param("canary", "replicas", ("canary-33", "canary-50", "promote"), "weight-33", marks=pytest.mark.slow),
        pytest.param("canary", "flag", ("rollout", "canary-50", "promote"), "rollout-new", marks=pytest.mark.slow),
    ],
)
async def test_rollback_from_every_phase(
    strategy: str, by: str, phases: tuple[str, ...], first_step: str, tmp_path: Path
) -> None:
    async with start_production(tmp_path, strategy=strategy, canary_by=by, name=f"users-{strategy}") as (env, store):
        before = await read_environment_state(env)
        for last in phases:
            driver = ReleaseDriver(env, store, ignore_progress)
            await driver.start_release()
            for phase in phases[: phases.index(last) + 1]:
                await driver.run_phase(phase)
            if (by, last) == ("replicas", "promote"):
                # The canary's pods serve too, and replace none of them.
                reason = (await driver.read_record()).gates["serving-new"].reason
                assert reason == "2 of 2 pods serve the new image, 2 of another Deployment beside them"
            await driver.roll_back()
            await env.stop("agent")
            assert (await driver.read_record()).release.state is ReleaseState.ROLLED_BACK
            await assert_as_before(env, before, last)

        await roll_back_during_cleanup(env, store)
        await assert_as_before(env, before, "the middle of cleanup")

        # An image whose pods never become ready: the step waits, no old pod goes, and a rollback is possible.
        env.plan_file.write_text(env.plan_file.read_text().replace(f"image: {_image(by)}", f"image: {BROKEN}"))
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.start_phase(phases[0])
        await driver.wait_until(lambda record: _note(record, first_step) != "")
        await driver.roll_back()
        await env.stop("agent")
        await assert_as_before(env, before, f"the middle of {first_step}")


def _image(by: str) -> str:
    return DARK_IMAGE if by == "flag" else IMAGE


def _note(record: ReleaseRecord, name: str) -> str:
    return next(step.note for step in record.steps if step.name == name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("strategy", "by"),
    [("rolling", ""), ("canary", "replicas"), pytest.param("canary", "flag", marks=pytest.mark.slow)],
)
async def test_a_whole_release_leaves_only_the_new_image(strategy: str, by: str, tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy=strategy, canary_by=by, name=f"users-{strategy}") as (env, store):
        before = await read_environment_state(env)
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        for phase in await driver.phase_names():
            await driver.run_phase(phase)
        assert (await driver.read_record()).release.state is ReleaseState.DONE
        after = await read_environment_state(env)
        assert (after.image, set(after.pods)) == (_image(by), {_image(by)})
        # By flag the new path needs the flag until the next release, so the flag stays on.
        remaining = {key: value for key, value in after.flags.items() if value is not None}
        assert remaining == ({"users_sql_name_read": "true"} if by == "flag" else {})
        assert after.objects == before.objects
        assert after.annotations == before.annotations
        await assert_no_failures(env)


@pytest.mark.timeout(240)
async def test_a_rollback_ends_only_with_the_image_from_before(tmp_path: Path) -> None:
    """Another client gives all users the new image during a canary: no step has, so no undo resets it."""
    async with start_production(tmp_path, strategy="canary", name="users-canary") as (env, store):
        before = await read_environment_state(env)
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.run_phase("canary-33")
        await set_image(env, IMAGE, "kubectl-set")
        with pytest.raises(StepFailed) as failed:
            await driver.roll_back()
        assert f"Deployment {manifests.NAME} has image {IMAGE}, and before the release it was" in failed.value.title
        assert "set by kubectl-set at 20" in failed.value.title
        assert (
            f"set image deployment/{manifests.NAME} {manifests.CONTAINER}={manifests.image_name(1)}; then zdd rollback"
            in str(failed.value)
        )
        record = await driver.read_record()
        assert record.release.state is ReleaseState.ROLLBACK_FAILED
        assert [spec.name for spec in steps_to_undo(record.release)] == ["record-workload"], "the others are undone"
        await set_image(env, manifests.image_name(1), "kubectl-set")
        await driver.roll_back()
        await env.stop("agent")
        await assert_as_before(env, before, "a canary whose stable image another client has changed")


@pytest.mark.timeout(240)
async def test_another_deployment_with_the_canarys_name_is_not_changed(tmp_path: Path) -> None:
    """The agent refuses to start beside it. If it is created later, the step refuses, and the rollback keeps it."""
    async with start_production(tmp_path, strategy="canary", name="users-canary") as (env, store):
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        foreign = manifests.deployment_manifest(dsn="x", redis_url="y", replicas=3)
        foreign["metadata"]["name"] = f"{manifests.NAME}-canary"
        foreign["spec"]["selector"] = {"matchLabels": {"app": "foreign"}}
        foreign["spec"]["template"]["metadata"]["labels"] = {"app": "foreign"}
        foreign["spec"]["template"]["spec"]["nodeSelector"] = {"nowhere": "true"}
        async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
            path = cluster.path("apis/apps/v1", "deployments")
            await cluster.http.request_json("POST", path, body=foreign)
            before = await read_environment_state(env)
            with pytest.raises(ZddError, match="zdd check refuses this plan"):
                await driver.start_phase("canary-33")
            await cluster.http.request_json("DELETE", f"{path}/{foreign['metadata']['name']}")
            async with hold_step(env, "create-canary"):
                await driver.start_phase("canary-33")
                await cluster.http.request_json("POST", path, body=foreign)
            with pytest.raises(StepFailed, match="belongs to no release"):
                await driver.wait_for_phase("canary-33")
            await driver.roll_back()
            assert (await cluster.get_deployment(foreign["metadata"]["name"])).desired == 3
        await env.stop("agent")
        await assert_as_before(env, before, "a refused creation")


@asynccontextmanager
async def hold_step(env: Environment, name: str) -> AsyncIterator[None]:
    """The step cannot start while the block runs: its row is locked."""
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM zdd.step WHERE name = $1 FOR UPDATE", name)
            yield
    finally:
        await connection.close()

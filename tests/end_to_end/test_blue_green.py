"""Blue/green under load: rolled back from each of its phases, then the whole release; nobody is hurt either way."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.release import assert_nobody_was_hurt, no_progress, production
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.plan import IMAGE
from zdd_tui.demo.release_driver import Walker
from zdd_tui.demo.state_snapshot import Likeness, differences, take
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, State

PHASES = ("preview", "switch", "soak", "promote", "cleanup")
GREEN = "users-api-green"


async def walk_to(env: Environment, store: Store, last: str) -> Walker:
    walker = Walker(env, store, no_progress)
    await walker.begin()
    for phase in PHASES[: PHASES.index(last) + 1]:
        await walker.advance(phase)
    return walker


async def assert_as_before(env: Environment, walker: Walker, before: Likeness, where: str) -> None:
    await env.end("agent")
    assert (await walker.record()).release.state is State.ROLLED_BACK
    assert differences(before, await take(env)) == [], f"after a rollback from {where}"
    await assert_nobody_was_hurt(env)


@contextlib.asynccontextmanager
async def held(env: Environment, deployment: str) -> AsyncIterator[None]:
    """The Deployment cannot go while the block runs: a finalizer keeps it."""
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        path = cluster.path("apis/apps/v1", "deployments", deployment)

        async def keep(finalizers: list[str]) -> Any:
            body = {"metadata": {"finalizers": finalizers}}
            return await cluster.http.json("PATCH", path, body=body, content_type=MERGE_PATCH)

        await keep(["example.com/held"])
        yield
        await keep([])


def _note(record: ReleaseRecord, name: str) -> str:
    return next(step.note for step in record.steps if step.name == name)


@pytest.mark.timeout(600)
async def test_back_by_one_patch_while_the_first_deployment_is_warm(tmp_path: Path) -> None:
    async with production(tmp_path, strategy="blue/green") as (env, store):
        before = await take(env)
        good = env.plan_file.read_text()
        env.plan_file.write_text(good.replace("'\"version\": 2'", "no such text"))
        walker = Walker(env, store, no_progress)
        await walker.begin()
        await walker.enter("preview")
        with pytest.raises(StepFailed, match="GET /version: 'no such text' is not in the body"):
            await walker.settle("preview")
        await walker.rollback()
        await assert_as_before(env, walker, before, "preview, where a smoke check failed")
        env.plan_file.write_text(good)
        for last in ("preview", "switch", "soak"):
            walker = await walk_to(env, store, last)
            await walker.rollback()
            await assert_as_before(env, walker, before, last)


@pytest.mark.timeout(600)
async def test_back_after_the_promotion_then_the_whole_release(tmp_path: Path) -> None:
    async with production(tmp_path, strategy="blue/green") as (env, store):
        before = await take(env)
        walker = await walk_to(env, store, "promote")
        await walker.rollback()
        await assert_as_before(env, walker, before, "promote")

        walker = await walk_to(env, store, "promote")
        async with held(env, GREEN):
            await walker.enter("cleanup")
            await walker.until(lambda record: _note(record, "remove-green") != "")
            await walker.command(CommandKind.ROLLBACK)
        await walker.until(lambda record: record.release.state is State.ROLLED_BACK)
        await assert_as_before(env, walker, before, "the middle of cleanup")

        walker = await walk_to(env, store, "cleanup")
        assert (await walker.record()).release.state is State.DONE
        after = await take(env)
        assert (after.image, set(after.pods)) == (IMAGE, {IMAGE})
        assert (after.objects, after.annotations) == (before.objects, before.annotations)
        await assert_nobody_was_hurt(env)

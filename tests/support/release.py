"""A whole small production for tests of releases, and what must hold after every one of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.warm_python import spawn_warm
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.demo import environment, manifests
from zdd_tui.demo.environment import DemoOptions, Environment, start_environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState


@asynccontextmanager
async def start_production(folder: Path, **changes: Any) -> AsyncIterator[tuple[Environment, Store]]:
    """PostgreSQL, Redis, a cluster with two pods, a load, and a store with the zdd schema in it.

    Args:
        changes: of the options of a small demo.
    """
    options = replace(DemoOptions(rows=3000, rate=40, soak="500ms", is_fast=True), **changes)
    with forked_programs():
        async with (
            start_environment(folder, options, lambda _: None) as env,
            await Store.open(env.postgres.dsn, application_name="zdd test") as store,
        ):
            await store.migrate()
            yield env, store


@contextmanager
def forked_programs() -> Iterator[None]:
    """The programs of a production are forks of one process that has their imports; see :mod:`warm_python`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "spawn", spawn_warm)
        yield


def ignore_progress(_record: ReleaseRecord) -> None:
    """The progress callback of a driver whose progress is not shown."""


async def roll_back_during_cleanup(env: Environment, store: Store, last: str = "remove-annotations") -> None:
    """Runs a whole release, and rolls it back when all of cleanup but its last step is done."""
    driver = ReleaseDriver(env, store, ignore_progress)
    await driver.start_release()
    *phases, cleanup = await driver.phase_names()
    for phase in phases:
        await driver.run_phase(phase)
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        async with connection.transaction():
            # The step cannot begin: its row is locked.
            await connection.execute("SELECT FROM zdd.step WHERE name = $1 FOR UPDATE", last)
            await driver.start_phase(cleanup)
            blocked = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
            async with asyncio.timeout(60):
                while not await connection.fetchval(blocked):  # noqa: ASYNC110 - another process comes to wait
                    await asyncio.sleep(0.05)
            await driver.run_command(CommandKind.ROLLBACK)
    finally:
        await connection.close()
    record = await driver.wait_until(lambda record: record.release.state is ReleaseState.ROLLED_BACK)
    await env.stop("agent")
    statuses = {step.name: str(step.status) for step in record.steps}
    assert statuses[last] == "pending", statuses


async def assert_no_failures(env: Environment) -> None:
    """The load counted no failure and no wrong result, and it did send requests."""
    before = env.read_load_report()["requests"]
    async with asyncio.timeout(10):
        while env.read_load_report()["requests"] <= before + 20:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.1)
    report = env.read_load_report()
    assert report["failures"] == 0, json.dumps(report["failure_samples"], indent=1)
    assert report["wrong"] == 0, json.dumps(report["wrong_samples"], indent=1)


async def assert_both_sides_agree(env: Environment) -> int:
    """Every row is the same on both sides, by SQL that is not the product's; returns the number of rows."""
    up = "u.first_name || CASE WHEN u.last_name = '' THEN '' ELSE ' ' || u.last_name END"
    table = env.options.kind == "table"
    source = "public.users u FULL JOIN public.people n USING (id)" if table else "public.users u"
    new = "n.full_name" if table else "u.full_name"
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        row = await connection.fetchrow(
            f"SELECT count(*) AS all, count(*) FILTER (WHERE {new} IS DISTINCT FROM {up}) AS wrong FROM {source}"
        )
    finally:
        await connection.close()
    assert row["wrong"] == 0
    return int(row["all"])


async def set_image(env: Environment, image: str, manager: str) -> None:
    """Sets the image as another client does."""
    body = {"spec": {"template": {"spec": {"containers": [{"name": manifests.CONTAINER, "image": image}]}}}}
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        await cluster.http.request_json(
            "PATCH",
            cluster.path("apis/apps/v1", "deployments", manifests.NAME),
            params={"fieldManager": manager},
            body=body,
            content_type=STRATEGIC_MERGE_PATCH,
        )

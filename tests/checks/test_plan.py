"""`zdd check` of rolling and canary plans against a real API server: it refuses what would fail later."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.command_line import CliEnvironment, CommandResult, make_environment
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.backends.kubernetes.services import get_raw_object
from zdd_tui.backends.postgres import scratch_copy
from zdd_tui.checks import schema
from zdd_tui.checks.plan import check_plan
from zdd_tui.demo import manifests
from zdd_tui.demo.plan import strategy_plan_yaml
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def check(here: CliEnvironment, text: str) -> CommandResult:
    here.plan_file.write_text(text)
    return await here.run_zdd("check")


async def patch(here: CliEnvironment, spec: dict[str, Any]) -> None:
    async with Cluster.connect(here.environ["KUBECONFIG"], None, "default") as cluster:
        path = cluster.path("apis/apps/v1", "deployments", manifests.NAME)
        await cluster.http.request_json("PATCH", path, body={"spec": spec}, content_type=STRATEGIC_MERGE_PATCH)


async def create_canary(here: CliEnvironment) -> None:
    made = manifests.deployment_manifest(dsn="x", redis_url="y", replicas=1)
    made["metadata"]["name"] += "-canary"
    async with Cluster.connect(here.environ["KUBECONFIG"], None, "default") as cluster:
        await cluster.http.request_json("POST", cluster.path("apis/apps/v1", "deployments"), body=made)


async def hold_service(here: CliEnvironment, owner: str | None) -> None:
    """As a release that switches it does."""
    async with Cluster.connect(here.environ["KUBECONFIG"], None, "default") as cluster:
        services = "api/v1", "services"
        if await get_raw_object(cluster, services, manifests.NAME) is None:
            await cluster.http.request_json("POST", cluster.path(*services), body=manifests.service_manifest())
        body = {"metadata": {"annotations": {OWNER_ANNOTATION: owner}}}
        path = cluster.path(*services, manifests.NAME)
        await cluster.http.request_json("PATCH", path, body=body, content_type=MERGE_PATCH)


@pytest.mark.timeout(300)
async def test_check_of_rolling_and_canary(here: CliEnvironment) -> None:
    rolling = strategy_plan_yaml("rolling", name="r", soak="1s")
    canary = strategy_plan_yaml("canary", name="c", soak="1s")
    by_flag = strategy_plan_yaml("canary", name="f", soak="1s", canary_by="flag")
    blue_green = strategy_plan_yaml("blue-green", name="b", soak="1s")

    good = await check(here, rolling)
    assert good.code == 0, good.output
    assert "a rollout removes no pod before its replacement is ready" in good.out
    assert "Redis" not in good.out
    note = "note: environment demo counts as not production by its name"
    assert note in good.out
    declared = await check(here, rolling + "\nproduction: true\n")
    assert declared.code == 0, declared.output
    assert note not in declared.out

    bad = await check(here, canary)
    assert bad.code == 2
    assert f"{here.line_of('canary.weights')}: the Deployment has no pod" in bad.err

    await patch(here, {"replicas": 4})
    good = await check(here, canary)
    assert good.code == 0, good.output
    assert "new pods beside its 4: 1 (20%), 4 (50%)" in good.out

    good = await check(here, by_flag)
    assert good.code == 0, good.output
    assert "users_sql_name_read not set" in good.out

    bad = await check(here, canary.replace("20, 50", "10, 50"))
    assert bad.code == 2
    assert f"{here.line_of('canary.weights')}: 10% is not possible with 4 pods: 1 more would be 20%" in bad.err
    assert "use weights such as 20, 33, 43, 50" in bad.err

    await patch(here, {"strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}})
    for text in (rolling, canary, by_flag):
        bad = await check(here, text)
        assert bad.code == 2
        assert "maxUnavailable 1 removes 1 of 4 pods before their successors are ready" in bad.err
        assert '"maxUnavailable":0' in bad.err

    await patch(here, {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}})
    await hold_service(here, "another")
    for text in (rolling, blue_green):
        bad = await check(here, text)
        assert (bad.code, bad.out) == (2, "")
        assert "Service 'users-api' is held by release 'another'" in bad.err
        assert "Fix: finish or roll back 'another' first" in bad.err
    await hold_service(here, "r")
    assert (await check(here, rolling)).code == 0, "its own"
    await hold_service(here, None)

    await create_canary(here)
    bad = await check(here, canary)
    assert bad.code == 2
    assert "Deployment 'users-api-canary' exists already" in bad.err
    assert (await check(here, rolling)).code == 0


@pytest.mark.timeout(120)
async def test_expand_runs_once_on_copies_and_the_catalog_is_read_once(
    here: CliEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def count(module: Any, name: str) -> None:
        function = getattr(module, name)

        async def counted(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return await function(*args, **options)

        monkeypatch.setattr(module, name, counted)

    count(schema, "read_catalog")
    count(scratch_copy, "read_catalog")
    count(scratch_copy.Scratch, "expand")
    loaded = load_plan(here.plan_file.read_text(), source="plan.yaml", environment=here.environ)
    lines = await check_plan(loaded, offline=False)
    assert any("sampled rows" in line for line in lines)
    assert any("the new side carries" in line for line in lines)
    assert sorted(calls) == ["expand", "read_catalog"]


@pytest.mark.timeout(120)
async def test_check_lists_every_difference_of_the_sides(here: CliEnvironment) -> None:
    connection = await asyncpg.connect(here.environ["DATABASE_URL"])
    try:
        await connection.execute("ALTER TABLE users ADD CONSTRAINT named CHECK (first_name <> '')")
        bad = await here.run_zdd("check")
        assert bad.code == 2, bad.output
        assert "the new side of public.users would lose 1 thing of the old side" in bad.output
        assert "lost: check named: the new side has no such object" in bad.output
        assert "- what: check named" in bad.output
        asked = await here.run_zdd("check", "--json")
        document = json.loads(asked.out)
        assert (asked.code, document["ok"]) == (2, False)
        found = {each["what"]: each for each in document["differences"]}
        assert found["check named"]["verdict"] == "lost"
        assert found["check named"]["old"] == "CHECK ((first_name <> ''::text))"
        assert found["default last_name"]["accepted"] == "V3 always writes a full name"
        here.rewrite("accept:", "accept:\n  - what: check named\n    reason: a full name is never empty")
        good = await here.run_zdd("check")
        assert good.code == 0, good.output
        assert "the new side carries 2 of the old side's: not-null first_name, not-null last_name" in good.output
        assert "note: lost and accepted: check named: a full name is never empty" in good.output
        await connection.execute("ALTER TABLE users DROP CONSTRAINT named")
        unused = await here.run_zdd("check")
        assert "note: accept: check named is not lost; remove it" in unused.output
    finally:
        await connection.close()

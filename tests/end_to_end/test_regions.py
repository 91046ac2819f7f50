"""Regions on real databases: the second waits for the first, and gives the reason."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.command_line import wait_until
from tests.support.kubelet import api_server
from tests.support.tcp_relay import Relay
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.regions import read_region_statuses
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.agent import register_release, start_agent
from zdd_tui.cli.parser import main
from zdd_tui.demo import manifests
from zdd_tui.engine.agent import Agent
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import Actor, ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE
from zdd_tui.model.release.state import Release, ReleaseState
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PostgresServer

pytestmark = pytest.mark.timeout(240)

NAME = "users-api-regions"
PLAN = f"""
name: {NAME}
strategy: rolling
environment: test
database: {{dsn: "${{DATABASE_URL}}"}}
kubernetes: {{kubeconfig: "${{KUBECONFIG}}", deployment: users-api, image: "shop/users-api:2"}}
regions:
  soak: 5s
  order:
    - name: eu
    - name: us
      database: {{dsn: "${{US_DATABASE_URL}}"}}
      kubernetes: {{namespace: us}}
"""
AGENT = Actor("agent", "pod-1")


@dataclass
class TwoRegions:
    """Two regions; the relay to the first one's database can be closed."""

    loaded: LoadedPlan
    file: Path
    relay: Relay
    eu_dsn: str

    def plan(self, region: str) -> LoadedPlan:
        return self.loaded.for_region(region)

    @asynccontextmanager
    async def eu(self) -> AsyncIterator["FirstRegion"]:
        """The first region's release; the test is its agent."""
        async with await Store.open(self.eu_dsn) as store:
            await store.migrate()
            plan = self.plan("eu")
            release_id = await store.register_release(
                plan.plan, text=plan.text, document=plan.document, plan_hash=plan.hash, actor=AGENT
            )
            record = await store.read_release(release_id)
            agent = await acquire_lease(self.eu_dsn, release_id, AGENT, ttl=300)
            assert agent is not None
            async with agent:
                yield FirstRegion(agent, record)


@dataclass
class FirstRegion:
    agent: AgentStore
    record: ReleaseRecord

    async def move_to(self, state: ReleaseState, phase: int = 0, **changes: object) -> None:
        release: Release = replace(self.record.release, state=state, phase=phase, **changes)  # type: ignore[arg-type]
        await self.agent.save(release)


@pytest.fixture
async def two_regions(
    tmp_path: Path, pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TwoRegions]:
    second = f"test_{secrets.token_hex(4)}"
    await db.execute(f"CREATE DATABASE {second} TEMPLATE zdd_template")
    parts = urlsplit(pg_dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    async with Relay(parts.hostname, parts.port, free_port()) as relay, api_server(tmp_path) as kubeconfig:
        for namespace in ("default", "us"):
            async with Cluster.connect(kubeconfig, None, namespace) as cluster:
                with suppress(Exception):
                    await cluster.http.request_json(
                        "POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}}
                    )
                body = manifests.deployment_manifest(
                    dsn="postgresql://unused/x", redis_url="redis://unused", replicas=0
                )
                body["metadata"]["namespace"] = namespace
                await cluster.http.request_json("POST", cluster.path("apis/apps/v1", "deployments"), body=body)
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{relay.port}"
        environ = {
            "DATABASE_URL": parts._replace(netloc=netloc).geturl(),
            "US_DATABASE_URL": pg.dsn_for(second),
            "KUBECONFIG": kubeconfig,
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        file = tmp_path / "plan.yaml"
        file.write_text(PLAN)
        yield TwoRegions(load_plan(PLAN, source=str(file), environment=environ), file, relay, pg_dsn)
    await db.execute(f"DROP DATABASE {second} WITH (FORCE)")


async def zdd(*argv: str) -> int:
    """In a thread: the command runs an event loop of its own."""
    return await asyncio.to_thread(main, argv)


@asynccontextmanager
async def agent_in_us(two: TwoRegions) -> AsyncIterator[Store]:
    """A real agent in the second region."""
    plan = two.plan("us")
    release_id = await register_release(plan, AGENT)
    assert release_id is not None
    agent = asyncio.create_task(Agent(plan.plan, release_id, AGENT, log=lambda line: None).run())
    try:
        async with await Store.open(plan.plan.database.dsn.get_secret_value()) as store:
            yield store
    finally:
        agent.cancel()
        with suppress(asyncio.CancelledError):
            await agent


async def test_the_second_region_waits_for_the_first(
    two_regions: TwoRegions, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(two_regions.file)

    async def refused(reason: str) -> None:
        assert await zdd("advance", "--region", "us", "--yes", file) == 1
        assert reason in capsys.readouterr().err

    # The first cannot be read: unknown opens nothing, and the current region is not guessed.
    async with agent_in_us(two_regions) as store:
        await refused("region unknown: region eu is unreachable: ")
        assert await zdd("advance", "--yes", file) == 2
        assert "the current region of users-api-regions is unknown: region eu: " in capsys.readouterr().err
        assert await zdd("status", "--json", file) == 2
        eu, us = json.loads(capsys.readouterr().out)["regions"]
        assert (eu["state"], us["state"], us["phase"]) == (None, "planned", None)
        assert eu["error"]

        await two_regions.relay.open_port()
        await refused("region pending: region eu is not started")
        assert await zdd("status", file) == 2
        text = capsys.readouterr()
        assert "▶ ○ 1 eu  not started" in text.out
        assert "zdd agent " in text.err
        assert "--region eu" in text.err
        async with two_regions.eu() as first:
            await first.move_to(ReleaseState.RUNNING)
            await refused("region eu is running in rollout")
            await first.move_to(ReleaseState.RUNNING, paused=True)
            await refused("region eu is running in rollout, PAUSED")
            await first.move_to(ReleaseState.DONE, phase=2)
            await refused("region eu is done, soaking: ")
            assert await zdd("advance", "--yes", file) == 1, "while it soaks, the first is the current one"
            assert "has ended in region eu: it is done" in capsys.readouterr().err

        async def opened() -> ReleaseRecord | None:
            found = await store.find_release(NAME)
            assert found is not None
            record = await store.read_release(found)
            return record if record.gates[REGION_GATE].verdict is Verdict.PASS else None

        record = await wait_until(opened)  # the agent evaluates it without a command
        assert (record.region, record.release.state) == ("us", ReleaseState.PLANNED)
        assert any("registered users-api-regions for test, region us" in event.message for event in record.events)
        assert await zdd("status", file) == 0
        text = capsys.readouterr()
        assert "  ✔ 1 eu  done" in text.out
        assert "planned (test, region us)" in text.out
        assert await zdd("advance", "--yes", file) == 0, "now the second is the current one"
        assert "advance accepted: rollout is running" in capsys.readouterr().out


async def test_a_rollback_of_the_first_stops_the_release(
    two_regions: TwoRegions, capsys: pytest.CaptureFixture[str]
) -> None:
    await two_regions.relay.open_port()
    async with agent_in_us(two_regions):
        stopped = "region fail: ROLLED BACK: the release stops at region eu"
        async with two_regions.eu() as first:
            await first.move_to(ReleaseState.ROLLING_BACK)
            assert await zdd("advance", "--region", "us", "--yes", str(two_regions.file)) == 1
            assert stopped in capsys.readouterr().err
            await first.move_to(ReleaseState.ROLLED_BACK)
        async with two_regions.eu() as first:  # once more with the same plan, and to its end
            await first.move_to(ReleaseState.DONE, phase=2)
        assert await zdd("advance", "--region", "us", "--yes", str(two_regions.file)) == 1
        assert stopped in capsys.readouterr().err
        assert await zdd("status", "--json", str(two_regions.file)) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["region"], document["regions"][0]["rolled_back"]) == ("eu", True)


async def test_reading_another_region_changes_nothing(two_regions: TwoRegions, db: asyncpg.Connection) -> None:
    await two_regions.relay.open_port()
    (status,) = await read_region_statuses(two_regions.loaded.plan, two_regions.loaded.hash, ("eu",))
    assert (status.state, status.error) == (None, "")
    assert await db.fetchval("SELECT to_regnamespace('zdd') IS NULL"), "reading creates no schema"
    async with two_regions.eu() as first:
        await first.move_to(ReleaseState.RUNNING)
    (status,) = await read_region_statuses(two_regions.loaded.plan, two_regions.loaded.hash, ("eu",))
    assert (status.state, status.phase) == (ReleaseState.RUNNING, "rollout")
    (other,) = await read_region_statuses(two_regions.loaded.plan, "another plan", ("eu",))
    assert other.state is None, "the release of another plan is no release of this one"
    assert "another version" in other.describe(5.0)


async def test_two_addresses_of_one_database_are_detected(two_regions: TwoRegions) -> None:
    await two_regions.relay.open_port()
    async with two_regions.eu():
        pass
    # One goes through the relay, the other past it.
    environ = {"DATABASE_URL": "postgresql://x@unused/x", "US_DATABASE_URL": two_regions.eu_dsn, "KUBECONFIG": "/none"}
    loaded = load_plan(PLAN, source="plan.yaml", environment=environ, region="us")
    with pytest.raises(PlanError, match="the database of region us holds the release of region eu"):
        await register_release(loaded, AGENT)


async def test_the_agent_that_a_dashboard_starts_works_in_its_region(
    two_regions: TwoRegions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "postgresql://x@127.0.0.1:1/us"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("US_DATABASE_URL", nobody)
    agent = start_agent(two_regions.file, NAME, "us")
    error = await agent.wait_for_exit()
    assert error is not None
    assert "x@127.0.0.1:1/us" in error.title
    assert agent.log.name == f"agent-{NAME}-us.log"


async def test_every_verb_takes_a_region_and_refuses_an_unknown_one(
    two_regions: TwoRegions, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs = ("check", "agent", "status", "advance", "pause", "resume", "rollback", "doctor", "rehearse")
    for verb in verbs:
        assert await zdd(verb, "--region", "uss", str(two_regions.file)) == 2
        assert "has no such region\n  Fix: did you mean us?" in capsys.readouterr().err
    assert await zdd("agent", str(two_regions.file)) == 2
    assert "--region NAME, one of: eu, us" in capsys.readouterr().err
    await two_regions.relay.open_port()
    assert await zdd("check", str(two_regions.file)) == 0
    output = capsys.readouterr().out
    assert "✔ region eu: PostgreSQL" in output
    assert "✔ region us: Kubernetes us/users-api" in output
    await two_regions.relay.close_port()
    assert await zdd("check", str(two_regions.file)) == 2
    assert "region eu: " in capsys.readouterr().err

"""Regions on real databases: the second waits for the first, whoever asks, and says why."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.command_line import until
from tests.support.kubelet import api_server
from tests.support.tcp_relay import Relay
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.regions import read_stands
from zdd_tui.backends.store.agent import AgentStore, take_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.agent import register, start_agent
from zdd_tui.cli.parser import main
from zdd_tui.demo import manifests
from zdd_tui.engine.agent import Agent
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import Actor, ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE
from zdd_tui.model.release.state import Release, State
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PgServer

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
class Two:
    """Two regions: what leads to the database of the first can be shut."""

    loaded: LoadedPlan
    file: Path
    relay: Relay
    eu_dsn: str

    def plan(self, region: str) -> LoadedPlan:
        return self.loaded.in_region(region)

    @asynccontextmanager
    async def eu(self) -> AsyncIterator["First"]:
        """The first region's release, in the hands of the test as an agent."""
        async with await Store.open(self.eu_dsn) as store:
            await store.migrate()
            plan = self.plan("eu")
            release_id = await store.register(
                plan.plan, text=plan.text, document=plan.document, plan_hash=plan.hash, actor=AGENT
            )
            record = await store.read(release_id)
            agent = await take_lease(self.eu_dsn, release_id, AGENT, ttl=300)
            assert agent is not None
            async with agent:
                yield First(agent, record)


@dataclass
class First:
    agent: AgentStore
    record: ReleaseRecord

    async def moves(self, state: State, phase: int = 0, **changes: object) -> None:
        release: Release = replace(self.record.release, state=state, phase=phase, **changes)  # type: ignore[arg-type]
        await self.agent.save(release)


@pytest.fixture
async def two(
    tmp_path: Path, pg: PgServer, pg_dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Two]:
    second = f"test_{secrets.token_hex(4)}"
    await db.execute(f"CREATE DATABASE {second} TEMPLATE zdd_template")
    parts = urlsplit(pg_dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    async with Relay(parts.hostname, parts.port, free_port()) as relay, api_server(tmp_path) as kubeconfig:
        for namespace in ("default", "us"):
            async with Cluster.connect(kubeconfig, None, namespace) as cluster:
                with suppress(Exception):
                    await cluster.http.json("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
                body = manifests.deployment(dsn="postgresql://unused/x", redis_url="redis://unused", replicas=0)
                body["metadata"]["namespace"] = namespace
                await cluster.http.json("POST", cluster.path("apis/apps/v1", "deployments"), body=body)
        netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{relay.port}"
        environ = {
            "DATABASE_URL": parts._replace(netloc=netloc).geturl(),
            "US_DATABASE_URL": pg.dsn_of(second),
            "KUBECONFIG": kubeconfig,
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        file = tmp_path / "plan.yaml"
        file.write_text(PLAN)
        yield Two(load_plan(PLAN, source=str(file), environ=environ), file, relay, pg_dsn)
    await db.execute(f"DROP DATABASE {second} WITH (FORCE)")


async def zdd(*argv: str) -> int:
    """The verb runs a loop of its own, and this test has one already."""
    return await asyncio.to_thread(main, argv)


@asynccontextmanager
async def agent_in_us(two: Two) -> AsyncIterator[Store]:
    """A real agent in the second region."""
    plan = two.plan("us")
    release_id = await register(plan, AGENT)
    assert release_id is not None
    agent = asyncio.create_task(Agent(plan.plan, release_id, AGENT, say=lambda line: None).run())
    try:
        async with await Store.open(plan.plan.database.dsn.get_secret_value()) as store:
            yield store
    finally:
        agent.cancel()
        with suppress(asyncio.CancelledError):
            await agent


async def test_the_second_region_waits_for_the_first(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(two.file)

    async def refused(reason: str) -> None:
        assert await zdd("advance", "--region", "us", "--yes", file) == 1
        assert reason in capsys.readouterr().err

    # Nothing can be read of the first: unknown opens nothing, and nobody guesses which region is current.
    async with agent_in_us(two) as store:
        await refused("region unknown: region eu is unreachable: ")
        assert await zdd("advance", "--yes", file) == 2
        assert "which region of users-api-regions is current cannot be told: region eu: " in capsys.readouterr().err
        assert await zdd("status", "--json", file) == 2
        eu, us = json.loads(capsys.readouterr().out)["regions"]
        assert (eu["state"], us["state"], us["phase"]) == (None, "planned", None)
        assert eu["error"]

        await two.relay.open()
        await refused("region fail: region eu is not begun")
        assert await zdd("status", file) == 2
        told = capsys.readouterr()
        assert "▶ ○ 1 eu  not begun" in told.out
        assert "zdd agent " in told.err
        assert "--region eu" in told.err
        async with two.eu() as first:
            await first.moves(State.RUNNING)
            await refused("region eu is running in rollout")
            await first.moves(State.RUNNING, paused=True)
            await refused("region eu is running in rollout, PAUSED")
            await first.moves(State.DONE, phase=2)
            await refused("region eu is done, soaking: ")
            assert await zdd("advance", "--yes", file) == 1, "while it soaks, the first is the current one"
            assert "has ended in region eu: it is done" in capsys.readouterr().err

        async def opened() -> ReleaseRecord | None:
            found = await store.find(NAME)
            assert found is not None
            record = await store.read(found)
            return record if record.gates[REGION_GATE].verdict is Verdict.PASS else None

        record = await until(opened)  # judged without anybody asking
        assert (record.region, record.release.state) == ("us", State.PLANNED)
        assert any("registered users-api-regions for test, region us" in event.what for event in record.events)
        assert await zdd("status", file) == 0
        told = capsys.readouterr()
        assert "  ✔ 1 eu  done" in told.out
        assert "planned (test, region us)" in told.out
        assert await zdd("advance", "--yes", file) == 0, "now the second is the current one"
        assert "advance done: rollout is running" in capsys.readouterr().out


async def test_a_rollback_of_the_first_stops_the_release_for_good(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    await two.relay.open()
    async with agent_in_us(two):
        stopped = "region fail: ROLLED BACK: the release stops at region eu"
        async with two.eu() as first:
            await first.moves(State.ROLLING_BACK)
            assert await zdd("advance", "--region", "us", "--yes", str(two.file)) == 1
            assert stopped in capsys.readouterr().err
            await first.moves(State.ROLLED_BACK)
        async with two.eu() as first:  # once more with the same plan, and to its end
            await first.moves(State.DONE, phase=2)
        assert await zdd("advance", "--region", "us", "--yes", str(two.file)) == 1
        assert stopped in capsys.readouterr().err
        assert await zdd("status", "--json", str(two.file)) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["region"], document["regions"][0]["rolled_back"]) == ("eu", True)


async def test_a_look_into_another_region_can_change_nothing(two: Two, db: asyncpg.Connection) -> None:
    await two.relay.open()
    (stand,) = await read_stands(two.loaded.plan, two.loaded.hash, ("eu",))
    assert (stand.state, stand.error) == (None, "")
    assert await db.fetchval("SELECT to_regnamespace('zdd') IS NULL"), "a look makes no schema"
    async with two.eu() as first:
        await first.moves(State.RUNNING)
    (stand,) = await read_stands(two.loaded.plan, two.loaded.hash, ("eu",))
    assert (stand.state, stand.phase) == (State.RUNNING, "rollout")
    (other,) = await read_stands(two.loaded.plan, "another plan", ("eu",))
    assert other.state is None, "the release of another plan is no release of this one"
    assert "another version" in other.words(5.0)


async def test_two_addresses_of_one_database_are_found_out(two: Two) -> None:
    await two.relay.open()
    async with two.eu():
        pass
    # One goes through the relay, the other past it.
    environ = {"DATABASE_URL": "postgresql://x@unused/x", "US_DATABASE_URL": two.eu_dsn, "KUBECONFIG": "/none"}
    loaded = load_plan(PLAN, source="plan.yaml", environ=environ, region="us")
    with pytest.raises(PlanError, match="the database of region us holds the release of region eu"):
        await register(loaded, AGENT)


async def test_the_agent_that_a_dashboard_starts_works_in_its_region(two: Two, tmp_path: Path) -> None:
    nobody = "postgresql://x@127.0.0.1:1/us"
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "US_DATABASE_URL": nobody}
    agent = start_agent(two.file, NAME, "us", environ=environ)
    error = await agent.outcome()
    assert error is not None
    assert "x@127.0.0.1:1/us" in error.title
    assert agent.log.name == f"agent-{NAME}-us.log"


async def test_every_verb_takes_a_region_and_refuses_an_unknown_one(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs = ("check", "agent", "status", "advance", "pause", "resume", "rollback", "doctor", "rehearse")
    for verb in verbs:
        assert await zdd(verb, "--region", "uss", str(two.file)) == 2
        assert "has no such region\n  mend: did you mean us?" in capsys.readouterr().err
    assert await zdd("agent", str(two.file)) == 2
    assert "--region NAME, one of: eu, us" in capsys.readouterr().err
    await two.relay.open()
    assert await zdd("check", str(two.file)) == 0
    said = capsys.readouterr().out
    assert "✔ region eu: PostgreSQL" in said
    assert "✔ region us: Kubernetes us/users-api" in said
    await two.relay.shut()
    assert await zdd("check", str(two.file)) == 2
    assert "region eu: " in capsys.readouterr().err

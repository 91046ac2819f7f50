"""The dashboard in a terminal of 80x24 while systems freeze and the agent dies: what it says, and what it does not."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import yaml

from tests.dashboard.test_live_source import DEPLOYMENT, plan
from tests.support.freezing import freeze_processes
from tests.support.store import AGENT, open_store
from tests.support.tcp_relay import Relay
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.backends.store.conditions import save_conditions
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import evaluate_gates
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.state import ReleaseState, StepStatus
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import local_cluster
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PostgresServer, RedisServer, postgres_server, redis_server

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from tests.dashboard.test_live_source import plan
from tests.support.store import ANA
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.live_source import LiveSource
source = LiveSource(plan(*sys.argv[1:]), actor=ANA)
source.start()
app = ZddApp(source)
code = app.run()
print("LEFT", app.unsent_text, flush=True)
source.stop()
sys.exit(code)
"""
SHOWN_WITHIN = 20.0
"""Seconds within which a loss or a recovery is on screen on a machine that does much else; benchmarks/detection.py has
the budget."""

MOVES = re.compile(r"▶ (?!rollout:)|/s |ETA|(?<!was )running step")


@dataclass
class Systems:
    """The systems of a release whose backfill runs."""

    terminal: Emulator
    postgres: PostgresServer
    redis: RedisServer
    api: Relay
    store: AgentStore
    agent: asyncio.Task[None]

    def freeze(self, server: PostgresServer | RedisServer, how: signal.Signals = signal.SIGSTOP) -> None:
        """Stops every process of a server; SIGCONT continues them."""
        freeze_processes(server.pid, how)

    async def shows_nothing_moving(self) -> None:
        """The paint that shows a loss is complete within a second: no line of it claims that something moves."""
        await self.terminal.wait_until(lambda text: not MOVES.search(text), "nothing that moves", 1.0)

    async def shows(self, *wanted: str) -> str:
        """The screen with all of that, soon; prints how long it took."""
        began = time.monotonic()
        text = await self.terminal.wait_for(*wanted, seconds=SHOWN_WITHIN)
        print(f"{wanted[0]!r} after {time.monotonic() - began:.1f} s")
        return text


@contextlib.asynccontextmanager
async def systems(folder: Path, *, waits_for_gates: bool = False) -> AsyncIterator[Systems]:
    """Real servers, an agent that only renews its lease, and a dashboard in a terminal.

    Args:
        waits_for_gates: dual-write has run, and the agent evaluates its gates; else the backfill runs.
    """
    async with (
        postgres_server(folder / "pg") as postgres,
        redis_server(folder / "redis") as redis,
        local_cluster(folder / "cluster") as cluster,
        open_store(postgres.dsn) as (_, release_id),
        Relay("127.0.0.1", int(cluster.url.rpartition(":")[2]), free_port()) as relay,
    ):
        cluster.api.create(kinds.DEPLOYMENT, "default", DEPLOYMENT)
        await relay.open_port()
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{relay.port}"
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        store = await acquire_lease(postgres.dsn, release_id, AGENT)
        assert store is not None
        work = partial(evaluate, plan(postgres.dsn, redis.url, str(kubeconfig))) if waits_for_gates else copy_rows
        agent = asyncio.create_task(keep_working(store, work))
        program = [sys.executable, "-c", PROGRAM, postgres.dsn, redis.url, str(kubeconfig)]
        try:
            if waits_for_gates:
                await finish_dual_write(store)
            else:
                await start_backfill(store, postgres.dsn)
            async with run_in_emulator(program, {**os.environ, "PYTHONPATH": str(ROOT)}) as terminal:
                yield Systems(terminal, postgres, redis, relay, store, agent)
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            await store.close()


async def keep_working(store: AgentStore, work: Callable[[AgentStore], Coroutine[None, None, None]]) -> None:
    working = asyncio.create_task(work(store))
    try:
        while True:
            with contextlib.suppress(Exception):  # the database freezes
                await asyncio.wait_for(store.renew_lease(), 2)
            await asyncio.sleep(0.5)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def copy_rows(store: AgentStore) -> None:
    while True:
        with contextlib.suppress(Exception):  # the database freezes
            async with asyncio.timeout(2), store.fenced() as conn:
                await conn.execute(
                    "UPDATE zdd.backfill SET rows_done = rows_done + 500, updated_at = clock_timestamp()"
                )
        await asyncio.sleep(0.5)


async def evaluate(made: Plan, store: AgentStore) -> None:
    """Evaluates the gates as the agent does: over watches, with the time of what they know."""
    names = made.kubernetes
    async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
        ctx = Context(made, store, None, cluster, lambda: False, lambda _line: None)
        watching = asyncio.create_task(ctx.workloads.run())
        try:
            while True:
                await store.save_gates(await evaluate_gates(ctx, await store.read()))
                await asyncio.sleep(0.5)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def finish_dual_write(store: AgentStore) -> None:
    release = (await store.read()).release
    phase = [each.name for each in release.strategy.phases].index("dual-write")
    done = sum(len(each.steps) for each in release.strategy.phases[: phase + 1])
    statuses = [StepStatus.DONE] * done + [StepStatus.PENDING] * (len(release.statuses) - done)
    await store.save(replace(release, state=ReleaseState.WAITING, phase=phase, statuses=tuple(statuses)))


async def start_backfill(store: AgentStore, dsn: str) -> None:
    release = (await store.read()).release
    phase = [each.name for each in release.strategy.phases].index("backfill")
    done = sum(len(each.steps) for each in release.strategy.phases[:phase]) + 1
    statuses = [StepStatus.DONE] * done + [StepStatus.PENDING] * (len(release.statuses) - done)
    statuses[done] = StepStatus.STARTED
    await store.save(replace(release, state=ReleaseState.RUNNING, phase=phase, statuses=tuple(statuses)))
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO zdd.backfill (release_id, status, rows_total, rows_done, batch_rows, rate)"
            " VALUES ($1, 'running', 1000000, 200000, 2000, 1500)",
            store.release_id,
        )
    finally:
        await connection.close()


async def count_commands(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM zdd.command"))
    finally:
        await connection.close()


@pytest.mark.timeout(200)
async def test_frozen_systems_a_dead_agent_and_a_command_into_a_frozen_database(tmp_path: Path) -> None:
    async with systems(tmp_path) as here:
        terminal = here.terminal
        text = await terminal.wait_for("✔ PostgreSQL <3s", "✔ Redis <3s", "✔ Kubernetes <3s", "✔ agent <3s", "ETA")
        assert MOVES.search(text)

        here.freeze(here.redis)  # its pane is hidden during the backfill
        await here.shows("✗ Redis", "✗ LOST: Redis", "relies on it")
        here.freeze(here.redis, signal.SIGCONT)
        await here.shows("✔ Redis <3s")

        here.api.flows.clear()
        await here.shows("✗ Kubernetes", "✗ LOST: Kubernetes", "pods STALE")
        here.api.flows.set()
        await here.shows("✔ Kubernetes <3s")

        terminal.press("R")
        await terminal.wait_for("roll back", "Enter confirm")
        here.freeze(here.postgres)
        terminal.press("\r")
        await here.shows("✗ PostgreSQL", "rollback NOT SENT", "LAST KNOWN", "? agent")
        await here.shows_nothing_moving()
        terminal.press("q")
        await terminal.wait_for("rollback is NOT SENT", "given up")
        terminal.press("q")
        await terminal.wait_for("LEFT rollback was NOT SENT")
        assert await terminal.wait_for_exit() == 0
        await asyncio.sleep(3.5)  # an attempt may be on its way for five seconds
        here.freeze(here.postgres, signal.SIGCONT)
        assert await count_commands(here.postgres.dsn) == 0


@pytest.mark.timeout(200)
async def test_nothing_moves_without_an_agent_and_a_retried_command_is_stored_once(tmp_path: Path) -> None:
    async with systems(tmp_path) as here:
        await here.terminal.wait_for("✔ agent <3s", "ETA")
        here.agent.cancel()
        await here.shows("✗ agent", "STALLED", "no agent for")
        await here.shows_nothing_moving()

        here.terminal.press("R")
        await here.terminal.wait_for("roll back", "Enter confirm")
        here.freeze(here.postgres)
        here.terminal.press("\r")
        await here.shows("rollback NOT SENT")
        here.freeze(here.postgres, signal.SIGCONT)
        await here.shows("rollback queued")
        assert await count_commands(here.postgres.dsn) == 1


@pytest.mark.timeout(200)
async def test_a_gate_is_as_old_as_its_data(tmp_path: Path) -> None:
    async with systems(tmp_path, waits_for_gates=True) as here:
        terminal = here.terminal

        async def shows_gate(pattern: str, description: str) -> None:
            gate = re.compile(rf"every (serving )?pod.*{pattern}|serving-v2.*{pattern}")
            began = time.monotonic()
            await terminal.wait_until(lambda text: bool(gate.search(text)), description, 30.0)
            print(f"{description} after {time.monotonic() - began:.1f} s")

        await shows_gate("<3s ago", "a gate with fresh data")
        here.api.flows.clear()
        await shows_gate(r"(?<!<)[345]s ago", "the age of its data, not of its check")
        await shows_gate("no news|does not respond", "no verdict by data that are too old")
        here.api.flows.set()
        await terminal.wait_for("✔ Kubernetes <3s")
        await shows_gate("<3s ago", "fresh data again")

        breach = ConditionReading(
            "image", ConditionStatus.BREACHED, "Deployment users has image users:1", "set by argo"
        )
        await save_conditions(here.store, [breach])
        await here.shows("✗ STOPPED", "has image users:1")
        here.agent.cancel()
        await here.shows("STALLED", "last: breached")
        await terminal.wait_until(
            lambda text: "STOPPED" not in text, "nothing that the agent said as if it were so", 1.0
        )

"""Seconds until the screen shows that a system no longer responds, or that a standing condition does not hold.

    python -m benchmarks.detection

The demo's production with two pods, its agent and its dashboard in a terminal of 120x36, in dual-write. One after the
other, PostgreSQL, Redis, the API server of Kubernetes and Prometheus are frozen and the agent is killed; then the write
flag is deleted, the sync trigger is disabled and the image of the Deployment is changed. Prints for each the time until
it is on screen, of several rounds at random moments, and the load of the machine.
"""

import argparse
import asyncio
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from tests.support.freezing import freeze_processes
from tests.support.metric_servers import ServerAnswer, serve_answer
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import DemoOptions, Environment, start_environment
from zdd_tui.demo.manifests import NAME, image_name
from zdd_tui.demo.release_driver import ReleaseDriver

ROUNDS = 5
LOST_BUDGET, BREACH_BUDGET = 3.0, 2.0
"""Seconds."""

TIMEOUT = 30.0
"""Seconds after which something counts as not shown."""

FROZEN_SECONDS = 3600.0
METRIC = '{"status": "success", "data": {"resultType": "scalar", "result": [NOW, "7"]}}'
GUARD = """
guard:
  interval: 60
  sources:
    prometheus:
      url: {url}
  rules:
    - {{name: orders, metric: query, query: orders, limit: 30, window: 2m, min_samples: 0}}
"""
"""Evaluated rarely: the agent's probes tell that the server has gone."""

SOURCES = ("PostgreSQL", "Redis", "Kubernetes", "Prometheus", "agent")
CALM = tuple(f"✔ {name} <3s" for name in SOURCES)


@dataclass
class Case:
    """Something that happens, and what undoes it.

    Attributes:
        shown: pattern of the text that tells it.
        budget: seconds.
    """

    name: str
    shown: str
    budget: float
    happen: Callable[[], Awaitable[None]]
    undo: Callable[[], Awaitable[None]]


class Production:
    """The demo's production, and what happens to it."""

    def __init__(self, env: Environment, prometheus: ServerAnswer) -> None:
        self.env = env
        self._prometheus = prometheus

    async def freeze(self, pid: Callable[[], int | None], how: signal.Signals) -> None:
        freeze_processes(pid(), how)

    async def freeze_prometheus(self, seconds: float) -> None:
        self._prometheus.wait = seconds

    async def kill_agent(self) -> None:
        await self.env.stop("agent", signal.SIGKILL)

    async def start_agent(self) -> None:
        self.env.start_agent()

    async def set_flag(self, value: str | None) -> None:
        async with Redis.from_url(self.env.redis.url) as redis:
            key = "ff:users_full_name_write"
            await (redis.delete(key) if value is None else redis.set(key, value))

    async def switch_trigger(self, verb: str) -> None:
        connection = await asyncpg.connect(self.env.postgres.dsn)
        try:
            name = await connection.fetchval(
                "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'public.users'::regclass"
                " AND NOT tgisinternal ORDER BY tgname LIKE '%sync%' DESC LIMIT 1"
            )
            await connection.execute(f"ALTER TABLE public.users {verb} TRIGGER {name}")
        finally:
            await connection.close()

    async def set_image(self, version: int) -> None:
        async with Cluster.connect(str(self.env.kubeconfig), None, "default") as cluster:
            path = cluster.path("apis/apps/v1", "deployments", NAME)
            template = {"spec": {"containers": [{"name": "app", "image": image_name(version)}]}}
            patch = {"spec": {"template": template}}
            await cluster.http.request_json("PATCH", path, body=patch, content_type=STRATEGIC_MERGE_PATCH)

    def cases(self) -> list[Case]:
        env = self.env
        servers: dict[str, Callable[[], int | None]] = {
            "PostgreSQL": lambda: env.postgres.pid,
            "Redis": lambda: env.redis.pid,
            "Kubernetes": lambda: env.processes["cluster"].pid,
        }
        lost = [
            Case(
                f"{name} frozen",
                f"✗ {name}",
                LOST_BUDGET,
                partial(self.freeze, pid, signal.SIGSTOP),
                partial(self.freeze, pid, signal.SIGCONT),
            )
            for name, pid in servers.items()
        ]
        return [
            *lost,
            Case("Prometheus frozen", "✗ Prometheus", LOST_BUDGET, partial(self.freeze_prometheus, FROZEN_SECONDS),
                 partial(self.freeze_prometheus, 0.0)),
            Case("agent killed", "✗ agent", LOST_BUDGET, self.kill_agent, self.start_agent),
            Case("flag deleted", "✗ STOPPED.*flag", BREACH_BUDGET, partial(self.set_flag, None),
                 partial(self.set_flag, "true")),
            Case("trigger disabled", "✗ STOPPED.*trigger", BREACH_BUDGET, partial(self.switch_trigger, "DISABLE"),
                 partial(self.switch_trigger, "ENABLE")),
            Case("image changed", "✗ STOPPED.*image", BREACH_BUDGET, partial(self.set_image, 1),
                 partial(self.set_image, 2)),
        ]  # fmt: skip


async def measure(case: Case, terminal: Emulator) -> float:
    """Seconds from what happens until it is on screen; at the end everything is as before."""

    def is_calm(text: str) -> bool:
        return all(each in text for each in CALM) and "STOPPED" not in text and "AWAITING APPROVAL" in text

    await terminal.wait_until(is_calm, f"a release that waits for approval, before: {case.name}")
    await asyncio.sleep(random.uniform(2.0, 4.0))  # not synchronous with any interval
    began = time.monotonic()
    await case.happen()
    pattern = re.compile(case.shown)
    try:
        await terminal.wait_until(lambda text: bool(pattern.search(text)), case.name, TIMEOUT)
        return time.monotonic() - began
    finally:
        await case.undo()


async def run(folder: Path, rounds: int, only: str) -> dict[str, list[float]]:
    """The seconds of each case."""
    times: dict[str, list[float]] = {}
    options = DemoOptions(rows=2_000, rate=20, mode="trigger", is_fast=True)
    async with AsyncExitStack() as stack:
        answer = ServerAnswer(body=METRIC)
        url = await stack.enter_async_context(serve_answer(answer))
        env = await stack.enter_async_context(start_environment(folder, options, lambda _text: None))
        env.plan_file.write_text(options.plan_text() + GUARD.format(url=url))
        store = await stack.enter_async_context(await Store.open(env.postgres.dsn))
        driver = ReleaseDriver(env, store, lambda _record: None)
        await store.migrate()
        await driver.start_release()
        for phase in ("expand", "dual-write"):
            await driver.run_phase(phase)
        program = [sys.executable, "-m", "zdd_tui", "open", "--no-agent", str(env.plan_file)]
        terminal = await stack.enter_async_context(run_in_emulator(program, env.environ, columns=120, rows=36))
        for case in Production(env, answer).cases():
            if only in case.name:
                times[case.name] = [await measure(case, terminal) for _ in range(rounds)]
                print(describe(case, times[case.name]), flush=True)
        # PostgreSQL and the others are as before: the production ends by itself.
        terminal.process.send_signal(signal.SIGTERM)
        await terminal.wait_for_exit()
    return times


def describe(case: Case, seconds: list[float]) -> str:
    verdict = "met" if round(max(seconds), 1) <= case.budget else "NOT met"
    return (
        f"detection: {case.name}: median {statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s"
        f" of {len(seconds)} (budget {case.budget:g} s: {verdict})"
    )


def main(rounds: int = ROUNDS, only: str = "") -> None:
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        asyncio.run(run(Path(folder), rounds, only))
    print(f"detection: load {before:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} processors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    chosen = parser.parse_args()
    main(chosen.rounds, chosen.only)

"""Processor time of an agent that only waits in dual-write, with many pods that do not change.

    python -m benchmarks.agent_idle

The agent is the real one, as a process of its own, against PostgreSQL, Redis and the API server of
`benchmarks.pod_server`; their time does not count.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from benchmarks.pseudo_terminal import cpu_seconds
from benchmarks.terminal_k9s import register_release, start_databases, start_pod_server
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.demo import manifests
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.release.records import Actor, StepChange
from zdd_tui.model.release.state import ReleaseState, StepStatus

CASES = (20, 2_000)
"""Pods: the difference is what the pods cost."""
WARM_UP_SECONDS, MEASURED_SECONDS = 10.0, 30.0
TABLE = (
    "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, first_name text NOT NULL,"
    " last_name text NOT NULL DEFAULT '', full_name text); CREATE INDEX users_full_name_idx ON users (full_name)"
)
FLAGS = {"ff:users_full_name_write": "true", "ff:users_full_name_read": "false"}


async def put_into_dual_write(dsn: str, redis_url: str, name: str) -> None:
    """Moves the registered release to the end of dual-write: all steps until there are done, and it waits."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(TABLE)
    await connection.close()
    async with Redis.from_url(redis_url) as redis:
        await redis.mset(FLAGS)
    async with await Store.open(dsn) as store:
        release_id = await store.find_release(name)
        assert release_id is not None
    agent = await acquire_lease(dsn, release_id, Actor("benchmark", "here"))
    assert agent is not None
    async with agent:
        release = (await agent.read()).release
        last = next(number for number, phase in enumerate(release.strategy.phases) if phase.name == "dual-write")
        for phase in release.strategy.phases[: last + 1]:
            for step in phase.steps:
                release = release.with_status(step.name, StepStatus.DONE)
        release = replace(release, state=ReleaseState.WAITING, phase=last)
        await agent.save(release, step=StepChange(release.current_phase.steps[0].name, note=""))
        await agent.release_lease()


async def measure(folder: Path, pods: int) -> float:
    """Percent of a core."""
    with start_pod_server(pods, folder) as server:
        async with start_databases(folder) as urls:
            env = os.environ | urls | {"KUBECONFIG": server.kubeconfig}
            plan = folder / "plan.yaml"
            # The pods have the image that dual-write has rolled out.
            text = plan_yaml("column", "application").replace(manifests.image_name(2), manifests.image_name(1))
            plan.write_text(text)
            await register_release(text, str(plan), env)
            name = text.partition("name: ")[2].splitlines()[0].strip()
            await put_into_dual_write(urls["DATABASE_URL"], urls["REDIS_URL"], name)
            argv = [sys.executable, "-m", "zdd_tui", "agent", str(plan)]
            return await asyncio.to_thread(measure_process, argv, env, folder / "agent.log")


def measure_process(argv: list[str], env: Mapping[str, str], log: Path) -> float:
    """Percent of a core that a program uses once it has started."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            time.sleep(WARM_UP_SECONDS)  # the agent makes the witness, which put_into_dual_write has not
            started = len(log.read_text())
            before, began = cpu_seconds(process.pid), time.monotonic()
            time.sleep(MEASURED_SECONDS)
            used, elapsed = cpu_seconds(process.pid) - before, time.monotonic() - began
            assert process.poll() is None, log.read_text()
            assert "breach" not in log.read_text()[started:], log.read_text()
            return 100 * used / elapsed
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    for pods in CASES:
        with tempfile.TemporaryDirectory(prefix="zdd-bench-") as name:
            share = asyncio.run(measure(Path(name), pods))
        print(f"agent_idle: {pods:,} pods, waiting in dual-write: {share:.2f} % of a core", flush=True)


if __name__ == "__main__":
    main()

"""The dashboard against k9s, where that is on PATH: both watch the same pods of the same API server.

    python -m benchmarks.terminal_k9s

120x36. First 500 pods, ten visible changes per second (restarts of the first rows); then 5,000 pods and 160 more
changes per second, of any pod. k9s runs with its default settings on the pods of the namespace; the dashboard is `zdd
open --no-agent` on a release in a PostgreSQL of its own, with a Redis for its flags, once with its defaults and once
with `--low-bandwidth`. One after the other, each with an API server of its own. Prints for each: bytes per second and
share of a core, medians of three intervals; memory then, and at its peak; seconds from the command to the first pod's
row, of the clock and of the processor, medians of three starts; and from a change of the first row to the terminal.
The last two include the response time of the API server.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pseudo_terminal import PseudoTerminal

CASES = ((500, {"visible": 10, "others": 0}), (5_000, {"visible": 10, "others": 160}))
PROGRAMS = ("dashboard", "low-bandwidth", "k9s")
WARM_UP_SECONDS = 8.0
INTERVAL_SECONDS = 10.0
INTERVALS = 3
STARTS = 3
PROBES = 12
DELAY_TIMEOUT = 20.0
"""Seconds after which a change counts as lost."""

ROW = b"-6d4f9c7b5d-0"
ALPHABETS = ("ABCDEFGHIJKLM", "NOPQRSTUVWXYZ")
"""Words alternate between the two: no letter is the same as before, so every cell of the next word is drawn."""


@dataclass(frozen=True, slots=True)
class ProgramCost:
    """The cost of one program.

    Attributes:
        rate, share: bytes per second, percent of a core.
        memory, peak: MB.
        first_row, first_row_cpu: seconds to the first row, of the clock and of the processor.
        delays: seconds from each probed change to the terminal.
    """

    rate: float
    share: float
    memory: float
    peak: float
    first_row: float
    first_row_cpu: float
    delays: tuple[float, ...]

    def format(self) -> str:
        return (
            f"{self.rate:,.0f} B/s, {self.share:.1f} % of a core, {self.memory:.0f} MB (peak {self.peak:.0f}),"
            f" first row {self.first_row:.1f} s ({self.first_row_cpu:.1f} s of processor),"
            f" change to line {1000 * statistics.median(self.delays):,.0f} ms (at most {1000 * max(self.delays):,.0f})"
        )


class PodServer:
    """Client of a running `benchmarks.pod_server`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.kubeconfig = str(self._read_response()["kubeconfig"])

    def send(self, request: Mapping[str, object]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read_response()

    def _read_response(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        response: dict[str, Any] = json.loads(self._process.stdout.readline())
        return response


@contextmanager
def start_pod_server(pods: int, folder: Path) -> Iterator[PodServer]:
    """An API server in a process of its own, whose processor time does not count."""
    argv = [sys.executable, "-m", "benchmarks.pod_server", "--pods", str(pods), "--dir", str(folder)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield PodServer(process)
    finally:
        process.kill()
        process.wait()


def measure_program(
    argv: Sequence[str], env: Mapping[str, str], server: PodServer, changes: Mapping[str, int]
) -> ProgramCost:
    """Runs one program against a server without changes, then with changes.

    Raises:
        RuntimeError: the program has ended.
        TimeoutError: no row, or a change that was not shown within ``DELAY_TIMEOUT``.
    """
    starts = []
    for _ in range(STARTS - 1):
        with PseudoTerminal(argv, env, columns=120, rows=36) as terminal:
            starts.append((terminal.wait_for(ROW), terminal.cpu_seconds()))
    with PseudoTerminal(argv, env, columns=120, rows=36) as terminal:
        starts.append((terminal.wait_for(ROW), terminal.cpu_seconds()))
        server.send(changes)
        terminal.count_for(WARM_UP_SECONDS)
        rate, share = terminal.measure_cost(INTERVALS, INTERVAL_SECONDS)
        memory, peak = terminal.memory_mb("VmRSS"), terminal.memory_mb("VmHWM")
        delays = tuple(measure_delay(terminal, server, probe) for probe in range(PROBES))
        if terminal.process.poll() is not None:
            raise RuntimeError(f"{argv[0]} ended with code {terminal.process.returncode}")
    first_row, first_row_cpu = (statistics.median(column) for column in zip(*starts, strict=True))
    return ProgramCost(rate, share, memory, peak, first_row, first_row_cpu, delays)


def measure_delay(terminal: PseudoTerminal, server: PodServer, probe: int) -> float:
    """Seconds from a change of the first row to the terminal."""
    terminal.count_for(random.uniform(0.5, 2.5))  # not synchronous with a program's refresh
    word = "".join(random.choices(ALPHABETS[probe % 2], k=8))
    changed_at, output = float(server.send({"word": word})["at"]), b""
    while word.encode() not in output:
        if time.monotonic() - changed_at > DELAY_TIMEOUT:
            raise TimeoutError(f"{word} was not printed: {output[-300:]!r}")
        output = (output + terminal.read(0.5))[-65536:]
    return time.monotonic() - changed_at


def measure_k9s(program: str, folder: Path, pods: int, changes: Mapping[str, int]) -> ProgramCost:
    """k9s with a home of its own, so that it has its default settings."""
    with start_pod_server(pods, folder) as server:
        homes = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
        env = os.environ | homes | {"HOME": str(folder), "KUBECONFIG": server.kubeconfig}
        return measure_program([program, "--command", "pods"], env, server, changes)


async def measure_dashboard(folder: Path, pods: int, changes: Mapping[str, int], *options: str) -> ProgramCost:
    """`zdd open --no-agent` with all of its sources."""
    from zdd_tui.demo.plan import plan_yaml

    with start_pod_server(pods, folder) as server:
        async with start_databases(folder) as urls:
            env = os.environ | urls | {"KUBECONFIG": server.kubeconfig}
            plan = folder / "plan.yaml"
            plan.write_text(text := plan_yaml("column", "application"))
            await register_release(text, str(plan), env)
            argv = [sys.executable, "-m", "zdd_tui", "open", "--no-agent", *options, str(plan)]
            return await asyncio.to_thread(measure_program, argv, env, server, changes)


@asynccontextmanager
async def start_databases(folder: Path) -> AsyncIterator[dict[str, str]]:
    """DATABASE_URL and REDIS_URL of two fresh servers."""
    from zdd_tui.testbed.servers import postgres_server, redis_server

    async with postgres_server(folder / "postgres") as postgres, redis_server(folder / "redis") as redis:
        yield {"DATABASE_URL": postgres.dsn, "REDIS_URL": redis.url}


async def register_release(plan: str, source: str, env: Mapping[str, str]) -> None:
    """Registers the plan's release as an agent would; none of its phases has started."""
    from zdd_tui.backends.store.client import Store
    from zdd_tui.model.plan.file import load_plan
    from zdd_tui.model.release.records import Actor

    loaded = load_plan(plan, source=source, environment=env)
    async with await Store.open(env["DATABASE_URL"]) as store:
        await store.migrate()
        await store.register_release(
            loaded.plan,
            text=loaded.text,
            document=loaded.document,
            plan_hash=loaded.hash,
            actor=Actor("benchmark", "here"),
        )


def main(sides: Sequence[str] = PROGRAMS, cases: Sequence[int] = (500, 5_000)) -> None:
    program = shutil.which("k9s") or ""
    if "k9s" in sides and not program:
        print("terminal_k9s: skipped: no k9s on PATH to compare with; --side dashboard measures the dashboard alone")
        return
    for pods, changes in CASES:
        if pods not in cases:
            continue
        print(f"terminal_k9s: 120x36, {pods:,} pods, {sum(changes.values())} changes a second, ten of them visible")
        for side in sides:
            with tempfile.TemporaryDirectory(prefix="zdd-bench-") as name:
                folder = Path(name)
                if side == "k9s":
                    cost = measure_k9s(program, folder, pods, changes)
                else:
                    options = [f"--{side}"] if side == "low-bandwidth" else []
                    cost = asyncio.run(measure_dashboard(folder, pods, changes, *options))
            print(f"terminal_k9s: {side:13} {cost.format()}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", action="append", choices=PROGRAMS)
    parser.add_argument("--pods", type=int, action="append", choices=[pods for pods, _ in CASES])
    arguments = parser.parse_args()
    main(arguments.side or PROGRAMS, arguments.pods or (500, 5_000))

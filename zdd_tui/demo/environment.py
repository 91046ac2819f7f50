"""A whole production in one temporary folder: PostgreSQL, Redis, a cluster with its node, pods, and a load.

Every process dies with this one, also when it is killed.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.data import create_schema, seed, watch_statements
from zdd_tui.demo.plan import CALM_GUARD, GUARD, Kind, Mode, plan_text, regions_text, strategy_plan_text
from zdd_tui.model.errors import ZddError
from zdd_tui.testbed.processes import spawn, stop, wait_until
from zdd_tui.testbed.servers import PgServer, RedisServer, postgres_server, redis_server

EXPAND_CONTRACT = "expand/contract"
PODS_READY_WITHIN = 60.0
START_WITHIN = 30.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Options:
    """What kind of production is wanted.

    Attributes:
        by: what makes a canary's weight, ``replicas``, ``flag`` or ``gateway``.
        strategy: of the release; `kind`, `mode` and `ceiling` are of expand/contract alone.
        ceiling: rows a second that the backfill may move; None for no ceiling.
        quick: two pods that drain in a second instead of four that take their time; for tests.
        regions: names of the plan's regions, in order; none for a plan without. `region` is the one that this
            production is.
        guard: the plan has a guard, and versions above 1 can be broken: see :attr:`Environment.inject_file`.
        calm: its limits forgive a slow machine, and no data is no reason to go back.
        mistaken: the new path of a dark launch answers otherwise than the old one.
    """

    rows: int = 200_000
    rate: int = 120
    kind: Kind = "column"
    mode: Mode = "application"
    name: str = "users-full-name"
    soak: str = "5s"
    ceiling: int | None = None
    quick: bool = False
    strategy: str = EXPAND_CONTRACT
    by: str = "replicas"
    guard: bool = False
    calm: bool = False
    mistaken: bool = False
    regions: tuple[str, ...] = ()
    region: str = ""

    @property
    def flagged(self) -> bool:
        """The release has flags."""
        return self.strategy in (EXPAND_CONTRACT, "dark-launch") or (self.strategy == "canary" and self.by == "flag")

    @property
    def routed(self) -> bool:
        """Requests come by an HTTPRoute; else the Service alone shares them out."""
        return self.strategy == "canary" and self.by == "gateway"

    def plan_text(self) -> str:
        """The release's plan as YAML."""
        guard = CALM_GUARD if self.calm else GUARD
        more = (guard if self.guard else "") + regions_text(self.regions, flagged=self.flagged)
        if self.strategy != EXPAND_CONTRACT:
            chosen = {"name": self.name, "soak": self.soak, "by": self.by}
            return strategy_plan_text(self.strategy, **chosen, quick=self.quick, mistaken=self.mistaken) + more
        return plan_text(self.kind, self.mode, name=self.name, soak=self.soak, ceiling=self.ceiling) + more


@dataclass(slots=True)
class Environment:
    """A running production.

    Attributes:
        others: variables for the plan's other regions.
        environ: what a plan and the usual tools need: DATABASE_URL, REDIS_URL, KUBECONFIG.
    """

    folder: Path
    options: Options
    postgres: PgServer
    redis: RedisServer
    kubeconfig: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def plan_file(self) -> Path:
        return self.folder / "plan.yaml"

    @property
    def inject_file(self) -> Path:
        """Holds the name of the fault that versions above 1 have; see :mod:`zdd_tui.demo.sample.faults`."""
        return self.folder / "inject"

    @property
    def load_report(self) -> Path:
        return self.folder / "load.json"

    @property
    def environ(self) -> dict[str, str]:
        return os.environ | self.others | self.addresses

    @property
    def addresses(self) -> dict[str, str]:
        """Of this production alone."""
        return {
            "DATABASE_URL": self.postgres.dsn,
            "REDIS_URL": self.redis.url,
            "KUBECONFIG": str(self.kubeconfig),
        }

    def load(self) -> dict[str, Any]:
        """The newest report of the load."""
        found: dict[str, Any] = json.loads(self.load_report.read_text())
        return found

    def start(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """Starts one of our own programs; its output goes to ``logs/<name>.log``."""
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            process = spawn([sys.executable, "-m", *argv], log=log, env=self.environ, death_signal=signal.SIGTERM)
        self.processes[name] = process
        return process

    def start_agent(self, *options: str) -> subprocess.Popen[bytes]:
        """Starts an agent for the plan."""
        region = ("--region", self.options.region) if self.options.region else ()
        return self.start("agent", "zdd_tui", "agent", *region, *options, str(self.plan_file))

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM, grace: float = 20.0) -> int:
        """Ends one of our programs and returns its exit code."""
        return await stop(self.processes.pop(name), how, grace)


@asynccontextmanager
async def environment(folder: Path, options: Options, say: Say) -> AsyncIterator[Environment]:
    """Starts everything and ends everything.

    Raises:
        ZddError: something did not come up; names its log.
    """
    async with AsyncExitStack() as stack:
        say("starting PostgreSQL, Redis and a cluster")
        kubeconfig = folder / "cluster" / "kubeconfig"
        (postgres, redis) = await asyncio.gather(
            stack.enter_async_context(postgres_server(folder / "postgres")),
            stack.enter_async_context(redis_server(folder / "redis")),
        )
        made = Environment(folder, options, postgres, redis, kubeconfig)
        stack.push_async_callback(_end_all, made)
        made.plan_file.write_text(options.plan_text())
        await _keep_in_git(made.plan_file)
        await _start_cluster(made)
        say(f"filling the table with {options.rows:,} rows, rolling out pods of V1")
        await create_schema(postgres.dsn, options.kind)
        await watch_statements(postgres.dsn)
        await asyncio.gather(seed(postgres.dsn, options.rows), _deploy(made))
        made.start(
            "load", "zdd_tui.demo.load", "--kubeconfig", str(kubeconfig), "--out", str(made.load_report),
            "--rate", str(options.rate), "--rows", str(options.rows),
            *(("--route", manifests.ROUTE) if options.routed else ()),
        )  # fmt: skip
        await _until(made, "load", lambda: made.load_report.exists() and made.load()["requests"] > 0)
        yield made


async def _keep_in_git(plan: Path) -> None:
    """As any plan should be kept, and as the doctor looks for it; a machine without git goes without."""
    if shutil.which("git") is None:
        return
    author = ("-c", "user.name=zdd demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", plan.name), (*author, "commit", "-q", "--no-verify", "-m", "The plan")):
        process = await asyncio.create_subprocess_exec(
            "git", "-C", str(plan.parent), *command, stdout=DEVNULL, stderr=DEVNULL
        )
        await process.wait()


async def _start_cluster(made: Environment) -> None:
    cluster = made.folder / "cluster"
    cluster.mkdir()
    made.start("cluster", "zdd_tui.testbed.cluster", "--dir", str(cluster), "--logs", str(made.folder / "node"))
    log = made.folder / "logs" / "cluster.log"
    await _until(made, "cluster", lambda: b'"kubeconfig"' in log.read_bytes())
    made.start(
        "kubelet", "zdd_tui.testbed.kubelet", "--kubeconfig", str(made.kubeconfig), "--dir", str(made.folder / "node")
    )


async def _deploy(made: Environment) -> None:
    options = made.options
    deployment = manifests.deployment(
        dsn=made.postgres.dsn,
        redis_url=made.redis.url,
        kind=options.kind,
        dual_write=options.mode,
        replicas=2 if options.quick else 4,
        drain=1 if options.quick else 2,
        inject_file=str(made.inject_file) if options.guard else "",
    )
    async with Cluster.connect(str(made.kubeconfig), None, "default") as cluster:
        await cluster.http.json("POST", cluster.path("apis/apps/v1", "deployments"), body=deployment)
        await cluster.http.json("POST", cluster.path("api/v1", "services"), body=manifests.service())
        for path, body in manifests.gateway_objects().items() if options.routed else ():
            await cluster.http.json("POST", path, body=body)
        try:
            async with asyncio.timeout(PODS_READY_WITHIN):
                while (view := await cluster.get_deployment(manifests.NAME)).available < view.desired:  # noqa: ASYNC110 - another process changes it
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise ZddError(
                f"the pods of V1 were not ready within {PODS_READY_WITHIN:.0f} s", f"see {made.folder}/node/logs"
            ) from None


async def _until(made: Environment, name: str, ready: Callable[[], bool]) -> None:
    if not await wait_until(made.processes[name], ready, START_WITHIN):
        log = made.folder / "logs" / f"{name}.log"
        tail = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise ZddError(f"{name} did not come up: {tail[0]}", f"see {log}, and run again with --keep")


async def _end_all(made: Environment) -> None:
    # The load first, so that it does not count our own ending as failures; the cluster last, since the kubelet
    # reports to it.
    for name in ("load", "agent", "kubelet", "cluster"):
        if name in made.processes:
            await made.end(name)

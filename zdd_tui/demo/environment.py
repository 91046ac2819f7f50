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
from zdd_tui.demo.data import create_schema, enable_statement_stats, insert_seed_rows
from zdd_tui.demo.plan import (
    GUARD_YAML,
    LENIENT_GUARD_YAML,
    ChangeKind,
    DualWriteMode,
    plan_yaml,
    regions_yaml,
    strategy_plan_yaml,
)
from zdd_tui.model.errors import ZddError
from zdd_tui.testbed.processes import spawn, stop, wait_until
from zdd_tui.testbed.servers import PostgresServer, RedisServer, postgres_server, redis_server

EXPAND_CONTRACT = "expand-contract"
PODS_READY_TIMEOUT = 60.0
START_TIMEOUT = 30.0

ProgressCallback = Callable[[str], None]


@dataclass(slots=True)
class DemoOptions:
    """What kind of production is wanted.

    Attributes:
        canary_by: what makes a canary's weight, ``replicas``, ``flag`` or ``gateway``.
        strategy: of the release; `kind`, `mode` and `ceiling` are of expand/contract alone.
        max_rows_per_second: rows a second that the backfill may move; None for no ceiling.
        is_fast: two pods that drain in a second instead of four that take their time; for tests.
        regions: names of the plan's regions, in order; none for a plan without. `region` is the one that this
            production is.
        has_guard: the plan has a guard, and versions above 1 can be broken: see :attr:`Environment.fault_file`.
        is_guard_lenient: its limits forgive a slow machine, and no data is no reason to go back.
        has_wrong_results: the new path of a dark launch answers otherwise than the old one.
    """

    rows: int = 200_000
    rate: int = 120
    kind: ChangeKind = "column"
    mode: DualWriteMode = "application"
    name: str = "users-full-name"
    soak: str = "5s"
    max_rows_per_second: int | None = None
    is_fast: bool = False
    strategy: str = EXPAND_CONTRACT
    canary_by: str = "replicas"
    has_guard: bool = False
    is_guard_lenient: bool = False
    has_wrong_results: bool = False
    regions: tuple[str, ...] = ()
    region: str = ""

    @property
    def uses_flags(self) -> bool:
        """The release has flags."""
        return self.strategy in (EXPAND_CONTRACT, "dark-launch") or (
            self.strategy == "canary" and self.canary_by == "flag"
        )

    @property
    def uses_gateway(self) -> bool:
        """Requests come by an HTTPRoute; else the Service alone shares them out."""
        return self.strategy == "canary" and self.canary_by == "gateway"

    def plan_text(self) -> str:
        """The release's plan as YAML."""
        guard = LENIENT_GUARD_YAML if self.is_guard_lenient else GUARD_YAML
        more = (guard if self.has_guard else "") + regions_yaml(self.regions, uses_flags=self.uses_flags)
        if self.strategy != EXPAND_CONTRACT:
            chosen = {"name": self.name, "soak": self.soak, "by": self.canary_by}
            return (
                strategy_plan_yaml(
                    self.strategy, **chosen, is_fast=self.is_fast, has_wrong_results=self.has_wrong_results
                )
                + more
            )
        return (
            plan_yaml(
                self.kind, self.mode, name=self.name, soak=self.soak, max_rows_per_second=self.max_rows_per_second
            )
            + more
        )


@dataclass(slots=True)
class Environment:
    """A running production.

    Attributes:
        region_variables: variables for the plan's other regions.
        environ: what a plan and the usual tools need: DATABASE_URL, REDIS_URL, KUBECONFIG.
    """

    folder: Path
    options: DemoOptions
    postgres: PostgresServer
    redis: RedisServer
    kubeconfig: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    region_variables: dict[str, str] = field(default_factory=dict)

    @property
    def plan_file(self) -> Path:
        return self.folder / "plan.yaml"

    @property
    def fault_file(self) -> Path:
        """Holds the name of the fault that versions above 1 have; see :mod:`zdd_tui.demo.sample.faults`."""
        return self.folder / "inject"

    @property
    def load_report_file(self) -> Path:
        return self.folder / "load.json"

    @property
    def environ(self) -> dict[str, str]:
        return os.environ | self.region_variables | self.connection_variables

    @property
    def connection_variables(self) -> dict[str, str]:
        """Of this production alone."""
        return {
            "DATABASE_URL": self.postgres.dsn,
            "REDIS_URL": self.redis.url,
            "KUBECONFIG": str(self.kubeconfig),
        }

    def read_load_report(self) -> dict[str, Any]:
        """The newest report of the load."""
        found: dict[str, Any] = json.loads(self.load_report_file.read_text())
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

    async def stop(self, name: str, signal_number: signal.Signals = signal.SIGTERM, grace: float = 20.0) -> int:
        """Ends one of our programs and returns its exit code."""
        return await stop(self.processes.pop(name), signal_number, grace)


@asynccontextmanager
async def start_environment(folder: Path, options: DemoOptions, log: ProgressCallback) -> AsyncIterator[Environment]:
    """Starts everything and ends everything.

    Raises:
        ZddError: something did not come up; names its log.
    """
    async with AsyncExitStack() as stack:
        log("starting PostgreSQL, Redis and a cluster")
        kubeconfig = folder / "cluster" / "kubeconfig"
        (postgres, redis) = await asyncio.gather(
            stack.enter_async_context(postgres_server(folder / "postgres")),
            stack.enter_async_context(redis_server(folder / "redis")),
        )
        made = Environment(folder, options, postgres, redis, kubeconfig)
        stack.push_async_callback(_stop_all, made)
        made.plan_file.write_text(options.plan_text())
        await _commit_plan(made.plan_file)
        await _start_cluster(made)
        log(f"filling the table with {options.rows:,} rows, rolling out pods of V1")
        await create_schema(postgres.dsn, options.kind)
        await enable_statement_stats(postgres.dsn)
        await asyncio.gather(insert_seed_rows(postgres.dsn, options.rows), _deploy(made))
        made.start(
            "load", "zdd_tui.demo.load", "--kubeconfig", str(kubeconfig), "--out", str(made.load_report_file),
            "--rate", str(options.rate), "--rows", str(options.rows),
            *(("--route", manifests.ROUTE) if options.uses_gateway else ()),
        )  # fmt: skip
        await _wait_until_ready(
            made, "load", lambda: made.load_report_file.exists() and made.read_load_report()["requests"] > 0
        )
        yield made


async def _commit_plan(plan: Path) -> None:
    """As any plan should be kept, and as the doctor looks for it; a machine without git goes without."""
    if shutil.which("git") is None:
        return
    author = ("-c", "user.name=zdd demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", plan.name), (*author, "commit", "-q", "--no-verify", "-m", "The plan")):
        process = await asyncio.create_subprocess_exec(
            "git", "-C", str(plan.parent), *command, stdout=DEVNULL, stderr=DEVNULL
        )
        await process.wait()


async def _start_cluster(env: Environment) -> None:
    cluster = env.folder / "cluster"
    cluster.mkdir()
    env.start("cluster", "zdd_tui.testbed.cluster", "--dir", str(cluster), "--logs", str(env.folder / "node"))
    log = env.folder / "logs" / "cluster.log"
    await _wait_until_ready(env, "cluster", lambda: b'"kubeconfig"' in log.read_bytes())
    env.start(
        "kubelet", "zdd_tui.testbed.kubelet", "--kubeconfig", str(env.kubeconfig), "--dir", str(env.folder / "node")
    )


async def _deploy(env: Environment) -> None:
    options = env.options
    deployment = manifests.deployment_manifest(
        dsn=env.postgres.dsn,
        redis_url=env.redis.url,
        kind=options.kind,
        dual_write=options.mode,
        replicas=2 if options.is_fast else 4,
        drain=1 if options.is_fast else 2,
        inject_file=str(env.fault_file) if options.has_guard else "",
    )
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        await cluster.http.request_json("POST", cluster.path("apis/apps/v1", "deployments"), body=deployment)
        await cluster.http.request_json("POST", cluster.path("api/v1", "services"), body=manifests.service_manifest())
        for path, body in manifests.gateway_manifests().items() if options.uses_gateway else ():
            await cluster.http.request_json("POST", path, body=body)
        try:
            async with asyncio.timeout(PODS_READY_TIMEOUT):
                while (view := await cluster.get_deployment(manifests.NAME)).available < view.desired:  # noqa: ASYNC110 - another process changes it
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise ZddError(
                f"the pods of V1 were not ready within {PODS_READY_TIMEOUT:.0f} s", f"see {env.folder}/node/logs"
            ) from None


async def _wait_until_ready(env: Environment, name: str, ready: Callable[[], bool]) -> None:
    if not await wait_until(env.processes[name], ready, START_TIMEOUT):
        log = env.folder / "logs" / f"{name}.log"
        tail = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise ZddError(f"{name} did not come up: {tail[0]}", f"see {log}, and run again with --keep")


async def _stop_all(env: Environment) -> None:
    # The load first, so that it does not count our own ending as failures; the cluster last, since the kubelet
    # reports to it.
    for name in ("load", "agent", "kubelet", "cluster"):
        if name in env.processes:
            await env.stop(name)

"""A whole production in one folder: PostgreSQL, Redis, a cluster with its node, pods, and a load; or one per region.

Every process ends with this one, also when this one is killed.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo import manifests
from zdd_tui.demo.data import create_schema, enable_statement_stats, insert_seed_rows
from zdd_tui.demo.plan import (
    EXPAND_CONTRACT,
    FAST_FLAG_STALENESS,
    FLAG_STALENESS,
    GUARD_YAML,
    LENIENT_GUARD_YAML,
    ChangeKind,
    DualWriteMode,
    migration_plan_yaml,
    plan_yaml,
    regions_yaml,
    strategy_plan_yaml,
)
from zdd_tui.model.errors import ZddError
from zdd_tui.model.migrations.operations import PlanOperation
from zdd_tui.testbed.processes import spawn, stop, wait_until
from zdd_tui.testbed.servers import PostgresServer, RedisServer, postgres_server, redis_server

PODS_READY_TIMEOUT = 60.0
START_TIMEOUT = 30.0
POLL_INTERVAL = 0.1
REGION_NAMES = ("eu", "us", "ap")

ProgressCallback = Callable[[str], None]


@dataclass(slots=True)
class DemoOptions:
    """The production to start.

    Attributes:
        rows: seeded rows of the table.
        rate: requests per second of the load.
        kind, mode, max_rows_per_second: of an expand/contract release; None is no limit of the backfill.
        is_fast: two pods that count as available at once, drain in a second and see a flag within half a second,
            instead of four that take one second, two, and one; for tests.
        canary_by: what sets a canary's weight: ``replicas``, ``flag`` or ``gateway``.
        has_guard: the plan has a guard, and versions above 1 can be broken: see :attr:`Environment.fault_file`.
        is_guard_lenient: the guard's limits tolerate a slow machine, and missing data is no reason to roll back.
        has_wrong_results: the new path of a dark launch returns different results.
        fault: name of the fault to inject into versions above 1; empty for none.
        migration: statements of the reader's own, which the release executes instead of the demo's change.
        regions: names of the plan's regions, in order; empty for a plan without. `region` is this production's.
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
    fault: str = ""
    regions: tuple[str, ...] = ()
    region: str = ""
    migration: tuple[PlanOperation, ...] = ()

    @property
    def changes_schema(self) -> bool:
        """The release is the demo's own of expand/contract, with a backfill and flags."""
        return self.strategy == EXPAND_CONTRACT and not self.migration

    @property
    def uses_flags(self) -> bool:
        """The release has flags."""
        by_flag = self.strategy == "canary" and self.canary_by == "flag"
        return by_flag or self.changes_schema or self.strategy == "dark-launch"

    @property
    def uses_gateway(self) -> bool:
        """An HTTPRoute distributes the requests; else the Service alone does."""
        return self.strategy == "canary" and self.canary_by == "gateway"

    def plan_text(self) -> str:
        """The release's plan as YAML."""
        if self.migration:
            limit = self.max_rows_per_second
            text = migration_plan_yaml(self.migration, name=self.name, soak=self.soak, max_rows_per_second=limit)
        elif self.changes_schema:
            limit = self.max_rows_per_second
            text = plan_yaml(
                self.kind,
                self.mode,
                name=self.name,
                soak=self.soak,
                max_rows_per_second=limit,
                is_fast=self.is_fast,
            )
        else:
            text = strategy_plan_yaml(
                self.strategy,
                name=self.name,
                soak=self.soak,
                is_fast=self.is_fast,
                canary_by=self.canary_by,
                has_wrong_results=self.has_wrong_results,
            )
        if self.has_guard:
            text += LENIENT_GUARD_YAML if self.is_guard_lenient else GUARD_YAML
        return text + regions_yaml(self.regions, uses_flags=self.uses_flags)


@dataclass(slots=True)
class Environment:
    """A running production.

    Attributes:
        processes: the running programs by name.
        region_variables: environment variables for all regions of the plan.
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
        """Holds the name of the fault to inject into versions above 1; see :mod:`zdd_tui.demo.sample.faults`."""
        return self.folder / "inject"

    @property
    def load_report_file(self) -> Path:
        return self.folder / "load.json"

    @property
    def environ(self) -> dict[str, str]:
        """The environment that a plan and the usual tools need."""
        return os.environ | self.region_variables | self.connection_variables

    @property
    def connection_variables(self) -> dict[str, str]:
        """DATABASE_URL, REDIS_URL and KUBECONFIG of this production."""
        return {"DATABASE_URL": self.postgres.dsn, "REDIS_URL": self.redis.url, "KUBECONFIG": str(self.kubeconfig)}

    @property
    def tool_variables(self) -> dict[str, str]:
        """What psql and zdd read where their command line names neither database nor plan."""
        parts = urlsplit(self.postgres.dsn)
        return {
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": parts.path.lstrip("/"),
            "ZDD_PLAN": str(self.plan_file),
        }

    def read_load_report(self) -> dict[str, Any]:
        """The newest report of the load; its keys are in :mod:`zdd_tui.demo.load.stats`."""
        report: dict[str, Any] = json.loads(self.load_report_file.read_text())
        return report

    def start(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """Starts a Python module as a program; its output goes to ``logs/<name>.log``."""
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
        """Stops a program and returns its exit code; killed after ``grace`` seconds."""
        return await stop(self.processes.pop(name), signal_number, grace)


@asynccontextmanager
async def start_environment(folder: Path, options: DemoOptions, log: ProgressCallback) -> AsyncIterator[Environment]:
    """Starts a production and stops it at the end.

    Raises:
        ZddError: a part did not start; names its log.
    """
    async with AsyncExitStack() as stack:
        log("starting PostgreSQL, Redis and a cluster")
        kubeconfig = folder / "cluster" / "kubeconfig"
        postgres, redis = await asyncio.gather(
            stack.enter_async_context(postgres_server(folder / "postgres")),
            stack.enter_async_context(redis_server(folder / "redis")),
        )
        env = Environment(folder, options, postgres, redis, kubeconfig)
        stack.push_async_callback(_stop_all, env)
        env.plan_file.write_text(options.plan_text())
        await _commit_plan(env.plan_file)
        await _start_cluster(env)
        log(f"filling the table with {options.rows:,} rows, rolling out pods of V1")
        await create_schema(postgres.dsn)
        await enable_statement_stats(postgres.dsn)
        await asyncio.gather(insert_seed_rows(postgres.dsn, options.rows), _deploy(env))
        env.start(
            "load", "zdd_tui.demo.load", "--kubeconfig", str(kubeconfig), "--out", str(env.load_report_file),
            "--rate", str(options.rate), "--rows", str(options.rows),
            *(("--route", manifests.ROUTE) if options.uses_gateway else ()),
        )  # fmt: skip
        await _wait_until_ready(
            env, "load", lambda: env.load_report_file.exists() and env.read_load_report()["requests"] > 0
        )
        yield env


@asynccontextmanager
async def start_regions(
    folder: Path, options: DemoOptions, log: ProgressCallback
) -> AsyncIterator[tuple[Environment, ...]]:
    """One production for each of the options' regions, in order; a single one for a plan without regions.

    Each has its own folder, servers, cluster, pods and load, and the same plan file.

    Raises:
        ZddError: a part did not start; names its log.
    """
    async with AsyncExitStack() as stack:
        envs: list[Environment] = []
        for region in options.regions or ("",):
            if region:
                log(f"region {region}")
            own = folder / region
            own.mkdir(exist_ok=True)
            started = start_environment(own, replace(options, region=region), log)
            envs.append(await stack.enter_async_context(started))
        if options.regions:
            variables = {
                f"{env.options.region.upper()}_{name}": value
                for env in envs
                for name, value in env.connection_variables.items()
            }
            for env in envs:
                env.region_variables = variables
        yield tuple(envs)


async def poll_until(is_reached: Callable[[], Awaitable[bool]], timeout: float) -> bool:
    """Polls another process's state; False when ``timeout`` seconds have passed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while not await is_reached():  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(POLL_INTERVAL)
            return True
    return False


async def _commit_plan(plan: Path) -> None:
    """Commits the plan to a repository, which the doctor checks; not on a machine without git."""
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
        flag_staleness=FAST_FLAG_STALENESS if options.is_fast else FLAG_STALENESS,
        fault_file=str(env.fault_file) if options.has_guard else "",
        requires_flags=options.changes_schema,
    )
    if options.is_fast:
        deployment["spec"]["minReadySeconds"] = 0
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        await cluster.http.request_json("POST", cluster.path("apis/apps/v1", "deployments"), body=deployment)
        await cluster.http.request_json("POST", cluster.path("api/v1", "services"), body=manifests.service_manifest())
        for path, body in manifests.gateway_manifests().items() if options.uses_gateway else ():
            await cluster.http.request_json("POST", path, body=body)

        async def is_available() -> bool:
            view = await cluster.get_deployment(manifests.NAME)
            return view.available >= view.desired

        if not await poll_until(is_available, PODS_READY_TIMEOUT):
            raise ZddError(
                f"the pods of V1 were not ready within {PODS_READY_TIMEOUT:.0f} s",
                f"see {env.folder}/node/logs; `zdd demo --keep` keeps the folder",
            )


async def _wait_until_ready(env: Environment, name: str, ready: Callable[[], bool]) -> None:
    if not await wait_until(env.processes[name], ready, START_TIMEOUT):
        log = env.folder / "logs" / f"{name}.log"
        tail = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise ZddError(f"{name} did not start: {tail[0]}", f"see {log}; `zdd demo --keep` keeps the folder")


async def _stop_all(env: Environment) -> None:
    # The load first, so that it does not count the shutdown as failures; the cluster last, since the kubelet
    # reports to it.
    for name in ("load", "agent", "kubelet", "cluster"):
        if name in env.processes:
            await env.stop(name)

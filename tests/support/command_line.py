"""A place where a plan can be carried out, cheaply: real PostgreSQL, Redis and API server, and the command line."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import asyncpg

from tests.support.kubelet import api_server
from tests.support.warm_python import WarmProcess, can_fork, fork_program
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.demo import manifests
from zdd_tui.demo.data import create_schema, insert_seed_rows
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.release.records import ReleaseRecord

TIMEOUT = 120.0
"""Seconds that anything may take on a machine that does much else."""

NAME = "users-full-name"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def output(self) -> str:
        return self.out + self.err


@dataclass(frozen=True, slots=True)
class CliEnvironment:
    """Where commands run: a plan file, and the environment that fills it."""

    folder: Path
    environ: dict[str, str]

    @property
    def plan_file(self) -> Path:
        return self.folder / "plan.yaml"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may stand in no output."""
        urls = (self.environ["DATABASE_URL"], self.environ.get("REDIS_URL", ""))
        return tuple(url.rpartition("@")[0].rpartition(":")[2] for url in urls if "@" in url)

    def with_env(self, **changes: str) -> "CliEnvironment":
        return replace(self, environ=self.environ | changes)

    def rewrite(self, old: str, new: str) -> None:
        """Changes the plan file."""
        text = self.plan_file.read_text()
        assert old in text
        self.plan_file.write_text(text.replace(old, new))

    def line_of(self, key: str) -> str:
        """How an error names a key such as ``change.up``: with the file and the line where it stands."""
        lines = self.plan_file.read_text().splitlines()
        last = f"{key.rpartition('.')[2]}:"
        number = next(number for number, line in enumerate(lines, 1) if line.strip().startswith(last))
        return f"{self.plan_file}:{number}: {key}"

    async def run_zdd(
        self, verb: str, *options: str, stdin: str | None = None, after: tuple[str, ...] = ()
    ) -> CommandResult:
        """Runs one command on the plan to its end. ``after``: words behind the plan."""
        if can_fork(self.environ):
            return await self._fork_zdd((verb, *options, str(self.plan_file), *after), stdin or "")
        process = await self.start_zdd(verb, *options, stdin=stdin is not None, after=after)
        try:
            async with asyncio.timeout(TIMEOUT):
                out, err = await process.communicate(None if stdin is None else stdin.encode())
        finally:
            await stop_process(process)
        assert process.returncode is not None
        return CommandResult(process.returncode, out.decode(), err.decode())

    async def _fork_zdd(self, words: tuple[str, ...], stdin: str) -> CommandResult:
        with TemporaryFile() as typed, TemporaryFile() as out, TemporaryFile() as err:
            typed.write(stdin.encode())
            typed.seek(0)
            process = fork_program(
                ("zdd_tui", *words),
                stdin=typed.fileno(), stdout=out.fileno(), stderr=err.fileno(),
                env=self.environ,
            )  # fmt: skip
            try:
                code = await asyncio.wait_for(process.wait_for_exit(), TIMEOUT)
            finally:
                process.kill()
                process.wait()
            for file in (out, err):
                file.seek(0)
            return CommandResult(code, out.read().decode(), err.read().decode())

    async def start_zdd(
        self, verb: str, *options: str, stdin: bool = False, after: tuple[str, ...] = ()
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "zdd_tui", verb, *options, str(self.plan_file), *after),
            env=self.environ,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    @asynccontextmanager
    async def run_agent(self, *options: str) -> AsyncIterator["AgentProcess"]:
        """An agent process with its log; killed at the end where it has not ended by itself."""
        log, written = socket.socketpair()
        with written, Path(os.devnull).open("r+b") as empty:  # noqa: ASYNC230 - it does not block
            process = fork_program(
                ("zdd_tui", "agent", *options, str(self.plan_file)),
                stdin=empty.fileno(), stdout=empty.fileno(), stderr=written.fileno(),
                env=self.environ,
            )  # fmt: skip
        agent = AgentProcess(process)
        reading = asyncio.create_task(agent.read(log))
        try:
            yield agent
        finally:
            process.kill()
            process.wait()
            await reading

    async def fetchval(self, query: str, *args: object) -> object:
        connection = await asyncpg.connect(self.environ["DATABASE_URL"])
        try:
            return await connection.fetchval(query, *args)
        finally:
            await connection.close()


class AgentProcess:
    """A running `zdd agent`."""

    def __init__(self, process: WarmProcess) -> None:
        self.process = process
        self.log = ""
        self._new_output = asyncio.Event()
        self._ended = False

    async def read(self, log: socket.socket) -> None:
        """Reads the log until its end."""
        stream, writer = await asyncio.open_connection(sock=log)
        while line := await stream.readline():
            self.log += line.decode()
            self._new_output.set()
        writer.close()
        self._ended = True
        self._new_output.set()

    async def wait_for_output(self, text: str, seconds: float = TIMEOUT) -> None:
        """Waits until that stands in the log."""
        try:
            async with asyncio.timeout(seconds):
                while text not in self.log:
                    assert not self._ended, f"the agent has ended without it: {text}\n{self.log}"
                    self._new_output.clear()
                    await self._new_output.wait()
        except TimeoutError:
            raise AssertionError(f"not in the log within {seconds} s: {text}\n{self.log}") from None

    async def wait_for_exit(self, signal_number: signal.Signals | None = None) -> int:
        """Its exit code, after a signal where one is given."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        return await asyncio.wait_for(self.process.wait_for_exit(), TIMEOUT)


async def stop_process(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()
    transport = process._transport  # type: ignore[attr-defined]  # its pipes are closed late otherwise
    transport.close()


@asynccontextmanager
async def make_environment(folder: Path, dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    """A table with a few rows, a Deployment without pods, an empty Redis, and the demo's plan."""
    await create_schema(dsn)
    await insert_seed_rows(dsn, 20)
    async with api_server(folder) as kubeconfig:
        async with Cluster.connect(kubeconfig, None, "default") as cluster:
            body = manifests.deployment_manifest(dsn="postgresql://unused/x", redis_url="redis://unused", replicas=0)
            await cluster.http.request_json("POST", cluster.path("apis/apps/v1", "deployments"), body=body)
        environ = os.environ | {"DATABASE_URL": dsn, "REDIS_URL": redis_url, "KUBECONFIG": kubeconfig, "COLUMNS": "80"}
        made = CliEnvironment(folder, dict(environ))
        made.plan_file.write_text(plan_yaml("column", "application"))
        yield made


async def read_record(store: Store) -> ReleaseRecord:
    found = await store.find_release(NAME)
    assert found is not None
    return await store.read_release(found)


async def wait_until(is_done, seconds: float = TIMEOUT):  # type: ignore[no-untyped-def]
    """Asks until the answer is good; returns it. For what another process writes."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await is_done():
                return answer
            await asyncio.sleep(0.05)


def environment_without(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}

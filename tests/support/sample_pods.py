"""Pods of the sample application as plain processes, without a cluster."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from tests.support.warm_python import WarmProcess, spawn_warm
from zdd_tui.demo.data import create_schema
from zdd_tui.service.flags import parse_percent
from zdd_tui.testbed.processes import free_port, stop


@dataclass
class SamplePod:
    """One process of the sample application."""

    url: str
    process: "WarmProcess | Popen[bytes]"
    log: Path
    http: aiohttp.ClientSession

    @property
    def endpoint(self) -> str:
        return self.url.removeprefix("http://")

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, json=body) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    async def wait_until_ready(self, expected: int = 200) -> None:
        async with asyncio.timeout(10):
            while True:
                assert self.process.poll() is None, self.log.read_text()
                try:
                    if (await self.call("GET", "/ready"))[0] == expected:
                        return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.01)


StartPod = Callable[..., Coroutine[Any, Any, SamplePod]]
SetFlags = Callable[..., Coroutine[Any, Any, None]]


@pytest.fixture
async def start_pod(pg_dsn: str, redis_url: str, tmp_path: Path) -> AsyncIterator[StartPod]:
    """``await start_pod(version, kind=..., mode=...)``: a running pod on an empty ``users`` table."""
    await create_schema(pg_dsn)
    pods: list[SamplePod] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:

        async def start(version: int, kind: str = "column", mode: str = "application", **env: str) -> SamplePod:
            port = free_port()
            log = tmp_path / f"pod-{len(pods)}.log"
            settings = {
                "DATABASE_URL": pg_dsn,
                "REDIS_URL": redis_url,
                "IMAGE": f"shop/users-api:{version}",
                "CHANGE_KIND": kind,
                "DUAL_WRITE": mode,
                "POD_NAME": f"pod-{len(pods)}",
                "PORT": str(port),
            }
            with log.open("wb") as out:
                command = [sys.executable, "-m", "zdd_tui.demo.sample"]
                process = spawn_warm(command, log=out, env=os.environ | settings | env, death_signal=signal.SIGKILL)
            pod = SamplePod(f"http://127.0.0.1:{port}", process, log, http)
            pods.append(pod)
            if env.get("WAIT", "yes") == "yes":
                await pod.wait_until_ready()
            return pod

        try:
            yield start
        finally:
            for pod in pods:
                await stop(pod.process, signal.SIGKILL, 5)


@pytest.fixture
async def set_flags(redis_url: str) -> Any:
    """Sets flags and returns when every given pod has seen them."""
    client = redis.asyncio.Redis.from_url(redis_url)

    async def set_them(*pods: SamplePod, **values: str) -> None:
        await client.mset({f"ff:{key}": value for key, value in values.items()})
        wanted = {key: parse_percent(value) for key, value in values.items()}
        async with asyncio.timeout(5):
            for pod in pods:
                while True:
                    seen = (await pod.call("GET", "/flags"))[1]["flags"]
                    if all(seen[key]["percent"] == percent for key, percent in wanted.items()):
                        break
                    await asyncio.sleep(0.01)

    yield set_them
    await client.aclose()

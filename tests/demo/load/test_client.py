"""The load against real pods: no failure where there is none, and every kind of failure noticed."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.demo.sample.test_versions import BACKFILL, EXPAND, READ, UP, WRITE
from tests.support.sample_pods import SetFlags, StartPod
from tests.support.warm_python import spawn_warm
from zdd_tui.demo.data import insert_seed_rows, seed_name
from zdd_tui.demo.load.client import HttpClient, RequestFailed
from zdd_tui.demo.load.endpoints import Address, Endpoints, routable_addresses
from zdd_tui.model.workload.pod import EndpointFacts
from zdd_tui.testbed.processes import stop

ROWS = 300


class LoadProcess:
    """A running load process and its report."""

    def __init__(self, out: Path, process: Any) -> None:
        self.out = out
        self.process = process

    async def wait_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                assert self.process.poll() is None, "the load has ended"
                report: dict[str, Any] = json.loads(self.out.read_text()) if self.out.exists() else {}
                if report and condition(report):
                    return report
                await asyncio.sleep(0.05)

    async def finish(self) -> dict[str, Any]:
        assert await stop(self.process, signal.SIGTERM, 10) == 0
        report: dict[str, Any] = json.loads(self.out.read_text())
        assert report["final"]
        return report


StartLoad = Callable[..., Coroutine[Any, Any, LoadProcess]]


@pytest.fixture
async def start_load(tmp_path: Path) -> AsyncIterator[StartLoad]:
    loads: list[LoadProcess] = []

    async def start(*endpoints: str, rate: int = 400, rows: int = ROWS) -> LoadProcess:
        out = tmp_path / f"load-{len(loads)}.json"
        argv = [sys.executable, "-m", "zdd_tui.demo.load", "--endpoints", ",".join(endpoints), "--out", str(out)]
        argv += ["--rate", str(rate), "--rows", str(rows), "--seed", "7"]
        with (tmp_path / "load.log").open("wb") as log:
            load = LoadProcess(out, spawn_warm(argv, log=log, env=os.environ, death_signal=signal.SIGKILL))
        loads.append(load)
        return load

    yield start
    for load in loads:
        await stop(load.process, signal.SIGKILL, 5)


async def test_a_healthy_service_has_no_failures_and_no_wrong_results(
    start_pod: StartPod, start_load: StartLoad, pg_dsn: str, db: asyncpg.Connection
) -> None:
    pods = [await start_pod(1), await start_pod(1)]
    await insert_seed_rows(pg_dsn, ROWS)
    load = await start_load(*(pod.endpoint for pod in pods))
    await load.wait_until(lambda report: report["requests"] >= 1500)
    report = await load.finish()
    assert (report["failures"], report["wrong"]) == (0, 0), report
    assert set(report["operations"]) == {"read", "create", "update", "delete"}
    assert sum(report["operations"].values()) == report["requests"]
    assert 0 < report["total"]["p50_ms"] <= report["total"]["p99_ms"] <= report["total"]["max_ms"]
    assert report["last_10s"]["requests"] > 0
    assert await db.fetchval("SELECT count(*) FROM users WHERE id > $1", ROWS) > 20
    changed = await db.fetch("SELECT id, first_name, last_name FROM users WHERE id <= $1", ROWS)
    assert any(f"{row['first_name']} {row['last_name']}".strip() != seed_name(row["id"]) for row in changed)


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_flags_that_change_under_load_leave_both_sides_equal(
    start_pod: StartPod, start_load: StartLoad, set_flags: SetFlags, pg_dsn: str, db: asyncpg.Connection, kind: str
) -> None:
    await start_pod(1)
    await db.execute(EXPAND[kind])
    await insert_seed_rows(pg_dsn, ROWS)
    pods = [await start_pod(2, kind), await start_pod(2, kind)]
    load = await start_load(*(pod.endpoint for pod in pods))

    async def more(requests: int = 200) -> None:
        target = (await load.wait_until(lambda report: True))["requests"] + requests
        await load.wait_until(lambda report: report["requests"] >= target)

    for percent in ("25", "50%", "true"):
        await set_flags(*pods, **{WRITE: percent, READ: "false"})
        await more()
    async with db.transaction():
        await db.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
        await db.execute(BACKFILL[kind])
    for percent in ("30", "true", "10%", "false", "true"):
        await set_flags(*pods, **{WRITE: "true", READ: percent})
        await more()
    report = await load.finish()
    assert (report["failures"], report["wrong"]) == (0, 0), report
    new = "users" if kind == "column" else "people"
    names = await db.fetch(
        f"SELECT id, {UP} AS old, n.full_name AS new FROM users"
        f" FULL JOIN (SELECT id, full_name FROM {new}) n USING (id)"
    )
    assert len(names) > ROWS / 2
    assert [tuple(row) for row in names if row["old"] != row["new"] or row["old"] is None] == []


async def test_a_row_that_another_client_changes_is_a_wrong_result(
    start_pod: StartPod, start_load: StartLoad, pg_dsn: str, db: asyncpg.Connection
) -> None:
    pod = await start_pod(1)
    await insert_seed_rows(pg_dsn, ROWS)
    load = await start_load(pod.endpoint)
    await load.wait_until(lambda report: report["requests"] >= 200)
    await db.execute("UPDATE users SET last_name = last_name || 'x' WHERE id % 5 = 0")
    await load.wait_until(lambda report: report["wrong"] >= 3)
    await db.execute("DELETE FROM users WHERE id % 5 = 1")
    report = await load.wait_until(lambda report: any("404" in s["got"] for s in report["wrong_samples"]))
    sample = report["wrong_samples"][0]
    assert sample["expected"] != sample["got"]
    assert len(report["wrong_samples"]) <= 20
    assert report["failures"] == 0


async def test_a_killed_pod_causes_failures_and_no_wrong_results(start_pod: StartPod, start_load: StartLoad) -> None:
    pods = [await start_pod(1), await start_pod(1)]
    load = await start_load(*(pod.endpoint for pod in pods), rows=0)
    await load.wait_until(lambda report: report["requests"] >= 200)
    pods[0].process.kill()
    report = await load.wait_until(lambda report: report["failures"] >= 20)
    assert report["failure_kinds"]["connect"] > 0
    assert {sample["endpoint"] for sample in report["failure_samples"]} == {pods[0].endpoint}
    assert (await load.finish())["wrong"] == 0


def endpoint(address: str, *, ready: bool, serving: bool, terminating: bool) -> EndpointFacts:
    return EndpointFacts("", "", address, 8080, ready, serving, terminating)


def test_requests_go_to_the_endpoints_that_kube_proxy_would_choose() -> None:
    ready = endpoint("a", ready=True, serving=True, terminating=False)
    starting = endpoint("b", ready=False, serving=False, terminating=False)
    draining = endpoint("c", ready=False, serving=True, terminating=True)
    stopping = endpoint("d", ready=False, serving=False, terminating=True)
    assert routable_addresses([ready, starting, draining, stopping]) == [("a", 8080)]
    assert routable_addresses([starting, draining, stopping]) == [("c", 8080)]
    assert routable_addresses([starting, stopping]) == []


class CountingServer:
    """A raw HTTP server that counts connections and can close them after an answer."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.close_silently = False
        self.header = ""
        self._closers: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                if self.close_silently:
                    break
                writer.write(f"HTTP/1.1 200 OK\r\n{self.header}Content-Length: 2\r\n\r\n{{}}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[CountingServer, tuple[str, int]]]:
    server = CountingServer()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    async with listener:
        yield server, listener.sockets[0].getsockname()


def test_weights_choose_the_service_and_one_without_endpoints_fails() -> None:
    left: list[Address] = []
    endpoints = Endpoints(on_leave=left.append)
    rng = random.Random(1)
    assert endpoints.pick(rng) is None, "no Service has a weight"
    endpoints.set_addresses("first", [("a", 1), ("b", 1)])
    endpoints.set_addresses("canary", [("c", 1)])
    endpoints.set_weights({"first": 80, "canary": 20})
    assert endpoints.addresses == (("a", 1), ("b", 1), ("c", 1))
    picked = Counter(endpoints.pick(rng) for _ in range(1000))
    assert 150 < picked["c", 1] < 250
    assert endpoints.picked == {"first": 1000 - picked["c", 1], "canary": picked["c", 1]}
    endpoints.set_weights({"first": 0, "canary": 100})
    assert {endpoints.pick(rng) for _ in range(20)} == {("c", 1)}
    assert left == [], "a Service with weight 0 keeps its addresses"
    endpoints.set_addresses("canary", [])
    assert endpoints.pick(rng) is None, "a Service without endpoints"
    endpoints.set_weights({"canary": 100})
    assert left == [("c", 1), ("a", 1), ("b", 1)]


async def test_connections_are_reused_until_the_endpoint_leaves(server: tuple[CountingServer, tuple[str, int]]) -> None:
    counting, address = server
    client = HttpClient()
    endpoints = Endpoints(on_leave=client.close_endpoint)
    endpoints.set_weights({"users-api": 1})
    endpoints.set_addresses("users-api", [address])
    assert endpoints.pick(random.Random(1)) == address
    for _ in range(3):
        assert (await client.request(address, "GET", "/")).status == 200
    assert counting.connections == 1
    endpoints.set_addresses("users-api", [])
    assert endpoints.pick(random.Random(1)) is None
    endpoints.set_addresses("users-api", [address])
    await client.request(address, "GET", "/")
    assert counting.connections == 2
    counting.header = "Connection: close\r\n"
    await client.request(address, "GET", "/")
    await client.request(address, "GET", "/")
    assert counting.connections == 3
    await client.close()


async def test_a_connection_that_breaks_is_one_failure_and_no_second_request(
    server: tuple[CountingServer, tuple[str, int]],
) -> None:
    counting, address = server
    client = HttpClient()
    await client.request(address, "GET", "/")
    counting.close_silently = True
    with pytest.raises(RequestFailed) as failure:
        await client.request(address, "GET", "/")
    assert failure.value.kind == "broken"
    assert counting.requests == 2
    await client.close()

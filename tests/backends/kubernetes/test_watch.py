"""The watch under faults: cut and silent connections, expired versions, nonsense. It never ends, and misses nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kubelet import NAME, ClusterClient, deployment, make_cluster, pod, read, serving, write_config
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch
from zdd_tui.backends.kubernetes.http import ServerClock
from zdd_tui.backends.kubernetes.watch import (
    Changed,
    Connected,
    Disconnected,
    Listed,
    WatchEvent,
    list_all,
    list_and_watch,
)
from zdd_tui.model.json_access import get_text
from zdd_tui.model.workload.rollout import WorkloadSnapshot

Events = asyncio.Queue[WatchEvent[str]]


def name_of(raw: Any) -> str:
    return get_text(raw, "metadata", "name")


class TcpProxy:
    """A TCP proxy on loopback that can be cut, frozen and healed."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self.port = 0
        self.accepted = 0

    async def restore(self) -> None:
        self._flows.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def freeze(self) -> None:
        """The connections of now stay open and pass no byte any more: a lost route. New ones pass."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def cut(self) -> None:
        """Connections are closed and new ones refused."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        flows = self._flows
        writers = [writer]  # closed also where it is cut while it connects
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._to)
            writers.append(there_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, there_writer, flows))
                group.create_task(self._pump(there_reader, writer, flows))
        except* OSError:
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            for each in writers:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        while data := await reader.read(65536):
            await flows.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def through_proxy(here: ClusterClient, folder: Path) -> AsyncIterator[tuple[TcpProxy, Cluster]]:
    config = read(here.kubeconfig)
    entry = config["clusters"][0]["cluster"]
    host, port = entry["server"].removeprefix("https://").split(":")
    proxy = TcpProxy(host, int(port))
    await proxy.restore()
    entry["server"] = f"https://{host}:{proxy.port}"
    path = write_config(folder, entry, **config["users"][0]["user"])
    try:
        async with Cluster.connect(path, None, here.cluster.namespace) as cluster:
            yield proxy, cluster
    finally:
        await proxy.cut()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    async with make_cluster(tmp_path, kubelet=False) as made:
        yield made


async def _collect(events: AsyncIterator[WatchEvent[str]], into: Events) -> None:
    async for event in events:
        into.put_nowait(event)


@asynccontextmanager
async def watching(cluster: Cluster, *, silence: float = 10.0) -> AsyncIterator[Events]:
    queue: Events = asyncio.Queue()
    path = cluster.path("api/v1", "pods")
    async with aclosing(list_and_watch(cluster.http, path, name_of, silence_timeout=silence)) as events:
        task = asyncio.create_task(_collect(events, queue))
        try:
            yield queue
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def next_of(queue: Events, wanted: Callable[[WatchEvent[str]], bool], seconds: float = 20.0) -> WatchEvent[str]:
    async with asyncio.timeout(seconds):
        while True:
            event = await queue.get()
            if wanted(event):
                return event


def bare(name: str) -> dict[str, Any]:
    """A pod that no kubelet takes."""
    return pod(name)


async def test_list_then_changes(api: ClusterClient) -> None:
    await api.create("pods", bare("one"))
    async with watching(api.cluster) as queue:
        assert await queue.get() == Listed(("one",))
        assert await queue.get() == Connected()
        await api.create("pods", bare("two"))
        assert await next_of(queue, lambda event: isinstance(event, Changed)) == Changed("ADDED", "two")
        await api.delete_pod("one", grace=0)
        await next_of(queue, lambda event: event == Changed("DELETED", "one"))


async def test_a_broken_connection_resumes_and_misses_nothing(api: ClusterClient, tmp_path: Path) -> None:
    await api.create("pods", bare("one"))
    async with through_proxy(api, tmp_path) as (proxy, cluster), watching(cluster) as queue:
        await next_of(queue, lambda event: event == Connected())
        await proxy.cut()
        lost = await next_of(queue, lambda event: isinstance(event, Disconnected))
        assert isinstance(lost, Disconnected)
        assert lost.reason
        await api.create("pods", bare("two"))
        await api.delete_pod("one", grace=0)
        await proxy.restore()
        seen = [await next_of(queue, lambda event: isinstance(event, Changed | Listed))]
        while seen[-1] != Changed("DELETED", "one"):
            seen.append(await next_of(queue, lambda event: isinstance(event, Changed | Listed)))
        # Resumed from the version, not listed again: no change was lost or reported twice.
        assert Changed("ADDED", "two") in seen
        assert not any(isinstance(event, Listed) for event in seen)


async def test_a_silent_connection_is_replaced(api: ClusterClient, tmp_path: Path) -> None:
    async with through_proxy(api, tmp_path) as (proxy, cluster), watching(cluster, silence=0.5) as queue:
        await next_of(queue, lambda event: event == Connected())
        proxy.freeze()
        await api.create("pods", bare("two"))
        await next_of(queue, lambda event: event == Changed("ADDED", "two"))


async def test_an_abandoned_watch_leaves_no_connection_even_if_the_server_does_not_close_it(
    api: ClusterClient, tmp_path: Path
) -> None:
    async with through_proxy(api, tmp_path) as (proxy, cluster):
        async with watching(cluster) as queue:
            await next_of(queue, lambda event: event == Connected())
            assert proxy.connections == 1
            proxy.freeze()
        async with asyncio.timeout(10):
            while proxy.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_an_idle_watch_reports_bookmarks(api: ClusterClient) -> None:
    async with watching(api.cluster, silence=0.3) as queue:
        for _ in range(3):
            event = await next_of(queue, lambda event: not isinstance(event, Listed))
            assert event == Connected()


async def test_an_idle_watch_is_renewed_over_the_same_connection(api: ClusterClient, tmp_path: Path) -> None:
    async with through_proxy(api, tmp_path) as (proxy, cluster), watching(cluster, silence=5.0) as queue:
        await next_of(queue, lambda event: event == Connected())
        await next_of(queue, lambda event: event == Connected())
        assert proxy.accepted == 1, "the server has ended the first watch by itself"
        await api.create("pods", bare("two"))
        await next_of(queue, lambda event: event == Changed("ADDED", "two"))
        assert proxy.accepted == 1


async def test_a_stale_snapshot_keeps_the_last_values_and_its_age(api: ClusterClient, tmp_path: Path) -> None:
    await api.create("deployments", deployment(0))
    snapshots: asyncio.Queue[WorkloadSnapshot] = asyncio.Queue()

    async def snapshot(good: Callable[[WorkloadSnapshot], bool]) -> WorkloadSnapshot:
        async with asyncio.timeout(30):
            while not good(found := await snapshots.get()):
                pass
            return found

    async with through_proxy(api, tmp_path) as (proxy, cluster):
        watch = asyncio.create_task(DeploymentWatch(cluster, NAME).run(snapshots.put_nowait))
        try:
            first = await snapshot(lambda found: found.error is None and found.deployment is not None)
            await proxy.cut()
            stale = await snapshot(lambda found: found.error is not None)
            later = await snapshot(lambda found: found.error is not None)
            assert stale.deployment == first.deployment
            assert stale.observed_at == later.observed_at
            await proxy.restore()
            healed = await snapshot(lambda found: found.error is None)
            assert healed.observed_at > later.observed_at
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


# Faults that a healthy server does not produce: a scripted one


class ScriptedApi:
    """An API server of pods whose answers are scripted: one list of names, then one watch after another."""

    def __init__(self, *watches: Any) -> None:
        self.watches = list(watches)
        self.lists = 0
        self.asked: list[str] = []

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/version":
            return web.json_response({})
        if "watch" not in request.query:
            self.lists += 1
            item = {"metadata": {"name": f"list-{self.lists}"}}
            return web.json_response({"metadata": {"resourceVersion": str(100 * self.lists)}, "items": [item]})
        self.asked.append(request.query["resourceVersion"])
        script = self.watches.pop(0) if self.watches else None
        if isinstance(script, int):
            reason = "Expired" if script == 410 else "Refused"
            return web.json_response({"kind": "Status", "code": script, "reason": reason}, status=script)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in script or []:
            await response.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        if script is None:
            await asyncio.Event().wait()
        return response


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(version)}}}


@asynccontextmanager
async def serve_script(script: ScriptedApi, folder: Path) -> AsyncIterator[Events]:
    async with (
        serving(script.application()) as url,
        Cluster.connect(write_config(folder, url), None, "shop") as cluster,
        watching(cluster) as queue,
    ):
        yield queue


EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


@pytest.mark.parametrize("end", [410, [EXPIRED]])
async def test_an_expired_version_leads_to_a_new_list(tmp_path: Path, end: Any) -> None:
    script = ScriptedApi([event("ADDED", "a", 101)], end)
    async with serve_script(script, tmp_path) as queue:
        assert await queue.get() == Listed(("list-1",))
        await next_of(queue, lambda event: event == Changed("ADDED", "a"))
        seen = [await queue.get()]
        while not isinstance(seen[-1], Listed):
            seen.append(await queue.get())
        assert seen[-1] == Listed(("list-2",))
        assert not any(isinstance(event, Disconnected) for event in seen), "an expired version is no loss"
        await next_of(queue, lambda event: event == Connected())
    assert script.asked == ["100", "101", "200"]


async def test_bookmarks_advance_the_version_for_the_next_watch(tmp_path: Path) -> None:
    script = ScriptedApi([event("ADDED", "a", 101), event("BOOKMARK", "", 150)], [event("ADDED", "b", 151)])
    async with serve_script(script, tmp_path) as queue:
        await next_of(queue, lambda event: event == Changed("ADDED", "b"))
    assert script.asked[:2] == ["100", "150"]


async def test_an_event_in_pieces_and_one_of_megabytes(tmp_path: Path) -> None:
    big = event("ADDED", "big", 101)
    big["object"]["padding"] = "x" * 3_000_000
    line = json.dumps(event("ADDED", "pieces", 102)).encode() + b"\n"
    script = ScriptedApi([big, line[:10], line[10:20], line[20:]])
    async with serve_script(script, tmp_path) as queue:
        await next_of(queue, lambda event: event == Changed("ADDED", "big"))
        await next_of(queue, lambda event: event == Changed("ADDED", "pieces"))


@pytest.mark.parametrize("nonsense", [b"<html>\n", b'{"type": "ADDED"', b"[]\n", b"7\n"])
async def test_invalid_events_do_not_end_the_watch(tmp_path: Path, nonsense: bytes) -> None:
    script = ScriptedApi([event("ADDED", "a", 101), nonsense], [event("ADDED", "b", 102)])
    async with serve_script(script, tmp_path) as queue:
        await next_of(queue, lambda event: event == Changed("ADDED", "b"))
    assert script.asked[:2] == ["100", "101"]


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_a_refused_watch_is_reported_and_retried(tmp_path: Path, status: int) -> None:
    script = ScriptedApi(status, [event("ADDED", "a", 101)])
    async with serve_script(script, tmp_path) as queue:
        script_error = await next_of(queue, lambda event: isinstance(event, Disconnected))
        assert isinstance(script_error, Disconnected)
        assert "pods" in script_error.reason or "credentials" in script_error.reason
        await next_of(queue, lambda event: event == Changed("ADDED", "a"))
    assert script.lists == 1


async def test_a_list_comes_in_pages_and_starts_again_when_its_snapshot_expires(tmp_path: Path) -> None:
    requested: list[tuple[str | None, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        token = request.query.get("continue")
        requested.append((request.query.get("limit"), token))
        match len(requested):
            case 1:
                meta = {"continue": "p2", "resourceVersion": "5"}
                return web.json_response({"metadata": meta, "items": [{"metadata": {"name": "a"}}]})
            case 2:
                return web.json_response({"kind": "Status", "code": 410, "reason": "Expired"}, status=410)
        items = [{"metadata": {"name": name}} for name in "ab"]
        return web.json_response({"metadata": {"resourceVersion": "9"}, "items": items})

    application = web.Application()
    application.router.add_get("/api/v1/pods", answer)
    async with (
        serving(application) as url,
        Cluster.connect(write_config(tmp_path, url), None, "x", check=False) as cluster,
    ):
        assert await list_all(cluster.http, "/api/v1/pods", name_of) == (("a", "b"), "9")
    assert requested == [("500", None), ("500", "p2"), (None, None)]


# The server's clock


@given(
    skew=st.floats(-3600, 3600),
    requests=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 2), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_the_skew_is_right_within_the_bounds(skew: float, requests: list[tuple[float, float, float]]) -> None:
    clock = ServerClock()
    tightest = float("inf")
    for at, took, part in requests:
        answered = 1_800_000_000 + at + took * part  # our time when the server wrote the Date header
        clock.add_observation(float(int(answered + skew)), 1_800_000_000 + at, 1_800_000_000 + at + took)
        tightest = min(tightest, 1.0 + took)
    assert abs(clock.skew - skew) <= tightest + 1e-3


def test_equal_clocks_show_no_skew() -> None:
    clock = ServerClock()
    now = time.time()
    for moment in (now, now + 0.4, now + 0.9):
        clock.add_observation(float(int(moment)), moment, moment + 0.01)
    assert clock.skew == 0.0


def test_a_clock_that_was_set_is_measured_again() -> None:
    clock = ServerClock()
    clock.add_observation(1000.0, 1000.2, 1000.3)
    clock.add_observation(5000.0, 1001.2, 1001.3)
    assert abs(clock.skew - 3999.0) < 1.0

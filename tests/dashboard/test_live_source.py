"""The live source on real servers: what it reads, what it keeps when a server is lost, and how it ends."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from tests.support.store import AGENT, ANA, open_store, password_of, plan_for, register_release
from zdd_tui.backends.store import delivery
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.flag import ON, FlagValue
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind, Precondition, ReleaseState
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import local_cluster

NOWHERE = "redis://127.0.0.1:1/0"
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "users-api", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "users-api"}},
        "template": {
            "metadata": {"labels": {"app": "users-api"}},
            "spec": {"containers": [{"name": "app", "image": "users:1"}]},
        },
    },
}


def plan(dsn: str, url: str = NOWHERE, kubeconfig: str = "/nonexistent/kubeconfig") -> Plan:
    made = plan_for(dsn)
    return Plan.model_validate(
        made.model_dump()
        | {
            "database": {"dsn": dsn},
            "flags": {"url": url, "write": "new_write", "read": "new_read"},
            "kubernetes": made.kubernetes.model_dump() | {"kubeconfig": kubeconfig},
            "change": {"table": "users", "expand": made.change.expand, "up": made.change.up, "down": made.change.down},
        }
    )


@asynccontextmanager
async def run_feeds(made: Plan) -> AsyncIterator[LiveSource]:
    feeds = LiveSource(made, actor=ANA)
    feeds.start(wait_for_screen=0)
    try:
        yield feeds
    finally:
        assert await asyncio.to_thread(feeds.stop, 5.0)


async def wait_for_board(
    feeds: LiveSource, wanted: Callable[[DashboardState], bool], seconds: float = 20
) -> DashboardState:
    """The first state that satisfies a condition."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    feeds.subscribe(lambda: loop.call_soon_threadsafe(news.set))
    async with asyncio.timeout(seconds):
        while True:
            news.clear()
            board = feeds.state()
            if wanted(board):
                return board
            await news.wait()


class TcpRelay:
    """A TCP relay to a server, which a test can cut and restore.

    It accepts by itself: asyncio's server, closed while a connection is being accepted, leaves that socket open.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted: set[socket.socket] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def restore(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def cut(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        self._writers.clear()
        for connection in self._accepted:  # those of tasks that were cancelled before they began
            connection.close()
        self._accepted.clear()

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._accepted.add(connection)
        task = asyncio.get_running_loop().create_task(self._relay(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        self._writers.add(writer)
        there, back = await asyncio.open_connection(*self._target)
        self._writers.add(back)
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, back))
            group.create_task(_copy(there, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        pass
    finally:
        sink.close()


@asynccontextmanager
async def make_relay(url: str) -> AsyncIterator[tuple[TcpRelay, str]]:
    """A wire, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    wire = TcpRelay(parts.hostname, parts.port)
    await wire.restore()
    login = parts.netloc.rpartition("@")[0]
    try:
        yield wire, urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{wire.port}"))
    finally:
        await wire.cut()


async def agent_for(dsn: str, release_id: int) -> AgentStore:
    store = await acquire_lease(dsn, release_id, AGENT, ttl=30)
    assert store is not None
    return store


async def test_a_change_of_the_release_reaches_the_board(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (_store, release_id), run_feeds(plan(pg_dsn)) as feeds:
        board = await wait_for_board(feeds, lambda b: b.release.value is not None)
        assert board.release.value is not None
        assert board.release.value.release.state is ReleaseState.PLANNED
        assert board.plan.target == "users-api@default"
        assert password_of(pg_dsn) not in repr(board)
        async with await agent_for(pg_dsn, release_id) as agent:
            record = await agent.read()
            await agent.save(replace(record.release, state=ReleaseState.RUNNING, phase=0))
            seen = await wait_for_board(
                feeds, lambda b: b.release.value is not None and b.release.value.release.state is ReleaseState.RUNNING
            )
        assert seen.release.value is not None
        assert seen.release.value.lease is not None
        assert seen.release.value.lease.holder


async def test_what_a_command_would_run_is_on_the_board(pg_dsn: str) -> None:
    async with open_store(pg_dsn), run_feeds(plan(pg_dsn)) as feeds:
        board = await wait_for_board(feeds, lambda b: bool(b.previews))
        assert any("ADD full_name text" in line for line in board.previews[CommandKind.ADVANCE])


@pytest.mark.parametrize(("refused", "outcome"), [(False, "expand begins"), (True, "gates are not open: x")])
async def test_a_command_is_sent_and_its_answer_comes_back(pg_dsn: str, refused: bool, outcome: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), run_feeds(plan(pg_dsn)) as feeds:
        await wait_for_board(feeds, lambda b: b.release.value is not None)
        expected = Precondition("hash-1", ReleaseState.PLANNED, -1)
        future = asyncio.wrap_future(
            feeds.send_command(CommandRequest(CommandKind.ADVANCE, "", expected, "users-full-name", ("one", "two")))
        )
        async with await agent_for(pg_dsn, release_id) as agent, asyncio.timeout(10):
            async for _ in store.watch_changes(release_id):
                if (requested := await agent.next_command()) is not None:
                    break
            assert requested is not None
            assert (requested.kind, requested.actor) == (CommandKind.ADVANCE, replace(ANA, role="postgres"))
            assert requested.request == CommandRequest(
                CommandKind.ADVANCE, "", expected, "users-full-name", ("one", "two")
            )
            await agent.complete_command(requested.id, refused=refused, outcome=outcome, release=None)
            answer = await future
        assert (answer.status, answer.outcome) == ("refused" if refused else "done", outcome)


async def test_a_lost_database_keeps_its_last_value_and_comes_back(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = partial(delivery.deliver_command, retry_seconds=1.0, valid_seconds=1.0)
    monkeypatch.setattr(delivery, "deliver_command", brief)
    async with open_store(pg_dsn), make_relay(pg_dsn) as (wire, dsn), run_feeds(plan(dsn)) as feeds:
        before = await wait_for_board(feeds, lambda b: b.release.value is not None and not b.release.error)
        await wire.cut()
        lost = await wait_for_board(feeds, lambda b: bool(b.release.error))
        assert lost.release.value is not None
        assert before.release.value is not None
        assert lost.release.value.id == before.release.value.id
        assert lost.release.hint
        assert password_of(pg_dsn) not in repr(lost)
        with pytest.raises(DatabaseError):
            await asyncio.wrap_future(feeds.send_command(CommandRequest(CommandKind.PAUSE)))
        await wire.restore()
        back = await wait_for_board(feeds, lambda b: not b.release.error)
        assert (back.release.observed_at or 0) > (lost.release.observed_at or 0)


async def test_a_newer_release_replaces_one_that_has_ended(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, first), run_feeds(plan(pg_dsn)) as feeds:
        await wait_for_board(feeds, lambda b: b.release.value is not None and b.release.value.id == first)
        async with await agent_for(pg_dsn, first) as agent:
            await agent.save(replace((await agent.read()).release, state=ReleaseState.ROLLED_BACK))
        await wait_for_board(feeds, lambda b: b.release.value is not None and b.release.value.release.state.has_ended)
        second = await register_release(store, pg_dsn)
        assert second != first
        board = await wait_for_board(feeds, lambda b: b.release.value is not None and b.release.value.id == second)
        assert board.release.value is not None
        assert board.release.value.release.state is ReleaseState.PLANNED
        assert not board.release.error
        await wait_for_board(feeds, lambda b: any("ADD full_name" in line for line in b.previews[CommandKind.ADVANCE]))
        feeds.send_command(CommandRequest(CommandKind.PAUSE))
        async with asyncio.timeout(10):
            async for _ in store.watch_changes(second):
                if (await store.read_release(second)).commands:
                    break


async def test_it_waits_for_a_release_that_does_not_exist_yet(pg_dsn: str) -> None:
    async with run_feeds(plan(pg_dsn)) as feeds:
        board = await wait_for_board(feeds, lambda b: bool(b.release.error))
        assert "has no release users-full-name" in board.release.error
        async with open_store(pg_dsn):
            await wait_for_board(feeds, lambda b: b.release.value is not None and not b.release.error)


async def test_flags_are_followed_and_survive_the_loss_of_redis(redis_url: str) -> None:
    async with (
        make_relay(redis_url) as (wire, url),
        run_feeds(plan("postgresql://u:hunter2@127.0.0.1:1/x", url)) as feeds,
    ):
        board = await wait_for_board(feeds, lambda b: b.flags.value is not None)
        assert [flag.value for flag in board.flags.value or ()] == [None, None]
        with redis.Redis.from_url(redis_url) as client:
            client.set("ff:new_write", "true")
            client.set("ff:new_read", "25%")
        board = await wait_for_board(feeds, lambda b: [f.value for f in b.flags.value or ()] == [ON, FlagValue(25)])
        await wire.cut()
        lost = await wait_for_board(feeds, lambda b: bool(b.flags.error))
        assert [flag.value for flag in lost.flags.value or ()] == [ON, FlagValue(25)]
        with redis.Redis.from_url(redis_url) as client:
            client.set("ff:new_read", "perhaps")
        await wire.restore()
        back = await wait_for_board(feeds, lambda b: not b.flags.error)
        read = (back.flags.value or ())[1]
        assert read.value is None
        assert "'perhaps'" in read.problem


async def test_pods_of_a_cluster_reach_the_state(tmp_path: Path) -> None:
    async with local_cluster(tmp_path) as cluster:
        made = plan("postgresql://u:hunter2@127.0.0.1:1/x", kubeconfig=str(cluster.kubeconfig))
        async with run_feeds(made) as feeds:
            none = await wait_for_board(feeds, lambda b: "no Deployment 'users-api'" in b.workload.error)
            assert none.workload.value is None
            cluster.api.create(kinds.DEPLOYMENT, "default", DEPLOYMENT)
            board = await wait_for_board(
                feeds, lambda b: b.workload.value is not None and len(b.workload.value.pods) == 2
            )
            assert not board.workload.error


async def test_unavailable_systems_are_reported_and_no_source_ends() -> None:
    made = plan("postgresql://u:hunter2@127.0.0.1:1/x", "redis://:hunter2@127.0.0.1:1/0")
    async with run_feeds(made) as feeds:
        board = await wait_for_board(feeds, lambda b: bool(b.release.error and b.workload.error and b.flags.error))
        assert "127.0.0.1:1/x" in board.release.error
        assert "/nonexistent/kubeconfig" in board.workload.error
        assert "127.0.0.1:1/0" in board.flags.error
        assert all(source.hint for source in (board.release, board.flags, board.workload))
        assert "hunter2" not in repr(board)
        with pytest.raises(DatabaseError, match=r"127\.0\.0\.1"):
            await asyncio.wrap_future(feeds.send_command(CommandRequest(CommandKind.PAUSE)))
    assert not [thread for thread in threading.enumerate() if thread.name == "zdd-live-source"]


def test_nothing_runs_before_start_and_stop_is_harmless() -> None:
    feeds = LiveSource(plan("postgresql://u:p@127.0.0.1:1/x"), actor=ANA)
    with pytest.raises(DatabaseError, match="not connected yet"):
        feeds.send_command(CommandRequest(CommandKind.PAUSE)).result(1)
    assert feeds.stop()


def test_a_stop_before_the_first_paint_is_prompt() -> None:
    feeds = LiveSource(plan("postgresql://u:p@127.0.0.1:1/x"), actor=ANA)
    feeds.start(wait_for_screen=60)
    assert feeds.stop(5)


def test_the_dashboard_imports_no_driver_before_the_first_paint() -> None:
    """Slow imports happen in the source's thread, after the first paint."""
    heavy = ("asyncpg", "redis", "aiohttp", "kubernetes_asyncio", "postgast", "zdd_tui.backends", "zdd_tui.engine")
    modules = "zdd_tui.dashboard.app, zdd_tui.dashboard.live_source"
    code = f"import sys, {modules}; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"

"""Servers that die under a running dashboard: it reports the loss, keeps old values, and recovers automatically."""

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.dashboard.test_live_source import DEPLOYMENT, TcpRelay, plan
from tests.support.screen_text import screen_text
from tests.support.store import ANA, open_store
from zdd_tui.backends.kubernetes import watch
from zdd_tui.backends.store.client import RECONNECT_SECONDS
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.live_source import RETRY_PAUSES, LiveSource
from zdd_tui.dashboard.recording.reader import load_recording
from zdd_tui.dashboard.recording.writer import RecordingWriter
from zdd_tui.dashboard.widgets.panes.events import EventPane
from zdd_tui.dashboard.widgets.panes.flags import FlagPane
from zdd_tui.dashboard.widgets.panes.pane import Pane
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.model.plan.base import Plan
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import local_cluster
from zdd_tui.testbed.servers import postgres_server, redis_server


@dataclass
class Outage:
    """How to stop and start a backend, the error on the screen meanwhile, and a text that stays."""

    stop_backend: Callable[[], Awaitable[None]]
    start_backend: Callable[[], Awaitable[None]]
    error_text: str
    pane: type[Pane]
    kept_text: str


@asynccontextmanager
async def outages(folder: Path) -> AsyncIterator[tuple[LiveSource, dict[str, Outage]]]:
    """Real servers, and a live source on them."""
    async with (
        postgres_server(folder / "pg") as postgres,
        redis_server(folder / "redis") as redis,
        local_cluster(folder / "cluster") as cluster,
        open_store(postgres.dsn),
    ):
        cluster.api.create(kinds.DEPLOYMENT, "default", DEPLOYMENT)
        wire = TcpRelay("127.0.0.1", int(cluster.url.rpartition(":")[2]))
        await wire.restore()
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
        wired = folder / "kubeconfig"
        wired.write_text(yaml.safe_dump(config))
        feeds = LiveSource(plan(postgres.dsn, redis.url, str(wired)), actor=ANA)
        feeds.start()
        try:
            yield (
                feeds,
                {
                    "PostgreSQL": Outage(
                        postgres.kill, postgres.start, "no data from the database", EventPane, "registered"
                    ),
                    "Redis": Outage(redis.kill, redis.start, "✗ Redis", FlagPane, "write"),
                    "the API server": Outage(wire.cut, wire.restore, "✗ https://127.0.0.1", PodPane, "Unschedulable"),
                },
            )
        finally:
            assert await asyncio.to_thread(feeds.stop, 5.0)
            await wire.cut()


class ScreenWatcher:
    """Waits for texts on the screen."""

    def __init__(self, app: ZddApp) -> None:
        self._app = app

    async def wait_until(self, wanted: Callable[[str], bool], seconds: float = 30.0) -> float:
        """Seconds until the screen was so."""
        began = time.monotonic()
        while not wanted(text := screen_text(self._app)):
            assert time.monotonic() - began < seconds, text
            await asyncio.sleep(0.05)
        return time.monotonic() - began


@pytest.mark.timeout(200)
async def test_each_backend_in_turn_dies_and_returns(tmp_path: Path) -> None:
    file = tmp_path / "recording.jsonl.gz"
    async with outages(tmp_path) as (feeds, backends):
        recorder = RecordingWriter(feeds.state, file)
        app = ZddApp(feeds)
        async with app.run_test(size=(80, 24), notifications=True):
            watcher = ScreenWatcher(app)
            await watcher.wait_until(is_healthy)
            for name, outage in backends.items():
                await outage.stop_backend()
                message = await watcher.wait_until(lambda text, outage=outage: outage.error_text in text)  # type: ignore[misc]
                assert is_dimmed(app.screen.query_one(outage.pane), outage.kept_text), f"{name}: old values look new"
                await outage.start_backend()
                back = await watcher.wait_until(
                    lambda text, outage=outage: outage.error_text not in text and is_healthy(text)  # type: ignore[misc]
                )
                assert not is_dimmed(app.screen.query_one(outage.pane), outage.kept_text), (
                    f"{name}: new values look old"
                )
                print(f"{name}: shown after {message:.1f} s, back after {back:.1f} s")
        await asyncio.to_thread(recorder.close, 30)
        assert recorder.error == ""
        assert load_recording(file).state_at(1e9).release.value == feeds.state().release.value
        written = gzip.decompress(file.read_bytes()).decode()
        assert "connection" in written, "the outages are in it"
        for secret in secrets_of(feeds):
            assert secret not in written


def secrets_of(feeds: LiveSource) -> list[str]:
    """Passwords in the plan."""
    plan = feeds._plan
    assert isinstance(plan, Plan)
    urls = [plan.database.dsn.get_secret_value(), plan.flags.url.get_secret_value()]
    found = [urlsplit(url).password or "" for url in urls]
    assert all(len(each) > 10 for each in found)
    return found


def test_whoever_was_away_for_long_is_tried_again_within_five_seconds() -> None:
    """Pauses grow, but a dashboard must not sleep through a recovery."""
    assert max(watch.RETRY_PAUSES) <= 4.0
    assert max(RECONNECT_SECONDS) <= 4.0
    assert max(RETRY_PAUSES) <= 4.0


def is_healthy(text: str) -> bool:
    return all(each in text for each in ("PLANNED", "unset", "Unschedulable", "a advance"))


def is_dimmed(pane: Pane, wanted: str) -> bool:
    """Whether a text of a pane is dimmed; it must exist."""
    for y in range(pane.content_size.height):
        for segment in pane.render_line(y):
            if wanted in segment.text:
                return bool(segment.style and segment.style.dim)
    raise AssertionError(f"{wanted} is not in the pane:\n{pane.plain_text()}")


async def test_a_system_that_never_responds_is_named_before_its_connection_gives_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # connections are accepted, and nothing is said
        port = frozen.getsockname()[1]
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        names = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        kubeconfig.write_text(yaml.safe_dump({"current-context": "x", **names}))
        dsn, redis = f"postgresql://u@127.0.0.1:{port}/x", f"redis://127.0.0.1:{port}/0"
        source = LiveSource(plan(dsn, redis, str(kubeconfig)), actor=ANA)
        app = ZddApp(source)
        began = time.monotonic()
        source.start()
        try:
            async with app.run_test(size=(120, 36)):
                watcher = ScreenWatcher(app)
                for name in ("PostgreSQL", "Kubernetes", "Redis"):
                    await watcher.wait_until(lambda text, name=name: f"{name} has not responded for" in text, 10.0)  # type: ignore[misc]
                assert time.monotonic() - began < 8.0
                assert "✗ Kubernetes" in screen_text(app)
        finally:
            assert await asyncio.to_thread(source.stop, 5.0)

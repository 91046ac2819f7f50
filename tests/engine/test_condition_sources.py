"""What a source of standing conditions says when its system cannot be read, and that others are still watched."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import yaml

from tests.dashboard.test_live_source import DEPLOYMENT, plan
from tests.support.schema_change import USERS, make_plan, open_leased_store, run_expand
from tests.support.tcp_relay import Relay
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.postgres.condition_queries import read_database_facts
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.engine.conditions import sources
from zdd_tui.engine.conditions.monitor import ConditionMonitor
from zdd_tui.engine.context import Context
from zdd_tui.engine.runner import ReleaseHolder
from zdd_tui.model.flag import OFF, ON
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.state import ReleaseState, StepStatus
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import local_cluster
from zdd_tui.testbed.processes import free_port

FROZEN_STOP_SECONDS = 4.0
"""The budget is 2 s, also while another system does not respond. It gets 5 s, which this must stay below."""


async def test_a_session_that_is_ended_during_a_reading_is_named_as_a_lost_connection(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await asyncpg.connect(pg_dsn)
    await other.execute(USERS)
    plan = make_plan("column", dsn=pg_dsn)

    async def end_session_and_read(conn: Connection, *args: Any) -> Any:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", conn.get_server_pid())
        return await read_database_facts(conn, *args)

    monkeypatch.setattr(sources, "read_database_facts", end_session_and_read)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        ctx = Context(plan, store, None, None, lambda: False, print)
        source = sources.DatabaseSource(ctx, lambda: None)
        assert await source.read()
        assert "the connection is lost" in source.facts.error or "ended zdd's session" in source.facts.error
        monkeypatch.undo()
        assert await source.read()
        assert source.facts.error == ""
    await other.close()


@dataclass
class Monitored:
    """A release at the end of dual-write, whose conditions are watched through two relays."""

    monitor: ConditionMonitor
    holder: ReleaseHolder
    flags: FlagStore
    epoch: int
    has_stopped: asyncio.Event
    postgres: Relay
    api: Relay

    async def wait_for(self, wanted: Callable[[list[ConditionReading]], bool]) -> None:
        async with asyncio.timeout(20):
            while not wanted(list(self.holder.release.unmet)):  # noqa: ASYNC110 - the monitor sets it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def monitor_release(folder: Path, dsn: str, redis_url: str) -> AsyncIterator[Monitored]:
    place = urlsplit(dsn)
    assert place.hostname is not None
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(local_cluster(folder / "cluster"))
        postgres = await stack.enter_async_context(Relay(place.hostname, place.port or 5432, free_port()))
        api = await stack.enter_async_context(Relay("127.0.0.1", int(cluster.url.rpartition(":")[2]), free_port()))
        for relay in (postgres, api):
            await relay.open_port()
        kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
        kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{api.port}"
        (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        manifest = deepcopy(DEPLOYMENT)
        manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "users:2"
        cluster.api.create(kinds.DEPLOYMENT, "default", manifest)
        through = dsn.replace(f"{place.hostname}:{place.port}", f"127.0.0.1:{postgres.port}")
        made = plan(through, redis_url, str(folder / "kubeconfig"))
        store = await stack.enter_async_context(open_leased_store(through, made))
        client = await stack.enter_async_context(Cluster.connect(str(folder / "kubeconfig"), None, "default"))
        flags = await stack.enter_async_context(await FlagStore.connect(redis_url))
        release = (await store.read()).release
        for step in ("rollout-v2", "write-flag-on"):
            release = release.with_status(step, StepStatus.DONE)
        await store.save(replace(release, state=ReleaseState.WAITING, phase=1))
        await flags.set(made.flags.write, ON, epoch=store.epoch)
        await flags.set(made.flags.read, OFF, epoch=store.epoch)
        ctx = Context(made, store, flags, client, lambda: False, print)
        holder, has_stopped = ReleaseHolder((await store.read()).release), asyncio.Event()
        monitor = ConditionMonitor(
            ctx,
            holder,
            asyncio.Lock(),
            stop_step=has_stopped.set,
            wait_for_step=partial(asyncio.sleep, 0),
            on_change=lambda: None,
        )
        tasks = [asyncio.create_task(each) for each in (ctx.workloads.run(), monitor.run())]
        try:
            yield Monitored(monitor, holder, flags, store.epoch, has_stopped, postgres, api)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("frozen", ["postgres", "api"])
async def test_a_system_that_does_not_respond_delays_no_breach_elsewhere(
    tmp_path: Path, pg_dsn: str, redis_url: str, frozen: str
) -> None:
    async with monitor_release(tmp_path, pg_dsn, redis_url) as here:
        await here.monitor.refresh()
        await here.wait_for(lambda unmet: not unmet)
        relay: Relay = getattr(here, frozen)
        relay.flows.clear()
        refreshing = asyncio.create_task(here.monitor.refresh())  # as for an advance
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await here.flags.delete("new_write", epoch=here.epoch)
        async with asyncio.timeout(FROZEN_STOP_SECONDS):
            await here.has_stopped.wait()
        print(f"{frozen} frozen: stopped after {time.monotonic() - began:.2f} s")
        [breach] = here.holder.release.unmet
        assert "new_write is missing" in breach.text
        assert not refreshing.done()
        if frozen == "api":
            await refreshing
            unknown = {each.name: each for each in here.holder.release.unmet if each.status is ConditionStatus.UNKNOWN}
            image = next(each for name, each in unknown.items() if name.startswith("image"))
            assert re.search(r"cannot be checked since \d\d:\d\d:\d\d UTC: Kubernetes", image.text)
            assert image.hint == "check that Kubernetes runs and that the agent reaches it"
        relay.flows.set()
        await refreshing
        await here.wait_for(lambda unmet: not any(each.status is ConditionStatus.UNKNOWN for each in unmet))

"""Steps and undos wait for a system that does not respond, however long that takes, and continue by themselves."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from unittest.mock import AsyncMock
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.command_line import wait_until
from tests.support.freezing import freeze_processes
from tests.support.kubelet import make_cluster, read, write_config
from tests.support.store import AGENT, ANA, OTHER, open_store, plan_for
from tests.support.tcp_relay import Relay
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.run import _find_hold
from zdd_tui.cli.status import format_status
from zdd_tui.engine import retry
from zdd_tui.engine import runner as runner_module
from zdd_tui.engine.conditions.monitor import ConditionMonitor
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.lease_session import LeaseSession
from zdd_tui.engine.retry import retry_redis, with_retry
from zdd_tui.engine.runner import ReleaseHolder, Runner
from zdd_tui.model.errors import FlagStoreError, StaleEpoch
from zdd_tui.model.flag import OFF, ON
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StepRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus
from zdd_tui.model.release.summary import summarize_release
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import RedisServer

KEY = "new_read"
FROZEN_SECONDS = 1.2
"""Longer than `LIMIT`, the time within which a request that is refused must be accepted."""
LIMIT = 0.3


class FlagStep:
    """Writes a flag with the retry that every step has."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await retry_redis(ctx, step, lambda: ctx.flags.set(KEY, ON, epoch=ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await retry_redis(ctx, step, lambda: ctx.flags.set(KEY, OFF, epoch=ctx.epoch))


class ReadingStep:
    """Reads the cluster without a retry, as some steps do in passing."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await ctx.cluster.list_pods("")

    undo = run


class PatchingStep:
    """Reads the cluster with the retry that every step has."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await with_retry(ctx, step, lambda: ctx.cluster.list_pods(""))

    undo = run


@dataclass
class Here:
    store: Store
    session: LeaseSession
    release_id: int

    async def read(self) -> ReleaseRecord:
        return await self.store.read_release(self.release_id)

    async def send(self, kind: CommandKind) -> str:
        command = await self.store.send_command(self.release_id, CommandRequest(kind), actor=ANA)
        stored = await self.session._store.next_command()
        assert stored is not None
        await self.session._handle_command(stored)
        return (await self.store.read_command(command)).status

    async def wait_for_note(self, system: str) -> ReleaseRecord:
        async def check() -> ReleaseRecord | None:
            record = await self.read()
            return record if any(step.waits_for == system for step in record.steps) else None

        found: ReleaseRecord = await wait_until(check)
        return found

    async def wait_for_step(self, status: StepStatus) -> None:
        async def check() -> bool:
            return (await self.read()).release.statuses[0] is status

        await wait_until(check)


@asynccontextmanager
async def open_session(
    dsn: str,
    step: object,
    monkeypatch: pytest.MonkeyPatch,
    flags: FlagStore | None,
    cluster: Cluster | None,
    *,
    renews: bool = True,
) -> AsyncIterator[Here]:
    """The step loop of an agent, on a release whose steps are all `step`; commands are handled one by one."""
    monkeypatch.setattr(retry, "REFUSAL_SECONDS", LIMIT)
    async with open_store(dsn) as (client, release_id):
        store = await acquire_lease(dsn, release_id, AGENT)
        assert store is not None
        async with store:
            session = LeaseSession(plan_for(dsn), store, None, lambda _line: None)
            session._holder = ReleaseHolder((await store.read()).release)
            keys = {each.registry_key: step for each in session._release.strategy.steps}
            monkeypatch.setattr(runner_module, "STEPS", keys)
            session._monitor = AsyncMock(spec=ConditionMonitor)
            session._ctx = Context(
                plan_for(dsn), store, flags, cast(Cluster, cluster), lambda: session._release.paused, lambda _line: None
            )
            session._runner = Runner(session._ctx, session._holder)
            loops = [asyncio.create_task(session._step_loop())]
            loops += [asyncio.create_task(session._renew_loop())] if renews else []
            try:
                yield Here(client, session, release_id)
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.gather(*loops, return_exceptions=True)


@asynccontextmanager
async def frozen_redis(server: RedisServer) -> AsyncIterator[None]:
    freeze_processes(server.pid)
    try:
        yield
    finally:
        freeze_processes(server.pid, signal.SIGCONT)


def flag_value(url: str) -> str | None:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return cast("str | None", client.get(f"ff:{KEY}"))


async def test_step_and_undo_wait_for_a_frozen_redis_beyond_every_limit(
    pg_dsn: str, redis_instance: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        await FlagStore.connect(redis_url, timeout=0.1) as flags,
        open_session(pg_dsn, FlagStep(), monkeypatch, flags, None) as here,
    ):
        async with frozen_redis(redis_instance):
            assert await here.send(CommandKind.ADVANCE) == "done"
            record = await here.wait_for_note("Redis")
            await asyncio.sleep(FROZEN_SECONDS)
            record = await here.read()
            assert record.release.state is ReleaseState.RUNNING
            note = record.steps[0].note
            assert note.startswith("waits for Redis: unavailable for ")
            assert "does not respond in time" in note
            assert note in summarize_release(record, record.now).notes
            assert _find_hold(record) == f"{record.steps[0].name} {note}"  # `zdd run --timeout` counts it
        await here.wait_for_step(StepStatus.DONE)
        assert flag_value(redis_url) == "true"

        async with frozen_redis(redis_instance):
            assert await here.send(CommandKind.ROLLBACK) == "done"
            await here.wait_for_note("Redis")
            await asyncio.sleep(FROZEN_SECONDS)
            record = await here.read()
            assert record.release.state is ReleaseState.ROLLING_BACK
            assert "next: It continues when Redis responds again" in format_status(record)
        await here.wait_for_step(StepStatus.UNDONE)
        assert flag_value(redis_url) == "false"


@pytest.mark.parametrize("step", [PatchingStep(), ReadingStep()])
async def test_step_and_undo_wait_for_an_unreachable_cluster(
    pg_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: object
) -> None:
    async with make_cluster(tmp_path, kubelet=False) as api:
        config = read(api.kubeconfig)
        found = config["clusters"][0]["cluster"]
        parts = urlsplit(found["server"])
        assert parts.port
        async with Relay("127.0.0.1", parts.port, free_port()) as relay:
            folder = tmp_path / "relay"
            folder.mkdir()
            address = {"server": f"https://127.0.0.1:{relay.port}"}
            path = write_config(folder, found | address, **config["users"][0]["user"])
            await relay.open_port()
            async with (
                Cluster.connect(path, None, api.cluster.namespace) as cluster,
                open_session(pg_dsn, step, monkeypatch, None, cluster) as here,
            ):
                for command, ended in (
                    (CommandKind.ADVANCE, StepStatus.DONE),
                    (CommandKind.ROLLBACK, StepStatus.UNDONE),
                ):
                    await relay.close_port()
                    assert await here.send(command) == "done"
                    await here.wait_for_note("Kubernetes")
                    await asyncio.sleep(FROZEN_SECONDS)
                    record = await here.read()
                    assert record.release.state in (ReleaseState.RUNNING, ReleaseState.ROLLING_BACK)
                    assert any("refuses the connection" in each.note for each in record.steps)
                    await relay.open_port()
                    await here.wait_for_step(ended)


async def test_a_step_that_waits_is_rolled_back_and_paused(
    pg_dsn: str, redis_instance: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        await FlagStore.connect(redis_url, timeout=0.1) as flags,
        open_session(pg_dsn, FlagStep(), monkeypatch, flags, None) as here,
    ):
        async with frozen_redis(redis_instance):
            await here.send(CommandKind.ADVANCE)
            await here.wait_for_note("Redis")
            assert await here.send(CommandKind.PAUSE) == "done"

            async def is_paused() -> bool:
                return ", not tried while paused: " in (await here.read()).steps[0].note

            await wait_until(is_paused)
        await asyncio.sleep(2 * retry.PAUSE_INTERVAL)
        assert (await here.read()).steps[0].status is StepStatus.STARTED, "a paused step was tried again"

        async with frozen_redis(redis_instance):
            assert await here.send(CommandKind.RESUME) == "done"

            async def is_tried() -> bool:
                return not await is_paused()

            await wait_until(is_tried)
            await here.wait_for_note("Redis")
            assert await here.send(CommandKind.ROLLBACK) == "done"
            assert (await here.read()).release.state is ReleaseState.ROLLING_BACK
        await here.wait_for_step(StepStatus.UNDONE)


async def test_a_step_that_waits_ends_with_the_lease(
    pg_dsn: str, redis_instance: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        await FlagStore.connect(redis_url, timeout=0.1) as flags,
        open_session(pg_dsn, FlagStep(), monkeypatch, flags, None, renews=False) as here,
        frozen_redis(redis_instance),
    ):
        await here.send(CommandKind.ADVANCE)
        await here.wait_for_note("Redis")
        async with here.session._store.pool.acquire() as conn:
            await conn.execute("UPDATE zdd.lease SET renewed_at = clock_timestamp() - make_interval(secs => ttl + 0.1)")
        other = await acquire_lease(pg_dsn, here.release_id, OTHER)
        assert other is not None
        step = here.session._running_step
        assert step is not None
        with pytest.raises(StaleEpoch):
            async with asyncio.timeout(10):
                await step
        await other.close()


async def test_a_refusal_that_may_pass_has_a_limit_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "REFUSAL_SECONDS", LIMIT)
    notes: list[str] = []

    async def note(text: str) -> None:
        notes.append(text)

    async def ignore(*_: object) -> None: ...

    async def refuse() -> None:
        raise FlagStoreError("Redis db:6379/0 is a read-only replica")

    step = StepHandle(StepRecord("s", StepStatus.STARTED), write_note=note, write_detail=ignore, write_done=ignore)
    ctx = cast(Context, AsyncMock(spec=Context))
    with pytest.raises(FlagStoreError):
        await retry_redis(ctx, step, refuse)
    assert notes == ["retrying for at most 0.3s, then it fails: Redis db:6379/0 is a read-only replica"]

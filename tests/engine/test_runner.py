"""One step on a real store: the record when its effect, its record or the step itself fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tests.support.store import AGENT, open_store, plan_for
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.engine import runner as runner_module
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.runner import ReleaseHolder, Runner
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    PendingStep,
    ReleaseState,
    StepStatus,
    apply_command,
    next_pending_step,
)

Effect = Callable[[Context, StepHandle], Awaitable[None]]


class FakeStep:
    def __init__(self, effect: Effect) -> None:
        self.run = self.undo = effect


@asynccontextmanager
async def open_runner(dsn: str) -> AsyncIterator[tuple[AgentStore, ReleaseHolder, Runner, PendingStep]]:
    """An agent that is about to run the first step. No step here touches a cluster or flags."""
    async with open_store(dsn) as (_, release_id):
        store = await acquire_lease(dsn, release_id, AGENT)
        assert store is not None
        async with store:
            begun = apply_command((await store.read()).release, Command(CommandKind.ADVANCE), {}, 0.0)
            await store.save(begun)
            holding = ReleaseHolder(begun)
            ctx = Context(
                plan=plan_for(dsn),
                store=store,
                flag_store=None,
                cluster_client=cast(Cluster, None),
                is_paused=lambda: False,
                log=lambda _line: None,
            )
            work = next_pending_step(begun)
            assert work is not None
            yield store, holding, Runner(ctx, holding), work


async def perform(monkeypatch: pytest.MonkeyPatch, runner: Runner, work: PendingStep, effect: Effect) -> None:
    monkeypatch.setattr(runner_module, "STEPS", {work.step.registry_key: FakeStep(effect)})
    async with asyncio.timeout(10):
        await runner.run_step(work)


async def test_a_failure_after_the_record_fails_the_step_and_releases_the_lock(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def effect(ctx: Context, step: StepHandle) -> None:
        async with ctx.store.fenced() as conn:
            await step.record_done(conn)
            raise StepFailed("the disk is full")

    async with open_runner(pg_dsn) as (store, holding, runner, work):
        await perform(monkeypatch, runner, work, effect)
        assert not holding.lock.locked()
        stored = (await store.read()).release
        assert stored == holding.release
        assert (stored.state, stored.status(work.step.name)) == (ReleaseState.FAILED, StepStatus.FAILED)
        assert stored.error == "the disk is full"


async def test_effect_and_record_commit_together(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def effect(ctx: Context, step: StepHandle) -> None:
        async with ctx.store.fenced() as conn:
            await conn.execute("CREATE TABLE made (id int)")
            await step.record_done(conn, made="made")

    async with open_runner(pg_dsn) as (store, holding, runner, work):
        await perform(monkeypatch, runner, work, effect)
        record = await store.read()
        assert record.release == holding.release
        assert record.release.status(work.step.name) is StepStatus.DONE
        assert next(step for step in record.steps if step.name == work.step.name).detail == {"made": "made"}


async def test_a_bug_fails_the_step_without_its_text(pg_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def effect(_ctx: Context, _step: StepHandle) -> None:
        raise KeyError("s3cret")

    async with open_runner(pg_dsn) as (store, _, runner, work):
        await perform(monkeypatch, runner, work, effect)
        stored: Any = (await store.read()).release
        assert stored.state is ReleaseState.FAILED
        assert "bug in zdd: KeyError" in stored.error
        assert "s3cret" not in stored.error

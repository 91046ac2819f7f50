"""The agent refuses to start a release that `zdd check` refuses; it resumes one that has started without a check."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast
from unittest.mock import AsyncMock

from tests.support.store import AGENT, ANA, open_store, plan_for
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.conditions.monitor import ConditionMonitor
from zdd_tui.engine.context import Context
from zdd_tui.engine.lease_session import LeaseSession
from zdd_tui.engine.runner import ReleaseHolder
from zdd_tui.model.errors import ClusterError, ZddError
from zdd_tui.model.release.records import CommandRequest, StoredCommand
from zdd_tui.model.release.state import CommandKind, ReleaseState


class PlanCheck:
    def __init__(self) -> None:
        self.error: ZddError | None = None
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def open_session(dsn: str, check: PlanCheck) -> AsyncIterator[tuple[Store, LeaseSession, int]]:
    """A session whose loops do not run."""
    async with open_store(dsn) as (client, release_id):
        store = await acquire_lease(dsn, release_id, AGENT)
        assert store is not None
        async with store:
            session = LeaseSession(plan_for(dsn), store, None, lambda _line: None, check)
            session._holder = ReleaseHolder((await store.read()).release)
            session._monitor = AsyncMock(spec=ConditionMonitor)
            session._ctx = Context(plan_for(dsn), store, None, cast(Cluster, None), lambda: False, lambda _line: None)
            yield client, session, release_id


async def send_advance(client: Store, session: LeaseSession, release_id: int) -> StoredCommand:
    command = await client.send_command(release_id, CommandRequest(CommandKind.ADVANCE), actor=ANA)
    stored = await session._store.next_command()
    assert stored is not None
    await session._handle_command(stored)
    return await client.read_command(command)


async def test_a_plan_that_fails_the_check_does_not_start(pg_dsn: str) -> None:
    check = PlanCheck()
    async with open_session(pg_dsn, check) as (client, session, release_id):
        check.error = ClusterError("Deployment 'users-api' does not exist", "create it")
        refused = await send_advance(client, session, release_id)
        assert refused.status == "refused"
        assert "zdd check refuses this plan: Deployment 'users-api' does not exist" in refused.outcome
        assert (await client.read_release(release_id)).release.state is ReleaseState.PLANNED

        check.error = None
        started = await send_advance(client, session, release_id)
        assert (started.status, check.calls) == ("done", 2)
        assert (await client.read_release(release_id)).release.state is ReleaseState.RUNNING


async def test_a_release_that_has_started_is_resumed_without_the_check(pg_dsn: str) -> None:
    check = PlanCheck()
    check.error = ClusterError("Kubernetes is unreachable")
    async with open_session(pg_dsn, check) as (client, session, release_id):
        failed = replace(session._holder.release, state=ReleaseState.FAILED, phase=0, error="the disk is full")
        await session._store.save(failed)
        session._holder.release = failed
        session._evaluate_gates = _evaluate_nothing  # type: ignore[method-assign]  # they need a cluster
        assert (await send_advance(client, session, release_id)).status == "done"
        assert check.calls == 0


async def test_a_command_that_the_rules_refuse_is_not_checked(pg_dsn: str) -> None:
    check = PlanCheck()
    async with open_session(pg_dsn, check) as (client, session, release_id):
        session._holder.release = replace(session._holder.release, paused=True)
        refused = await send_advance(client, session, release_id)
        assert (refused.status, check.calls) == ("refused", 0)
        assert "paused" in refused.outcome


async def _evaluate_nothing(*, fresh: bool = False) -> None: ...

"""PostgreSQL, Redis and the API server go away in the middle of a release and come back: it goes on by itself."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.release import assert_both_sides_agree, no_progress, production
from zdd_tui.backends.postgres.connection import FAILURES
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import Walker
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import State

pytestmark = pytest.mark.chaos


class PatientWalker(Walker):
    """Waits on while the store is away."""

    async def record(self) -> ReleaseRecord:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await super().record()
                except (DatabaseError, *FAILURES):
                    await asyncio.sleep(0.2)


@asynccontextmanager
async def frozen(env: Environment, pid: int, seconds: float) -> AsyncIterator[None]:
    """A system that does not answer for a while, from now on, whatever the body does meanwhile."""
    import os

    os.kill(pid, signal.SIGSTOP)
    waking = asyncio.get_running_loop().call_later(seconds, os.kill, pid, signal.SIGCONT)
    try:
        yield
    finally:
        waking.cancel()
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(300)
async def test_a_release_outlives_its_backends(tmp_path: Path) -> None:
    async with production(tmp_path, rows=8000, ceiling=1600) as (env, store):
        walker = PatientWalker(env, store, no_progress)
        await walker.begin()
        await walker.advance("expand")

        # The API server answers nothing while V2 is rolled out.
        await walker.enter("dual-write")
        async with frozen(env, env.processes["cluster"].pid, 6.0):
            await walker.settle("dual-write")

        # PostgreSQL is killed in the middle of the backfill.
        await walker.enter("backfill")
        await walker.rows_moved(0.2)
        await env.postgres.kill()
        await env.postgres.restart()
        await walker.record()
        await walker.settle("backfill")
        backfill = (await walker.record()).backfill
        assert backfill is not None
        assert backfill.mismatches == 0
        rows = await assert_both_sides_agree(env)
        assert rows >= 8000

        # Redis answers nothing when the read flag is to be switched.
        assert env.redis.pid is not None
        async with frozen(env, env.redis.pid, 6.0):
            await walker.enter("cutover")
            await walker.settle("cutover")
        await walker.advance("contract")
        await walker.advance("cleanup")

        record = await walker.record()
        assert record.release.state is State.DONE
        assert not [event for event in record.events if event.kind == "error" and "failed" in event.what]
        # Requests failed while PostgreSQL was away: that is the application's own dependency. No answer was wrong.
        assert env.load()["wrong"] == 0, env.load()["wrong_samples"]

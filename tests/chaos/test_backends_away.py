"""PostgreSQL, Redis and the API server go away in the middle of a release and come back: it goes on by itself."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.release import assert_both_sides_agree, ignore_progress, start_production
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState

pytestmark = pytest.mark.chaos


class PatientDriver(ReleaseDriver):
    """Waits on while the store is away."""

    async def read_record(self) -> ReleaseRecord:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await super().read_record()
                except (DatabaseError, *CONNECTION_ERRORS):
                    await asyncio.sleep(0.2)


@asynccontextmanager
async def freeze_process(env: Environment, pid: int, seconds: float) -> AsyncIterator[None]:
    """A system that does not respond for a while, from now on, whatever the body does meanwhile."""
    import os

    os.kill(pid, signal.SIGSTOP)
    waking = asyncio.get_running_loop().call_later(seconds, os.kill, pid, signal.SIGCONT)
    try:
        yield
    finally:
        waking.cancel()
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_release_outlives_its_backends(tmp_path: Path) -> None:
    async with start_production(tmp_path, rows=8000, max_rows_per_second=1600) as (env, store):
        driver = PatientDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.run_phase("expand")

        # The API server answers nothing while V2 is rolled out.
        await driver.start_phase("dual-write")
        async with freeze_process(env, env.processes["cluster"].pid, 6.0):
            await driver.wait_for_phase("dual-write")

        # PostgreSQL is killed in the middle of the backfill.
        await driver.start_phase("backfill")
        await driver.wait_for_backfill(0.2)
        await env.postgres.kill()
        await env.postgres.restart()
        await driver.read_record()
        await driver.wait_for_phase("backfill")
        backfill = (await driver.read_record()).backfill
        assert backfill is not None
        assert backfill.mismatches == 0
        rows = await assert_both_sides_agree(env)
        assert rows >= 8000

        # Redis answers nothing: whether the write flag still has its value is unknown, and no phase is left.
        assert env.redis.pid is not None
        async with freeze_process(env, env.redis.pid, 10.0):
            answer = await driver.send_command(CommandKind.ADVANCE)
        assert answer.status == "refused"
        assert "flag" in answer.outcome
        assert "cannot be checked" in answer.outcome

        # Nor does it when the read flag is to be switched.
        await driver.wait_until(lambda record: not record.release.unmet)
        await driver.start_phase("cutover")
        async with freeze_process(env, env.redis.pid, 6.0):
            await driver.wait_for_phase("cutover")
        await driver.run_phase("contract")
        await driver.run_phase("cleanup")

        record = await driver.read_record()
        assert record.release.state is ReleaseState.DONE
        assert not [event for event in record.events if event.kind == "error" and "failed" in event.message]
        # Requests failed while PostgreSQL was away: that is the application's own dependency. No answer was wrong.
        assert env.read_load_report()["wrong"] == 0, env.read_load_report()["wrong_samples"]

"""Dark launch under load: back from every phase, the whole way, and a new path that is wrong gets no further."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from tests.support.release import (
    assert_no_failures,
    ignore_progress,
    roll_back_during_cleanup,
    start_production,
)
from tests.support.store import ANA
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, ReleaseState
from zdd_tui.model.shadow import ShadowQuery, ShadowSample

PHASES = ("rollout", "shadow-20", "shadow-100", "ramp-50", "ramp-100", "cleanup")


@pytest.mark.timeout(600)
async def test_rollback_from_every_phase_then_the_release(tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy="dark-launch", rate=100) as (env, store):
        before = await read_environment_state(env)
        for last in PHASES[:-1]:
            driver = ReleaseDriver(env, store, ignore_progress)
            await driver.start_release()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await driver.run_phase(phase)
            await driver.roll_back()
            await env.stop("agent")
            assert describe_differences(before, await read_environment_state(env)) == [], (
                f"after a rollback from {last}"
            )
            await assert_no_failures(env)
        # The shadow flag is deleted by then, and comes back before it goes for good.
        await roll_back_during_cleanup(env, store)
        assert describe_differences(before, await read_environment_state(env)) == [], (
            "after a rollback from the middle of cleanup"
        )
        await assert_no_failures(env)
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        for phase in PHASES:
            await driver.run_phase(phase)
        assert (await driver.read_record()).release.state is ReleaseState.DONE
        after = await read_environment_state(env)
        assert after.flags == before.flags | {"users_sql_name_read": "true"}
        assert after.pods == ("shop/users-api:4",) * 2
        await assert_no_failures(env)


@pytest.mark.timeout(400)
async def test_a_new_path_that_is_wrong_is_seen_by_the_gate_and_by_nobody_else(tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy="dark-launch", rate=100, has_wrong_results=True) as (env, store):
        before = await read_environment_state(env)
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.run_phase("rollout")
        await driver.start_phase("shadow-20")
        record = await driver.wait_until(
            lambda record: (
                record.release.state is ReleaseState.WAITING
                and (gate := record.gates.get("shadow-agrees")) is not None
                and gate.verdict is Verdict.FAIL
            )
        )
        assert "mismatch; differs: name" in record.gates["shadow-agrees"].reason
        await assert_the_dashboard_tells_which_answers_differ(env)
        with pytest.raises(ZddError, match="shadow-agrees"):
            await driver.run_command(CommandKind.ADVANCE)
        await driver.roll_back()
        await env.stop("agent")
        assert describe_differences(before, await read_environment_state(env)) == []
        await assert_no_failures(env)


async def assert_the_dashboard_tells_which_answers_differ(env: Environment) -> None:
    """By the logs of the real pods: the user, and the name as it stands in the table against what the new path says."""
    plan = load_plan(env.plan_file.read_text(), source="plan.yaml", environment=env.environ).plan
    feeds = LiveSource(plan, actor=ANA)
    feeds.start(wait_for_screen=0)
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        async with asyncio.timeout(60):
            # The load changes rows: some sample is of one that still has the name.
            while True:
                found = await asyncio.wrap_future(feeds.fetch(ShadowQuery()))
                assert found.total_failures >= len(found.samples) > 0
                assert (found.logs_read, found.logs_not_read) == (2, 0)
                if [sample for sample in found.samples if await _old_as_in_the_table(connection, sample)]:
                    return
                await asyncio.sleep(0.5)
    finally:
        await connection.close()
        assert await asyncio.to_thread(feeds.stop, 5.0)


async def _old_as_in_the_table(connection: asyncpg.Connection, sample: ShadowSample) -> bool:
    (field,) = sample.fields
    assert (field.name, field.difference) == ("name", "only case")
    assert field.old.casefold() == field.new.casefold()
    assert field.old != field.new
    name = await connection.fetchval(
        "SELECT first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END FROM users WHERE id = $1",
        int(sample.unit),
    )
    return name == json.loads(field.old)

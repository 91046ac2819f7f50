"""Dark launch under load: a rollback from every phase, the whole release, and a new path with wrong results."""

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


@pytest.mark.slow
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
        # By then the shadow flag is deleted; the rollback sets it again before it restores the old state.
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
async def test_wrong_results_of_the_new_path_fail_the_gate_and_reach_no_user(tmp_path: Path) -> None:
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
        await assert_the_dashboard_shows_which_results_differ(env)
        with pytest.raises(ZddError, match="shadow-agrees"):
            await driver.run_command(CommandKind.ADVANCE)
        await driver.roll_back()
        await env.stop("agent")
        assert describe_differences(before, await read_environment_state(env)) == []
        await assert_no_failures(env)


async def assert_the_dashboard_shows_which_results_differ(env: Environment) -> None:
    """From the logs of the real pods: the user, and the name in the table against the new path's."""
    plan = load_plan(env.plan_file.read_text(), source="plan.yaml", environment=env.environ).plan
    source = LiveSource(plan, actor=ANA)
    source.start(wait_for_screen=0)
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        async with asyncio.timeout(60):
            # The load changes rows: at least one sample must be of a row that still has the name.
            while True:
                shadows = await asyncio.wrap_future(source.fetch(ShadowQuery()))
                assert shadows.total_failures >= len(shadows.samples) > 0
                assert (shadows.logs_read, shadows.logs_not_read) == (2, 0)
                if [sample for sample in shadows.samples if await _is_old_name_in_table(connection, sample)]:
                    return
                await asyncio.sleep(0.5)
    finally:
        await connection.close()
        assert await asyncio.to_thread(source.stop, 5.0)


async def _is_old_name_in_table(connection: asyncpg.Connection, sample: ShadowSample) -> bool:
    (field,) = sample.fields
    assert (field.name, field.difference) == ("name", "only case")
    assert field.old.casefold() == field.new.casefold()
    assert field.old != field.new
    name = await connection.fetchval(
        "SELECT first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END FROM users WHERE id = $1",
        int(sample.unit),
    )
    return bool(name == json.loads(field.old))

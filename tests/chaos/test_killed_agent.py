"""The agent is killed at every boundary of every step; the next one completes the release."""

from pathlib import Path

import asyncpg
import pytest

from tests.support.release import assert_both_sides_agree, assert_no_failures, ignore_progress, start_production
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state
from zdd_tui.model.release.state import ReleaseState, StepStatus

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")
BOUNDARIES = ("started", "effect", "record")
ONE_COMMIT = {
    "expand-schema",
    "sync-forward",
    "create-witness",
    "sync-reverse",
    "extend-witness",
    "constrain-new-side",
    "archive-old-side",
    "drop-archive",
    "drop-witness",
}
"""Steps whose effect and record commit together: who dies after the effect has recorded it already."""


def kill_points(verb: str, steps: list[str]) -> list[str]:
    """Every boundary that an agent can die at, in order."""
    return [f"{verb} {step} {at}" for step in steps for at in BOUNDARIES if not (at == "record" and step in ONE_COMMIT)]


pytestmark = pytest.mark.chaos


class CrashingDriver(ReleaseDriver):
    """Walks with agents that die at every boundary."""

    def __init__(self, env: Environment, store: Store) -> None:
        super().__init__(env, store, ignore_progress)
        self.kill_points = env.folder / "deaths"

    async def start_release(self) -> None:
        self._env.start("agent", "tests.chaos.mortal_agent", str(self._env.plan_file), str(self.kill_points))
        record = await self.wait_until(lambda record: record.release.state is ReleaseState.PLANNED)
        self.release_id = record.id

    def killed_at(self) -> list[str]:
        return self.kill_points.read_text().splitlines()


async def _count_step_ends(env: Environment, direction: str) -> dict[str, int]:
    """How often each step's end is in the audit."""
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        rows = await connection.fetch(
            "SELECT split_part(message, ' ', 2) AS step, count(*) FROM zdd.event"
            " WHERE kind = 'step' AND message LIKE $1 || ' % done' GROUP BY 1",
            direction,
        )
    finally:
        await connection.close()
    return {row["step"]: row["count"] for row in rows}


@pytest.mark.timeout(600)
async def test_a_release_survives_a_kill_at_every_boundary(tmp_path: Path) -> None:
    async with start_production(tmp_path) as (env, store):
        driver = CrashingDriver(env, store)
        await driver.start_release()
        for phase in PHASES[:3]:
            await driver.run_phase(phase)
        rows = await assert_both_sides_agree(env)
        backfill = (await driver.read_record()).backfill
        assert backfill is not None
        assert 0 < backfill.rows_done <= rows + 1000, "rows were counted twice"
        for phase in PHASES[3:]:
            await driver.run_phase(phase)
        await env.stop("agent")

        record = await driver.read_record()
        steps = [step.name for step in record.release.strategy.steps]
        assert record.release.state is ReleaseState.DONE
        assert driver.killed_at() == kill_points("run", steps)
        assert await _count_step_ends(env, "run") == dict.fromkeys(steps, 1), "a step was lost, or done twice"
        await assert_no_failures(env)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_rollback_survives_a_kill_at_every_boundary(tmp_path: Path) -> None:
    async with start_production(tmp_path, kind="table", mode="trigger") as (env, store):
        before = await read_environment_state(env)
        driver = CrashingDriver(env, store)
        await driver.start_release()
        # Only the way back is mortal here; the way there has its own test.
        strategy = (await driver.read_record()).release.strategy
        there = [step for phase in strategy.phases[:5] for step in phase.steps]
        driver.kill_points.write_text("".join(f"run {step.name} {at}\n" for step in there for at in BOUNDARIES))
        for phase in PHASES[:5]:
            await driver.run_phase(phase)
        forward = len(driver.killed_at())
        await driver.roll_back()
        await env.stop("agent")

        record = await driver.read_record()
        assert record.release.state is ReleaseState.ROLLED_BACK
        assert {step.status for step in record.steps} <= {StepStatus.UNDONE, StepStatus.PENDING}
        undone = [step.name for step in reversed(there)]
        assert driver.killed_at()[forward:] == kill_points("undo", undone)
        assert await _count_step_ends(env, "revert") == dict.fromkeys(undone, 1), "an undo was lost, or done twice"
        assert describe_differences(before, await read_environment_state(env)) == []
        await assert_no_failures(env)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_canary_survives_a_kill_at_every_boundary_there_and_back(tmp_path: Path) -> None:
    async with start_production(tmp_path, strategy="canary", name="users-canary") as (env, store):
        before = await read_environment_state(env)
        driver = CrashingDriver(env, store)
        await driver.start_release()
        phases = (await driver.read_record()).release.strategy.phases[:-1]
        for phase in phases:
            await driver.run_phase(phase.name)
        await driver.roll_back()
        await env.stop("agent")

        steps = [step.name for phase in phases for step in phase.steps]
        undone = list(reversed(steps))
        assert (await driver.read_record()).release.state is ReleaseState.ROLLED_BACK
        assert driver.killed_at() == kill_points("run", steps) + kill_points("undo", undone)
        assert await _count_step_ends(env, "revert") == dict.fromkeys(undone, 1), "an undo was lost, or done twice"
        assert describe_differences(before, await read_environment_state(env)) == []
        await assert_no_failures(env)

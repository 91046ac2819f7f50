"""The agent is killed at every boundary of every step; the next one completes the release."""

from pathlib import Path

import asyncpg
import pytest

from tests.support.release import assert_both_sides_agree, assert_nobody_was_hurt, no_progress, production
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import Walker
from zdd_tui.demo.state_snapshot import differences, take
from zdd_tui.model.release.state import State, StepStatus

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")
BOUNDARIES = ("intent", "effect", "record")
ONE_COMMIT = {"expand-schema", "sync-forward", "sync-reverse", "set-aside", "drop-aside"}
"""Steps whose effect and record commit together: who dies after the effect has recorded it already."""


def deaths(verb: str, steps: list[str]) -> list[str]:
    """Every boundary that an agent can die at, in order."""
    return [f"{verb} {step} {at}" for step in steps for at in BOUNDARIES if not (at == "record" and step in ONE_COMMIT)]


pytestmark = pytest.mark.chaos


class MortalWalker(Walker):
    """Walks with agents that die at every boundary."""

    def __init__(self, env: Environment, store: Store) -> None:
        super().__init__(env, store, no_progress)
        self.deaths = env.folder / "deaths"

    async def begin(self) -> None:
        self._env.start("agent", "tests.chaos.mortal_agent", str(self._env.plan_file), str(self.deaths))
        record = await self.until(lambda record: record.release.state is State.PLANNED)
        self.release_id = record.id

    def died_at(self) -> list[str]:
        return self.deaths.read_text().splitlines()


async def _step_ends(env: Environment, verb: str) -> dict[str, int]:
    """How often each step's end is in the audit."""
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        rows = await connection.fetch(
            "SELECT split_part(what, ' ', 2) AS step, count(*) FROM zdd.event"
            " WHERE kind = 'step' AND what LIKE $1 || ' % done' GROUP BY 1",
            verb,
        )
    finally:
        await connection.close()
    return {row["step"]: row["count"] for row in rows}


@pytest.mark.timeout(600)
async def test_a_release_survives_a_kill_at_every_boundary(tmp_path: Path) -> None:
    async with production(tmp_path) as (env, store):
        walker = MortalWalker(env, store)
        await walker.begin()
        for phase in PHASES[:3]:
            await walker.advance(phase)
        rows = await assert_both_sides_agree(env)
        backfill = (await walker.record()).backfill
        assert backfill is not None
        assert 0 < backfill.rows_done <= rows + 1000, "rows were counted twice"
        for phase in PHASES[3:]:
            await walker.advance(phase)
        await env.end("agent")

        record = await walker.record()
        steps = [step.name for step in record.release.strategy.steps]
        assert record.release.state is State.DONE
        assert walker.died_at() == deaths("run", steps)
        assert await _step_ends(env, "run") == dict.fromkeys(steps, 1), "a step was lost, or done twice"
        await assert_nobody_was_hurt(env)


@pytest.mark.timeout(600)
async def test_a_rollback_survives_a_kill_at_every_boundary(tmp_path: Path) -> None:
    async with production(tmp_path, kind="table", mode="trigger") as (env, store):
        before = await take(env)
        walker = MortalWalker(env, store)
        await walker.begin()
        # Only the way back is mortal here; the way there has its own test.
        strategy = (await walker.record()).release.strategy
        there = [step for phase in strategy.phases[:5] for step in phase.steps]
        walker.deaths.write_text("".join(f"run {step.name} {at}\n" for step in there for at in BOUNDARIES))
        for phase in PHASES[:5]:
            await walker.advance(phase)
        forward = len(walker.died_at())
        await walker.rollback()
        await env.end("agent")

        record = await walker.record()
        assert record.release.state is State.ROLLED_BACK
        assert {step.status for step in record.steps} <= {StepStatus.UNDONE, StepStatus.PENDING}
        undone = [step.name for step in reversed(there)]
        assert walker.died_at()[forward:] == deaths("undo", undone)
        assert await _step_ends(env, "undo") == dict.fromkeys(undone, 1), "an undo was lost, or done twice"
        assert differences(before, await take(env)) == []
        await assert_nobody_was_hurt(env)


@pytest.mark.timeout(600)
async def test_a_canary_survives_a_kill_at_every_boundary_there_and_back(tmp_path: Path) -> None:
    async with production(tmp_path, strategy="canary", name="users-canary") as (env, store):
        before = await take(env)
        walker = MortalWalker(env, store)
        await walker.begin()
        phases = (await walker.record()).release.strategy.phases[:-1]
        for phase in phases:
            await walker.advance(phase.name)
        await walker.rollback()
        await env.end("agent")

        steps = [step.name for phase in phases for step in phase.steps]
        undone = list(reversed(steps))
        assert (await walker.record()).release.state is State.ROLLED_BACK
        assert walker.died_at() == deaths("run", steps) + deaths("undo", undone)
        assert await _step_ends(env, "undo") == dict.fromkeys(undone, 1), "an undo was lost, or done twice"
        assert differences(before, await take(env)) == []
        await assert_nobody_was_hurt(env)

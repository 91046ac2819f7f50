"""Rollback from every phase, under load: afterwards schema, flags, pods and data are as before, and no row is lost."""

from pathlib import Path

import asyncpg
import pytest

from tests.support.release import assert_nobody_was_hurt, no_progress, production
from zdd_tui.demo.release_driver import Walker
from zdd_tui.demo.state_snapshot import differences, take
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.release.state import State

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("kind", "mode", "phases", "more"),
    [
        ("column", "application", PHASES, ""),
        ("table", "trigger", PHASES, ""),
        ("column", "trigger", PHASES[-2:-1], "cutover: {ramp: [30, 70], hold: 500ms}"),
        ("table", "application", PHASES[-1:], ""),
    ],
)
async def test_rollback_from_every_phase(
    kind: str, mode: str, phases: tuple[str, ...], more: str, tmp_path: Path
) -> None:
    async with production(tmp_path, kind=kind, mode=mode) as (env, store):
        env.plan_file.write_text(f"{env.plan_file.read_text()}\n{more}\n")
        before = await take(env)
        for last in phases:
            walker = Walker(env, store, no_progress)
            await walker.begin()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await walker.advance(phase)
            await walker.rollback()
            await env.end("agent")
            assert (await walker.record()).release.state is State.ROLLED_BACK
            assert differences(before, await take(env)) == [], f"after a rollback from {last}"
            await assert_nobody_was_hurt(env)


@pytest.mark.timeout(200)
async def test_rollback_from_cleanup_while_the_old_data_is_still_there(tmp_path: Path) -> None:
    """A forgotten view keeps the old data from being dropped: the step fails by name, and the way back is open."""
    async with production(tmp_path) as (env, store):
        connection = await asyncpg.connect(env.postgres.dsn)
        try:
            await connection.execute("CREATE VIEW public.forgotten AS SELECT id, first_name FROM public.users")
            before = await take(env)
            walker = Walker(env, store, no_progress)
            await walker.begin()
            for phase in PHASES:
                await walker.advance(phase)
            await walker.enter("cleanup")
            with pytest.raises(StepFailed, match="forgotten"):
                await walker.settle("cleanup")
            await walker.rollback()
            await env.end("agent")
            assert differences(before, await take(env)) == []
            await assert_nobody_was_hurt(env)
        finally:
            await connection.close()

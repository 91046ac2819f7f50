"""A rollback from every phase under load restores schema, flags, pods and data, and no row is lost."""

from pathlib import Path

import asyncpg
import pytest

from tests.support.release import assert_no_failures, ignore_progress, start_production
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.state import ReleaseState

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("kind", "mode", "phases", "more"),
    [
        # From the other phases of this kind: test_cli_release.py, the view below, and the seeds of tests/chaos.
        ("column", "application", ("expand", "backfill"), ""),
        pytest.param("column", "application", PHASES, "", marks=pytest.mark.slow),
        pytest.param(
            "column",
            "trigger",
            PHASES[-2:-1],
            "cutover: {ramp: [30, 70], hold: 500ms}",
            marks=pytest.mark.slow,
        ),
        pytest.param("table", "trigger", PHASES, "", marks=pytest.mark.slow),
        pytest.param("table", "application", PHASES[-1:], "", marks=pytest.mark.slow),
    ],
)
async def test_rollback_from_every_phase(
    kind: str, mode: str, phases: tuple[str, ...], more: str, tmp_path: Path
) -> None:
    async with start_production(tmp_path, kind=kind, mode=mode) as (env, store):
        env.plan_file.write_text(f"{env.plan_file.read_text()}\n{more}\n")
        before = await read_environment_state(env)
        for last in phases:
            driver = ReleaseDriver(env, store, ignore_progress)
            await driver.start_release()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await driver.run_phase(phase)
            await driver.roll_back()
            await env.stop("agent")
            assert (await driver.read_record()).release.state is ReleaseState.ROLLED_BACK
            assert describe_differences(before, await read_environment_state(env)) == [], (
                f"after a rollback from {last}"
            )
            await assert_no_failures(env)


@pytest.mark.timeout(200)
async def test_a_view_on_the_old_data_closes_cleanup_and_a_rollback_is_possible(tmp_path: Path) -> None:
    """A view would keep the old data from being dropped: the gate names it before anything is."""
    async with start_production(tmp_path) as (env, store):
        connection = await asyncpg.connect(env.postgres.dsn)
        try:
            before = await read_environment_state(env)
            driver = ReleaseDriver(env, store, ignore_progress)
            await driver.start_release()
            for phase in PHASES:
                await driver.run_phase(phase)
            old = await connection.fetchval(
                "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = 'users' AND column_name <> 'full_name'"
            )
            await connection.execute(f"CREATE VIEW public.forgotten AS SELECT {old} FROM public.users")
            with pytest.raises(ZddError, match=r"view public\.forgotten"):
                await driver.start_phase("cleanup")
            await driver.roll_back()
            await env.stop("agent")
            await connection.execute("DROP VIEW public.forgotten")
            assert describe_differences(before, await read_environment_state(env)) == []
            await assert_no_failures(env)
        finally:
            await connection.close()

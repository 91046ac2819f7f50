"""`zdd plan --from` with the real tools: each finds the migrations applied once zdd has run them, and pending after a
rollback.

The judges are the tools themselves, and the schema and version table of a second database that the tool alone migrated.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.support.migration_tools import (
    DRIVERS,
    AlembicDriver,
    ToolDriver,
    ToolFailed,
    parse_rows,
    select_rows,
)
from tests.support.operations import dump, open_context, run_phases
from zdd_tui.engine.steps.operations import RunOperation
from zdd_tui.model.migrations.registry import find_tool
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.plan.operations import OperationsPlan
from zdd_tui.testbed.servers import PostgresServer

PHASES = [Phase.EXPAND, Phase.CONTRACT, Phase.CLEANUP]


def zdd_plan(driver: ToolDriver, *options: str) -> tuple[int, str, OperationsPlan | None]:
    """Runs `zdd plan --from`; returns exit code, output and plan."""
    output = driver.folder.parent / "plan.yaml"
    command = [sys.executable, "-m", "zdd_tui", "plan", "--from", str(driver.folder), "--force", "-o", str(output)]
    options = ("--deployment", "api", "--image", "shop/api:2", *driver.options, *options)
    environ = os.environ | {"DATABASE_URL": driver.dsn}
    ended = subprocess.run([*command, *options], env=environ, capture_output=True, text=True, check=False)
    if ended.returncode:
        return ended.returncode, ended.stdout + ended.stderr, None
    plan = load_plan(output.read_text(), source=str(output), environment=environ).plan
    assert isinstance(plan, OperationsPlan)
    return 0, ended.stdout, plan


def run_release(plan: OperationsPlan, phases: list[Phase], *, undo: bool = False) -> None:
    async def run() -> None:
        async with open_context(plan) as ctx:
            phases_with_steps = [phase for phase in phases if numbered_steps(plan, phase)]
            handles = await run_phases(ctx, plan, phases_with_steps)
            for each in reversed(handles) if undo else ():
                await RunOperation().undo(ctx, each)

    asyncio.run(run())
    execute(plan.database.dsn.get_secret_value(), "DROP SCHEMA zdd CASCADE")  # with its lease, which has not expired


def execute(dsn: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def read_rows(driver: ToolDriver, dsn: str) -> list[object]:
    async def run() -> list[object]:
        connection = await asyncpg.connect(dsn)
        try:
            return parse_rows(await connection.fetch(select_rows(driver)))
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "kind",
    [pytest.param(each, marks=() if each is AlembicDriver else pytest.mark.slow) for each in DRIVERS],
    ids=lambda each: each.name,
)
@pytest.mark.timeout(900)
def test_the_tool_agrees_after_each_phase_and_after_a_rollback(
    kind: type[ToolDriver], tmp_path: Path, pg: PostgresServer, pg_dsn: str
) -> None:
    if reason := kind.why_missing():
        pytest.skip(reason)
    plain_dsn = urlunsplit(urlsplit(pg_dsn)._replace(path=f"{urlsplit(pg_dsn).path}_plain"))
    here, plain, older = (
        kind(tmp_path / "here", pg_dsn),
        kind(tmp_path / "plain", plain_dsn),
        kind(tmp_path / "older", pg_dsn),
    )
    here.write(1, 2)
    here.apply()
    older.write(1, 2)
    here.write(3, 4)
    pending = here.count_pending()
    assert pending >= 2
    before, rows_before = dump(pg, pg_dsn), read_rows(here, pg_dsn)

    code, output, plan = zdd_plan(here)
    assert code == 0, output
    assert plan is not None
    assert f"{here.name}: {pending} pending" in output, output
    for phases in ([Phase.EXPAND], [Phase.EXPAND, Phase.CONTRACT]):
        run_release(plan, phases, undo=True)
        assert here.count_pending() == pending
        assert (dump(pg, pg_dsn), read_rows(here, pg_dsn)) == (before, rows_before)

    run_release(plan, [Phase.EXPAND])
    during = dump(pg, pg_dsn)
    assert here.count_pending() == 0
    here.apply()  # as a pod of the new version does that migrates when it starts
    assert dump(pg, pg_dsn) == during, "the tool changed the schema in the middle of the release"
    starts = True
    try:
        older.apply()  # as a pod of the old version does
    except ToolFailed:
        starts = False
    assert starts is not bool(find_tool(here.name).start_note)
    here.apply()  # Flyway's older version has brought its own repeatable migration back
    run_release(plan, [Phase.CONTRACT, Phase.CLEANUP])
    assert here.count_pending() == 0
    code, output, _ = zdd_plan(here)
    assert (code, "nothing is pending" in output) == (1, True), output

    name = urlsplit(plain_dsn).path[1:]
    execute(pg.dsn, f"CREATE DATABASE {name}")
    try:
        plain.write(1, 2)
        plain.apply()
        plain.write(3, 4)
        plain.apply()
        assert dump(pg, pg_dsn) == dump(pg, plain_dsn)
        assert read_rows(here, pg_dsn) == read_rows(here, plain_dsn)
    finally:
        execute(pg.dsn, f"DROP DATABASE {name} WITH (FORCE)")
    here.write(5)
    assert here.count_pending() == 1
    here.apply()
    assert here.count_pending() == 0

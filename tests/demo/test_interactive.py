"""`zdd demo` by keys, in a real terminal: what its texts say is done, key by key."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.end_to_end.test_pty_release import advance, leave_contract
from tests.support.terminal_emulator import Emulator, run_in_emulator

ROOT = Path(__file__).parents[2]
PHASES = ("expand", "dual-write", "backfill", "cutover", "contract")
"""All but the last one, whose dialog asks for the release's name."""


@asynccontextmanager
async def demo(folder: Path, *options: str) -> AsyncIterator[Emulator]:
    """The demo in a terminal of 80x24; it ends its servers by itself, also where a test fails."""
    argv = [sys.executable, "-m", "zdd_tui", "demo", "--no-bell", *options]
    own = {"HOME": str(folder), "XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    async with run_in_emulator(argv, {**os.environ, "PYTHONPATH": str(ROOT), **own}) as terminal:
        try:
            yield terminal
        finally:
            if terminal.process.poll() is None:
                terminal.process.terminate()
                await terminal.wait_for_exit()


async def look_at(terminal: Emulator, key: str, *shows: str) -> None:
    """Opens a screen, and goes back with Escape."""
    terminal.press(key)
    await terminal.wait_for(*shows)
    terminal.press("\x1b")
    await terminal.wait_for("TOUR", without=shows[0])


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_the_tour_leads_through_a_release_by_the_keys_that_it_names(tmp_path: Path) -> None:
    async with demo(tmp_path, "--tour", "--rows", "3000", "--backfill-time", "6s") as terminal:
        await terminal.wait_for("TOUR 1 of 6", "4/4 ready", "PLANNED")
        await advance(terminal, "expand", "ADD COLUMN full_name text")
        await terminal.wait_for("TOUR 2 of 6", "G shows the gates")
        await look_at(terminal, "G", "gates of expand")
        await advance(terminal, "dual-write", "users-api:2")
        await terminal.wait_for("TOUR 3 of 6", "Dual-write rolls out version 2")
        await advance(terminal, "backfill", "UPDATE")
        await terminal.wait_for("TOUR 4 of 6", "p pauses it")
        terminal.press("p")
        await terminal.wait_for("‖ PAUSED", "✔ Paused")
        await look_at(terminal, "B", "› backfill")
        terminal.press("[")
        await terminal.wait_for("✔ Applied: ", "75%")
        terminal.press("]")
        await terminal.wait_for("speed 75% -> 100%")
        terminal.press("p")
        await terminal.wait_for("✔ Resumed")
        await advance(terminal, "cutover", "turn the read flag on")
        await terminal.wait_for("TOUR 5 of 6", "Cutover reads the new column")
        await look_at(terminal, "m", "› charts")
        await look_at(terminal, "R", "roll back: undo")
        await advance(terminal, "contract", "archive the old schema and its data")
        await terminal.wait_for("TOUR 6 of 6")
        await leave_contract(terminal)
        await terminal.wait_for("The tour is finished", "✔ DONE")
        await look_at(terminal, "T", "› timeline")
        terminal.press("q")
        await terminal.wait_for("zdd demo: stopping")
        assert await terminal.wait_for_exit() == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_the_demo_of_two_regions_goes_through_one_after_the_other(tmp_path: Path) -> None:
    async with demo(tmp_path, "--regions", "2", "--rows", "500", "--backfill-time", "0s") as terminal:
        for region in ("eu 1/2", "us 2/2"):
            await terminal.wait_for(f"region {region}", "2/2 ready", "PLANNED")
            for phase in PHASES:
                await advance(terminal, phase)
            await leave_contract(terminal)
            await terminal.wait_for(f"region {region}", "✔ DONE", "all 6 phases are complete")
            if region == "eu 1/2":  # the line with the arrow offers the next region before `q`, and `q` asks first
                await terminal.wait_for("→ > opens region us, the one after this")
                terminal.press("q")
                await terminal.wait_for("region us follows")
                terminal.press(">")
        terminal.press("q")
        await terminal.wait_for("zdd demo: stopping")
        assert await terminal.wait_for_exit() == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_migration_of_ones_own_goes_through_to_its_cleanup(tmp_path: Path) -> None:
    file = tmp_path / "nicknames.sql"
    file.write_text(
        "ALTER TABLE users ADD COLUMN nickname text; UPDATE users SET nickname = left(first_name, 3);\n"
        "ALTER TABLE users ALTER COLUMN email TYPE varchar(200);\n"
    )
    async with demo(tmp_path, "--migration", str(file), "--rows", "500", "--backfill-time", "0s") as terminal:
        await terminal.wait_for("4/4 ready", "PLANNED")
        await advance(terminal, "expand", "add column users.nickname")
        await advance(terminal, "backfill", "UPDATE users SET nickname")
        await advance(terminal, "cutover", "set image deployment/users-api")
        await advance(terminal, "contract", "swap users.email")
        await leave_contract(terminal, "your-migration")
        await terminal.wait_for("✔ DONE", "all 5 phases are complete")
        terminal.press("q")
        await terminal.wait_for("zdd demo: stopping")
        assert await terminal.wait_for_exit() == 0

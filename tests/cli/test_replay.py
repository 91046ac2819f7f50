"""`zdd replay` in a real terminal: the recording that ships with the repository, by keys."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.terminal_emulator import run_in_emulator

ROOT = Path(__file__).parents[2]
RECORDING = str(ROOT / "docs" / "release.jsonl.gz")
ZDD = [sys.executable, "-m", "zdd_tui", "replay"]


async def test_a_recording_is_played_by_keys() -> None:
    environ = os.environ | {"LANG": "C", "LC_ALL": "C"}
    argv = [*ZDD, RECORDING, "--at", "65s", "--speed", "0.25"]
    async with run_in_emulator(argv, environ, columns=120, rows=36) as terminal:
        shown = await terminal.wait_for("REPLAY", "> playing", "READ-ONLY", "> backfill")
        assert shown.isascii(), "the locale is not UTF-8"
        terminal.press(" ")
        await terminal.wait_for("= paused")
        terminal.press("\x1b[F")
        await terminal.wait_for("# ended", "all 6 phases are complete")
        terminal.press("N")
        await terminal.wait_for("= paused")
        terminal.press("\x1b[H")
        await terminal.wait_for("0:00 of 1:54")
        terminal.press(">")
        await terminal.wait_for("x0.5")
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0


def test_without_a_terminal_it_is_refused() -> None:
    argv = [*ZDD, RECORDING]
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "a replay needs a terminal" in done.stderr


async def test_what_is_wrong_is_one_error(tmp_path: Path) -> None:
    bad = tmp_path / "plan.yaml"
    bad.write_text("name: x\n")
    for argv, environ, text in (
        ([str(bad)], {}, "line 1 is not the header of a recording"),
        ([RECORDING, "--at", "3h"], {}, "--at 3h is not in"),
        ([RECORDING], {"TERM": "dumb"}, "TERM is dumb"),
    ):
        # TERM is for a program in the terminal; the emulator itself is one that could do more
        wrapped = ["env", *(f"{name}={value}" for name, value in environ.items()), *ZDD, *argv]
        async with run_in_emulator(wrapped, os.environ, columns=300, rows=24) as terminal:
            await terminal.wait_for(text, "Fix:")
            assert await terminal.wait_for_exit() == 2

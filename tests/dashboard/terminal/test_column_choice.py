"""The columns of a table are chosen with keys in a real terminal, and the next dashboard has the same ones."""

import os
import sys
from pathlib import Path

from tests.support.terminal_emulator import run_in_emulator
from zdd_tui.dashboard.column_choice import ColumnChoice

PROGRAM = """
import sys
from pathlib import Path
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.column_choice import ColumnChoice
source = FixedSource(dashboard_situations()["open"])
ZddApp(source, clock=FixedClock(), column_choice=ColumnChoice(Path(sys.argv[1]))).run()
"""


async def test_a_hidden_column_stays_hidden_in_the_next_dashboard(tmp_path: Path) -> None:
    file = tmp_path / "state" / "columns.json"
    command = [sys.executable, "-c", PROGRAM, str(file)]
    async with run_in_emulator(command, dict(os.environ)) as terminal:
        await terminal.wait_for("VERSION", "DRAIN")
        terminal.press("1c")
        await terminal.wait_for("columns of pods", "POD  always shown", "[x] VERSION")
        terminal.press("\x1b[B \x1b")  # down, Space, Escape: nothing is kept
        await terminal.wait_for("1:pods", "VERSION")
        assert not file.exists()
        terminal.press("c")
        await terminal.wait_for("columns of pods")
        terminal.press(" ")  # the first one is always shown
        terminal.press("j ")
        await terminal.wait_for("[ ] VERSION", "[x] DRAIN")
        terminal.press("\r")
        await terminal.wait_for("1:pods", without="VERSION")
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0
    assert ColumnChoice(file).hidden("pods") == {"version"}
    async with run_in_emulator(command, dict(os.environ)) as terminal:
        await terminal.wait_for("POD", "DRAIN")
        assert "VERSION" not in terminal.text
        terminal.press("c")
        await terminal.wait_for("[ ] VERSION")
        terminal.press("a\r")  # all of them again
        await terminal.wait_for("1:pods", "POD", "VERSION", "DRAIN")
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0
    assert ColumnChoice(file).hidden("pods") == frozenset()


def test_a_choice_that_cannot_be_read_or_written_hides_nothing_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "columns.json"
    for text in ("", "[", "[1]", '{"pods": 1}', '{"pods": [1, null]}', "\x00" * 10):
        file.write_text(text)
        assert ColumnChoice(file).hidden("pods") == frozenset()
    blocked = ColumnChoice(file / "below" / "columns.json")
    assert "Not a directory" in blocked.hide("pods", {"node"})
    assert blocked.hidden("pods") == {"node"}, "for this dashboard it is kept"

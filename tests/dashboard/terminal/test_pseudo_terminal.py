"""The dashboard on a real pseudo-terminal: it starts, it ends, and it leaves nothing behind."""

import asyncio
import base64
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
import pyte
import pytest

from tests.support.terminal_emulator import run_in_emulator
from zdd_tui.dashboard.terminal.input import PASTE_GAP_SECONDS

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
left = ZddApp(FixedSource(dashboard_situations()["backfill"]), clock=FixedClock()).run()
print("LEFT", left, flush=True)
sys.exit(left)
"""
SHELL = """
import os, signal, subprocess, sys
job = subprocess.Popen([sys.executable, "-c", sys.argv[1]], process_group=0)
while not os.WIFEXITED(status := os.waitpid(job.pid, os.WUNTRACED)[1]):
    print("STOPPED", job.pid, flush=True)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A shell, as far as job control is concerned."""

DISPLAY_PROGRAM = """
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
import signal
boards = dashboard_situations()
source = FixedSource(boards["backfill"])
signal.signal(signal.SIGUSR1, lambda *_: source.set_board(boards["no-agent"]))
ZddApp(source, clock=FixedClock(), display_options=DisplayOptions(ascii=%s, bell=%s)).run()
"""
BLOCKED_PROGRAM = """
import threading, time
from dataclasses import replace
from tests.support.states import FixedSource, dashboard_situations
from zdd_tui.dashboard.app import SystemClock, ZddApp
start = dashboard_situations()["backfill"]
record = start.release.value
clock = SystemClock()
source = FixedSource(start)
def work():
    for number in range(1000000):
        time.sleep(0.05)
        moved = replace(record, backfill=replace(record.backfill, rows_done=number, rows_total=9 * number))
        moved = replace(moved, events=tuple(replace(each, message=str(number) * 9) for each in record.events))
        now = clock.monotonic()
        source.set_board(replace(start, release=replace(start.release, value=moved, observed_at=now)))
threading.Thread(target=work, daemon=True).start()
ZddApp(source, clock=clock).run()
"""

COMMANDS_PROGRAM = """
from dataclasses import replace
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
start = dashboard_situations()["backfill"]
source = FixedSource(replace(start, plan=replace(start.plan, environment="staging")))
ZddApp(source, clock=FixedClock()).run()
print("SENT", [f"{each.kind} {each.tuning['speed']}" for each in source.sent_commands])
"""

MOVING = """
import threading, time
from dataclasses import replace
from tests.support.states import FixedClock, FixedSource, dashboard_situations, pod, workload
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.state import Observed
from zdd_tui.model.workload.pod import PodState
start = dashboard_situations()["backfill"]
source, good = FixedSource(start), PodState.SERVING
def work():
    for number in range(1, 31):
        time.sleep(0.05)
        reasons = ["数据库" if number % 7 == at else "" for at in range(4)]
        pods = [pod(f"abc-{at}", "1", good, restarts=number + at, reason=why) for at, why in enumerate(reasons)]
        source.set_board(replace(start, workload=Observed(workload(pods), start.workload.observed_at)))
threading.Thread(target=work, daemon=True).start()
ZddApp(source, clock=FixedClock()).run()
"""
"""Restarts of four pods up to 30, 31, 32 and 33; then nothing."""


class PtyTerminal:
    """A pty of 80x24 with the dashboard in it."""

    def __init__(self, program: str = PROGRAM, *arguments: str, **environ: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX", "STY")}
            | {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
            | environ,
            start_new_session=True,
        )
        self.slave = slave
        self.seen = b""

    def read(self, seconds: float) -> bool:
        """Reads the available output; False after the timeout in seconds."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            self.seen += os.read(self.master, 65536)
        return True

    def wait_for(self, wanted: bytes, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            ended = self.process.poll() is not None
            assert self.read(0.5) or (not ended and time.monotonic() < deadline), self.seen[-2000:].decode()

    def wait_for_exit(self, seconds: float = 20) -> int:
        """The exit code; output until then is read."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it still runs"
            self.read(0.05)
        while self.read(0):
            pass
        return self.process.returncode

    def close_master(self) -> None:
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def cpu_seconds(self) -> float:
        """Seconds of processor time that the program has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def terminal() -> Iterator[PtyTerminal]:
    with PtyTerminal() as made:
        made.wait_for(b"users-full-name")
        made.wait_for(b"quit")
        yield made


def assert_restored(terminal: PtyTerminal) -> None:
    assert b"\x1b[?1049l" in terminal.seen, "the alternate screen was not left"
    assert b"\x1b[?25h" in terminal.seen, "the cursor was not shown again"
    assert termios.tcgetattr(terminal.slave)[:4] == terminal.before[:4]


def test_q_quits_and_restores_the_terminal(terminal: PtyTerminal) -> None:
    os.write(terminal.master, b"q")
    assert terminal.wait_for_exit() == 0
    assert b"LEFT 0\r\n" in terminal.seen
    assert_restored(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_restores_the_terminal(terminal: PtyTerminal, number: signal.Signals) -> None:
    terminal.process.send_signal(number)
    assert terminal.wait_for_exit() == 128 + number
    assert f"LEFT {128 + number}\r\n".encode() in terminal.seen
    assert_restored(terminal)


def test_a_closed_terminal_ends_it(terminal: PtyTerminal) -> None:
    os.close(terminal.slave)
    terminal.close_master()
    assert terminal.process.wait(20) in (129, -signal.SIGHUP)


def test_a_stalled_terminal_does_not_prevent_the_end(terminal: PtyTerminal) -> None:
    """The master is not read any more: a signal still ends it, and the terminal is restored when it is read again."""
    for _ in range(200):
        os.write(terminal.master, b"?\x1b")  # help opens and closes: a whole screen each time
    time.sleep(2)  # until the pty's buffer is full; there is no event for that
    began = time.monotonic()
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(20) == 128 + signal.SIGTERM
    print(f"ended {time.monotonic() - began:.1f} s after the signal")
    terminal.wait_for(b"\x1b[?1049l")
    terminal.wait_for(b"\x1b[?25h")
    assert_restored(terminal)


def test_cells_look_as_in_a_full_repaint_and_the_default_style_is_restored() -> None:
    with PtyTerminal(MOVING) as moving:
        screen = pyte.Screen(80, 24)
        stream = pyte.ByteStream(screen)
        coloured = 0
        while not re.search(r"abc-3 .*\b33\b", "\n".join(screen.display)):
            assert moving.read(30), screen.display
            stream.feed(moving.seen)
            moving.seen = b""
            coloured += screen.cursor.attrs.fg != "default"
        assert coloured > 5, "the style of the last cell stays in effect"
        while moving.read(0.5):  # until all is painted
            pass
        stream.feed(moving.seen)
        by_cells = {y: dict(screen.buffer[y]) for y in range(24)}
        screen.erase_in_display(2)
        moving.seen = b""
        moving.process.send_signal(signal.SIGCONT)  # another program may have written to the screen: all is repainted
        while b"quit" not in moving.seen:
            assert moving.read(30)
        while moving.read(0.5):
            pass
        stream.feed(moving.seen)
        assert by_cells == {y: dict(screen.buffer[y]) for y in range(24)}
        moving.seen = b""
        os.write(moving.master, b"q")
        assert moving.wait_for_exit() == 0
        stream.feed(moving.seen)
        assert screen.cursor.attrs == pyte.Screen(1, 1).cursor.attrs


def test_it_survives_a_terminal_that_does_not_read() -> None:
    """States change, nothing spins, no output accumulates; a terminal that reads again shows the newest state."""
    with PtyTerminal(BLOCKED_PROGRAM) as stalled:
        stalled.wait_for(b"quit")
        time.sleep(3)  # the pty's buffer is full
        before = stalled.cpu_seconds()
        os.write(stalled.master, b"?\x1b" * 20)
        time.sleep(3)
        used = stalled.cpu_seconds() - before
        assert used < 1.5, "it spins"
        assert stalled.process.poll() is None
        stalled.seen = b""
        screen = pyte.Screen(80, 24)
        stream = pyte.ByteStream(screen)
        deadline, fed, pressed = time.monotonic() + 60, 0, 0.0
        wanted = re.compile(r"(?s)zdd users-full-name.*events.*?(\d{9,}).*q quit")
        seen: set[str] = set()
        while len(seen) < 3:  # the screen is complete again, and changes
            assert time.monotonic() < deadline, "\n".join(screen.display)
            stalled.read(0.5)
            stream.feed(stalled.seen[fed:])
            fed = len(stalled.seen)
            shown = "\n".join(screen.display)
            if found := wanted.search(shown):
                seen.add(found[1])
            elif "Esc close" in shown and time.monotonic() > pressed + 3:
                # An escape and a question mark in one read may have been parsed as one key.
                pressed = time.monotonic()
                os.write(stalled.master, b"\x1b")
        assert fed < 120_000, "dropped output was sent"
        time.sleep(max(0.0, pressed + 3 - time.monotonic()))  # an escape right before it would make alt+q of it
        os.write(stalled.master, b"q")
        assert stalled.wait_for_exit() == 0
        assert_restored(stalled)


@pytest.mark.parametrize("asked", [True, False], ids=["ctrl-z", "SIGSTOP"])
def test_it_can_be_stopped_and_continued(asked: bool) -> None:
    with PtyTerminal(SHELL, PROGRAM) as terminal:
        terminal.wait_for(b"quit")
        (job,) = psutil.Process(terminal.process.pid).children()
        if asked:
            os.write(terminal.master, b"\x1a")
        else:
            job.send_signal(signal.SIGSTOP)
        terminal.wait_for(f"STOPPED {job.pid}".encode())
        if asked:
            assert_restored(terminal)
        while terminal.read(0):
            pass
        terminal.seen = b""
        os.killpg(job.pid, signal.SIGCONT)
        terminal.wait_for(b"users-full-name")
        terminal.wait_for(b"quit")
        os.write(terminal.master, b"?")
        terminal.wait_for(b"Esc")
        terminal.seen = b""
        os.write(terminal.master, b"\x1b")
        terminal.wait_for(b"RUNNING")
        os.write(terminal.master, b"q")
        assert terminal.wait_for_exit() == 0
        assert_restored(terminal)


def test_without_a_shell_it_is_not_suspended(terminal: PtyTerminal) -> None:
    """No shell could resume it, and a stopped program keeps the terminal."""
    os.write(terminal.master, b"\x1a")
    terminal.wait_for(b"cannot suspend")
    os.write(terminal.master, b"q")
    assert terminal.wait_for_exit() == 0


def colours(seen: bytes) -> set[str]:
    """How colours are encoded: one of 16, one of 256, or truecolor."""
    found = set()
    for codes in re.findall(rb"\x1b\[([0-9;]*)m", seen):
        text = f";{codes.decode()};"
        kinds = {"true": r";[34]8;2;", "256": r";[34]8;5;", "16": r"^(?:;\d)*;(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]);"}
        found |= {kind for kind, pattern in kinds.items() if re.search(pattern, text)}
    return found


def test_ascii_without_colour_and_the_clipboard() -> None:
    with PtyTerminal(DISPLAY_PROGRAM % (True, True), NO_COLOR="1", COLORTERM="truecolor") as plain:
        plain.wait_for(b"quit")
        assert plain.seen.isascii()
        assert colours(plain.seen) == set()
        assert b"\x1b[1" in plain.seen, "attributes are used"
        os.write(plain.master, b"y")
        plain.wait_for(b"copied the screen")
        (copied,) = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)\x07", plain.seen)
        assert "✔ expand" in base64.b64decode(copied).decode(), "the copied text is not ASCII"
        plain.process.send_signal(signal.SIGUSR1)
        plain.wait_for(b"STALLED")
        assert plain.seen.count(b"\x07\x1b]9;no agent is running the release\x07") == 1
        os.write(plain.master, b"q")
        assert plain.wait_for_exit() == 0


def test_sixteen_colours_and_no_bell() -> None:
    with PtyTerminal(DISPLAY_PROGRAM % (False, False), TERM="xterm", COLORTERM="", NO_COLOR="") as plain:
        plain.wait_for(b"quit")
        assert colours(plain.seen) <= {"16"}
        plain.process.send_signal(signal.SIGUSR1)
        plain.wait_for(b"STALLED")
        assert b"\x1b]9;" not in plain.seen
        os.write(plain.master, b"q")
        assert plain.wait_for_exit() == 0


UNKNOWN_TO_SCREEN = re.compile(
    rb"\x1b\[[0-9;]*m"  # colours, checked by themselves
    rb"|\x1b\[[0-9;]*[HJKu]|\x1b\[[<>?][0-9;]*\$?[a-z]"  # its parser knows, or drops, each private mode and query
    rb"|\x1b\][0-9]+;[^\x07\x1b]{0,248}\x07"  # a string that it does not know, short enough to be dropped
    rb"|\x1bP.{1,256}?\x1b\\",  # a piece that it hands on
    re.DOTALL,
)


@pytest.mark.parametrize("environ", [{"TERM": "screen"}, {"TERM": "screen-256color"}, {"TERM": "screen", "STY": "1.a"}])
def test_in_gnu_screen_only_known_sequences_are_sent(environ: dict[str, str]) -> None:
    """No truecolour although the environment promises it, no synchronised update unasked, no long raw string."""
    with PtyTerminal(DISPLAY_PROGRAM % (False, True), COLORTERM="truecolor", **environ) as inside:
        inside.wait_for(b"quit")
        os.write(inside.master, b"y")
        inside.wait_for(b"copied the screen")
        inside.process.send_signal(signal.SIGUSR1)
        inside.wait_for(b"STALLED")
        os.write(inside.master, b"q")
        assert inside.wait_for_exit() == 0
        assert colours(inside.seen) <= {"16"}
        assert b"\x1b[?2026h" not in inside.seen
        left = UNKNOWN_TO_SCREEN.sub(b"", inside.seen)
        assert b"\x1b" not in left, left[max(0, left.find(b"\x1b") - 20) :][:80]
        handed_on = b"".join(re.findall(rb"\x1bP(.{1,256}?)\x1b\\", inside.seen, re.DOTALL))
        (copied,) = re.findall(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)\x07", handed_on)
        assert "✔ expand" in base64.b64decode(copied).decode()
        assert_restored(inside)


async def test_digits_and_tab_focus_the_panes() -> None:
    """As a terminal sends them: the pane with the focus has the heavy frame, and alone it has the screen."""
    async with run_in_emulator([sys.executable, "-c", PROGRAM], {**os.environ, "PYTHONPATH": str(ROOT)}) as screen:
        await screen.wait_for("q quit")
        for keys, wanted, without in (
            ("5", "┏━ 5:events", "┏━ 1"),
            ("\x1b[Z", "┏━ 3:flags", "┏━ 5"),
            ("\t\t", "┏━ 1:pods", "┏━ 3"),
            ("2", "┏━ 2:backfill", "┏━ 1"),
            ("z", "┏━ 2:backfill", "1:pods"),
            ("3", "┏━ 3:flags", "1:pods"),
        ):
            screen.press(keys)
            await screen.wait_for(wanted, without=without)
        screen.press("q")
        assert await screen.wait_for_exit() == 0


@pytest.mark.parametrize("is_bracketed", [False, True], ids=["as keys", "bracketed"])
async def test_a_huge_paste_neither_freezes_the_screen_nor_runs_an_action(is_bracketed: bool) -> None:
    """Into the filter, and then on the main screen; both hold keys of actions, and Enter."""
    program = [sys.executable, "-c", PROGRAM]
    pasted = "aRpq\r" * 25_000
    pasted = f"\x1b[200~{pasted}\x1b[201~" if is_bracketed else pasted
    async with run_in_emulator(program, {**os.environ, "PYTHONPATH": str(ROOT)}) as screen:
        await screen.wait_for("q quit")
        screen.press("/")
        await screen.wait_for("/", "4 of 4")
        for opens_field in (True, False):
            await screen.type_all(pasted)
            await asyncio.sleep(3 * PASTE_GAP_SECONDS)  # a pause is the end of a paste
            if opens_field:
                await screen.wait_for("aRpq aRpq", "0 of 4", seconds=15)
                screen.press("\x1b")
                await screen.wait_for("RUNNING", without="0 of 4", seconds=15)
            else:
                await screen.wait_for("pasted text is ignored", seconds=15)
        screen.press("?")
        assert "advance sent" not in await screen.wait_for("Esc close", seconds=15)
        screen.press("\x03")
        assert await screen.wait_for_exit(15) == 0


async def test_y_copies_in_a_confirm_and_steps_of_the_speed_add_up() -> None:
    async with run_in_emulator(
        [sys.executable, "-c", COMMANDS_PROGRAM], {**os.environ, "PYTHONPATH": str(ROOT)}
    ) as screen:
        await screen.wait_for("t tune")
        screen.press("R")
        await screen.wait_for("Enter confirm")
        screen.press("y")
        await screen.wait_for("copied", "Enter confirm")
        screen.press("\x1b")
        await screen.wait_for("RUNNING", without="Enter confirm")
        screen.press("[[[")
        await screen.wait_for("tune queued")
        screen.press("q")
        await screen.wait_for("SENT ['tune 75', 'tune 50', 'tune 25']")
        assert await screen.wait_for_exit() == 0


def test_it_is_idle_without_changes(terminal: PtyTerminal) -> None:
    """It does not spin, and sends only ages, once a second."""
    while terminal.read(0.5):
        pass
    before, seen = terminal.cpu_seconds(), len(terminal.seen)
    time.sleep(3)
    while terminal.read(0):
        pass
    assert terminal.cpu_seconds() - before < 0.6
    assert len(terminal.seen) - seen < 3000

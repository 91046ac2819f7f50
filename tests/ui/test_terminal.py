"""The dashboard on a real pseudo-terminal: it starts, it ends, and it leaves nothing behind."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from tests.ui.boards import FixedClock, FixedSource, situations
from zdd_tui.app import ZddApp
left = ZddApp(FixedSource(situations()["backfill"]), clock=FixedClock()).run()
print("LEFT", left.code, left.reason, flush=True)
sys.exit(left.code)
"""


class Terminal:
    """A pty of 80x24 with the dashboard in it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
        )
        self.slave = slave
        self.seen = b""

    def read(self, seconds: float) -> bool:
        """Takes what there is; False when nothing came in the time."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            self.seen += os.read(self.master, 65536)
        return True

    def until(self, wanted: bytes, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while wanted not in self.seen:
            assert time.monotonic() < deadline, self.seen[-2000:]
            self.read(0.5)

    def ends(self, seconds: float = 20) -> int:
        """The exit code; what the program still writes is taken from it."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it lives on"
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


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    try:
        made.until(b"users-full-name")
        made.until(b"quit")
        yield made
    finally:
        made.close()


def assert_restored(terminal: Terminal) -> None:
    assert b"\x1b[?1049l" in terminal.seen, "the alternate screen was not left"
    assert b"\x1b[?25h" in terminal.seen, "the cursor was not shown again"
    assert termios.tcgetattr(terminal.slave)[:4] == terminal.before[:4]


def test_q_leaves_and_restores_the_terminal(terminal: Terminal) -> None:
    os.write(terminal.master, b"q")
    assert terminal.ends() == 0
    assert b"LEFT 0 left by the operator" in terminal.seen
    assert_restored(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_restores_the_terminal(terminal: Terminal, number: signal.Signals) -> None:
    terminal.process.send_signal(number)
    assert terminal.ends() == 128 + number
    assert f"LEFT {128 + number} ended by signal {int(number)}".encode() in terminal.seen
    assert_restored(terminal)


def test_a_terminal_that_goes_away_ends_it(terminal: Terminal) -> None:
    os.close(terminal.slave)
    terminal.close_master()
    assert terminal.process.wait(20) in (129, -signal.SIGHUP)


def test_a_terminal_that_takes_no_output_does_not_keep_it(terminal: Terminal) -> None:
    """Nobody reads the master any more: the program's writes block, and a signal must end it all the same."""
    for _ in range(200):
        os.write(terminal.master, b"?\x1b")  # help opens and closes: a whole screen each time
    time.sleep(2)  # until the pty's buffer and the writer's queue are full; there is no event for that
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(20) == 128 + signal.SIGTERM


def test_it_rests_while_nothing_happens(terminal: Terminal) -> None:
    """No spinning, and no bytes for what does not change but ages once a second."""
    while terminal.read(0.5):
        pass
    ticks = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        fields = Path(f"/proc/{terminal.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before, seen = used(), len(terminal.seen)
    time.sleep(3)
    while terminal.read(0):
        pass
    assert used() - before < 0.6
    assert len(terminal.seen) - seen < 3000

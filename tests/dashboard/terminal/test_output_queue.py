"""The way out to a terminal that may stop reading."""

import os
import pty
import time
import tty
from collections.abc import Iterator

import pytest

from zdd_tui.dashboard.terminal.output_queue import OutputQueue, restore_when_readable

pytestmark = pytest.mark.timeout(60)

LARGE_OUTPUT = b"x" * 300_000


@pytest.fixture
def pty_ends() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def read_until(master: int, last: bytes) -> bytes:
    """What a terminal reads until something has come."""
    seen = b""
    while last not in seen:
        seen += os.read(master, 65536)
    return seen


def test_everything_arrives_in_order_and_the_last_words_last(pty_ends: tuple[int, int]) -> None:
    master, slave = pty_ends
    outlet = OutputQueue(slave)
    for number in range(100):
        outlet.write(f"<{number}>".encode())
    assert outlet.close(10, b"last")
    assert read_until(master, b"last") == b"".join(f"<{number}>".encode() for number in range(100)) + b"last"
    assert outlet.pending_bytes == 0
    outlet.write(b"again")
    assert outlet.close(10)
    assert read_until(master, b"again") == b"again"


def test_a_terminal_that_does_not_read_makes_nobody_wait(pty_ends: tuple[int, int]) -> None:
    master, slave = pty_ends
    outlet = OutputQueue(slave)
    began = time.monotonic()
    outlet.write(LARGE_OUTPUT)
    assert time.monotonic() - began < 5  # it would block for ever
    while outlet.pending_bytes == len(LARGE_OUTPUT):
        os.sched_yield()
    assert outlet.pending_bytes > len(LARGE_OUTPUT) - 100_000
    assert outlet.pending_seconds() > 0
    seen = b""
    while len(seen) < len(LARGE_OUTPUT):
        seen += os.read(master, 65536)
    assert seen == LARGE_OUTPUT
    assert outlet.close(10)
    assert outlet.pending_seconds() == 0


def test_the_last_words_reach_a_terminal_that_reads_again(pty_ends: tuple[int, int]) -> None:
    """What was not written is given up: it would be seconds or minutes of old pictures."""
    master, slave = pty_ends
    outlet = OutputQueue(slave)
    outlet.write(LARGE_OUTPUT)
    while outlet.pending_bytes == len(LARGE_OUTPUT):
        os.sched_yield()
    assert not outlet.close(0.3, b"never")
    assert outlet.pending_bytes == 0
    with restore_when_readable(slave, "\x1b[?1049l") as helper:
        seen = read_until(master, b"\x1b[?1049l")
        assert helper.wait(20) == 0
    assert len(seen) < 100_000
    assert b"never" not in seen
    assert seen.endswith(b"\x18\x1b[?1049l")

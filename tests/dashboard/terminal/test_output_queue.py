"""Output to a terminal that may stop reading."""

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
    """Reads until some bytes have arrived."""
    seen = b""
    while last not in seen:
        seen += os.read(master, 65536)
    return seen


def test_output_arrives_in_order(pty_ends: tuple[int, int]) -> None:
    master, slave = pty_ends
    queue = OutputQueue(slave)
    for number in range(100):
        queue.write(f"<{number}>".encode())
    assert queue.close(10, b"last")
    assert read_until(master, b"last") == b"".join(f"<{number}>".encode() for number in range(100)) + b"last"
    assert queue.pending_bytes == 0
    queue.write(b"again")
    assert queue.close(10)
    assert read_until(master, b"again") == b"again"


def test_a_terminal_that_does_not_read_does_not_block_the_caller(pty_ends: tuple[int, int]) -> None:
    master, slave = pty_ends
    queue = OutputQueue(slave)
    began = time.monotonic()
    queue.write(LARGE_OUTPUT)
    assert time.monotonic() - began < 5  # it would block for ever
    while queue.pending_bytes == len(LARGE_OUTPUT):
        os.sched_yield()
    assert queue.pending_bytes > len(LARGE_OUTPUT) - 100_000
    assert queue.pending_seconds() > 0
    seen = b""
    while len(seen) < len(LARGE_OUTPUT):
        seen += os.read(master, 65536)
    assert seen == LARGE_OUTPUT
    assert queue.close(10)
    assert queue.pending_seconds() == 0


def test_a_terminal_that_reads_again_is_restored(pty_ends: tuple[int, int]) -> None:
    """Pending output is dropped: it would be seconds or minutes of old frames."""
    master, slave = pty_ends
    queue = OutputQueue(slave)
    queue.write(LARGE_OUTPUT)
    while queue.pending_bytes == len(LARGE_OUTPUT):
        os.sched_yield()
    assert not queue.close(0.3, b"never")
    assert queue.pending_bytes == 0
    with restore_when_readable(slave, "\x1b[?1049l") as helper:
        seen = read_until(master, b"\x1b[?1049l")
        assert helper.wait(20) == 0
    assert len(seen) < 100_000
    assert b"never" not in seen
    assert seen.endswith(b"\x18\x1b[?1049l")

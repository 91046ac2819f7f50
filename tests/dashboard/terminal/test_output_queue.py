"""The way out to a terminal that may stop reading."""

import os
import pty
import time
import tty
from collections.abc import Iterator

import pytest

from zdd_tui.dashboard.terminal.output_queue import Outlet, last_words

pytestmark = pytest.mark.timeout(60)

FAR_TOO_MUCH = b"x" * 300_000


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def drained(master: int, last: bytes) -> bytes:
    """What a terminal reads until something has come."""
    seen = b""
    while last not in seen:
        seen += os.read(master, 65536)
    return seen


def test_everything_arrives_in_order_and_the_last_words_last(ends: tuple[int, int]) -> None:
    master, slave = ends
    outlet = Outlet(slave)
    for number in range(100):
        outlet.write(f"<{number}>".encode())
    assert outlet.close(10, b"last")
    assert drained(master, b"last") == b"".join(f"<{number}>".encode() for number in range(100)) + b"last"
    assert outlet.waiting == 0
    outlet.write(b"again")
    assert outlet.close(10)
    assert drained(master, b"again") == b"again"


def test_a_terminal_that_does_not_read_makes_nobody_wait(ends: tuple[int, int]) -> None:
    master, slave = ends
    outlet = Outlet(slave)
    began = time.monotonic()
    outlet.write(FAR_TOO_MUCH)
    assert time.monotonic() - began < 5  # it would block for ever
    while outlet.waiting == len(FAR_TOO_MUCH):
        os.sched_yield()
    assert outlet.waiting > len(FAR_TOO_MUCH) - 100_000
    assert outlet.waited() > 0
    seen = b""
    while len(seen) < len(FAR_TOO_MUCH):
        seen += os.read(master, 65536)
    assert seen == FAR_TOO_MUCH
    assert outlet.close(10)
    assert outlet.waited() == 0


def test_the_last_words_reach_a_terminal_that_reads_again(ends: tuple[int, int]) -> None:
    """What was not written is given up: it would be seconds or minutes of old pictures."""
    master, slave = ends
    outlet = Outlet(slave)
    outlet.write(FAR_TOO_MUCH)
    while outlet.waiting == len(FAR_TOO_MUCH):
        os.sched_yield()
    assert not outlet.close(0.3, b"never")
    assert outlet.waiting == 0
    with last_words(slave, "\x1b[?1049l") as helper:
        seen = drained(master, b"\x1b[?1049l")
        assert helper.wait(20) == 0
    assert len(seen) < 100_000
    assert b"never" not in seen
    assert seen.endswith(b"\x18\x1b[?1049l")

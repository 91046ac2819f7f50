"""Child processes and folders that cannot outlive us."""

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOOPBACK = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_READ_AT_START = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "MALLOC_", "OPENSSL_", "SSL_")
"""How the names of variables begin that an interpreter or its libraries read once, at their start."""


def same_at_start(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether a process with one environment can be forked from one that was started with the other."""
    first, second = (
        {name: value for name, value in env.items() if name.startswith(_READ_AT_START)} for env in (one, other)
    )
    return first == second


def spawn(
    argv: list[str],
    *,
    log: IO[bytes] | int,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: int | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that the kernel ends when we end, even when we are killed (prctl(2), PR_SET_PDEATHSIG).

    The signal is bound to the calling *thread*: call this from the thread that runs the event loop, never
    from a pool worker. The child gets its own session, so that a ctrl+c in the terminal is ours to handle.

    Args:
        log: where standard output and standard error go.
        stdin: bytes for its standard input, at most a pipe's buffer (64 KiB); empty input when None.
        user: numeric user and group to run as; needs root.
        death_signal: what the kernel sends to the child when we end.
        pass_fds: descriptors that the child keeps, under their numbers.
    """
    parent = os.getpid()

    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        start_new_session=True,
        pass_fds=pass_fds,
        # After the change of user, which would clear the setting. Only prctl and getppid, and no lock is taken.
        preexec_fn=lambda: end_with_parent(parent, death_signal),  # noqa: PLW1509
    )
    if child.stdin is not None:
        with child.stdin as pipe:
            pipe.write(stdin or b"")
    return child


def end_with_parent(parent: int, death_signal: signal.Signals) -> None:
    """In a child that was just forked: the kernel ends it with its parent. Ends it here where that came before us."""
    if _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(127)


async def wait_for_exit(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code, or None when the child still runs after ``seconds``."""
    await wait_until(child, lambda: False, seconds)
    return child.poll()


async def stop(child: subprocess.Popen[bytes], signal_number: signal.Signals, grace: float) -> int:
    """Sends SIGTERM, waits ``grace`` seconds, then kills. Returns the exit code."""
    if child.poll() is None:
        child.send_signal(signal_number)
        if await wait_for_exit(child, grace) is None:
            child.kill()
    return child.wait()


async def wait_until(child: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float) -> bool:
    """True once ``ready()`` holds; False when the child ended or the time is over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline and child.poll() is None:
        if ready():
            return True
        await asyncio.sleep(0.01)
    return False


def free_port() -> int:
    """A free loopback TCP port; the caller retries if another process takes it in between."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def scratch_folder(prefix: str, *, keep: bool = False) -> Iterator[Path]:
    """A temporary folder for servers, deleted at the end unless it is kept.

    Raises:
        KeyboardInterrupt: in the block, wherever it is, after SIGTERM or SIGHUP: so that the servers are stopped and
            the folder is deleted.
    """

    def interrupt(number: int, _frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # a second signal must not interrupt the shutdown
        raise KeyboardInterrupt(f"signal {number}")

    folder = Path(tempfile.mkdtemp(prefix=prefix))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)

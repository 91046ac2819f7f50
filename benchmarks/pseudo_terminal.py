"""A program in a pseudo-terminal that counts its output, its processor time and its memory."""

import contextlib
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class PseudoTerminal:
    """Runs a program in a terminal that responds to no query, as over a slow line at first."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], *, columns: int, rows: int) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
            | {"TERM": "xterm-256color"},
            start_new_session=True,
            # k9s opens /dev/tty, so this must be the controlling terminal, as in a login.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # nothing else before exec
        )
        os.close(slave)
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def wait_for(self, wanted: bytes, seconds: float = 60.0) -> float:
        """Seconds from the start until a text has been printed.

        Raises:
            TimeoutError: it has not been; with the end of the output.
        """
        deadline = time.perf_counter() + seconds
        while wanted not in self.received:
            if time.perf_counter() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"{wanted!r} was not printed: {self.received[-1000:]!r}")
            self.received += self.read(0.5)
        return time.perf_counter() - self.began

    def count_for(self, seconds: float) -> int:
        """The number of bytes that are printed in so many seconds."""
        count, deadline = 0, time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            count += len(self.read(left))
        return count

    def cpu_seconds(self) -> float:
        """Processor time of the program's threads in seconds."""
        return cpu_seconds(self.process.pid)

    def measure_cost(self, intervals: int, seconds: float) -> tuple[float, float]:
        """Bytes per second and percent of a core, medians of so many intervals of so many seconds."""
        rates, shares = [], []
        for _ in range(intervals):
            used, began = self.cpu_seconds(), time.perf_counter()
            count = self.count_for(seconds)
            elapsed = time.perf_counter() - began
            rates.append(count / elapsed)
            shares.append(100 * (self.cpu_seconds() - used) / elapsed)
        return statistics.median(rates), statistics.median(shares)

    def memory_mb(self, name: str) -> float:
        """Resident memory of the program in MB: VmRSS now, VmHWM at its peak."""
        with open(f"/proc/{self.process.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields[name].split()[0]) / 1024

    def send(self, keys: bytes) -> None:
        """Types keys."""
        os.write(self.master, keys)

    def read(self, seconds: float) -> bytes:
        """The next output; empty where there is none within so many seconds."""
        if select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # the program has closed it
                return os.read(self.master, 65536)
        return b""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process's threads in seconds, exact to the nanosecond.

    The ticks of /proc/PID/stat are samples: a program that wakes with the clock is counted too often, or never.
    """
    used = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            used += int(path.read_text().split()[0])
    return used / 1e9

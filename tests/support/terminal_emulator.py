"""A program in a real pseudo-terminal, and what an operator would see of it."""

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pyte

TIMEOUT = 90.0
"""Seconds that anything may take on a machine that does much else."""


class Emulator:
    """A terminal of so many columns and rows, with a program in it; see :func:`run_in_emulator`."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], columns: int, rows: int) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._read_available = asyncio.Event()
        self._is_closed = False
        """No more output can come."""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        unsized = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=unsized | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self.master, False)

    @property
    def text(self) -> str:
        """The screen as lines of text."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def draw_output(self) -> None:
        """Draws what the program has written."""
        try:
            data = os.read(self.master, 65536)
        except BlockingIOError:
            return
        except OSError:  # the program has closed the terminal
            data = b""
        if data:
            self._stream.feed(data)
        else:
            self._is_closed = True
            asyncio.get_running_loop().remove_reader(self.master)
        self._read_available.set()

    def press(self, keys: str) -> None:
        """Types; what a key sends stands in the text, such as a carriage return for Enter."""
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Gives the terminal another size, and tells the program, which has no controlling terminal."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    async def type_all(self, keys: str) -> None:
        """Types more than the terminal takes at once."""
        data = keys.encode()
        while data:
            try:
                data = data[os.write(self.master, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.005)  # the program has to read first; output is drawn meanwhile

    async def wait_for(self, *wanted: str, without: str = "", seconds: float = TIMEOUT) -> str:
        """The screen on which all of that stands at once, and `without` does not."""
        return await self.wait_until(
            lambda text: all(each in text for each in wanted) and not (without and without in text),
            f"{' and '.join(wanted)}{f' without {without}' if without else ''}",
            seconds,
        )

    async def wait_until(self, is_reached: Callable[[str], bool], description: str, seconds: float = TIMEOUT) -> str:
        """The first screen of which something holds."""
        try:
            async with asyncio.timeout(seconds):
                while not is_reached(text := self.text):
                    assert not self._is_closed, f"the program has ended without: {description}\n{self.text}"
                    self._read_available.clear()
                    await self._read_available.wait()
        except TimeoutError:
            raise AssertionError(f"not on the screen within {seconds:.0f} s: {description}\n{self.text}") from None
        return text

    async def wait_for_exit(self, seconds: float = TIMEOUT) -> int:
        """The exit code; what the program still writes is taken from it meanwhile."""
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), seconds)


@contextlib.asynccontextmanager
async def run_in_emulator(
    argv: Sequence[str], env: Mapping[str, str], *, columns: int = 80, rows: int = 24
) -> AsyncIterator[Emulator]:
    """Runs a program in a terminal; it is killed at the end where it has not ended by itself."""
    terminal = Emulator(argv, env, columns, rows)
    loop = asyncio.get_running_loop()
    loop.add_reader(terminal.master, terminal.draw_output)
    try:
        yield terminal
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.process.wait()
        loop.remove_reader(terminal.master)
        os.close(terminal.master)

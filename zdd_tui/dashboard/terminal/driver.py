"""Textual's driver for terminals, made safe for slow lines, plain ASCII, and processes that are stopped and go on."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

from zdd_tui.dashboard.terminal.ansi_writer import RESET, AnsiWrite
from zdd_tui.dashboard.terminal.ascii import to_ascii
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.terminal.output_queue import OutputQueue, restore_when_readable

MAX_PENDING_SECONDS = 0.3
"""A terminal that has not taken what was written so long ago gets no new picture."""

MAX_PENDING_BYTES = 64 * 1024

CLOSE_TIMEOUT = 1.0
"""So long the end, or a stop, waits for a terminal to take what is left."""

_BEGIN_FRAME, _END_FRAME = "\x1b[?2026h", "\x1b[?2026l"


@runtime_checkable
class DriverHost(Protocol):
    """The application that this driver serves."""

    display_options: DisplayOptions
    terminal: "ZddDriver | None"


class ZddDriver(LinuxDriver):
    """Never makes the event loop wait for the terminal.

    A picture that comes while the terminal is behind is left out, and :meth:`take_dropped` says so once it has caught up:
    then the whole screen is to be drawn again. The application draws nothing new while :attr:`is_behind`.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | Size | None = None
    ) -> None:
        stream = sys.__stderr__
        assert stream is not None
        self._output = OutputQueue(stream.fileno())
        assert isinstance(app, DriverHost)
        self._ascii = app.display_options.ascii
        app.terminal = self
        self._is_switching_mode = False
        self._sgr = ""
        self._is_in_frame = False
        self._is_dropping_frame = False
        self._has_dropped = False
        self._is_stopped = True
        self._restore_sequences: list[str] = []
        super().__init__(app, debug=debug, mouse=mouse, size=size)

    @property
    def is_behind(self) -> bool:
        """The terminal does not keep up."""
        return self._output.pending_bytes > MAX_PENDING_BYTES or self._output.pending_seconds() > MAX_PENDING_SECONDS

    def take_dropped(self) -> bool:
        """Whether pictures were left out since the last call, and the terminal could take one again."""
        if not self._has_dropped or self.is_behind:
            return False
        self._has_dropped = False
        return True

    def write(self, data: str) -> None:
        """Queues it, or leaves it out while the terminal is behind; a picture goes as a whole or not at all."""
        if self._is_stopped:
            if self._is_switching_mode:
                self._restore_sequences.append(self._with_sgr_reset(data))
            return
        if self._is_switching_mode:
            pass
        elif data == _BEGIN_FRAME:
            self._is_in_frame, self._is_dropping_frame = True, self.is_behind
        elif not self._is_in_frame and self.is_behind:
            self._has_dropped = True
            return
        left_out = self._is_dropping_frame
        if data == _END_FRAME:
            self._is_in_frame = self._is_dropping_frame = False
        if left_out:
            self._has_dropped = True
            return
        self._send(self._with_sgr_reset(data))

    def draw(self, encode: Callable[[str], AnsiWrite]) -> None:
        """Queues cells, written for the pen that the terminal has; leaves them out while the terminal is behind."""
        if self._is_stopped:
            return
        if self.is_behind:
            self._has_dropped = True
            return
        written = encode(self._sgr)
        self._sgr = written.sgr
        self._send(written.text)

    def _with_sgr_reset(self, data: str) -> str:
        """Whoever else writes finds a pen without colours."""
        sgr, self._sgr = self._sgr, ""
        return RESET + data if sgr else data

    def _send(self, data: str) -> None:
        self._output.write((to_ascii(data) if self._ascii else data).encode("utf-8", "replace"))

    def send_sequence(self, sequence: str) -> None:
        """Queues what no later picture would hold, such as a bell: only a stalled terminal goes without it."""
        if not self._is_stopped and self._output.pending_bytes <= MAX_PENDING_BYTES:
            self._output.write(self._with_sgr_reset(sequence).encode("utf-8", "replace"))

    def start_application_mode(self) -> None:
        self._is_switching_mode, self._is_stopped = True, False
        try:
            super().start_application_mode()  # type: ignore[no-untyped-call]
        finally:
            self._is_switching_mode = False

    def stop_application_mode(self) -> None:
        self._is_switching_mode, self._is_stopped = True, True
        try:
            super().stop_application_mode()
        finally:
            self._is_switching_mode = False

    def close(self) -> None:
        """Writes what gives the terminal back, whether it has read all before or not."""
        last, self._restore_sequences = "".join(self._restore_sequences), []
        if not self._output.close(CLOSE_TIMEOUT, last.encode()):
            restore_when_readable(self._output.descriptor, last)
        super().close()

    @property
    def can_suspend(self) -> bool:
        """There is a shell that would take the terminal, and could bring us back."""
        return not _is_job_orphaned()

    def _sigtstp_application(self, *_: object) -> None:
        """Stops the whole job, as a terminal itself would: the shell waits for `make` or `zdd demo`, not for us."""
        if not self.can_suspend:
            return
        if self._auto_restart:
            self.suspend_application_mode()
            self._must_signal_resume = True
        os.killpg(0, signal.SIGSTOP)

    def _sigcont_application(self, *_: object) -> None:
        """Textual would start a second time where the process was stopped without being asked (SIGSTOP)."""
        if self._is_stopped:
            super()._sigcont_application()
        self._has_dropped = True  # somebody else may have written over the screen


def _is_job_orphaned() -> bool:
    """Whether no process of our session watches our job from outside of it (POSIX: an orphaned process group)."""
    job, session, pid = os.getpgrp(), os.getsid(0), os.getppid()
    while pid > 1:
        try:
            if os.getsid(pid) != session:
                return True
            if os.getpgid(pid) != job:
                return False
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            return True
    return True

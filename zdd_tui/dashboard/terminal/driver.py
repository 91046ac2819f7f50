"""Textual's driver for terminals, made safe for slow lines, plain ASCII, and processes that are stopped and go on."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

from zdd_tui.dashboard.terminal.ansi_writer import RESET, Writing
from zdd_tui.dashboard.terminal.ascii import to_ascii
from zdd_tui.dashboard.terminal.display_options import Look
from zdd_tui.dashboard.terminal.output_queue import Outlet, last_words

BEHIND_SECONDS = 0.3
"""A terminal that has not taken what was written so long ago gets no new picture."""

BEHIND_BYTES = 64 * 1024

LAST_SECONDS = 1.0
"""So long the end, or a stop, waits for a terminal to take what is left."""

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"


@runtime_checkable
class Host(Protocol):
    """The application that this driver serves."""

    look: Look
    terminal: "ZddDriver | None"


class ZddDriver(LinuxDriver):
    """Never makes the event loop wait for the terminal.

    A picture that comes while the terminal is behind is left out, and :meth:`take_lost` says so once it has caught up:
    then the whole screen is to be drawn again. The application draws nothing new while :attr:`behind`.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | Size | None = None
    ) -> None:
        stream = sys.__stderr__
        assert stream is not None
        self._outlet = Outlet(stream.fileno())
        assert isinstance(app, Host)
        self._ascii = app.look.ascii
        app.terminal = self
        self._vital = False
        self._pen = ""
        self._within = False
        self._leaving_out = False
        self._lost = False
        self._stopped = True
        self._parting: list[str] = []
        super().__init__(app, debug=debug, mouse=mouse, size=size)

    @property
    def behind(self) -> bool:
        """The terminal does not keep up."""
        return self._outlet.waiting > BEHIND_BYTES or self._outlet.waited() > BEHIND_SECONDS

    def take_lost(self) -> bool:
        """Whether pictures were left out since the last call, and the terminal could take one again."""
        if not self._lost or self.behind:
            return False
        self._lost = False
        return True

    def write(self, data: str) -> None:
        """Queues it, or leaves it out while the terminal is behind; a picture goes as a whole or not at all."""
        if self._stopped:
            if self._vital:
                self._parting.append(self._wiped(data))
            return
        if self._vital:
            pass
        elif data == _BEGIN:
            self._within, self._leaving_out = True, self.behind
        elif not self._within and self.behind:
            self._lost = True
            return
        left_out = self._leaving_out
        if data == _END:
            self._within = self._leaving_out = False
        if left_out:
            self._lost = True
            return
        self._send(self._wiped(data))

    def draw(self, writing: Callable[[str], Writing]) -> None:
        """Queues cells, written for the pen that the terminal has; leaves them out while the terminal is behind."""
        if self._stopped:
            return
        if self.behind:
            self._lost = True
            return
        written = writing(self._pen)
        self._pen = written.pen
        self._send(written.text)

    def _wiped(self, data: str) -> str:
        """Whoever else writes finds a pen without colours."""
        pen, self._pen = self._pen, ""
        return RESET + data if pen else data

    def _send(self, data: str) -> None:
        self._outlet.write((to_ascii(data) if self._ascii else data).encode("utf-8", "replace"))

    def say(self, sequence: str) -> None:
        """Queues what no later picture would hold, such as a bell: only a stalled terminal goes without it."""
        if not self._stopped and self._outlet.waiting <= BEHIND_BYTES:
            self._outlet.write(self._wiped(sequence).encode("utf-8", "replace"))

    def start_application_mode(self) -> None:
        self._vital, self._stopped = True, False
        try:
            super().start_application_mode()  # type: ignore[no-untyped-call]
        finally:
            self._vital = False

    def stop_application_mode(self) -> None:
        self._vital, self._stopped = True, True
        try:
            super().stop_application_mode()
        finally:
            self._vital = False

    def close(self) -> None:
        """Writes what gives the terminal back, whether it has read all before or not."""
        last, self._parting = "".join(self._parting), []
        if not self._outlet.close(LAST_SECONDS, last.encode()):
            last_words(self._outlet.descriptor, last)
        super().close()

    @property
    def can_suspend(self) -> bool:
        """There is a shell that would take the terminal, and could bring us back."""
        return not _orphaned()

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
        if self._stopped:
            super()._sigcont_application()
        self._lost = True  # somebody else may have written over the screen


def _orphaned() -> bool:
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

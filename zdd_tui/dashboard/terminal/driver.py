"""Textual's Linux driver with bounded input, an output queue, ASCII output, and job control.

Job control works below `make` or `zdd demo`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from rich.color import ColorSystem
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

from zdd_tui.dashboard.terminal.ansi_writer import RESET, Piece, encode_pieces
from zdd_tui.dashboard.terminal.ascii import to_ascii
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.terminal.input import CAN_READ_INPUT, read_input
from zdd_tui.dashboard.terminal.output_queue import OutputQueue, restore_when_readable

MAX_PENDING_SECONDS = 0.3
"""A terminal that has not taken output of this age is behind: it gets no new frame."""

MAX_PENDING_BYTES = 64 * 1024

CLOSE_TIMEOUT = 1.0
"""Seconds that quitting or suspending waits for the terminal to take the remaining output."""

_BEGIN_FRAME, _END_FRAME = "\x1b[?2026h", "\x1b[?2026l"


@runtime_checkable
class DriverHost(Protocol):
    """The application that this driver serves."""

    display_options: DisplayOptions
    terminal: "ZddDriver | None"


class ZddDriver(LinuxDriver):
    """A driver that never blocks the event loop.

    Frames are dropped while the terminal is behind. :meth:`take_dropped` reports it when the terminal has caught up:
    the application must then repaint the whole screen. It must not paint while :attr:`is_behind`.
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
        self._resumes_automatically = True
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._host, self._ui_loop = app, asyncio.get_running_loop()
        # Replaces the handlers that Textual has just installed.
        signal.signal(signal.SIGTSTP, self._on_suspend_signal)
        signal.signal(signal.SIGCONT, self._on_continue_signal)

    @property
    def is_behind(self) -> bool:
        """Whether the terminal does not keep up."""
        return self._output.pending_bytes > MAX_PENDING_BYTES or self._output.pending_seconds() > MAX_PENDING_SECONDS

    def take_dropped(self) -> bool:
        """Whether output was dropped since the last call and the terminal has caught up."""
        if not self._has_dropped or self.is_behind:
            return False
        self._has_dropped = False
        return True

    def write(self, data: str) -> None:
        """Queues output, or drops it while the terminal is behind. A frame is sent as a whole or not at all."""
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
        is_dropped = self._is_dropping_frame
        if data == _END_FRAME:
            self._is_in_frame = self._is_dropping_frame = False
        if is_dropped:
            self._has_dropped = True
            return
        self._send(self._with_sgr_reset(data))

    def draw(self, pieces: Iterable[Piece], columns: int, colours: ColorSystem) -> None:
        """Queues cells, encoded for the terminal's current SGR state; drops them while the terminal is behind."""
        if self._is_stopped:
            return
        if self.is_behind:
            self._has_dropped = True
            return
        encoded = encode_pieces(pieces, columns, colours, self._sgr)
        self._sgr = encoded.sgr
        self._send(encoded.text)

    def _with_sgr_reset(self, data: str) -> str:
        """Output of Textual expects the default style."""
        sgr, self._sgr = self._sgr, ""
        return RESET + data if sgr else data

    def _send(self, data: str) -> None:
        self._output.write((to_ascii(data) if self._ascii else data).encode("utf-8", "replace"))

    def send_sequence(self, sequence: str) -> None:
        """Queues a sequence that no later frame repeats, such as a bell; drops it only for a stalled terminal."""
        if not self._is_stopped and self._output.pending_bytes <= MAX_PENDING_BYTES:
            self._output.write(self._with_sgr_reset(sequence).encode("utf-8", "replace"))

    def run_input_thread(self) -> None:
        """In place of Textual's, which takes a paste without end."""
        if CAN_READ_INPUT:
            read_input(self.fileno, self.exit_event, self.process_message)
        else:
            super().run_input_thread()

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
        """Writes the sequences that restore the terminal, even where earlier output is still pending."""
        last, self._restore_sequences = "".join(self._restore_sequences), []
        if not self._output.close(CLOSE_TIMEOUT, last.encode()):
            restore_when_readable(self._output.descriptor, last)
        super().close()

    @property
    def can_suspend(self) -> bool:
        """Whether a shell would take the terminal and could resume this job."""
        return not _is_job_orphaned()

    @contextmanager
    def no_automatic_restart(self) -> Iterator[None]:
        resumes, self._resumes_automatically = self._resumes_automatically, False
        try:
            with super().no_automatic_restart():
                yield
        finally:
            self._resumes_automatically = resumes

    def _on_suspend_signal(self, *_: object) -> None:
        """Stops the whole job, as a terminal would: the shell waits for `make` or `zdd demo`, not for this process."""
        if not self.can_suspend:
            return
        if self._resumes_automatically:
            self.suspend_application_mode()
        os.killpg(0, signal.SIGSTOP)

    def _on_continue_signal(self, *_: object) -> None:
        """Starts again what SIGTSTP has stopped. After a bare SIGSTOP the application still runs."""
        if self._is_stopped and self._resumes_automatically:
            self.resume_application_mode()
            self._ui_loop.call_soon_threadsafe(self._host.post_message, self.SignalResume())
        self._has_dropped = True  # another program may have written to the screen


def _is_job_orphaned() -> bool:
    """Whether no process of this session watches this job from outside of it (POSIX: an orphaned process group)."""
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

"""Ends the dashboard when its terminal is closed or a signal arrives, whatever the terminal's state.

Textual handles neither SIGHUP nor a closed stdin (its input thread would spin), and a terminal that takes no output may
block its event loop. So an orderly shutdown has a timeout: after it the process exits at once.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

SHUTDOWN_TIMEOUT = 2.0
"""Seconds that an orderly shutdown may take."""

_SIGNALS = (signal.SIGHUP, signal.SIGTERM)
_POLL_MS = 250


class TerminalWatcher:
    """Watches signals and stdin while the dashboard runs.

    Args:
        on_end: starts an orderly shutdown; called at most once, from any thread, with the number of the signal.
    """

    def __init__(self, on_end: Callable[[int], None]) -> None:
        self._on_end = on_end
        self._stopped = threading.Event()
        self._is_end_requested = False
        self._previous_handlers: dict[int, Any] = {}
        self._terminals = [number for number in (0, 1, 2) if os.isatty(number)]
        self._attributes: list[Any] | None = None
        self.signal = 0
        """The signal that ended the program, SIGHUP for a closed terminal; 0 if none."""

    def __enter__(self) -> Self:
        with contextlib.suppress(termios.error, OSError, ValueError):
            self._attributes = termios.tcgetattr(sys.stdin.fileno())
        for number in _SIGNALS:
            self._previous_handlers[number] = signal.signal(number, lambda number, _frame: self._request_end(number))
        threading.Thread(target=self._watch_stdin, name="zdd-terminal", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._redirect_stalled_output()

    def _redirect_stalled_output(self) -> None:
        """Sends later output to the null device if the terminal is closed or stalled: it must not fail or block."""
        for descriptor in self._terminals:
            if not _is_writable(descriptor):
                with open(os.devnull, "r+b") as null:
                    os.dup2(null.fileno(), descriptor)

    def _watch_stdin(self) -> None:
        try:
            poll = select.poll()
            poll.register(sys.stdin.fileno(), 0)  # a hang-up is always reported
        except (OSError, ValueError):
            self._request_end(signal.SIGHUP)
            return
        while not self._stopped.is_set():
            if poll.poll(_POLL_MS):
                self._request_end(signal.SIGHUP)
                return

    def _request_end(self, number: int) -> None:
        if self._is_end_requested or self._stopped.is_set():
            return
        self._is_end_requested = True
        self.signal = number
        threading.Thread(target=self._exit_after_timeout, name="zdd-deadline", daemon=True).start()
        self._on_end(number)

    def _exit_after_timeout(self) -> None:
        if self._stopped.wait(SHUTDOWN_TIMEOUT):
            return
        # A terminal that takes no output blocks the event loop. The release is not affected: the agent runs it.
        with contextlib.suppress(termios.error, OSError, ValueError):
            if self._attributes is not None:
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._attributes)
        os._exit(128 + self.signal)


def _is_writable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLOUT and not event & select.POLLHUP for _, event in poll.poll(0))

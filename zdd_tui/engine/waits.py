"""Reports what the agent waits for, within 3 s: in the note of a step, and in the audit where no step runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.engine.context import StepHandle
from zdd_tui.model.errors import BackendError
from zdd_tui.model.release.claims import FRESH_SECONDS, format_silence
from zdd_tui.model.release.records import AGENT_CONTINUES, AGENT_WAITS, WAITS_NOTE, NewEvent
from zdd_tui.model.release.system import System

NOTE_INTERVAL = 1.0
"""Seconds between two notes of a silence that lasts."""


class SilenceNotes:
    """The note of a step that waits for a system: since when that is unavailable, and the last error."""

    def __init__(self, step: StepHandle, system: System) -> None:
        self._step, self._system = step, system
        self._loop = asyncio.get_running_loop()
        self._error = ""
        self._responded_at = self._loop.time()

    def note_response(self) -> float:
        """The system has responded. Returns for how many seconds it was unavailable, by an error of it; else 0."""
        lasted = self._loop.time() - self._responded_at if self._error else 0.0
        self._responded_at, self._error = self._loop.time(), ""
        return lasted

    def note_error(self, error: BackendError) -> None:
        """An attempt has failed: the notes name the error."""
        self._error = error.title

    async def write(self, what_else: str = "") -> None:
        """Writes the note now.

        Args:
            what_else: follows the duration.
        """
        seconds = self._loop.time() - self._responded_at
        if seconds > 60.0:  # an outage may last for hours, and each note is a write
            seconds -= seconds % 10.0
        error = self._error or "no response"
        await self._step.set_note(
            f"{WAITS_NOTE}{self._system}: unavailable for {format_silence(seconds)}{what_else}: {error}"
        )

    @asynccontextmanager
    async def note_while_silent(self) -> AsyncIterator[None]:
        """Writes the note again and again while the block runs and the system has not responded for three seconds."""
        async with _meanwhile(self._note):
            yield

    async def _note(self) -> None:
        await asyncio.sleep(max(0.0, self._responded_at + FRESH_SECONDS - self._loop.time()))
        while True:
            await self.write()
            await asyncio.sleep(NOTE_INTERVAL)


class WaitReport:
    """What the audit says about a wait of the agent: each new reason once, and that the wait has ended."""

    def __init__(self, store: AgentStore, log: Callable[[str], None], subject: str) -> None:
        self._store, self._log, self._subject = store, log, subject
        self._reported = ""

    async def report(self, title: str, text: str = "") -> None:
        """Reports why the agent waits.

        Args:
            title: the reason in one line; the same one is reported once.
            text: the reason in full.
        """
        if title != self._reported:
            self._reported = title
            self._log(f"waiting for {self._subject}: {text or title}")
            await self._store.append_events([NewEvent("error", f"{AGENT_WAITS}{self._subject}: {text or title}")])

    async def report_later(self, title: str) -> None:
        """Reports why the agent waits, once a reading would no longer be current; not where a reason was reported."""
        await asyncio.sleep(FRESH_SECONDS)
        if not self._reported:
            await self.report(title)

    async def end(self) -> None:
        """The agent no longer waits."""
        if self._reported:
            await self._store.append_events([NewEvent("lease", f"{AGENT_CONTINUES}{self._subject}")])


@asynccontextmanager
async def report_wait(
    store: AgentStore, log: Callable[[str], None], subject: str, why: str = "no response"
) -> AsyncIterator[WaitReport]:
    """Reports that the agent waits for what the block does, once that has lasted for three seconds.

    Args:
        subject: the system, or what the agent does.
        why: the reason that is reported then.
    """
    report = WaitReport(store, log, subject)
    try:
        async with _meanwhile(lambda: report.report_later(why)):
            yield report
    except asyncio.CancelledError:  # the next session begins with the next lease, which ends every wait
        raise
    except BaseException:
        await report.end()
        raise
    await report.end()


@asynccontextmanager
async def _meanwhile(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Runs ``work`` until the block ends. An error of it is dropped: the block uses the same database and meets it."""
    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

"""Drives a release as an operator would, by commands through the store, and measures it."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.commands import build_precondition
from zdd_tui.cli.status import format_status, wait_result
from zdd_tui.demo.environment import POLL_INTERVAL, Environment
from zdd_tui.model.errors import StepFailed, ZddError
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, ReleaseState, closed_gates
from zdd_tui.model.release.summary import has_no_agent

RecordCallback = Callable[[ReleaseRecord], None]

COMMAND_TIMEOUT = 30.0
PHASE_TIMEOUT = 120.0


class ReleaseDriver:
    """One release of the environment's plan, from planned to its end.

    Args:
        progress: called with every state that is read.

    Attributes:
        phase_seconds: duration of each phase that has been run, in seconds.
    """

    def __init__(self, env: Environment, store: Store, progress: RecordCallback) -> None:
        self._env = env
        self._store = store
        self._progress = progress
        self.release_id = 0
        self.phase_seconds: dict[str, float] = {}

    async def start_release(self) -> None:
        """Starts an agent and waits until it has registered a release that has not begun."""
        self._env.start_agent("--new")
        record = await self.wait_until(
            lambda record: record.release.state is ReleaseState.PLANNED and not has_no_agent(record.lease)
        )
        self.release_id = record.id

    async def run_phase(self, phase: str) -> None:
        """Runs the next phase until its gates are open."""
        began = time.monotonic()
        await self.start_phase(phase)
        await self.wait_for_phase(phase)
        self.phase_seconds[phase] = round(time.monotonic() - began, 2)

    async def start_phase(self, phase: str) -> None:
        """Sends the advance into a phase and returns when the agent has accepted it."""
        # Before the first phase there may be gates, too.
        record = await self.wait_until(
            lambda record: (
                record.release.state is not ReleaseState.PLANNED
                or not closed_gates(record.release, record.gates, record.now)
            )
        )
        assert record.release.next_phase is not None
        assert record.release.next_phase.name == phase, f"{phase} is not next"
        await self.run_command(CommandKind.ADVANCE, typed=record.release.name)

    async def wait_for_phase(self, phase: str) -> None:
        """Waits until a phase may be left; for the last one, until the release is done."""
        await self.wait_until(
            lambda record: (
                wait_result(record, ReleaseState.DONE.value if record.release.next_phase is None else phase) == 0
            )
        )

    async def run_command(self, kind: CommandKind, *, typed: str | None = None) -> None:
        """Sends one command.

        Raises:
            ZddError: it was refused, or no agent answered.
        """
        answer = await self.send_command(kind, typed=typed)
        if answer.status != "done":
            raise ZddError(f"{kind} was refused: {answer.outcome}")

    async def send_command(self, kind: CommandKind, *, typed: str | None = None) -> StoredCommand:
        """Sends one command and returns it with its outcome, refused or not."""
        record = await self.read_record()
        request = CommandRequest(kind, "demo", build_precondition(record), typed)
        sent = await self._store.send_command(self.release_id, request, actor=this_actor())
        return await self._store.wait_command(sent, COMMAND_TIMEOUT)

    async def roll_back(self) -> float:
        """Rolls back and waits until it is done; returns seconds."""
        began = time.monotonic()
        await self.run_command(CommandKind.ROLLBACK)
        await self.wait_until(lambda record: record.release.state is ReleaseState.ROLLED_BACK)
        return time.monotonic() - began

    async def wait_for_backfill(self, at_least: float) -> ReleaseRecord:
        """Waits until a share of the backfill, from 0 to 1, is done."""
        return await self.wait_until(
            lambda record: (
                record.backfill is not None
                and record.backfill.rows_done >= at_least * max(1, record.backfill.rows_total)
            )
        )

    async def pause_and_resume(self) -> dict[str, Any]:
        """Pauses the backfill, counts the rows that still move, and resumes it."""
        began = time.monotonic()
        await self.run_command(CommandKind.PAUSE)
        accepted = time.monotonic() - began
        await asyncio.sleep(0.5)  # the batch in progress may end
        paused = _rows_done(await self.read_record())
        await asyncio.sleep(1.0)
        moved = _rows_done(await self.read_record()) - paused
        await self.run_command(CommandKind.RESUME)
        return {"accepted_seconds": round(accepted, 3), "rows_when_paused": paused, "rows_moved_while_paused": moved}

    async def kill_agent(self) -> dict[str, Any]:
        """Kills the agent with SIGKILL, starts another, and waits until that one holds the lease.

        Returns:
            takeover_seconds: from the kill until the other agent held the lease.
            rows_at_kill: rows that the backfill had moved; this and the next only where there is a backfill.
            resumed_seconds: from the kill until the backfill moved rows again.
        """
        before = await self.read_record()
        assert before.lease is not None
        epoch = before.lease.epoch
        await self._env.stop("agent", signal.SIGKILL)
        killed_at = time.monotonic()
        rows = _rows_done(await self.read_record())
        self._env.start_agent()
        await self.wait_until(
            lambda record: record.lease is not None and record.lease.epoch > epoch and record.lease.is_live
        )
        result: dict[str, Any] = {"takeover_seconds": round(time.monotonic() - killed_at, 2)}
        if before.backfill is not None:
            await self.wait_until(
                lambda record: _rows_done(record) > rows or record.release.state is ReleaseState.WAITING
            )
            result |= {"rows_at_kill": rows, "resumed_seconds": round(time.monotonic() - killed_at, 2)}
        return result

    async def phase_names(self) -> tuple[str, ...]:
        """The phases of the release, in order."""
        return tuple(phase.name for phase in (await self.read_record()).release.strategy.phases)

    async def read_record(self) -> ReleaseRecord:
        return await self._store.read_release(self.release_id)

    async def wait_until(
        self, is_reached: Callable[[ReleaseRecord], bool], timeout: float = PHASE_TIMEOUT
    ) -> ReleaseRecord:
        """Polls the release until a condition holds.

        Raises:
            StepFailed: a step failed.
            ZddError: it did not hold within ``timeout`` seconds; shows the release's status.
        """
        deadline = time.monotonic() + timeout
        record: ReleaseRecord | None = None
        while time.monotonic() < deadline:
            release_id = self.release_id or await self._find_release()
            if release_id:
                record = await self._store.read_release(release_id)
                self._progress(record)
                if is_reached(record):
                    return record
                if record.release.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED):
                    raise StepFailed(record.release.error)
            await asyncio.sleep(POLL_INTERVAL)
        status = format_status(record) if record else "no release was registered"
        raise ZddError(f"no progress for {timeout:.0f} s:\n{status}", "see the agent's log; `zdd demo --keep` keeps it")

    async def _find_release(self) -> int:
        """The release that the new agent has registered; older ones of the name have ended. 0 before that."""
        if not await self._store.schema_version():
            return 0
        release_id = await self._store.find_release(self._env.options.name)
        if not release_id or (await self._store.read_release(release_id)).release.state.has_ended:
            return 0
        return release_id


def _rows_done(record: ReleaseRecord) -> int:
    return record.backfill.rows_done if record.backfill else 0


class ProgressLog:
    """Progress on stderr: a line for each change of phase and state, and for each tenth of the backfill."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def log(self, text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f}s  {text}\n")
        sys.stderr.flush()

    def log_record(self, record: ReleaseRecord) -> None:
        release = record.release
        phase = release.current_phase.name if release.current_phase else "before the first phase"
        text = f"{phase}: {release.state}"
        if (backfill := record.backfill) is not None and phase == "backfill" and backfill.rows_total:
            tenth = 10 * min(backfill.rows_done, backfill.rows_total) // backfill.rows_total
            text += f" {10 * tenth}%" + (", paused" if release.paused else "")
        if text != self._last:
            self._last = text
            self.log(text)

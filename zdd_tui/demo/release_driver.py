"""Walks a release as an operator would, by commands through the store, and measures on the way."""

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
from zdd_tui.demo.environment import Environment
from zdd_tui.model.errors import StepFailed, ZddError
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, ReleaseState

RecordCallback = Callable[[ReleaseRecord], None]

ANSWER_TIMEOUT = 30.0
PHASE_TIMEOUT = 120.0


class ReleaseDriver:
    """One release of the environment's plan, from planned to its end.

    Args:
        progress: called with every state that is seen.
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
            lambda record: record.release.state is ReleaseState.PLANNED and _has_live_agent(record)
        )
        self.release_id = record.id

    async def run_phase(self, phase: str) -> None:
        """Runs the next phase until its gates are open; its duration in seconds goes to ``phases``."""
        began = time.monotonic()
        await self.start_phase(phase)
        await self.wait_for_phase(phase)
        self.phase_seconds[phase] = round(time.monotonic() - began, 2)

    async def start_phase(self, phase: str) -> None:
        """Sends the advance into a phase and returns when the agent has taken it."""
        record = await self.read_record()
        assert record.release.next_phase is not None
        assert record.release.next_phase.name == phase, f"{phase} is not next"
        await self.run_command(CommandKind.ADVANCE, typed=record.release.name)

    async def wait_for_phase(self, phase: str) -> None:
        """Waits until a phase may be left; the last one until the release is done."""
        await self.wait_until(
            lambda record: (
                wait_result(record, ReleaseState.DONE.value if record.release.next_phase is None else phase) == 0
            )
        )

    async def run_command(self, kind: CommandKind, *, typed: str | None = None) -> None:
        """Sends one command.

        Raises:
            ZddError: it was refused, or nobody answered.
        """
        answer = await self.send_command(kind, typed=typed)
        if answer.status != "done":
            raise ZddError(f"{kind} was refused: {answer.outcome}")

    async def send_command(self, kind: CommandKind, *, typed: str | None = None) -> StoredCommand:
        """Sends one command and returns what became of it, refused or not."""
        record = await self.read_record()
        request = CommandRequest(kind, "demo", build_precondition(record), typed)
        sent = await self._store.send_command(self.release_id, request, actor=this_actor())
        return await self._store.wait_command(sent, ANSWER_TIMEOUT)

    async def roll_back(self) -> float:
        """Rolls back and waits for the end of it; returns seconds."""
        began = time.monotonic()
        await self.run_command(CommandKind.ROLLBACK)
        await self.wait_until(lambda record: record.release.state is ReleaseState.ROLLED_BACK)
        return time.monotonic() - began

    async def wait_for_backfill(self, at_least: float) -> ReleaseRecord:
        """Waits until a share of the backfill is done."""
        return await self.wait_until(
            lambda record: (
                record.backfill is not None
                and record.backfill.rows_done >= at_least * max(1, record.backfill.rows_total)
            )
        )

    async def pause_and_resume(self) -> dict[str, Any]:
        """Pauses the backfill in the middle: nothing may move until it is resumed."""
        began = time.monotonic()
        await self.run_command(CommandKind.PAUSE)
        answered = time.monotonic() - began
        await asyncio.sleep(0.5)  # the batch that was under way may end
        still = await self.read_record()
        await asyncio.sleep(1.0)
        later = await self.read_record()
        await self.run_command(CommandKind.RESUME)
        return {
            "answered_seconds": round(answered, 3),
            "rows_when_paused": _rows_done(still),
            "rows_moved_while_paused": _rows_done(later) - _rows_done(still),
        }

    async def kill_agent(self) -> dict[str, Any]:
        """SIGKILL to the agent; another is started, and goes on with the batch after the last checkpoint."""
        killed, at_kill, taken = await self.replace_agent()
        await self.wait_until(
            lambda record: _rows_done(record) > at_kill or record.release.state is ReleaseState.WAITING
        )
        return {
            "rows_at_kill": at_kill,
            "takeover_seconds": taken,
            "going_on_seconds": round(time.monotonic() - killed, 2),
        }

    async def replace_agent(self) -> tuple[float, int, float]:
        """Kills the agent wherever it is and starts another.

        Returns:
            when it was killed (monotonic), rows that were moved by then, and after how many seconds the other held
            the lease.
        """
        before = await self.read_record()
        assert before.lease is not None
        await self._env.stop("agent", signal.SIGKILL)
        killed = time.monotonic()
        at_kill = _rows_done(await self.read_record())
        self._env.start_agent()
        epoch = before.lease.epoch
        await self.wait_until(
            lambda record: record.lease is not None and record.lease.epoch > epoch and _has_live_agent(record)
        )
        return killed, at_kill, round(time.monotonic() - killed, 2)

    async def phase_names(self) -> tuple[str, ...]:
        """The phases of the release, in order."""
        return tuple(phase.name for phase in (await self.read_record()).release.strategy.phases)

    async def read_record(self) -> ReleaseRecord:
        return await self._store.read_release(self.release_id)

    async def wait_until(self, is_reached: Callable[[ReleaseRecord], bool]) -> ReleaseRecord:
        """Looks until it is so.

        Raises:
            StepFailed: a step failed.
            ZddError: it took too long; names the gates that are closed.
        """
        deadline = time.monotonic() + PHASE_TIMEOUT
        seen: ReleaseRecord | None = None
        while time.monotonic() < deadline:
            release_id = self.release_id or await self._find_release()
            if release_id:
                seen = await self._store.read_release(release_id)
                self._progress(seen)
                if is_reached(seen):
                    return seen
                if seen.release.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED):
                    raise StepFailed(seen.release.error)
            await asyncio.sleep(0.1)
        status = format_status(seen) if seen else "no release was registered"
        raise ZddError(f"nothing moved for {PHASE_TIMEOUT:.0f} s:\n{status}", "see the agent's log; --keep keeps it")

    async def _find_release(self) -> int:
        """The release that the new agent has registered; an older one of the name has ended."""
        if not await self._store.schema_version():
            return 0
        found = await self._store.find_release(self._env.options.name)
        return found if found and not (await self._store.read_release(found)).release.state.has_ended else 0


def _has_live_agent(record: ReleaseRecord) -> bool:
    return record.lease is not None and record.lease.is_live


def _rows_done(record: ReleaseRecord) -> int:
    return record.backfill.rows_done if record.backfill else 0


# --- What the headless demo says while it walks.


class ProgressLog:
    """Progress on stderr: a line whenever something that a person would notice has changed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def log(self, text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f}s  {text}\n")
        sys.stderr.flush()

    def log_record(self, record: ReleaseRecord) -> None:
        release = record.release
        place = release.current_phase.name if release.current_phase else "before the first phase"
        text = f"{place}: {release.state}"
        if (backfill := record.backfill) is not None and place == "backfill" and backfill.rows_total:
            tenth = 10 * min(backfill.rows_done, backfill.rows_total) // backfill.rows_total
            text += f" {10 * tenth}%" + (", paused" if release.paused else "")
        if text != self._last:
            self._last = text
            self.log(text)

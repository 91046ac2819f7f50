"""Walks a release as an operator would, by commands through the store, and measures on the way."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.commands import expected_of
from zdd_tui.cli.status import arrived, as_text
from zdd_tui.demo.environment import Environment
from zdd_tui.model.errors import StepFailed, ZddError
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, State

Progress = Callable[[ReleaseRecord], None]

ANSWER_WITHIN = 30.0
PHASE_WITHIN = 120.0


class Walker:
    """One release of the environment's plan, from planned to its end.

    Args:
        progress: called with every state that is seen.
    """

    def __init__(self, env: Environment, store: Store, progress: Progress) -> None:
        self._env = env
        self._store = store
        self._progress = progress
        self.release_id = 0
        self.phases: dict[str, float] = {}

    async def begin(self) -> None:
        """Starts an agent and waits until it has registered a release that has not begun."""
        self._env.start_agent("--anew")
        record = await self.until(lambda record: record.release.state is State.PLANNED and _live(record))
        self.release_id = record.id

    async def advance(self, phase: str) -> None:
        """Runs the next phase until its gates are open; its duration in seconds goes to ``phases``."""
        began = time.monotonic()
        await self.enter(phase)
        await self.settle(phase)
        self.phases[phase] = round(time.monotonic() - began, 2)

    async def enter(self, phase: str) -> None:
        """Sends the advance into a phase and returns when the agent has taken it."""
        record = await self.record()
        assert record.release.next is not None
        assert record.release.next.name == phase, f"{phase} is not next"
        await self.command(CommandKind.ADVANCE, typed=record.release.name)

    async def settle(self, phase: str) -> None:
        """Waits until a phase may be left; the last one until the release is done."""
        await self.until(
            lambda record: arrived(record, State.DONE.value if record.release.next is None else phase) == 0
        )

    async def command(self, kind: CommandKind, *, typed: str | None = None) -> None:
        """Sends one command.

        Raises:
            ZddError: it was refused, or nobody answered.
        """
        answer = await self.ask(kind, typed=typed)
        if answer.status != "done":
            raise ZddError(f"{kind} was refused: {answer.outcome}")

    async def ask(self, kind: CommandKind, *, typed: str | None = None) -> StoredCommand:
        """Sends one command and returns what became of it, refused or not."""
        record = await self.record()
        request = CommandRequest(kind, "demo", expected_of(record), typed)
        sent = await self._store.send(self.release_id, request, actor=this_actor())
        return await self._store.wait_command(sent, ANSWER_WITHIN)

    async def rollback(self) -> float:
        """Rolls back and waits for the end of it; returns seconds."""
        began = time.monotonic()
        await self.command(CommandKind.ROLLBACK)
        await self.until(lambda record: record.release.state is State.ROLLED_BACK)
        return time.monotonic() - began

    async def rows_moved(self, at_least: float) -> ReleaseRecord:
        """Waits until a share of the backfill is done."""
        return await self.until(
            lambda record: (
                record.backfill is not None
                and record.backfill.rows_done >= at_least * max(1, record.backfill.rows_total)
            )
        )

    async def pause_and_resume(self) -> dict[str, Any]:
        """Pauses the backfill in the middle: nothing may move until it is resumed."""
        began = time.monotonic()
        await self.command(CommandKind.PAUSE)
        answered = time.monotonic() - began
        await asyncio.sleep(0.5)  # the batch that was under way may end
        still = await self.record()
        await asyncio.sleep(1.0)
        later = await self.record()
        await self.command(CommandKind.RESUME)
        return {
            "answered_seconds": round(answered, 3),
            "rows_when_paused": _rows(still),
            "rows_moved_while_paused": _rows(later) - _rows(still),
        }

    async def kill_agent(self) -> dict[str, Any]:
        """SIGKILL to the agent; another is started, and goes on with the batch after the last checkpoint."""
        killed, at_kill, taken = await self.replace_agent()
        await self.until(lambda record: _rows(record) > at_kill or record.release.state is State.WAITING)
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
        before = await self.record()
        assert before.lease is not None
        await self._env.end("agent", signal.SIGKILL)
        killed = time.monotonic()
        at_kill = _rows(await self.record())
        self._env.start_agent()
        epoch = before.lease.epoch
        await self.until(lambda record: record.lease is not None and record.lease.epoch > epoch and _live(record))
        return killed, at_kill, round(time.monotonic() - killed, 2)

    async def phase_names(self) -> tuple[str, ...]:
        """The phases of the release, in order."""
        return tuple(phase.name for phase in (await self.record()).release.strategy.phases)

    async def record(self) -> ReleaseRecord:
        return await self._store.read(self.release_id)

    async def until(self, there: Callable[[ReleaseRecord], bool]) -> ReleaseRecord:
        """Looks until it is so.

        Raises:
            StepFailed: a step failed.
            ZddError: it took too long; names the gates that are closed.
        """
        deadline = time.monotonic() + PHASE_WITHIN
        seen: ReleaseRecord | None = None
        while time.monotonic() < deadline:
            release_id = self.release_id or await self._found()
            if release_id:
                seen = await self._store.read(release_id)
                self._progress(seen)
                if there(seen):
                    return seen
                if seen.release.state in (State.FAILED, State.ROLLBACK_FAILED):
                    raise StepFailed(seen.release.error)
            await asyncio.sleep(0.1)
        status = as_text(seen) if seen else "no release was registered"
        raise ZddError(f"nothing moved for {PHASE_WITHIN:.0f} s:\n{status}", "see the agent's log; --keep keeps it")

    async def _found(self) -> int:
        """The release that the new agent has registered; an older one of the name has ended."""
        if not await self._store.schema_version():
            return 0
        found = await self._store.find(self._env.options.name)
        return found if found and not (await self._store.read(found)).release.state.ended else 0


def _live(record: ReleaseRecord) -> bool:
    return record.lease is not None and record.lease.live


def _rows(record: ReleaseRecord) -> int:
    return record.backfill.rows_done if record.backfill else 0


# --- What the headless demo says while it walks.


class Ticker:
    """Progress on stderr: a line whenever something that a person would notice has changed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last = ""

    def say(self, text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f}s  {text}\n")
        sys.stderr.flush()

    def show(self, record: ReleaseRecord) -> None:
        release = record.release
        place = release.current.name if release.current else "before the first phase"
        text = f"{place}: {release.state}"
        if (backfill := record.backfill) is not None and place == "backfill" and backfill.rows_total:
            tenth = 10 * min(backfill.rows_done, backfill.rows_total) // backfill.rows_total
            text += f" {10 * tenth}%" + (", paused" if release.paused else "")
        if text != self._last:
            self._last = text
            self.say(text)

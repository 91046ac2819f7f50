"""Carries out one piece of work: intent, effect, record. Cut off anywhere, it is simply done again."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any, Literal

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.model.errors import DatabaseUnavailable, StaleEpoch, ZddError
from zdd_tui.model.release.records import NewEvent, StepChange, StepRecord
from zdd_tui.model.release.state import PendingStep, Release, mark_step_failed, mark_step_finished, mark_step_started

StepHook = Callable[[Literal["started", "effect", "record"], PendingStep], None]
"""Called after each of the three; the kill tests end the process here."""


class ReleaseHolder:
    """The release's state in this process. Commands and steps change it, one at a time, under its lock."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.lock = asyncio.Lock()


class Runner:
    """Runs and undoes steps, one at a time."""

    def __init__(self, ctx: Context, holder: ReleaseHolder, hook: StepHook | None = None) -> None:
        self._ctx = ctx
        self._holder = holder
        self._hook: StepHook = hook or (lambda _at, _work: None)

    async def run_step(self, pending: PendingStep) -> None:
        """Does one piece of work.

        A failure of the step itself is recorded and returns. Without the lease or the database nothing can be
        recorded: that is raised, and the next tenure does the work again.
        """
        await self._record_start(pending)
        self._hook("started", pending)
        record = _DoneRecord(self._ctx, self._holder, pending)
        try:
            await self._run_effect(pending, record)
        except (StaleEpoch, DatabaseUnavailable):
            raise
        except Exception as error:
            record.close()  # its lock is not reentrant, and the failure is recorded under it
            if is_session_lost(error):
                raise
            await self._ctx.check_lease()  # a step that was cut off because the lease went away has not failed
            if not isinstance(error, ZddError | asyncpg.PostgresError | OSError):
                self._ctx.log("".join(traceback.format_exception(error)))
            await self._record_failure(pending, _describe_error(error))
            return
        finally:
            record.close()
        self._hook("record", pending)

    async def _run_effect(self, pending: PendingStep, record: "_DoneRecord") -> None:
        handle = await self._build_handle(pending, record)
        step = STEPS[pending.step.registry_key]
        await (step.run if pending.direction == "run" else step.undo)(self._ctx, handle)
        self._hook("effect", pending)
        if not record.is_written:
            await record.write()
        record.apply()

    async def _record_start(self, pending: PendingStep) -> None:
        async with self._holder.lock:
            after = mark_step_started(self._holder.release, pending)
            event = NewEvent("step", f"{_direction_verb(pending)} {pending.step.name} begins: {pending.step.label}")
            await self._ctx.store.save(after, events=[event], step=StepChange(pending.step.name, note="", error=""))
            self._holder.release = after

    async def _record_failure(self, pending: PendingStep, error: str) -> None:
        async with self._holder.lock:
            after = mark_step_failed(self._holder.release, pending, error)
            event = NewEvent("error", f"{_direction_verb(pending)} {pending.step.name} failed: {error}")
            await self._ctx.store.save(after, events=[event], step=StepChange(pending.step.name, note="", error=error))
            self._holder.release = after

    async def _build_handle(self, pending: PendingStep, record: "_DoneRecord") -> StepHandle:
        store, name = self._ctx.store, pending.step.name
        stored = next(
            (step for step in (await store.read()).steps if step.name == name),
            StepRecord(name, self._holder.release.status(name)),
        )

        async def save_detail(detail: dict[str, Any]) -> None:
            async with self._holder.lock:
                await store.save(self._holder.release, step=StepChange(name, detail=detail))

        return StepHandle(
            stored,
            value=pending.step.value,
            write_note=lambda text: store.save_step_note(name, text),
            write_detail=save_detail,
            write_done=record.write,
        )


class _DoneRecord:
    """The end of a step, written either alone or inside the transaction of its effect.

    In the second case the lock is kept from the write until that transaction has ended, so that no command
    can write an older state over it.
    """

    def __init__(self, ctx: Context, holder: ReleaseHolder, pending: PendingStep) -> None:
        self._ctx = ctx
        self._holder = holder
        self._pending = pending
        self._after: Release | None = None
        self._holds_lock = False

    @property
    def is_written(self) -> bool:
        return self._after is not None

    async def write(self, conn: Connection | None = None, detail: dict[str, Any] | None = None) -> None:
        if not self._holds_lock:
            await self._holder.lock.acquire()
            self._holds_lock = True
        before = self._holder.release
        after = mark_step_finished(before, self._pending)
        events = [NewEvent("step", f"{_direction_verb(self._pending)} {self._pending.step.name} done")]
        if after.state is not before.state:
            place = after.current_phase.name if after.current_phase else after.name
            events.append(NewEvent("phase", f"{place}: {after.state}"))
        change = StepChange(self._pending.step.name, note="", detail=detail)
        await self._ctx.store.save(after, conn=conn, events=events, step=change)
        self._after = after

    def apply(self) -> None:
        """The transaction has committed: the state in memory follows."""
        if self._after is not None:
            self._holder.release = self._after

    def close(self) -> None:
        if self._holds_lock:
            self._holder.lock.release()
            self._holds_lock = False


def _direction_verb(pending: PendingStep) -> str:
    return "run" if pending.direction == "run" else "undo"


def _describe_error(error: Exception) -> str:
    if isinstance(error, ZddError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"timed out{f': {error}' if str(error) else ''}"
    if isinstance(error, asyncpg.PostgresError | OSError):
        return f"{type(error).__name__}: {error}"
    # The text of a defect may hold anything, also a secret.
    return f"defect in zdd: {type(error).__name__}\n  mend: see the agent's log, please report it; then advance again"

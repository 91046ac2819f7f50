"""Runs or undoes one step: record the start, have the effect, record the end.

The order makes a step safe to interrupt anywhere: a step that was started and not finished is run again.
"""

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import asyncpg

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import find_system, is_outage, wait_for_system
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.engine.waits import SilenceNotes
from zdd_tui.model.errors import BackendError, DatabaseUnavailable, StaleEpoch, StepSuspended, ZddError, with_hint
from zdd_tui.model.release.condition import ConditionReading
from zdd_tui.model.release.records import NewEvent, StepChange, StepRecord
from zdd_tui.model.release.state import (
    PendingStep,
    Release,
    mark_step_failed,
    mark_step_finished,
    mark_step_started,
    mark_step_suspended,
)

LONGEST_REQUEST = 30.0
"""Seconds that a request to a silent system takes at most until it gives up."""

StepHook = Callable[[Literal["started", "effect", "record"], PendingStep], None]
"""Called after each of the three parts; the crash tests end the process there."""


class ReleaseHolder:
    """The release's state in this process. Commands and steps change it one at a time, under its lock.

    The standing conditions that are not met change without the lock, so that a breach stops progress at once.
    """

    def __init__(self, release: Release) -> None:
        self._release = release
        self.lock = asyncio.Lock()

    @property
    def release(self) -> Release:
        return self._release

    @release.setter
    def release(self, release: Release) -> None:
        self._release = replace(release, unmet=self._release.unmet)

    def set_unmet(self, unmet: tuple[ConditionReading, ...]) -> None:
        """Replaces the standing conditions that are not met."""
        self._release = replace(self._release, unmet=unmet)


class Runner:
    """Runs and undoes steps, one at a time."""

    def __init__(self, ctx: Context, holder: ReleaseHolder, hook: StepHook | None = None) -> None:
        self._ctx = ctx
        self._holder = holder
        self._hook: StepHook = hook or (lambda _at, _work: None)

    async def run_step(self, pending: PendingStep) -> None:
        """Runs or undoes a step and records the result. A failure of the step is a result, too.

        Raises:
            StaleEpoch, DatabaseUnavailable: nothing can be recorded. The next session runs the step again.
        """
        await self._record_start(pending)
        self._hook("started", pending)
        record = _DoneRecord(self._ctx, self._holder, pending)
        try:
            await self._run_through_outages(pending, record)
        except (StaleEpoch, DatabaseUnavailable):
            raise
        except StepSuspended:
            await self._record_suspension(pending)
            return
        except Exception as error:
            record.close()  # the failure is recorded under the same lock, which is not reentrant
            if is_session_lost(error):
                raise
            await self._ctx.check_lease()  # a step that was interrupted by the loss of the lease has not failed
            if not isinstance(error, ZddError | asyncpg.PostgresError | OSError):
                self._ctx.log("".join(traceback.format_exception(error)))
            await self._record_failure(pending, _describe_error(error, pending))
            return
        finally:
            record.close()
        self._hook("record", pending)

    async def _run_through_outages(self, pending: PendingStep, record: "_DoneRecord") -> None:
        """Runs the step again while a system does not respond that it reads without a retry of its own."""
        loop, backoff = asyncio.get_running_loop(), Backoff(0.2, 2.0)
        silence: SilenceNotes | None = None
        while True:
            handle, began = await self._build_handle(pending, record), loop.time()
            try:
                await self._run_effect(pending, handle, record)
                return
            except BackendError as error:
                if record.is_written or not is_outage(error):
                    raise
                await self._ctx.check_lease()
                if silence is None or loop.time() - began > LONGEST_REQUEST:  # it has responded meanwhile
                    silence = SilenceNotes(handle, find_system(error))
                await wait_for_system(self._ctx, handle, error, silence, backoff)

    async def _run_effect(self, pending: PendingStep, handle: StepHandle, record: "_DoneRecord") -> None:
        step = STEPS[pending.step.registry_key]
        await (step.run if pending.direction == "run" else step.undo)(self._ctx, handle)
        self._hook("effect", pending)
        if not record.is_written:
            await record.write()
        record.apply()

    async def _record_start(self, pending: PendingStep) -> None:
        async with self._holder.lock:
            after = mark_step_started(self._holder.release, pending)
            event = NewEvent("step", _describe_start(pending))
            await self._ctx.store.save(after, events=[event], step=StepChange(pending.step.name, note="", error=""))
            self._holder.release = after

    async def _record_suspension(self, pending: PendingStep) -> None:
        async with self._holder.lock:
            after = mark_step_suspended(self._holder.release, pending)
            event = NewEvent("step", f"run {pending.step.name} suspended: table {pending.step.table} is paused")
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
            is_undo=pending.direction == "undo",
            write_note=lambda text: store.save_step_note(name, text),
            write_detail=save_detail,
            write_done=record.write,
        )


class _DoneRecord:
    """The end of a step, written alone or in the transaction of its effect.

    In the second case the lock is held from the write until that transaction has ended, so that no command can
    overwrite it with an older state.
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
            position = after.current_phase.name if after.current_phase else after.name
            events.append(NewEvent("phase", f"{position}: {after.state}"))
        change = StepChange(self._pending.step.name, note="", detail=detail)
        await self._ctx.store.save(after, conn=conn, events=events, step=change)
        self._after = after

    def apply(self) -> None:
        """Updates the state in memory, after the transaction has committed."""
        if self._after is not None:
            self._holder.release = self._after

    def close(self) -> None:
        if self._holds_lock:
            self._holder.lock.release()
            self._holds_lock = False


def _direction_verb(pending: PendingStep) -> str:
    """The first word of the audit events of a step, which model/release/timeline.py reads."""
    return "run" if pending.direction == "run" else "revert"


def _describe_start(pending: PendingStep) -> str:
    text = f"{_direction_verb(pending)} {pending.step.name} begins"
    return f"{text}: {pending.step.label}" if pending.direction == "run" else text


def _describe_error(error: Exception, pending: PendingStep) -> str:
    if isinstance(error, ZddError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"timed out{f': {error}' if str(error) else ''}"
    if isinstance(error, asyncpg.PostgresError | OSError):
        return f"{type(error).__name__}: {error}"
    # The text of an unexpected error may hold anything, also a secret.
    again = "zdd advance PLAN" if pending.direction == "run" else "zdd rollback PLAN"
    return with_hint(f"bug in zdd: {type(error).__name__}", f"see the agent's log and report it; then {again}")

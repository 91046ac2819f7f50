"""Carries out one piece of work: intent, effect, record. Cut off anywhere, it is simply done again."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any, Literal

import asyncpg

from zdd_tui.backends.postgres.connection import is_lost
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.model.errors import DatabaseAway, StaleEpoch, ZddError
from zdd_tui.model.release.records import NewEvent, StepChange, StepRecord
from zdd_tui.model.release.state import Release, Work, step_begins, step_ends, step_fails

Boundary = Callable[[Literal["intent", "effect", "record"], Work], None]
"""Called after each of the three; the kill tests end the process here."""


class Holding:
    """The release's state in this process. Commands and steps change it, one at a time, under its lock."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.lock = asyncio.Lock()


class Runner:
    """Runs and undoes steps, one at a time."""

    def __init__(self, ctx: Context, holding: Holding, boundary: Boundary | None = None) -> None:
        self._ctx = ctx
        self._holding = holding
        self._boundary: Boundary = boundary or (lambda _at, _work: None)

    async def perform(self, work: Work) -> None:
        """Does one piece of work.

        A failure of the step itself is recorded and returns. Without the lease or the database nothing can be
        recorded: that is raised, and the next tenure does the work again.
        """
        await self._begin(work)
        self._boundary("intent", work)
        record = _Record(self._ctx, self._holding, work)
        try:
            await self._effect(work, record)
        except (StaleEpoch, DatabaseAway):
            raise
        except Exception as error:
            record.close()  # its lock is not reentrant, and the failure is recorded under it
            if is_lost(error):
                raise
            await self._ctx.prove_lease()  # a step that was cut off because the lease went away has not failed
            if not isinstance(error, ZddError | asyncpg.PostgresError | OSError):
                self._ctx.say("".join(traceback.format_exception(error)))
            await self._fail(work, _explain(error))
            return
        finally:
            record.close()
        self._boundary("record", work)

    async def _effect(self, work: Work, record: "_Record") -> None:
        handle = await self._handle(work, record)
        step = STEPS[work.step.key]
        await (step.run if work.direction == "run" else step.undo)(self._ctx, handle)
        self._boundary("effect", work)
        if not record.written:
            await record.write()
        record.keep()

    async def _begin(self, work: Work) -> None:
        async with self._holding.lock:
            after = step_begins(self._holding.release, work)
            event = NewEvent("step", f"{_verb(work)} {work.step.name} begins: {work.step.label}")
            await self._ctx.store.save(after, events=[event], step=StepChange(work.step.name, note="", error=""))
            self._holding.release = after

    async def _fail(self, work: Work, error: str) -> None:
        async with self._holding.lock:
            after = step_fails(self._holding.release, work, error)
            event = NewEvent("error", f"{_verb(work)} {work.step.name} failed: {error}")
            await self._ctx.store.save(after, events=[event], step=StepChange(work.step.name, note="", error=error))
            self._holding.release = after

    async def _handle(self, work: Work, record: "_Record") -> StepHandle:
        store, name = self._ctx.store, work.step.name
        stored = next(
            (step for step in (await store.read()).steps if step.name == name),
            StepRecord(name, self._holding.release.status(name)),
        )

        async def save_detail(detail: dict[str, Any]) -> None:
            async with self._holding.lock:
                await store.save(self._holding.release, step=StepChange(name, detail=detail))

        return StepHandle(
            stored,
            value=work.step.value,
            note=lambda text: store.note(name, text),
            save_detail=save_detail,
            record=record.write,
        )


class _Record:
    """The end of a step, written either alone or inside the transaction of its effect.

    In the second case the lock is kept from the write until that transaction has ended, so that no command
    can write an older state over it.
    """

    def __init__(self, ctx: Context, holding: Holding, work: Work) -> None:
        self._ctx = ctx
        self._holding = holding
        self._work = work
        self._after: Release | None = None
        self._locked = False

    @property
    def written(self) -> bool:
        return self._after is not None

    async def write(self, conn: asyncpg.Connection | None = None, detail: dict[str, Any] | None = None) -> None:
        if not self._locked:
            await self._holding.lock.acquire()
            self._locked = True
        before = self._holding.release
        after = step_ends(before, self._work)
        events = [NewEvent("step", f"{_verb(self._work)} {self._work.step.name} done")]
        if after.state is not before.state:
            place = after.current.name if after.current else after.name
            events.append(NewEvent("phase", f"{place}: {after.state}"))
        change = StepChange(self._work.step.name, note="", detail=detail)
        await self._ctx.store.save(after, conn=conn, events=events, step=change)
        self._after = after

    def keep(self) -> None:
        """The transaction has committed: the state in memory follows."""
        if self._after is not None:
            self._holding.release = self._after

    def close(self) -> None:
        if self._locked:
            self._holding.lock.release()
            self._locked = False


def _verb(work: Work) -> str:
    return "run" if work.direction == "run" else "undo"


def _explain(error: Exception) -> str:
    if isinstance(error, ZddError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"timed out{f': {error}' if str(error) else ''}"
    if isinstance(error, asyncpg.PostgresError | OSError):
        return f"{type(error).__name__}: {error}"
    # The text of a defect may hold anything, also a secret.
    return f"defect in zdd: {type(error).__name__}\n  mend: see the agent's log, please report it; then advance again"

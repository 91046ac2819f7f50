"""Whether the triggers between the two sides have been in force without a break: what makes their records a proof.

A sync trigger without a break has copied every write of its side to the other one, or recorded that it could not.
A witness without a break has recorded every write that left the two sides different. The state of the triggers is saved
with the step that installs them, in its transaction, and again when a comparison has found no difference.
"""

from collections.abc import Awaitable, Callable
from dataclasses import astuple, dataclass
from typing import Any

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store.witness import read_trigger_continuity
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import find_step_record
from zdd_tui.model.ddl.names import Side, lock_order_name, sync_name
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus

DETAIL = "continuity"
"""The key in the detail of the steps that install the triggers."""

INSTALLED_BY = ("sync-forward", "sync-reverse", "extend-witness")


@dataclass(frozen=True, slots=True)
class Continuity:
    """Which triggers have been in force since nothing differed.

    Attributes:
        forward: the trigger that copies writes of the old side to the new side, for every session.
        reverse: the trigger that copies writes of the new side to the old side.
        witness: the witness, on both sides.
    """

    forward: bool = False
    reverse: bool = False
    witness: bool = False

    def proves_written_alone(self, side: Side) -> bool:
        """Whether every write of the other side alone is recorded: then a row without such a record was written on
        ``side`` alone."""
        return self.witness or (self.forward and (side == "new" or self.reverse))


def watched_triggers(plan: Plan, step: str) -> tuple[str, ...]:
    """Names of the triggers that a step of `INSTALLED_BY` installs."""
    if step == "extend-witness":
        return expected_triggers(plan, both_sides=True)
    if step == "sync-forward":
        return (sync_name(plan, "forward"),)
    return (sync_name(plan, "reverse"), *((lock_order_name(plan),) if plan.change.kind == "table" else ()))


def save_with_step(ctx: Context, step: StepHandle) -> Callable[[Connection], Awaitable[None]]:
    """What a step that installs the triggers does at the end of its transaction."""

    async def save(conn: Connection) -> None:
        step.detail[DETAIL] = await read_trigger_continuity(conn, watched_triggers(ctx.expand_contract_plan, step.name))

    return save


async def read_states(ctx: Context, record: ReleaseRecord) -> dict[str, str]:
    """The present state of the triggers, by the step that installs them; only of steps that are done."""
    async with ctx.read_connection() as conn:
        return await _read_states(conn, ctx.expand_contract_plan, record)


async def _read_states(conn: Connection, plan: Plan, record: ReleaseRecord) -> dict[str, str]:
    states = {}
    for name in INSTALLED_BY:
        step = find_step_record(record, name)
        if step is not None and step.status in (StepStatus.DONE, StepStatus.UNDOING, StepStatus.UNDO_FAILED):
            states[name] = await read_trigger_continuity(conn, watched_triggers(plan, name))
    return states


def compare_states(record: ReleaseRecord, states: dict[str, str]) -> Continuity:
    """Which of them are as they were saved."""

    def is_same(name: str) -> bool:
        step = find_step_record(record, name)
        return step is not None and name in states and step.detail.get(DETAIL) == states[name]

    return Continuity(
        forward=is_same("sync-forward") and _fires_always(states["sync-forward"]),
        reverse=is_same("sync-reverse"),
        witness=is_same("extend-witness"),
    )


def _fires_always(state: str) -> bool:
    """Whether the triggers fire in sessions of every session_replication_role; an earlier zdd installed others."""
    _, *triggers = state.split("; ")
    return bool(triggers) and all(each.endswith(" A") for each in triggers)


async def check_continuity(ctx: Context, record: ReleaseRecord, *, conn: Connection | None = None) -> Continuity:
    """Reads whether the triggers have been in force without a break until now. ``conn``: of an open transaction."""
    if conn is not None:
        return compare_states(record, await _read_states(conn, ctx.expand_contract_plan, record))
    return compare_states(record, await read_states(ctx, record))


async def save_states(ctx: Context, record: ReleaseRecord, before: dict[str, str]) -> None:
    """Saves the states that were read before a comparison which has found no difference, where they still are so."""
    now = await read_states(ctx, record)
    for name, state in before.items():
        step = find_step_record(record, name)
        if step is not None and now.get(name) == state and step.detail.get(DETAIL) != state:
            await ctx.store.save_step_detail(name, {**step.detail, DETAIL: state})


class KeptContinuity:
    """For a step that recreates the triggers in one transaction: what had no break before it has none after it."""

    def __init__(self, ctx: Context, record: ReleaseRecord) -> None:
        self._ctx = ctx
        self._record = record
        self._kept = Continuity()

    async def before(self, conn: Connection) -> None:
        states = await _read_states(conn, self._ctx.expand_contract_plan, self._record)
        self._kept = compare_states(self._record, states)

    async def after(self, conn: Connection) -> None:
        states = await _read_states(conn, self._ctx.expand_contract_plan, self._record)
        is_kept = dict(zip(INSTALLED_BY, astuple(self._kept), strict=True))
        for name, state in states.items():
            step = find_step_record(self._record, name)
            if is_kept[name] and step is not None:
                detail: dict[str, Any] = {**step.detail, DETAIL: state}
                await self._ctx.store.save_step_detail(name, detail, conn=conn)

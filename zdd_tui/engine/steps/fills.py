"""Values that the rows of a table get in batches: a step of an operation, with the same engine as every backfill."""

from collections.abc import Callable
from functools import partial

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.fill_target import read_fill_target, read_reason_for_one
from zdd_tui.backends.postgres.operations import in_settings, is_needed, with_settings
from zdd_tui.backends.store import backfill as rows
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import run_statements
from zdd_tui.model.errors import StepFailed, StepSuspended
from zdd_tui.model.operations.base import Fill, OperationStep
from zdd_tui.model.operations.fills import FillJob, may_add_rows
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import short_table_name
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.tuning import limits_of_table

STATEMENT_SECONDS = 30
"""How long a statement that no batches can do may hold its rows; then it is cancelled."""


class PrepareFills:
    """Fixes the upper bound of every fill of the phase, and checks its batches, before the first row is written.

    Where an earlier step of the phase adds rows to the table, both come right before the fill: it writes them, too. A
    table that is paused is left alone: its bounds are fixed when its first fill runs.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        paused = ctx.paused_tables()
        await _prepare_fills(ctx, step, lambda fill: short_table_name(fill.table) not in paused)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The ranges stay as a record of this release."""


async def _prepare_fills(ctx: Context, step: StepHandle, is_meant: Callable[[Fill], bool]) -> None:
    """Fixes the upper bounds of those fills of the phase that are meant and have none yet."""
    steps = named_steps(ctx.plan_of_type(BaseOperationsPlan), Phase.BACKFILL)
    for place, (name, _number, spec) in enumerate(steps):
        fill = spec.fill
        if fill is None or not is_meant(fill) or any(may_add_rows(each, fill.table) for _, _, each in steps[:place]):
            continue
        async with ctx.read_connection() as conn:
            has_work = await is_needed(conn, spec)
        if has_work and not await _runs_as_one(ctx, spec):
            runner = await _fill_runner(ctx, step, name, spec)
            if not await runner.is_prepared():
                await runner.prepare()


async def run_fill(ctx: Context, step: StepHandle, spec: OperationStep) -> None:
    """Runs the batches of a fill. The next agent continues after the last checkpoint.

    What batches cannot do runs as one statement, in one transaction with the step's record.
    """
    assert spec.fill is not None, f"step {step.name} fills nothing"
    if await _runs_as_one(ctx, spec):
        await step.save_detail(as_one=False)

        async def record(_: Connection) -> None:
            step.detail["as_one"] = True

        timeout = f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'"
        await run_statements(ctx, step, in_settings(spec, (timeout, spec.fill.sql)), then=record)
        return
    table = short_table_name(spec.fill.table)
    runner = await _fill_runner(ctx, step, step.name, spec)
    if not await runner.is_prepared():
        if table in ctx.paused_tables():
            raise StepSuspended(step.name)
        if spec.phase is Phase.BACKFILL:
            # All fills of the table: a step between two of them may drop the key that gives the second its bounds.
            await _prepare_fills(ctx, step, lambda fill: short_table_name(fill.table) == table)
        await runner.prepare()
    await runner.run(ctx.is_paused, partial(ctx.current_limits, spec.fill.table), lambda: table in ctx.paused_tables())


async def undo_fill(ctx: Context, step: StepHandle, spec: OperationStep) -> None:
    """Marks the fill as cancelled, and runs what the step says. Columns that the release has added go with expand."""
    if step.detail.get("as_one") is False:
        return  # its record commits with its statement: it has had no effect
    async with ctx.store.fenced() as conn:
        await rows.set_status(conn, ctx.store.release_id, "cancelled", job=step.name)
    await run_statements(ctx, step, in_settings(spec, spec.undo))


async def _runs_as_one(ctx: Context, spec: OperationStep) -> bool:
    assert spec.fill is not None
    limits = ctx.plan_of_type(BaseOperationsPlan).backfill
    async with ctx.read_connection() as conn, with_settings(conn, spec):
        return bool(await read_reason_for_one(conn, spec.fill, limits.max_statement_rows))


async def _fill_runner(ctx: Context, step: StepHandle, name: str, spec: OperationStep) -> BackfillRunner:
    assert spec.fill is not None, f"step {name} fills nothing"
    async with ctx.read_connection() as conn, with_settings(conn, spec):
        target = await read_fill_target(conn, spec.fill)
    if target is None:
        raise StepFailed(f"there is no table {spec.fill.table}", "correct the table's name in the operation")
    table, key = target
    limits = limits_of_table(ctx.plan_of_type(BaseOperationsPlan).backfill, spec.fill.table)
    job = FillJob(name, spec.fill, table, key, limits, spec.settings)
    return BackfillRunner(ctx.store, job, on_note=step.set_note)

"""Waits for transactions with an old snapshot, before the rows that zdd has written take the place of others.

A REPEATABLE READ transaction reads a table as it was when its snapshot was taken, under whatever name it has now. Rows
that were copied after that it would not see, and a statement that writes one would fail.
"""

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.fill_target import read_fill_target
from zdd_tui.backends.postgres.gate_queries import Blocker, find_snapshot_holders
from zdd_tui.backends.postgres.operations import in_settings, with_settings
from zdd_tui.engine.backfill.runner import MAX_SWEEPS, SWEEP_ROWS
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import run_batch
from zdd_tui.model.counting import count_noun, count_up_to, format_list
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import OperationStep
from zdd_tui.model.operations.fills import FillJob
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.release.records import WAITING_NOTE
from zdd_tui.model.sql import dollar_quoted, quote_literal


async def wait_for_snapshots(ctx: Context, step: StepHandle) -> None:
    """Returns when every transaction of the database that holds a snapshot now has ended or taken another one.

    It has no bound, in a rollback either: such a transaction would miss rows afterwards, so only whoever runs it, or
    the operator, may end it. The note says whom the step waits for, since when, and how to end that.
    """
    backoff = Backoff(0.02, 1.0)
    async with ctx.read_connection() as conn:
        waited = await find_snapshot_holders(conn)
    while waited:
        await backoff.sleep()
        async with ctx.read_connection() as conn:
            current = await find_snapshot_holders(conn)
        waited = {each: holder for each, holder in current.items() if each in waited}
        await step.set_note(_describe_wait(list(waited.values())) if waited else "")


def _describe_wait(holders: list[Blocker]) -> str:
    oldest = f"SELECT pg_terminate_backend({holders[0].pid})"
    return (
        f"{WAITING_NOTE}transactions with an older snapshot: {format_list(holders)}."
        f" Fix: let them end, or end them: on the screen of sessions (D), or {oldest}"
    )


async def copy_differing_rows(ctx: Context, step: StepHandle, spec: OperationStep) -> None:
    """Makes the copy of ``spec.compares`` complete: at the end no row differs, and every snapshot shows that.

    Each row is copied in a transaction of its own, so that no writer waits for more than one of them.

    Raises:
        StepFailed: rows cannot be copied, or writers leave others as fast as they are.
    """
    if spec.compares is None:
        return
    reason = ""
    for _ in range(MAX_SWEEPS):
        job = await _read_job(ctx, step, spec)
        async with ctx.read_connection() as conn, with_settings(conn, spec):
            keys = await _list_differing(conn, ctx, job)
        if not keys:
            return
        await step.set_note(f"copying {count_noun(len(keys), 'row')} that differ")
        refused = [why for key in keys if (why := await _copy_row(ctx, step, spec, job, key))]
        reason = f", such as one of which PostgreSQL says: {refused[0]}" if refused else ""
        if len(refused) == len(keys):
            break
        await wait_for_snapshots(ctx, step)
    raise StepFailed(
        f"{spec.compares.table} and the other table differ in {count_up_to(len(keys), SWEEP_ROWS, 'row')}{reason}",
        f"correct those rows, then {step.retry_command}",
    )


async def _read_job(ctx: Context, step: StepHandle, spec: OperationStep) -> FillJob:
    assert spec.compares is not None
    async with ctx.read_connection() as conn, with_settings(conn, spec):
        target = await read_fill_target(conn, spec.compares)
    assert target is not None, "the step before has made the table"
    limits = ctx.plan_of_type(BaseOperationsPlan).backfill
    return FillJob(step.name, spec.compares, *target, limits, spec.settings)


async def _list_differing(conn: Connection, ctx: Context, job: FillJob) -> list[tuple[str, ...]]:
    await conn.execute("SET LOCAL statement_timeout = 0")
    return [tuple(row) for row in await conn.fetch(job.rows_left(), ctx.store.release_id, job.name, SWEEP_ROWS)]


async def _copy_row(ctx: Context, step: StepHandle, spec: OperationStep, job: FillJob, key: tuple[str, ...]) -> str:
    """Returns why the other table cannot hold the row; empty where it is copied."""
    values = ", ".join(
        f"{quote_literal(value)}::text::{column.type}" for value, column in zip(key, job.key, strict=True)
    )
    call = f"BEGIN PERFORM {job.fill.copy}({values}); END"
    try:
        await run_batch(ctx, step, in_settings(spec, (f"DO {dollar_quoted(call)}",)))
    except StepFailed as error:
        return error.title
    return ""

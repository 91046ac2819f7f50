"""Compares both sides of what was written since the verification, for the steps, after a breach, and in a rollback."""

import asyncio
from collections.abc import Awaitable, Callable

from zdd_tui.backends.postgres.gate_queries import list_enabled_triggers
from zdd_tui.backends.postgres.recent_writes import (
    Disagreement,
    RecentWrites,
    compare_recent_writes,
    usable_marker,
)
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store import witness as store
from zdd_tui.backends.store.backfill import Key, RowMismatch
from zdd_tui.engine.backfill.repair import copy_row_down, lock_row
from zdd_tui.engine.backfill.transaction import RETRYABLE_ERRORS
from zdd_tui.engine.backfill.verify import MAX_KEPT_MISMATCHES
from zdd_tui.engine.context import Context
from zdd_tui.engine.continuity import check_continuity, read_states, save_states
from zdd_tui.engine.observations import find_step_record
from zdd_tui.engine.witness import move_all_records, name_writers, tolerated_keys
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.names import SIDES
from zdd_tui.model.ddl.rows import written_since_statement
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.release.witness import accepts_down, may_lose_new_side

COPY_TRIES = 10
"""How often a row that another transaction holds is tried."""
COPY_PAUSE = 0.1
"""Seconds between two tries."""


async def compare_since_verification(
    ctx: Context,
    record: ReleaseRecord,
    *,
    only_recent: bool = True,
    on_progress: Callable[[str], Awaitable[None]] | None = None,
) -> RecentWrites:
    """Compares the rows that were written since the verification began, or every row where that is not known.

    Args:
        only_recent: a deleted row is known to be recorded, or to be gone on both sides; else every row is compared.
    """
    states = await read_states(ctx, record)
    since = await find_marker(ctx, record) if only_recent else None
    if on_progress is not None:
        scope = "every row" if since is None else "rows written since the verification"
        await on_progress(f"comparing {scope}")
    async with ctx.read_connection() as conn:
        ignored = await tolerated_keys(ctx, conn)
    plan = ctx.expand_contract_plan
    result = await compare_recent_writes(
        ctx.read_connection,
        plan,
        await ctx.catalog(fresh=True),
        since,
        either=accepts_down(record.release),
        ignored=ignored,
        on_progress=on_progress,
    )
    # A row that V3 has deleted leaves no trace in the new table.
    is_complete = result.is_whole or plan.change.kind == "column" or not has_written_new_side_alone(record.steps)
    if is_complete and not result.differing:
        await save_states(ctx, record, states)
    return result


async def find_marker(ctx: Context, record: ReleaseRecord) -> str | None:
    """The transaction id of the verification; None where rows may have been deleted without a record."""
    plan, release = ctx.expand_contract_plan, record.release
    step = find_step_record(record, "verify-rows")
    detail = step.detail if step else {}
    if not plan.change.witness or "since" not in detail:
        return None
    if plan.change.kind == "column":  # a row that is gone is gone on both sides
        return str(detail["since"])
    if not plan.change.has_witness or release.status("create-witness") is not StepStatus.DONE:
        return None
    async with ctx.read_connection() as conn:
        expected = expected_triggers(plan, both_sides=False)
        if set(expected) - await list_enabled_triggers(conn, expected):
            return None
        continuity = await store.read_continuity(conn, plan)
    return str(detail["since"]) if continuity == detail.get("witness") else None


async def describe_differing(ctx: Context, result: RecentWrites, *, named: int = 1) -> str:
    """``2 of 40 rows written since the verification differ, for example key 7 (…), written by reports-worker …``.

    Args:
        named: number of rows that are named, with their writers.
    """
    shown = result.differing[:named]
    who = await name_writers(ctx, [each.key for each in shown])
    scope = "rows" if result.is_whole else "rows written since the verification"
    keys = ", key ".join(str(each) for each in shown)
    return f"{len(result.differing):,} of {result.rows:,} {scope} differ, for example key {keys}{who}"


async def save_differing(ctx: Context, result: RecentWrites) -> None:
    """Replaces the rows of zdd.mismatch, where an operator finds all of their keys."""
    kept = [
        RowMismatch(each.key, each.reason, each.columns, each.has_old, each.has_new)
        for each in result.differing[:MAX_KEPT_MISMATCHES]
    ]
    async with ctx.store.fenced() as conn:
        await rows.replace_mismatches(conn, ctx.store.release_id, kept)


async def find_rows_without_old_side(
    ctx: Context, record: ReleaseRecord, on_progress: Callable[[str], Awaitable[None]], *, is_settled: bool = False
) -> RecentWrites:
    """The rows whose new side may have been written and whose old side was not, which a rollback would lose.

    Rows that only a writer of the old side has changed are none of them: the old side is what stays. That is proved by
    the records of a witness, or of a reverse trigger, that was in force without a break; or by the row itself, where
    its new side was not written since the rollout of V3 began.

    Args:
        is_settled: the witness was in force without a break until V3 was gone.
    """
    # V3 deletes rows too, and the witness of the old table does not see that.
    only_recent = ctx.expand_contract_plan.change.kind == "column"
    result = await compare_since_verification(ctx, record, only_recent=only_recent, on_progress=on_progress)
    sides = await _read_open_sides(ctx, result.differing)
    continuity = await check_continuity(ctx, record)
    lost = [
        each
        for each in result.differing
        if may_lose_new_side(
            sides.get(each.key, frozenset()),
            has_reverse=continuity.reverse,
            has_witness=continuity.witness or is_settled,
        )
    ]
    if lost and (began := await _find_v3_marker(ctx, record)) is not None:
        lost = [each for each in lost if not await _is_new_side_older(ctx, each, began)]
    return RecentWrites(result.rows, tuple(lost), result.is_whole)


async def find_rows_without_new_side(
    ctx: Context, record: ReleaseRecord, on_progress: Callable[[str], Awaitable[None]]
) -> RecentWrites:
    """The rows whose old side may have been written alone, which dropping the old side would lose.

    A row of which the reverse trigger has recorded that only the new side was written, because the old side cannot
    hold it, is none of them.
    """
    result = await compare_since_verification(ctx, record, on_progress=on_progress)
    lost = await _without_new_side_alone(ctx, result.differing)
    if lost and await copy_unwritten(ctx, record, lost):
        result = await compare_since_verification(ctx, record, on_progress=on_progress)
        lost = await _without_new_side_alone(ctx, result.differing)
    return RecentWrites(result.rows, lost, result.is_whole)


async def _without_new_side_alone(ctx: Context, differing: tuple[Disagreement, ...]) -> tuple[Disagreement, ...]:
    if not differing:
        return ()
    sides = await _read_open_sides(ctx, differing)
    return tuple(each for each in differing if sides.get(each.key) != frozenset({"new"}))


async def _read_open_sides(ctx: Context, differing: tuple[Disagreement, ...]) -> dict[Key, frozenset[str]]:
    """Which sides of the rows were written alone, by all records until now."""
    await move_all_records(ctx)
    async with ctx.read_connection() as conn:
        return await store.read_open_sides(conn, ctx.store.release_id, [each.key for each in differing])


async def _find_v3_marker(ctx: Context, record: ReleaseRecord) -> str | None:
    """The id of a transaction before the first write of V3; None where it is not known."""
    step = find_step_record(record, "rollout-v3")
    began = step.detail.get("began") if step is not None else None
    return None if began is None else await usable_marker(ctx.read_connection, str(began))


async def _is_new_side_older(ctx: Context, row: Disagreement, marker: str) -> bool:
    """Whether the row of the new side exists and was not written since then: V3 cannot have changed it."""
    if not row.has_new:
        return False
    statement = written_since_statement(ctx.expand_contract_plan, await ctx.catalog())
    async with ctx.read_connection() as conn:
        written = await conn.fetchrow(statement, marker, *row.key)
    return written is not None and written["new"] is False


async def copy_unwritten(ctx: Context, record: ReleaseRecord, differing: tuple[Disagreement, ...]) -> int:
    """Copies rows to the old side whose old side was not written since both sides were equal.

    Proved by the forward trigger, where it was in force without a break and has recorded no write of the row; or, in
    the table kind, by an old row that was not written since the verification: for that no trigger and no record is
    needed. A row that one side lacks is left: whoever truncates the new table must not empty the old one.

    Returns:
        the number of rows that were copied.
    """
    plan, step = ctx.expand_contract_plan, find_step_record(record, "verify-rows")
    since = step.detail.get("since") if step is not None else None
    marker = None
    if plan.change.kind == "table" and since is not None:  # in the column kind one row has both sides
        marker = await usable_marker(ctx.read_connection, str(since))
    if marker is None and not (await check_continuity(ctx, record)).forward:
        return 0
    catalog, copied = await ctx.catalog(fresh=True), 0
    for each in differing:
        if each.has_old and each.has_new:
            for _ in range(COPY_TRIES):
                try:
                    copied += await _copy_unwritten_row(ctx, record, catalog, each.key, marker)
                    break
                except RETRYABLE_ERRORS:
                    await asyncio.sleep(COPY_PAUSE)
    return copied


async def _copy_unwritten_row(
    ctx: Context, record: ReleaseRecord, catalog: Catalog, key: Key, marker: str | None
) -> bool:
    plan, release_id = ctx.expand_contract_plan, ctx.store.release_id
    async with ctx.store.fenced() as conn:
        present = await lock_row(conn, plan, catalog, key)
        if present is None:
            return True
        if len(present) < len(SIDES):
            return False
        is_proved = (await check_continuity(ctx, record, conn=conn)).forward and "old" not in (
            await store.read_sides_now(conn, release_id, key)
        )
        if not is_proved and marker is not None:
            written = await conn.fetchrow(written_since_statement(plan, catalog), marker, *key)
            is_proved = written is not None and written["old"] is False and written["new"] is True
        if not is_proved or await copy_row_down(conn, plan, catalog, key):
            return False
        await store.settle_rows(conn, release_id, [key], "repaired")
        return True


def has_written_new_side_alone(steps: tuple[StepRecord, ...]) -> bool:
    """Whether pods of V3 may have run, also after their rollout was undone."""
    return any(step.name == "rollout-v3" and step.detail.get("image_before") for step in steps)

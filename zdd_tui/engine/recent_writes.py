"""Compares both sides of what was written since the verification, for the steps, after a breach, and in a rollback."""

from collections.abc import Awaitable, Callable

from zdd_tui.backends.postgres.gate_queries import list_enabled_triggers
from zdd_tui.backends.postgres.recent_writes import RecentWrites, compare_recent_writes
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store import witness as store
from zdd_tui.backends.store.backfill import Key, RowMismatch
from zdd_tui.engine.backfill.verify import MAX_KEPT_MISMATCHES
from zdd_tui.engine.context import Context
from zdd_tui.engine.observations import find_step_record
from zdd_tui.engine.witness import move_all_records, name_writers, tolerated_keys
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.release.witness import accepts_down


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
    since = await find_marker(ctx, record) if only_recent else None
    if on_progress is not None:
        scope = "every row" if since is None else "rows written since the verification"
        await on_progress(f"comparing {scope}")
    async with ctx.read_connection() as conn:
        ignored = await tolerated_keys(ctx, conn)
    return await compare_recent_writes(
        ctx.read_connection,
        ctx.expand_contract_plan,
        await ctx.catalog(fresh=True),
        since,
        either=accepts_down(record.release),
        ignored=ignored,
        on_progress=on_progress,
    )


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


async def describe_differing(ctx: Context, result: RecentWrites) -> str:
    """``2 of 40 rows written since the verification differ, for example key 7 (…), written by reports-worker …``."""
    first = result.differing[0]
    who = await name_writers(ctx, [first.key])
    scope = "rows" if result.is_whole else "rows written since the verification"
    return f"{len(result.differing):,} of {result.rows:,} {scope} differ, for example key {first}{who}"


async def save_differing(ctx: Context, result: RecentWrites) -> None:
    """Replaces the rows of zdd.mismatch, where an operator finds all of their keys."""
    kept = [
        RowMismatch(each.key, each.reason, each.columns, each.has_old, each.has_new)
        for each in result.differing[:MAX_KEPT_MISMATCHES]
    ]
    async with ctx.store.fenced() as conn:
        await rows.replace_mismatches(conn, ctx.store.release_id, kept)


async def find_rows_without_old_side(
    ctx: Context, record: ReleaseRecord, on_progress: Callable[[str], Awaitable[None]]
) -> RecentWrites:
    """The rows whose new side was written and whose old side was not, which a rollback would lose.

    Rows that only a writer of the old side has changed are none of them: the old side is what stays.
    """
    # V3 deletes rows too, and the witness of the old table does not see that.
    only_recent = ctx.expand_contract_plan.change.kind == "column"
    result = await compare_since_verification(ctx, record, only_recent=only_recent, on_progress=on_progress)
    await move_all_records(ctx)
    keys: list[Key] = [each.key for each in result.differing]
    async with ctx.read_connection() as conn:
        sides = await store.read_open_sides(conn, ctx.store.release_id, keys)
    lost = tuple(each for each in result.differing if sides.get(each.key) != frozenset({"old"}))
    return RecentWrites(result.rows, lost, result.is_whole)


def has_written_new_side_alone(steps: tuple[StepRecord, ...]) -> bool:
    """Whether pods of V3 may have run, also after their rollout was undone."""
    return any(step.name == "rollout-v3" and step.detail.get("image_before") for step in steps)

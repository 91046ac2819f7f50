"""Keeps every acknowledged write while a rollback of expand/contract returns to the old side.

V2 that reads the old side writes whole rows from it. A row of which only the new side was written must be copied to the
old side before, or V2 would replace it. So rows are settled before the read flag goes back, before V2 is rolled out,
and before the witness is reduced; and the agent settles them once a second for as long as the rollback lasts. Where it
is not known which side is newer, the rollback stops and names the rows, their writers and the statements that decide.
"""

import asyncio

import asyncpg

from zdd_tui.backends.postgres.connection import is_session_lost
from zdd_tui.backends.postgres.recent_writes import Disagreement, RecentWrites, find_disagreements
from zdd_tui.backends.store import witness as store
from zdd_tui.backends.store.backfill import Key
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.continuity import check_continuity
from zdd_tui.engine.observations import find_step_record
from zdd_tui.engine.recent_writes import (
    copy_unwritten,
    describe_differing,
    find_rows_without_old_side,
    has_written_new_side_alone,
    save_differing,
)
from zdd_tui.engine.restore import restore_trigger
from zdd_tui.engine.witness import move_all_records, settle_open_rows, tolerated_keys
from zdd_tui.model.ddl.rows import keep_side_statements
from zdd_tui.model.errors import BackendError, DatabaseError, DatabaseUnavailable, PlanError, StaleEpoch, StepFailed
from zdd_tui.model.plan.base import DualWriteMode, Plan
from zdd_tui.model.release.condition import Condition
from zdd_tui.model.release.conditions import rollback_triggers
from zdd_tui.model.release.records import NewEvent, ReleaseRecord
from zdd_tui.model.release.state import Release
from zdd_tui.model.release.witness import MAX_COUNTED, WitnessMode, accepts_down, may_lose_new_side, may_read_old

TRIES = 10
"""How often rows that another transaction holds, or a trigger whose table is locked, are tried without any progress."""
PAUSE = 0.1
"""Seconds between two tries."""
NAMED_ROWS = 3
"""Rows that an error names; all of them are in zdd.mismatch."""

SETTLED = "settled"
"""In the detail of extend-witness: V3 was gone, and the witness, without a break, knew of no row that could be lost."""


async def require_settled(ctx: Context, step: StepHandle) -> None:
    """Settles every row before the old side gets more to serve.

    Where the sync triggers write both sides V2 writes the old side alone, and no trigger overwrites a row that differs:
    there the check of the step ``sync-reverse`` is enough.

    Raises:
        StepFailed: rows whose newer side is not known, or a trigger that cannot be restored.
    """
    record = await ctx.store.read()
    if not accepts_down(record.release):
        return
    await _require_triggers(ctx, record.release)
    if ctx.expand_contract_plan.change.dual_write is DualWriteMode.TRIGGER:
        return
    left = await _settle_or_explain(ctx, record)
    if not has_written_new_side_alone(record.steps):
        return  # the old side is right: no pod has ever known the new side alone
    continuity = await check_continuity(ctx, record)
    async with ctx.read_connection() as conn:
        sides = await store.read_open_sides(conn, ctx.store.release_id, [each.key for each in left])
        is_truncated = await store.is_truncation_recorded(conn, ctx.store.release_id)

    def is_at_risk(key: Key) -> bool:
        known = sides.get(key, frozenset())
        return may_lose_new_side(known, has_reverse=continuity.reverse, has_witness=continuity.witness)

    if at_risk := tuple(each for each in left if is_at_risk(each.key)):
        raise await _build_failure(ctx, RecentWrites(len(left), at_risk, is_whole=True))
    if is_truncated or not (continuity.reverse or continuity.witness):
        # Nothing proves that the records are complete, so the rows themselves are compared.
        await _require_no_difference(ctx, step, record)
    elif step.name == "extend-witness":
        await step.save_detail(**{SETTLED: continuity.witness})


async def _settle_or_explain(ctx: Context, record: ReleaseRecord) -> list[Disagreement]:
    try:
        return await settle_all_rows(ctx, record, WitnessMode.ROLLBACK)
    except (StaleEpoch, DatabaseUnavailable):
        raise
    except (PlanError, DatabaseError, asyncpg.PostgresError) as error:
        if is_session_lost(error):
            raise
        if has_written_new_side_alone(record.steps):
            raise StepFailed(
                f"rows of which one side was written alone cannot be compared: {type(error).__name__}: {error}",
                "correct what prevents that, such as a column that was renamed, then: zdd rollback PLAN",
            ) from None
        return []


async def require_no_loss(ctx: Context, step: StepHandle) -> None:
    """The last check, before the reverse trigger is dropped: nothing that V3 wrote is on the new side alone.

    Raises:
        StepFailed: rows that the rollback would lose.
    """
    record = await ctx.store.read()
    if has_written_new_side_alone(record.steps):
        await _require_no_difference(ctx, step, record)


async def _require_no_difference(ctx: Context, step: StepHandle, record: ReleaseRecord) -> None:
    lost = await find_rows_without_old_side(ctx, record, step.set_note, is_settled=_is_settled(record))
    if lost.differing and await copy_unwritten(ctx, record, lost.differing):
        lost = await find_rows_without_old_side(ctx, record, step.set_note, is_settled=_is_settled(record))
    if lost.differing:
        raise await _build_failure(ctx, lost)


def _is_settled(record: ReleaseRecord) -> bool:
    step = find_step_record(record, "extend-witness")
    return step is not None and bool(step.detail.get(SETTLED))


async def settle_all_rows(ctx: Context, record: ReleaseRecord, mode: WitnessMode) -> list[Disagreement]:
    """Settles all recorded rows, as far as it is proved which side is newer. Returns those that still differ.

    Raises:
        asyncpg.PostgresError, ZddError: the rows cannot be compared, such as after a column was renamed.
    """
    tries, before, keys = TRIES, -1, list[Key]()
    while tries:
        await move_all_records(ctx)
        await settle_open_rows(ctx, record, mode)
        async with ctx.read_connection() as conn:
            count = await store.count_open_rows(conn, ctx.store.release_id)
            found = await store.list_open_rows(conn, ctx.store.release_id, MAX_COUNTED)
        keys = [row.key for row in found if row.key != store.TRUNCATED]
        if not keys:
            break
        if count == before:
            tries -= 1
            await asyncio.sleep(PAUSE)
        before = count
    if not keys:
        return []
    async with ctx.read_connection() as conn:
        tolerated = await tolerated_keys(ctx, conn)
        differing = await find_disagreements(
            conn, ctx.expand_contract_plan, await ctx.catalog(fresh=True), keys, either=accepts_down(record.release)
        )
    return [each for each in differing if each.key not in tolerated]


# --- while the rollback lasts -------------------------------------------------------------------------------------

KEEPS_TRIGGERS = ("read-flag-on", "rollout-v3")
"""Steps whose undo takes long and removes no trigger: meanwhile the agent restores the triggers."""


async def restore_triggers(ctx: Context, release: Release) -> None:
    """Restores the triggers that a rollback still needs, once, as long as V3 may write.

    What goes wrong is logged: the steps of the rollback check again.
    """
    for condition in rollback_triggers(ctx.expand_contract_plan, release):
        if (error := await _try_restore(ctx, condition, release)) is not None:
            ctx.log(f"{condition.name} could not be restored yet: {error}")


async def _require_triggers(ctx: Context, release: Release) -> None:
    """Restores the triggers, and raises where one of them cannot be restored: V3 would write the new side alone."""
    for condition in rollback_triggers(ctx.expand_contract_plan, release):
        for left in reversed(range(TRIES)):
            if (error := await _try_restore(ctx, condition, release)) is None:
                break
            if not left:
                raise StepFailed(
                    f"{condition.name} is missing or disabled and cannot be restored: {error}; without it V3"
                    " writes the new side alone, which this rollback drops",
                    "remove what prevents that, then: zdd rollback PLAN",
                )
            await asyncio.sleep(PAUSE)


async def _try_restore(ctx: Context, condition: Condition, release: Release) -> Exception | None:
    """Restores a trigger where it is missing or disabled, and records that; the error where it cannot be restored.

    Raises:
        StaleEpoch, DatabaseUnavailable, asyncpg.PostgresError: nothing can be written any more.
    """
    try:
        restored = await restore_trigger(ctx, condition)
    except (StaleEpoch, DatabaseUnavailable):
        raise
    except (BackendError, StepFailed, PlanError, asyncpg.PostgresError) as error:
        if is_session_lost(error):
            raise
        return error
    if restored:
        text = f"{condition.name} was missing or disabled in the rollback, restored by the agent"
        ctx.log(text)
        await ctx.store.append_events([NewEvent("condition", text, _describe_gap(ctx.expand_contract_plan, release))])
    return None


def _describe_gap(plan: Plan, release: Release) -> str:
    """What a trigger that was missing in a rollback means for the rows; empty where V2 overwrites none of them."""
    if plan.change.dual_write is DualWriteMode.TRIGGER or not may_read_old(release):
        return ""
    return (
        "what V3 wrote meanwhile is copied to the old side, but a row that V2 has written again since has V2's values:"
        " another event names such rows, as far as the witness has recorded them"
    )


async def _build_failure(ctx: Context, lost: RecentWrites) -> StepFailed:
    """Names the rows, their writers, and for each choice the statement that makes both sides agree."""
    await save_differing(ctx, lost)
    plan, catalog = ctx.expand_contract_plan, await ctx.catalog(fresh=True)
    named = [each.key for each in lost.differing[:NAMED_ROWS] if each.has_old and each.has_new]
    what = "correct the rows in zdd.mismatch so that both sides agree"
    if named:
        keep_new, keep_old = keep_side_statements(plan, catalog, named)
        what += f"; in psql, to keep the new side: {keep_new}; to keep the old side: {keep_old}"
    return StepFailed(
        f"{await describe_differing(ctx, lost, named=NAMED_ROWS)}; V3 may have written the new side alone, and this"
        " rollback drops it",
        f"{what}; then: zdd rollback PLAN",
    )

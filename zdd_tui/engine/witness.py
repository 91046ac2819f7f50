"""Settles what the witness has recorded: rows that agree are closed, and the others are copied again where it is known
which side is right. Called before each evaluation of the gates, so that a gate never waits for an older result, and
again and again in a rollback."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.backends.postgres.recent_writes import find_disagreements, find_last_writes
from zdd_tui.backends.store import backfill as backfill_store
from zdd_tui.backends.store import witness as store
from zdd_tui.backends.store.backfill import Key
from zdd_tui.backends.store.witness import TRUNCATED, OpenRow
from zdd_tui.engine.backfill.repair import copy_row_down, lock_row, repair_row
from zdd_tui.engine.backfill.transaction import RETRYABLE_ERRORS
from zdd_tui.engine.context import Context
from zdd_tui.engine.continuity import check_continuity
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.names import SIDES, Side
from zdd_tui.model.ddl.witness import orphans_statement
from zdd_tui.model.errors import ClusterError, DatabaseUnavailable, StaleEpoch, ZddError
from zdd_tui.model.release.records import NewEvent, ReleaseRecord
from zdd_tui.model.release.witness import (
    Copy,
    WitnessMode,
    accepts_down,
    choose_copy,
    describe_writers,
    find_pods,
    may_read_old,
    reads_new_side,
    witness_mode,
)

MAX_ROWS = 500
"""Recorded rows that are compared in one call."""

MAX_NAMED_KEYS = 20
"""Keys that an event names."""

TIME_BUDGET = 1.0
"""Seconds for the repairs of one call; the next one continues."""


async def settle_recorded_rows(ctx: Context, record: ReleaseRecord) -> bool:
    """Settles recorded rows, for at most about `TIME_BUDGET` seconds. A row that is locked is tried again later.

    What goes wrong is logged, and the rows stay open: the release must stay able to roll back.

    Returns:
        whether there were any.
    """
    mode = witness_mode(record.release)
    if mode is WitnessMode.OFF or not (record.witness.open_rows or record.witness.has_records):
        return False
    try:
        await settle_open_rows(ctx, record, mode)
    except (StaleEpoch, DatabaseUnavailable):
        raise
    except (ZddError, asyncpg.PostgresError) as error:
        if is_session_lost(error):
            raise
        ctx.log(f"rows that the witness recorded: {type(error).__name__}: {error}")
    return True


async def settle_until_unchanged(ctx: Context) -> None:
    """Settles recorded rows for as long as they become fewer."""
    before: int | None = None
    while True:
        record = await ctx.store.read()
        if before is not None and record.witness.open_rows >= before:
            return
        before = record.witness.open_rows
        if not await settle_recorded_rows(ctx, record):
            return


async def settle_open_rows(ctx: Context, record: ReleaseRecord, mode: WitnessMode) -> None:
    """As :func:`settle_recorded_rows`, in a given mode, and without a limit of what may go wrong."""
    release_id = ctx.store.release_id
    async with ctx.store.fenced() as conn:
        moved = await store.move_records(conn, release_id)
        found = await store.list_open_rows(conn, release_id, MAX_ROWS)
        if moved:
            await store.update_writers(conn, release_id)
            unnamed = await store.list_unnamed_addresses(conn, release_id)
    if moved and unnamed:
        await _name_pods(ctx, unnamed)
    if not found:
        return
    catalog = await ctx.catalog(fresh=True)
    if catalog.is_dropped or catalog.new is None:
        return
    differing = await _find_differing(ctx, catalog, [row for row in found if row.key != TRUNCATED], record)
    agreed = {row.key for row in found} - differing - {TRUNCATED}
    is_truncated = any(row.key == TRUNCATED for row in found) and await _has_orphans(ctx, catalog)
    if not is_truncated:
        agreed.add(TRUNCATED)
    async with ctx.store.fenced() as conn:
        if mode is WitnessMode.ROLLBACK and may_read_old(record.release):
            await _report_replaced(ctx, conn, await store.list_new_side_keys(conn, release_id, agreed))
        await _settle_agreed(ctx, conn, record, catalog, agreed)
        await store.mark_different(conn, release_id, [*differing, *([TRUNCATED] if is_truncated else [])])
        if is_truncated:
            await store.save_repair_error(conn, release_id, TRUNCATED, "one of the two tables was truncated")
    if not ctx.is_paused():
        differing_rows = [row for row in found if row.key in differing]
        chosen = await _choose_copies(ctx, record, mode, differing_rows, is_truncated=is_truncated)
        await _repair(ctx, record, catalog, mode, chosen)
    async with ctx.store.fenced() as conn:
        await store.update_writers(conn, release_id)


async def _choose_copies(
    ctx: Context, record: ReleaseRecord, mode: WitnessMode, differing: Sequence[OpenRow], *, is_truncated: bool
) -> list[tuple[Key, Copy]]:
    """The rows that are made equal, each with the direction; a person decides about the others."""
    continuity = await check_continuity(ctx, record)
    # From cutover on a row of which only the new side was written is not the old side's to correct.
    reads_new = reads_new_side(record.release)
    proved = {side: not is_truncated and continuity.proves_written_alone(side) for side in SIDES}
    chosen: list[tuple[Key, Copy]] = []
    for row in differing:
        side: Side = "new" if row.sides == {"new"} else "old"
        if copy := choose_copy(mode, row.sides, reads_new=reads_new, is_proved=proved[side]):
            chosen.append((row.key, copy))
    return chosen


async def _settle_agreed(
    ctx: Context, conn: Connection, record: ReleaseRecord, catalog: Catalog, keys: Collection[Key]
) -> None:
    """Closes rows that were found equal. While reads use the new side, V2 writes whole rows from it: a write of the old
    side that was not copied may be gone from both sides. It is kept where the recorded transaction is still the one
    that wrote the old row; otherwise the row is named."""
    plan, release_id = ctx.expand_contract_plan, ctx.store.release_id
    if plan.change.has_witness and reads_new_side(record.release):
        recorded = await store.list_old_side_writes(conn, release_id, [key for key in keys if key != TRUNCATED])
        written = await find_last_writes(conn, catalog, list(recorded))
        replaced = {key: xid for key, xid in written.items() if xid not in recorded[key]}
        await store.mark_replaced(conn, release_id, replaced)
    await store.settle_rows(conn, release_id, keys, "agreed")


async def _report_replaced(ctx: Context, conn: Connection, keys: Sequence[Key]) -> None:
    """Tells which rows V3 wrote alone and somebody has written on both sides since, before the agent could copy them.

    V2 that reads the old side writes whole rows from it. What V3 wrote there cannot be read any more.
    """
    if not keys or not ctx.expand_contract_plan.change.has_witness:
        return
    named = ", ".join("/".join(key) for key in sorted(keys)[:MAX_NAMED_KEYS])
    more = f" and {len(keys) - MAX_NAMED_KEYS:,} more" if len(keys) > MAX_NAMED_KEYS else ""
    text = (
        f"rows that V3 wrote while no trigger copied them: {len(keys):,} were written on both sides, by V2 or by hand,"
        f" before the agent could copy them: key {named}{more}; what V3 wrote there may be replaced"
    )
    ctx.log(text)
    where = "all keys: zdd.witness_row with side new or both, and outcome agreed"
    await ctx.store.append_events([NewEvent("condition", text, where)], conn=conn)


async def _name_pods(ctx: Context, addresses: Sequence[str]) -> None:
    """Saves which pods have the addresses, while they exist. Without Kubernetes the addresses stay."""
    with suppress(ClusterError):
        pods = find_pods(addresses, await ctx.cluster.list_pods(""))
        async with ctx.store.fenced() as conn:
            await store.save_pods(conn, ctx.store.release_id, pods)


async def _find_differing(
    ctx: Context, catalog: Catalog, open_rows: Sequence[OpenRow], record: ReleaseRecord
) -> set[Key]:
    keys = [row.key for row in open_rows]
    async with ctx.read_connection() as conn:
        found = await find_disagreements(
            conn, ctx.expand_contract_plan, catalog, keys, either=accepts_down(record.release)
        )
        tolerated = await tolerated_keys(ctx, conn) if found else frozenset()
    return {each.key for each in found} - tolerated


async def move_all_records(ctx: Context) -> None:
    """Moves the records that exist now, also in a release that settles none any more, as in a rollback."""
    while True:
        async with ctx.store.fenced() as conn:
            # Fewer than a batch: those that have come since are of later writes.
            if await store.move_records(conn, ctx.store.release_id) < store.MOVED_RECORDS:
                await store.update_writers(conn, ctx.store.release_id)
                return


async def name_writers(ctx: Context, keys: Sequence[Key]) -> str:
    """``, written by reports-worker 10.1.4.7 as app: 1 row`` of the keys; empty where nobody was recorded."""
    await move_all_records(ctx)
    async with ctx.read_connection() as conn:
        writers = await store.read_writers_of(conn, ctx.store.release_id, keys)
    return f", written by {describe_writers(writers)}" if writers else ""


async def tolerated_keys(ctx: Context, conn: Connection) -> frozenset[Key]:
    """Rows that the backfill could not copy, where the plan tolerates them."""
    if not ctx.expand_contract_plan.backfill.max_failed_rows:
        return frozenset()
    return frozenset(await backfill_store.list_failed_keys(conn, ctx.store.release_id))


async def _has_orphans(ctx: Context, catalog: Catalog) -> bool:
    """Whether a row exists on one side only. A large table that takes too long may have some."""
    try:
        async with ctx.read_connection() as conn, conn.transaction(readonly=True):
            await conn.execute("SET LOCAL statement_timeout = '1s'")
            return bool(await conn.fetchval(orphans_statement(catalog)))
    except RETRYABLE_ERRORS:
        return True


async def _repair(
    ctx: Context, record: ReleaseRecord, catalog: Catalog, mode: WitnessMode, chosen: Sequence[tuple[Key, Copy]]
) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIME_BUDGET
    for key, copy in chosen:
        if loop.time() > deadline or ctx.is_paused():
            return
        with suppress(*RETRYABLE_ERRORS):
            async with ctx.store.fenced() as conn:
                await _repair_row(
                    ctx, conn, record, catalog, key, copy, needs_proof=mode is not WitnessMode.OLD_IS_RIGHT
                )


async def _repair_row(
    ctx: Context, conn: Connection, record: ReleaseRecord, catalog: Catalog, key: Key, copy: Copy, *, needs_proof: bool
) -> None:
    """Copies a row. What the choice relied on is read again with the row locked."""
    plan, release_id = ctx.expand_contract_plan, ctx.store.release_id
    if copy == "down" or needs_proof:
        present = await lock_row(conn, plan, catalog, key)
        if present is None:
            await _settle_agreed(ctx, conn, record, catalog, {key})
            return
        written: Side = "new" if copy == "down" else "old"
        if await store.read_sides_now(conn, release_id, key) != {written}:
            return
        continuity = await check_continuity(ctx, record, conn=conn)
        if not continuity.proves_written_alone(written):
            return
        # No sync trigger sees a TRUNCATE: where only they prove something, a row that one side lacks is left.
        if not continuity.witness and len(present) < len(SIDES):
            return
    error = await (copy_row_down if copy == "down" else repair_row)(conn, plan, catalog, key)
    if error:
        await store.save_repair_error(conn, release_id, key, error)
    else:
        await store.settle_rows(conn, release_id, [key], "repaired")

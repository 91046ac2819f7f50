"""The new side gets what the old side has: sequences at cutover, constraints in contract, and a comparison of both."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.checks.catalog_diff import describe_losses, find_losses, read_sequence_moves
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import run_batch, run_statements
from zdd_tui.model.ddl.catalog_diff import format_losses
from zdd_tui.model.ddl.constrain import constrain_batches, undo_constrain_statements
from zdd_tui.model.ddl.lint import early_defaults, read_constrain
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.ddl.sequences import GAP, GAP_SECONDS, MIN_GAP_SECONDS, SequencePair
from zdd_tui.model.errors import DatabaseError, StepFailed
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import name_sql, quote_qualified

_OWNER = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) || '.' || quote_ident(a.attname)
FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass($1) AND d.refclassid = 'pg_class'::regclass
  AND d.deptype = 'a'
"""


async def require_new_side_complete(ctx: Context) -> None:
    """Checks that the new side has everything that the old side has, before the old side is archived or dropped.

    Raises:
        StepFailed: something would be lost that the plan does not accept, or the old side could not be dropped.
    """
    strategy = (await ctx.store.read()).release.strategy
    if not any(gate.name == "catalog-diff" for phase in strategy.phases for gate in phase.gates):
        return  # it was started by a zdd without this comparison, whose plans could accept nothing
    async with ctx.read_connection() as conn:
        lost = await find_losses(conn, ctx.expand_contract_plan, at_end=True)
    if lost:
        raise StepFailed(
            f"the new side of {ctx.expand_contract_plan.change.table} lacks: {describe_losses(lost)}",
            f"{format_losses(lost, is_running=True)}\n    then advance again",
        )


RATE_SECONDS = 2.0
"""For that long the values are counted that the old side gives out."""
POLL_SECONDS = 1.0


async def advance_sequences(ctx: Context, *, rate_seconds: float = RATE_SECONDS) -> None:
    """Sets the sequences of the new side past every value of the old side. Running it again is harmless.

    Between both it leaves as many values as the old side gives out in a day at its present rate.

    Raises:
        StepFailed: the sequence ends so soon that values of both sides could meet within an hour.
    """
    plan = ctx.expand_contract_plan
    async with ctx.read_connection() as conn:
        moves = await read_sequence_moves(conn, plan)
        before = [await conn.fetchrow(move.room_sql) for move in moves]
        if any(move.old is not None for move in moves):
            await asyncio.sleep(rate_seconds)
        after = [await conn.fetchrow(move.room_sql) for move in moves]
    gaps = []
    for move, first, last in zip(moves, before, after, strict=True):
        counted = abs((last["last"] or 0) - (first["last"] or 0)) if first and last else 0
        rate = math.ceil(float(counted) / rate_seconds)
        if move.old is not None and last is not None and last["room"] / 2 < rate * MIN_GAP_SECONDS:
            raise StepFailed(
                f"sequence {'.'.join(move.new)} has {last['room']} values left, and the old side gives out {rate} a"
                " second: values of V2 and V3 could meet while both run",
                f"ALTER SEQUENCE {name_sql(*move.new)} AS bigint, and the same for its column; or advance again"
                " when the load is lower",
            )
        gaps.append(max(GAP, rate * GAP_SECONDS))
    async with ctx.store.fenced() as conn:
        for move, gap in zip(moves, gaps, strict=True):
            await conn.execute(move.sql_with_gap(gap))


@asynccontextmanager
async def keep_sequences_apart(ctx: Context, step: StepHandle, *, seconds: float = POLL_SECONDS) -> AsyncIterator[None]:
    """While V2 and V3 both insert: the sequence that comes near the other one is set past it.

    What is known of each pair is saved in the step, because V3 may run already when the step is repeated.
    """
    if "sequence_pairs" not in step.detail:
        async with ctx.read_connection() as conn:
            pairs = [pair async for pair in _read_pairs(conn, ctx.expand_contract_plan)]
        await step.save_detail(sequence_pairs=[pair.to_json() for pair in pairs])
    watch = asyncio.create_task(_watch_pairs(ctx, step, seconds)) if step.detail["sequence_pairs"] else None
    try:
        yield
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


async def _read_pairs(conn: Connection, plan: Plan) -> AsyncIterator[SequencePair]:
    for move in await read_sequence_moves(conn, plan):
        if move.old is None:
            continue
        pair = SequencePair(move.old, move.new, 0, 0)
        row = await conn.fetchrow(pair.last_values_sql)
        if row is not None and row["increment"] > 0 and row["upper"] is not None:
            gap = row["upper"] - (row["lower"] or 0)
            if gap > 0:
                yield SequencePair(move.old, move.new, row["upper"], gap)


async def _watch_pairs(ctx: Context, step: StepHandle, seconds: float) -> None:
    while True:
        with suppress(DatabaseError):  # the rollout goes on; the next poll may succeed
            await _separate_pairs(ctx, step)
        await asyncio.sleep(seconds)


async def _separate_pairs(ctx: Context, step: StepHandle) -> None:
    pairs = [SequencePair.from_json(each) for each in step.detail["sequence_pairs"]]
    for number, pair in enumerate(pairs):
        async with ctx.read_connection() as conn:
            row = await conn.fetchrow(pair.last_values_sql)
        if row is None or row["lower"] is None:
            continue
        moved = pair.next_pair(row["lower"], row["upper"] or pair.boundary, row["maximum"])
        if moved is not None:
            async with ctx.store.fenced() as conn:
                await conn.execute(moved.set_upper_sql)
            pairs[number] = moved
            await step.save_detail(sequence_pairs=[each.to_json() for each in pairs])


async def _advance_new_sequences(conn: Connection, plan: Plan) -> None:
    for move in await read_sequence_moves(conn, plan):
        await conn.execute(move.sql)


async def _advance_old_sequences(conn: Connection, plan: Plan) -> None:
    for move in await read_sequence_moves(conn, plan):
        if move.undo_sql is not None:
            await conn.execute(move.undo_sql)


class AdvanceSequences:
    """Sets the sequences of the new side past every value of the old side, because V3 inserts with them.

    The undo runs when V3 is gone: the old side's sequences are set past the values that V3 has used.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await advance_sequences(ctx)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        async with ctx.store.fenced() as conn:
            await _advance_old_sequences(conn, ctx.expand_contract_plan)


class DefaultNewSide:
    """Sets the defaults of change.constrain before V3, which may leave columns out; the old side has the same ones."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.expand_contract_plan
        path = f"SET LOCAL search_path = {search_path(plan)}"
        await run_statements(ctx, step, (path, *(each.text for each in early_defaults(plan))))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.expand_contract_plan
        path = f"SET LOCAL search_path = {search_path(plan)}"
        await run_statements(ctx, step, (path, *undo_constrain_statements(early_defaults(plan), ())))


class ConstrainNewSide:
    """Runs change.constrain: NOT NULL, defaults and constraints that older versions could not have lived with."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.expand_contract_plan
        statements = read_constrain(plan)
        if "sequence_owners" not in step.detail:
            owners = []
            async with ctx.read_connection() as conn:
                for each in statements:
                    if each.sequence is not None and each.sequence_owner is not None:
                        name = quote_qualified(each.sequence.schema_, each.sequence.name)
                        owners.append([name, await conn.fetchval(_OWNER, name) or "NONE"])
            await step.save_detail(sequence_owners=owners)
        path = f"SET LOCAL search_path = {search_path(plan)}"
        *earlier, last = constrain_batches(statements)
        for batch in earlier:
            await run_batch(ctx, step, (path, *batch))
        # An identity that was just added starts where the old one is.
        await run_statements(ctx, step, (path, *last), then=lambda conn: _advance_new_sequences(conn, plan))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        async with ctx.store.fenced() as conn:
            await _advance_old_sequences(conn, ctx.expand_contract_plan)
        owners = [(name, owner) for name, owner in step.detail.get("sequence_owners", [])]
        taken_back = read_constrain(ctx.expand_contract_plan)
        strategy = (await ctx.store.read()).release.strategy
        if any(each.name == "default-new-side" for each in strategy.steps):  # V3 still runs, and needs its defaults
            kept = early_defaults(ctx.expand_contract_plan)
            taken_back = tuple(each for each in taken_back if each not in kept)
        statements = undo_constrain_statements(taken_back, owners)
        path = f"SET LOCAL search_path = {search_path(ctx.expand_contract_plan)}"
        await run_statements(ctx, step, (path, *statements))

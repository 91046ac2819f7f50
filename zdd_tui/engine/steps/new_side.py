"""The new side gets what the old side has: sequences at cutover, constraints in contract, and a comparison of both."""

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.checks.catalog_diff import describe_losses, find_losses, read_sequence_moves
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import run_batch, run_statements
from zdd_tui.model.ddl.catalog_diff import format_losses
from zdd_tui.model.ddl.constrain import constrain_batches, undo_constrain_statements
from zdd_tui.model.ddl.lint import read_constrain
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_qualified

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


async def advance_sequences(ctx: Context) -> None:
    """Sets the sequences of the new side past every value of the old side. Running it again is harmless."""
    async with ctx.store.fenced() as conn:
        await _advance_new_sequences(conn, ctx.expand_contract_plan)


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
        statements = undo_constrain_statements(read_constrain(ctx.expand_contract_plan), owners)
        path = f"SET LOCAL search_path = {search_path(ctx.expand_contract_plan)}"
        await run_statements(ctx, step, (path, *statements))

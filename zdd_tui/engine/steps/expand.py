"""Expand: adds the new schema beside the old one. Also the helpers by which all steps change the schema."""

from collections.abc import Awaitable, Callable
from typing import Any

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.ddl import LadderSettings, as_owner, create_index, drop_index, run_ddl
from zdd_tui.checks.catalog_diff import check_new_side
from zdd_tui.checks.schema import check_change, run_squawk_checks
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.continuity import save_with_step
from zdd_tui.model.ddl import (
    Catalog,
    CreatedObjects,
    Direction,
    drop_sync_statements,
    expand_statements,
    index_statements,
    sync_statements,
    undo_expand_statements,
)
from zdd_tui.model.ddl.lint import created_objects
from zdd_tui.model.ddl.scratch_copy import planned_owner
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.sql import quote_qualified

DdlBuilder = Callable[[Catalog], tuple[str, ...]]


async def change_schema(ctx: Context, step: StepHandle, build: DdlBuilder) -> None:
    """Runs the statements that ``build`` makes from the current catalog."""
    await run_statements(ctx, step, build(await ctx.catalog(fresh=True)))


async def run_statements(
    ctx: Context,
    step: StepHandle,
    statements: tuple[str, ...],
    *,
    first: Callable[[Connection], Awaitable[None]] | None = None,
    then: Callable[[Connection], Awaitable[None]] | None = None,
    **facts: Any,
) -> None:
    """Runs DDL with the ladder of lock timeouts. It commits together with the step's record, which gets ``facts``.

    Args:
        first: reads what the undo needs, before the statements.
        then: what else belongs to the transaction.
    """

    async def record(conn: Connection) -> None:
        if then is not None:
            await then(conn)
        await step.record_done(conn, **facts)

    await run_ddl(
        ctx.read_connection,
        ctx.store.fenced,
        statements,
        ladder=LadderSettings.from_database(ctx.plan.database),
        on_wait=step.set_note,
        first=first,
        record=record,
    )


async def run_batch(ctx: Context, step: StepHandle, statements: tuple[str, ...]) -> None:
    """Runs DDL with the ladder of lock timeouts, before the step's last transaction. It may be repeated."""
    await run_ddl(
        ctx.read_connection,
        ctx.store.fenced,
        statements,
        ladder=LadderSettings.from_database(ctx.plan.database),
        on_wait=step.set_note,
    )


async def install_sync(ctx: Context, step: StepHandle, direction: Direction) -> None:
    """Creates or replaces the trigger of one direction."""
    statements = sync_statements(ctx.expand_contract_plan, await ctx.catalog(fresh=True), direction)
    await run_statements(ctx, step, statements, then=save_with_step(ctx, step))


async def remove_sync(ctx: Context, step: StepHandle, direction: Direction) -> None:
    """Drops the trigger of one direction, if it exists."""
    await change_schema(ctx, step, lambda catalog: drop_sync_statements(ctx.expand_contract_plan, catalog, direction))


class LintDdl:
    """Checks that the DDL is additive, that the server supports the whole change, and that nothing would be lost.

    Only reads. Records what change.constrain brings later, for the gate of expand.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        async with ctx.read_connection() as conn:
            await check_change(conn, ctx.expand_contract_plan)
            sides = await check_new_side(conn, ctx.expand_contract_plan)
        await step.save_detail(deferred=list(sides.deferred))
        await run_squawk_checks(ctx.expand_contract_plan)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The check only reads."""


class ExpandSchema:
    """Adds the new columns or the new table. Records what it creates; the undo drops exactly that."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        # Recorded in the same transaction: if it fails because another client created such a column meanwhile,
        # the undo must not drop that column.
        plan = ctx.expand_contract_plan
        created, statements = created_objects(plan).to_json(), expand_statements(plan)
        if plan.change.into is not None and not planned_owner(plan):
            table, schema = quote_qualified(plan.change.table.schema_, plan.change.table.name), plan.change.into.schema_
            async with ctx.read_connection() as conn:
                statements = await as_owner(conn, table, schema, statements)
        await run_statements(ctx, step, statements, created=created)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        created = CreatedObjects.from_json(step.detail.get("created", {}))
        await run_statements(ctx, step, undo_expand_statements(ctx.expand_contract_plan, created))


class CreateIndexes:
    """Builds the indexes concurrently, outside of any transaction."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        indexes = created_objects(ctx.expand_contract_plan).indexes
        for statement, (schema, name) in zip(index_statements(ctx.expand_contract_plan), indexes, strict=True):
            await self._require_own_index(ctx, step, schema, name)
            await ctx.check_lease()
            await create_index(ctx.read_connection, statement, on_wait=step.set_note, schema=schema, name=name)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        for schema, name in reversed(step.detail.get("made", [])):
            await ctx.check_lease()
            await drop_index(ctx.read_connection, schema, name, on_wait=step.set_note)

    async def _require_own_index(self, ctx: Context, step: StepHandle, schema: str, name: str) -> None:
        """Refuses an index of that name that this step did not create: it is neither used nor dropped."""
        made: list[list[str]] = step.detail.get("made", [])
        if [schema, name] in made:
            return
        async with ctx.read_connection() as conn:
            exists = await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", quote_qualified(schema, name))
        if exists:
            raise StepFailed(
                f"another client has created an index {schema}.{name}", "drop it, or rename the index in the plan"
            )
        await step.save_detail(made=[*made, [schema, name]])


class SyncForward:
    """Installs the trigger that copies changes of the old side to the new side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await install_sync(ctx, step, "forward")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await remove_sync(ctx, step, "forward")

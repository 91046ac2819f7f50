"""Expand: the new schema is added beside the old one, and nothing that works is touched."""

from collections.abc import Callable
from typing import Any

from zdd_tui.backends.postgres.ddl import LadderSettings, create_index, drop_index, run_ddl
from zdd_tui.checks.schema import check_change, run_squawk_checks
from zdd_tui.engine.context import Context, StepHandle
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
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.sql import quote_qualified

# --- Schema changes as the steps use them: under the lock ladder, committed together with their record.


DdlBuilder = Callable[[Catalog], tuple[str, ...]]


async def change_schema(ctx: Context, step: StepHandle, build: DdlBuilder) -> None:
    """Runs what ``build`` makes of the present catalog; DDL and the step's record commit together."""
    statements = build(await ctx.catalog(fresh=True))
    await run_statements(ctx, step, statements)


async def run_statements(ctx: Context, step: StepHandle, statements: tuple[str, ...], **facts: Any) -> None:
    """Runs statements under the ladder; nothing but the record, with its facts, where there are none."""
    await run_ddl(
        ctx.read_connection,
        ctx.store.fenced,
        statements,
        ladder=LadderSettings.from_database(ctx.plan.database),
        on_wait=step.set_note,
        record=lambda conn: step.record_done(conn, **facts),
    )


async def install_sync(ctx: Context, step: StepHandle, direction: Direction) -> None:
    """Creates, or replaces, the trigger of one direction."""
    await change_schema(ctx, step, lambda catalog: sync_statements(ctx.expand_contract_plan, catalog, direction))


async def remove_sync(ctx: Context, step: StepHandle, direction: Direction) -> None:
    """Drops the trigger of one direction; one that is not there is no error."""
    await change_schema(ctx, step, lambda catalog: drop_sync_statements(ctx.expand_contract_plan, catalog, direction))


# --- end


class LintDdl:
    """The DDL is additive, and the server can carry the whole change. Reads only."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        async with ctx.read_connection() as conn:
            await check_change(conn, ctx.expand_contract_plan)
        await run_squawk_checks(ctx.expand_contract_plan)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Nothing was done."""


class ExpandSchema:
    """The new columns, or the new table. Remembers what it makes, and its undo drops that and nothing else."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        # Remembered in the transaction that makes it: had it failed because somebody else made such a column
        # meanwhile, the undo must not drop theirs.
        created = created_objects(ctx.expand_contract_plan).to_json()
        await run_statements(ctx, step, expand_statements(ctx.expand_contract_plan), created=created)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        created = CreatedObjects.from_json(step.detail.get("created", {}))
        await run_statements(ctx, step, undo_expand_statements(ctx.expand_contract_plan, created))


class CreateIndexes:
    """Indexes, built concurrently, outside of any transaction."""

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
        """An index of that name which we have not begun is somebody else's: it is neither taken over nor dropped."""
        made: list[list[str]] = step.detail.get("made", [])
        if [schema, name] in made:
            return
        async with ctx.read_connection() as conn:
            there = await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", quote_qualified(schema, name))
        if there:
            raise StepFailed(
                f"somebody else has made an index {schema}.{name}", "drop it, or give the plan's index another name"
            )
        await step.save_detail(made=[*made, [schema, name]])


class SyncForward:
    """The trigger by which changes of the old side reach the new side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await install_sync(ctx, step, "forward")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await remove_sync(ctx, step, "forward")

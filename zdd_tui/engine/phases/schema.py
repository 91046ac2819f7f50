"""Schema changes as the steps use them: under the lock ladder, committed together with their record."""

from collections.abc import Callable
from typing import Any

from zdd_tui.backends.ddl import LadderSettings, run_ddl
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.model.ddl import Catalog, Direction, drop_sync_statements, sync_statements

Build = Callable[[Catalog], tuple[str, ...]]


async def change_schema(ctx: Context, step: StepHandle, build: Build) -> None:
    """Runs what ``build`` makes of the present catalog; DDL and the step's record commit together."""
    statements = build(await ctx.catalog(fresh=True))
    await run_statements(ctx, step, statements)


async def run_statements(ctx: Context, step: StepHandle, statements: tuple[str, ...], **facts: Any) -> None:
    """Runs statements under the ladder; nothing but the record, with its facts, where there are none."""
    await run_ddl(
        ctx.reading,
        ctx.store.fenced,
        statements,
        ladder=LadderSettings.of(ctx.plan.database),
        on_wait=step.note,
        record=lambda conn: step.record(conn, **facts),
    )


async def install_sync(ctx: Context, step: StepHandle, direction: Direction) -> None:
    """Creates, or replaces, the trigger of one direction."""
    await change_schema(ctx, step, lambda catalog: sync_statements(ctx.change_plan, catalog, direction))


async def remove_sync(ctx: Context, step: StepHandle, direction: Direction) -> None:
    """Drops the trigger of one direction; one that is not there is no error."""
    await change_schema(ctx, step, lambda catalog: drop_sync_statements(ctx.change_plan, catalog, direction))

"""Cleanup: flags, triggers and the data kept aside go; nothing of the release is left behind."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.flag_switch import remember_flag, restore
from zdd_tui.engine.patience import effect
from zdd_tui.engine.phases.contract import require_v3_alone
from zdd_tui.engine.phases.schema import change_schema
from zdd_tui.model.ddl import drop_aside_statements
from zdd_tui.model.sql import qualified


class DeleteFlags:
    """V3 asks for no flag any more. They come back with the values that they had."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        keys = (ctx.change_plan.flags.write, ctx.change_plan.flags.read)
        await remember_flag(ctx, step, *keys)
        for key in keys:
            await effect(ctx, step, lambda key=key: ctx.flags.delete(key, epoch=ctx.epoch))  # type: ignore[misc]

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore(ctx, step)


class DropAside:
    """The old data goes for good: the one step without a way back."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await require_v3_alone(ctx)
        await change_schema(ctx, step, lambda catalog: drop_aside_statements(ctx.change_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """It had no effect, else the rules would not have let anybody come here: drop and record commit together."""


class Analyze:
    """Statistics of the table as it is now."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        target = ctx.change_plan.change.target
        async with ctx.store.fenced() as conn:
            # A role's own timeouts must not keep a release from its end when the old data is gone already.
            await conn.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            await conn.execute(f"ANALYZE {qualified(target.schema_, target.name)}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Statistics are no harm."""


class ClearMarks:
    """Our annotations on the Deployment, and our fences in Redis."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await effect(
            ctx,
            step,
            lambda: ctx.cluster.clear_marks(ctx.plan.kubernetes.deployment, epoch=ctx.epoch, change_cause=None),
        )
        if keys := list(ctx.plan.flag_roles):
            await effect(ctx, step, lambda: ctx.flags.forget(keys))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Marks are set anew by the next write."""

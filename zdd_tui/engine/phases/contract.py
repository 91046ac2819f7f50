"""Contract: the old schema is taken away. Its data stays aside until cleanup, and comes back in an instant."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.phases.schema import change_schema
from zdd_tui.engine.rollout import look
from zdd_tui.model.ddl import set_aside_statements, undo_aside_statements
from zdd_tui.model.errors import StepFailed


class SetAside:
    """Renames the old side out of everybody's way."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        # The gate said so, but a rollout from outside may have come between (design, invariant 6).
        status = await look(ctx)
        if not status.done:
            raise StepFailed(
                f"a pod of an older version may exist: {status.message}", "wait until it is gone, then advance again"
            )
        await change_schema(ctx, step, lambda catalog: set_aside_statements(ctx.change_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: undo_aside_statements(ctx.change_plan, catalog))

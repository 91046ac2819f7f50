"""Contract: the old schema is taken away. Its data stays aside until cleanup, and comes back in an instant."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.expand import change_schema
from zdd_tui.engine.steps.flags import restore_flags, save_flag_values
from zdd_tui.engine.steps.rollout import read_rollout_status
from zdd_tui.model.ddl import archive_statements, drop_archive_statements, restore_archive_statements
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.sql import quote_qualified
from zdd_tui.model.workload.rollout import container_image


async def require_only_v3_pods(ctx: Context) -> None:
    """Every pod is V3, terminating ones included: nobody who knows the old side can still come to it.

    Raises:
        StepFailed: names the pods that are not.
    """
    plan = ctx.expand_contract_plan
    view = await ctx.cluster.get_deployment(plan.kubernetes.deployment)
    pods = await ctx.cluster.list_pods(view.selector, container=plan.kubernetes.container)
    other = sorted(pod.name for pod in pods if plan.version_of(pod.image) != "v3")
    status = await read_rollout_status(ctx)
    if other or container_image(plan, view) != plan.kubernetes.images.v3 or not status.done:
        what = f"{', '.join(other[:3])} not V3" if other else status.message
        raise StepFailed(
            f"an older version may still use the old side: {what}",
            "roll out V3 again and wait until every other pod is gone, then advance again; or roll back",
        )


class ArchiveOldSide:
    """Renames the old side out of everybody's way."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        # The gate said so, but a rollout from outside may have come between (design, invariant 6).
        await require_only_v3_pods(ctx)
        await change_schema(ctx, step, lambda catalog: archive_statements(ctx.expand_contract_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: restore_archive_statements(ctx.expand_contract_plan, catalog))


# --- Cleanup: flags, triggers and the data kept aside go; nothing of the release is left behind.


class DeleteFlags:
    """V3 asks for no flag any more. They come back with the values that they had."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        keys = (ctx.expand_contract_plan.flags.write, ctx.expand_contract_plan.flags.read)
        await save_flag_values(ctx, step, *keys)
        for key in keys:
            await with_retry(ctx, step, lambda key=key: ctx.flags.delete(key, epoch=ctx.epoch))  # type: ignore[misc]

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore_flags(ctx, step)


class DropArchive:
    """The old data goes for good: the one step without a way back."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await require_only_v3_pods(ctx)
        await change_schema(ctx, step, lambda catalog: drop_archive_statements(ctx.expand_contract_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """It had no effect, else the rules would not have let anybody come here: drop and record commit together."""


class AnalyzeTable:
    """Statistics of the table as it is now."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        target = ctx.expand_contract_plan.change.target_table
        async with ctx.store.fenced() as conn:
            # A role's own timeouts must not keep a release from its end when the old data is gone already.
            await conn.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            await conn.execute(f"ANALYZE {quote_qualified(target.schema_, target.name)}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Statistics are no harm."""


class RemoveAnnotations:
    """Our annotations on the Deployment, and our fences in Redis."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await with_retry(
            ctx,
            step,
            lambda: ctx.cluster.remove_annotations(ctx.plan.kubernetes.deployment, epoch=ctx.epoch, change_cause=None),
        )
        if keys := list(ctx.plan.flag_roles):
            await with_retry(ctx, step, lambda: ctx.flags.expire_fences(keys))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Marks are set anew by the next write."""

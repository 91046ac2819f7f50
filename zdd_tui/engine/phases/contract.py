"""Contract: the old schema is taken away. Its data stays aside until cleanup, and comes back in an instant."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.phases.schema import change_schema
from zdd_tui.engine.rollout import container_image, look
from zdd_tui.model.ddl import set_aside_statements, undo_aside_statements
from zdd_tui.model.errors import StepFailed


async def require_v3_alone(ctx: Context) -> None:
    """Every pod is V3, terminating ones included: nobody who knows the old side can still come to it.

    Raises:
        StepFailed: names the pods that are not.
    """
    plan = ctx.change_plan
    view = await ctx.cluster.get_deployment(plan.kubernetes.deployment)
    pods = await ctx.cluster.list_pods(view.selector, container=plan.kubernetes.container)
    other = sorted(pod.name for pod in pods if plan.version_of(pod.image) != "v3")
    status = await look(ctx)
    if other or container_image(plan, view) != plan.kubernetes.images.v3 or not status.done:
        what = f"{', '.join(other[:3])} not V3" if other else status.message
        raise StepFailed(
            f"an older version may still use the old side: {what}",
            "roll out V3 again and wait until every other pod is gone, then advance again; or roll back",
        )


class SetAside:
    """Renames the old side out of everybody's way."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        # The gate said so, but a rollout from outside may have come between (design, invariant 6).
        await require_v3_alone(ctx)
        await change_schema(ctx, step, lambda catalog: set_aside_statements(ctx.change_plan, catalog))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await change_schema(ctx, step, lambda catalog: undo_aside_statements(ctx.change_plan, catalog))

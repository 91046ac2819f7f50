"""Steps of the strategies with one image: record the workload, roll the image out."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.flags import create_flags, delete_created_flags
from zdd_tui.engine.steps.rollout import roll_out, save_current_image
from zdd_tui.engine.steps.undo import require_image, restore_annotations, roll_back
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.workload.rollout import capacity_hint, container_image, reduces_capacity


class RecordWorkload:
    """Saves what runs now for the undo and writes our epoch on the Deployment, which fences older agents."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(SingleImagePlan)
        name = plan.kubernetes.deployment
        if "image_before" not in step.detail:
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(name))
            image = container_image(plan, view)
            if plan.version_of(image) == "new":
                raise StepFailed(
                    f"Deployment {name} runs {image} already: there is nothing to release",
                    "set kubernetes.image in the plan to the new image",
                )
            await step.save_detail(
                image_before=image,
                replicas_before=view.desired,
                revision_before=view.revision,
                change_cause_before=view.change_cause,
            )
        await with_retry(ctx, step, lambda: ctx.cluster.fence(name, ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The last undo that reads the Deployment: users get its image, so it must be the one from before the release,
        also where no step of the release has changed it."""
        if before := step.detail.get("image_before"):
            await require_image(ctx, step, before)
            await restore_annotations(ctx, step)


class RolloutNew:
    """Rolls out the new image. The undo rolls out the image, and so the revision, that ran before."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(SingleImagePlan)
        name = plan.kubernetes.deployment
        view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(name))
        if why := reduces_capacity(view):
            raise StepFailed(f"Deployment {name}: {why}", capacity_hint(plan))
        await save_current_image(ctx, step)
        await create_flags(ctx, step)
        if "revision_before" not in step.detail:
            await step.save_detail(revision_before=view.revision)
        await roll_out(ctx, step, plan.kubernetes.image, f"zdd {plan.name}: {plan.strategy}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if before := step.detail.get("image_before"):
            revision = step.detail.get("revision_before", "?")
            await roll_back(ctx, step, before, f"zdd {ctx.plan.name}: rolled back to revision {revision}")
            await delete_created_flags(ctx, step)

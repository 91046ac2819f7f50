"""What several strategies have in common: the Deployment of now is kept in mind, and one image is rolled out."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.rollout import roll_out, save_current_image
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.workload.rollout import capacity_hint, container_image, reduces_capacity


class RecordWorkload:
    """Notes what runs now, and marks the Deployment with our epoch: an older agent can write no more."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(SingleImagePlan)
        name = plan.kubernetes.deployment
        if "image_before" not in step.detail:
            view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(name))
            image = container_image(plan, view)
            if image == plan.kubernetes.image:
                raise StepFailed(
                    f"Deployment {name} runs {image} already: there is nothing to release",
                    "set kubernetes.image to the new image",
                )
            await step.save_detail(
                image_before=image,
                replicas_before=view.desired,
                revision_before=view.revision,
                change_cause_before=view.change_cause,
            )
        await with_retry(ctx, step, lambda: ctx.cluster.fence(name, ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if "image_before" in step.detail:
            cause = step.detail["change_cause_before"]
            name = ctx.plan.kubernetes.deployment
            await with_retry(
                ctx, step, lambda: ctx.cluster.remove_annotations(name, epoch=ctx.epoch, change_cause=cause)
            )


class RolloutNew:
    """The Deployment runs the new image; the undo goes back to the image, and so to the revision, that ran before."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(SingleImagePlan)
        name = plan.kubernetes.deployment
        view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(name))
        if why := reduces_capacity(view):
            raise StepFailed(f"Deployment {name}: {why}", capacity_hint(plan))
        await save_current_image(ctx, step)
        if "revision_before" not in step.detail:
            await step.save_detail(revision_before=view.revision)
        await roll_out(ctx, step, plan.kubernetes.image, f"zdd {plan.name}: {plan.strategy}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if before := step.detail.get("image_before"):
            revision = step.detail.get("revision_before", "?")
            await roll_out(ctx, step, before, f"zdd {ctx.plan.name}: rolled back to revision {revision}")

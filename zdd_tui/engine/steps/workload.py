"""What several strategies have in common: the Deployment of now is kept in mind, and one image is rolled out."""

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import effect
from zdd_tui.engine.steps.rollout import remember_image, roll_out
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.strategies import OneImagePlan
from zdd_tui.model.workload.rollout import container_image, mend_of_shrinking, shrinks


class RememberWorkload:
    """Notes what runs now, and marks the Deployment with our epoch: an older agent can write no more."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(OneImagePlan)
        name = plan.kubernetes.deployment
        if "image_before" not in step.detail:
            view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(name))
            image = container_image(plan, view)
            if image == plan.kubernetes.image:
                raise StepFailed(
                    f"Deployment {name} runs {image} already: there is nothing to release",
                    "set kubernetes.image to the new image",
                )
            await step.remember(
                image_before=image,
                replicas_before=view.desired,
                revision_before=view.revision,
                change_cause_before=view.change_cause,
            )
        await effect(ctx, step, lambda: ctx.cluster.fence(name, ctx.epoch))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if "image_before" in step.detail:
            cause = step.detail["change_cause_before"]
            name = ctx.plan.kubernetes.deployment
            await effect(ctx, step, lambda: ctx.cluster.clear_marks(name, epoch=ctx.epoch, change_cause=cause))


class RolloutNew:
    """The Deployment runs the new image; the undo goes back to the image, and so to the revision, that ran before."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_as(OneImagePlan)
        name = plan.kubernetes.deployment
        view = await effect(ctx, step, lambda: ctx.cluster.get_deployment(name))
        if why := shrinks(view):
            raise StepFailed(f"Deployment {name}: {why}", mend_of_shrinking(plan))
        await remember_image(ctx, step)
        if "revision_before" not in step.detail:
            await step.remember(revision_before=view.revision)
        await roll_out(ctx, step, plan.kubernetes.image, f"zdd {plan.name}: {plan.strategy}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if before := step.detail.get("image_before"):
            revision = step.detail.get("revision_before", "?")
            await roll_out(ctx, step, before, f"zdd {ctx.plan.name}: rolled back to revision {revision}")

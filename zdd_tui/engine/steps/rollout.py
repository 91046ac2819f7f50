"""Rolls an image out and waits until no pod of an older template is left."""

import asyncio

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import with_retry
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.workload.rollout import RolloutStatus, container_image, evaluate_rollout, select_own_pods

POLL_INTERVAL = 0.5
"""Seconds between looks at a rollout: a tenth of the shortest one we have seen."""


async def save_current_image(ctx: Context, step: StepHandle) -> None:
    """Keeps the image that runs now, once, so that the undo knows where to go back to."""
    if "image_before" not in step.detail:
        view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment))
        await step.save_detail(image_before=container_image(ctx.plan, view), change_cause_before=view.change_cause)


async def roll_out(ctx: Context, step: StepHandle, image: str, reason: str) -> None:
    """Sets the image, unless it is there already, and waits for the end of the rollout.

    Raises:
        StepFailed: the controller gave up, or kubernetes.rollout_timeout is over.
    """
    names = ctx.plan.kubernetes
    await with_retry(
        ctx,
        step,
        lambda: ctx.cluster.set_image(names.deployment, names.container, image, epoch=ctx.epoch, reason=reason),
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + names.rollout_timeout
    while True:
        try:
            status = await read_rollout_status(ctx)
        except ClusterError as error:
            status = RolloutStatus(False, False, f"cluster: {error.title}")
        if status.done:
            await _require_own_image(ctx, image)
            return
        if status.failed or loop.time() > deadline:
            why = status.message if status.failed else f"not over after {names.rollout_timeout:.0f} s: {status.message}"
            raise StepFailed(
                f"rollout of {image} on Deployment {names.deployment}: {why}",
                f"kubectl -n {names.namespace} describe deployment {names.deployment}; then advance again or roll back",
            )
        await step.set_note(status.message)
        await asyncio.sleep(POLL_INTERVAL)


async def _require_own_image(ctx: Context, image: str) -> None:
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    if (found := container_image(ctx.plan, view)) != image:
        raise StepFailed(
            f"somebody else has set the image of Deployment {view.name} to {found} while {image} was rolled out",
            "find out who; then advance again or roll back",
        )


async def read_rollout_status(ctx: Context, deployment: str = "") -> RolloutStatus:
    """Judges the rollout of a Deployment, the plan's where none is named, as it stands."""
    view = await ctx.cluster.get_deployment(deployment or ctx.plan.kubernetes.deployment)
    replica_sets = await ctx.cluster.list_replica_sets(view.selector)
    pods = await ctx.cluster.list_pods(view.selector)
    return evaluate_rollout(view, replica_sets, select_own_pods(view, replica_sets, pods))

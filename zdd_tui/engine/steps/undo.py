"""Undoes changes of the cluster. What another client has deleted meanwhile counts as undone, and the audit says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus

from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.services import read_namespace_phase
from zdd_tui.checks.rollouts import planned_images
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import evaluate_view
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.rollout import (
    POLL_INTERVAL,
    build_status,
    refuse_other_image,
    roll_out,
    wait_until_done,
)
from zdd_tui.model.counting import count_noun
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.image import is_rewritten
from zdd_tui.model.release.records import NewEvent
from zdd_tui.model.workload.rollout import DeploymentView, RolloutStatus, container_image

OBSERVE_TIMEOUT = 15.0
"""Seconds that the controller of a paused Deployment gets to see its last change."""


@asynccontextmanager
async def gone_counts_as_undone(ctx: Context, step: StepHandle) -> AsyncIterator[None]:
    """Ends the block where the API reports that an object does not exist (404), and records it."""
    try:
        yield
    except KubeApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        await record_gone(ctx, step, f"{error.title}: there is nothing to undo")


async def record_gone(ctx: Context, step: StepHandle, text: str) -> None:
    """Writes to the audit that a step counts as undone without an effect."""
    await ctx.store.append_events([NewEvent("step", f"{step.name}: {text}")])
    ctx.log(f"{step.name}: {text}")


async def roll_back(ctx: Context, step: StepHandle, image: str, reason: str) -> None:
    """Rolls the image of the plan's Deployment back.

    Nothing is done where it has that image already and no other pod exists, also while it is paused. A Deployment that
    is gone, alone or with its namespace, counts as rolled back once no pod with an image of the release is left.

    Raises:
        StepFailed: as :func:`zdd_tui.engine.steps.rollout.roll_out`; or it is paused and must be rolled.
    """
    names = ctx.workload_plan.kubernetes
    view = await _read_observed_deployment(ctx, step)
    if view is None or view.is_deleting or await read_namespace_phase(ctx.cluster) == "Terminating":
        await _wait_until_gone(ctx, step, image)
        return
    if view.paused:
        status = await evaluate_view(ctx, replace(view, paused=False))
        if container_image(ctx.workload_plan, view) == image and status.done:
            await record_gone(ctx, step, f"Deployment {view.name} is paused and has {image} alone: nothing to undo")
            return
        raise StepFailed(
            f"Deployment {view.name} is paused, and must return to {image}: Kubernetes rolls no paused Deployment",
            f"kubectl -n {names.namespace} rollout resume deployment/{view.name}; then {step.retry_command}",
        )
    async with gone_counts_as_undone(ctx, step):  # it may be deleted at any moment
        await roll_out(ctx, step, image, reason)
        return
    await _wait_until_gone(ctx, step, image)


async def require_image(ctx: Context, step: StepHandle, image: str) -> None:
    """Waits until no pod of the plan's Deployment has another image than `image`; one that is gone has no such pod.

    Raises:
        StepFailed: another client has set another image, which is named; or kubernetes.rollout_timeout has passed.
    """
    plan, names = ctx.workload_plan, ctx.workload_plan.kubernetes

    async def check() -> RolloutStatus:
        view = await _read_deployment(ctx, step)
        if view is None or view.is_deleting:
            return build_status("")
        problem = f"Deployment {view.name} has image {{current}}, and before the release it was {image}"
        refuse_other_image(ctx, step, view, image, problem)
        replica_sets = await ctx.cluster.list_replica_sets(view.selector)
        others = {
            each.uid
            for each in replica_sets
            if each.owner_uid == view.uid and not plan.is_image(image, each.images.get(names.container, image))
        }
        pods = await ctx.cluster.list_pods(view.selector)
        left = sorted(pod.name for pod in pods if pod.owner_uid in others and not pod.is_terminal)
        text = f"{count_noun(len(left), 'pod')} of {view.name} with another image than {image}: {', '.join(left[:3])}"
        return build_status(text if left else "")

    subject = f"return of Deployment {names.deployment} to {image}"
    await wait_until_done(ctx, step, check, subject=subject, resource=f"deployment/{names.deployment}")


async def restore_annotations(ctx: Context, step: StepHandle) -> None:
    """Removes our annotations from the plan's Deployment, and restores the change cause that the step saved."""
    name, cause = ctx.workload_plan.kubernetes.deployment, step.detail.get("change_cause_before")
    async with gone_counts_as_undone(ctx, step):
        await with_retry(ctx, step, lambda: ctx.cluster.remove_annotations(name, epoch=ctx.epoch, change_cause=cause))


async def _read_observed_deployment(ctx: Context, step: StepHandle) -> DeploymentView | None:
    """The Deployment; a paused one once the controller has seen it, because nothing else waits for that then."""
    deadline = asyncio.get_running_loop().time() + OBSERVE_TIMEOUT
    while True:
        view = await _read_deployment(ctx, step)
        is_current = view is None or not view.paused or view.is_observed
        if is_current or asyncio.get_running_loop().time() > deadline:
            return view
        await asyncio.sleep(POLL_INTERVAL)


async def _read_deployment(ctx: Context, step: StepHandle) -> DeploymentView | None:
    try:
        return await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(ctx.workload_plan.kubernetes.deployment))
    except KubeApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None


async def _wait_until_gone(ctx: Context, step: StepHandle, image_before: str) -> None:
    """Waits until the Deployment and every pod with another image of the release are gone: they may still write."""
    plan = ctx.workload_plan
    names = plan.kubernetes

    async def check() -> RolloutStatus:
        where = await _describe_place(ctx)
        try:
            await ctx.cluster.get_deployment(names.deployment)
        except KubeApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        else:
            return build_status(f"Deployment {names.deployment} is being deleted{where}")
        pods = await ctx.cluster.list_pods("", container=names.container)
        # Without its ReplicaSet the version of a pod that a webhook pinned cannot be told: it counts.
        left = sorted(
            pod.name
            for pod in pods
            if not pod.is_terminal
            and pod.image != image_before
            and any(plan.is_image(image, pod.image) or is_rewritten(pod.image, image) for image in planned_images(plan))
        )
        text = f"Deployment {names.deployment} is gone, {len(left)} of its pods still run{where}: {', '.join(left[:3])}"
        return build_status(text if left else "")

    subject = f"removal of Deployment {names.deployment}"
    await wait_until_done(ctx, step, check, subject=subject, resource=f"deployment/{names.deployment}")
    where = await _describe_place(ctx)
    await record_gone(ctx, step, f"Deployment {names.deployment} is gone{where}: it counts as rolled back")


async def _describe_place(ctx: Context) -> str:
    namespace, phase = ctx.workload_plan.kubernetes.namespace, await read_namespace_phase(ctx.cluster)
    if phase == "":
        return f", namespace {namespace} does not exist"
    return f", namespace {namespace} is terminating" if phase == "Terminating" else ""

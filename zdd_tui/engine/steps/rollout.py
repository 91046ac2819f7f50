"""Rolls an image out, and waits until a change of the cluster is done."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from zdd_tui.backends.kubernetes.cluster import ApiResource
from zdd_tui.backends.kubernetes.services import remove_owned
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import read_rollout_status
from zdd_tui.engine.retry import with_retry
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.workload.rollout import RolloutStatus, container_image

POLL_INTERVAL = 0.3
"""Seconds between two polls: short against the shortest rollout, which takes some seconds."""


async def save_current_image(ctx: Context, step: StepHandle) -> None:
    """Saves the image that runs now, once, for the undo."""
    if "image_before" not in step.detail:
        view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment))
        await step.save_detail(image_before=container_image(ctx.plan, view), change_cause_before=view.change_cause)


async def roll_out(ctx: Context, step: StepHandle, image: str, reason: str) -> None:
    """Sets the image of the plan's Deployment, unless it is set already, and waits for the end of the rollout.

    Raises:
        StepFailed: as :func:`wait_until_done`; or another client has set another image meanwhile.
    """
    names = ctx.plan.kubernetes
    set_view = await with_retry(
        ctx,
        step,
        lambda: ctx.cluster.set_image(names.deployment, names.container, image, epoch=ctx.epoch, reason=reason),
    )
    await _learn_admitted_image(ctx, step, image, container_image(ctx.plan, set_view))
    subject = f"rollout of {image} on Deployment {names.deployment}"
    await wait_until_done(
        ctx, step, lambda: read_rollout_status(ctx), subject=subject, resource=f"deployment/{names.deployment}"
    )
    view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(names.deployment))
    current = container_image(ctx.plan, view)
    if not ctx.plan.is_image(image, current):
        raise StepFailed(
            f"another client set the image of Deployment {view.name} to {current} during the rollout of {image}",
            f"find it with kubectl -n {names.namespace} get deployment {view.name} --show-managed-fields -o yaml;"
            " then advance again or roll back",
        )


async def _learn_admitted_image(ctx: Context, step: StepHandle, image: str, admitted: str) -> None:
    """An admission webhook may pin the image to a digest, or name another registry: what it makes is then expected.

    Raises:
        StepFailed: it makes the image of another version.
    """
    if admitted == image:
        return
    before = step.detail.get("image_before")
    if admitted == before and not ctx.plan.is_image(image, admitted):
        raise StepFailed(
            f"an admission webhook changes {image} back to {admitted}, which runs already",
            "see kubectl get mutatingwebhookconfigurations; correct the policy, then advance again or roll back",
        )
    ctx.plan.learn_image(image, admitted)
    known: list[list[str]] = step.detail.get("images_admitted", [])
    if [image, admitted] not in known:
        await step.save_detail(images_admitted=[*known, [image, admitted]])


async def learn_created_image(ctx: Context, step: StepHandle, deployment: str, image: str) -> None:
    """As after a rollout, for a Deployment that was created with an image."""
    view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(deployment))
    await _learn_admitted_image(ctx, step, image, container_image(ctx.plan, view))


def recall_admitted_images(plan: BasePlan, steps: Iterable[StepRecord]) -> None:
    """Restores what earlier agents of the release have learned about its images."""
    for step in steps:
        for planned, admitted in step.detail.get("images_admitted", ()):
            plan.learn_image(planned, admitted)


async def wait_until_done(
    ctx: Context, step: StepHandle, check: Callable[[], Awaitable[RolloutStatus]], *, subject: str, resource: str
) -> None:
    """Polls the cluster until a change is done. While Kubernetes is unavailable it continues to poll.

    Every poll first checks the lease: an agent that has lost it must neither act nor report on a release that
    another agent runs.

    Args:
        check: reads the state of the change. It may also repeat an idempotent request.
        subject: the change, for the error.
        resource: ``kind/name`` for ``kubectl describe``.

    Raises:
        StaleEpoch: the lease is lost.
        StepFailed: the controller gave up, or kubernetes.rollout_timeout has passed.
    """
    names = ctx.plan.kubernetes
    loop = asyncio.get_running_loop()
    deadline = loop.time() + names.rollout_timeout
    while True:
        await ctx.check_lease()
        try:
            status = await check()
        except ClusterError as error:
            status = RolloutStatus(done=False, failed=False, message=f"Kubernetes: {error.title}")
        if status.done:
            return
        if status.failed or loop.time() > deadline:
            late = "" if status.failed else f"not done after {names.rollout_timeout:.0f} s: "
            raise StepFailed(
                f"{subject}: {late}{status.message}",
                f"kubectl -n {names.namespace} describe {resource}; then advance again or roll back",
            )
        await step.set_note(status.message)
        await asyncio.sleep(POLL_INTERVAL)


async def remove_and_wait(ctx: Context, step: StepHandle, kind: ApiResource, name: str) -> None:
    """Deletes an object that this release owns, and waits until it is gone. Objects of other owners stay."""
    resource = f"{kind[1].removesuffix('s')}/{name}"

    async def check() -> RolloutStatus:
        removed = await remove_owned(ctx.cluster, kind, name, owner=ctx.plan.name, epoch=ctx.epoch)
        return build_status("" if removed else f"{resource} is being deleted")

    await wait_until_done(ctx, step, check, subject=f"removal of {resource}", resource=resource)


def build_status(unfinished: str) -> RolloutStatus:
    """The status of a change that the controller cannot fail: done when ``unfinished`` is empty."""
    return RolloutStatus(done=not unfinished, failed=False, message=unfinished)

"""Rolls an image out, and waits until a change of the cluster is done."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.cluster import ApiResource
from zdd_tui.backends.kubernetes.failure_detail import read_failure_detail, read_waiting_reason
from zdd_tui.backends.kubernetes.services import remove_owned
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import evaluate_view
from zdd_tui.engine.retry import is_outage, is_permanent, wait_for_system, with_retry
from zdd_tui.engine.waits import SilenceNotes
from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import ClusterError, StepFailed
from zdd_tui.model.plan.base import BasePlan, WorkloadPlan
from zdd_tui.model.release.condition_findings import describe_manager, image_hint
from zdd_tui.model.release.records import RETRYING_NOTE, NewEvent, StepRecord
from zdd_tui.model.release.system import System
from zdd_tui.model.workload.rollout import DeploymentCondition, DeploymentView, RolloutStatus, container_image

EVENT_INTERVAL = 2.0
"""Seconds between two readings of why a new pod does not become ready."""

POLL_INTERVAL = 0.3
"""Seconds between two polls: short against the shortest rollout, which takes some seconds."""


async def save_current_image(ctx: Context, step: StepHandle) -> None:
    """Saves the image that runs now, once, for the undo."""
    if "image_before" not in step.detail:
        view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(ctx.workload_plan.kubernetes.deployment))
        await step.save_detail(
            image_before=container_image(ctx.workload_plan, view), change_cause_before=view.change_cause
        )


async def roll_out(ctx: Context, step: StepHandle, image: str, reason: str) -> None:
    """Sets the image of the plan's Deployment, unless it is set already, and waits for the end of the rollout.

    A webhook may change the image in our own patch, for example to a digest. What it made of it is saved as
    ``images_admitted`` and counts as the image of this rollout from then on.

    Raises:
        StepFailed: as :func:`wait_until_done`; or another client has set another image meanwhile, which is named.
    """
    names = ctx.workload_plan.kubernetes
    rollout = await RolloutCheck.begin(ctx, step, names.deployment)
    set_view = await with_retry(
        ctx,
        step,
        lambda: ctx.cluster.set_image(names.deployment, names.container, image, epoch=ctx.epoch, reason=reason),
    )
    await _learn_admitted_image(ctx, step, image, container_image(ctx.workload_plan, set_view))
    subject = f"rollout of {image} on Deployment {names.deployment}"

    async def check() -> RolloutStatus:
        # On every poll: a foreign image must not be waited for, nor its failure be blamed on ours.
        view = await ctx.cluster.get_deployment(names.deployment)
        _require_image(ctx, step, view, image)
        return await rollout.evaluate(view)

    await wait_until_done(ctx, step, check, subject=subject, resource=f"deployment/{names.deployment}")
    view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(names.deployment))
    _require_image(ctx, step, view, image)


def _require_image(ctx: Context, step: StepHandle, view: DeploymentView, image: str) -> None:
    problem = f"another client set the image of Deployment {view.name} to {{current}} during the rollout of {image}"
    refuse_other_image(ctx, step, view, image, problem)


def refuse_other_image(ctx: Context, step: StepHandle, view: DeploymentView, image: str, problem: str) -> None:
    """
    Args:
        problem: the text of the failure, with ``{current}`` for the image that the Deployment has.

    Raises:
        StepFailed: the Deployment has another image; names who has set it.
    """
    current = container_image(ctx.workload_plan, view)
    if ctx.workload_plan.is_image(image, current):
        return
    manager = view.image_managers.get(ctx.workload_plan.kubernetes.container)
    raise StepFailed(
        f"{problem.replace('{current}', current)}: {describe_manager(manager)}",
        image_hint(ctx.workload_plan, view.name, manager, image, f"; then {step.retry_command}"),
    )


class RolloutCheck:
    """Reads the status of one attempt of a rollout.

    The controller keeps an exceeded deadline until the rollout progresses again. One from before this attempt counts
    only when the controller renews it, or when this attempt has had the whole deadline.
    """

    def __init__(self, ctx: Context, deployment: str, earlier: DeploymentCondition | None, deadline: float) -> None:
        self._ctx = ctx
        self._deployment = deployment
        self._earlier = earlier
        self._ends_at = asyncio.get_running_loop().time() + deadline

    @classmethod
    async def begin(cls, ctx: Context, step: StepHandle, deployment: str) -> "RolloutCheck":
        """Call it before the change that starts the rollout."""
        view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(deployment))
        return cls(ctx, deployment, view.exceeded_deadline, view.progress_deadline or 0.0)

    async def read(self) -> RolloutStatus:
        return await self.evaluate(await self._ctx.cluster.get_deployment(self._deployment))

    async def evaluate(self, view: DeploymentView) -> RolloutStatus:
        """The status by a view that was read just now."""
        is_ignored = asyncio.get_running_loop().time() < self._ends_at
        return await evaluate_view(self._ctx, view, ignored_condition=self._earlier if is_ignored else None)


class _StallTimer:
    """Measures for how long a rollout has had the same cause without any progress."""

    def __init__(self) -> None:
        self._seen: tuple[object, ...] = ()
        self._since = 0.0

    def is_hopeless(self, status: RolloutStatus, now: float) -> bool:
        cause = status.cause
        if cause is None or cause.patience is None:
            self._seen = ()
            return False
        # ErrImagePull and ImagePullBackOff alternate, and pods are replaced: only the kind of the cause counts.
        seen = (cause.patience, status.progress)
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since >= cause.patience


async def _learn_admitted_image(ctx: Context, step: StepHandle, image: str, admitted: str) -> None:
    """An admission webhook may pin the image to a digest, or name another registry: what it makes is then expected.

    Raises:
        StepFailed: it makes the image of another version.
    """
    if admitted == image:
        return
    before = step.detail.get("image_before")
    if admitted == before and not ctx.workload_plan.is_image(image, admitted):
        raise StepFailed(
            f"an admission webhook changes {image} back to {admitted}, which runs already",
            f"see kubectl get mutatingwebhookconfigurations; correct the policy, then {step.retry_command}",
        )
    ctx.workload_plan.learn_image(image, admitted)
    known: list[list[str]] = step.detail.get("images_admitted", [])
    if [image, admitted] not in known:
        await step.save_detail(images_admitted=[*known, [image, admitted]])
        await ctx.store.append_events([NewEvent("step", f"the API server changed image {image} to {admitted}")])


async def learn_created_image(ctx: Context, step: StepHandle, deployment: str, image: str) -> None:
    """As after a rollout, for a Deployment that was created with an image."""
    view = await with_retry(ctx, step, lambda: ctx.cluster.get_deployment(deployment))
    await _learn_admitted_image(ctx, step, image, container_image(ctx.workload_plan, view))


def recall_admitted_images(plan: BasePlan, steps: Iterable[StepRecord]) -> None:
    """Restores what earlier agents of the release have learned about its images."""
    if not isinstance(plan, WorkloadPlan):
        return
    for step in steps:
        for planned, admitted in step.detail.get("images_admitted", ()):
            plan.learn_image(planned, admitted)


async def wait_until_done(
    ctx: Context, step: StepHandle, check: Callable[[], Awaitable[RolloutStatus]], *, subject: str, resource: str
) -> None:
    """Polls the cluster until a change is done. While Kubernetes is unavailable it continues to poll, and that time
    does not count.

    Every poll first checks the lease: an agent that has lost it must neither act nor report on a release that
    another agent runs.

    Args:
        check: reads the state of the change. It may also repeat an idempotent request.
        subject: the change, for the error.
        resource: ``kind/name`` for ``kubectl describe``.

    Raises:
        StaleEpoch: the lease is lost.
        StepFailed: the controller gave up, kubernetes.rollout_timeout has passed, or the cause does not heal by
            itself (:mod:`zdd_tui.model.workload.container`). The cause comes first.
        KubeApiError: the API refuses what a retry does not change.
    """
    names = ctx.workload_plan.kubernetes
    loop = asyncio.get_running_loop()
    deadline = loop.time() + names.rollout_timeout
    stall, silence, waiting = _StallTimer(), SilenceNotes(step, System.KUBERNETES), _WaitingReason(ctx)
    poll_pause = Backoff(POLL_INTERVAL, POLL_INTERVAL)
    while True:
        await ctx.check_lease()
        try:
            async with silence.note_while_silent():
                status = await check()
            deadline += silence.note_response()  # an outage is no slow rollout
        except ClusterError as error:
            if is_permanent(error):
                raise
            if is_outage(error):
                await wait_for_system(ctx, step, error, silence, poll_pause)
                continue
            limit = format_duration(names.rollout_timeout)
            status = RolloutStatus(done=False, failed=False, message=f"{RETRYING_NOTE}{limit}: {error.title}")
        if status.done:
            return
        is_late = loop.time() > deadline
        if status.failed or is_late or stall.is_hopeless(status, loop.time()):
            late = f"not done after {format_duration(names.rollout_timeout)}: " if is_late and not status.failed else ""
            raise StepFailed(
                await _describe_failure(ctx, status, f"{subject}: {late}"),
                f"kubectl -n {names.namespace} describe {resource}; then {step.retry_command}",
            )
        await step.set_note(await waiting.describe(status))
        await asyncio.sleep(POLL_INTERVAL)


class _WaitingReason:
    """Says in the note of a rollout why a new pod does not become ready."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._pod = self._text = ""
        self._read_at = 0.0

    async def describe(self, status: RolloutStatus) -> str:
        """The message of a rollout with the reason from the pod's Events, read every `EVENT_INTERVAL` seconds."""
        cause = status.cause
        if cause is not None and not cause.has_crashed:
            return status.message
        pod = cause.pod if cause is not None else next(iter(status.waiting_pods), "")
        now = asyncio.get_running_loop().time()
        if pod and (pod != self._pod or now - self._read_at >= EVENT_INTERVAL):
            self._pod, self._read_at = pod, now
            self._text = await read_waiting_reason(self._ctx.cluster, pod)
        if cause is not None:
            # It may be the probe that has ended the container.
            rest = status.message.removeprefix(f"{cause.text}; ")
            return "; ".join(filter(None, (cause.text, self._text, rest)))
        count = status.restarts
        restarts = f"restarted {count_noun(count, 'time')}" if count else ""
        reason = ", ".join(filter(None, (self._text if pod else "", restarts)))
        return f"{status.message}; {pod}: {reason}" if reason else status.message


async def _describe_failure(ctx: Context, status: RolloutStatus, subject: str) -> str:
    """The cause, what the API knows about it, then what failed: a short line on a screen shows the beginning."""
    detail = ""
    if status.cause is not None or status.waiting_pods:
        detail = await read_failure_detail(ctx.cluster, status.cause, status.waiting_pods)
    if status.cause is None:
        return f"{detail}; {subject}{status.message}" if detail else f"{subject}{status.message}"
    cause = f"{status.cause.text}; {detail}" if detail else status.cause.text
    return f"{cause}; {subject}{status.message.removeprefix(f'{status.cause.text}; ')}"


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

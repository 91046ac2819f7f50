"""Tries the rollouts of a plan as server-side dry runs, and names what would stop them, harm them or undo them."""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.dry_run import (
    AUTOSCALERS,
    BUDGETS,
    QUOTAS,
    get_namespace,
    list_readable,
    try_image,
    try_pod,
)
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, get_raw_object
from zdd_tui.model.errors import ClusterError, with_hint
from zdd_tui.model.image import is_same_image
from zdd_tui.model.json_access import get_object, get_objects, get_text
from zdd_tui.model.plan.base import Plan, WorkloadPlan
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.workload.quota import find_quota_shortages
from zdd_tui.model.workload.rollout import (
    EPOCH_ANNOTATION,
    capacity_hint,
    container_image,
    project_deployment,
    reduces_capacity,
    stops_service,
)
from zdd_tui.model.workload.rollout_rules import (
    OtherContainer,
    find_admitted_image,
    find_companions,
    find_other_containers,
    find_undone_images,
    is_finished_pod,
    is_paused,
    is_terminating,
    matches_selector,
)

_NO_DRY_RUN = "does not support dry run"
_DRY_RUN_HINT = "see kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations for its sideEffects"


@dataclass(slots=True)
class _Findings:
    """What the dry runs have found.

    Attributes:
        errors: what makes the release impossible.
        unread: kinds of objects that this account may not list.
    """

    place: str
    lines: list[str] = field(default_factory=list)
    errors: list[ClusterError] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def note(self, text: str, hint: str = "") -> None:
        self.lines.append(with_hint(f"note: {self.place}: {text}", hint))

    def refuse(self, text: str, hint: str) -> None:
        self.errors.append(ClusterError(f"{self.place}: {text}", hint))


async def try_rollouts(cluster: Cluster, plan: WorkloadPlan) -> list[str]:
    """Tries every rollout of the plan. Changes nothing.

    Returns:
        one line for each fact that an operator should see.

    Raises:
        ClusterError: everything that would make a rollout fail, harm the service, or leave an old version unseen.
    """
    names = plan.kubernetes
    found = _Findings(f"Kubernetes {names.namespace}/{names.deployment}")
    raw, quotas, autoscalers, budgets = await asyncio.gather(
        cluster.http.request_json("GET", cluster.path(*DEPLOYMENTS, names.deployment)),
        list_readable(cluster, QUOTAS),
        list_readable(cluster, AUTOSCALERS),
        list_readable(cluster, BUDGETS),
    )
    unread = {"resourcequotas": quotas}
    unread |= {"horizontalpodautoscalers": autoscalers, "poddisruptionbudgets": budgets}
    found.unread += [kind for kind, objects in unread.items() if objects is None]
    if get_text(raw, "metadata", "deletionTimestamp"):
        raise ClusterError(f"{found.place}: the Deployment is being deleted", "name one that stays")
    _check_strategy(found, plan, raw)
    _check_containers(found, plan, raw)
    for companion in find_companions(raw, autoscalers or (), budgets or ()):
        found.note(companion.text, companion.hint)
    await _check_service(found, cluster, plan, raw)
    admitted = await _try_images(found, cluster, plan, raw)
    _check_quotas(found, plan, quotas or (), admitted or raw)
    if admitted is not None:
        await _try_pod(found, cluster, plan, admitted)
    if found.unread:
        found.note(
            f"not read, so not checked: {', '.join(found.unread)}: this account may not list them",
            "see config/kubernetes/ for the role that a check needs",
        )
    if len(found.errors) == 1:
        raise found.errors[0]
    if found.errors:
        raise ClusterError("\n".join(map(str, found.errors)))
    return found.lines


async def require_live_namespace(cluster: Cluster) -> None:
    """
    Raises:
        ClusterError: the namespace does not exist, or is being deleted.
    """
    namespace = await get_namespace(cluster)
    if namespace is not None and is_terminating(namespace):
        raise ClusterError(
            f"Kubernetes {cluster.namespace}: the namespace is being deleted: nothing can be rolled out in it",
            "name another namespace in kubernetes.namespace, or wait until it is gone and create it again",
        )


def planned_images(plan: WorkloadPlan) -> tuple[str, ...]:
    """The images that the plan rolls out, in order."""
    if isinstance(plan, Plan):
        return (plan.kubernetes.images.v2, plan.kubernetes.images.v3)
    return (plan.kubernetes.image,) if isinstance(plan, SingleImagePlan) else ()


def _check_strategy(found: _Findings, plan: WorkloadPlan, raw: Any) -> None:
    view = project_deployment(raw)
    names = plan.kubernetes
    if is_paused(raw):
        found.refuse(
            "the Deployment is paused: its controller rolls nothing out",
            f"kubectl -n {names.namespace} rollout resume deployment/{names.deployment}",
        )
    if isinstance(plan, SingleImagePlan):
        return  # checked with the capacity
    if reason := stops_service(view):
        found.refuse(reason, capacity_hint(plan))
    elif reason := reduces_capacity(view):
        found.note(f"{reason}: a rollout serves with less capacity", capacity_hint(plan))


def _check_containers(found: _Findings, plan: WorkloadPlan, raw: Any) -> None:
    current = container_image(plan, project_deployment(raw))
    others = find_other_containers(raw, plan.kubernetes.container, (current, *planned_images(plan)))
    for each in others:
        text = f"{each.description} has {each.image}, an image of this program, and no step changes it"
        if isinstance(plan, Plan) and each.accepted_as not in plan.accepted_reasons:
            found.refuse(
                f"{text}: it stays V1 in every pod, and no gate checks it, also when the old side is archived",
                _container_hint(each),
            )
        else:
            found.note(text, "make it a Deployment of its own, or change its image by hand after the release")


def _container_hint(container: OtherContainer) -> str:
    return (
        "give it an image of its own, or move it to a Deployment of its own; if it uses neither side of the change:"
        f" add to the plan: accept: [{{what: {container.accepted_as}, reason: …}}]"
    )


async def _check_service(found: _Findings, cluster: Cluster, plan: WorkloadPlan, raw: Any) -> None:
    """The Service must exist and select the pods. A worker has none: its pods count by their readiness."""
    try:
        service = await get_raw_object(cluster, SERVICES, plan.service)
    except KubeApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        found.unread.append("services")
        return
    if service is None:
        if plan.kubernetes.service is not None:
            found.refuse(
                f"there is no Service {plan.service}, so no pod would ever count as serving",
                "correct kubernetes.service, or leave it out for a workload without a Service: its pods then count"
                " by their readiness",
            )
        else:
            found.note(f"there is no Service {plan.service}: pods count as serving when they are ready")
        return
    selector = get_object(service, "spec", "selector")
    labels = get_object(raw, "spec", "template", "metadata", "labels")
    if selector and not matches_selector({"matchLabels": selector}, labels) and plan.strategy != "blue-green":
        wanted = ", ".join(f"{key}={value}" for key, value in selector.items())
        found.refuse(
            f"Service {plan.service} selects {wanted}, which the pods of the Deployment do not have",
            "name the Service of this Deployment in kubernetes.service",
        )


async def _try_images(found: _Findings, cluster: Cluster, plan: WorkloadPlan, raw: Any) -> Any | None:
    """Returns the Deployment as the first rollout would make it; None where that could not be tried."""
    names = plan.kubernetes
    current = container_image(plan, project_deployment(raw))
    first: Any | None = None
    made: list[tuple[str, str]] = []
    for image in planned_images(plan):
        try:
            tried = await try_image(cluster, names.deployment, names.container, image)
        except KubeApiError as error:
            if _NO_DRY_RUN in error.title:
                found.note(f"the rollout of {image} could not be tried: {error.title}", _DRY_RUN_HINT)
            else:
                found.refuse(f"the rollout of {image} would be refused: {error.title}", error.hint or _DRY_RUN_HINT)
            continue
        first = first or tried
        admitted = find_admitted_image(tried, names.container)
        made.append((image, admitted))
        if admitted != image:
            found.note(f"an admission webhook changes {image} to {admitted}: steps and gates then expect that image")
    # A release that is under way has rolled out already.
    before = "" if get_text(raw, "metadata", "annotations", EPOCH_ANNOTATION) else current
    for problem in find_undone_images(made, before):
        found.refuse(problem.text, problem.hint)
    if made and all(image == admitted for image, admitted in made):
        found.lines.append(f"{found.place}: the server would accept {' and then '.join(image for image, _ in made)}")
    return first


def _check_quotas(found: _Findings, plan: WorkloadPlan, quotas: Any, deployment: Any) -> None:
    if project_deployment(deployment).desired == 0:
        return
    for shortage in find_quota_shortages(quotas, get_object(deployment, "spec", "template")):
        found.refuse(
            shortage, f"raise the quota for the time of the release: kubectl -n {plan.kubernetes.namespace} edit quota"
        )


async def _try_pod(found: _Findings, cluster: Cluster, plan: WorkloadPlan, deployment: Any) -> None:
    """What admission makes of a pod of the first rollout; where this account may create none: of the pods that run."""
    container = plan.kubernetes.container
    planned = find_admitted_image(deployment, container)
    if await cluster.missing_permissions(("create", "", "pods")):
        await _compare_running_pods(found, cluster, plan)
        return
    try:
        pod = await try_pod(cluster, deployment)
    except KubeApiError as error:
        if _NO_DRY_RUN in error.title:
            found.note(f"a pod of {planned} could not be tried: {error.title}", _DRY_RUN_HINT)
        else:
            found.refuse(f"no pod of {planned} could be created: {error.title}", error.hint or _DRY_RUN_HINT)
        return
    image = find_admitted_image(pod, container)
    if image and not is_same_image(planned, image):
        found.note(f"an admission webhook changes {planned} to {image} in its pods, not in the Deployment")


async def _compare_running_pods(found: _Findings, cluster: Cluster, plan: WorkloadPlan) -> None:
    names = plan.kubernetes
    view = await cluster.get_deployment(names.deployment)
    image = container_image(plan, view)
    pods = await cluster.http.request_json(
        "GET", cluster.path("api/v1", "pods"), params={"labelSelector": view.selector, "limit": "20"}
    )
    for pod in get_objects(pods, "items"):
        other = find_admitted_image(pod, names.container)
        is_current = view.is_observed and view.updated == view.replicas == view.desired
        if is_current and other and not is_finished_pod(pod) and not is_same_image(image, other):
            found.note(f"its pods have {other}, the Deployment {image}: an admission webhook changes the image of pods")
            return

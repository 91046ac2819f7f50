"""Whether the cluster can run a plan: permissions, owners, names, capacity, weights, and its rollouts as dry runs."""

from zdd_tui.backends.kubernetes.cluster import ApiResource, Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError, kind_name
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES, get_route
from zdd_tui.backends.kubernetes.services import (
    DEPLOYMENTS,
    SERVICES,
    get_raw_object,
    get_service,
    require_owner,
)
from zdd_tui.checks.rollouts import require_live_namespace, try_rollouts
from zdd_tui.model.errors import ClusterError, Refused
from zdd_tui.model.json_access import get_text
from zdd_tui.model.plan.base import BasePlan, WorkloadPlan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, SingleImagePlan
from zdd_tui.model.workload.rollout import DeploymentView, capacity_hint, container_image, reduces_capacity
from zdd_tui.model.workload.route import compute_canary_replicas, percent_of_pods, set_backend_weight
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION, choose_switch_label

_FORBIDDEN = 403

Permission = tuple[str, str, str]
"""Verb, API group, resource."""

_SECOND_DEPLOYMENT_PERMISSIONS: tuple[Permission, ...] = (
    ("create", "apps", "deployments"),
    ("delete", "apps", "deployments"),
)
_SERVICE_PERMISSIONS: tuple[Permission, ...] = tuple(
    (verb, "", "services") for verb in ("get", "watch", "create", "patch", "delete")
)
_ROUTE_PERMISSIONS: tuple[Permission, ...] = tuple(
    (verb, "gateway.networking.k8s.io", "httproutes") for verb in ("get", "patch")
)


async def check_cluster(plan: WorkloadPlan) -> list[str]:
    """Checks the Deployment, and what the plan's strategy needs beside it.

    Returns:
        one line for each fact that an operator should see.

    Raises:
        ClusterError: the cluster cannot run the plan.
        PlanError: a canary weight that the number of pods cannot give.
    """
    names = plan.kubernetes
    async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
        await require_live_namespace(cluster)
        view = await cluster.get_deployment(names.deployment)
        image = container_image(plan, view)
        if missing := await cluster.missing_permissions(*extra_permissions(plan)):
            raise ClusterError(
                f"Kubernetes {names.namespace}: this account may not {', '.join(missing)}",
                "see config/kubernetes/ for the role that a release needs",
            )
        await require_not_owned_by_others(cluster, plan)
        lines = [
            f"Kubernetes {names.namespace}/{names.deployment}: {view.ready} of {view.desired} pods ready,"
            f" {image} ({plan.version_of(image).upper()})"
        ]
        if isinstance(plan, BlueGreenPlan):
            lines += await check_service_switch(cluster, plan)
        if isinstance(plan, SingleImagePlan):
            lines += await _check_image(cluster, plan, view)
        lines += await try_rollouts(cluster, plan)
    return lines


def extra_permissions(plan: BasePlan) -> tuple[Permission, ...]:
    """The permissions that this plan's strategy needs beyond those of every release."""
    match plan:
        case BlueGreenPlan():
            return (*_SECOND_DEPLOYMENT_PERMISSIONS, *_SERVICE_PERMISSIONS)
        case CanaryPlan() if plan.canary.by == "gateway":
            return (*_SECOND_DEPLOYMENT_PERMISSIONS, *_SERVICE_PERMISSIONS, *_ROUTE_PERMISSIONS)
        case CanaryPlan() if plan.canary.by == "replicas":
            return _SECOND_DEPLOYMENT_PERMISSIONS
    return ()


async def require_not_owned_by_others(cluster: Cluster, plan: BasePlan) -> None:
    """
    Raises:
        ClusterError: another release owns a Service or HTTPRoute that this one would use.
    """
    wanted = [(SERVICES, name) for name in plan.services]
    if isinstance(plan, CanaryPlan) and plan.canary.route is not None:
        wanted.append((HTTP_ROUTES, plan.canary.route))
    for kind, name in wanted:
        try:
            require_owner(kind, name, await get_raw_object(cluster, kind, name), plan.name)
        except Refused as refusal:
            raise ClusterError(refusal.title, refusal.hint) from None
        except KubeApiError as error:
            if error.status != _FORBIDDEN:  # a plain rollout needs no permission to read Services
                raise


async def check_service_switch(cluster: Cluster, plan: BlueGreenPlan) -> list[str]:
    """Checks that the Service can be switched to the second Deployment.

    Raises:
        ClusterError: a name that the release needs is taken, the Service does not exist, or it selects by no label of
            the Deployment.
    """
    service = await get_service(cluster, plan.service)
    if service.owner == plan.name:
        return [f"Kubernetes {cluster.namespace}/{plan.service}: the Service is owned by this release"]
    deployment = await get_raw_object(cluster, DEPLOYMENTS, plan.kubernetes.deployment)
    switch = choose_switch_label(deployment, service, "green")
    await _require_free_name(cluster, plan, DEPLOYMENTS, plan.green_deployment)
    await _require_free_name(cluster, plan, SERVICES, plan.preview_service)
    labels = f"{switch.label}={switch.first_value}, to be switched to {switch.label}={switch.second_value}"
    return [f"Kubernetes {cluster.namespace}/{plan.service}: the Service selects {labels}"]


async def _check_image(cluster: Cluster, plan: SingleImagePlan, view: DeploymentView) -> list[str]:
    """Checks that a rollout of the plan's image keeps the capacity, and that a canary's weights can be reached."""
    place = f"Kubernetes {cluster.namespace}/{view.name}"
    if reason := reduces_capacity(view):
        raise ClusterError(f"{place}: {reason}", capacity_hint(plan))
    lines = [f"{place}: a rollout removes no pod before its replacement is ready"]
    if plan.version_of(container_image(plan, view)) == "new":
        lines.append(f"note: {place} already runs {plan.kubernetes.image}; a release would change nothing")
    if isinstance(plan, CanaryPlan) and plan.canary.by != "flag":
        await _require_free_name(cluster, plan, DEPLOYMENTS, plan.canary_deployment)
    if isinstance(plan, CanaryPlan) and plan.canary.route is not None:
        route = await get_route(cluster, plan.canary.route)
        set_backend_weight(route, plan.service, plan.canary_service, plan.canary.weights[0])
        lines.append(f"Kubernetes {cluster.namespace}: HTTPRoute {route.name} can split Service {plan.service}")
    if isinstance(plan, CanaryPlan) and plan.canary.by == "replicas":
        pods = [compute_canary_replicas(view.desired, weight, plan.canary.tolerance) for weight in plan.canary.weights]
        shares = ", ".join(f"{count} ({percent_of_pods(count, view.desired):.0f}%)" for count in pods)
        lines.append(f"{place}: new pods beside its {view.desired}: {shares}")
    return lines


async def _require_free_name(cluster: Cluster, plan: BasePlan, kind: ApiResource, name: str) -> None:
    existing = await get_raw_object(cluster, kind, name)
    if existing is not None and get_text(existing, "metadata", "annotations", OWNER_ANNOTATION) != plan.name:
        raise ClusterError(
            f"{kind_name(kind[1])} {name!r} exists already, and this release needs its name",
            f"if it is not needed: kubectl -n {cluster.namespace} delete {kind[1]}/{name}",
        )

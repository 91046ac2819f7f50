"""Can the second Deployment of a plan be made, and its Service be switched? Looks, changes nothing."""

from zdd_tui.backends.kube_errors import KubeApiError
from zdd_tui.backends.kube_route import HTTP_ROUTES
from zdd_tui.backends.kube_switch import DEPLOYMENTS, SERVICES, get_service, read_raw, refuse_foreign
from zdd_tui.backends.kubernetes import Cluster
from zdd_tui.model.errors import ClusterError, Refused
from zdd_tui.model.plan import BasePlan
from zdd_tui.model.plans import BlueGreenPlan, CanaryPlan
from zdd_tui.model.twin import OWNER_ANNOTATION, switch_for
from zdd_tui.model.untyped import text

_FORBIDDEN = 403

Permission = tuple[str, str, str]

_SECOND: tuple[Permission, ...] = (("create", "apps", "deployments"), ("delete", "apps", "deployments"))
_SERVICES: tuple[Permission, ...] = tuple((verb, "", "services") for verb in ("get", "create", "patch", "delete"))

_ROUTES: tuple[Permission, ...] = tuple((verb, "gateway.networking.k8s.io", "httproutes") for verb in ("get", "patch"))


def permissions(plan: BasePlan) -> tuple[Permission, ...]:
    """(verb, group, resource) that this plan's strategy needs beyond what every release does."""
    match plan:
        case BlueGreenPlan():
            return (*_SECOND, *_SERVICES)
        case CanaryPlan() if plan.canary.by == "gateway":
            return (*_SECOND, *_SERVICES, *_ROUTES)
        case CanaryPlan() if plan.canary.by == "replicas":
            return _SECOND
    return ()


async def refuse_held(cluster: Cluster, plan: BasePlan) -> None:
    """
    Raises:
        ClusterError: a Service or HTTPRoute that this release would use is in the hands of another one.
    """
    wanted = [(SERVICES, name) for name in plan.services]
    if isinstance(plan, CanaryPlan) and plan.canary.route is not None:
        wanted.append((HTTP_ROUTES, plan.canary.route))
    for kind, name in wanted:
        try:
            refuse_foreign(kind, name, await read_raw(cluster, kind, name), plan.name)
        except Refused as refusal:
            raise ClusterError(refusal.title, refusal.mend) from None
        except KubeApiError as error:
            if error.status != _FORBIDDEN:  # who only rolls out needs no right to read Services
                raise


async def check_switch(cluster: Cluster, plan: BlueGreenPlan) -> list[str]:
    """What was found good.

    Raises:
        ClusterError: a name that we need is taken, there is no such Service, or it selects by no label of the
            Deployment's.
    """
    service = await get_service(cluster, plan.service)
    if service.owner == plan.name:
        return [f"Kubernetes {cluster.namespace}/{plan.service}: the Service is in the hands of this release"]
    deployment = await read_raw(cluster, DEPLOYMENTS, plan.kubernetes.deployment)
    switch = switch_for(deployment, service, "green")
    for kind, name in ((DEPLOYMENTS, plan.green_deployment), (SERVICES, plan.preview_service)):
        taken = await read_raw(cluster, kind, name)
        if taken is not None and text(taken, "metadata", "annotations", OWNER_ANNOTATION) != plan.name:
            what = kind[1].removesuffix("s")
            raise ClusterError(
                f"{what} {name!r} is there already, and this release needs its name",
                f"kubectl -n {cluster.namespace} delete {what}/{name}, if nobody needs it",
            )
    told = f"{switch.label}={switch.first}, to be switched to {switch.label}={switch.twin}"
    return [f"Kubernetes {cluster.namespace}/{plan.service}: the Service selects {told}"]

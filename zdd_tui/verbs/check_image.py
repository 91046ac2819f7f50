"""Can a new image be brought to this Deployment as the plan wants it? Looks, changes nothing."""

from zdd_tui.backends.kube_route import get_route
from zdd_tui.backends.kube_switch import DEPLOYMENTS, read_raw
from zdd_tui.backends.kubernetes import Cluster
from zdd_tui.engine.phases.workload import mend_of_shrinking
from zdd_tui.engine.rollout import container_image
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.plans import CanaryPlan, OneImagePlan
from zdd_tui.model.rollout import DeploymentView, shrinks
from zdd_tui.model.route import weighted
from zdd_tui.model.twin import OWNER_ANNOTATION
from zdd_tui.model.untyped import text
from zdd_tui.model.weights import canary_replicas, share


async def check_image(cluster: Cluster, plan: OneImagePlan, view: DeploymentView) -> list[str]:
    """What was found good.

    Raises:
        ClusterError: a rollout would take capacity away, the canary's name is taken, or its route cannot be shared out.
        PlanError: a weight that the number of pods cannot give.
    """
    place = f"Kubernetes {cluster.namespace}/{view.name}"
    if why := shrinks(view):
        raise ClusterError(f"{place}: {why}", mend_of_shrinking(plan))
    found = [f"{place}: a rollout takes no pod away before its heir is ready"]
    if container_image(plan, view) == plan.kubernetes.image:
        found.append(f"note: {place} runs {plan.kubernetes.image} already; a release would have nothing to bring")
    if isinstance(plan, CanaryPlan) and plan.canary.by != "flag":
        await _refuse_taken(cluster, plan)
    if isinstance(plan, CanaryPlan) and plan.canary.route is not None:
        route = await get_route(cluster, plan.canary.route)
        weighted(route, plan.service, plan.canary_service, plan.canary.weights[0])
        found.append(f"Kubernetes {cluster.namespace}: httproute {route.name} can share out service {plan.service}")
    if isinstance(plan, CanaryPlan) and plan.canary.by == "replicas":
        pods = [canary_replicas(view.desired, weight, plan.canary.tolerance) for weight in plan.canary.weights]
        told = ", ".join(f"{each} make {share(each, view.desired):.0f}%" for each in pods)
        found.append(f"{place}: new pods beside its {view.desired}: {told}")
    return found


async def _refuse_taken(cluster: Cluster, plan: CanaryPlan) -> None:
    name = plan.canary_deployment
    taken = await read_raw(cluster, DEPLOYMENTS, name)
    if taken is not None and text(taken, "metadata", "annotations", OWNER_ANNOTATION) != plan.name:
        raise ClusterError(
            f"deployment {name!r} is there already, and this release needs its name",
            f"kubectl -n {cluster.namespace} delete deployment/{name}, if nobody needs it",
        )

"""`zdd check`: can this plan run here? Looks at everything, changes nothing."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import aiohttp

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.routes import HTTP_ROUTES, get_route
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS, SERVICES, get_raw_object, get_service, require_owner
from zdd_tui.backends.metrics import prometheus
from zdd_tui.backends.postgres.connection import connect, describe_dsn, refuse_pooler, translate_errors
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store import migrations
from zdd_tui.checks.migrations import check_migrations
from zdd_tui.checks.schema import check_change, run_squawk_checks
from zdd_tui.model.ddl.lint import lint_plan_sql
from zdd_tui.model.errors import ClusterError, MetricsError, PlanError, Refused, ZddError
from zdd_tui.model.guard.rules import require_scipy
from zdd_tui.model.json_access import get_text
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan.guard import Guard, Metric
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, SingleImagePlan
from zdd_tui.model.workload.rollout import DeploymentView, capacity_hint, container_image, reduces_capacity
from zdd_tui.model.workload.route import compute_canary_replicas, percent_of_pods, set_backend_weight
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION, choose_switch_label

# --- Can the guard of this plan judge here? For `zdd check`, and for an agent before it begins.


def check_guard_dependencies(guard: Guard | None) -> None:
    """
    Raises:
        PlanError: a rule needs what is not installed here.
    """
    for rule in guard.rules if guard else ():
        if rule.compare is not None and rule.compare.rank_test is not None:
            require_scipy(rule.name)


async def check_guard_queries(guard: Guard) -> list[str]:
    """Asks every query once; returns a line for each rule with the number it gave.

    Raises:
        PlanError: a query that gives no number now.
        MetricsError: Prometheus is away.
    """
    server = guard.sources.prometheus
    if server is None:
        return []
    found = []
    async with aiohttp.ClientSession() as session:
        for rule in guard.rules:
            if rule.metric is not Metric.QUERY:
                continue
            numbers = []
            for key, query in (("query", rule.query), ("baseline", rule.baseline), ("samples", rule.samples)):
                if query is None:
                    continue
                try:
                    numbers.append(f"{key} {await prometheus.query_value(session, server, query, now=time.time()):g}")
                except MetricsError as error:
                    if not error.hint:  # the server, not the query
                        raise MetricsError(error.title, "check guard.sources.prometheus, and the server") from None
                    raise PlanError(f"guard.rules: rule {rule.name}: {key}: {error.title}", error.hint) from None
            found.append(f"guard rule {rule.name}: {', '.join(numbers)}")
    return found


# --- end


# --- Can the second Deployment of a plan be made, and its Service be switched? Looks, changes nothing.


_FORBIDDEN = 403

Permission = tuple[str, str, str]

_SECOND_DEPLOYMENT_PERMISSIONS: tuple[Permission, ...] = (
    ("create", "apps", "deployments"),
    ("delete", "apps", "deployments"),
)
_SERVICE_PERMISSIONS: tuple[Permission, ...] = tuple(
    (verb, "", "services") for verb in ("get", "create", "patch", "delete")
)

_ROUTE_PERMISSIONS: tuple[Permission, ...] = tuple(
    (verb, "gateway.networking.k8s.io", "httproutes") for verb in ("get", "patch")
)


def extra_permissions(plan: BasePlan) -> tuple[Permission, ...]:
    """(verb, group, resource) that this plan's strategy needs beyond what every release does."""
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
        ClusterError: a Service or HTTPRoute that this release would use is in the hands of another one.
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
            if error.status != _FORBIDDEN:  # who only rolls out needs no right to read Services
                raise


async def check_service_switch(cluster: Cluster, plan: BlueGreenPlan) -> list[str]:
    """What was found good.

    Raises:
        ClusterError: a name that we need is taken, there is no such Service, or it selects by no label of the
            Deployment's.
    """
    service = await get_service(cluster, plan.service)
    if service.owner == plan.name:
        return [f"Kubernetes {cluster.namespace}/{plan.service}: the Service is in the hands of this release"]
    deployment = await get_raw_object(cluster, DEPLOYMENTS, plan.kubernetes.deployment)
    switch = choose_switch_label(deployment, service, "green")
    for kind, name in ((DEPLOYMENTS, plan.green_deployment), (SERVICES, plan.preview_service)):
        taken = await get_raw_object(cluster, kind, name)
        if taken is not None and get_text(taken, "metadata", "annotations", OWNER_ANNOTATION) != plan.name:
            what = kind[1].removesuffix("s")
            raise ClusterError(
                f"{what} {name!r} is there already, and this release needs its name",
                f"kubectl -n {cluster.namespace} delete {what}/{name}, if nobody needs it",
            )
    told = f"{switch.label}={switch.first_value}, to be switched to {switch.label}={switch.second_value}"
    return [f"Kubernetes {cluster.namespace}/{plan.service}: the Service selects {told}"]


# --- end


# --- Can a new image be brought to this Deployment as the plan wants it? Looks, changes nothing.


async def check_image(cluster: Cluster, plan: SingleImagePlan, view: DeploymentView) -> list[str]:
    """What was found good.

    Raises:
        ClusterError: a rollout would take capacity away, the canary's name is taken, or its route cannot be shared out.
        PlanError: a weight that the number of pods cannot give.
    """
    place = f"Kubernetes {cluster.namespace}/{view.name}"
    if why := reduces_capacity(view):
        raise ClusterError(f"{place}: {why}", capacity_hint(plan))
    found = [f"{place}: a rollout takes no pod away before its heir is ready"]
    if container_image(plan, view) == plan.kubernetes.image:
        found.append(f"note: {place} runs {plan.kubernetes.image} already; a release would have nothing to bring")
    if isinstance(plan, CanaryPlan) and plan.canary.by != "flag":
        await _require_free_names(cluster, plan)
    if isinstance(plan, CanaryPlan) and plan.canary.route is not None:
        route = await get_route(cluster, plan.canary.route)
        set_backend_weight(route, plan.service, plan.canary_service, plan.canary.weights[0])
        found.append(f"Kubernetes {cluster.namespace}: httproute {route.name} can share out service {plan.service}")
    if isinstance(plan, CanaryPlan) and plan.canary.by == "replicas":
        pods = [compute_canary_replicas(view.desired, weight, plan.canary.tolerance) for weight in plan.canary.weights]
        told = ", ".join(f"{each} make {percent_of_pods(each, view.desired):.0f}%" for each in pods)
        found.append(f"{place}: new pods beside its {view.desired}: {told}")
    return found


async def _require_free_names(cluster: Cluster, plan: CanaryPlan) -> None:
    name = plan.canary_deployment
    taken = await get_raw_object(cluster, DEPLOYMENTS, name)
    if taken is not None and get_text(taken, "metadata", "annotations", OWNER_ANNOTATION) != plan.name:
        raise ClusterError(
            f"deployment {name!r} is there already, and this release needs its name",
            f"kubectl -n {cluster.namespace} delete deployment/{name}, if nobody needs it",
        )


# --- end


async def check_plan(loaded: LoadedPlan, *, offline: bool) -> list[str]:
    """What was found good, a line each. The systems are asked side by side.

    Raises:
        ZddError: everything that is wrong, at most one message for each system.
    """
    plan = loaded.plan
    try:
        found = await _check_sql(plan)
    except PlanError as error:
        raise loaded.with_location(error) from None
    if offline:
        return found + await check_migrations(loaded, offline=True)
    looks = await asyncio.gather(*_system_checks(plan), check_migrations(loaded, offline=False), return_exceptions=True)
    wrong: list[ZddError] = []
    for look in looks:
        if isinstance(look, PlanError):
            wrong.append(loaded.with_location(look))
        elif isinstance(look, ZddError):
            wrong.append(look)
        elif isinstance(look, BaseException):
            raise look
        else:
            found += look
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ZddError("\n".join([f"{len(wrong)} systems cannot carry it", *(str(error) for error in wrong)]))
    return found


def _system_checks(plan: BasePlan) -> list[Coroutine[Any, Any, list[str]]]:
    asked = [_check_database(plan), _check_cluster(plan)]
    if plan.redis_url is not None:
        asked.append(_check_redis(plan, plan.redis_url.get_secret_value()))
    if plan.guard is not None:
        asked.append(check_guard_queries(plan.guard))
    return asked


async def _check_sql(plan: BasePlan) -> list[str]:
    check_guard_dependencies(plan.guard)
    if not isinstance(plan, Plan):
        return []
    lint_plan_sql(plan)
    await run_squawk_checks(plan)
    return ["the DDL is additive"]


async def _check_database(plan: BasePlan) -> list[str]:
    dsn = plan.database.dsn.get_secret_value()
    conn = await connect(dsn, application_name="zdd check", timeout=plan.database.connect_timeout)
    try:
        with translate_errors(dsn):
            await refuse_pooler(conn, dsn)
            await migrations.check_can_migrate(conn, dsn)
            if not isinstance(plan, Plan):
                return [f"PostgreSQL {describe_dsn(dsn)}: keeps the release's record, nothing else"]
            notes = await check_change(conn, plan, has_started=await _is_under_way(conn, plan))
    finally:
        await conn.close()
    return [f"PostgreSQL {describe_dsn(dsn)}: {plan.change.table} can be changed", *(f"note: {note}" for note in notes)]


async def _is_under_way(conn: object, plan: Plan) -> bool:
    """A release of this plan has begun and not ended: then what it makes may exist."""
    fetchval = conn.fetchval  # type: ignore[attr-defined]
    if not await fetchval("SELECT to_regclass('zdd.release') IS NOT NULL"):
        return False
    return bool(
        await fetchval(
            "SELECT EXISTS (SELECT FROM zdd.release"
            " WHERE name = $1 AND state NOT IN ('planned', 'rolled-back', 'done'))",
            plan.name,
        )
    )


async def _check_cluster(plan: BasePlan) -> list[str]:
    names = plan.kubernetes
    async with Cluster.connect(names.kubeconfig, names.context, names.namespace) as cluster:
        view = await cluster.get_deployment(names.deployment)
        image = container_image(plan, view)
        if missing := await cluster.missing_permissions(*extra_permissions(plan)):
            raise ClusterError(
                f"Kubernetes {names.namespace}: we are not allowed to {', '.join(missing)}",
                "see config/kubernetes/ for the role that a release needs",
            )
        await require_not_owned_by_others(cluster, plan)
        more = await check_service_switch(cluster, plan) if isinstance(plan, BlueGreenPlan) else []
        more += await check_image(cluster, plan, view) if isinstance(plan, SingleImagePlan) else []
    running = f"{view.ready} of {view.desired} pods ready, {image}"
    return [f"Kubernetes {names.namespace}/{names.deployment}: {running} ({plan.version_of(image).upper()})", *more]


async def _check_redis(plan: BasePlan, url: str) -> list[str]:
    async with await FlagStore.connect(url) as store:
        values = await store.read(list(plan.flag_roles))
        shown = ", ".join(f"{key} {value if value is not None else 'not set'}" for key, value in values.items())
        return [f"Redis {store.address}: {shown}"]

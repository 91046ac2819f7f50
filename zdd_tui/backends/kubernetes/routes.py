"""The HTTPRoute of a canary by gateway: read it, set weights, release it.

Writes are fenced by :meth:`zdd_tui.backends.kubernetes.cluster.Cluster.fenced_patch`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.services import patch_owned, remove_ownership_patch
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.workload.route import RouteView, project_route, set_backend_weight
from zdd_tui.model.workload.second_deployment import ownership_annotations

HTTP_ROUTES = "apis/gateway.networking.k8s.io/v1", "httproutes"

Rules = Sequence[dict[str, Any]]
PatchBuilder = Callable[[RouteView], dict[str, Any] | None]


async def get_route(cluster: Cluster, name: str) -> RouteView:
    """Reads an HTTPRoute.

    Raises:
        ClusterError: it does not exist, or the cluster has no Gateway API.
    """
    return project_route(await _read_route(cluster, name))


async def set_weight(
    cluster: Cluster,
    name: str,
    *,
    service: str,
    canary: str,
    weight: int,
    owner: str,
    epoch: int,
    original_rules: Rules | None = None,
) -> RouteView:
    """Send `weight` percent of the Service's requests to the canary; 0 removes it.

    Args:
        original_rules: the rules before the release; restored exactly when only the weights differ.

    Raises:
        Refused: another release holds the route.
        StaleEpoch: a later epoch has written.
        ClusterError: no rule leads to the Service alone.
    """

    def build(view: RouteView) -> dict[str, Any] | None:
        rules = set_backend_weight(view, service, canary, weight)
        if (
            original_rules is not None
            and set_backend_weight(replace(view, rules=tuple(original_rules)), service, canary, weight) == rules
        ):
            rules = list(original_rules)
        if rules == list(view.rules) and (view.owner, view.epoch) == (owner, epoch):
            return None
        return {"metadata": {"annotations": ownership_annotations(owner, epoch)}, "spec": {"rules": rules}}

    return await _patch_route(cluster, name, owner, epoch, build)


async def release_route(cluster: Cluster, name: str, *, owner: str, epoch: int) -> RouteView:
    """Remove the ownership annotations.

    Raises:
        StaleEpoch: a later epoch has written.
    """
    return await _patch_route(cluster, name, owner, epoch, remove_ownership_patch)


async def _read_route(cluster: Cluster, name: str) -> Any:
    try:
        return await cluster.http.request_json("GET", cluster.path(*HTTP_ROUTES, name))
    except KubeApiError as error:
        if error.status != HTTPStatus.NOT_FOUND or await _has_gateway_api(cluster):
            raise
    raise ClusterError(
        "the cluster has no Gateway API (gateway.networking.k8s.io/v1): nothing can split requests by weight",
        "set canary.by to replicas or flag, or install a Gateway controller",
    )


async def _has_gateway_api(cluster: Cluster) -> bool:
    try:
        await cluster.http.request_json("GET", f"/{HTTP_ROUTES[0]}")
    except KubeApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


async def _patch_route(cluster: Cluster, name: str, owner: str, epoch: int, build: PatchBuilder) -> RouteView:
    return await patch_owned(
        cluster,
        HTTP_ROUTES,
        name,
        build,
        project=project_route,
        owner=owner,
        epoch=epoch,
        read=lambda: _read_route(cluster, name),
    )

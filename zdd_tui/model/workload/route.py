"""HTTPRoute of the Gateway API: shares of the requests between a Service and its canary.

Rules: Gateway API documentation, "HTTPRoute" (backendRefs, weight) and "HTTP traffic splitting".
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.errors import ClusterError, PlanError
from zdd_tui.model.json_access import get_number, get_object, get_objects, get_text
from zdd_tui.model.workload.rollout import read_epoch
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION

RouteObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RouteView:
    """The kept fields of an HTTPRoute.

    Attributes:
        pending_reason: why a Gateway does not route by the newest spec yet; empty when all do.
    """

    name: str
    resource_version: str
    rules: tuple[RouteObject, ...]
    epoch: int
    owner: str
    pending_reason: str


def project_route(raw: Any) -> RouteView:
    """Reads a raw HTTPRoute."""
    meta = get_object(raw, "metadata")
    return RouteView(
        name=get_text(meta, "name"),
        resource_version=get_text(meta, "resourceVersion"),
        rules=tuple(dict(rule) for rule in get_objects(raw, "spec", "rules")),
        epoch=read_epoch(meta),
        owner=get_text(meta, "annotations", OWNER_ANNOTATION),
        pending_reason=_pending_reason(raw, get_number(meta, "generation")),
    )


def _pending_reason(raw: Any, generation: int) -> str:
    parents = get_objects(raw, "status", "parents")
    if not parents:
        return "no Gateway has accepted the route"
    for parent in parents:
        where = f"Gateway {get_text(parent, 'parentRef', 'name')}"
        accepted = next(
            (each for each in get_objects(parent, "conditions") if get_text(each, "type") == "Accepted"), None
        )
        if accepted is None or get_number(accepted, "observedGeneration") < generation:
            return f"{where} has not observed the newest weights"
        if get_text(accepted, "status") != "True":
            return f"{where} does not accept the route: {get_text(accepted, 'message') or get_text(accepted, 'reason')}"
    return ""


def set_backend_weight(view: RouteView, service: str, canary: str, weight: int) -> list[RouteObject]:
    """The rules with a percentage of the Service's requests sent to its canary; 0 removes the canary.

    Raises:
        ClusterError: no rule leads to the Service, or one already splits requests between it and others.
    """
    rules = deepcopy(list(view.rules))
    has_rule = False
    for rule in rules:
        refs = [each for each in get_objects(rule, "backendRefs") if not _refers_to(each, canary)]
        ours = next((each for each in refs if _refers_to(each, service)), None)
        if ours is None:
            continue
        if len(refs) > 1:
            others = ", ".join(get_text(each, "name") for each in refs if each is not ours)
            raise ClusterError(
                f"HTTPRoute {view.name!r} already splits the requests of Service {service!r} with {others}",
                "add a rule with only this Service to the route",
            )
        has_rule = True
        rule["backendRefs"] = _backend_refs(dict(ours), canary, weight)
    if not has_rule:
        raise ClusterError(
            f"no rule of HTTPRoute {view.name!r} leads to Service {service!r}",
            "check canary.route and kubernetes.service",
        )
    return rules


def canary_percentages(view: RouteView, service: str, canary: str) -> list[float]:
    """The canary's percentage in each rule that leads to the Service."""
    shares = []
    for rule in view.rules:
        refs = get_objects(rule, "backendRefs")
        if any(_refers_to(each, service) for each in refs):
            total = sum(_ref_weight(each) for each in refs)
            shares.append(
                100 * sum(_ref_weight(each) for each in refs if _refers_to(each, canary)) / total if total else 0.0
            )
    return shares


def _backend_refs(stable_ref: RouteObject, canary: str, weight: int) -> list[RouteObject]:
    if not weight:
        # For a single backend any weight above 0 means all requests; 1 is the API's default.
        return [{**stable_ref, "weight": 1}]
    return [{**stable_ref, "weight": 100 - weight}, {**stable_ref, "name": canary, "weight": weight}]


def _refers_to(ref: Mapping[str, Any], service: str) -> bool:
    return (
        get_text(ref, "name") == service and get_text(ref, "kind") in ("", "Service") and not get_text(ref, "namespace")
    )


def _ref_weight(ref: Mapping[str, Any]) -> int:
    return get_number(ref, "weight", default=1)


# --- weights as numbers of pods, which limit the possible shares ----------------------------------------------------


def compute_canary_replicas(stable: int, weight: int, tolerance: int) -> int:
    """The number of pods with the new image, beside ``stable`` old ones, whose share is nearest to the weight.

    Args:
        stable: pods of the old image; they all stay.
        weight: percent, 1 to 99.
        tolerance: percentage points by which the share may miss the weight.

    Raises:
        PlanError: no number of pods is within the tolerance; names the nearest share.
    """
    if stable < 1:
        raise PlanError("canary.weights: the Deployment has no pod", "scale it up first")
    exact = stable * weight / (100 - weight)
    low = max(1, int(exact))
    best = min((low, low + 1), key=lambda pods: abs(percent_of_pods(pods, stable) - weight))
    if abs(percent_of_pods(best, stable) - weight) > tolerance:
        raise PlanError(
            f"canary.weights: {weight}% is not possible with {stable} pods: {best} more would be"
            f" {percent_of_pods(best, stable):.0f}%, more than {tolerance} points away",
            f"use weights such as {', '.join(str(each) for each in achievable_weights(stable))}, more replicas,"
            " a larger canary.tolerance, or `by: flag`",
        )
    return best


def percent_of_pods(canary: int, stable: int) -> float:
    """The canary's percentage of all pods."""
    return 100 * canary / (canary + stable)


def achievable_weights(stable: int) -> list[int]:
    """Up to six possible weights of at most 50 percent."""
    return sorted({round(percent_of_pods(pods, stable)) for pods in range(1, stable + 1)})[:6]

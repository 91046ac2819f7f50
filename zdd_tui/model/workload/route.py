"""HTTPRoute of the Gateway API: shares of the requests between a Service and its canary.

Rules: Gateway API documentation, "HTTPRoute" (backendRefs, weight) and "HTTP traffic splitting".
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.errors import ClusterError, PlanError
from zdd_tui.model.json_access import number, obj, objects, text
from zdd_tui.model.workload.rollout import EPOCH_ANNOTATION
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RouteView:
    """What we keep of an HTTPRoute.

    Attributes:
        waits: why a Gateway does not route by the newest spec yet; empty when every one does.
    """

    name: str
    resource_version: str
    rules: tuple[Json, ...]
    epoch: int
    owner: str
    waits: str


def project_route(raw: Any) -> RouteView:
    """Keep what we need of a raw HTTPRoute."""
    meta = obj(raw, "metadata")
    epoch = text(meta, "annotations", EPOCH_ANNOTATION)
    return RouteView(
        name=text(meta, "name"),
        resource_version=text(meta, "resourceVersion"),
        rules=tuple(dict(rule) for rule in objects(raw, "spec", "rules")),
        epoch=int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) < 19 else 0,
        owner=text(meta, "annotations", OWNER_ANNOTATION),
        waits=_waits(raw, number(meta, "generation")),
    )


def _waits(raw: Any, generation: int) -> str:
    parents = objects(raw, "status", "parents")
    if not parents:
        return "no Gateway has taken the route"
    for parent in parents:
        where = f"Gateway {text(parent, 'parentRef', 'name')}"
        accepted = next((each for each in objects(parent, "conditions") if text(each, "type") == "Accepted"), None)
        if accepted is None or number(accepted, "observedGeneration") < generation:
            return f"{where} has not seen the newest weights"
        if text(accepted, "status") != "True":
            return f"{where} does not accept the route: {text(accepted, 'message') or text(accepted, 'reason')}"
    return ""


def weighted(view: RouteView, service: str, canary: str, weight: int) -> list[Json]:
    """The rules, with so many percent of what goes to a Service going to its canary instead; 0 takes the canary out.

    Raises:
        ClusterError: no rule leads to the Service, or one splits its requests between it and others already.
    """
    rules = deepcopy(list(view.rules))
    found = False
    for rule in rules:
        refs = [each for each in objects(rule, "backendRefs") if not _is(each, canary)]
        ours = next((each for each in refs if _is(each, service)), None)
        if ours is None:
            continue
        if len(refs) > 1:
            others = ", ".join(text(each, "name") for each in refs if each is not ours)
            raise ClusterError(
                f"httproute {view.name!r} splits the requests of service {service!r} already, with {others}",
                "give the release a rule of its own",
            )
        found = True
        rule["backendRefs"] = _refs(dict(ours), canary, weight)
    if not found:
        raise ClusterError(
            f"no rule of httproute {view.name!r} leads to service {service!r}",
            "check canary.route and kubernetes.service",
        )
    return rules


def canary_share(view: RouteView, service: str, canary: str) -> list[float]:
    """Percent that the canary gets, by each rule that leads to the Service."""
    shares = []
    for rule in view.rules:
        refs = objects(rule, "backendRefs")
        if any(_is(each, service) for each in refs):
            total = sum(_weight(each) for each in refs)
            shares.append(100 * sum(_weight(each) for each in refs if _is(each, canary)) / total if total else 0.0)
    return shares


def _refs(ours: Json, canary: str, weight: int) -> list[Json]:
    if not weight:
        # Alone, any weight above 0 is everything; 1 is what the API writes where none is given.
        return [{**ours, "weight": 1}]
    return [{**ours, "weight": 100 - weight}, {**ours, "name": canary, "weight": weight}]


def _is(ref: Mapping[str, Any], service: str) -> bool:
    return text(ref, "name") == service and text(ref, "kind") in ("", "Service") and not text(ref, "namespace")


def _weight(ref: Mapping[str, Any]) -> int:
    return number(ref, "weight", default=1)


# --- Weights as numbers of pods: a share is as fine as the number of pods allows, and no finer.


def canary_replicas(stable: int, weight: int, tolerance: int) -> int:
    """Pods of the new image beside ``stable`` old ones, so that every pod gets as many requests as any other and the
    new image's share of them comes nearest to the weight.

    Args:
        stable: pods of the old image; they all stay.
        weight: percent, 1 to 99.
        tolerance: points by which the share may miss the weight.

    Raises:
        PlanError: no number of pods comes that near; names what the nearest gives.
    """
    if stable < 1:
        raise PlanError(
            "canary.weights: the Deployment has no pod, so there is nothing to compare with", "scale it up first"
        )
    exact = stable * weight / (100 - weight)
    low = max(1, int(exact))
    best = min((low, low + 1), key=lambda pods: abs(share(pods, stable) - weight))
    if abs(share(best, stable) - weight) > tolerance:
        raise PlanError(
            f"canary.weights: {weight}% cannot be had with {stable} pods: {best} beside them make"
            f" {share(best, stable):.0f}%, more than {tolerance} points away",
            f"use weights such as {', '.join(str(each) for each in realisable(stable))}, more replicas,"
            " a larger canary.tolerance, or `by: flag`",
        )
    return best


def share(canary: int, stable: int) -> float:
    """Percent of all pods."""
    return 100 * canary / (canary + stable)


def realisable(stable: int) -> list[int]:
    """The weights up to a half that so many pods give."""
    return sorted({round(share(pods, stable)) for pods in range(1, stable + 1)})[:6]

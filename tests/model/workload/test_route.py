"""Shares of an HTTPRoute."""

from typing import Any

import pytest

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.workload.route import RouteView, canary_percentages, project_route, set_backend_weight


def ref(name: str, weight: int | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": 80, **({} if weight is None else {"weight": weight}), **more}


def route(*rules: list[dict[str, Any]], generation: int = 1, seen: int = 1, accepted: str = "True") -> RouteView:
    condition = {"type": "Accepted", "status": accepted, "observedGeneration": seen, "message": "no such listener"}
    return project_route(
        {
            "metadata": {"name": "r", "generation": generation},
            "spec": {"rules": [{"backendRefs": refs} for refs in rules]},
            "status": {"parents": [{"parentRef": {"name": "public"}, "conditions": [condition]}]},
        }
    )


def test_setting_and_removing_a_weight() -> None:
    other = [ref("docs")]
    view = route([ref("users", kind="Service")], other)
    rules = set_backend_weight(view, "users", "users-canary", 10)
    assert rules[0]["backendRefs"] == [
        ref("users", 90, kind="Service"),
        ref("users-canary", 10, kind="Service"),
    ]
    assert rules[1]["backendRefs"] == other
    assert view.rules[0]["backendRefs"] == [ref("users", kind="Service")], "what was read is not changed"
    shared = route(rules[0]["backendRefs"], other)
    assert canary_percentages(shared, "users", "users-canary") == [10.0]
    assert set_backend_weight(shared, "users", "users-canary", 10) == rules, "once more is the same"
    back = set_backend_weight(shared, "users", "users-canary", 0)
    assert back[0]["backendRefs"] == [ref("users", 1, kind="Service")]


def test_a_route_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ClusterError, match="no rule of HTTPRoute 'r' leads to Service 'users'"):
        set_backend_weight(route([ref("docs")], [ref("users", kind="Bucket")]), "users", "users-canary", 10)
    with pytest.raises(ClusterError, match="already splits the requests of Service 'users' with legacy"):
        set_backend_weight(route([ref("users", 90), ref("legacy", 10)]), "users", "users-canary", 10)


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (route([ref("users")]), ""),
        (route([ref("users")], generation=2), "Gateway public has not observed the newest weights"),
        (route([ref("users")], accepted="False"), "does not accept the route: no such listener"),
        (project_route({"metadata": {"name": "r"}}), "no Gateway has accepted the route"),
    ],
)
def test_a_gateway_that_does_not_follow_is_named(view: RouteView, reason: str) -> None:
    assert (reason in view.pending_reason) if reason else view.pending_reason == ""

"""Invalid plans of blue/green and dark launch, and the second Deployment that is built from the first."""

from copy import deepcopy
from typing import Any

import pytest

from zdd_tui.demo import manifests
from zdd_tui.demo.plan import strategy_plan_yaml
from zdd_tui.model.errors import ClusterError, PlanError
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.workload.second_deployment import (
    SwitchLabel,
    build_second_deployment,
    choose_switch_label,
    project_service,
)

ENVIRON = {"DATABASE_URL": "postgresql://a@b/c", "REDIS_URL": "redis://d/0", "KUBECONFIG": "/none"}


def refused(strategy: str, old: str, new: str) -> str:
    text = strategy_plan_yaml(strategy, name="x", soak="1s")
    assert old in text
    with pytest.raises(PlanError) as error:
        load_plan(text.replace(old, new), source="plan.yaml", environment=ENVIRON)
    return str(error.value)


@pytest.mark.parametrize(
    ("strategy", "old", "new", "message"),
    [
        ("blue-green", "path: /ready", "path: ready", "blue_green.smoke[0].path"),
        ("blue-green", "path: /ready", "url: /ready", "blue_green.smoke[0].url: unknown key"),
        ("blue-green", "path: /ready", "path: /ready\n      status: 700", "blue_green.smoke[0].status"),
        ("dark-launch", "ramp: [10, 50, 100]", "ramp: [10, 50]", "the ramp must end at 100"),
        ("dark-launch", "ramp: [10, 50, 100]", "ramp: [10, 101]", "got 101"),
        ("dark-launch", "shadow: [1, 25, 100]", "shadow: [25, 1]", "1 follows 25"),
        ("dark-launch", "shadow: [1, 25, 100]", "shadow: []", "dark.shadow"),
        ("dark-launch", "read: users_sql_name_read", "read: users_sql_name_shadow", "must be two flags"),
        ("dark-launch", "min_sample: 5", "min_sample: 0", "dark.min_sample"),
        ("dark-launch", "latency_quantile: 0.5", "latency_quantile: 99", "dark.latency_quantile"),
    ],
)
def test_an_invalid_plan_is_refused_with_its_location(strategy: str, old: str, new: str, message: str) -> None:
    assert message in refused(strategy, old, new)


def test_blue_green_without_smoke_checks_is_refused() -> None:
    text = strategy_plan_yaml("blue-green", name="x", soak="1s")
    start = text.index("blue_green:")
    bare = text[:start] + "blue_green: {smoke: []}\n" + text[text.index("gates:") :]
    with pytest.raises(PlanError, match=r"blue_green\.smoke"):
        load_plan(bare, source="plan.yaml", environment=ENVIRON)


# --- the second Deployment -----------------------------------------------------------------------------------------


def first(**selector: Any) -> dict[str, Any]:
    made = manifests.deployment_manifest(dsn="d", redis_url="r")
    # Not changed in place: it is one dict in three places.
    made["spec"]["template"]["metadata"]["labels"] = {"app": "users-api", "tier": "web", "team": "users"}
    made["spec"]["selector"] |= selector
    return made


def service(**selector: str) -> Any:
    return project_service({"metadata": {"name": "users-api"}, "spec": {"selector": selector}})


def test_only_the_label_that_is_switched_differs() -> None:
    deployment = first(matchExpressions=[{"key": "app", "operator": "Exists"}, {"key": "tier", "operator": "Exists"}])
    switch = choose_switch_label(deployment, service(app="users-api", tier="web"), "green")
    assert switch == SwitchLabel("app", "users-api", "users-api-green")
    untouched = deepcopy(deployment)
    second = build_second_deployment(deployment, switch, name="g", container="app", image="new", owner="one", epoch=3)
    assert deployment == untouched
    assert second["spec"]["template"]["metadata"]["labels"] == {
        "app": "users-api-green",
        "tier": "web",
        "team": "users",
    }
    assert second["spec"]["selector"]["matchLabels"] == {"app": "users-api-green"}
    # A rule about the switched label might exclude the second Deployment's own pods.
    assert second["spec"]["selector"]["matchExpressions"] == [{"key": "tier", "operator": "Exists"}]


def test_a_long_label_stays_a_label_and_stays_different() -> None:
    deployment, long = first(), "a" * 63
    deployment["spec"]["selector"]["matchLabels"]["app"] = long
    switch = choose_switch_label(deployment, service(app=long), "green")
    assert len(switch.second_value) == 63
    assert switch.second_value != long


@pytest.mark.parametrize("selector", [{}, {"app": "another"}, {"tier": "web"}])
def test_a_service_that_shares_no_label_cannot_be_switched(selector: dict[str, str]) -> None:
    with pytest.raises(ClusterError, match="no label in common"):
        choose_switch_label(first(), service(**selector), "green")

"""What every strategy must have, weights as numbers of pods, and what a plan of each may not say."""

from pathlib import Path

import pytest

from zdd_tui.demo.plan import STRATEGY_SECTIONS, plan_yaml, strategy_plan_yaml
from zdd_tui.engine.gates.registry import GATES
from zdd_tui.engine.steps.registry import STEPS
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.plan.registry import PLAN_CLASSES, normalize_strategy, strategy_title
from zdd_tui.model.release.preview import preview_command, preview_step, preview_undo
from zdd_tui.model.release.state import CommandKind, Release
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.workload.rollout import project_deployment, reduces_capacity
from zdd_tui.model.workload.route import compute_canary_replicas, percent_of_pods

ENVIRON = {
    "DATABASE_URL": "postgresql://a@b/c",
    "US_DATABASE_URL": "postgresql://a@us/c",
    "AP_DATABASE_URL": "postgresql://a@ap/c",
    "REDIS_URL": "redis://d/0",
    "KUBECONFIG": "/none",
}
EXAMPLES = sorted((Path(__file__).parents[3] / "config" / "examples").glob("*.yaml"))


def load(text: str) -> BasePlan:
    return load_plan(text, source="plan.yaml", environment=ENVIRON).plan


def demo_plan(strategy: str) -> str:
    if strategy == "expand-contract":
        return plan_yaml("column", "trigger")
    return strategy_plan_yaml(strategy, name="x", soak="1s")


ROLLING = demo_plan("rolling")
CANARY = demo_plan("canary")
BY_FLAG = CANARY.replace("by: replicas", "by: flag\n  flag: {url: '${REDIS_URL}', key: new_path}")
TEXTS = [*(demo_plan(strategy) for strategy in ("expand-contract", *STRATEGY_SECTIONS)), BY_FLAG]


@pytest.mark.parametrize("text", [*TEXTS, *(file.read_text() for file in EXAMPLES)])
def test_every_step_and_gate_of_a_strategy_can_be_run_judged_and_shown(text: str) -> None:
    plan = load(text)
    strategy = build_strategy(plan)
    assert strategy.name == plan.strategy
    names = [step.name for step in strategy.steps]
    assert len(names) == len(set(names))
    for step in strategy.steps:
        assert step.registry_key in STEPS
        assert isinstance(preview_step(plan, step), tuple)
        assert preview_undo(plan, step)
    later = plan.regions.names[1:] if plan.regions else ()
    for name in later:
        assert {gate.name for gate in build_strategy(plan.for_region(name)).entry} <= set(GATES)
    for phase in strategy.phases:
        assert phase.gates, f"{phase.name} can be left without a gate"
        assert {gate.name for gate in phase.gates} <= set(GATES)
    assert strategy.phases[-1].name == "cleanup"
    assert preview_command(plan, Release(plan.name, "hash", strategy), CommandKind.ADVANCE)


def test_every_strategy_has_an_example() -> None:
    assert {load(file.read_text()).strategy for file in EXAMPLES} >= {"rolling", "canary"}
    assert {load(file.read_text()).strategy for file in EXAMPLES} <= set(PLAN_CLASSES)


@pytest.mark.parametrize(
    ("text", "old", "new", "place", "hint"),
    [
        (ROLLING, "strategy: rolling", "strategy: roling", "strategy", "did you mean rolling?"),
        (ROLLING, "strategy: rolling", "strategy: 7", "strategy", "known: "),
        (ROLLING, "image:", "imag:", "kubernetes.imag", "did you mean image?"),
        (ROLLING, "gates:", "canary: {}\ngates:", "canary", "unknown key"),
        (CANARY, "20, 50", "20, 120", "canary.weights", "between 1 and 99 percent, got 120"),
        (CANARY, "20, 50", "50, 20", "canary.weights", "must grow, and 20 follows 50"),
        (CANARY, "20, 50", "20, 20", "canary.weights", "must grow, and 20 follows 20"),
        (CANARY, "20, 50", "0", "canary.weights", "between 1 and 99"),
        (CANARY, "20, 50", "100", "canary.weights", "between 1 and 99"),
        (CANARY, "[20, 50]", "[]", "canary.weights", "at least 1"),
        (CANARY, "by: replicas", "by: replica", "canary.by", "did you mean replicas?"),
        (CANARY, "by: replicas", "by: flag", "canary", "by flag needs flag"),
        (CANARY, "by: replicas", "by: gateway", "canary", "by gateway needs route"),
        (CANARY, "by: replicas", "route: x", "canary", "route belongs to `by: gateway`"),
        (BY_FLAG, "key: new_path", "ky: new_path", "canary.flag.ky", "did you mean key?"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused_by_name(text: str, old: str, new: str, place: str, hint: str) -> None:
    assert old in text
    with pytest.raises(PlanError) as caught:
        load(text.replace(old, new))
    assert f": {place}: " in str(caught.value)
    assert hint in str(caught.value)


def test_a_strategy_is_read_in_the_form_that_is_shown() -> None:
    for name in PLAN_CLASSES:
        assert strategy_title(name) != name
        assert normalize_strategy(strategy_title(name)) == name
        assert normalize_strategy(name) == name
    assert normalize_strategy(" blue/green ") == "blue-green"


def test_only_plans_with_flags_ask_for_redis() -> None:
    assert load(ROLLING).redis_url is None
    assert load(CANARY).redis_url is None
    assert load(BY_FLAG).flag_roles == {"new_path": "weight"}


@pytest.mark.parametrize("stable", [1, 2, 3, 4, 7, 10, 50])
@pytest.mark.parametrize("tolerance", [0, 5])
def test_a_weight_is_matched_as_closely_as_pods_allow_or_refused(stable: int, tolerance: int) -> None:
    for weight in range(1, 100):
        nearest = min(abs(percent_of_pods(pods, stable) - weight) for pods in range(1, 99 * stable + 1))
        if nearest <= tolerance:
            pods = compute_canary_replicas(stable, weight, tolerance)
            assert abs(percent_of_pods(pods, stable) - weight) == pytest.approx(nearest)
        else:
            with pytest.raises(PlanError, match=f"{weight}% is not possible with {stable} pods") as caught:
                compute_canary_replicas(stable, weight, tolerance)
            assert caught.value.hint.startswith("use weights such as ")


def test_no_pod_has_no_share() -> None:
    with pytest.raises(PlanError, match="has no pod"):
        compute_canary_replicas(0, 50, 5)


@pytest.mark.parametrize(
    ("strategy", "replicas", "reason"),
    [
        ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}, 4, ""),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "0%", "maxSurge": "1%"}}, 4, ""),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}, 3, ""),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}, 4, "removes 1 of 4"),
        ({}, 8, "removes 2 of 8"),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 1}}, 4, "removes 2 of 4"),
        ({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}, 4, "maxSurge 0"),
        ({"type": "Recreate"}, 4, "Recreate"),
    ],
)
def test_a_rollout_that_reduces_capacity_is_refused_before(strategy: object, replicas: int, reason: str) -> None:
    view = project_deployment({"metadata": {"name": "x"}, "spec": {"replicas": replicas, "strategy": strategy}})
    assert (reason in reduces_capacity(view)) if reason else reduces_capacity(view) == ""

"""What the steps that work on Deployments, Services and single flags will run."""

from collections.abc import Callable, Mapping
from typing import Any

from zdd_tui.model.duration import human_duration
from zdd_tui.model.plan import BasePlan
from zdd_tui.model.plans import CanaryPlan, OneImagePlan
from zdd_tui.model.strategy import StepSpec

Lines = tuple[str, ...]


def _kubectl(plan: BasePlan, command: str) -> str:
    return f"kubectl -n {plan.kubernetes.namespace} {command}"


def _remember(plan: BasePlan, _spec: StepSpec) -> Lines:
    return (f"reads deployment/{plan.kubernetes.deployment} and marks it with our epoch",)


def _rollout(plan: OneImagePlan, _spec: StepSpec) -> Lines:
    names = plan.kubernetes
    return (_kubectl(plan, f"set image deployment/{names.deployment} {names.container}={names.image}"),)


def _soak(plan: BasePlan, _spec: StepSpec) -> Lines:
    return (f"waits {human_duration(plan.gates.soak)}",)


def _marks(plan: BasePlan, _spec: StepSpec) -> Lines:
    return (f"annotations of deployment/{plan.kubernetes.deployment}",)


def _create(plan: CanaryPlan, _spec: StepSpec) -> Lines:
    names = plan.kubernetes
    return (f"deployment/{plan.canary_deployment} like deployment/{names.deployment}, with {names.image}, 0 replicas",)


def _weight(plan: CanaryPlan, spec: StepSpec) -> Lines:
    if plan.canary.flag is not None:
        return (f"SET ff:{plan.canary.flag.key} {'true' if spec.value == 100 else spec.value}",)
    if plan.canary.by == "gateway":
        return (f"httproute/{plan.canary.route}: {spec.value}% to service/{plan.canary_service}",)
    names = f"deployment/{plan.canary_deployment} and deployment/{plan.kubernetes.deployment}"
    return (f"scales {names}: {spec.value}% of the pods are new, and as many as before in all",)


def _restore(plan: CanaryPlan, _spec: StepSpec) -> Lines:
    return (f"scales deployment/{plan.kubernetes.deployment} to its replicas before the release",)


def _remove(plan: CanaryPlan, _spec: StepSpec) -> Lines:
    return (_kubectl(plan, f"delete deployment/{plan.canary_deployment}") + ", once its pods have drained",)


WORKLOAD_LINES: Mapping[str, Callable[[Any, StepSpec], Lines]] = {
    "remember-workload": _remember,
    "rollout-new": _rollout,
    "soak": _soak,
    "clear-marks": _marks,
    "create-canary": _create,
    "set-weight": _weight,
    "restore-replicas": _restore,
    "remove-canary": _remove,
}
"""By a step's key. A plan's class is what its strategy's steps need."""

WORKLOAD_UNDO: Mapping[str, Callable[[Any, StepSpec], str]] = {
    "remember-workload": lambda plan, _spec: f"remove our marks from deployment/{plan.kubernetes.deployment}",
    "rollout-new": lambda plan, _spec: (
        f"roll deployment/{plan.kubernetes.deployment} back to the image before the release"
    ),
    "create-canary": lambda plan, _spec: f"delete deployment/{plan.canary_deployment}",
    "set-weight": lambda _plan, _spec: "weight 0: everybody gets what ran before",
}
"""By a step's key; those that are missing have nothing to undo."""

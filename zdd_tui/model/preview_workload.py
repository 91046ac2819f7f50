"""What the steps that work on Deployments, Services and single flags will run."""

from collections.abc import Callable, Mapping
from typing import Any

from zdd_tui.model.duration import human_duration
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.plan import BasePlan, Plan
from zdd_tui.model.plans import BlueGreenPlan, CanaryPlan, DarkLaunchPlan, OneImagePlan
from zdd_tui.model.strategy import StepSpec
from zdd_tui.model.twin import OWNER_ANNOTATION

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
    if plan.canary.by == "gateway":
        return (
            f"deployment/{plan.canary_deployment} like deployment/{names.deployment}, with {names.image}, 0 replicas",
            f"service/{plan.canary_service} like service/{plan.service}, for its pods alone",
        )
    return (f"deployment/{plan.canary_deployment} like deployment/{names.deployment}, with {names.image}, 0 replicas",)


def _weight(plan: CanaryPlan, spec: StepSpec) -> Lines:
    if plan.canary.flag is not None:
        return (f"SET ff:{plan.canary.flag.key} {'true' if spec.value == 100 else spec.value}",)
    if plan.canary.by == "gateway":
        return (
            f"scales deployment/{plan.canary_deployment} to {spec.value}% of deployment/{plan.kubernetes.deployment}",
            f"httproute/{plan.canary.route}: {spec.value}% to service/{plan.canary_service}",
        )
    return (f"scales deployment/{plan.canary_deployment} until {spec.value}% of all pods are new",)


def _remove(plan: CanaryPlan, _spec: StepSpec) -> Lines:
    deletion = _kubectl(plan, f"delete deployment/{plan.canary_deployment}") + ", once its pods have drained"
    if plan.canary.by == "gateway":
        return (
            f"httproute/{plan.canary.route}: all to service/{plan.service}, our marks removed",
            _kubectl(plan, f"delete service/{plan.canary_service}"),
            deletion,
        )
    return (deletion,)


def _claim(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (f"annotation {OWNER_ANNOTATION}={plan.name} on service/{plan.service}",)


def _create_green(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    names = plan.kubernetes
    return (f"deployment/{plan.green_deployment} as deployment/{names.deployment}, with {names.image}, all replicas",)


def _create_preview(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (f"service/{plan.preview_service} as service/{plan.service}, for deployment/{plan.green_deployment}",)


def _smoke(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return tuple(str(check) for check in plan.blue_green.smoke)


def _to_green(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (f"service/{plan.service}: selector to the pods of deployment/{plan.green_deployment}, one patch",)


def _to_first(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (f"service/{plan.service}: selector to the pods of deployment/{plan.kubernetes.deployment}, one patch",)


def _remove_green(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (_kubectl(plan, f"delete deployment/{plan.green_deployment}") + ", and waits until its pods have drained",)


def _remove_preview(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (_kubectl(plan, f"delete service/{plan.preview_service}"),)


def _free(plan: BlueGreenPlan, _spec: StepSpec) -> Lines:
    return (f"annotations of service/{plan.service}",)


def _shadow(plan: DarkLaunchPlan, spec: StepSpec) -> Lines:
    return (f"SET ff:{plan.flags.shadow} {_stored(spec)}",)


def _read(plan: DarkLaunchPlan, spec: StepSpec) -> Lines:
    return (f"SET ff:{plan.flags.read} {_stored(spec)}",)


def _shadow_off(plan: DarkLaunchPlan, _spec: StepSpec) -> Lines:
    return (
        f"SET ff:{plan.flags.shadow} false",
        f"DEL ff:{plan.flags.shadow}",
        f"ff:{plan.flags.read} stays on until an image without the old path is rolled out",
    )


def _stored(spec: StepSpec) -> str:
    return FlagValue(spec.value or 0).stored


def _ramp(plan: Plan, spec: StepSpec) -> Lines:
    return (f"SET ff:{plan.flags.read} {spec.value}", f"waits {human_duration(plan.cutover.hold)}")


WORKLOAD_LINES: Mapping[str, Callable[[Any, StepSpec], Lines]] = {
    "remember-workload": _remember,
    "rollout-new": _rollout,
    "soak": _soak,
    "clear-marks": _marks,
    "create-canary": _create,
    "set-weight": _weight,
    "remove-canary": _remove,
    "claim-service": _claim,
    "create-green": _create_green,
    "create-preview": _create_preview,
    "smoke-checks": _smoke,
    "switch-to-green": _to_green,
    "switch-to-first": _to_first,
    "remove-green": _remove_green,
    "remove-preview": _remove_preview,
    "free-service": _free,
    "read-ramp": _ramp,
    "set-shadow": _shadow,
    "set-read": _read,
    "shadow-off": _shadow_off,
}
"""By a step's key. A plan's class is what its strategy's steps need."""

WORKLOAD_UNDO: Mapping[str, Callable[[Any, StepSpec], str]] = {
    "remember-workload": lambda plan, _spec: f"remove our marks from deployment/{plan.kubernetes.deployment}",
    "rollout-new": lambda plan, _spec: (
        f"roll deployment/{plan.kubernetes.deployment} back to the image before the release"
    ),
    "create-canary": lambda plan, _spec: (
        f"delete deployment/{plan.canary_deployment}"
        + (f" and service/{plan.canary_service}" if plan.canary.by == "gateway" else "")
    ),
    "set-weight": lambda _plan, _spec: "weight 0: everybody gets what ran before",
    "claim-service": lambda plan, _spec: f"remove our marks from service/{plan.service}",
    "create-green": lambda plan, _spec: f"delete deployment/{plan.green_deployment}",
    "create-preview": lambda plan, _spec: f"delete service/{plan.preview_service}",
    "switch-to-green": lambda plan, _spec: (
        f"service/{plan.service}: selector back to the pods of deployment/{plan.kubernetes.deployment}, one patch"
    ),
    "switch-to-first": lambda plan, _spec: (
        f"service/{plan.service}: selector to deployment/{plan.green_deployment} while the first one goes back"
    ),
    "read-ramp": lambda plan, _spec: f"ff:{plan.flags.read} as before",
    "set-shadow": lambda plan, _spec: f"ff:{plan.flags.shadow} as before",
    "set-read": lambda plan, _spec: f"ff:{plan.flags.read} as before",
    "shadow-off": lambda plan, _spec: f"ff:{plan.flags.shadow} as before",
}
"""By a step's key; those that are missing have nothing to undo."""

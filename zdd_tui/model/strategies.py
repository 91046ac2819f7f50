"""Which phases a plan has. A strategy more is a function here, its plan, its steps and its gates; nothing else."""

from dataclasses import replace

from zdd_tui.model.plan import BasePlan, DualWrite, Plan
from zdd_tui.model.plans import CanaryPlan, RollingPlan
from zdd_tui.model.strategy import GateSpec, PhaseSpec, StepSpec, Strategy, expand_contract

_REMEMBER = StepSpec("remember-workload", "keep image and replicas of now for the way back")
_SOAK = StepSpec("soak", "soak")
_NO_OLDER_POD = GateSpec("no-older-pod", "no older pod is left, terminating ones included")
_SERVING_NEW = GateSpec("serving-new", "every serving pod has the new image")
_HEALTHY = GateSpec("pods-healthy", "new pods are ready and have not restarted")
_SOAK_PASSED = GateSpec("soak-passed", "soak passed")
_CLEANUP = PhaseSpec(
    "cleanup",
    (StepSpec("clear-marks", "remove our marks from the Deployment"),),
    (GateSpec("marks-gone", "nothing of the release is left behind"),),
)


def strategy_for(plan: BasePlan) -> Strategy:
    """The phases of a plan.

    Raises:
        TypeError: a class of plan that nobody gave phases to.
    """
    match plan:
        case Plan():
            return expand_contract(
                sync_by_trigger=plan.change.dual_write is DualWrite.TRIGGER, indexes=bool(plan.change.indexes)
            )
        case RollingPlan():
            return rolling()
        case CanaryPlan():
            return canary(plan)
    raise TypeError(type(plan).__name__)


def rolling() -> Strategy:
    """The new image pod by pod, a soak, and the operator's word that it stays."""
    return Strategy(
        "rolling",
        (
            PhaseSpec(
                "rollout",
                (_REMEMBER, StepSpec("rollout-new", "roll out the new image")),
                (
                    GateSpec("never-short", "the rollout takes no pod away before its heir is ready"),
                    _SERVING_NEW,
                    _NO_OLDER_POD,
                ),
            ),
            PhaseSpec("soak", (_SOAK,), (_SOAK_PASSED, _HEALTHY, _NO_OLDER_POD)),
            _CLEANUP,
        ),
    )


def canary(plan: CanaryPlan) -> Strategy:
    """One phase for each weight, then everything.

    By replicas and by gateway the new image runs in a second Deployment; by flag it is everywhere from the start, and
    the flag's percentage says for how many users it takes its new path.
    """
    by_flag = plan.canary.by == "flag"
    phases = [_weight(plan, weight) for weight in plan.canary.weights]
    if by_flag:
        phases.insert(0, rolling().phases[0])
        promote: tuple[StepSpec, ...] = (
            StepSpec("weight-100", "the flag is on for everybody", work="set-weight", value=100),
        )
        gates: tuple[GateSpec, ...] = (_WEIGHT_HELD, _HEALTHY)
        cleanup = _CLEANUP
    else:
        first = (_REMEMBER, StepSpec("create-canary", "a second Deployment with the new image, without a pod yet"))
        phases[0] = replace(phases[0], steps=(*first, *phases[0].steps))
        promote = (
            StepSpec("rollout-new", "roll out the new image on the first Deployment"),
            StepSpec("restore-replicas", "the first Deployment gets all its replicas again"),
        )
        gates = (_SERVING_NEW, _NO_OLDER_POD, _HEALTHY)
        removal = StepSpec("remove-canary", "remove the second Deployment")
        cleanup = replace(_CLEANUP, steps=(removal, *_CLEANUP.steps))
    return Strategy("canary", (*phases, PhaseSpec("promote", promote, gates), cleanup))


_WEIGHT_HELD = GateSpec("weight-held", "the new image has its share")


def _weight(plan: CanaryPlan, weight: int) -> PhaseSpec:
    what = {"replicas": "of the pods", "flag": "of the users", "gateway": "of the requests"}[plan.canary.by]
    return PhaseSpec(
        f"canary-{weight}",
        (
            StepSpec(f"weight-{weight}", f"{weight}% {what} get the new image", work="set-weight", value=weight),
            StepSpec(f"soak-{weight}", f"soak at {weight}%", work="soak"),
        ),
        (_WEIGHT_HELD, _HEALTHY, _SOAK_PASSED),
    )

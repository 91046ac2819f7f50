"""The phases of each plan. A new strategy is a function here, its plan, its steps and its gates."""

from dataclasses import replace

from zdd_tui.model.ddl.lint import early_defaults
from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.operations.removed_use import removed_objects
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import BasePlan, DualWriteMode, Plan, short_table_name
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationsPlan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, DarkLaunchPlan, RollingPlan
from zdd_tui.model.release.regions import REGION_GATE
from zdd_tui.model.release.strategy import GateSpec, PhaseSpec, StepSpec, Strategy, build_expand_contract

_REGION = GateSpec(REGION_GATE, "the region before it is done and has soaked")
_GUARD = GateSpec("guard", "every rule of the guard passes")
_RECORD_WORKLOAD = StepSpec("record-workload", "record image and replicas for the rollback")
_SOAK = StepSpec("soak", "soak")
_NO_OLDER_POD = GateSpec("no-older-pod", "no older pod is left, terminating ones included")
_SERVING_NEW = GateSpec("serving-new", "every serving pod has the new image")
_HEALTHY = GateSpec("pods-healthy", "new pods are ready and have not restarted")
_SOAK_PASSED = GateSpec("soak-passed", "soak passed")
_CLEANUP = PhaseSpec(
    "cleanup",
    (StepSpec("remove-annotations", "remove zdd's annotations from the Deployment"),),
    (GateSpec("annotations-removed", "nothing of the release is left behind"),),
)


def build_strategy(plan: BasePlan) -> Strategy:
    """The phases of a plan.

    Raises:
        TypeError: there are no phases for this class of plan.
    """
    strategy = _build_phases(plan)
    if plan.guard is not None and plan.guard.closes_gates:
        strategy = add_guard_gate(strategy)
    return replace(strategy, entry=(_REGION, *strategy.entry)) if plan.earlier_regions else strategy


def add_guard_gate(strategy: Strategy) -> Strategy:
    """The same strategy with the guard's gate in every phase."""
    phases = (replace(phase, gates=(*phase.gates, _GUARD)) for phase in strategy.phases)
    return replace(strategy, phases=tuple(phases))


def _build_phases(plan: BasePlan) -> Strategy:
    match plan:
        case Plan():
            return build_expand_contract(
                sync_by_trigger=plan.change.dual_write is DualWriteMode.TRIGGER,
                indexes=bool(plan.change.indexes),
                ramp=plan.cutover.ramp,
                new_table=plan.change.into is not None,
                constrain=bool(plan.change.constrain),
                defaults=_has_early_defaults(plan),
                witness=plan.change.has_witness,
            )
        case BaseOperationsPlan():
            return build_operations(plan)
        case RollingPlan():
            return build_rolling()
        case CanaryPlan():
            return build_canary(plan)
        case BlueGreenPlan():
            return build_blue_green()
        case DarkLaunchPlan():
            return build_dark_launch(plan)
    raise TypeError(type(plan).__name__)


def _has_early_defaults(plan: Plan) -> bool:
    try:
        return bool(early_defaults(plan))
    except PlanError:
        return False  # the lint refuses the plan


def build_operations(plan: BaseOperationsPlan) -> Strategy:
    """Expand, the rollout of the new image as cutover, contract and cleanup, with the steps of the plan's operations.

    Contract is left out where it has no step. A plan without a rollout has no cutover.
    """
    has_rollout = isinstance(plan, OperationsPlan)
    rollout = build_rolling().phases[0]
    expand, backfill, contract, cleanup = (
        _operation_steps(plan, phase) for phase in (Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT, Phase.CLEANUP)
    )
    valid = GateSpec("operations-valid", "every statement has run, every index is valid")
    phases = [
        PhaseSpec(
            Phase.EXPAND,
            (StepSpec("check-rows", "count the rows that the constraints would refuse"), *expand),
            (valid, GateSpec("no-waiters", "no blocked sessions")),
        )
    ]
    if backfill:
        prepare = StepSpec("prepare-fills", "ANALYZE, fix the upper bounds, check the plans of the batches")
        steps = (prepare, *backfill) if any(step.handler == "fill-rows" for step in backfill) else backfill
        phases.append(PhaseSpec(Phase.BACKFILL, steps, (GateSpec("fills-complete", "every row has its values"), valid)))
    if has_rollout:
        gates = (*rollout.gates, _SOAK_PASSED, _HEALTHY)
        phases.append(PhaseSpec(Phase.CUTOVER, (*rollout.steps, _SOAK), gates))
    if contract:
        again = StepSpec("check-rows-again", "count the rows that the constraints would refuse", handler="check-rows")
        gates = (valid, _SERVING_NEW, _NO_OLDER_POD) if has_rollout else (valid,)
        phases.append(PhaseSpec(Phase.CONTRACT, (again, *contract), gates, typed_confirm=bool(cleanup)))
    if has_rollout:
        phases.append(replace(_CLEANUP, name=Phase.CLEANUP, steps=(*cleanup, *_CLEANUP.steps)))
    else:  # even if it has no steps: until it is approved the release can be rolled back
        phases[-1] = replace(phases[-1], typed_confirm=bool(cleanup))
        phases.append(PhaseSpec(Phase.CLEANUP, cleanup, (valid,)))
    return _require_unused(Strategy("expand-contract", tuple(phases)), plan)


REMOVED_GATE = "removed-unused"


def _require_unused(strategy: Strategy, plan: BaseOperationsPlan) -> Strategy:
    """The same strategy with a gate before each phase that takes something away, also before the first one."""
    gates = {
        phase.name: (GateSpec(REMOVED_GATE, "no live query uses what the next phase removes"),)
        for phase in strategy.phases
        if removed_objects(plan, Phase(phase.name))
    }
    names = [*(phase.name for phase in strategy.phases[1:]), ""]
    phases = (
        replace(phase, gates=(*phase.gates, *gates.get(following, ())))
        for phase, following in zip(strategy.phases, names, strict=True)
    )
    return replace(strategy, entry=gates.get(strategy.phases[0].name, ()), phases=tuple(phases))


def _operation_steps(plan: BaseOperationsPlan, phase: Phase) -> tuple[StepSpec, ...]:
    return tuple(
        StepSpec(
            name,
            step.label,
            irreversible=phase is Phase.CLEANUP,
            handler="run-operation" if step.fill is None else "fill-rows",
            value=number,
            table="" if step.fill is None else short_table_name(step.fill.table),
        )
        for name, number, step in named_steps(plan, phase)
    )


def build_rolling() -> Strategy:
    """A rollout of the new image, a soak, and a cleanup after the operator's approval."""
    return Strategy(
        "rolling",
        (
            PhaseSpec(
                "rollout",
                (_RECORD_WORKLOAD, StepSpec("rollout-new", "roll out the new image")),
                (
                    GateSpec("capacity-kept", "the rollout removes no pod before its successor is ready"),
                    _SERVING_NEW,
                    _NO_OLDER_POD,
                ),
            ),
            PhaseSpec("soak", (_SOAK,), (_SOAK_PASSED, _HEALTHY, _NO_OLDER_POD)),
            _CLEANUP,
        ),
    )


def build_canary(plan: CanaryPlan) -> Strategy:
    """One phase for each weight, then the rollout to all pods.

    By replicas and by gateway the new image runs in a second Deployment. By flag it runs in all pods from the start,
    and the flag's percentage is the share of users who get the new path.
    """
    by_flag = plan.canary.by == "flag"
    phases = [_canary_phase(plan, weight) for weight in plan.canary.weights]
    if by_flag:
        phases.insert(0, build_rolling().phases[0])
        promote: tuple[StepSpec, ...] = (
            StepSpec("weight-100", "the flag is on for all users", handler="set-weight", value=100),
        )
        gates: tuple[GateSpec, ...] = (_WEIGHT_HELD, _HEALTHY)
        cleanup = _CLEANUP
    else:
        first = (
            _RECORD_WORKLOAD,
            StepSpec("create-canary", "create a second Deployment with the new image and no pods"),
        )
        phases[0] = replace(phases[0], steps=(*first, *phases[0].steps))
        promote = (StepSpec("rollout-new", "roll out the new image on the first Deployment"),)
        gates = (_SERVING_NEW, _NO_OLDER_POD, _HEALTHY)
        removal = StepSpec("remove-canary", "remove the second Deployment")
        cleanup = replace(_CLEANUP, steps=(removal, *_CLEANUP.steps))
    return Strategy("canary", (*phases, PhaseSpec("promote", promote, gates), cleanup))


_WEIGHT_HELD = GateSpec("weight-held", "the new image has its weight")


def _canary_phase(plan: CanaryPlan, weight: int) -> PhaseSpec:
    what = {"replicas": "of the pods", "flag": "of the users", "gateway": "of the requests"}[plan.canary.by]
    return PhaseSpec(
        f"canary-{weight}",
        (
            StepSpec(f"weight-{weight}", f"{weight}% {what} get the new image", handler="set-weight", value=weight),
            StepSpec(f"soak-{weight}", f"soak at {weight}%", handler="soak"),
        ),
        (_WEIGHT_HELD, _HEALTHY, _SOAK_PASSED),
    )


def build_blue_green() -> Strategy:
    """A second Deployment, green, is tested on a preview Service; then the Service is switched to it in one patch.

    Green is temporary: at the end the first Deployment gets the new image while green serves, the Service is switched
    back, and green is deleted. So names never change, and autoscalers, disruption budgets and charts keep working.
    Flagger does the same for plain Deployments; Argo Rollouts can keep two ReplicaSets under one name because it
    replaces the Deployment by its own resource.
    """
    warm = GateSpec("stable-ready", "the first Deployment is ready with the old image")
    healthy = GateSpec("green-healthy", "green pods are ready and have not restarted")
    try_out = (
        _RECORD_WORKLOAD,
        StepSpec("acquire-service", "acquire the Service for this release"),
        StepSpec("create-green", "create a second Deployment with the new image, all replicas, no traffic"),
        StepSpec("create-preview", "create a preview Service for its pods"),
        StepSpec("smoke-checks", "run smoke checks on every pod of the preview Service"),
    )
    promote = (
        StepSpec("rollout-new", "roll out the new image on the first Deployment, which has no traffic"),
        StepSpec("switch-to-stable", "switch the Service's selector back to the first Deployment, one patch"),
    )
    cleanup = (
        StepSpec("remove-green", "remove the second Deployment, once its pods have drained"),
        StepSpec("remove-preview", "remove the preview Service"),
        StepSpec("release-service", "remove zdd's annotations from the Service"),
        *_CLEANUP.steps,
    )
    return Strategy(
        "blue-green",
        (
            PhaseSpec("preview", try_out, (GateSpec("smoke-passed", "smoke checks passed"), healthy, warm)),
            PhaseSpec(
                "switch",
                (StepSpec("switch-to-green", "switch the Service's selector to green, one patch"),),
                (GateSpec("serving-green", "the Service has all green pods and no others"), healthy, warm),
            ),
            PhaseSpec("soak", (_SOAK,), (_SOAK_PASSED, healthy, warm)),
            PhaseSpec("promote", promote, (_SERVING_NEW, _NO_OLDER_POD, _HEALTHY)),
            PhaseSpec("cleanup", cleanup, (GateSpec("green-removed", "nothing of the release is left behind"),)),
        ),
    )


def build_dark_launch(plan: DarkLaunchPlan) -> Strategy:
    """The new path runs in the shadow of a growing share of requests, then serves a growing share of users."""
    agrees = GateSpec("shadow-agrees", "the new path returns the same results")
    fast = GateSpec("shadow-fast", "the new path is not too slow")
    shadows = [
        PhaseSpec(
            f"shadow-{share}",
            (
                StepSpec(
                    f"shadow-{share}", f"{share}% of requests run the new path too", handler="set-shadow", value=share
                ),
                StepSpec(f"soak-shadow-{share}", f"compare at {share}%", handler="soak"),
            ),
            (agrees, fast, _HEALTHY),
        )
        for share in plan.dark.shadow
    ]
    ramps = [
        PhaseSpec(
            f"ramp-{share}",
            (
                StepSpec(f"ramp-{share}", f"{share}% of users get the new path", handler="set-read", value=share),
                StepSpec(f"soak-ramp-{share}", f"soak at {share}%", handler="soak"),
            ),
            (GateSpec("read-held", "the read flag has its share"), agrees, _HEALTHY),
        )
        for share in plan.dark.ramp
    ]
    cleanup = PhaseSpec(
        "cleanup",
        (StepSpec("shadow-off", "turn the shadow flag off and delete it"), *_CLEANUP.steps),
        (GateSpec("dark-launch-removed", "only the new path is left"),),
    )
    return Strategy("dark-launch", (build_rolling().phases[0], *shadows, *ramps, cleanup))

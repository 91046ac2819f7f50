"""What the doctor asks a plan, whatever its strategy."""

from collections.abc import Iterator
from datetime import date

from zdd_tui.model.doctor.facts import WorkloadFacts
from zdd_tui.model.guard import GuardAction
from zdd_tui.model.plan import BasePlan, Plan
from zdd_tui.model.plans import Canary, CanaryFlag, CanaryPlan, DarkLaunchPlan, OneImagePlan
from zdd_tui.model.strategies import strategy_for


def flag_owner(plan: BasePlan) -> tuple[str | None, date | None]:
    """Who answers for the plan's flags, and until when they should be gone."""
    match plan:
        case Plan() | DarkLaunchPlan():
            return plan.flags.owner, plan.flags.expires
        case CanaryPlan(canary=Canary(flag=CanaryFlag() as flag)):
            return flag.owner, flag.expires
    return None, None


def images(plan: BasePlan, workload: WorkloadFacts | None) -> Iterator[tuple[str, str]]:
    """What is rolled out and what runs, with the part that each image plays."""
    seen: dict[str, str] = {}
    match plan:
        case Plan():
            seen = {plan.kubernetes.images.v2: "V2", plan.kubernetes.images.v3: "V3"}
        case OneImagePlan():
            seen = {plan.kubernetes.image: "new"}
    for image, role in seen.items():
        yield role, image
    if workload is not None and workload.image not in seen:
        yield "that runs", workload.image


def steps_that_watch(plan: BasePlan) -> tuple[str, ...]:
    """Labels of the steps that only let time pass while somebody should look: the soaks.

    Not those of shadow reads: there the gate compares the new path with the old one.
    """
    steps = strategy_for(plan).steps
    soaks = (step for step in steps if "soak" in (step.name, step.work))
    return tuple(step.label for step in soaks if not step.name.startswith("soak-shadow"))


def watches(plan: BasePlan) -> bool:
    """Some rule of a guard does more than to say so."""
    return plan.guard is not None and plan.guard.closes_gates


def rollback_rules(plan: BasePlan) -> tuple[str, ...]:
    """Names of the guard's rules that roll back."""
    demanded = plan.guard.demanded if plan.guard else {}
    return tuple(name for name, action in demanded.items() if action is GuardAction.ROLLBACK)

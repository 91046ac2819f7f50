"""What the doctor asks a plan, whatever its strategy."""

from collections.abc import Iterator
from datetime import date
from typing import Any

from zdd_tui.model.doctor.facts import WorkloadFacts
from zdd_tui.model.guard import GuardAction
from zdd_tui.model.plan import BasePlan
from zdd_tui.model.strategies import strategy_for


def flag_owner(plan: BasePlan) -> tuple[str | None, date | None]:
    """Who answers for the plan's flags, and until when they should be gone."""
    section: Any = _flag_section(plan)
    return getattr(section, "owner", None), getattr(section, "expires", None)


def _flag_section(plan: Any) -> Any:
    own = getattr(plan, "flags", None)
    if own is not None:
        return own
    strategies = (getattr(plan, name, None) for name in ("canary", "dark_launch"))
    flags = (getattr(section, "flag", None) for section in strategies)
    return next((flag for flag in flags if flag is not None), None)


def images(plan: BasePlan, workload: WorkloadFacts | None) -> Iterator[tuple[str, str]]:
    """What is rolled out and what runs, with the part that each image plays."""
    workloads: Any = plan.kubernetes
    seen: set[str] = set()
    named = getattr(workloads, "images", None)
    if named is not None:
        for role in ("v2", "v3"):
            seen.add(getattr(named, role))
            yield role.upper(), getattr(named, role)
    elif getattr(workloads, "image", None):
        seen.add(workloads.image)
        yield "new", workloads.image
    if workload is not None and workload.image not in seen:
        yield "that runs", workload.image


def steps_that_watch(plan: BasePlan) -> tuple[str, ...]:
    """Labels of the steps that only let time pass while somebody should look: the soaks."""
    steps = strategy_for(plan).steps
    return tuple(step.label for step in steps if step.name == "soak" or getattr(step, "work", "") == "soak")


def watches(plan: BasePlan) -> bool:
    """Some rule of a guard does more than to say so."""
    return plan.guard is not None and plan.guard.closes_gates


def rollback_rules(plan: BasePlan) -> tuple[str, ...]:
    """Names of the guard's rules that roll back."""
    demanded = plan.guard.demanded if plan.guard else {}
    return tuple(name for name, action in demanded.items() if action is GuardAction.ROLLBACK)

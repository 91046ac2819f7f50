"""The registry of all strategies: the class of each plan, and the names."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, TypeAdapter

from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.operations import OperationsPlan, SchemaPlan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, DarkLaunchPlan, RollingPlan

PLAN_CLASSES: Mapping[str, type[BasePlan]] = {
    "expand-contract": Plan,
    "rolling": RollingPlan,
    "canary": CanaryPlan,
    "blue-green": BlueGreenPlan,
    "dark-launch": DarkLaunchPlan,
}
"""By the value of `strategy`; a plan without it is an expand/contract plan."""


def plan_class(document: Mapping[str, object], strategy: str) -> type[BasePlan]:
    """The class of a plan: an expand/contract plan may have operations instead of a change, and then no rollout."""
    if strategy == "expand-contract" and "operations" in document:
        return OperationsPlan if "kubernetes" in document else SchemaPlan
    return PLAN_CLASSES[strategy]


_TITLES = {
    "expand-contract": "Expand/Contract",
    "rolling": "Rolling",
    "canary": "Canary",
    "blue-green": "Blue/Green",
    "dark-launch": "Dark launch",
}


def strategy_title(name: str) -> str:
    """A strategy's name as screens and reports show it: ``Blue/Green`` for ``blue-green``."""
    return _TITLES.get(name, name)


def normalize_strategy(text: str) -> str:
    """The name that plans, command line and code use, from any form that is shown: ``Blue/Green``, ``blue/green``."""
    return "-".join(re.split(r"[/\s]+", text.strip().lower()))


def build_plan_schema() -> dict[str, object]:
    """The JSON Schema of a plan file of any strategy.

    A plan file is validated by its strategy's class alone, so that an error names the keys of that class.
    """
    other = Annotated[RollingPlan | CanaryPlan | BlueGreenPlan | DarkLaunchPlan, Field(discriminator="strategy")]
    return TypeAdapter(Plan | OperationsPlan | SchemaPlan | other).json_schema()

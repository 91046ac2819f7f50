"""What the feeds make of what they read: views for the screens, and words for what went wrong."""

from zdd_tui.dashboard.state import FlagView, PlanView, Sourced
from zdd_tui.model.errors import ZddError
from zdd_tui.model.flag import parse_flag
from zdd_tui.model.guard.describe import rule_views
from zdd_tui.model.plan.base import BasePlan, Change, DualWrite, Plan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, OneImagePlan
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.workload.rollout import WorkloadSnapshot

_CLUSTER_MEND = "check kubeconfig, context, namespace and deployment, and that this machine reaches the API server"


def plan_view(plan: BasePlan) -> PlanView:
    """What screens show of a plan. The places of database and flags follow when their drivers are loaded."""
    names = plan.kubernetes
    context = f", context {names.context}" if names.context else ""
    return PlanView(
        name=plan.name,
        strategy=plan.strategy,
        environment=plan.environment,
        target=f"{names.deployment}@{names.context or names.namespace}",
        cluster=f"deployment {names.namespace}/{names.deployment}{context}",
        backfills=isinstance(plan, Plan),
        flagged=bool(plan.flag_roles),
        rules=tuple(rule.name for rule in plan.guard.rules) if plan.guard else (),
        new_image=plan.kubernetes.image if isinstance(plan, OneImagePlan) else "",
        sides=_sides(plan),
        switched=isinstance(plan, BlueGreenPlan),
        change=_change(plan.change) if isinstance(plan, Plan) else None,
        reasons=tuple(each.value for each in plan.confirm.reason),
        unlock_seconds=plan.confirm.unlock,
        region=_region(plan),
        guard=rule_views(plan.guard),
    )


def _region(plan: BasePlan) -> str:
    if plan.regions is None or not plan.region:
        return ""
    return f"{plan.region} {len(plan.earlier_regions) + 1}/{len(plan.regions.order)}"


def _change(change: Change) -> ChangeView:
    return ChangeView(
        str(change.table),
        str(change.target),
        tuple(change.down.items()),
        tuple(change.up.items()),
        change.dual_write is DualWrite.TRIGGER,
    )


def _sides(plan: BasePlan) -> tuple[tuple[str, str], ...]:
    words = ("blue", "green") if isinstance(plan, BlueGreenPlan) else ("stable", "canary")
    several = isinstance(plan, BlueGreenPlan | CanaryPlan) and len(plan.workloads) > 1
    return tuple(zip(words, plan.workloads, strict=True)) if several else ()


def pods_source(snapshot: WorkloadSnapshot) -> Sourced[WorkloadSnapshot]:
    """A reading of the cluster as a part of the board."""
    if snapshot.error and snapshot.deployment is None:
        # Nothing was ever read, or the Deployment is gone: there is nothing to show but why.
        return Sourced(None, None, snapshot.error, _CLUSTER_MEND)
    mend = _CLUSTER_MEND if snapshot.error else ""
    return Sourced(snapshot, snapshot.observed_at, snapshot.error or "", mend)


def flag_view(key: str, role: str, raw: str | None) -> FlagView:
    if raw is None:
        return FlagView(key, role, None)
    try:
        return FlagView(key, role, parse_flag(raw))
    except ValueError as error:
        return FlagView(key, role, None, str(error))


def explained(slot: str, error: BaseException) -> tuple[str, str]:
    """Title and mend of what ended a feed. A defect is named by its type only: its text may hold anything."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ZddError):
        return error.title, error.mend
    return f"defect in reading {slot}: {type(error).__name__}", "it is tried again; please report it"

"""What the feeds make of what they read: views for the screens, and words for what went wrong."""

from zdd_tui.dashboard.state import FlagView, Observed, PlanView
from zdd_tui.model.errors import ZddError
from zdd_tui.model.flag import parse_flag
from zdd_tui.model.guard.describe import describe_rules
from zdd_tui.model.plan.base import BasePlan, Change, DualWriteMode, Plan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, SingleImagePlan
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.workload.rollout import WorkloadSnapshot

_CLUSTER_HINT = "check kubeconfig, context, namespace and deployment, and that this machine reaches the API server"


def build_plan_view(plan: BasePlan) -> PlanView:
    """What screens show of a plan. The places of database and flags follow when their drivers are loaded."""
    names = plan.kubernetes
    context = f", context {names.context}" if names.context else ""
    return PlanView(
        name=plan.name,
        strategy=plan.strategy,
        environment=plan.environment,
        production=plan.production,
        target=f"{names.deployment}@{names.context or names.namespace}",
        cluster=f"deployment {names.namespace}/{names.deployment}{context}",
        has_backfill=isinstance(plan, Plan),
        has_flags=bool(plan.flag_roles),
        rule_names=tuple(rule.name for rule in plan.guard.rules) if plan.guard else (),
        new_image=plan.kubernetes.image if isinstance(plan, SingleImagePlan) else "",
        deployment_roles=_deployment_roles(plan),
        is_blue_green=isinstance(plan, BlueGreenPlan),
        change=_build_change_view(plan.change) if isinstance(plan, Plan) else None,
        commands_needing_reason=tuple(each.value for each in plan.confirm.reason),
        unlock_seconds=plan.confirm.unlock,
        region=_format_region(plan),
        guard_rules=describe_rules(plan.guard),
    )


def _format_region(plan: BasePlan) -> str:
    if plan.regions is None or not plan.region:
        return ""
    return f"{plan.region} {len(plan.earlier_regions) + 1}/{len(plan.regions.order)}"


def _build_change_view(change: Change) -> ChangeView:
    return ChangeView(
        str(change.table),
        str(change.target_table),
        tuple(change.down.items()),
        tuple(change.up.items()),
        change.dual_write is DualWriteMode.TRIGGER,
    )


def _deployment_roles(plan: BasePlan) -> tuple[tuple[str, str], ...]:
    words = ("blue", "green") if isinstance(plan, BlueGreenPlan) else ("stable", "canary")
    several = isinstance(plan, BlueGreenPlan | CanaryPlan) and len(plan.workloads) > 1
    return tuple(zip(words, plan.workloads, strict=True)) if several else ()


def observe_pods(snapshot: WorkloadSnapshot) -> Observed[WorkloadSnapshot]:
    """A reading of the cluster as a part of the board."""
    if snapshot.error and snapshot.deployment is None:
        # Nothing was ever read, or the Deployment is gone: there is nothing to show but why.
        return Observed(None, None, snapshot.error, _CLUSTER_HINT)
    mend = _CLUSTER_HINT if snapshot.error else ""
    return Observed(snapshot, snapshot.observed_at, snapshot.error or "", mend)


def build_flag_view(key: str, role: str, raw: str | None) -> FlagView:
    if raw is None:
        return FlagView(key, role, None)
    try:
        return FlagView(key, role, parse_flag(raw))
    except ValueError as error:
        return FlagView(key, role, None, str(error))


def describe_error(source_name: str, error: BaseException) -> tuple[str, str]:
    """Title and mend of what ended a feed. A defect is named by its type only: its text may hold anything."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ZddError):
        return error.title, error.hint
    return f"defect in reading {source_name}: {type(error).__name__}", "it is tried again; please report it"

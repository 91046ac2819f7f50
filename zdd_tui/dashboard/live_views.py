"""Views that live sources make of what they read, caches of readings, and texts of errors."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zdd_tui.dashboard.state import FlagView, Observed, PlanView
from zdd_tui.model.errors import ZddError
from zdd_tui.model.flag import parse_flag
from zdd_tui.model.guard.rules import describe_rules
from zdd_tui.model.plan.base import BasePlan, Change, DualWriteMode, Plan, WorkloadPlan
from zdd_tui.model.plan.guard import Source
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, DarkLaunchPlan, SingleImagePlan
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.release.records import Event, ReleaseRecord
from zdd_tui.model.workload.rollout import WorkloadSnapshot

_CLUSTER_HINT = "check kubeconfig, context, namespace and deployment, and that this machine reaches the API server"


def build_plan_view(plan: BasePlan, path: str = "") -> PlanView:
    """View of a plan. The addresses of database and flags are added when their drivers are loaded.

    Args:
        path: of the plan's file; empty if unknown.
    """
    target, cluster = _describe_workload(plan)
    return PlanView(
        name=plan.name,
        strategy=plan.strategy,
        environment=plan.environment,
        production=plan.production,
        target=target,
        cluster=cluster,
        has_workload=isinstance(plan, WorkloadPlan),
        has_backfill=isinstance(plan, Plan),
        has_flags=bool(plan.flag_roles),
        rule_names=tuple(rule.name for rule in plan.guard.rules) if plan.guard else (),
        new_image=plan.kubernetes.image if isinstance(plan, SingleImagePlan) else "",
        newest_image=_newest_image(plan),
        deployment_roles=_deployment_roles(plan),
        is_blue_green=isinstance(plan, BlueGreenPlan),
        change=_build_change_view(plan.change) if isinstance(plan, Plan) else None,
        commands_needing_reason=tuple(kind.value for kind in plan.confirm.reason),
        unlock_seconds=plan.confirm.unlock,
        file=_plan_arguments(plan, path),
        agent_command=_agent_command(plan, path),
        region=_format_region(plan),
        region_names=plan.regions.names if plan.regions is not None and plan.region else (),
        guard_rules=describe_rules(plan.guard),
        queried_rules=_find_queried_rules(plan),
        weight_source=plan.canary.by if isinstance(plan, CanaryPlan) else "",
    )


def _describe_workload(plan: BasePlan) -> tuple[str, str]:
    """The Deployment in few words, and where it is; of a plan without one: empty."""
    if not isinstance(plan, WorkloadPlan):
        return "schema only", ""
    names = plan.kubernetes
    context = f", context {names.context}" if names.context else ""
    return (
        f"{names.deployment}@{names.context or names.namespace}",
        f"Deployment {names.namespace}/{names.deployment}{context}",
    )


def _find_queried_rules(plan: BasePlan) -> dict[str, float]:
    guard = plan.guard
    rules = guard.rules if guard is not None else ()
    interval = guard.interval if guard is not None else 0.0
    return {rule.name: interval for rule in rules if rule.effective_source is Source.PROMETHEUS}


def _plan_arguments(plan: BasePlan, path: str) -> str:
    """What selects the plan on the command line: the whole path, so that it works in any folder, and the region."""
    region = f" --region {shlex.quote(plan.region)}" if plan.region else ""
    return f"{shlex.quote(str(Path(path).resolve()))}{region}" if path else ""


def _agent_command(plan: BasePlan, path: str) -> str:
    """With the whole path, so that the line works in any folder of this machine."""
    if not path:
        return ""
    region = f"--region {shlex.quote(plan.region)} " if plan.region else ""
    return f"zdd agent {region}{shlex.quote(str(Path(path).resolve()))}"


def _newest_image(plan: BasePlan) -> str:
    if isinstance(plan, Plan):
        return plan.kubernetes.images.v3
    return plan.kubernetes.image if isinstance(plan, SingleImagePlan) else ""


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
    roles = ("blue", "green") if isinstance(plan, BlueGreenPlan) else ("stable", "canary")
    has_two = isinstance(plan, BlueGreenPlan | CanaryPlan) and len(plan.workloads) > 1
    return tuple(zip(roles, plan.workloads, strict=True)) if has_two else ()


def observe_pods(snapshot: WorkloadSnapshot, *, is_absent: bool) -> Observed[WorkloadSnapshot]:
    """A reading of the cluster, with its error.

    Args:
        is_absent: the cluster has answered that there is no such Deployment.
    """
    if snapshot.error and snapshot.deployment is None:
        return Observed(None, snapshot.observed_at if is_absent else None, snapshot.error, _CLUSTER_HINT)
    return Observed(snapshot, snapshot.observed_at, snapshot.error or "", _CLUSTER_HINT if snapshot.error else "")


def describe_error(source_name: str, error: BaseException) -> tuple[str, str]:
    """Title and hint of the error that ended a source. Of a bug only the type is shown: its text may hold a secret."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ZddError):
        return error.title, error.hint
    return f"bug while reading {source_name}: {type(error).__name__}", "zdd retries automatically; report the bug"


# --- caches ----------------------------------------------------------------------------------------------------------

NEWEST_EVENTS = 50
"""Events in a normal reading."""

MAX_EVENTS = 5000
"""Maximum number of events that are read and kept."""


class EventCache:
    """All events of a release, collected from readings that hold the newest only."""

    def __init__(self) -> None:
        self._release_id: int | None = None
        self._events: tuple[Event, ...] = ()
        self._may_have_gap = True

    def events_to_read(self, release_id: int) -> int:
        """Number of events to read: all at first, and when some may have been missed."""
        return MAX_EVENTS if self._may_have_gap or release_id != self._release_id else NEWEST_EVENTS

    def merge(self, record: ReleaseRecord, requested: int) -> ReleaseRecord:
        """The reading, with every known event.

        Args:
            requested: result of :meth:`events_to_read` for this reading.
        """
        read = record.events
        if record.id != self._release_id or requested == MAX_EVENTS:
            is_new = read != self._events
            self._release_id, self._may_have_gap = record.id, False
            self._events = read if is_new else self._events
        else:
            last = self._events[-1].id if self._events else 0
            new = tuple(event for event in read if event.id > last)
            self._may_have_gap = len(new) == len(read) >= requested
            if new:
                self._events = (*self._events, *new)[-MAX_EVENTS:]
        return replace(record, events=self._events)


class FlagCache:
    """The flags of a plan, with their owner and the time of the last change that was seen."""

    def __init__(self, plan: BasePlan) -> None:
        self._roles = plan.flag_roles
        self._owner, self._expires = _find_owner(plan)
        self._values: dict[str, str | None] = {}
        self._changed_at: dict[str, float] = {}

    def update(self, values: Mapping[str, str | None], now: float) -> tuple[FlagView, ...]:
        """Views of a reading.

        Args:
            values: stored values by key; None for a missing key.
            now: seconds since the epoch.
        """
        for key, value in values.items():
            if key in self._values and self._values[key] != value:
                self._changed_at[key] = now
            self._values[key] = value
        return tuple(self._view(key, role, values[key]) for key, role in self._roles.items())

    def _view(self, key: str, role: str, raw: str | None) -> FlagView:
        value, problem = None, ""
        try:
            value = None if raw is None else parse_flag(raw)
        except ValueError as error:
            problem = str(error)
        return FlagView(key, role, value, problem, self._owner, self._expires, self._changed_at.get(key))


def _find_owner(plan: BasePlan) -> tuple[str, str]:
    """Owner of the plan's flags and the day by which they should be removed; empty if not set."""
    flags = plan.flags if isinstance(plan, Plan | DarkLaunchPlan) else None
    owned = plan.canary.flag if isinstance(plan, CanaryPlan) else flags
    if owned is None:
        return "", ""
    return owned.owner or "", owned.expires.isoformat() if owned.expires else ""

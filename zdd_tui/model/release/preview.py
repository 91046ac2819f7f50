"""What a command will run, line by line, for its confirmation.

The lines come from the builders that the engine uses too, so what is shown is what runs.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from zdd_tui.model.counting import count_noun
from zdd_tui.model.ddl import (
    ARCHIVE_SCHEMA,
    Catalog,
    Direction,
    archive_statements,
    archived_name,
    batch_statement,
    drop_archive_statements,
    expand_statements,
    index_statements,
    sync_name,
    sync_statements,
)
from zdd_tui.model.ddl.constrain import constrain_batches
from zdd_tui.model.ddl.lint import early_defaults, read_constrain
from zdd_tui.model.ddl.names import witness_triggers
from zdd_tui.model.ddl.sequences import GAP
from zdd_tui.model.ddl.witness import (
    create_witness_statements,
    drop_witness_statements,
    extend_witness_statements,
)
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.masking import mask_urls
from zdd_tui.model.operations.registry import OPERATION_STEPS, find_step, list_blocks
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus, steps_to_undo
from zdd_tui.model.release.strategy import StepSpec
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION

PreviewLines = tuple[str, ...]

# --- steps on Deployments, Services and single flags ----------------------------------------------------------------


def _kubectl(plan: WorkloadPlan, command: str) -> str:
    return f"kubectl -n {plan.kubernetes.namespace} {command}"


def _create_flags(plan: BasePlan) -> str:
    return "".join(f"SET ff:{key} false, where it does not exist\n" for key in plan.flag_roles)


def _set_image(plan: WorkloadPlan, image: str) -> str:
    names = plan.kubernetes
    return _kubectl(plan, f"set image deployment/{names.deployment} {names.container}={image}")


def _create_canary(plan: CanaryPlan) -> str:
    names = plan.kubernetes
    deployment = (
        f"deployment/{plan.canary_deployment} like deployment/{names.deployment}, with {names.image}, 0 replicas"
    )
    if plan.canary.by == "gateway":
        return f"{deployment}\nservice/{plan.canary_service} like service/{plan.service}, for its pods only"
    return deployment


def _set_weight(plan: CanaryPlan, spec: StepSpec) -> str:
    if plan.canary.flag is not None:
        return f"SET ff:{plan.canary.flag.key} {_stored(spec)}"
    if plan.canary.by == "gateway":
        return (
            f"scales deployment/{plan.canary_deployment} to {spec.value}% of deployment/{plan.kubernetes.deployment}\n"
            f"httproute/{plan.canary.route}: {spec.value}% to service/{plan.canary_service}"
        )
    return f"scales deployment/{plan.canary_deployment} until {spec.value}% of all pods are new"


def _remove_canary(plan: CanaryPlan) -> str:
    deletion = _kubectl(plan, f"delete deployment/{plan.canary_deployment}") + ", once its pods have drained"
    if plan.canary.by == "gateway":
        route = f"httproute/{plan.canary.route}: 100% to service/{plan.service}, zdd's annotations removed"
        return "\n".join((route, _kubectl(plan, f"delete service/{plan.canary_service}"), deletion))
    return deletion


def _stored(spec: StepSpec) -> str:
    return FlagValue(spec.value or 0).to_redis


WORKLOAD_LINES: Mapping[str, Callable[[Any, StepSpec], str]] = {
    "record-workload": lambda plan, _spec: (
        f"reads deployment/{plan.kubernetes.deployment} and writes zdd's epoch annotation on it"
    ),
    "rollout-new": lambda plan, _spec: _create_flags(plan) + _set_image(plan, plan.kubernetes.image),
    "check-rows": lambda _plan, _spec: "SELECT count(*), for each constraint; no row is written",
    "prepare-fills": lambda _plan, _spec: "ANALYZE of each table, and EXPLAIN of a batch; no row is written",
    "soak": lambda plan, _spec: f"waits {format_duration(plan.gates.soak)}",
    "remove-annotations": lambda plan, _spec: f"removes zdd's annotations from deployment/{plan.kubernetes.deployment}",
    "create-canary": lambda plan, _spec: _create_canary(plan),
    "set-weight": _set_weight,
    "remove-canary": lambda plan, _spec: _remove_canary(plan),
    "acquire-service": lambda plan, _spec: f"annotation {OWNER_ANNOTATION}={plan.name} on service/{plan.service}",
    "create-green": lambda plan, _spec: (
        f"deployment/{plan.green_deployment} like deployment/{plan.kubernetes.deployment},"
        f" with {plan.kubernetes.image}, all replicas"
    ),
    "create-preview": lambda plan, _spec: (
        f"service/{plan.preview_service} like service/{plan.service}, for deployment/{plan.green_deployment}"
    ),
    "smoke-checks": lambda plan, _spec: "\n".join(str(check) for check in plan.blue_green.smoke),
    "switch-to-green": lambda plan, _spec: (
        f"service/{plan.service}: selector to the pods of deployment/{plan.green_deployment}, one patch"
    ),
    "switch-to-stable": lambda plan, _spec: (
        f"service/{plan.service}: selector to the pods of deployment/{plan.kubernetes.deployment}, one patch"
    ),
    "remove-green": lambda plan, _spec: (
        _kubectl(plan, f"delete deployment/{plan.green_deployment}") + ", then waits until its pods have drained"
    ),
    "remove-preview": lambda plan, _spec: _kubectl(plan, f"delete service/{plan.preview_service}"),
    "release-service": lambda plan, _spec: f"removes zdd's annotations from service/{plan.service}",
    "read-ramp": lambda plan, spec: (
        f"SET ff:{plan.flags.read} {spec.value}\nwaits {format_duration(plan.cutover.hold)}"
    ),
    "set-shadow": lambda plan, spec: f"SET ff:{plan.flags.shadow} {_stored(spec)}",
    "set-read": lambda plan, spec: f"SET ff:{plan.flags.read} {_stored(spec)}",
    "shadow-off": lambda plan, _spec: (
        f"SET ff:{plan.flags.shadow} false\nDEL ff:{plan.flags.shadow}\n"
        f"ff:{plan.flags.read} stays on until an image without the old path is rolled out"
    ),
}
"""The text by a step's registry key. The plan has the class that its strategy needs."""

WORKLOAD_UNDO: Mapping[str, Callable[[Any, StepSpec], str]] = {
    "record-workload": lambda plan, _spec: f"remove zdd's annotations from deployment/{plan.kubernetes.deployment}",
    "rollout-new": lambda plan, _spec: (
        f"roll deployment/{plan.kubernetes.deployment} back to the image before the release"
    ),
    "create-canary": lambda plan, _spec: (
        f"delete deployment/{plan.canary_deployment}"
        + (f" and service/{plan.canary_service}" if plan.canary.by == "gateway" else "")
    ),
    "set-weight": lambda _plan, _spec: "weight 0: all traffic to the version before the release",
    "acquire-service": lambda plan, _spec: f"remove zdd's annotations from service/{plan.service}",
    "create-green": lambda plan, _spec: f"delete deployment/{plan.green_deployment}",
    "create-preview": lambda plan, _spec: f"delete service/{plan.preview_service}",
    "switch-to-green": lambda plan, _spec: (
        f"service/{plan.service}: selector back to the pods of deployment/{plan.kubernetes.deployment}, one patch"
    ),
    "switch-to-stable": lambda plan, _spec: (
        f"service/{plan.service}: selector to deployment/{plan.green_deployment} while the first one is rolled back"
    ),
    "read-ramp": lambda plan, _spec: f"ff:{plan.flags.read} as before",
    "set-shadow": lambda plan, _spec: f"ff:{plan.flags.shadow} as before",
    "set-read": lambda plan, _spec: f"ff:{plan.flags.read} as before",
    "shadow-off": lambda plan, _spec: f"ff:{plan.flags.shadow} as before",
}
"""By a step's registry key; a missing step has nothing to undo."""

DEPLOYMENT_STEPS = frozenset({"record-workload", "rollout-new", "rollout-v2", "rollout-v3"})
"""Registry keys of steps whose undo changes the plan's Deployment alone."""

# --- steps of expand/contract ---------------------------------------------------------------------------------------


def _sql_text(statements: tuple[str, ...]) -> str:
    return "\n".join(statement.strip() for statement in statements)


def _sync_text(plan: Plan, catalog: Catalog | None, direction: Direction) -> str:
    if catalog is None:
        table = plan.change.table if direction == "forward" else plan.change.target_table
        return f"trigger {sync_name(plan, direction)} on {table}"
    return _sql_text(sync_statements(plan, catalog, direction))


def _backfill_text(plan: Plan, catalog: Catalog | None) -> str:
    size = f"{plan.backfill.batch_rows} to {plan.backfill.batch_rows_max} rows a batch"
    return size if catalog is None else f"{size}\n{batch_statement(plan, catalog).strip()}"


def _constrain_text(plan: Plan) -> str:
    return "\n".join(_sql_text(batch) for batch in constrain_batches(read_constrain(plan)))


def _witness_text(
    plan: Plan, catalog: Catalog | None, build: Callable[[Plan, Catalog], tuple[str, ...]], description: str
) -> str:
    return description if catalog is None else _sql_text(build(plan, catalog))


def _compare_text(plan: Plan, _catalog: Catalog | None) -> str:
    rows = "rows written since the verification" if plan.change.witness else "every row"
    return f"compares {rows} of {plan.change.table}" + (f" and {plan.change.into}" if plan.change.into else "")


def _archive_text(plan: Plan, catalog: Catalog | None) -> str:
    if catalog is not None:
        return _sql_text(archive_statements(plan, catalog))
    if plan.change.kind == "table":
        return f"table {plan.change.table} moves to the schema {ARCHIVE_SCHEMA}"
    return "\n".join(f"column {old} is renamed {archived_name(plan, old)}" for old in plan.change.down)


def _drop_text(plan: Plan, catalog: Catalog | None) -> str:
    if catalog is not None:
        return _sql_text(drop_archive_statements(plan, catalog))
    return "drops triggers, their functions, and the old data"


CHANGE_LINES: Mapping[str, Callable[[Plan, Catalog | None], str]] = {
    "lint-ddl": lambda _plan, _catalog: "",
    "expand-schema": lambda plan, _catalog: _sql_text(expand_statements(plan)),
    "create-indexes": lambda plan, _catalog: _sql_text(index_statements(plan)),
    "sync-forward": lambda plan, catalog: _sync_text(plan, catalog, "forward"),
    "rollout-v2": lambda plan, _catalog: _create_flags(plan) + _set_image(plan, plan.kubernetes.images.v2),
    "create-witness": lambda plan, catalog: _witness_text(
        plan,
        catalog,
        create_witness_statements,
        f"triggers {', '.join(witness_triggers(plan, 'old'))} on {plan.change.table}",
    ),
    "write-flag-on": lambda plan, _catalog: f"SET ff:{plan.flags.write} true",
    "prepare-backfill": lambda plan, _catalog: f"ANALYZE {plan.change.table}",
    "backfill-rows": _backfill_text,
    "verify-rows": lambda plan, _catalog: (
        f"reads every row of {plan.change.table}" + (f" and {plan.change.into}" if plan.change.into else "")
    ),
    "sync-reverse": lambda plan, catalog: _sync_text(plan, catalog, "reverse"),
    "extend-witness": lambda plan, catalog: _witness_text(
        plan, catalog, extend_witness_statements, f"the witness watches {plan.change.target_table} too"
    ),
    "compare-recent-writes": _compare_text,
    "read-flag-on": lambda plan, _catalog: f"SET ff:{plan.flags.read} true",
    "rollout-v3": lambda plan, _catalog: _set_image(plan, plan.kubernetes.images.v3),
    "advance-sequences": lambda plan, _catalog: (
        f"setval of each sequence of {plan.change.target_table}: past the values of {plan.change.table}, by at least"
        f" {GAP}, or as many as V2 inserts in a day"
    ),
    "default-new-side": lambda plan, _catalog: _sql_text(tuple(each.text for each in early_defaults(plan))),
    "constrain-new-side": lambda plan, _catalog: _constrain_text(plan),
    "archive-old-side": _archive_text,
    "delete-flags": lambda plan, _catalog: f"DEL ff:{plan.flags.write} ff:{plan.flags.read}",
    "drop-witness": lambda plan, catalog: _witness_text(
        plan, catalog, drop_witness_statements, f"drops triggers {', '.join(witness_triggers(plan, 'old'))}"
    ),
    "drop-archive": _drop_text,
    "analyze": lambda plan, _catalog: f"ANALYZE {plan.change.target_table}",
}
"""The text by a step's registry key; the catalog is None while the new side does not exist."""


CHANGE_UNDO: Mapping[str, Callable[[Plan], str]] = {
    "expand-schema": lambda plan: f"drop {', '.join(plan.change.up) if plan.change.into is None else plan.change.into}",
    "create-indexes": lambda plan: f"drop {count_noun(len(plan.change.indexes), 'index', 'indexes')}",
    "sync-forward": lambda plan: f"drop trigger {sync_name(plan, 'forward')}",
    "rollout-v2": lambda plan: f"roll deployment/{plan.kubernetes.deployment} back to the image before the release",
    "create-witness": lambda plan: f"drop the triggers of the witness on {plan.change.table}",
    "write-flag-on": lambda plan: f"ff:{plan.flags.write} as before",
    "backfill-rows": lambda _plan: "stop; the copied rows are dropped with the new schema",
    "sync-reverse": lambda plan: f"drop trigger {sync_name(plan, 'reverse')}",
    "extend-witness": lambda plan: f"the witness watches {plan.change.table} alone again",
    "read-flag-on": lambda plan: f"ff:{plan.flags.read} as before",
    "rollout-v3": lambda plan: f"roll deployment/{plan.kubernetes.deployment} back to {plan.kubernetes.images.v2}",
    "advance-sequences": lambda plan: f"set the sequences of {plan.change.table} past the values that V3 has used",
    "default-new-side": lambda plan: f"drop the default of {count_noun(len(early_defaults(plan)), 'column')}",
    "constrain-new-side": lambda plan: (
        f"undo {count_noun(len(plan.change.constrain), 'statement')} of change.constrain"
    ),
    "archive-old-side": lambda plan: f"restore the old side of {plan.change.table}",
    "drop-witness": lambda plan: f"create the triggers of the witness on {plan.change.table} again",
    "delete-flags": lambda plan: f"ff:{plan.flags.write} and ff:{plan.flags.read} as before",
}


# --- commands -------------------------------------------------------------------------------------------------------


def preview_command(
    plan: BasePlan,
    release: Release,
    kind: CommandKind,
    catalog: Catalog | None = None,
    missing: Collection[str] = (),
) -> PreviewLines:
    """What a command would run, in order.

    Args:
        catalog: of the tables; without it SQL that depends on it is described instead of shown.
        missing: Deployments that are known not to exist.
    """
    match kind:
        case CommandKind.ADVANCE:
            return tuple(mask_urls(line) for line in _preview_advance(plan, release, catalog))
        case CommandKind.ROLLBACK:
            return tuple(mask_urls(line) for line in _preview_rollback(plan, release, missing))
        case CommandKind.PAUSE:
            return ("no further step starts; the backfill stops within one batch",)
        case CommandKind.RESUME:
            return ("the release continues where it was paused",)
        case CommandKind.TUNE:
            return ("the limits of the backfill change within one batch",)


def preview_blocks(plan: BasePlan) -> Mapping[str, PreviewLines]:
    """The lines of each block that a preview shortens, by the title that stands for it in the preview."""
    blocks = list_blocks(plan) if isinstance(plan, BaseOperationsPlan) else {}
    return {title: tuple(mask_urls(line) for line in lines) for title, lines in blocks.items()}


def describe_target(plan: BasePlan) -> str:
    """What a release changes, in one line without secrets."""
    table = f"{plan.change.table} · " if isinstance(plan, Plan) else ""
    place = f"{plan.kubernetes.namespace}/{plan.kubernetes.deployment} · " if isinstance(plan, WorkloadPlan) else ""
    region = f" · region {plan.region}" if plan.region else ""
    return f"{table}{place}{plan.environment}{region}"


def _preview_advance(plan: BasePlan, release: Release, catalog: Catalog | None) -> PreviewLines:
    if release.state is ReleaseState.FAILED and release.current_phase is not None:
        steps = [spec for spec in release.current_phase.steps if release.status(spec.name) is not StepStatus.DONE]
    elif release.next_phase is not None:
        steps = list(release.next_phase.steps)
    else:
        return ("the release ends",)
    lines: list[str] = []
    for spec in steps:
        lines.append(f"{spec.name}: {spec.label}" + ("   ✗ CANNOT BE UNDONE" if spec.irreversible else ""))
        lines += [f"  {line}" for line in preview_step(plan, spec, catalog)]
    return tuple(lines)


def _preview_rollback(plan: BasePlan, release: Release, missing: Collection[str]) -> PreviewLines:
    to_undo = steps_to_undo(release)
    if not to_undo:
        return ("nothing has run yet: the release ends",)
    return tuple(f"undo {spec.name}: {_undo_line(plan, spec, missing)}" for spec in to_undo)


def _undo_line(plan: BasePlan, spec: StepSpec, missing: Collection[str]) -> str:
    deployment = plan.workloads[0] if plan.workloads else ""
    if deployment in missing and spec.registry_key in DEPLOYMENT_STEPS:
        return f"deployment/{deployment} does not exist: it counts as undone once none of its pods is left"
    return preview_undo(plan, spec)


def preview_step(plan: BasePlan, spec: StepSpec, catalog: Catalog | None = None) -> PreviewLines:
    """The lines that one step runs."""
    if isinstance(plan, BaseOperationsPlan) and spec.registry_key in OPERATION_STEPS:
        return find_step(plan, spec.value or 0).lines
    if isinstance(plan, Plan) and spec.registry_key in CHANGE_LINES:
        known = catalog if catalog is not None and catalog.new is not None else None
        try:
            text = CHANGE_LINES[spec.registry_key](plan, known)
        except DatabaseError as error:  # somebody has renamed or dropped a column: the agent refuses, and says so
            text = f"its SQL cannot be written: {error.title}"
    else:
        text = WORKLOAD_LINES[spec.registry_key](plan, spec)
    return tuple(text.splitlines())


def preview_undo(plan: BasePlan, spec: StepSpec) -> str:
    """What the undo of a step does, in one line."""
    if isinstance(plan, BaseOperationsPlan) and spec.registry_key in OPERATION_STEPS:
        return "; ".join(find_step(plan, spec.value or 0).undo_lines)
    if isinstance(plan, Plan) and spec.registry_key in CHANGE_UNDO:
        return CHANGE_UNDO[spec.registry_key](plan)
    undo = WORKLOAD_UNDO.get(spec.registry_key)
    return undo(plan, spec) if undo else "nothing to undo"

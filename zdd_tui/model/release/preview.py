"""What a command will run, line by line, for its confirmation.

The lines come from the builders that the engine uses too, so what is shown is what runs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from zdd_tui.model.ddl import (
    ARCHIVE_SCHEMA,
    Catalog,
    archive_statements,
    archived_name,
    batch_statement,
    drop_archive_statements,
    expand_statements,
    index_statements,
    sync_name,
    sync_statements,
)
from zdd_tui.model.ddl.names import witness_triggers
from zdd_tui.model.ddl.witness import (
    create_witness_statements,
    drop_witness_statements,
    extend_witness_statements,
)
from zdd_tui.model.duration import format_duration
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, DarkLaunchPlan, SingleImagePlan
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import StepSpec
from zdd_tui.model.workload.second_deployment import OWNER_ANNOTATION

PreviewLines = tuple[str, ...]

# --- steps on Deployments, Services and single flags ----------------------------------------------------------------


def _kubectl(plan: BasePlan, command: str) -> str:
    return f"kubectl -n {plan.kubernetes.namespace} {command}"


def _record_workload(plan: BasePlan, _spec: StepSpec) -> PreviewLines:
    return (f"reads deployment/{plan.kubernetes.deployment} and writes zdd's epoch annotation on it",)


def _rollout(plan: SingleImagePlan, _spec: StepSpec) -> PreviewLines:
    names = plan.kubernetes
    return (_kubectl(plan, f"set image deployment/{names.deployment} {names.container}={names.image}"),)


def _soak(plan: BasePlan, _spec: StepSpec) -> PreviewLines:
    return (f"waits {format_duration(plan.gates.soak)}",)


def _clear_annotations(plan: BasePlan, _spec: StepSpec) -> PreviewLines:
    return (f"removes zdd's annotations from deployment/{plan.kubernetes.deployment}",)


def _create(plan: CanaryPlan, _spec: StepSpec) -> PreviewLines:
    names = plan.kubernetes
    if plan.canary.by == "gateway":
        return (
            f"deployment/{plan.canary_deployment} like deployment/{names.deployment}, with {names.image}, 0 replicas",
            f"service/{plan.canary_service} like service/{plan.service}, for its pods only",
        )
    return (f"deployment/{plan.canary_deployment} like deployment/{names.deployment}, with {names.image}, 0 replicas",)


def _weight(plan: CanaryPlan, spec: StepSpec) -> PreviewLines:
    if plan.canary.flag is not None:
        return (f"SET ff:{plan.canary.flag.key} {'true' if spec.value == 100 else spec.value}",)
    if plan.canary.by == "gateway":
        return (
            f"scales deployment/{plan.canary_deployment} to {spec.value}% of deployment/{plan.kubernetes.deployment}",
            f"httproute/{plan.canary.route}: {spec.value}% to service/{plan.canary_service}",
        )
    return (f"scales deployment/{plan.canary_deployment} until {spec.value}% of all pods are new",)


def _remove(plan: CanaryPlan, _spec: StepSpec) -> PreviewLines:
    deletion = _kubectl(plan, f"delete deployment/{plan.canary_deployment}") + ", once its pods have drained"
    if plan.canary.by == "gateway":
        return (
            f"httproute/{plan.canary.route}: 100% to service/{plan.service}, zdd's annotations removed",
            _kubectl(plan, f"delete service/{plan.canary_service}"),
            deletion,
        )
    return (deletion,)


def _acquire_service(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (f"annotation {OWNER_ANNOTATION}={plan.name} on service/{plan.service}",)


def _create_green(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    names = plan.kubernetes
    return (f"deployment/{plan.green_deployment} like deployment/{names.deployment}, with {names.image}, all replicas",)


def _create_preview(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (f"service/{plan.preview_service} like service/{plan.service}, for deployment/{plan.green_deployment}",)


def _smoke(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return tuple(str(check) for check in plan.blue_green.smoke)


def _switch_to_green(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (f"service/{plan.service}: selector to the pods of deployment/{plan.green_deployment}, one patch",)


def _switch_to_stable(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (f"service/{plan.service}: selector to the pods of deployment/{plan.kubernetes.deployment}, one patch",)


def _remove_green(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (_kubectl(plan, f"delete deployment/{plan.green_deployment}") + ", then waits until its pods have drained",)


def _remove_preview(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (_kubectl(plan, f"delete service/{plan.preview_service}"),)


def _release_service(plan: BlueGreenPlan, _spec: StepSpec) -> PreviewLines:
    return (f"removes zdd's annotations from service/{plan.service}",)


def _shadow(plan: DarkLaunchPlan, spec: StepSpec) -> PreviewLines:
    return (f"SET ff:{plan.flags.shadow} {_stored(spec)}",)


def _read(plan: DarkLaunchPlan, spec: StepSpec) -> PreviewLines:
    return (f"SET ff:{plan.flags.read} {_stored(spec)}",)


def _shadow_off(plan: DarkLaunchPlan, _spec: StepSpec) -> PreviewLines:
    return (
        f"SET ff:{plan.flags.shadow} false",
        f"DEL ff:{plan.flags.shadow}",
        f"ff:{plan.flags.read} stays on until an image without the old path is rolled out",
    )


def _stored(spec: StepSpec) -> str:
    return FlagValue(spec.value or 0).to_redis


def _ramp(plan: Plan, spec: StepSpec) -> PreviewLines:
    return (f"SET ff:{plan.flags.read} {spec.value}", f"waits {format_duration(plan.cutover.hold)}")


WORKLOAD_LINES: Mapping[str, Callable[[Any, StepSpec], PreviewLines]] = {
    "record-workload": _record_workload,
    "rollout-new": _rollout,
    "soak": _soak,
    "remove-annotations": _clear_annotations,
    "create-canary": _create,
    "set-weight": _weight,
    "remove-canary": _remove,
    "acquire-service": _acquire_service,
    "create-green": _create_green,
    "create-preview": _create_preview,
    "smoke-checks": _smoke,
    "switch-to-green": _switch_to_green,
    "switch-to-stable": _switch_to_stable,
    "remove-green": _remove_green,
    "remove-preview": _remove_preview,
    "release-service": _release_service,
    "read-ramp": _ramp,
    "set-shadow": _shadow,
    "set-read": _read,
    "shadow-off": _shadow_off,
}
"""By a step's registry key. The plan has the class that its strategy needs."""

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

# --- steps of expand/contract ---------------------------------------------------------------------------------------


def _as_sql_lines(statements: PreviewLines) -> PreviewLines:
    return tuple(line for statement in statements for line in statement.strip().splitlines())


def _lint(_plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return ()


def _expand(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return _as_sql_lines(expand_statements(plan))


def _indexes(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return _as_sql_lines(index_statements(plan))


def _forward(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is None or catalog.new is None:
        return (f"trigger {sync_name(plan, 'forward')} on {plan.change.table}",)
    return _as_sql_lines(sync_statements(plan, catalog, "forward"))


def _reverse(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is None or catalog.new is None:
        return (f"trigger {sync_name(plan, 'reverse')} on {plan.change.target_table}",)
    return _as_sql_lines(sync_statements(plan, catalog, "reverse"))


def _image(plan: Plan, image: str) -> PreviewLines:
    names = plan.kubernetes
    return (_kubectl(plan, f"set image deployment/{names.deployment} {names.container}={image}"),)


def _v2(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return _image(plan, plan.kubernetes.images.v2)


def _v3(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return _image(plan, plan.kubernetes.images.v3)


def _write_on(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return (f"SET ff:{plan.flags.write} true",)


def _read_on(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return (f"SET ff:{plan.flags.read} true",)


def _prepare(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return (f"ANALYZE {plan.change.table}",)


def _backfill_rows(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    size = f"{plan.backfill.batch_rows} to {plan.backfill.batch_rows_max} rows a batch"
    if catalog is None or catalog.new is None:
        return (size,)
    return (size, *_as_sql_lines((batch_statement(plan, catalog),)))


def _verify(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return (f"reads every row of {plan.change.table}" + (f" and {plan.change.into}" if plan.change.into else ""),)


def _create_witness(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is None or catalog.new is None:
        return (f"triggers {', '.join(witness_triggers(plan, 'old'))} on {plan.change.table}",)
    return _as_sql_lines(create_witness_statements(plan, catalog))


def _extend_witness(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is None or catalog.new is None:
        return (f"the witness watches {plan.change.target_table} too",)
    return _as_sql_lines(extend_witness_statements(plan, catalog))


def _drop_witness(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is None or catalog.new is None:
        return (f"drops triggers {', '.join(witness_triggers(plan, 'old'))}",)
    return _as_sql_lines(drop_witness_statements(plan, catalog))


def _compare(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    rows = "rows written since the verification" if plan.change.witness else "every row"
    return (f"compares {rows} of {plan.change.table}" + (f" and {plan.change.into}" if plan.change.into else ""),)


def _archive(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is not None and catalog.new is not None:
        return _as_sql_lines(archive_statements(plan, catalog))
    if plan.change.kind == "table":
        return (f"table {plan.change.table} moves to the schema {ARCHIVE_SCHEMA}",)
    return tuple(f"column {old} is renamed {archived_name(plan, old)}" for old in plan.change.down)


def _drop(plan: Plan, catalog: Catalog | None) -> PreviewLines:
    if catalog is not None and catalog.new is not None:
        return _as_sql_lines(drop_archive_statements(plan, catalog))
    return ("drops triggers, their functions, and the old data",)


def _flags(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return (f"DEL ff:{plan.flags.write} ff:{plan.flags.read}",)


def _analyze(plan: Plan, _catalog: Catalog | None) -> PreviewLines:
    return (f"ANALYZE {plan.change.target_table}",)


CHANGE_LINES: Mapping[str, Callable[[Plan, Catalog | None], PreviewLines]] = {
    "lint-ddl": _lint,
    "expand-schema": _expand,
    "create-indexes": _indexes,
    "sync-forward": _forward,
    "rollout-v2": _v2,
    "create-witness": _create_witness,
    "write-flag-on": _write_on,
    "prepare-backfill": _prepare,
    "backfill-rows": _backfill_rows,
    "verify-rows": _verify,
    "sync-reverse": _reverse,
    "extend-witness": _extend_witness,
    "compare-recent-writes": _compare,
    "read-flag-on": _read_on,
    "rollout-v3": _v3,
    "archive-old-side": _archive,
    "delete-flags": _flags,
    "drop-witness": _drop_witness,
    "drop-archive": _drop,
    "analyze": _analyze,
}


CHANGE_UNDO: Mapping[str, Callable[[Plan], str]] = {
    "expand-schema": lambda plan: f"drop {', '.join(plan.change.up) if plan.change.into is None else plan.change.into}",
    "create-indexes": lambda plan: f"drop {len(plan.change.indexes)} index(es)",
    "sync-forward": lambda plan: f"drop trigger {sync_name(plan, 'forward')}",
    "rollout-v2": lambda plan: f"roll deployment/{plan.kubernetes.deployment} back to the image before the release",
    "create-witness": lambda plan: f"drop the triggers of the witness on {plan.change.table}",
    "write-flag-on": lambda plan: f"ff:{plan.flags.write} as before",
    "backfill-rows": lambda _plan: "stop; the copied rows are dropped with the new schema",
    "sync-reverse": lambda plan: f"drop trigger {sync_name(plan, 'reverse')}",
    "extend-witness": lambda plan: f"the witness watches {plan.change.table} alone again",
    "read-flag-on": lambda plan: f"ff:{plan.flags.read} as before",
    "rollout-v3": lambda plan: f"roll deployment/{plan.kubernetes.deployment} back to {plan.kubernetes.images.v2}",
    "archive-old-side": lambda plan: f"restore the old side of {plan.change.table}",
    "drop-witness": lambda plan: f"create the triggers of the witness on {plan.change.table} again",
    "delete-flags": lambda plan: f"ff:{plan.flags.write} and ff:{plan.flags.read} as before",
}


# --- commands -------------------------------------------------------------------------------------------------------


def preview_command(
    plan: BasePlan, release: Release, kind: CommandKind, catalog: Catalog | None = None
) -> PreviewLines:
    """What a command would run, in order.

    Args:
        catalog: of the tables; without it SQL that depends on it is described instead of shown.
    """
    match kind:
        case CommandKind.ADVANCE:
            return _preview_advance(plan, release, catalog)
        case CommandKind.ROLLBACK:
            return _preview_rollback(plan, release)
        case CommandKind.PAUSE:
            return ("no further step starts; the backfill stops within one batch",)
        case CommandKind.RESUME:
            return ("the release continues where it was paused",)
        case CommandKind.TUNE:
            return ("the limits of the backfill change within one batch",)


def describe_target(plan: BasePlan) -> str:
    """What a release changes, in one line without secrets."""
    names = plan.kubernetes
    table = f"{plan.change.table} · " if isinstance(plan, Plan) else ""
    return f"{table}{names.namespace}/{names.deployment} · {plan.environment}"


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


def _preview_rollback(plan: BasePlan, release: Release) -> PreviewLines:
    to_undo = [
        spec
        for spec, status in zip(reversed(release.strategy.steps), reversed(release.statuses), strict=True)
        if status.has_effect
    ]
    if not to_undo:
        return ("nothing has run yet: the release ends",)
    return tuple(f"undo {spec.name}: {preview_undo(plan, spec)}" for spec in to_undo)


def preview_step(plan: BasePlan, spec: StepSpec, catalog: Catalog | None = None) -> PreviewLines:
    """The lines that one step runs."""
    if isinstance(plan, Plan) and spec.registry_key in CHANGE_LINES:
        return CHANGE_LINES[spec.registry_key](plan, catalog)
    return WORKLOAD_LINES[spec.registry_key](plan, spec)


def preview_undo(plan: BasePlan, spec: StepSpec) -> str:
    """What the undo of a step does, in one line."""
    if isinstance(plan, Plan) and spec.registry_key in CHANGE_UNDO:
        return CHANGE_UNDO[spec.registry_key](plan)
    undo = WORKLOAD_UNDO.get(spec.registry_key)
    return undo(plan, spec) if undo else "nothing to undo"

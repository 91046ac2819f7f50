"""What a command will run, line by line, for the operator who is asked to confirm it.

The lines are made by the same builders that the engine runs; what is shown is what runs.
"""

from zdd_tui.model.ddl import Catalog
from zdd_tui.model.plan import BasePlan, Plan
from zdd_tui.model.preview_change import CHANGE_LINES, CHANGE_UNDO, Lines
from zdd_tui.model.preview_workload import WORKLOAD_LINES, WORKLOAD_UNDO
from zdd_tui.model.release import CommandKind, Release, State, StepStatus
from zdd_tui.model.strategy import StepSpec


def preview(plan: BasePlan, release: Release, kind: CommandKind, catalog: Catalog | None = None) -> Lines:
    """What would happen, in order.

    Args:
        catalog: facts of the tables; without them SQL that depends on them is described instead of shown.
    """
    match kind:
        case CommandKind.ADVANCE:
            return _advance(plan, release, catalog)
        case CommandKind.ROLLBACK:
            return _rollback(plan, release)
        case CommandKind.PAUSE:
            return ("no further step begins; the backfill stops within one batch",)
        case CommandKind.RESUME:
            return ("what was paused goes on",)
        case CommandKind.TUNE:
            return ("the limits of the backfill change; in force within one batch",)


def target(plan: BasePlan) -> str:
    """What a release touches, in one line without secrets."""
    names = plan.kubernetes
    table = f"{plan.change.table} · " if isinstance(plan, Plan) else ""
    return f"{table}{names.namespace}/{names.deployment} · {plan.environment}"


def _advance(plan: BasePlan, release: Release, catalog: Catalog | None) -> Lines:
    if release.state is State.FAILED and release.current is not None:
        steps = [spec for spec in release.current.steps if release.status(spec.name) is not StepStatus.DONE]
    elif release.next is not None:
        steps = list(release.next.steps)
    else:
        return ("the release ends",)
    lines: list[str] = []
    for spec in steps:
        lines.append(f"{spec.name}: {spec.label}" + ("   ✗ CANNOT BE UNDONE" if spec.irreversible else ""))
        lines += [f"  {line}" for line in step_lines(plan, spec, catalog)]
    return tuple(lines)


def _rollback(plan: BasePlan, release: Release) -> Lines:
    touched = [
        spec
        for spec, status in zip(reversed(release.strategy.steps), reversed(release.statuses), strict=True)
        if status.touched
    ]
    if not touched:
        return ("nothing was done yet: the release ends",)
    return tuple(f"undo {spec.name}: {undo_line(plan, spec)}" for spec in touched)


def step_lines(plan: BasePlan, spec: StepSpec, catalog: Catalog | None = None) -> Lines:
    """What one step runs."""
    if isinstance(plan, Plan) and spec.key in CHANGE_LINES:
        return CHANGE_LINES[spec.key](plan, catalog)
    return WORKLOAD_LINES[spec.key](plan, spec)


def undo_line(plan: BasePlan, spec: StepSpec) -> str:
    """What its undo does."""
    if isinstance(plan, Plan) and spec.key in CHANGE_UNDO:
        return CHANGE_UNDO[spec.key](plan)
    undo = WORKLOAD_UNDO.get(spec.key)
    return undo(plan, spec) if undo else "nothing to undo"

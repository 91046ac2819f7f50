"""Whether a plan's operations can be executed online: rows that constraints would refuse, and locks."""

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.operations import count_violations
from zdd_tui.checks.locks import LockMeasurement, evaluate_migration, lock_lines, refuse_long_work
from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.registry import numbered_steps, plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan


async def check_operation_rows(conn: Connection, plan: BaseOperationsPlan) -> list[str]:
    """
    Returns:
        one line for each operation.

    Raises:
        PlanError: rows violate a constraint that an operation adds.
    """
    lines, errors = [], []
    for operation in plan_operations(plan):
        phases = " and ".join(dict.fromkeys(step.phase for step in operation.steps))
        lines.append(f"{operation.summary}: in {phases}")
        errors += [
            PlanError(f"operations: {found}: {operation.summary} would be refused", "repair these rows first")
            for found in await count_violations(conn, operation.violations)
        ]
    if errors:
        raise PlanError.join(errors)
    return lines


async def check_operation_locks(plan: BaseOperationsPlan, measurement: LockMeasurement | None) -> list[str]:
    """Judges what every phase but the last one runs: under a lock that blocks sessions only the catalog may change.

    Returns:
        the locks, a line each.

    Raises:
        PlanError: a statement rewrites or reads a table under such a lock, or one of expand breaks running code.
    """
    phases = (phase for phase in Phase if phase is not Phase.CLEANUP)
    steps = [(phase, step) for phase in phases for _, step in numbered_steps(plan, phase)]
    sources = [
        (sql, f"operations: {step.label} ({phase}, statement {number})")
        for phase, step in steps
        for number, sql in enumerate(step.statements, 1)
    ]
    database = plan.database
    evaluated = await evaluate_migration(
        sources, database.dsn.get_secret_value(), measurement, timeout=database.connect_timeout
    )
    for verdict in evaluated.verdicts:
        refuse_long_work(verdict, evaluated, may_break=f"({Phase.EXPAND}," not in verdict.statement.location)
    return list(lock_lines(evaluated))

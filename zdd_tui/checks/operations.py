"""Whether a plan's operations can be executed online: rows that constraints would refuse, and locks."""

from collections.abc import Iterable

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.operations import count_violations, find_problems, read_not_null
from zdd_tui.checks.locks import LockMeasurement, evaluate_migration, lock_lines, refuse_long_work
from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation
from zdd_tui.model.operations.registry import numbered_steps, plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import OperationsPlan


async def check_operation_rows(conn: Connection, plan: OperationsPlan) -> list[str]:
    """
    Returns:
        one line for each operation.

    Raises:
        PlanError: rows violate a constraint that an operation adds.
    """
    lines, errors = [], []
    operations = plan_operations(plan)
    for operation in operations:
        phases = " and ".join(dict.fromkeys(step.phase for step in operation.steps))
        lines.append(f"{operation.summary}: in {phases}")
        counted = await count_violations(conn, (operation,))
        lines += [f"note: {each}" for each in counted.uncounted]
        errors += [
            PlanError(f"operations: {found}: {operation.summary} would be refused", "repair these rows first")
            for found in counted.found
        ]
    errors += [PlanError(f"operations: {text}", hint) for text, hint in await find_problems(conn, operations)]
    if errors:
        raise PlanError.join(errors)
    return [*lines, *await _find_limits(conn, operations)]


async def _find_limits(conn: Connection, operations: Iterable[Operation]) -> list[str]:
    """Where a rollback from after cutover would stop: NOT NULL of a removed column without a default or ``down:``."""
    lines = []
    for step in (step for operation in operations for step in operation.steps):
        column = step.not_null
        if column is None or column.fill:
            continue
        async with conn.transaction():
            for setting in step.settings:
                await conn.execute(setting)
            state = await read_not_null(conn, column.table, column.column)
        if state is not None and not state.has_value:
            lines.append(
                f"note: {column.table}.{column.column} is NOT NULL and has no default: once V2 has written rows"
                " without it, a rollback stops until you fill them; down: of the operation fills them"
            )
    return lines


_REPLACEMENT = " as a replacement"
"""In the place of a statement that takes away what a later one of its step gives back."""


async def check_operation_locks(plan: OperationsPlan, measurement: LockMeasurement | None) -> list[str]:
    """Judges what every phase but the last one runs: under a lock that blocks sessions only the catalog may change.

    Returns:
        the locks, a line each.

    Raises:
        PlanError: a statement rewrites or reads a table under such a lock, or one of expand breaks running code.
    """
    phases = (phase for phase in Phase if phase is not Phase.CLEANUP)
    steps = [(phase, step) for phase in phases for _, step in numbered_steps(plan, phase)]
    sources: list[tuple[str, str]] = []
    for phase, step in steps:
        place = f"operations: {step.label} ({phase}{_REPLACEMENT if step.is_replacement else ''}, statement"
        paths = [sql.replace("SET LOCAL ", "SET ", 1) for sql in step.settings if "search_path" in sql]
        sources += [(sql, f"{place} 0)") for sql in paths]
        earlier = step.before.statements if step.before is not None else ()
        sources += [(sql, f"{place} {number})") for number, sql in enumerate((*earlier, *step.statements), 1)]
        if paths:
            sources.append(("RESET search_path", f"{place} 0)"))
    database = plan.database
    evaluated = await evaluate_migration(
        sources, database.dsn.get_secret_value(), measurement, timeout=database.connect_timeout
    )
    for verdict in evaluated.verdicts:
        refuse_long_work(verdict, evaluated, may_break=f"({Phase.EXPAND}," not in verdict.statement.location)
    return list(lock_lines(evaluated))

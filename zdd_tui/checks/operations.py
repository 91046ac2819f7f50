"""Whether a plan's operations can be executed online: rows that constraints would refuse, and locks."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.fill_target import list_row_triggers, read_fill_target, read_reason_for_one
from zdd_tui.backends.postgres.operations import (
    count_violations,
    find_problems,
    read_not_null,
    read_notes,
    reading_with,
    with_settings,
)
from zdd_tui.backends.postgres.query_stats import read_use_facts
from zdd_tui.backends.postgres.removed_use import resolve_removed
from zdd_tui.checks.expressions import HINT, check_fill_expressions
from zdd_tui.checks.locks import (
    EvaluatedMigration,
    LockMeasurement,
    breaking_reasons,
    evaluate_migration,
    lock_lines,
    refuse_long_work,
)
from zdd_tui.model.advice.locks import StatementVerdict
from zdd_tui.model.errors import PlanError, StepFailed
from zdd_tui.model.operations.base import Fill, Operation, OperationStep, StepMode, shorten
from zdd_tui.model.operations.fills import CTID
from zdd_tui.model.operations.plain import list_plain_statements
from zdd_tui.model.operations.registry import numbered_steps, plan_operations
from zdd_tui.model.operations.removed_use import UseBaseline, find_uses, removed_objects, replaced_routines
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationsPlan
from zdd_tui.model.release.strategies import REMOVED_GATE, build_strategy


def check_table_limits(plan: BaseOperationsPlan) -> None:
    """
    Raises:
        PlanError: the plan limits a table that no step fills; names those that are filled.
    """
    filled = build_strategy(plan).filled_tables
    if unknown := [table for table in plan.backfill.tables if table not in filled]:
        raise PlanError(
            f"backfill.tables.{unknown[0]}: no step of the migration fills this table",
            f"name one of the tables that are filled: {', '.join(filled)}" if filled else "leave `tables` out",
        )


async def check_operation_rows(conn: Connection, plan: BaseOperationsPlan) -> list[str]:
    """
    Returns:
        one line for each operation.

    Raises:
        PlanError: rows violate a constraint that an operation adds.
    """
    lines, errors = [], []
    operations = plan_operations(plan)
    for operation in operations:
        if phases := " and ".join(dict.fromkeys(step.phase for step in operation.steps)):
            lines.append(f"{operation.summary}: in {phases}")
        counted = await count_violations(conn, (operation,))
        lines += [f"note: {each}" for each in counted.uncounted]
        errors += [
            PlanError(f"operations: {found}: {operation.summary} would be refused", "repair these rows first")
            for found in counted.found
        ]
        for step in operation.steps:
            if step.fill is None:
                continue
            try:
                async with with_settings(conn, step):
                    lines += await describe_fill(conn, step.fill, plan.backfill.max_statement_rows)
            except StepFailed as error:
                errors.append(PlanError(f"operations: {error.title}", error.hint))
    errors += [PlanError(f"operations: {text}", hint) for text, hint in await find_problems(conn, operations)]
    errors += _find_unknown_accepts(plan)
    expressions = await check_fill_expressions(conn, operations, plan.backfill)
    errors += [PlanError(f"operations: {text}", HINT) for text in expressions.failing]
    if errors:
        raise PlanError.join(errors)
    notes = [f"note: {each}" for each in expressions.notes]
    notes += [*await _find_limits(conn, operations), *await read_notes(conn, operations)]
    return list(dict.fromkeys([*lines, *notes, *await describe_uses(conn, plan)]))


def _find_unknown_accepts(plan: BaseOperationsPlan) -> list[PlanError]:
    labels = list(dict.fromkeys(each.label for each in removed_objects(plan)))
    return [
        PlanError(
            f"accept: {loss.what} is nothing whose use the release waits for",
            f"remove it, or name one of: {', '.join(labels)}" if labels else "remove it: the plan removes nothing",
        )
        for loss in plan.accept
        if loss.what not in labels
    ]


async def describe_uses(conn: Connection, plan: BaseOperationsPlan) -> list[str]:
    """What will keep the gate before a removal shut, unless the plan accepts it; listed before anything starts."""
    resolved = await resolve_removed(conn, removed_objects(plan), replaced_routines(plan))
    if not resolved:
        return []
    facts = await read_use_facts(conn, resolved)
    ever = replace(UseBaseline.take("", facts), at=0.0, calls={})
    found = await asyncio.to_thread(find_uses, resolved, facts, ever, plan.accepted_reasons)
    # With a rollout the old version uses it, and must; what the new version does is not seen yet.
    used = () if isinstance(plan, OperationsPlan) else found.used
    lines = [f"note: {line}" for line in used]
    lines += [f"note: {line}: until that is known, {REMOVED_GATE} is closed; or accept it" for line in found.unknown]
    if await conn.fetchval("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE application_name !~ '^zdd')"):
        lines.append(f"note: gate {REMOVED_GATE} does not see queries on standbys")
    return lines


async def _find_limits(conn: Connection, operations: Iterable[Operation]) -> list[str]:
    """Where a rollback from after cutover would stop: NOT NULL of a removed column without a default or ``down:``."""
    lines = []
    for step in (step for operation in operations for step in operation.steps):
        column = step.not_null
        if column is None or column.fill:
            continue
        async with reading_with(conn, step.settings):
            state = await read_not_null(conn, column.table, column.column)
        if state is not None and not state.has_value:
            lines.append(
                f"note: {column.table}.{column.column} is NOT NULL and has no default: once V2 has written rows"
                " without it, a rollback stops until you fill them; down: of the operation fills them"
            )
    return lines


async def describe_fill(conn: Connection, fill: Fill, max_rows: int) -> list[str]:
    """
    Args:
        max_rows: of a table on which a statement may run as one.

    Returns:
        notes about the batches of a fill; none where an operation creates the table.

    Raises:
        StepFailed: no batches can do it, and the table has more rows.
    """
    if reason := await read_reason_for_one(conn, fill, max_rows):
        return [f"note: {shorten(fill.sql)} runs as one statement, which locks its rows until the end: {reason}"]
    target = await read_fill_target(conn, fill)
    if target is None:
        return []
    table, key = target
    notes = []
    if key == (CTID,):
        notes.append(f"note: {fill.table} has no key: its rows are filled in the order of its blocks")
    if not fill.into and (fired := await list_row_triggers(conn, table, deletes=not fill.values)):
        notes.append(f"note: trigger {', '.join(fired)} of {fill.table} fires for every row that is filled")
    return notes


async def check_operation_locks(plan: BaseOperationsPlan, measurement: LockMeasurement | None) -> list[str]:
    """Checks what every phase runs: under a lock that blocks sessions only the catalog may change, and nothing may be
    refused, least of all in cleanup, from where there is no rollback: what depends on a dropped object is found here.

    Returns:
        the locks, a line each.

    Raises:
        PlanError: a statement rewrites or reads a table under such a lock, one of expand breaks running code, or the
            server refuses one on a copy of the schema.
    """
    has_rollout = isinstance(plan, OperationsPlan)
    steps = [(phase, step) for phase in Phase for _, step in numbered_steps(plan, phase)]
    found = _MeasuredStatements()
    for phase, step in steps:
        found.add(phase, step)
    known = [
        f"{step.label} ({phase}): under a lock that blocks others only the catalog changes"
        for phase, step in steps
        if step.are_locks_known and step.statements
    ]
    database = plan.database
    evaluated = await evaluate_migration(
        found.sources,
        database.dsn.get_secret_value(),
        measurement,
        plain=list_plain_statements(plan),
        timeout=database.connect_timeout,
    )
    notes = _evaluate_plain_run(evaluated)
    for verdict in evaluated.verdicts:
        place = verdict.statement.location.rpartition(":")[0]
        may_fail = place in found.optional or (place in found.in_parts and _is_partitioned(verdict, evaluated))
        # Without a rollout the running code is what the migration is for.
        is_noted = place in found.breaking or not (has_rollout or place in found.harmless)
        refuse_long_work(verdict, evaluated, may_break=is_noted or place in found.harmless, may_fail=may_fail)
        if is_noted:
            reasons = breaking_reasons(verdict, evaluated)
            notes += [f"note: {place}: running code may notice it: {each}" for each in reasons]
    return [*lock_lines(evaluated), *known, *dict.fromkeys(notes)]


_COMMITS_HINT = (
    "leave COMMIT and ROLLBACK out of the code: an operation with undo runs in one transaction; to write many rows, use"
    " UPDATE or DELETE, which run in batches"
)


def _evaluate_plain_run(evaluated: EvaluatedMigration) -> list[str]:
    """Whether PostgreSQL accepts the migration as the team wrote it, as a line of the report.

    Raises:
        PlanError: PostgreSQL refuses one of its statements.
    """
    unproven = "note: whether PostgreSQL accepts the migration is not known"
    if evaluated.measured is None:
        return []
    if (ran := evaluated.measured.plain) is None:
        return [f"{unproven}: {evaluated.measured.problem}"]
    if not ran.error:
        return [f"the migration itself runs on a copy of the schema ({evaluated.measured.server})"]
    said = f"{shorten(ran.statement)}: {ran.error}"
    if ran.is_refused:
        raise PlanError(
            f"operations: PostgreSQL refuses the migration: {said} ({evaluated.source})",
            _COMMITS_HINT if "transaction termination" in ran.error else "correct the statement, or what it changes",
        )
    return [f"{unproven}: on a copy, whose rows, rights and extensions may differ: {said}"]


@dataclass(slots=True)
class _MeasuredStatements:
    """The statements that run on a copy of the schema, and the places of those that are special.

    Attributes:
        sources: SQL and place.
        optional: it runs only where something exists, or does not.
        harmless: it may take something from running code, because none is left or a later one gives it back.
        breaking: it may take something from running code; a note names what.
        in_parts: concurrent, of an index: on a partitioned table one for each partition.
    """

    sources: list[tuple[str, str]] = field(default_factory=list)
    optional: set[str] = field(default_factory=set)
    harmless: set[str] = field(default_factory=set)
    breaking: set[str] = field(default_factory=set)
    in_parts: set[str] = field(default_factory=set)

    def add(self, phase: Phase, step: OperationStep) -> None:
        """Adds those of a step, unless its locks are known."""
        begin = f"operations: {step.label} ({phase}, statement"
        earlier = step.before.statements if step.before is not None and not step.before.are_locks_known else ()
        statements = () if step.are_locks_known else (*earlier, *step.statements)
        if not statements:
            return
        paths = [sql.replace("SET LOCAL ", "SET ", 1) for sql in step.settings if "search_path" in sql]
        places = [f"{begin} {number})" for number in range(1, len(statements) + 1)]
        self.sources += [(sql, f"{begin} 0)") for sql in paths]
        self.sources += zip(statements, places, strict=True)
        self.sources += [("RESET search_path", f"{begin} 0)")] if paths else []
        if step.only_if or step.only_if_exists or step.is_optional:
            self.optional.update(places)
        if step.mode in (StepMode.BUILD_INDEX, StepMode.DROP_INDEX) or step.on_partitioned:
            self.in_parts.update(places)
        if phase is not Phase.EXPAND or step.is_replacement:
            self.harmless.update(places)
        elif step.may_break:
            self.breaking.update(places)


def _is_partitioned(verdict: StatementVerdict, evaluated: EvaluatedMigration) -> bool:
    """Whether a concurrent statement about an index is executed for each partition, which the copy refuses as one."""
    schema = evaluated.stats.schema if evaluated.stats is not None else None
    names = [str(each.table) for each in verdict.statement.actions] + [each.name for each in verdict.statement.actions]
    found = [schema.find(name) for name in names if name] if schema is not None else []
    return any(relation is not None and relation.kind in ("p", "I") for relation in found)

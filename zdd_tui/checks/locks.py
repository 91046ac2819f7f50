"""What the statements of a migration or a plan do: by rule, and measured on a copy of the schema where there is one."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from zdd_tui.backends.postgres.table_stats import read_database_stats, read_schema
from zdd_tui.model.advice.effects import MeasuredMigration, StatementEffects, TableWork
from zdd_tui.model.advice.locks import (
    OPAQUE_KINDS,
    StatementVerdict,
    describe_table_verdict,
    evaluate_statements,
    predict_effects,
)
from zdd_tui.model.advice.migration import (
    DatabaseStats,
    NameScope,
    Statement,
    all_actions,
    mark_new_tables,
    read_migration,
)
from zdd_tui.model.ddl.scratch_copy import scratch_statements
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Plan, TableName

MeasureFunction: TypeAlias = Callable[[str, Sequence[Statement], Sequence[str]], Awaitable[MeasuredMigration]]
"""Executes statements on a copy of the schema of a database, which is only read; others on a second one."""


@dataclass(frozen=True, slots=True)
class LockMeasurement:
    """How locks are measured.

    Attributes:
        measure: see :func:`zdd_tui.rehearsal.measure_locks.measure_migration`.
        only_opaque: only a migration that zdd executes, and a statement that can be evaluated by no rule; an agent that
            starts need not show times.
    """

    measure: MeasureFunction
    only_opaque: bool = False


@dataclass(frozen=True, slots=True)
class EvaluatedMigration:
    """A migration with everything that is known of it.

    Attributes:
        stats: None without a database.
        measured: None where nothing should be measured.
    """

    statements: tuple[Statement, ...]
    stats: DatabaseStats | None = None
    measured: MeasuredMigration | None = None

    @property
    def verdicts(self) -> tuple[StatementVerdict, ...]:
        return evaluate_statements(self.statements, self.stats, self.measured)

    @property
    def source(self) -> str:
        """Where the locks come from, for a report."""
        if self.measured is None:
            return "by rule"
        if self.measured.problem:
            return f"by rule: {self.measured.problem}"
        return f"measured on {self.measured.server}"


async def evaluate_migration(
    sources: Sequence[tuple[str, str]],
    dsn: str = "",
    measurement: LockMeasurement | None = None,
    *,
    plain: Sequence[str] = (),
    timeout: float = 5.0,
    search_path: tuple[str, ...] = (),
) -> EvaluatedMigration:
    """Reads a migration and evaluates it.

    Args:
        sources: text and name of each file, in order; the name is the location where it ends with no line.
        dsn: empty for none: then by rule.
        plain: the migration itself, where the sources are what is executed in its place.
        search_path: instead of the session's.

    Raises:
        PlanError: a text is not SQL.
        DatabaseError: the database cannot be read.
    """
    if not dsn or not (sources or plain):
        return EvaluatedMigration(_read_sources(sources, NameScope(search_path or ("public",))))
    schema = await read_schema(dsn, timeout=timeout)
    if search_path:
        schema = replace(schema, search_path=search_path)
    statements = _read_sources(sources, NameScope.of_schema(schema))
    measured = None
    is_opaque = any(action.kind in OPAQUE_KINDS for action in all_actions(statements))
    if measurement is not None and (plain or is_opaque or not measurement.only_opaque):
        measured = await measurement.measure(dsn, statements, plain)
    names = [action.table for action in all_actions(statements) if action.table is not None and not action.on_new_table]
    by_rule = DatabaseStats("", schema=schema)
    found = [name for statement in statements for name in predict_effects(statement, by_rule).locks]
    if measured is not None:
        found += [name for effects in measured.effects.values() for name in effects.locks]
    known = (relation for name in found if (relation := schema.find(name)) is not None)
    names += [TableName(schema_=relation.schema, name=relation.name) for relation in known]
    stats = await read_database_stats(dsn, names, timeout=timeout)
    return EvaluatedMigration(statements, replace(stats, schema=schema), measured)


def _read_sources(sources: Sequence[tuple[str, str]], scope: NameScope) -> tuple[Statement, ...]:
    statements: list[Statement] = []
    for text, name in sources:
        statements += read_migration(text, name, scope)
    return mark_new_tables(tuple(statements))


def lock_lines(evaluated: EvaluatedMigration) -> Iterator[str]:
    """A line for each table that a statement locks so that others wait, after one that says how it is known."""
    yield f"locks: {evaluated.source}"
    shown = set[tuple[str, str]]()
    for verdict in evaluated.verdicts:
        for locked in verdict.tables:
            key = (verdict.statement.location, locked.table)
            if locked.lock.blocks_writes and key not in shown:
                shown.add(key)
                wait = "note: " if locked.is_long else ""
                yield f"{wait}{verdict.statement.location}: {describe_table_verdict(locked)}"


# --- the DDL of an expand/contract plan


async def check_change_locks(plan: Plan, measurement: LockMeasurement | None) -> list[str]:
    """Evaluates the DDL of expand: under a lock that blocks sessions it may do nothing but change the catalog.

    Returns:
        the locks, a line each.

    Raises:
        PlanError: a statement rewrites or reads a table under such a lock, or breaks running code.
    """
    sources = [(text, key) for key, text in scratch_statements(plan, constrain=False)]
    schemas = dict.fromkeys([plan.change.target_table.schema_, plan.change.table.schema_, "public"])
    database = plan.database
    evaluated = await evaluate_migration(
        sources,
        database.dsn.get_secret_value(),
        measurement,
        timeout=database.connect_timeout,
        search_path=tuple(schemas),
    )
    for verdict in evaluated.verdicts:
        refuse_long_work(verdict, evaluated)
    return list(lock_lines(evaluated))


def refuse_long_work(
    verdict: StatementVerdict, evaluated: EvaluatedMigration, *, may_break: bool = False, may_fail: bool = False
) -> None:
    """
    Args:
        may_break: the statement runs when nothing uses what it takes away.
        may_fail: the statement runs only where something exists, or does not.

    Raises:
        PlanError: the server refuses the statement on a copy of the schema; it rewrites or reads a table under a lock
            that blocks writers; or it breaks running code.
    """
    place = verdict.statement.location.rpartition(":")[0]
    effects = _measured_effects(verdict, evaluated)
    if effects is not None and effects.is_refused and not may_fail:
        raise PlanError(
            f"{place}: PostgreSQL refuses it: {effects.error} ({evaluated.source})",
            "correct the statement, or what it changes",
        )
    for locked in verdict.tables:
        if locked.lock.blocks_writes and locked.work in (TableWork.SCAN, TableWork.INDEX, TableWork.REWRITE):
            raise PlanError(
                f"{place}: it {locked.work} ({locked.table}) under {locked.lock}, which blocks {locked.lock.blocked}"
                f" ({verdict.source})",
                verdict.rule.hint or "write it so that it only changes the catalog, and fill the rows by change.up",
            )
    if effects is not None and effects.breaking and not may_break:
        raise PlanError(
            f"{place}: it breaks running code: {'; '.join(effects.breaking)} ({evaluated.source})",
            "expand may only add; what running code loses belongs to contract",
        )


def breaking_reasons(verdict: StatementVerdict, evaluated: EvaluatedMigration) -> tuple[str, ...]:
    """What running code loses by a statement, as measured; empty where nothing was measured."""
    effects = _measured_effects(verdict, evaluated)
    return effects.breaking if effects is not None else ()


def _measured_effects(verdict: StatementVerdict, evaluated: EvaluatedMigration) -> StatementEffects | None:
    measured = evaluated.measured
    return measured.effects.get((verdict.statement.location, verdict.statement.text)) if measured else None

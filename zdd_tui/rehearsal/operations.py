"""The rehearsal of a migration: on a copy of the whole schema, forward and back from every phase.

pg_dump compares: it shares no code with what runs the migration. At the end the definitions must be those that the
plain migration makes; after a rollback, those from before.
"""

# ruff: noqa: S608  names are quoted

import difflib
import re
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.measure import run_plainly
from zdd_tui.backends.postgres.operations import find_problems
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.context import Context
from zdd_tui.engine.runner import ReleaseHolder
from zdd_tui.model.errors import ZddError
from zdd_tui.model.operations.base import StepMode, shorten
from zdd_tui.model.operations.plain import list_plain_statements
from zdd_tui.model.operations.registry import OPERATION_STEPS, find_step, plan_operations
from zdd_tui.model.operations.removed_use import accept_every_use
from zdd_tui.model.plan.base import WorkloadPlan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.sql import node_class, parse_sql, quote_identifier, quote_literal, walk
from zdd_tui.rehearsal.copy import ProgressCallback, RehearsalOptions, read_production
from zdd_tui.rehearsal.expected_rows import RowDiff
from zdd_tui.rehearsal.fake_cluster import fake_cluster
from zdd_tui.rehearsal.pg_dump import check_versions, copy_whole_schema, dump_definitions
from zdd_tui.rehearsal.populate import make_generators, populate, set_sequences
from zdd_tui.rehearsal.report import RehearsalReport
from zdd_tui.rehearsal.scenario import ScenarioResult
from zdd_tui.rehearsal.step_metrics import MeteredStore, StepMetricsCollector
from zdd_tui.rehearsal.table_stats import TableStats, read_structure, with_statistics
from zdd_tui.rehearsal.walk import Measurement, ReleaseWalk, open_release
from zdd_tui.testbed.servers import PostgresServer

SOAK = 0.2
"""Seconds: nothing is observed meanwhile."""

MAX_DIFFERENCES = 5
"""Differing lines of a definition that a report quotes."""

_SIZE_DEPENDENT = re.compile(r"VALIDATE CONSTRAINT|SET NOT NULL|REFRESH MATERIALIZED", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Place:
    """The server of the rehearsal, with its two databases: one for the release, one for the plain migration."""

    server: PostgresServer
    search_path: str

    @property
    def dsn(self) -> str:
        return self.server.dsn_for("rehearsal")

    @property
    def plain_dsn(self) -> str:
        return self.server.dsn_for("plain")

    async def definitions(self, dsn: str) -> list[str]:
        return await dump_definitions(dsn, self.server.programs_folder)


async def rehearse_operations(
    loaded: LoadedPlan,
    plan: BaseOperationsPlan,
    options: RehearsalOptions,
    server: PostgresServer,
    folder: Path,
    log: ProgressCallback,
) -> RehearsalReport:
    """Rehearses a plan of operations on an empty server.

    Raises:
        ZddError: production cannot be read, or is newer than the embedded server.
    """
    async with AsyncExitStack() as stack:
        production = await stack.enter_async_context(read_production(plan.database))
        versions = await check_versions(production, plan.database.dsn.get_secret_value(), server.programs_folder)
        search_path = await production.fetchval("SELECT current_setting('search_path')")
        place = _Place(server, search_path)
        log("bringing the schema over")
        notes = await _copy_schema(production, plan, place, folder)
        async with _session(place.dsn) as conn:
            tables = await _read_tables(conn, production, plan)
            rows = await _fill(conn, tables, options, notes, log)
    largest = max(tables.values(), key=lambda each: each.rows, default=None)
    name = (largest.schema, largest.name) if largest is not None else ("", "")
    report = RehearsalReport(
        name=plan.name,
        plan_hash=loaded.hash,
        strategy=build_strategy(plan.without_regions()),
        rows=rows.get(name, 0),
        full_rows=largest.rows if largest is not None else 0,
        with_data=False,
        versions=versions,
        max_wait=plan.database.lock_timeout_max + 1.0,
        max_rows_per_second=None,
        notes=notes,
        not_checked=_find_unchecked(plan),
        size_dependent=frozenset(_size_dependent_steps(plan)),
    )
    async with _session(server.dsn) as admin:
        await admin.execute("CREATE DATABASE plain TEMPLATE rehearsal")
        await admin.execute(f"ALTER DATABASE plain SET search_path = {search_path}")
    async with _session(place.plain_dsn) as conn:
        problems = await find_problems(conn, plan_operations(plan))
    if problems:
        report.reasons += [f"operations: {text}; {hint}" for text, hint in problems]
        return report
    log("running the plain migration on a copy of the copy")
    async with _session(place.plain_dsn) as conn:
        plain = await run_plainly(conn, list_plain_statements(plan), is_complete=False)
    if plain.error:
        report.reasons.append(f"the migration itself fails: {plain.error}: {shorten(plain.statement, 80)}")
        return report
    await _walk_all(loaded, plan, place, [each.sql for each in tables.values()], report, log)
    report.evaluate()
    return report


@asynccontextmanager
async def _session(dsn: str) -> AsyncIterator[Connection]:
    conn = await asyncpg.connect(dsn, server_settings={"application_name": "zdd rehearsal", "row_security": "off"})
    try:
        yield conn
    finally:
        await conn.close()


# --- the copy


async def _copy_schema(production: Connection, plan: BaseOperationsPlan, place: _Place, folder: Path) -> list[str]:
    """Makes the objects of production, without rows; returns what is missing."""
    roles = [row["name"] for row in await production.fetch("SELECT rolname::text AS name FROM pg_roles")]
    async with _session(place.server.dsn) as admin:
        known = {row["name"] for row in await admin.fetch("SELECT rolname::text AS name FROM pg_roles")}
        for role in sorted({*roles, *_named_roles(plan)} - known):
            if not role.startswith("pg_"):
                await admin.execute(f"CREATE ROLE {quote_identifier(role)} NOLOGIN")
        await admin.execute("CREATE DATABASE rehearsal")
        await admin.execute(f"ALTER DATABASE rehearsal SET search_path = {place.search_path}")
    await copy_whole_schema(plan.database.dsn.get_secret_value(), place.dsn, place.server.programs_folder, folder)
    async with _session(place.dsn) as conn:
        missing = await _missing_relations(production, conn)
    return [f"not in the copy, since its server cannot hold it: {', '.join(missing[:5])}"] if missing else []


def _named_roles(plan: BaseOperationsPlan) -> set[str]:
    names = set()
    for operation in plan.operations:
        for node in walk(parse_sql(operation.statements)):
            if node_class(node) == "RoleSpec" and node.rolename:
                names.add(str(node.rolename))
    return names


_RELATIONS = """
SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'zdd', 'zdd_archive') AND n.nspname !~ '^pg_(toast|temp)'
"""


async def _missing_relations(production: Connection, conn: Connection) -> list[str]:
    there = {row["name"] for row in await production.fetch(_RELATIONS)}
    here = {row["name"] for row in await conn.fetch(_RELATIONS)}
    return sorted(there - here)


async def _read_tables(
    conn: Connection, production: Connection, plan: BaseOperationsPlan
) -> dict[tuple[str, str], TableStats]:
    """The existing tables that the statements name, and those that they refer to, with production's sizes."""
    found: dict[tuple[str, str], TableStats] = {}
    wanted = [await _resolve(conn, name) for name in _named_relations(plan)]
    while wanted:
        name = wanted.pop()
        if name is None or name in found:
            continue
        found[name] = await with_statistics(production, await read_structure(conn, *name))
        wanted += [(key.schema, key.table) for key in found[name].foreign_keys]
    return found


def _named_relations(plan: BaseOperationsPlan) -> set[tuple[str, str]]:
    names = set()
    for operation in plan.operations:
        for node in walk(parse_sql(operation.statements)):
            if node_class(node) == "RangeVar":
                names.add((str(node.schemaname), str(node.relname)))
    return names


async def _resolve(conn: Connection, name: tuple[str, str]) -> tuple[str, str] | None:
    """Schema and name of an ordinary or partitioned table; None for anything else."""
    text = ".".join(quote_identifier(part) for part in name if part)
    row = await conn.fetchrow(
        "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
        text,
    )
    return None if row is None else (row["schema"], row["name"])


async def _fill(
    conn: Connection,
    tables: dict[tuple[str, str], TableStats],
    options: RehearsalOptions,
    notes: list[str],
    log: ProgressCallback,
) -> dict[tuple[str, str], int]:
    """Makes rows like production's; returns how many each table got."""
    wanted = {name: options.rows_of(table.rows) for name, table in tables.items()}
    if not any(wanted.values()):
        return wanted
    log(f"filling {sum(wanted.values()):,} rows in {len(tables)} tables")
    filled = await populate(conn, make_generators(tables, wanted))
    notes += filled.notes
    for table in tables.values():
        await set_sequences(conn, table)
    await conn.execute("VACUUM (ANALYZE)")
    return {name: filled.rows.get(str(table), 0) for name, table in tables.items()}


# --- the migration


async def _walk_all(
    loaded: LoadedPlan,
    plan: BaseOperationsPlan,
    place: _Place,
    tables: list[str],
    report: RehearsalReport,
    log: ProgressCallback,
) -> None:
    """All ways there and back; the first that fails ends them."""
    async with await Store.open(place.dsn) as registry:
        await registry.migrate()
    expected = await place.definitions(place.plain_dsn)
    here = _plan_for_copy(plan, place.dsn)
    async with StepMetricsCollector(place.dsn) as collector:
        measured = Measurement(collector, None, report.step_metrics)
        for phase in [*(spec.name for spec in report.strategy.phases[:-1]), ""]:
            log(f"to {phase} and back" if phase else "to the end")
            try:
                async with open_release(place.dsn, here, loaded) as store:
                    walked = await _walk_once(here, store, place, tables, measured, log, phase, expected)
                report.scenarios.append(walked)
            except ZddError as error:
                way = f"on the way to {phase} and back" if phase else "on the way to the end"
                report.reasons.append(f"{way}: {' '.join(str(error).split())}")
                return


async def _walk_once(
    plan: BaseOperationsPlan,
    store: MeteredStore,
    place: _Place,
    tables: list[str],
    measured: Measurement,
    log: ProgressCallback,
    rollback_from: str,
    expected: list[str],
) -> ScenarioResult:
    holder = ReleaseHolder((await store.read()).release)
    cluster = fake_cluster(plan) if isinstance(plan, WorkloadPlan) else None
    walk_through = ReleaseWalk(Context(plan, store, None, cluster, lambda: False, log), store, holder, measured, log)
    definitions, rows = await place.definitions(place.dsn), await _read_rows(place.dsn, tables)
    for phase in holder.release.strategy.phases:
        await walk_through.run_phase(phase.name)
        if phase.name == rollback_from:
            seconds = await walk_through.roll_back(phase.name)
            found = await place.definitions(place.dsn)
            differences = compare_definitions(definitions, found, kept=find_added_enum_values(plan))
            row_diff = _compare_rows(rows, await _read_rows(place.dsn, tables))
            return ScenarioResult(phase.name, row_diff, seconds, differences)
    await walk_through.finish()
    differences = compare_definitions(sort_columns(expected), sort_columns(await place.definitions(place.dsn)))
    return ScenarioResult("", RowDiff(sum(count for count, _ in rows.values()), 0, 0, 0), 0.0, differences)


async def _read_rows(dsn: str, tables: Iterable[str]) -> dict[str, tuple[int, str]]:
    """The number of rows of each table, and a sum over all their values."""
    async with _session(dsn) as conn:
        found = {}
        for table in tables:
            total = "sum(hashtextextended(t::text, 0)::numeric)::text"
            row = await conn.fetchrow(f"SELECT count(*), {total} FROM {table} t")
            assert row is not None, "an aggregate has a row"
            found[table] = (int(row[0]), str(row[1]))
        return found


def _compare_rows(before: dict[str, tuple[int, str]], after: dict[str, tuple[int, str]]) -> RowDiff:
    missing = sum(max(0, count - after[table][0]) for table, (count, _) in before.items())
    extra = sum(max(0, after[table][0] - count) for table, (count, _) in before.items())
    changed = [table for table, (count, total) in before.items() if after[table] != (count, total)]
    is_changed = bool(changed) and not (missing or extra)
    return RowDiff(sum(count for count, _ in before.values()), missing, extra, int(is_changed), "".join(changed[:1]))


def compare_definitions(expected: list[str], found: list[str], kept: Collection[str] = ()) -> tuple[str, ...]:
    """The lines that differ, each with ``-`` where it is missing and ``+`` where it is too many.

    Args:
        kept: literals of enum values that a rollback leaves, since PostgreSQL cannot take them back.
    """

    def comparable(lines: list[str]) -> list[str]:
        stripped = [line.removesuffix(",") if line.startswith("    '") else line for line in lines] if kept else lines
        return [line for line in stripped if line.strip() not in kept]

    diff = difflib.unified_diff(comparable(expected), comparable(found), n=0, lineterm="")
    lines = [line for line in diff if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return tuple(lines[:MAX_DIFFERENCES])


def sort_columns(definitions: list[str]) -> list[str]:
    """The same with the columns of each table in the order of their names: a column that was changed is the last."""
    found: list[str] = []
    columns: list[str] | None = None
    for line in definitions:
        if line.startswith("CREATE TABLE ") and line.endswith("("):
            columns = []
            found.append(line)
        elif columns is not None and line.startswith(")"):
            found += [*sorted(columns), line]
            columns = None
        elif columns is not None:
            columns.append(line.removesuffix(","))
        else:
            found.append(line)
    return found


def find_added_enum_values(plan: BaseOperationsPlan) -> set[str]:
    """As literals."""
    nodes = (node for operation in plan.operations for node in walk(parse_sql(operation.statements)))
    return {quote_literal(str(node.new_val)) for node in nodes if node_class(node) == "AlterEnumStmt" and node.new_val}


def _plan_for_copy(plan: BaseOperationsPlan, dsn: str) -> BaseOperationsPlan:
    """The same plan for the copy; what only makes one wait is shortened."""
    return plan.without_regions().model_copy(
        update={
            "environment": "rehearsal",
            "guard": None,  # it observes pods under traffic, and a rehearsal has none
            "backfill": plan.backfill.model_copy(update={"max_rows_per_second": None, "tables": {}}),
            "database": plan.database.model_copy(update={"dsn": SecretStr(dsn)}),
            "gates": plan.gates.model_copy(update={"soak": min(SOAK, plan.gates.soak)}),
            "accept": accept_every_use(plan, "no client but zdd uses the copy"),
        }
    )


def _size_dependent_steps(plan: BaseOperationsPlan) -> Iterable[str]:
    """Names of the steps whose time grows with the table."""
    for spec in build_strategy(plan.without_regions()).steps:
        if spec.registry_key not in OPERATION_STEPS:
            continue
        step = find_step(plan, spec.value or 0)
        is_long = step.mode in (StepMode.BUILD_INDEX, StepMode.FILL)
        if is_long or any(_SIZE_DEPENDENT.search(sql) for sql in step.statements):
            yield spec.name


def _find_unchecked(plan: BaseOperationsPlan) -> list[str]:
    rules = plan.guard.rules if plan.guard is not None else ()
    found = [f"guard rule {rule.name}: there are no pods and no traffic to observe" for rule in rules]
    found.append("statements of the application: zdd does not know them, so the rehearsal has no writers")
    if isinstance(plan, WorkloadPlan):
        found.append(f"rollouts, probes and drains of {plan.kubernetes.deployment}: no pod runs")
    if plan.regions is not None:
        found.append("the region gate: the rehearsal is of one database")
    return found

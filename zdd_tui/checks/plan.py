"""The one check of a plan before it runs: for `zdd check`, for an agent before it starts, and for the doctor."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from zdd_tui.backends.metrics import prometheus
from zdd_tui.backends.postgres.connection import Connection, connect, describe_dsn, refuse_pooler, translate_errors
from zdd_tui.backends.postgres.scratch_copy import open_planned_change
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store import migrations
from zdd_tui.checks.catalog_diff import SideReport, compare_planned_side, refuse_losses
from zdd_tui.checks.cluster import check_cluster
from zdd_tui.checks.flags import try_flags
from zdd_tui.checks.locks import LockMeasurement, check_change_locks
from zdd_tui.checks.migrations import check_migrations
from zdd_tui.checks.operations import check_operation_locks, check_operation_rows, check_table_limits
from zdd_tui.checks.sample import check_sampled_rows
from zdd_tui.checks.schema import evaluate_change, find_event_triggers, run_squawk_checks
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.lint import lint_plan_sql
from zdd_tui.model.errors import MetricsError, PlanError, ZddError
from zdd_tui.model.guard.rules import require_scipy
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan.guard import Guard, Metric
from zdd_tui.model.plan.operations import BaseOperationsPlan


@dataclass(frozen=True, slots=True)
class CheckedSides:
    """The comparison of both sides for one plan; of a plan with regions, for one region."""

    plan: Plan
    report: SideReport


async def check_plan(
    loaded: LoadedPlan,
    *,
    offline: bool,
    measurement: LockMeasurement | None = None,
    sides: list[CheckedSides] | None = None,
) -> list[str]:
    """Checks a plan, and the systems that it names, in parallel. Changes nothing.

    A plan with regions is checked in each of them, unless one region was selected.

    Args:
        offline: check the file alone; connect to nothing.
        measurement: executes the plan's SQL on a copy of the schema and measures its locks; None for by rule.
        sides: gets the comparisons of both sides that were made, also those that refuse the plan.

    Returns:
        one line for each fact that an operator should see.

    Raises:
        ZddError: everything that is wrong, at most one message for each system.
    """
    if loaded.plan.regions is None or loaded.plan.region or offline:
        return await _check_one_region(loaded, offline=offline, measurement=measurement, sides=sides)
    lines: list[str] = []
    errors: list[str] = []
    for name in loaded.plan.regions.names:
        try:
            found = await _check_one_region(
                loaded.for_region(name), offline=False, measurement=measurement, sides=sides
            )
        except ZddError as error:
            errors.append(f"region {name}: {error}")
        else:
            lines += [f"region {name}: {line}" for line in found]
    if errors:
        raise ZddError("\n".join(errors))
    return lines


async def _check_one_region(
    loaded: LoadedPlan, *, offline: bool, measurement: LockMeasurement | None, sides: list[CheckedSides] | None
) -> list[str]:
    plan = loaded.plan
    try:
        lines = await _check_file(plan, offline=offline)
    except PlanError as error:
        raise loaded.with_location(error) from None
    if offline:
        return lines + await check_migrations(loaded, offline=True)
    errors: list[ZddError] = []
    for result in await asyncio.gather(*_system_checks(loaded, measurement, sides), return_exceptions=True):
        if isinstance(result, ZddError):
            errors.append(loaded.with_location(result) if isinstance(result, PlanError) else result)
        elif isinstance(result, BaseException):
            raise result
        else:
            lines += result
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ZddError("\n".join([f"{len(errors)} systems cannot run this plan", *map(str, errors)]))
    return lines


def _system_checks(
    loaded: LoadedPlan, measurement: LockMeasurement | None, sides: list[CheckedSides] | None
) -> Iterator[Coroutine[Any, Any, list[str]]]:
    """A check for each system that the plan names."""
    plan = loaded.plan
    yield _check_database(loaded, measurement, sides)
    if isinstance(plan, WorkloadPlan):
        yield check_cluster(plan)
    if plan.redis_url is not None:
        yield _check_redis(plan, plan.redis_url.get_secret_value())
    if plan.guard is not None:
        yield check_guard_queries(plan.guard)
    yield check_migrations(loaded, offline=False, measurement=measurement)


async def _check_file(plan: BasePlan, *, offline: bool) -> list[str]:
    """Checks what needs no other system: the guard's dependencies, and the SQL of the change."""
    check_guard_dependencies(plan.guard)
    lines = []
    if plan.production is None:
        kind = "production" if plan.is_production else "not production"
        lines.append(f"note: environment {plan.environment} counts as {kind} by its name; `production:` decides it")
    if isinstance(plan, BaseOperationsPlan):
        count = len(plan_operations(plan))
        check_table_limits(plan)
        lines.append(f"{count} operation{'' if count == 1 else 's'} can be executed online")
    if isinstance(plan, Plan):
        lint_plan_sql(plan, has_catalog=not offline)
        await run_squawk_checks(plan)
        lines.append("the DDL is additive")
    return lines


async def _check_database(
    loaded: LoadedPlan, measurement: LockMeasurement | None, sides: list[CheckedSides] | None
) -> list[str]:
    plan = loaded.plan
    dsn = plan.database.dsn.get_secret_value()
    conn = await connect(dsn, application_name="zdd check", timeout=plan.database.connect_timeout)
    try:
        with translate_errors(dsn):
            await refuse_pooler(conn, dsn)
            await migrations.check_can_migrate(conn, dsn)
            if isinstance(plan, BaseOperationsPlan):
                if await _has_started(conn, plan):
                    return [f"PostgreSQL {describe_dsn(dsn)}: the release has started"]
                lines = [
                    f"PostgreSQL {describe_dsn(dsn)}: rows meet the new constraints, and nothing needs what is dropped",
                    *(f"note: {note}" for note in await find_event_triggers(conn)),
                    *await check_operation_rows(conn, plan),
                ]
                return [*lines, *await check_operation_locks(plan, measurement)]
            if not isinstance(plan, Plan):
                return [f"PostgreSQL {describe_dsn(dsn)}: stores the release's record, nothing else"]
            has_started = await _has_started(conn, plan)
            checked = await evaluate_change(conn, plan, has_started=has_started)
            lines = [f"PostgreSQL {describe_dsn(dsn)}: {plan.change.table} can be changed"]
            lines += [f"note: {note}" for note in checked.notes]
            lines += await _try_change(conn, loaded, plan, checked.catalog, sides)
    finally:
        await conn.close()
    # Once the release has started, what its DDL would do is done.
    return lines if has_started else [*lines, *await check_change_locks(plan, measurement)]


async def _try_change(
    conn: Connection, loaded: LoadedPlan, plan: Plan, catalog: Catalog, sides: list[CheckedSides] | None
) -> list[str]:
    """Runs expand on copies once, then compares the sides and copies sampled rows on them.

    Raises:
        PlanError: what is wrong in either.
    """
    lines: list[str] = []
    errors: list[PlanError] = []
    async with open_planned_change(conn, plan, catalog) as change:
        if change is None:
            return []
        try:
            report = await compare_planned_side(conn, plan, change)
            if sides is not None:
                sides.append(CheckedSides(plan, report))
            refuse_losses(plan, report)
            lines += report.lines(plan)
        except PlanError as error:
            errors += error.parts
        try:
            lines += await check_sampled_rows(conn, plan, change)
        except PlanError as error:
            errors += error.parts
    if errors:
        raise PlanError.join([loaded.with_location(each) for each in errors])
    return lines


async def _has_started(conn: Connection, plan: BasePlan) -> bool:
    """Whether a release of this plan has started and not ended: then the objects that it creates may exist."""
    if not await conn.fetchval("SELECT to_regclass('zdd.release') IS NOT NULL"):
        return False
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM zdd.release"
            " WHERE name = $1 AND state NOT IN ('planned', 'rolled-back', 'done'))",
            plan.name,
        )
    )


async def _check_redis(plan: BasePlan, url: str) -> list[str]:
    async with await FlagStore.connect(url) as store:
        values = await store.read(list(plan.flag_roles))
        shown = ", ".join(f"{key} {value if value is not None else 'not set'}" for key, value in values.items())
        return [f"Redis {store.address}: {shown}", *await try_flags(store, plan)]


def check_guard_dependencies(guard: Guard | None) -> None:
    """
    Raises:
        PlanError: a rule needs a package that is not installed.
    """
    for rule in guard.rules if guard else ():
        if rule.compare is not None and rule.compare.rank_test is not None:
            require_scipy(rule.name)


async def check_guard_queries(guard: Guard) -> list[str]:
    """Runs every PromQL query of the guard once.

    Returns:
        one line for each rule, with the numbers that its queries returned.

    Raises:
        PlanError: a query returns no number.
        MetricsError: Prometheus is unreachable.
    """
    server = guard.sources.prometheus
    if server is None:
        return []
    lines = []
    async with aiohttp.ClientSession() as session:
        for rule in guard.rules:
            if rule.metric is not Metric.QUERY:
                continue
            numbers = []
            for key, query in (("query", rule.query), ("baseline", rule.baseline), ("samples", rule.samples)):
                if query is None:
                    continue
                try:
                    numbers.append(f"{key} {await prometheus.query_value(session, server, query, now=time.time()):g}")
                except MetricsError as error:
                    if not error.hint:  # the server is at fault, not the query
                        raise MetricsError(error.title, "check guard.sources.prometheus, and the server") from None
                    raise PlanError(f"guard.rules: rule {rule.name}: {key}: {error.title}", error.hint) from None
            lines.append(f"guard rule {rule.name}: {', '.join(numbers)}")
    return lines

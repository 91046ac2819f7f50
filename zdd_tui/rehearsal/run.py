"""`zdd rehearse`: a copy of the schema, generated rows, writers, and every path forward and back."""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import Connection, connect, translate_errors
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store import evidence as rehearsals
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.backfill.transaction import describe_row_error
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.rehearsal.copy import ProgressCallback, RehearsalOptions, copy_session, make_copy
from zdd_tui.rehearsal.expected_rows import ExpectedRows, check_round_trip
from zdd_tui.rehearsal.operations import rehearse_operations
from zdd_tui.rehearsal.report import RehearsalReport, find_unjudged, format_rehearsal_report
from zdd_tui.rehearsal.scenario import LiveState, ScenarioSetup, run_scenario
from zdd_tui.rehearsal.statements import StatementBuilder
from zdd_tui.rehearsal.step_metrics import StepMetricsCollector
from zdd_tui.rehearsal.workload import Writers
from zdd_tui.testbed.processes import scratch_folder
from zdd_tui.testbed.servers import PostgresServer, RedisServer, postgres_server, redis_server

SERVER_SETTINGS = {"fsync": "on", "full_page_writes": "on"}
"""Figures of a server that could lose its data would be too good."""

SOAK, STALENESS = 0.3, 0.05
"""Seconds: nothing is learned from waiting here, and our writers read flags before every write."""


async def rehearse(
    loaded: LoadedPlan, options: RehearsalOptions, folder: Path, log: ProgressCallback
) -> RehearsalReport:
    """Rehearses a plan and keeps the verdict in production's `zdd` schema.

    Args:
        folder: an empty one for everything that is made.

    Raises:
        PlanError: a strategy that changes no database.
        ZddError: production cannot be read or written, or its schema cannot be brought over; nothing is kept.
    """
    plan = loaded.plan
    if not isinstance(plan, Plan | BaseOperationsPlan):
        raise PlanError(
            f"{loaded.source}: a rehearsal is of a database, and {plan.strategy} changes none",
            "only expand/contract plans are rehearsed",
        )
    began = time.monotonic()
    dsn = plan.database.dsn.get_secret_value()
    async with await Store.open(dsn, application_name="zdd rehearse", timeout=plan.database.connect_timeout) as store:
        await store.migrate()  # where the verdict will be kept: to fail now is better than in the end
    async with AsyncExitStack() as stack:
        log("starting PostgreSQL" if isinstance(plan, BaseOperationsPlan) else "starting PostgreSQL and Redis")
        starting = stack.enter_async_context(postgres_server(folder / "postgres", SERVER_SETTINGS))
        if isinstance(plan, BaseOperationsPlan):
            report = await rehearse_operations(loaded, plan, options, await starting, folder, log)
        else:
            postgres, redis = await asyncio.gather(starting, stack.enter_async_context(redis_server(folder / "redis")))
            report = await _rehearse_on_copy(loaded, plan, options, postgres, redis, folder, log)
    report.seconds = time.monotonic() - began
    await _save_report(dsn, report)
    return report


async def _rehearse_on_copy(
    loaded: LoadedPlan,
    plan: Plan,
    options: RehearsalOptions,
    postgres: PostgresServer,
    redis: RedisServer,
    folder: Path,
    log: ProgressCallback,
) -> RehearsalReport:
    async with copy_session(postgres.dsn, plan) as conn:
        copy = await make_copy(conn, plan, options, postgres.dsn, postgres.programs_folder, folder, log)
        report = RehearsalReport(
            name=plan.name,
            plan_hash=loaded.hash,
            strategy=build_strategy(plan),
            rows=copy.rows,
            full_rows=copy.main.rows,
            with_data=options.with_data,
            versions=copy.versions,
            max_wait=plan.database.lock_timeout_max + 1.0,
            max_rows_per_second=plan.backfill.max_rows_per_second,
            notes=copy.notes,
            unjudged=find_unjudged(plan),
        )
        if copy.error:
            report.reasons.append(copy.error)
            return report
        here = _plan_for_copy(plan, postgres.dsn, redis.url)
        catalog = await read_catalog(conn, here)
        assert copy.new is not None, "a copy without trouble knows what expand makes"
        types = {column.name: column.type for column in copy.new.columns if column.name in plan.change.up}
        expected_rows = ExpectedRows(here, catalog, types)
        await _check_expressions(conn, here, expected_rows, report)
        if report.has_passed:  # what is known to lose rows need not be walked
            statements = StatementBuilder(here, catalog, copy.main, copy.new, expected_rows)
            if statements.old_side_statements(dual_write=False).insert is None:
                report.notes.append(f"the writers change rows of {plan.change.table} and make no new ones: no free key")
            await _run_scenarios(loaded, here, redis, statements, expected_rows, report, log)
    report.evaluate()
    return report


async def _check_expressions(
    conn: Connection, plan: Plan, expected_rows: ExpectedRows, report: RehearsalReport
) -> None:
    """Records what every row must hold, and whether what V3 writes survives a rollback."""
    try:
        await expected_rows.record_all(conn)
    except asyncpg.PostgresError as error:
        report.reasons.append(f"change.up fails on a row: {_error_text(error, report)}")
        return
    try:
        changed, rewritten = await check_round_trip(conn, plan, expected_rows.catalog, expected_rows.types)
    except asyncpg.PostgresError as error:
        report.reasons.append(f"change.down fails on what change.up makes of a row: {_error_text(error, report)}")
        return
    if changed:
        report.reasons.append(
            f"change.down loses what V3 writes: after a rollback {changed:,} of {report.rows:,} rows would hold"
            " something else (up of down of up is not up)"
        )
    if rewritten:
        report.warnings.append(
            f"{rewritten:,} of {report.rows:,} rows would come back with other old columns of the same meaning, had"
            " V3 written them (down of up is not what was there)"
        )


def _error_text(error: asyncpg.PostgresError, report: RehearsalReport) -> str:
    """The server's words, unless they could quote production's values."""
    return describe_row_error(error) if report.with_data else str(error).splitlines()[0]


async def _run_scenarios(
    loaded: LoadedPlan,
    plan: Plan,
    redis: RedisServer,
    statements: StatementBuilder,
    expected_rows: ExpectedRows,
    report: RehearsalReport,
    log: ProgressCallback,
) -> None:
    """All ways there and back; the first that fails ends them."""
    dsn = plan.database.dsn.get_secret_value()
    async with await Store.open(dsn) as registry:
        await registry.migrate()
    async with await FlagStore.connect(redis.url) as flags, StepMetricsCollector(dsn) as meter:
        position = LiveState(plan, flags)
        writers = Writers(dsn, statements, position.read_versions, hide_values=report.with_data)
        report.writer_stats = writers.stats
        setup = ScenarioSetup(
            loaded, plan, dsn, flags, writers, meter, expected_rows, log, position, report.step_metrics
        )
        async with writers:
            for phase in [*(spec.name for spec in report.strategy.phases[:-1]), ""]:
                log(f"to {phase} and back" if phase else "to the end")
                try:
                    report.scenarios.append(await run_scenario(setup, phase))
                except ZddError as error:
                    place = f"on the way to {phase} and back" if phase else "on the way to the end"
                    report.reasons.append(f"{place}: {' '.join(str(error).split())}")
                    return


def _plan_for_copy(plan: Plan, dsn: str, redis_url: str) -> Plan:
    """The same plan for the copy; what only makes one wait is shortened."""
    return plan.without_regions().model_copy(
        update={
            "environment": "rehearsal",
            "guard": None,  # it observes pods under traffic, and a rehearsal has none
            "database": plan.database.model_copy(update={"dsn": SecretStr(dsn)}),
            "flags": plan.flags.model_copy(update={"url": SecretStr(redis_url), "max_staleness": STALENESS}),
            "gates": plan.gates.model_copy(update={"soak": min(SOAK, plan.gates.soak)}),
            "backfill": plan.backfill.model_copy(update={"max_rows_per_second": None}),
        }
    )


async def _save_report(dsn: str, report: RehearsalReport) -> None:
    conn = await connect(dsn, application_name="zdd rehearse")
    try:
        with translate_errors(dsn):
            await rehearsals.save_rehearsal(
                conn,
                plan_hash=report.plan_hash,
                name=report.name,
                passed=report.has_passed,
                scale=report.scale or 1.0,
                report=report.to_json(),
                actor=this_actor(),
            )
    finally:
        conn.terminate()


def run_rehearsal(loaded: LoadedPlan, options: RehearsalOptions, *, as_json: bool) -> int:
    """Rehearses in a temporary folder that goes when it ends, and prints the report; 0 only when it passed."""
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f}s  {text}\n")
        sys.stderr.flush()

    with scratch_folder("zdd-rehearse-") as folder:
        report = asyncio.run(rehearse(loaded, options, folder, say)).to_json()
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else format_rehearsal_report(report))
    return 0 if report["passed"] else 1

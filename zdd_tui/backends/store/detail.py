"""Reads the details of a release for a screen: the whole audit, the stored plan, the backfill."""

import asyncio
import json
import zlib

from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, Connection, Pool, Row, connect, translate_error
from zdd_tui.backends.store import records
from zdd_tui.backends.store.backfill import parse_key
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.ddl.rows import batch_statement
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.guard.snapshot import load_histories
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.queries import AuditLog, BackfillDetail, MetricHistory, MismatchView, PlanText, RangeView

MAX_ROWS = 100
"""Number of failed rows and mismatches that are shown, the oldest first."""

_MAX_COMMANDS = 500
EXPLAIN_TIMEOUT = 5.0


async def read_audit_log(pool: Pool, release_id: int, limit: int) -> AuditLog:
    """Reads the newest `limit` lines of the audit, oldest first, and the commands."""
    rows = await pool.fetch(
        f"SELECT {records.EVENT_COLUMNS} FROM zdd.event WHERE release_id = $1 ORDER BY zdd.event.id DESC LIMIT $2",  # noqa: S608
        release_id,
        limit,
    )
    earlier = 0
    if len(rows) == limit:
        earlier = await pool.fetchval("SELECT count(*) FROM zdd.event WHERE release_id = $1", release_id) - limit
    commands = await pool.fetch(
        f"SELECT {records.COMMAND_COLUMNS} FROM zdd.command WHERE release_id = $1 ORDER BY id DESC LIMIT $2",  # noqa: S608
        release_id,
        _MAX_COMMANDS,
    )
    return AuditLog(
        tuple(records.parse_event(row) for row in reversed(rows)),
        records.parse_known_commands(reversed(commands)),
        max(0, earlier),
    )


async def read_stored_plan(pool: Pool, release_id: int) -> PlanText:
    """Reads the plan with which the release was registered."""
    row = await pool.fetchrow(
        "SELECT plan_text, plan_hash, extract(epoch FROM created_at)::float8 AS at FROM zdd.release WHERE id = $1",
        release_id,
    )
    assert row is not None
    return PlanText(row["plan_text"], row["at"], row["plan_hash"])


async def read_backfill_detail(
    pool: Pool, release_id: int, plan: Plan | BaseOperationsPlan, dsn: str
) -> BackfillDetail:
    """Reads ranges, failed rows, mismatches, and the SQL of a batch with the query plan for its next page.

    Where operations fill tables the SQL is that of every fill, without a query plan.
    """
    ranges = [
        _parse_range(row)
        for row in await pool.fetch(
            "SELECT job, kind, id, lo, hi, cursor, rows, done FROM zdd.range WHERE release_id = $1"
            " ORDER BY job, kind, id",
            release_id,
        )
    ]
    failed = await pool.fetch(
        "SELECT job, key, reason, extract(epoch FROM at)::float8 AS at FROM zdd.failed_row"
        " WHERE release_id = $1 ORDER BY zdd.failed_row.at LIMIT $2",
        release_id,
        MAX_ROWS,
    )
    mismatches = await pool.fetch(
        "SELECT key, new FROM zdd.mismatch WHERE release_id = $1 ORDER BY at, key LIMIT $2", release_id, MAX_ROWS
    )
    limits = await pool.fetchval("SELECT tuning FROM zdd.release WHERE id = $1", release_id)
    if isinstance(plan, Plan):
        statement, explained, error = await _explain_batch(plan, dsn, ranges)
    else:
        statement, explained, error = await asyncio.to_thread(_fill_statements, plan), (), ""
    return BackfillDetail(
        tuple(ranges),
        tuple(records.parse_failed_row(row) for row in failed),
        tuple(_parse_mismatch(row) for row in mismatches),
        statement,
        explained,
        error,
        json.loads(limits) if limits else {},
    )


async def read_metric_history(pool: Pool, release_id: int) -> MetricHistory:
    """Reads the values of the guard's rules over time; empty before the first evaluation.

    Raises:
        DatabaseError: what is stored cannot be used.
    """
    row = await pool.fetchrow(
        "SELECT body, extract(epoch FROM saved_at)::float8 AS at FROM zdd.guard_snapshot"
        " WHERE release_id = $1 AND part = 'rule_states'",
        release_id,
    )
    if row is None:
        return MetricHistory()
    try:
        return MetricHistory(load_histories(row["body"], row["at"]))
    except (ValueError, TypeError, AttributeError, zlib.error) as error:
        raise DatabaseError(
            f"the saved values of the guard cannot be used ({type(error).__name__})",
            "wait: the agent replaces them at its next evaluation",
        ) from None


async def _explain_batch(plan: Plan, dsn: str, ranges: list[RangeView]) -> tuple[str, tuple[str, ...], str]:
    """Returns the SQL of a batch, its query plan, and an error. EXPLAIN does not run it; the session is read-only."""
    try:
        connection = await connect(dsn, application_name="zdd dashboard", timeout=EXPLAIN_TIMEOUT)
    except ZddError as error:
        return "", (), error.title
    statement = ""
    try:
        catalog = await read_catalog(connection, plan)
        if catalog.new is None or not {column.name for column in catalog.new.columns} >= plan.change.up.keys():
            return "", (), "the new side does not exist yet"
        statement = batch_statement(plan, catalog, first=True)
        pieces = [piece for piece in ranges if piece.kind == "backfill"]
        bound = next((piece.hi for piece in pieces if piece.hi), None)
        if bound is None:
            return statement, (), "the upper bound is not fixed yet"
        start = next((piece.cursor or piece.lo for piece in pieces if not piece.done), None)
        if start is None:
            return statement, await _run_explain(connection, plan, statement, bound), ""
        statement = batch_statement(plan, catalog)
        return statement, await _run_explain(connection, plan, statement, (*start, *bound)), ""
    except ZddError as error:
        return statement, (), error.title
    except CONNECTION_ERRORS as error:
        return statement, (), translate_error(error, dsn).title
    finally:
        connection.terminate()


def _fill_statements(plan: BaseOperationsPlan) -> str:
    """In a thread: the first use of the parser takes a fifth of a second."""
    steps = [(name, step) for phase in Phase for name, _, step in named_steps(plan, phase) if step.fill is not None]
    return "\n".join(f"{name}: {step.fill.sql}" for name, step in steps if step.fill is not None)


async def _run_explain(
    connection: Connection, plan: Plan, statement: str, parameters: tuple[str, ...]
) -> tuple[str, ...]:
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL search_path = {search_path(plan)}; SET LOCAL enable_seqscan = off")
        rows = await connection.fetch(f"EXPLAIN {statement}", *parameters, timeout=EXPLAIN_TIMEOUT)
    return tuple(row[0] for row in rows)


def _parse_range(row: Row) -> RangeView:
    lo, hi, cursor = (parse_key(row[name]) for name in ("lo", "hi", "cursor"))
    return RangeView(row["kind"], row["id"], lo, hi, cursor, row["rows"], row["done"], row["job"])


def _parse_mismatch(row: Row) -> MismatchView:
    new = json.loads(row["new"])
    return MismatchView(parse_key(row["key"]) or (), new.get("reason", ""), tuple(new.get("differs", ())))

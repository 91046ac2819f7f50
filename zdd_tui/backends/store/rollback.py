"""What is known about a rollback before it begins: how long others took, and what only the new side holds."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import TypeVar

from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, Connection, Pool, Row, connect, translate_error
from zdd_tui.backends.postgres.dropped_data import count_dropped_data
from zdd_tui.backends.postgres.operations import count_rollback_losses
from zdd_tui.backends.postgres.recent_writes import count_new_side_only
from zdd_tui.model.errors import ZddError
from zdd_tui.model.json_access import get_objects, get_text
from zdd_tui.model.operations.base import DroppedData
from zdd_tui.model.operations.registry import list_dropped_by_undo, plan_operations
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.rollback import DroppedCount, NewSideCount, PastRollback, RehearsedRollback, RollbackHistory

T = TypeVar("T")

COUNT_SECONDS = 3.0
"""Seconds that the rows are counted for: an operator waits for the answer, or confirms without it."""

_REHEARSAL = """
SELECT report::text, verdict, scale, extract(epoch FROM at)::float8 AS at FROM zdd.rehearsal
WHERE plan_hash = (SELECT plan_hash FROM zdd.release WHERE id = $1) ORDER BY at DESC LIMIT 1
"""

# From the first accepted command on: a failed undo was retried.
_LAST_ROLLBACK = """
SELECT r.name, r.strategy #>> ARRAY['phases', r.phase::text, 'name'] AS phase,
       extract(epoch FROM r.finished_at)::float8 AS at,
       extract(epoch FROM r.finished_at - c.answered_at)::float8 AS seconds
FROM zdd.release r
JOIN LATERAL (SELECT min(answered_at) AS answered_at FROM zdd.command
              WHERE release_id = r.id AND kind = 'rollback' AND status = 'done') c ON c.answered_at IS NOT NULL
JOIN zdd.release shown ON shown.id = $1
WHERE r.state = 'rolled-back' AND r.phase >= 0 AND r.id <> shown.id
  AND r.strategy ->> 'name' = shown.strategy ->> 'name'
ORDER BY r.name = shown.name DESC, r.finished_at DESC LIMIT 1
"""

_VERIFIED_SINCE = """
SELECT detail ->> 'since' FROM zdd.step WHERE release_id = $1 AND name = 'verify-rows' AND status = 'done'
"""


async def read_rollback_history(pool: Pool, release_id: int, plan: BasePlan) -> RollbackHistory:
    """Reads everything; counts rows for at most COUNT_SECONDS, and takes no lock that blocks the application."""
    rehearsal = await pool.fetchrow(_REHEARSAL, release_id)
    last = await pool.fetchrow(_LAST_ROLLBACK, release_id)
    dropped: Mapping[str, tuple[DroppedData, ...]] | None = None
    dropped_counts: Mapping[DroppedData, DroppedCount] = {}
    if isinstance(plan, BaseOperationsPlan):
        dropped = await asyncio.to_thread(list_dropped_by_undo, plan)  # it loads the parser
        (losses, error), dropped_counts = await asyncio.gather(_count_losses(plan), _count_dropped(plan, dropped))
        count = None
    else:
        (count, error), losses = await _count_rows(pool, release_id, plan), None
    return RollbackHistory(
        _parse_rehearsal(rehearsal) if rehearsal else None,
        PastRollback(last["name"], last["phase"] or "?", max(0.0, last["seconds"]), last["at"]) if last else None,
        count,
        error,
        losses,
        dropped=dropped,
        dropped_counts=dropped_counts,
    )


async def _count_dropped(
    plan: BaseOperationsPlan, dropped: Mapping[str, tuple[DroppedData, ...]] | None
) -> Mapping[DroppedData, DroppedCount]:
    """What is in the columns and tables that undos drop."""
    each = [data for found in (dropped or {}).values() for data in found]
    if not each:
        return {}

    async def count(connection: Connection) -> tuple[Mapping[DroppedData, DroppedCount] | None, str]:
        return await count_dropped_data(connection, each, seconds=COUNT_SECONDS), ""

    counts, error = await _count(plan, count)
    return counts if counts is not None else dict.fromkeys(each, DroppedCount(error=error))


async def _count_losses(plan: BaseOperationsPlan) -> tuple[tuple[str, ...] | None, str]:
    """Rows with values that a rollback of operations could not keep, or why that is not known."""
    try:
        operations = await asyncio.to_thread(plan_operations, plan)  # it loads the parser
    except ZddError as error:
        return None, error.title
    if not any(each.rollback_losses for each in operations):
        return (), ""

    async def count(connection: Connection) -> tuple[tuple[str, ...] | None, str]:
        counted = await count_rollback_losses(connection, operations, seconds=COUNT_SECONDS)
        if counted.uncounted and not counted.found:
            return None, "; ".join(counted.uncounted)
        return counted.found, ""

    return await _count(plan, count)


def _parse_rehearsal(row: Row) -> RehearsedRollback:
    report = json.loads(row["report"])
    seconds = {
        phase: float(scenario.get("rollback_seconds") or 0)
        for scenario in get_objects(report, "scenarios")
        if (phase := get_text(scenario, "rollback_from"))
    }
    return RehearsedRollback(row["at"], row["verdict"] == "passed", row["scale"], seconds)


async def _count_rows(pool: Pool, release_id: int, plan: BasePlan) -> tuple[NewSideCount | None, str]:
    """The count, or why there is none; both empty where nothing is to be counted."""
    since = await pool.fetchval(_VERIFIED_SINCE, release_id)
    if not isinstance(plan, Plan) or since is None:
        return None, ""

    async def count(connection: Connection) -> tuple[NewSideCount | None, str]:
        async with asyncio.timeout(COUNT_SECONDS):  # it may wait behind DDL of another session
            catalog = await read_catalog(connection, plan)
        if catalog.new is None:
            return None, "the new side does not exist"
        return await count_new_side_only(
            lambda: nullcontext(connection), plan, catalog, since, seconds=COUNT_SECONDS
        ), ""

    return await _count(plan, count)


async def _count(
    plan: BasePlan, count: Callable[[Connection], Awaitable[tuple[T | None, str]]]
) -> tuple[T | None, str]:
    """What is counted on a read-only connection of its own, or why there is no count."""
    dsn = plan.database.dsn.get_secret_value()
    try:
        connection = await connect(
            dsn, application_name="zdd dashboard", timeout=COUNT_SECONDS, default_transaction_read_only="on"
        )
        try:
            return await count(connection)
        finally:
            connection.terminate()
    except ZddError as error:
        return None, error.title
    except CONNECTION_ERRORS as error:
        return None, translate_error(error, dsn, timeout=COUNT_SECONDS).title

"""The settings of every transaction of a backfill or verification, and the classes of its errors."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.row_visibility import count_unread_blocks
from zdd_tui.model.counting import count_noun
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.sql import quote_literal

BATCH_LOCK_TIMEOUT = 0.2
"""Seconds that a batch waits for a row lock. Well below PostgreSQL's deadlock_timeout (1 s), so that in a deadlock with
the application always the batch fails, never a request."""

RETRYABLE_ERRORS = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
)
"""A retry with fewer rows may succeed."""

ROW_ERRORS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CardinalityViolationError,
    asyncpg.PLPGSQLError,
)
"""A row that fails again at every attempt."""


class FencedStore(Protocol):
    """The part of :class:`zdd_tui.backends.store.agent.AgentStore` that a backfill needs."""

    release_id: int

    def fenced(self) -> AbstractAsyncContextManager[Connection]: ...


def transaction_settings_sql(settings: str, time_budget: float) -> str:
    """SET LOCAL statements for the start of the transaction.

    Args:
        settings: further ones, as :attr:`zdd_tui.model.ddl.jobs.BackfillJob.settings`.
        time_budget: seconds.
    """
    timeout = max(1.0, 8 * time_budget)
    return (
        # Safe: if a crash of the server loses a batch, it also loses its checkpoint.
        "SET LOCAL synchronous_commit = off;"
        # Only a page is read, but without statistics the planner sometimes reads the whole table.
        "SET LOCAL enable_seqscan = off;"
        # The server refuses a statement that row security would filter.
        "SET LOCAL row_security = off;"
        f"{settings};"
        f"SET LOCAL lock_timeout = {quote_literal(f'{BATCH_LOCK_TIMEOUT * 1000:.0f}ms')};"
        f"SET LOCAL statement_timeout = {quote_literal(f'{timeout * 1000:.0f}ms')}"
    )


def describe_row_error(error: asyncpg.PostgresError) -> str:
    """Why a row failed, without its values: the error's name, its code, and the constraint or column."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(error).__name__.removesuffix("Error")).strip()
    subject = getattr(error, "constraint_name", None) or getattr(error, "column_name", None)
    return f"{words} ({error.sqlstate}{f', {subject}' if subject else ''})"


async def require_rows_found(conn: Connection, table: str) -> None:
    """Call it where a table showed no row: one with pages is known to be empty only if ANALYZE has read them all.

    It reads them again where it has not: rows may have been deleted since.

    Args:
        table: quoted and qualified.

    Raises:
        StepFailed: the table has pages.
    """
    if await count_unread_blocks(conn, table):
        await conn.execute(f"SET LOCAL statement_timeout = 0; ANALYZE (SKIP_LOCKED) {table}")
    if blocks := await count_unread_blocks(conn, table):
        raise StepFailed(
            f"no row of {table} is visible, but the table has {count_noun(blocks, 'page')}",
            f"if the table is empty: VACUUM ANALYZE {table}, then advance again; else see its row security and rules",
        )


async def find_longest_writer(conn: Connection, table: str) -> str:
    """The session with the longest open transaction that has written to the table; empty if there is none."""
    row = await conn.fetchrow(
        "SELECT a.pid, coalesce(a.application_name, '') AS app FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.relation = to_regclass($1)::oid AND l.granted AND a.pid <> pg_backend_pid()"
        " AND l.mode NOT IN ('AccessShareLock') ORDER BY a.xact_start LIMIT 1",
        table,
    )
    return f"pid {row['pid']} ({row['app'] or 'no application_name'})" if row else ""

"""Copies one row again: from the old side while the old side is right, or the other way where that is proved."""

from collections.abc import Awaitable, Callable

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store.backfill import Key
from zdd_tui.engine.backfill.transaction import (
    RETRYABLE_ERRORS,
    ROW_ERRORS,
    describe_row_error,
    transaction_settings_sql,
)
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.jobs import change_settings
from zdd_tui.model.ddl.names import SIDES, SYNC_SETTING, Side
from zdd_tui.model.ddl.rows import (
    batch_row_statement,
    copy_down_statements,
    has_row_statement,
    lock_row_statements,
    remove_orphan_statements,
)
from zdd_tui.model.ddl.witness import disagreements_statement
from zdd_tui.model.plan.base import Plan


async def repair_row(conn: Connection, plan: Plan, catalog: Catalog, key: Key) -> str:
    """Makes the new side of a row what ``up`` gives; a row that the old side does not have is removed from the new one.

    Args:
        conn: of an open fenced transaction, in which the caller also writes its record.

    Returns:
        why the row cannot be copied, without its values; empty when it was copied.

    Raises:
        asyncpg.PostgresError: one of RETRYABLE_ERRORS: another transaction holds the row.
    """
    await conn.execute(transaction_settings_sql(change_settings(plan), plan.backfill.batch_budget))
    # The sync trigger of the new side does nothing: the old side stays as it is.
    await conn.execute(f"SET LOCAL {SYNC_SETTING} = 'old'")

    async def copy() -> None:
        await conn.execute(batch_row_statement(plan, catalog), *key)
        if plan.change.kind == "table" and not await conn.fetchval(has_row_statement(catalog), *key):
            for statement in remove_orphan_statements(catalog):
                await conn.execute(statement, *key)

    return await _try_copy(conn, copy)


async def lock_row(conn: Connection, plan: Plan, catalog: Catalog, key: Key) -> frozenset[Side] | None:
    """Locks a row on both sides and compares it: what is read from now on in this transaction stays so.

    Args:
        conn: of an open fenced transaction.

    Returns:
        None where the two sides agree; else the sides that have the row, none of them where an expression of the plan
        fails.

    Raises:
        asyncpg.PostgresError: one of RETRYABLE_ERRORS: another transaction holds the row.
    """
    await conn.execute(transaction_settings_sql(change_settings(plan), plan.backfill.batch_budget))
    for statement in lock_row_statements(plan, catalog):
        await conn.execute(statement, *key)
    try:
        async with conn.transaction():
            statement = disagreements_statement(plan, catalog, either=True)
            row = await conn.fetchrow(statement, *([part] for part in key))
    except ROW_ERRORS:
        return frozenset()
    return None if row is None else frozenset(side for side in SIDES if row[side])


async def copy_row_down(conn: Connection, plan: Plan, catalog: Catalog, key: Key) -> str:
    """Makes the old side of a row what ``down`` gives. The caller has locked the row and knows the new side is newer.

    Args:
        conn: of an open fenced transaction, in which the caller also writes its record.

    Returns:
        why the row cannot be copied, without its values; empty when it was copied.
    """
    # The sync trigger of the old side does nothing: the new side stays as it is.
    await conn.execute(f"SET LOCAL {SYNC_SETTING} = 'new'")

    async def copy() -> None:
        for statement in copy_down_statements(plan, catalog):
            await conn.execute(statement, *key)

    return await _try_copy(conn, copy)


async def _try_copy(conn: Connection, copy: Callable[[], Awaitable[None]]) -> str:
    try:
        async with conn.transaction():
            await copy()
    except RETRYABLE_ERRORS:
        raise
    except ROW_ERRORS as error:
        return describe_row_error(error)
    except asyncpg.PostgresError as error:
        return f"{type(error).__name__.removesuffix('Error')} ({error.sqlstate})"
    return ""

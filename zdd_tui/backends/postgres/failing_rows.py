"""Computes the values of a backfill for the rows of today, in a transaction that writes nothing and is rolled back."""

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.model.ddl.failing_rows import FAILING_ROWS_QUERY, ComputedValues, failing_rows_statements

SECONDS = 10
"""For each backfill; what a range of blocks needs comes on top."""

_SLOW_RANGE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class FailingRows:
    """The rows for which an expression fails.

    Attributes:
        count: of them, up to the limit.
        share: of the table that was read.
        message: of the server for one of them, without its values.
        number: of the value that fails, from 1; 0 for the condition.
        key: of that row, as text.
        unknown: why nothing is known about any row; then nothing else is.
    """

    count: int = 0
    share: float = 1.0
    message: str = ""
    number: int = 0
    key: tuple[str, ...] = ()
    unknown: str = ""


async def find_failing_rows(
    conn: Connection, computed: ComputedValues, settings: Iterable[str], *, limit: int, seconds: float = SECONDS
) -> FailingRows:
    """
    Args:
        settings: statements that make names mean what they mean to the backfill.
        limit: of the rows that are counted.
        seconds: after which the rest of the table is left out.
    """
    transaction = conn.transaction()
    await transaction.start()
    try:
        timeout = round((seconds + _SLOW_RANGE_SECONDS) * 1000)
        await conn.execute(f"SET LOCAL statement_timeout = {timeout}; SET LOCAL row_security = off")
        for statement in (*settings, *failing_rows_statements(computed)):
            await conn.execute(statement)
        await conn.execute("SET LOCAL transaction_read_only = on")
        row = await conn.fetchrow(FAILING_ROWS_QUERY, float(seconds), limit)
        assert row is not None, "the function returns one row"
        return FailingRows(row["failed"], row["share"], row["message"] or "", row["number"], tuple(row["key"] or ()))
    except asyncpg.ReadOnlySQLTransactionError as error:
        return FailingRows(unknown=f"a function in it writes: {_first_line(error)}")
    except asyncpg.QueryCanceledError:
        return FailingRows(unknown=f"not computed within {seconds + _SLOW_RANGE_SECONDS:g} s")
    except asyncpg.PostgresError as error:
        if is_session_lost(error):
            raise
        return FailingRows(unknown=f"PostgreSQL cannot compute it now: {_first_line(error)}")
    finally:
        if not conn.is_closed():
            await transaction.rollback()


def _first_line(error: asyncpg.PostgresError) -> str:
    return str(error).splitlines()[0]

"""The connection pool, and the retries that keep schema changes from failing a request."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from zdd_tui.demo.sample.users import Connection

T = TypeVar("T")

MAX_ATTEMPTS = 4
RETRIED_ERRORS = (
    # DDL of a release came between the preparation of a statement and its use. asyncpg forgets its cached
    # statements when it raises these, but cannot run the statement again: a transaction may be broken.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    # Two pods disagree about the read flag for an instant and lock the two sides in opposite order.
    asyncpg.DeadlockDetectedError,
)


class ConnectionPool:
    """A pool that connects when it is first needed, so that a pod starts while the database is away."""

    def __init__(self, dsn: str, application_name: str) -> None:
        self._pool = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=8,
            timeout=2,
            command_timeout=4.5,
            server_settings={
                "application_name": application_name,
                # Below the patience of our callers (5 s), so that the answer is ours and the lock is let go.
                "statement_timeout": "4000",
                # DDL of a release holds its lock for milliseconds and waits in short tries; this is for accidents.
                "lock_timeout": "3000",
                "idle_in_transaction_session_timeout": "5000",
            },
        )

    async def open(self) -> None:
        await self._pool

    async def close(self) -> None:
        await self._pool.close()

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run single-statement work outside a transaction."""
        return await self._run(work, transaction=False)

    async def write(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run work in a transaction of its own; it may run again from the start, so it must have no other effect."""
        return await self._run(work, transaction=True)

    async def check(self) -> None:
        await self.read(lambda connection: connection.fetchval("SELECT 1"))

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, transaction: bool) -> T:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                async with self._pool.acquire(timeout=3) as connection:
                    if not transaction:
                        return await work(connection)
                    async with connection.transaction():
                        return await work(connection)
            except RETRIED_ERRORS:
                if attempt == MAX_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

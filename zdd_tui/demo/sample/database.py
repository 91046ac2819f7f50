"""The connection pool, with retries so that a schema change fails no request."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from zdd_tui.demo.sample.users import Connection

T = TypeVar("T")

# A number of attempts would not do: several statements of DDL in a row may each meet one attempt.
RETRY_SECONDS = 3.0
PAUSE_SECONDS = 0.01
RETRIED_ERRORS = (
    # DDL of a release ran between the preparation of a statement and its use. asyncpg clears its cache of statements
    # when it raises these, but does not retry: it may be inside a transaction.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    # Two pods briefly see different values of the read flag and lock the two sides in opposite order.
    asyncpg.DeadlockDetectedError,
)


class ConnectionPool:
    """A pool that connects on first use, so that a pod starts while the database is unreachable."""

    def __init__(self, dsn: str, application_name: str) -> None:
        self._pool = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=8,
            timeout=2,
            command_timeout=4.5,
            server_settings={
                "application_name": application_name,
                # Below the clients' timeout of 5 s: they get a response, and the lock is released.
                "statement_timeout": "4000",
                # DDL of a release holds its lock for milliseconds and waits in short attempts; this limits the rest.
                "lock_timeout": "3000",
                "idle_in_transaction_session_timeout": "5000",
            },
        )

    async def open(self) -> None:
        await self._pool

    async def close(self) -> None:
        await self._pool.close()

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs work of a single statement outside a transaction."""
        return await self._run(work, transaction=False)

    async def write(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs work in a transaction of its own. It may be retried, so it must have no other effect."""
        return await self._run(work, transaction=True)

    async def check(self) -> None:
        await self.read(lambda connection: connection.fetchval("SELECT 1"))

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, transaction: bool) -> T:
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                async with self._pool.acquire(timeout=3) as connection:
                    if not transaction:
                        return await work(connection)
                    async with connection.transaction():
                        return await work(connection)
            except RETRIED_ERRORS:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

"""Sessions of other clients of PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg


@asynccontextmanager
async def client_session(dsn: str, application: str = "psql") -> AsyncIterator[asyncpg.Connection]:
    """A session with an application_name."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": application})
    try:
        yield connection
    finally:
        await connection.close()

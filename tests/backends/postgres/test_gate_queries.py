"""What gates see of other sessions, and what they may not see."""

import secrets
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from zdd_tui.backends.postgres.gate_queries import count_hidden_sessions, find_older_transactions, snapshot_marker


def as_role(dsn: str, role: str, password: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))


async def test_hidden_sessions_are_counted(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Without pg_read_all_stats PostgreSQL hides the transactions of other roles."""
    role, password = f"low_{secrets.token_hex(4)}", secrets.token_hex(8)
    await db.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    low = await asyncpg.connect(as_role(pg_dsn, role, password))
    other = await asyncpg.connect(pg_dsn)
    try:
        transaction = other.transaction(isolation="repeatable_read")
        await transaction.start()
        await other.fetchval("SELECT count(*) FROM pg_class")
        since = await snapshot_marker(db)
        assert [found.pid for found in await find_older_transactions(db, since)] == [other.get_server_pid()]
        assert await find_older_transactions(low, since) == []
        assert await count_hidden_sessions(low) >= 1
        await db.execute(f"GRANT pg_read_all_stats TO {role}")
        assert await count_hidden_sessions(low) == 0
        assert [found.pid for found in await find_older_transactions(low, since)] == [other.get_server_pid()]
        await transaction.rollback()
    finally:
        await other.close()
        await low.close()
        await db.execute(f"REVOKE pg_read_all_stats FROM {role}; DROP ROLE {role}")

"""What a source of standing conditions says when its system cannot be read."""

from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import USERS, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.condition_queries import read_database_facts
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.engine.conditions import sources
from zdd_tui.engine.context import Context


async def test_a_session_that_is_ended_during_a_reading_is_named_as_a_lost_connection(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await asyncpg.connect(pg_dsn)
    await other.execute(USERS)
    plan = make_plan("column", dsn=pg_dsn)

    async def end_session_and_read(conn: Connection, *args: Any) -> Any:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", conn.get_server_pid())
        return await read_database_facts(conn, *args)

    monkeypatch.setattr(sources, "read_database_facts", end_session_and_read)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        ctx = Context(plan, store, None, None, lambda: False, print)
        source = sources.DatabaseSource(ctx, lambda: None)
        assert await source.read()
        assert "the connection is lost" in source.facts.error or "ended zdd's session" in source.facts.error
        monkeypatch.undo()
        assert await source.read()
        assert source.facts.error == ""
    await other.close()

"""A pooler in transaction mode is found out, whatever its size and order; one in session mode may stay."""

import asyncio

import asyncpg
import pytest

from tests.support.pooling_proxy import pooling_proxy
from tests.support.store import AGENT, all_error_text, open_store, password_of
from zdd_tui.backends.postgres.connection import connect, refuse_pooler
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.model.errors import DatabaseError


async def test_the_proxy_really_shares_backends(pg_dsn: str) -> None:
    async with pooling_proxy(pg_dsn, size=1) as dsn:
        one, two = [await asyncpg.connect(dsn, statement_cache_size=0) for _ in range(2)]
        await one.execute("SET zdd.mine = 'one'")
        assert await two.fetchval("SELECT current_setting('zdd.mine')") == "one"
        one.terminate()
        two.terminate()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_transaction_mode_is_refused(pg_dsn: str, size: int, newest_first: bool) -> None:
    async with pooling_proxy(pg_dsn, size=size, newest_first=newest_first) as dsn:
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseError) as caught:
                await Store.open(dsn)
        assert "pooler in transaction mode" in caught.value.title
        assert dsn.rpartition("@")[2] in caught.value.title
        assert "session-mode pool" in caught.value.hint
        assert password_of(dsn) not in all_error_text(caught.value)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_pooler_that_knows_prepared_statements_is_refused(pg_dsn: str, size: int, newest_first: bool) -> None:
    # pgbouncer since 1.21: only the backends reveal it, so no statement is prepared here.
    async with pooling_proxy(pg_dsn, size=size, newest_first=newest_first) as dsn:
        connection = await connect(dsn, application_name="test", statement_cache_size=0)
        with pytest.raises(DatabaseError, match="pooler in transaction mode"):
            await refuse_pooler(connection, dsn)
        connection.terminate()


async def test_transaction_mode_is_refused_while_others_compete(pg_dsn: str) -> None:
    async with pooling_proxy(pg_dsn, size=3) as dsn:
        others = [await asyncpg.connect(dsn, statement_cache_size=0) for _ in range(3)]

        async def compete(other: asyncpg.Connection) -> None:
            while True:
                await other.execute("BEGIN; SELECT pg_sleep(0.005); COMMIT")

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(compete(other)) for other in others]
            for _ in range(5):
                with pytest.raises(DatabaseError, match="pooler in transaction mode"):
                    await Store.open(dsn)
            for task in tasks:
                task.cancel()
        for other in others:
            other.terminate()


async def test_no_lease_through_a_pooler(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release), pooling_proxy(pg_dsn) as dsn:
        with pytest.raises(DatabaseError, match="pooler in transaction mode"):
            await acquire_lease(dsn, release, AGENT)
        assert await store.read_lease(release) is None


async def test_a_direct_connection_and_a_session_mode_pool_are_fine(pg_dsn: str) -> None:
    async with pooling_proxy(pg_dsn, mode="session") as through_pool:
        for dsn in (pg_dsn, through_pool):
            connection = await connect(dsn, application_name="test")
            for _ in range(5):
                await refuse_pooler(connection, dsn)
            connection.terminate()

"""Sessions, replication and vacuum as they are on a real server; and stopping a session, with its audit."""

import asyncio

import asyncpg
import pytest

from tests.support.operations import plan_of
from tests.support.store import ANA, open_store, plan_for
from zdd_tui.backends.postgres.activity import read_activity, read_sessions
from zdd_tui.backends.store.client import Store
from zdd_tui.model.activity import ListedSession, SessionRelation, StopRequest, list_sessions
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.workload.drain import SessionCount

pytestmark = pytest.mark.timeout(60)
TABLE = "CREATE TABLE public.users (id bigint PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'a')"


async def listed(store: Store, dsn: str) -> dict[SessionRelation, ListedSession]:
    async with store.pool.acquire() as connection:
        activity = await read_activity(connection, plan_for(dsn))
    return {each.relation: each for each in list_sessions(activity.sessions)}


async def wait_for(store: Store, dsn: str, *relations: SessionRelation) -> dict[SessionRelation, ListedSession]:
    async with asyncio.timeout(20):
        while not set(relations) <= set(found := await listed(store, dsn)):  # noqa: ASYNC110 - other sessions wait
            await asyncio.sleep(0.05)
        return found


async def test_who_blocks_our_ddl_is_named_cancelled_and_terminated(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        holder = await asyncpg.connect(pg_dsn, server_settings={"application_name": "report"})
        agent = await asyncpg.connect(pg_dsn, server_settings={"application_name": "zdd agent 1 1"})
        try:
            await holder.execute(TABLE)
            await holder.execute("BEGIN; LOCK TABLE users")
            ddl = asyncio.create_task(agent.execute("ALTER TABLE users ADD note text"))
            found = await wait_for(store, pg_dsn, SessionRelation.BLOCKS_AGENT, SessionRelation.AGENT)
            blocker = found[SessionRelation.BLOCKS_AGENT]
            assert (blocker.session.application, blocker.session.state) == ("report", "idle in transaction")
            assert blocker.blocks == (found[SessionRelation.AGENT].session.pid,)
            assert found[SessionRelation.AGENT].session.wait == "Lock relation"

            ours = found[SessionRelation.AGENT].session
            with pytest.raises(DatabaseError, match="belongs to an agent of zdd"):
                await store.stop_session(release_id, StopRequest(ours.pid, ours.started, True), actor=ANA)
            other = StopRequest(blocker.session.pid, "2020-01-01 00:00:00+00", True)
            with pytest.raises(DatabaseError, match=r"session \d+ has ended"):
                await store.stop_session(release_id, other, actor=ANA)

            asleep = asyncio.create_task(holder.execute("SELECT pg_sleep(60)"))
            async with asyncio.timeout(20):
                while (await listed(store, pg_dsn))[SessionRelation.BLOCKS_AGENT].session.state != "active":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            session = blocker.session
            assert await store.stop_session(release_id, StopRequest(session.pid, session.started, False), actor=ANA)
            with pytest.raises(asyncpg.QueryCanceledError):
                await asleep
            request = StopRequest(session.pid, session.started, True, "it blocks the release")
            assert await store.stop_session(release_id, request, actor=ANA)
            await ddl  # the lock is free
            events = [each for each in (await store.read_release(release_id)).events if each.kind == "session"]
        finally:
            agent.terminate()
            holder.terminate()
    assert [(each.message.partition(" (")[0], each.reason) for each in events] == [
        (f"cancelled the statement of pid {session.pid}", ""),
        (f"terminated session pid {session.pid}", "it blocks the release"),
    ]
    assert events[1].actor.name == "ana"
    assert "(report as postgres, " in events[1].message


async def test_vacuum_of_the_releases_table(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, _):
        admin = await asyncpg.connect(pg_dsn)
        try:
            await admin.execute(TABLE)
            await admin.execute("VACUUM users")
            async with store.pool.acquire() as connection:
                activity = await read_activity(connection, plan_for(pg_dsn))
        finally:
            await admin.close()
    (table,) = activity.tables
    assert table.table == "public.users"
    assert table.last_seconds is None or table.last_seconds < 60, "statistics may be a moment late"
    assert activity.hidden == 0


async def test_sessions_are_counted_by_client_and_those_of_other_roles_are_hidden(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, _):
        pods = [
            await asyncpg.connect(pg_dsn, server_settings={"application_name": name})
            for name in ("users-api-a", "users-api-a", "users-api-b")
        ]
        try:
            found = await read_sessions(store.pool)
            counted = {client.application: client for client in found.clients}
            assert counted["users-api-a"].sessions == 2
            assert counted["users-api-b"].sessions == 1
            assert (found.hidden, found.is_truncated) == (0, False)
            await store.pool.execute("CREATE ROLE counts_nobody")
            try:
                async with store.pool.acquire() as connection, connection.transaction():
                    await connection.execute("SET LOCAL ROLE counts_nobody")
                    unseen = await read_sessions(connection)
            finally:
                await store.pool.execute("DROP ROLE counts_nobody")
            assert unseen.hidden >= 3
            assert SessionCount("users-api-a", counted["users-api-a"].address, 2) not in unseen.clients
        finally:
            for pod in pods:
                pod.terminate()


async def test_the_vacuum_of_every_table_of_operations_is_listed(pg_dsn: str) -> None:
    plan = plan_of(
        pg_dsn,
        "ALTER TABLE public.users ADD COLUMN token text NOT NULL DEFAULT gen_random_uuid()::text",
        {"sql": "UPDATE users SET name = 'x' WHERE name IS NULL", "undo": []},
        "CREATE INDEX ON notes (id)",
    )
    connection = await asyncpg.connect(pg_dsn)
    try:
        await connection.execute(f"{TABLE}; CREATE TABLE notes (id int); CREATE TABLE others (id int)")
        activity = await read_activity(connection, plan)
    finally:
        await connection.close()
    assert [each.table for each in activity.tables] == ["public.users", "public.notes"]

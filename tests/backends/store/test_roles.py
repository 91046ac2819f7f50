"""Roles of least privilege: what the shipped roles may do, and what they are refused (case C7)."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.least_privilege import DatabaseRoles, install_database_roles, remove_database_roles
from tests.support.store import AGENT, plan_for, register_release
from zdd_tui.backends.postgres.activity import read_activity
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.detail import read_audit_log, read_stored_plan
from zdd_tui.demo.data import create_schema
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.records import Actor, CommandRequest
from zdd_tui.model.release.state import CommandKind
from zdd_tui.testbed.servers import PostgresServer

PAUSE = CommandRequest(CommandKind.PAUSE, "lunch")


@pytest.fixture
async def roles(pg: PostgresServer, pg_dsn: str) -> AsyncIterator[DatabaseRoles]:
    """The shipped roles, and a release that the agent's role has registered in a schema that it created."""
    await create_schema(pg_dsn)
    installed = await install_database_roles(pg, pg_dsn)
    async with await Store.open(installed.agent) as store:
        await store.migrate()
        await register_release(store, pg_dsn)
    yield installed
    await remove_database_roles(pg_dsn, installed)


def role_of(dsn: str) -> str:
    return str(urlsplit(dsn).username)


async def test_the_agents_role_has_no_more_than_the_release_needs(roles: DatabaseRoles, db: asyncpg.Connection) -> None:
    row = await db.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", role_of(roles.agent))
    assert row is not None
    assert not any(row[name] for name in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication"))
    assert (
        await db.fetchval("SELECT count(DISTINCT relowner) FROM pg_class WHERE relnamespace = 'zdd'::regnamespace") == 1
    )


async def test_public_has_nothing(roles: DatabaseRoles, db: asyncpg.Connection) -> None:
    granted = (
        "SELECT count(*) FROM (SELECT relacl AS acl, relowner AS owner, 'r' AS kind FROM pg_class"
        " WHERE relnamespace = 'zdd'::regnamespace"
        " UNION ALL SELECT proacl, proowner, 'f' FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace"
        " UNION ALL SELECT nspacl, nspowner, 'n' FROM pg_namespace WHERE nspname = 'zdd') o,"
        ' LATERAL aclexplode(coalesce(o.acl, acldefault(o.kind::"char", o.owner))) a WHERE a.grantee = 0'
    )
    assert await db.fetchval(granted) == 0
    stranger = await asyncpg.connect(roles.stranger)
    try:
        for statement in ("SELECT * FROM zdd.release", "SELECT zdd.send_command(1, 'pause', '{}', '', 'ana', 'x')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await stranger.execute(statement)
    finally:
        await stranger.close()


@pytest.mark.parametrize("name", ["operator", "viewer"])
async def test_nobody_but_the_agent_writes_a_table(roles: DatabaseRoles, db: asyncpg.Connection, name: str) -> None:
    tables = [
        row["name"]
        for row in await db.fetch(
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'zdd'::regnamespace AND relkind = 'r'"
        )
    ]
    assert {"command", "event", "release", "gate", "lease"} <= set(tables)
    connection = await asyncpg.connect(getattr(roles, name))
    try:
        for table in tables:
            await connection.execute(f"SELECT * FROM zdd.{table} LIMIT 1")  # every table can be read
            for statement in (
                f"INSERT INTO zdd.{table} DEFAULT VALUES",
                f"UPDATE zdd.{table} SET {await _first_column(db, table)} = NULL",
                f"DELETE FROM zdd.{table}",
                f"TRUNCATE zdd.{table} CASCADE",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        for statement in ("SELECT nextval('zdd.epoch')", "CREATE TABLE zdd.mine ()", "SELECT zdd.evict(1, 1)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def _first_column(db: asyncpg.Connection, table: str) -> str:
    return str(
        await db.fetchval(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
            " AND NOT attisdropped AND attidentity = '' ORDER BY attnum LIMIT 1",
            f"zdd.{table}",
        )
    )


async def test_c7_the_audit_shows_the_role_behind_a_claimed_name(roles: DatabaseRoles) -> None:
    async with await Store.open(roles.operator) as operator, await Store.open(roles.agent) as own:
        release = await operator.find_release("users-full-name")
        assert release is not None
        sent = await operator.send_command(release, PAUSE, actor=Actor("cto", "head-office"))
        agent = await acquire_lease(roles.agent, release, AGENT)
        assert agent is not None
        async with agent:
            taken = await agent.next_command()
            assert taken is not None
            assert taken.actor == Actor("cto", "head-office", role_of(roles.operator))
            assert str(taken.actor) == f"cto@head-office as {role_of(roles.operator)}"
            await agent.complete_command(sent, refused=False, outcome="paused", release=None)
        event = (await own.read_release(release)).events[-1]
        assert (event.kind, str(event.actor)) == ("command", f"cto@head-office as {role_of(roles.operator)}")


async def test_c7_a_direct_insert_cannot_claim_a_role(roles: DatabaseRoles, db: asyncpg.Connection) -> None:
    role = await db.fetchval(
        "INSERT INTO zdd.command (release_id, kind, actor, host, role) VALUES (1, 'pause', 'ana', 'x', 'ana')"
        " RETURNING role"
    )
    assert role == "postgres"


async def test_an_operator_cannot_act_as_the_guard(roles: DatabaseRoles) -> None:
    """A unique index allows the guard one rollback of a release: nobody may use it up."""
    async with await Store.open(roles.operator) as operator:
        for name in ("guard", "agent"):
            sent = await operator.send_command(1, CommandRequest(CommandKind.ROLLBACK), actor=Actor(name, "x"))
            assert (await operator.read_command(sent)).actor.name == f"user {name}"


async def test_a_viewer_reads_everything_and_sends_nothing(roles: DatabaseRoles) -> None:
    async with await Store.open(roles.viewer) as viewer:
        await viewer.migrate()  # nothing is missing, so it changes nothing
        release = await viewer.find_release("users-full-name")
        assert release is not None
        assert (await viewer.read_release(release)).release.name == "users-full-name"
        await read_audit_log(viewer.pool, release, 10)
        await read_stored_plan(viewer.pool, release)
        await viewer.read_failed_rows(release)
        with pytest.raises(DatabaseError, match="may not send commands") as caught:
            await viewer.send_command(release, PAUSE, actor=Actor("eve", "x"))
        assert "config/postgres/roles.sql" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (("pause", "[]", "", "ana", "x"), "JSON object"),
        (("pause", "null", "", "ana", "x"), "JSON object"),
        (("drop table", "{}", "", "ana", "x"), "short word"),
        (("pause", "{}", "x" * 20_000, "ana", "x"), "too long"),
        (("pause", '{"typed": "' + "x" * 300_000 + '"}', "", "ana", "x"), "JSON object"),
        (("pause", "{}", "", "a" * 300, "x"), "too long"),
    ],
)
async def test_the_function_refuses_what_is_no_command(
    roles: DatabaseRoles, values: tuple[str, ...], text: str
) -> None:
    connection = await asyncpg.connect(roles.operator)
    try:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=text):
            await connection.execute("SELECT zdd.send_command(1, $1, $2, $3, $4, $5)", *values)
        hostile = "SET search_path = public; CREATE TEMP TABLE command (id int)"
        await connection.execute(hostile)  # names inside of the function are not looked up there
        assert await connection.fetchval("SELECT zdd.send_command(1, 'pause', '{}', '', 'ana', 'x')") > 0
    finally:
        await connection.close()


async def test_an_operator_stops_a_session_of_the_application_and_nobody_else_does(
    roles: DatabaseRoles, db: asyncpg.Connection
) -> None:
    """The right to signal is the agent's role's; the function lends it, and the audit has the operator's role."""
    app = await asyncpg.connect(roles.app, server_settings={"application_name": "report"})
    try:
        row = await app.fetchrow(
            "SELECT pid, backend_start::text AS started FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        )
        assert row is not None
        request = StopRequest(row["pid"], row["started"], terminate=True, reason="it blocks")
        async with await Store.open(roles.viewer) as viewer, await Store.open(roles.operator) as operator:
            release = await viewer.find_release("users-full-name")
            assert release is not None
            with pytest.raises(DatabaseError, match="nothing was stopped") as caught:
                await viewer.stop_session(release, request, actor=Actor("eve", "x"))
            assert "config/postgres/roles.sql" in caught.value.hint
            async with operator.pool.acquire() as connection:
                seen = await read_activity(connection, plan_for(roles.operator))
            assert [each.application for each in seen.sessions if each.pid == request.pid] == ["report"]
            assert await operator.stop_session(release, request, actor=Actor("cto", "head-office"))
            event = (await operator.read_release(release)).events[-1]
            assert str(event.actor) == f"cto@head-office as {role_of(roles.operator)}"
            assert event.message.startswith(f"terminated session pid {request.pid} (report as ")
    finally:
        app.terminate()

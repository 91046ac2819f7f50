"""The fleet on a real server: several databases, one statement each, and every way in which one does not respond."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from tests.support.store import ANA, open_store, password_of, plan_for, register_release
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.fleet import FleetReader
from zdd_tui.cli.status import format_status
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.fleet.config import FleetDatabase
from zdd_tui.model.fleet.rows import FleetRow, Urgency
from zdd_tui.model.release.claims import assess_agent_activity
from zdd_tui.model.release.records import AGENT_CONTINUES, AGENT_WAITS, WAITS_NOTE, Actor, CommandRequest, NewEvent
from zdd_tui.model.release.state import CommandKind, ReleaseState
from zdd_tui.model.release.summary import summarize_release
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PostgresServer

END = "UPDATE zdd.release SET state = $2, phase = 5, finished_at = clock_timestamp() WHERE id = $1"


@asynccontextmanager
async def reader_of(dsn: str) -> AsyncIterator[FleetReader]:
    reader = FleetReader(FleetDatabase("shop", dsn, "group", "staging"))
    try:
        yield reader
    finally:
        reader.close()


def by_id(rows: tuple[FleetRow, ...]) -> dict[int | None, FleetRow]:
    return {row.release_id: row for row in rows}


async def test_a_release_is_read_as_its_own_screen_shows_it(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), reader_of(pg_dsn) as reader:
        (planned,) = await reader.read()
        assert (planned.name, planned.state, planned.label) == ("users-full-name", ReleaseState.PLANNED, "PLANNED")
        assert (planned.database, planned.group, planned.environment) == ("shop", "group", "staging")
        assert (planned.waits_for, planned.has_agent) == ("an agent", False)
        agent = await acquire_lease(pg_dsn, release_id, Actor("agent", "bastion"), ttl=300)
        assert agent is not None
        async with agent:
            (held,) = await reader.read()
            assert (held.agent, held.urgency) == ("bastion", Urgency.PLANNED)
            (again,) = await reader.read()
            assert again is held, "a row that has not changed is the same, and is not drawn again"
            command = await store.send_command(release_id, CommandRequest(CommandKind.ROLLBACK, "wrong"), actor=ANA)
            await store.pool.execute("UPDATE zdd.command SET status = 'done' WHERE id = $1", command)
            await store.pool.execute(END, release_id, "rolled-back")
        (ended,) = await reader.read()
        assert (ended.state, ended.label, ended.cause) == (ReleaseState.ROLLED_BACK, "ROLLED BACK", "by ana: wrong")
        assert ended.rollbacks == 1
        assert ended.duration is not None
        assert ended.rollback_seconds is not None
        assert 0 <= ended.rollback_seconds <= ended.duration


async def test_a_release_waits_for_what_its_own_screen_says(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), reader_of(pg_dsn) as reader:

        async def compare() -> str:
            record = await store.read_release(release_id)
            shown = summarize_release(record, record.now, activity=assess_agent_activity(record))
            (row,) = await reader.read()
            assert (row.label, row.glyph) == (shown.state_label, shown.glyph)
            for said in (" ".join(shown.notes), " ".join(format_status(record).split())):
                assert all(f"the agent waits for {each}" in said for each in row.waits_for.split("; ") if each), said
            return f"{row.label}: {row.waits_for}"

        agent = await acquire_lease(pg_dsn, release_id, Actor("agent", "bastion"), ttl=300)
        assert agent is not None
        async with agent:
            await store.pool.execute(
                "UPDATE zdd.release SET state = 'running', phase = 0; UPDATE zdd.step SET status = 'started',"
                " started_at = now() WHERE position = 0"
            )
            assert await compare() == "RUNNING: "
            await agent.append_events([NewEvent("error", f"{AGENT_WAITS}Redis: no response")])
            await agent.append_events([NewEvent("error", f"{AGENT_WAITS}Kubernetes: status 503\nFix: wait")])
            assert await compare() == "AGENT WAITS: Redis: no response; Kubernetes: status 503"
            await agent.append_events([NewEvent("lease", f"{AGENT_CONTINUES}Redis")])
            assert await compare() == "AGENT WAITS: Kubernetes: status 503"
            await agent.append_events([NewEvent("lease", f"{AGENT_CONTINUES}Kubernetes")])
            await agent.append_events([NewEvent("step", "run lint-ddl begins: check")])
            await agent.append_events([NewEvent("error", f"{AGENT_WAITS}the gates: not read yet")])
            assert await compare() == "RUNNING: the gates: not read yet", "a step runs beside the command that waits"
            assert reader.lease_ends[release_id] > time.time() + 290


async def test_a_step_waits_for_a_system_in_the_list_too(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), reader_of(pg_dsn) as reader:
        agent = await acquire_lease(pg_dsn, release_id, Actor("agent", "bastion"), ttl=300)
        assert agent is not None
        async with agent:
            await store.pool.execute(
                "UPDATE zdd.release SET state = 'running', phase = 0; UPDATE zdd.step SET status = 'started',"
                f" started_at = now(), note = '{WAITS_NOTE}Redis: unavailable for 5s: refused' WHERE position = 0"
            )
            (row,) = await reader.read()
    assert (row.label, row.waits_for) == ("RUNNING", "Redis: unavailable for 5s: refused")


async def test_releases_that_come_and_go(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, first), reader_of(pg_dsn) as reader:
        await store.pool.execute(END, first, "done")
        assert set(by_id(await reader.read())) == {first}
        second = await register_release(store, pg_dsn, "other")
        rows = by_id(await reader.read())
        assert set(rows) == {first, second}
        assert rows[first].state is ReleaseState.DONE
        for table in ("step", "event"):
            await store.pool.execute(f"ALTER TABLE zdd.{table} DISABLE TRIGGER ALL; DELETE FROM zdd.{table}")
        await store.pool.execute("DELETE FROM zdd.release")
        (empty,) = await reader.read()
        assert (empty.release_id, empty.label, empty.environment) == (None, "NO RELEASE", "staging")


async def test_the_regions_of_a_plan(pg_dsn: str) -> None:
    document = {"regions": {"order": [{"name": "eu"}, {"name": "us"}]}, "gates": {"owner": "payments"}}
    async with await Store.open(pg_dsn) as store, reader_of(pg_dsn) as reader:
        await store.migrate()
        plan = plan_for(pg_dsn)
        release_id = await store.register_release(plan, text="name: x", document=document, plan_hash="h", actor=ANA)
        await store.pool.execute("UPDATE zdd.release SET region = 'us'")
        (row,) = await reader.read()
        assert (row.region, row.region_order) == ("us 2/2", 1)
        copy = await reader.read_plan_copy(release_id)
        assert (copy.release, copy.region, copy.text) == ("users-full-name", "us", "name: x")
        with pytest.raises(DatabaseError, match="has no release 4711 any more"):
            await reader.read_plan_copy(4711)


async def test_a_damaged_release_is_a_row_beside_the_others(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, first), reader_of(pg_dsn) as reader:
        second = await register_release(store, pg_dsn, "other")
        await store.pool.execute("UPDATE zdd.release SET strategy = '{\"phases\": 5}' WHERE id = $1", first)
        rows = by_id(await reader.read())
        assert (rows[first].label, rows[first].name) == ("UNREADABLE", "users-full-name")
        assert rows[second].label == "PLANNED"
        assert rows[first].error


async def test_a_database_without_a_zdd_schema_has_no_release(pg_dsn: str) -> None:
    async with reader_of(pg_dsn) as reader:
        (row,) = await reader.read()
        assert (row.label, row.release_id) == ("NO RELEASE", None)


async def test_an_older_schema_is_named(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn), reader_of(pg_dsn) as reader:
        await db.execute("ALTER TABLE zdd.release DROP COLUMN cause")
        with pytest.raises(DatabaseError, match="zdd schema of an older version"):
            await reader.read()


async def test_a_viewer_reads_and_a_role_without_rights_is_told(
    pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection, roles: tuple[str, str]
) -> None:
    viewer, stranger = roles
    async with open_store(pg_dsn):
        await db.execute(f"GRANT USAGE ON SCHEMA zdd TO {viewer}; GRANT SELECT ON ALL TABLES IN SCHEMA zdd TO {viewer}")
        async with reader_of(pg_dsn.replace(f"postgres:{password_of(pg_dsn)}", f"{viewer}:pw")) as reader:
            assert (await reader.read())[0].name == "users-full-name"
        async with reader_of(pg_dsn.replace(f"postgres:{password_of(pg_dsn)}", f"{stranger}:pw")) as reader:
            with pytest.raises(DatabaseError, match="refuses role"):
                await reader.read()


@pytest.fixture
async def roles(db: asyncpg.Connection) -> AsyncIterator[tuple[str, str]]:
    names = (f"viewer_{secrets.token_hex(4)}", f"stranger_{secrets.token_hex(4)}")
    for name in names:
        await db.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
    yield names
    for name in names:
        await db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_an_error_holds_no_password_and_the_next_reading_connects_again(pg_dsn: str) -> None:
    password = password_of(pg_dsn)
    async with reader_of(pg_dsn.replace(password, "wrong-secret")) as reader:
        with pytest.raises(DatabaseError, match="does not accept the password") as caught:
            await reader.read()
        assert "wrong-secret" not in str(caught.value)
    async with open_store(pg_dsn) as (store, _), reader_of(pg_dsn) as reader:
        await reader.read()
        await store.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'zdd fleet'"
        )
        with suppress(DatabaseError):  # the end of the session may have been noticed before
            await reader.read()
        assert len(await reader.read()) == 1


async def test_a_server_that_does_not_answer_costs_the_timeout(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zdd_tui.backends.store.fleet.READ_TIMEOUT", 0.3)
    async with reader_of(f"postgresql://u:hidden@127.0.0.1:{silent_port}/x") as reader, asyncio.timeout(5):
        with pytest.raises(DatabaseError, match="does not respond within") as caught:
            await reader.read()
        assert "hidden" not in str(caught.value)
    async with reader_of(f"postgresql://u:hidden@127.0.0.1:{free_port()}/x") as reader:
        with pytest.raises(DatabaseError, match="refuses connections"):
            await reader.read()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never writes."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]

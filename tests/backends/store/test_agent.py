"""One agent at a time: the lease, its epochs, and writes that an older epoch cannot make."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.store import AGENT, ANA, OTHER, all_error_text, open_store, password_of, register_release
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.model.errors import DatabaseError, StaleEpoch
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Actor, CommandRequest, NewEvent, StepChange
from zdd_tui.model.release.state import CommandKind, ReleaseState


async def take_lease_for_test(dsn: str, release: int, actor: Actor = AGENT, **settings: Any) -> AgentStore:
    agent = await acquire_lease(dsn, release, actor, **settings)
    assert agent is not None
    return agent


async def expire_lease(db: asyncpg.Connection, release: int) -> None:
    """As after some time: the last renewal of the holder is older than the TTL."""
    await db.execute(
        "UPDATE zdd.lease SET renewed_at = clock_timestamp() - make_interval(secs => ttl + 0.1) WHERE release_id = $1",
        release,
    )


# --- holding ---------------------------------------------------------------------------------------------------


async def test_a_live_lease_is_refused_to_others(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release), await take_lease_for_test(pg_dsn, release) as agent:
        assert await acquire_lease(pg_dsn, release, OTHER) is None
        await agent.renew_lease()
        lease = await store.read_lease(release)
        assert lease is not None
        assert (lease.epoch, lease.holder, lease.host, lease.ttl) == (agent.epoch, "agent", "pod-1", 3.0)
        assert lease.is_live
        assert 0 < agent.seconds_remaining <= 3.0


async def test_of_many_agents_one_acquires_the_lease(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (_store, release):
        for _ in range(2):
            found = await asyncio.gather(
                *(acquire_lease(pg_dsn, release, Actor("agent", f"pod-{n}")) for n in range(6))
            )
            winners = [agent for agent in found if agent is not None]
            assert len(winners) == 1
            await winners[0].check_lease()
            await winners[0].close()
            await expire_lease(db, release)


async def test_a_lease_expires_by_the_servers_clock(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release), await take_lease_for_test(pg_dsn, release, ttl=60.0) as first:
        await expire_lease(db, release)
        lease = await store.read_lease(release)
        assert lease is not None
        assert not lease.is_live
        async with await take_lease_for_test(pg_dsn, release, OTHER) as second:
            assert second.epoch > first.epoch
            with pytest.raises(StaleEpoch):
                await first.renew_lease()
            await second.renew_lease()
            text = (await store.read_release(release)).events[-1]
            assert (text.kind, text.actor, text.message) == (
                "lease",
                OTHER,
                f"acquired the lease, epoch {second.epoch}",
            )
            assert re.fullmatch(r"no renewal by agent@pod-1 for 6\d\.\d s", text.reason)


async def test_an_expired_lease_that_no_agent_took_can_be_renewed(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (_store, release), await take_lease_for_test(pg_dsn, release) as agent:
        await expire_lease(db, release)
        await agent.renew_lease()
        assert await acquire_lease(pg_dsn, release, OTHER) is None


async def test_a_released_lease_is_free_at_once(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release), await take_lease_for_test(pg_dsn, release, ttl=60.0) as first:
        await first.release_lease()
        lease = await store.read_lease(release)
        assert lease is not None
        assert not lease.is_live
        with pytest.raises(StaleEpoch):
            await first.renew_lease()
        async with await take_lease_for_test(pg_dsn, release, OTHER, ttl=60.0) as second:
            await first.release_lease()  # too late to give anything back
            await second.renew_lease()


async def test_epochs_are_unique_over_releases(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, one):
        two = await register_release(store, pg_dsn, name="other")
        epochs = []
        for release in (one, two, one, two, two):
            async with await take_lease_for_test(pg_dsn, release) as agent:
                epochs.append(agent.epoch)
                await agent.release_lease()
        assert epochs == sorted(set(epochs))


async def test_a_lease_needs_its_release(pg_dsn: str) -> None:
    async with open_store(pg_dsn):
        with pytest.raises(DatabaseError, match="has no release 999"):
            await acquire_lease(pg_dsn, 999, AGENT)


async def test_renewal_does_not_wait_for_our_own_transactions_nor_for_the_pool(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (_store, release), await take_lease_for_test(pg_dsn, release) as agent:
        held = [await agent.pool.acquire() for _ in range(5)]
        async with agent.fenced() as connection, asyncio.timeout(2):
            await connection.execute("UPDATE zdd.release SET paused = true WHERE id = $1", release)
            await agent.renew_lease()
        for connection in held:
            await agent.pool.release(connection)


# --- writing ---------------------------------------------------------------------------------------------------


async def test_an_old_epoch_writes_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release), await take_lease_for_test(pg_dsn, release) as old:
        requested = await store.send_command(release, CommandRequest(CommandKind.PAUSE), actor=ANA)
        await expire_lease(db, release)
        async with await take_lease_for_test(pg_dsn, release, OTHER):
            before = await store.read_release(release)
            moved = replace(before.release, state=ReleaseState.RUNNING, phase=0)
            line = [NewEvent("error", "from the grave")]
            for attempt in (
                lambda: old.save(moved, events=line, step=StepChange("lint-ddl", note="x")),
                lambda: old.save_end(replace(moved, state=ReleaseState.ROLLED_BACK)),
                lambda: old.save_step_note("lint-ddl", "x"),
                lambda: old.append_events(line),
                lambda: old.save_gates([GateReading("schema-valid", Verdict.PASS, "", 0)]),
                lambda: old.complete_command(requested, refused=False, outcome="x", release=moved),
                old.check_lease,
                old.renew_lease,
            ):
                with pytest.raises((StaleEpoch, DatabaseError)):
                    await attempt()
                with pytest.raises(StaleEpoch, match=f"epoch {old.epoch} of release {release} is stale"):
                    await attempt()
            after = await store.read_release(release)
    assert replace(after, now=0, lease=None) == replace(before, now=0, lease=None)


async def test_a_new_session_of_an_old_epoch_is_refused(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Also where a statement that is not fenced would use it."""
    async with open_store(pg_dsn) as (_store, release), await take_lease_for_test(pg_dsn, release) as old:
        await expire_lease(db, release)
        async with await take_lease_for_test(pg_dsn, release, OTHER):
            await old.pool.expire_connections()
            with pytest.raises(StaleEpoch):
                await old.pool.fetchval("SELECT 1")


async def test_a_fenced_transaction_commits_with_its_record(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release), await take_lease_for_test(pg_dsn, release) as agent:
        planned = (await agent.read()).release
        running = replace(planned, state=ReleaseState.RUNNING, phase=0)

        async def make(last: str) -> None:
            async with agent.fenced() as connection:
                await connection.execute("CREATE TABLE made ()")
                await agent.save(running, conn=connection, events=[NewEvent("step", "made")])
                assert (await store.read_release(release)).release == planned
                await connection.execute(last)

        with pytest.raises(asyncpg.DivisionByZeroError):
            await make("SELECT 1 / 0")
        assert await db.fetchval("SELECT to_regclass('made')") is None
        assert (await store.read_release(release)).release == planned

        await make("SELECT 1")
        assert await db.fetchval("SELECT to_regclass('made')") is not None
        record = await store.read_release(release)
        assert (record.release, record.events[-1].message) == (running, "made")


async def test_errors_of_the_callers_own_statements_come_through(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (_store, release), await take_lease_for_test(pg_dsn, release) as agent:

        async def run(statement: str, timeout: float) -> None:
            async with agent.fenced() as connection:
                await connection.execute("SET LOCAL lock_timeout = '20ms'")
                await connection.execute(statement, timeout=timeout)

        await db.execute("CREATE TABLE busy ()")
        async with db.transaction():
            await db.execute("LOCK busy")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await run("ALTER TABLE busy ADD x int", timeout=5)
        with pytest.raises(TimeoutError):
            await run("SELECT pg_sleep(5)", timeout=0.05)
        await agent.check_lease()


async def test_the_server_ends_a_transaction_that_is_idle_for_longer_than_the_ttl(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (_store, release), await take_lease_for_test(pg_dsn, release, ttl=0.3) as agent:
        ended = asyncio.Event()

        async def idle() -> None:
            async with agent.fenced() as connection:
                connection.add_termination_listener(lambda *_: ended.set())
                async with asyncio.timeout(5):
                    await ended.wait()
                await connection.execute("SELECT 1")

        with pytest.raises(DatabaseError) as caught:
            await idle()
        assert "connection is lost" in caught.value.title or "idled" in caught.value.title
        assert password_of(pg_dsn) not in all_error_text(caught.value)
        await agent.check_lease()  # no takeover: it continues with a new session


async def test_a_takeover_ends_the_sessions_of_the_old_epoch_and_no_others(pg_dsn: str, db: asyncpg.Connection) -> None:
    names = (
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with open_store(pg_dsn) as (store, release):
        other = await register_release(store, pg_dsn, name="other")
        # A session of another program with a similar name must neither be ended nor stop the takeover.
        odd = await asyncpg.connect(pg_dsn, server_settings={"application_name": f"zdd agent {release} {'9' * 30}"})
        async with (
            await take_lease_for_test(pg_dsn, release) as old,
            await take_lease_for_test(pg_dsn, other) as neighbour,
        ):
            await expire_lease(db, release)
            async with await take_lease_for_test(pg_dsn, release, OTHER) as new:
                left = {row[0] for row in await db.fetch(names)}
                assert old.application_name not in left
                assert {neighbour.application_name, new.application_name} <= left
                await neighbour.check_lease()
                assert await odd.fetchval("SELECT 1") == 1
        await odd.close()


# --- takers without the right to end sessions ------------------------------------------------------------------


@pytest.fixture
async def limited_role_dsn(pg_dsn: str, db: asyncpg.Connection) -> AsyncIterator[str]:
    """The DSN of a role that may write to the zdd schema, and may not signal the sessions of others."""
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
    await db.execute("CREATE ROLE deputy LOGIN PASSWORD 'deputy-secret'")
    await db.execute("GRANT USAGE ON SCHEMA zdd TO deputy")
    await db.execute("GRANT ALL ON ALL TABLES IN SCHEMA zdd TO deputy")
    await db.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA zdd TO deputy")
    await db.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA zdd TO deputy")
    parts = urlsplit(pg_dsn)
    yield f"postgresql://deputy:deputy-secret@127.0.0.1:{parts.port}{parts.path}"
    await db.execute("DROP OWNED BY deputy; DROP ROLE deputy")


async def test_a_takeover_waits_for_an_open_transaction_that_it_cannot_end(
    pg_dsn: str, db: asyncpg.Connection, limited_role_dsn: str
) -> None:
    """The old epoch's transaction either commits before the new epoch begins, or not at all: never after it."""
    async with open_store(pg_dsn) as (store, release), await take_lease_for_test(pg_dsn, release, ttl=60.0) as old:
        async with old.fenced() as connection:
            await expire_lease(db, release)
            assert await acquire_lease(limited_role_dsn, release, OTHER) is None
            taker = asyncio.create_task(acquire_lease(limited_role_dsn, release, OTHER))
            async with asyncio.timeout(5):
                while not await db.fetchval(  # noqa: ASYNC110  a lock queue sends no event
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'deputy'"
                ):
                    await asyncio.sleep(0.02)
            await old.append_events([NewEvent("step", "the last word")], conn=connection)
        new = await taker
        assert new is not None
        async with new:
            kinds = [event.message for event in (await store.read_release(release)).events]
            assert kinds.index("the last word") < kinds.index(f"acquired the lease, epoch {new.epoch}")
            with pytest.raises(StaleEpoch):
                await old.check_lease()

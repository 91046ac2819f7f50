"""A command is stored once, however often it is sent, and not after its sender has given it up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from tests.support.store import ANA, open_store
from zdd_tui.backends.store import client
from zdd_tui.backends.store.delivery import deliver_command
from zdd_tui.model.errors import CommandNotSent, DatabaseError, DatabaseUnavailable
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind

ROLLBACK = CommandRequest(CommandKind.ROLLBACK, request_id="a1", confirmed_at=12.5)


async def test_a_retry_stores_no_second_row(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        sent = [await store.send_command(release_id, ROLLBACK, actor=ANA) for _ in range(3)]
        sent += await asyncio.gather(*(store.send_command(release_id, ROLLBACK, actor=ANA) for _ in range(2)))
        assert len(set(sent)) == 1
        other = await store.send_command(release_id, CommandRequest(CommandKind.PAUSE, request_id="a2"), actor=ANA)
        without_id = [await store.send_command(release_id, CommandRequest(CommandKind.PAUSE), actor=ANA) for _ in "ab"]
        assert len({*sent, other, *without_id}) == 4
        stored = (await store.read_command(sent[0])).request
        assert (stored.request_id, stored.confirmed_at) == ("a1", 12.5)
    assert await db.fetchval("SELECT count(*) FROM zdd.command") == 4


async def test_an_attempt_that_arrives_too_late_stores_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    now = await db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    async with open_store(pg_dsn) as (store, release_id):
        with pytest.raises(DatabaseUnavailable, match="after its sender had given it up"):
            await store.send_command(release_id, ROLLBACK, actor=ANA, valid_until=now - 1)
        assert await db.fetchval("SELECT count(*) FROM zdd.command") == 0
        await store.send_command(release_id, ROLLBACK, actor=ANA, valid_until=now + 60)
    assert await db.fetchval("SELECT args ? 'valid_until' FROM zdd.command") is False


async def test_a_statement_that_is_held_up_is_given_up_and_leaves_the_pool_usable(
    pg_dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a frozen server would hold it."""
    monkeypatch.setattr(client, "ATTEMPT_SECONDS", 0.4)
    async with open_store(pg_dsn) as (store, release_id):
        async with db.transaction():
            await db.execute("LOCK zdd.command IN ACCESS EXCLUSIVE MODE")
            for _ in range(3):  # more than the pool has sessions
                with pytest.raises(DatabaseUnavailable, match=r"does not respond within 0\.4 s"):
                    await store.send_command(release_id, ROLLBACK, actor=ANA, valid_until=0)
        await store.send_command(release_id, ROLLBACK, actor=ANA)
        assert await db.fetchval("SELECT count(*) FROM zdd.command") == 1


async def test_a_session_that_cannot_be_had_is_given_up_after_the_time_that_is_named(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ATTEMPT_SECONDS", 0.2)
    async with open_store(pg_dsn) as (store, release_id), AsyncExitStack() as stack:
        for _ in range(store.pool.get_max_size()):
            await stack.enter_async_context(store.pool.acquire())
        with pytest.raises(DatabaseUnavailable, match=r"does not respond within 0\.2 s"):
            await store.send_command(release_id, ROLLBACK, actor=ANA, valid_until=0)


def attempts(*outcomes: int | DatabaseError) -> Callable[[], Awaitable[int]]:
    left = list(outcomes)

    async def attempt() -> int:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, DatabaseError):
            raise outcome
        return outcome

    return attempt


async def test_it_is_retried_and_each_failure_is_reported() -> None:
    failures: list[DatabaseError] = []
    away = DatabaseUnavailable("db does not respond")
    assert await deliver_command(attempts(away, away, 7), failures.append) == 7
    assert failures == [away, away]


async def test_it_is_given_up_only_after_the_last_attempt_has_expired() -> None:
    loop, failures = asyncio.get_running_loop(), list[DatabaseError]()
    started = loop.time()
    away = DatabaseUnavailable("db does not respond")
    with pytest.raises(CommandNotSent, match="db does not respond; given up after 1 s"):
        await deliver_command(attempts(away), failures.append, retry_seconds=1.0, valid_seconds=1.5)
    assert loop.time() - started >= 1.5
    assert failures


async def test_a_refusal_is_not_retried() -> None:
    failures: list[DatabaseError] = []
    with pytest.raises(DatabaseError, match="may not send"):
        await deliver_command(attempts(DatabaseError("this role may not send commands")), failures.append)
    assert failures == []

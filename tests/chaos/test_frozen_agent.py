"""A frozen agent loses its lease within 5 s, and when it wakes nothing that it does reaches the database."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.support.store import OTHER, open_store
from zdd_tui.backends.store.agent import AgentStore, acquire_lease

pytestmark = pytest.mark.chaos

TAKEOVER_SECONDS = 5.0
"""The budget of design section 10."""


class FrozenAgent:
    """The agent in a process of its own; it speaks JSON lines and goes on when it is spoken to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read_message(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the agent ended too early"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    async def resume(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()
        os.kill(self._process.pid, signal.SIGCONT)

    async def end(self) -> dict[str, str | None]:
        """What each attempt raised, until the end."""
        raised: dict[str, str | None] = {}
        while "end" not in (heard := await self.read_message()):
            if "tried" in heard:
                raised[heard["tried"]] = heard["raised"]
            else:
                assert heard["remaining"] < 0, "the woken agent must know without asking that its lease may be over"
        assert await self._process.wait() == 0
        return raised


@contextlib.asynccontextmanager
async def start_frozen_agent(dsn: str, release: int, moment: str) -> AsyncIterator[FrozenAgent]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.chaos.frozen_agent",
        str(release),
        moment,
        env={**os.environ, "DSN": dsn},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield FrozenAgent(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def take_over(dsn: str, release: int) -> AgentStore:
    """As an agent that stands by does it: again and again."""
    began = time.monotonic()
    while True:
        agent = await acquire_lease(dsn, release, OTHER)
        if agent is not None:
            assert time.monotonic() - began < TAKEOVER_SECONDS
            return agent
        assert time.monotonic() - began < TAKEOVER_SECONDS, "nobody could take over in time"
        await asyncio.sleep(0.2)  # the lease runs out by the server's clock: there is no event to wait for


async def state_of(db: asyncpg.Connection) -> dict[str, Any]:
    tables = ("zdd.release", "zdd.step", "zdd.command", "zdd.gate", "zdd.event", "users")
    state: dict[str, Any] = {table: await db.fetch(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables}
    state["columns"] = await db.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'users' ORDER BY 1"
    )
    return state


async def users(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE users AS SELECT id, 'as it was' AS name FROM generate_series(1, 3) id")


async def queue_command(db: asyncpg.Connection, release: int) -> None:
    await db.execute(
        "INSERT INTO zdd.command (release_id, kind, actor, host) VALUES ($1, 'advance', 'ana', 'here')", release
    )


async def _check_writes_refused(
    pg_dsn: str, db: asyncpg.Connection, moment: str
) -> tuple[dict[str, str | None], list[asyncpg.Record]]:
    await users(db)
    async with open_store(pg_dsn) as (store, release), start_frozen_agent(pg_dsn, release, moment) as frozen:
        await queue_command(db, release)
        epoch = (await frozen.read_message())["epoch"]
        if moment == "transaction":
            assert await frozen.read_message() == {"holds": "locks"}
        frozen.freeze()
        async with await take_over(pg_dsn, release) as agent:
            assert agent.epoch > epoch
            # Its locks are gone with it: this needs the one that the frozen transaction held.
            async with agent.fenced() as connection:
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.execute("ALTER TABLE users ADD taken_over text")
            before = await state_of(db)
            await frozen.resume()
            raised = await frozen.end()
            assert await state_of(db) == before
            await agent.renew_lease()
            lease = await store.read_lease(release)
            assert lease is not None
            assert (lease.epoch, lease.holder, lease.is_live) == (agent.epoch, "agent", True)
        return raised, await db.fetch("SELECT DISTINCT name FROM users")


ATTEMPTS = {
    "save",
    "save_step_note",
    "save_gates",
    "complete_command",
    "append_events",
    "check_lease",
    "renew_lease",
    "unfenced",
}


def _check_all_refused(raised: dict[str, str | None]) -> None:
    assert raised.pop("release_lease") is None, "what is lost already need not be given back"
    assert set(raised) == ATTEMPTS
    wrong = {name: kind for name, kind in raised.items() if kind not in ("StaleEpoch", "DatabaseUnavailable")}
    assert not wrong
    # After the first contact it is not only told that a session broke, but why.
    assert {raised[name] for name in ATTEMPTS - {"save", "save_step_note"}} == {"StaleEpoch"}


async def test_frozen_while_idle(pg_dsn: str, db: asyncpg.Connection) -> None:
    raised, names = await _check_writes_refused(pg_dsn, db, "idle")
    _check_all_refused(raised)
    assert [row["name"] for row in names] == ["as it was"]


async def test_frozen_in_the_middle_of_a_fenced_transaction(pg_dsn: str, db: asyncpg.Connection) -> None:
    raised, names = await _check_writes_refused(pg_dsn, db, "transaction")
    assert raised.pop("transaction") == "DatabaseUnavailable"
    _check_all_refused(raised)
    assert [row["name"] for row in names] == ["as it was"]


async def test_the_server_alone_ends_a_frozen_transaction(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Whoever takes over may lack the right to end its sessions: idle_in_transaction_session_timeout does it then."""
    await users(db)
    async with open_store(pg_dsn) as (_store, release), start_frozen_agent(pg_dsn, release, "transaction") as frozen:
        epoch = (await frozen.read_message())["epoch"]
        await frozen.read_message()
        frozen.freeze()
        name = f"zdd agent {release} {epoch}"
        async with asyncio.timeout(TAKEOVER_SECONDS):
            while await db.fetchval(  # noqa: ASYNC110  what the server does by itself sends no event
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND xact_start IS NOT NULL", name
            ):
                await asyncio.sleep(0.05)
        await db.execute("SET lock_timeout = '1s'")
        assert await db.fetchval("SELECT count(*) FROM users WHERE name <> 'as it was'") == 0

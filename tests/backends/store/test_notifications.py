"""Notifications of changes: every write is reported, and a lost server is only an interruption."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.store import ANA, all_error_text, open_store, password_of, register_release
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind
from zdd_tui.testbed.servers import postgres_server


async def test_every_write_notifies_with_the_id_only(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (_store, release_id):
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener = await asyncpg.connect(pg_dsn)
        await listener.add_listener("zdd", lambda *output: heard.put_nowait(output[-1]))
        for statement in (
            "INSERT INTO zdd.command (release_id, kind, actor, host) VALUES ($1, 'pause', 'a', 'h')",
            "UPDATE zdd.command SET status = 'done' WHERE release_id = $1",
            "UPDATE zdd.release SET paused = true WHERE id = $1",
            "UPDATE zdd.step SET note = 'x' WHERE release_id = $1",
            "INSERT INTO zdd.gate VALUES ($1, 'g', 'pass', '', now(), 10)",
            "UPDATE zdd.gate SET verdict = 'fail' WHERE release_id = $1",
            "INSERT INTO zdd.event (release_id, actor, host, kind, message) VALUES ($1, 'a', 'h', 'k', 'w')",
            "INSERT INTO zdd.lease VALUES ($1, 1, 'a', 'h', 1, 3)",
            "UPDATE zdd.lease SET epoch = 2 WHERE release_id = $1",
            "UPDATE zdd.lease SET holder = '' WHERE release_id = $1",
            "INSERT INTO zdd.backfill (release_id, status) VALUES ($1, 'running')",
            "UPDATE zdd.backfill SET rows_done = 5 WHERE release_id = $1",
            "INSERT INTO zdd.failed_row (release_id, key, reason) VALUES ($1, '[]', 'r')",
            "INSERT INTO zdd.mismatch (release_id, key) VALUES ($1, '[]')",
        ):
            await db.execute(statement, release_id)
            async with asyncio.timeout(5):
                assert await heard.get() == str(release_id), statement
        # A renewal does not notify: the next notification is the one after it.
        await db.execute("UPDATE zdd.lease SET renewed_at = now() WHERE release_id = $1", release_id)
        await db.execute("SELECT pg_notify('zdd', 'after')")
        assert await heard.get() == "after"
        await listener.close()


async def test_changes_of_this_release_are_received_and_coalesced(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with open_store(pg_dsn) as (store, release_id):
        other = await register_release(store, pg_dsn, name="other")
        states: list[tuple[bool, str]] = []
        async with (
            asyncio.timeout(10),
            aclosing(store.watch_changes(release_id, on_connection=lambda *output: states.append(output))) as changes,
        ):
            await anext(changes)
            assert states == [(True, "")]
            for _ in range(20):
                await db.execute("UPDATE zdd.release SET paused = NOT paused WHERE id = $1", release_id)
            # All twenty are sent before the next ping of the listener.
            await store.read_release(release_id)
            await anext(changes)
            waiting = asyncio.create_task(anext(changes))
            await db.execute("UPDATE zdd.release SET paused = true WHERE id = $1", other)
            await db.execute("SELECT pg_notify('zdd', '12345')")
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            # At most the tail of the twenty can still have come; another release's changes never do.
            if done:
                waiting = asyncio.create_task(anext(changes))
                await db.execute("UPDATE zdd.release SET paused = true WHERE id = $1", other)
                done, _ = await asyncio.wait({waiting}, timeout=0.3)
                assert not done
            await db.execute("UPDATE zdd.release SET paused = true WHERE id = $1", release_id)
            await waiting


async def test_the_idle_timeout_yields_without_changes(pg_dsn: str) -> None:
    async with (
        asyncio.timeout(5),
        open_store(pg_dsn) as (store, release_id),
        aclosing(store.watch_changes(release_id, idle_timeout=0.05)) as changes,
    ):
        for _ in range(4):
            await anext(changes)


async def test_changes_survive_the_server(server_folder: Path) -> None:
    async with (
        postgres_server(server_folder / "restarted-store") as server,
        open_store(server.dsn) as (store, release_id),
    ):
        states: list[tuple[bool, str]] = []
        lost, back = asyncio.Event(), asyncio.Event()

        def on_state(connected: bool, error: str) -> None:
            states.append((connected, error))
            if not connected:
                lost.set()
            elif lost.is_set():
                back.set()

        async with asyncio.timeout(30), aclosing(store.watch_changes(release_id, on_connection=on_state)) as changes:
            await anext(changes)
            following = asyncio.create_task(anext(changes))
            await server.kill()
            await lost.wait()
            with pytest.raises(DatabaseError) as caught:
                await store.read_release(release_id)
            assert password_of(server.dsn) not in all_error_text(caught.value)
            await server.start()
            await following
            assert back.is_set()
            await store.send_command(release_id, CommandRequest(CommandKind.PAUSE), actor=ANA)
            await anext(changes)
            assert len((await store.read_release(release_id)).commands) == 1
        assert states[0] == (True, "")
        assert states[-1] == (True, "")
        gone = [error for connected, error in states if not connected]
        assert gone
        assert all(urlsplit(server.dsn).hostname in error for error in gone)
        assert password_of(server.dsn) not in json.dumps(states)


async def test_an_ended_session_is_opened_again(pg_dsn: str, db: asyncpg.Connection) -> None:
    async with (
        asyncio.timeout(10),
        open_store(pg_dsn) as (store, release_id),
        aclosing(store.watch_changes(release_id)) as changes,
    ):
        await anext(changes)
        ended = await db.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert ended >= 2
        await anext(changes)
        assert (await store.read_release(release_id)).id == release_id

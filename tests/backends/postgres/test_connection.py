"""Every connection failure has one sentence with the server and a hint, and shows no secret."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.store import all_error_text, password_of
from zdd_tui.backends.postgres.connection import UNPARSABLE_DSN_TEXT, connect, create_pool, describe_dsn
from zdd_tui.backends.store.client import Store
from zdd_tui.model.errors import DatabaseError
from zdd_tui.testbed.processes import free_port

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        (f"postgresql://ana:{SECRET}@db.example:6543/shop", "ana@db.example:6543/shop"),
        (f"postgres://ana:{SECRET}@db.example/shop?sslmode=require", "ana@db.example:5432/shop"),
        (f"postgresql://ana:{SECRET}@[::1]:6543/shop", "ana@[::1]:6543/shop"),
        (f"postgresql://ana:{SECRET}@a:1,b/shop", "ana@a:1,b:5432/shop"),
        (f"postgresql:///shop?user=ana&password={SECRET}&host=/run/postgresql", "ana@/run/postgresql/shop"),
        (f"postgresql://ana:p@{SECRET}@db/shop", "ana@db:5432/shop"),
        ("postgresql://ana%40corp@db/shop", "ana@corp@db:5432/shop"),
        # A password that was not escaped: parts of it pass for host, port or database.
        (f"postgresql://ana:12/{SECRET}@db/shop", UNPARSABLE_DSN_TEXT),
        (f"postgresql://ana:12?{SECRET}@db/shop", UNPARSABLE_DSN_TEXT),
        (f"postgresql://ana:12#{SECRET}@db/shop", UNPARSABLE_DSN_TEXT),
        (f"postgresql://ana:{SECRET}/x", UNPARSABLE_DSN_TEXT),
        (f"host=db user=ana password={SECRET}", UNPARSABLE_DSN_TEXT),
        (f"postgresql://ana:{SECRET}@[db/shop", UNPARSABLE_DSN_TEXT),
    ],
)
def test_a_dsn_is_described_without_its_password(dsn: str, expected: str) -> None:
    assert describe_dsn(dsn) == expected
    assert SECRET not in describe_dsn(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://ana:{SECRET}#x@localhost/shop",
        f"postgresql://ana:{SECRET}/x@localhost/shop",
        f"postgresql://ana:{SECRET}@localhost:port/shop",
        f"postgresql://ana:{SECRET}@localhost:99999/shop",
        f"postgresql://ana:{SECRET}@localhost/shop?sslmode={SECRET}",
        f"postgresql://ana:{SECRET}@localhost/shop?sslmode=verify-full&sslrootcert=/nowhere.pem",
        f"mysql://ana:{SECRET}@localhost/shop",
        f"{SECRET}",
        "",
    ],
)
async def test_a_bad_dsn_is_refused_without_being_quoted(dsn: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        await Store.open(dsn)
    assert SECRET not in all_error_text(caught.value)
    assert caught.value.hint


def _changed(dsn: str, *, user: str = "", password: str = "", port: int = 0, database: str = "") -> str:
    parts = urlsplit(dsn)
    login = f"{user or parts.username}:{password or parts.password}"
    return f"postgresql://{login}@127.0.0.1:{port or parts.port}/{database or parts.path[1:]}"


async def _refused(dsn: str, *words: str) -> DatabaseError:
    for attempt in (connect(dsn, application_name="test", timeout=2), create_pool(dsn, "test", timeout=2)):
        with pytest.raises(DatabaseError) as caught:
            await attempt
        error = caught.value
        assert password_of(dsn) not in all_error_text(error)
        assert f":{urlsplit(dsn).port}/" in error.title
        assert error.hint
        for word in words:
            assert word in error.title
    return error


async def test_wrong_password_role_and_database(pg_dsn: str) -> None:
    await _refused(_changed(pg_dsn, password=SECRET), "does not accept the password of role postgres")
    await _refused(_changed(pg_dsn, user="nobody_here"), "nobody_here")
    await _refused(_changed(pg_dsn, database="not_there"), "/not_there", "does not exist")


async def test_connection_refused(pg_dsn: str) -> None:
    error = await _refused(_changed(pg_dsn, port=free_port()), "refuses connections")
    assert error.exit_code == 2


async def test_unknown_host() -> None:
    await _refused(f"postgresql://ana:{SECRET}@no-such-host.invalid:5432/shop", "does not resolve")


async def test_a_server_without_tls(pg_dsn: str) -> None:
    await _refused(pg_dsn + "?sslmode=require", "TLS")


async def test_too_many_connections(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(f"CREATE ROLE crowded LOGIN PASSWORD '{SECRET}' CONNECTION LIMIT 0")
    try:
        await _refused(_changed(pg_dsn, user="crowded", password=SECRET), "no free connection")
    finally:
        await db.execute("DROP ROLE crowded")


@asynccontextmanager
async def _serve_reply(reply: bytes | None) -> AsyncIterator[int]:
    """A server that sends something that is not PostgreSQL, or (None) nothing at all."""
    held = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        if reply is not None:
            await reader.read(8)
            writer.write(reply)
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        await asyncio.sleep(0.05)  # a connection that was accepted just now is served, and held, only then
        for writer in held:
            writer.close()


async def test_a_server_that_never_answers() -> None:
    async with _serve_reply(None) as port:
        dsn = f"postgresql://ana:{SECRET}@127.0.0.1:{port}/shop"
        with pytest.raises(DatabaseError, match=r"does not respond within 0\.2 s") as caught:
            await connect(dsn, application_name="test", timeout=0.2)
    assert SECRET not in all_error_text(caught.value)


async def test_a_server_that_is_not_postgresql() -> None:
    async with _serve_reply(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        dsn = f"postgresql://ana:{SECRET}@127.0.0.1:{port}/shop"
        with pytest.raises(DatabaseError) as caught:
            await connect(dsn, application_name="test", timeout=2)
    assert SECRET not in all_error_text(caught.value)
    assert str(port) in caught.value.title


async def test_a_pooler_that_rejects_startup_parameters_is_named() -> None:
    body = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: application_name\0\0"
    async with _serve_reply(b"E" + (len(body) + 4).to_bytes(4, "big") + body) as port:
        dsn = f"postgresql://ana:{SECRET}@127.0.0.1:{port}/shop?sslmode=disable"
        with pytest.raises(DatabaseError, match="pooler in transaction mode"):
            await connect(dsn, application_name="test", timeout=2)


async def test_settings_and_name_reach_the_session(pg_dsn: str) -> None:
    pool = await create_pool(pg_dsn, "zdd test", idle_in_transaction_ms=1234, lock_timeout="200ms")
    async with pool:
        row = await pool.fetchrow(
            "SELECT current_setting('application_name'), current_setting('lock_timeout'),"
            " current_setting('idle_in_transaction_session_timeout')"
        )
        assert row is not None
        assert tuple(row) == ("zdd test", "200ms", "1234ms")

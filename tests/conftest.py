"""Real servers for every test that asks for one: started once a session, a fresh database for each test.

The fixtures are synchronous, so that the scope of a test's event loop does not matter to them.
"""

import asyncio
import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis

from zdd_tui.backends.store.client import Store
from zdd_tui.testbed.servers import PostgresServer, RedisServer

pytest_plugins = ["tests.support.sample_pods"]

# Several hundred processes of ours are started: none shall compile the same hundred modules again, also where whoever
# runs the tests (an image that is built in layers, usually) has told Python to write no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell without job control has its background jobs ignore ctrl-c, and every program that they start: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG_TIMEOUT = 120.0
"""Seconds. Tests with such a timeout or a longer one run whole releases, and wait for pods most of the time."""
LAST_LONG_SHARE = 0.7
"""The share of the short tests that has begun with the last long one, so that none of those runs alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests are spread among the short ones, the longest first.

    Long ones wait, short ones compute: side by side they use the processor better than one kind after the other.
    """

    def timeout_of(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker is not None and marker.args else 0.0

    long = sorted((item for item in items if timeout_of(item) >= LONG_TIMEOUT), key=timeout_of, reverse=True)
    short = [item for item in items if timeout_of(item) < LONG_TIMEOUT]
    ordered, begun = [], 0
    for number, item in enumerate(long, 1):
        ordered.append(item)
        until = int(LAST_LONG_SHARE * len(short) * number / len(long))
        ordered += short[begun:until]
        begun = until
    items[:] = ordered + short[begun:]


def pytest_collection_finish() -> None:
    """A collection of garbage does not read some 400,000 objects again that stay until the end, and is rarer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="zdd-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def pg(server_folder: Path) -> Iterator[PostgresServer]:
    """The session's PostgreSQL. A test that kills its server starts one of its own (``postgres_server``)."""
    server = PostgresServer(server_folder / "postgres")
    asyncio.run(server.start())
    try:
        asyncio.run(_admin(server, "CREATE DATABASE zdd_template", "ALTER DATABASE zdd_template IS_TEMPLATE true"))
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture(scope="session")
def redis_instance(server_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(server_folder / "redis")
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture(scope="session")
def migrated_template(pg: PostgresServer) -> str:
    """The name of a template database with the zdd schema in it, whose creation takes 0.1 s of CPU."""
    name = "zdd_migrated_template"

    async def migrate() -> None:
        async with await Store.open(pg.dsn_for(name)) as store:
            await store.migrate()

    asyncio.run(_admin(pg, f"CREATE DATABASE {name}"))
    asyncio.run(migrate())
    asyncio.run(_admin(pg, f"ALTER DATABASE {name} IS_TEMPLATE true"))
    return name


@pytest.fixture
def pg_dsn(pg: PostgresServer) -> Iterator[str]:
    """The DSN (superuser, with password) of an empty database that is dropped after the test."""
    with create_database(pg, "zdd_template") as dsn:
        yield dsn


@contextmanager
def create_database(pg: PostgresServer, template: str) -> Iterator[str]:
    """The DSN of a copy of a template, dropped at the end."""
    name = f"test_{secrets.token_hex(4)}"
    # By files: it takes a quarter of the CPU of a copy through the WAL, and the checkpoint flushes nothing here.
    asyncio.run(_admin(pg, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
    try:
        yield pg.dsn_for(name)
    finally:
        asyncio.run(_admin(pg, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
async def db(pg_dsn: str):  # type: ignore[no-untyped-def]
    """A connection to the test's database."""
    connection = await asyncpg.connect(pg_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def redis_url(redis_instance: RedisServer) -> str:
    """The URL (with password) of an empty Redis."""
    with redis.Redis.from_url(redis_instance.url) as client:
        client.flushall()
    return redis_instance.url


async def _admin(server: PostgresServer, *statements: str) -> None:
    connection = await asyncpg.connect(server.dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()

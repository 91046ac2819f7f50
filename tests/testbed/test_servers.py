"""The embedded servers: they ask for a password, come back with their data, and end with their parent."""

import asyncio
import signal
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from zdd_tui.testbed.processes import scratch_folder
from zdd_tui.testbed.servers import postgres_server, redis_server


async def test_postgres_survives_a_kill_with_its_port_password_and_data(server_folder: Path) -> None:
    async with postgres_server(server_folder / "killed") as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
        before = server.dsn
        await server.kill()
        assert server.pid is None
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        connection.terminate()
        await server.start()
        assert server.dsn == before
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("SELECT seven FROM kept") == 7
        await connection.close()


async def test_postgres_refuses_a_wrong_password(pg_dsn: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(pg_dsn, password="wrong")


async def test_redis_refuses_strangers_and_restarts_on_its_port(server_folder: Path) -> None:
    async with redis_server(server_folder / "restarted") as server:
        url = server.url
        stranger = redis.asyncio.Redis(port=server.port, retry=Retry(NoBackoff(), 0))
        with pytest.raises(redis.AuthenticationError):
            await stranger.ping()
        await stranger.aclose()
        await server.kill()
        assert server.pid is None
        await server.start()
        assert server.url == url
        client = redis.asyncio.Redis.from_url(url)
        assert await client.ping()
        await client.aclose()


OWNER = """
import asyncio, sys
from pathlib import Path
from zdd_tui.testbed.processes import scratch_folder
from zdd_tui.testbed.servers import postgres_server, redis_server
async def main():
    async with postgres_server(Path(sys.argv[1]) / "pg") as pg, redis_server(Path(sys.argv[1])) as store:
        print(pg.pid, store.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_servers_end_when_their_parent_is_killed(server_folder: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(server_folder / "orphans"), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    processes = [psutil.Process(int(pid)) for pid in (await owner.stdout.readline()).split()]
    family = [*processes, *processes[0].children(recursive=True)]
    assert len(family) > 3
    owner.kill()
    await owner.wait()
    async with asyncio.timeout(10):
        while any(map(_lives, family)):  # noqa: ASYNC110  not our children, so there is no event
            await asyncio.sleep(0.02)


def test_secrets_stand_on_no_command_line(pg_dsn: str, redis_url: str) -> None:
    secrets = [text.split(":")[2].split("@")[0] for text in (pg_dsn, redis_url)]
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        assert not any(secret in line for secret in secrets)


def test_a_signal_deletes_the_scratch_folder() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), scratch_folder("zdd-test-") as folder:
        signal.raise_signal(signal.SIGTERM)
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_scratch_folder_can_be_kept() -> None:
    with scratch_folder("zdd-test-", keep=True) as folder:
        pass
    folder.rmdir()

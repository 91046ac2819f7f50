"""The shipped users of Redis (config/redis/acl), on a real server: all that is needed, and no more (case C2)."""

import asyncio
import secrets
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from tests.support.least_privilege import read_redis_users, redis_url_for
from zdd_tui.backends.redis_flags import AGENT_COMMANDS, FlagStore
from zdd_tui.model.errors import FlagStoreError
from zdd_tui.model.flag import ON, FlagValue
from zdd_tui.service.flags import FlagClient
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import _redis_binary

PASSWORD = secrets.token_urlsafe(12)


@pytest.fixture
async def url(redis_url: str):  # type: ignore[no-untyped-def]
    async with Redis.from_url(redis_url) as admin:
        for user, rules in read_redis_users(PASSWORD).items():
            await admin.execute_command("ACL", "SETUSER", user, "reset", *rules)
        yield redis_url
        await admin.execute_command("ACL", "DELUSER", *read_redis_users(PASSWORD))


async def test_c2_every_command_of_steps_and_undos(url: str) -> None:
    async with await FlagStore.connect(redis_url_for(url, "zdd-agent", PASSWORD)) as flags:
        await flags.set("new_write", ON, epoch=1)
        await flags.set("new_write", FlagValue(25), epoch=2)
        assert await flags.read(["new_write"]) == {"new_write": FlagValue(25)}
        await flags.delete("new_write", epoch=3)
        await flags.expire_fences(["new_write"])
    async with Redis.from_url(url) as admin:
        assert 0 < await admin.ttl("zdd:epoch:new_write") <= 86_400


async def test_the_agent_reaches_no_other_key_and_no_other_command(url: str) -> None:
    async with Redis.from_url(redis_url_for(url, "zdd-agent", PASSWORD)) as client:
        for command in (
            ("SET", "session:1", "x"),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("CONFIG", "SET", "save", ""),
            ("ACL", "LIST"),
        ):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*command)


@pytest.mark.parametrize("user", ["zdd-viewer", "zdd-app"])
async def test_others_read_flags_and_write_none(url: str, user: str) -> None:
    async with await FlagStore.connect(redis_url_for(url, user, PASSWORD)) as flags:
        assert await flags.read_raw(["new_write"]) == {"new_write": None}
        with pytest.raises(FlagStoreError, match="forbids a command") as caught:
            await flags.set("new_write", ON, epoch=1)
        for command in AGENT_COMMANDS:
            assert f"+{command.lower()}" in caught.value.hint


async def test_the_applications_client_hears_of_changes_at_once(url: str) -> None:
    async with (
        FlagClient(redis_url_for(url, "zdd-app", PASSWORD), ["k"], max_staleness=600) as flags,
        Redis.from_url(url) as admin,
    ):
        await admin.set("ff:k", "false")
        await flags.wait_loaded()
        async with asyncio.timeout(10):  # the poll comes after five minutes
            for value in ("true", "false", "true"):
                await admin.set("ff:k", value)
                while flags.is_on("k", 1) is not (value == "true"):  # noqa: ASYNC110 - a push of another process
                    await asyncio.sleep(0.01)


def test_the_file_and_the_hint_are_one_list() -> None:
    """Whatever the code asks for is granted; what else is granted only reads."""
    granted = {rule[1:].upper() for rule in read_redis_users(PASSWORD)["zdd-agent"] if rule.startswith("+")}
    assert set(AGENT_COMMANDS) <= granted
    assert granted - set(AGENT_COMMANDS) == {
        *("HELLO", "SELECT", "INFO", "ROLE", "CONFIG|GET", "CLIENT|LIST", "CLIENT|TRACKING")
    }


async def test_the_file_loads_as_it_is_shipped_and_lets_nobody_in(tmp_path: Path) -> None:
    port = free_port()
    acl = Path(__file__).parents[2] / "config" / "redis" / "acl"
    settings = f"bind 127.0.0.1\nport {port}\nsave ''\ninclude {acl}\n"
    server = await asyncio.create_subprocess_exec(
        str(_redis_binary()), "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(settings.encode())
    server.stdin.close()
    try:
        async with asyncio.timeout(20):
            async for line in server.stdout:
                if b"eady to accept connections" in line:
                    break
        async with Redis(port=port) as admin:
            assert set(await admin.acl_users()) == {"default", "zdd-agent", "zdd-viewer", "zdd-app"}
        for password in ("", "0" * 64, "zdd-agent"):
            async with Redis(port=port, username="zdd-agent", password=password, retry=Retry(NoBackoff(), 0)) as client:
                with pytest.raises(RedisError):
                    await client.ping()
    finally:
        server.kill()
        await server.wait()

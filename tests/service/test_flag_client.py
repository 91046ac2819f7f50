"""The flag client on a real Redis: fresh, fail static, reconnect."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis.asyncio

from zdd_tui.service.flags import FlagClient, FlagState, bucket
from zdd_tui.testbed.servers import RedisServer, redis_server


async def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what we wait for is another process's doing
            await asyncio.sleep(0.002)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    client = redis.asyncio.Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def server(server_folder: Path) -> AsyncIterator[RedisServer]:
    """A Redis of its own, for tests that kill it."""
    async with redis_server(server_folder / "flags") as server:
        yield server


async def test_values_and_their_problems(redis_url: str, client: "redis.asyncio.Redis") -> None:
    await client.mset({"ff:on": "true", "ff:half": "50%", "ff:bad": "maybe", "ff:off": "false"})
    keys = ["on", "half", "bad", "off", "absent"]
    async with FlagClient(redis_url, keys, defaults={"bad": 100, "off": 100}, optional=["bad", "absent"]) as flags:
        await flags.wait_loaded()
        assert flags.snapshot().flags == {
            "on": FlagState(100),
            "half": FlagState(50),
            "bad": FlagState(100, "not a flag's value: 'maybe'"),
            "off": FlagState(0),
            "absent": FlagState(0, "missing"),
        }


async def test_a_change_arrives_by_push_long_before_the_poll(redis_url: str, client: "redis.asyncio.Redis") -> None:
    await client.set("ff:k", "false")
    async with FlagClient(redis_url, ["k"], max_staleness=600) as flags:
        await flags.wait_loaded()
        async with asyncio.timeout(5):  # the poll comes after five minutes
            # The first push may precede the tracking; from the second on, each must arrive.
            for value in ("true", "false", "true", "false", "true"):
                await client.set("ff:k", value)
                await wait_until(lambda expected=value == "true": flags.is_on("k", 1) is expected)  # type: ignore[misc]


async def test_without_tracking_polling_keeps_the_bound(redis_url: str, client: "redis.asyncio.Redis") -> None:
    await client.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-client")
    try:
        await client.set("ff:k", "false")
        host = redis_url.partition("@")[2]
        async with FlagClient(f"redis://plain:pw@{host}", ["k"], max_staleness=0.4) as flags:
            await flags.wait_loaded()
            await client.set("ff:k", "true")
            await wait_until(lambda: flags.is_on("k", 1))
            assert flags.age is not None
            assert flags.age < 0.4
    finally:
        await client.execute_command("ACL", "DELUSER", "plain")


async def test_a_lost_redis_keeps_the_last_values_and_a_new_one_is_used(server: RedisServer) -> None:
    client = redis.asyncio.Redis.from_url(server.url)
    await client.set("ff:k", "true")
    async with FlagClient(server.url, ["k"], max_staleness=0.2) as flags:
        await flags.wait_loaded()
        await server.kill()
        lost = time.monotonic()
        await wait_until(lambda: (flags.age or 0) > 0.8)
        assert flags.age == pytest.approx(time.monotonic() - lost, abs=0.4)
        assert flags.is_on("k", 1)
        assert flags.snapshot().flags["k"] == FlagState(100)

        await server.start()  # empty: its data is gone
        await wait_until(lambda: flags.snapshot().flags["k"] == FlagState(100, "missing"))
        assert flags.is_on("k", 1)
        await client.connection_pool.disconnect()
        await client.set("ff:k", "garbage")
        await wait_until(lambda: "garbage" in flags.snapshot().flags["k"].problem)
        assert flags.is_on("k", 1)
        await client.set("ff:k", "false")
        await wait_until(lambda: flags.snapshot().flags["k"] == FlagState(0))
        # The push works again too, not only the poll.
        await wait_until(lambda: (flags.age or 9) < 0.2)
    await client.aclose()


async def test_a_redis_that_hangs_is_a_lost_one(server: RedisServer) -> None:
    client = redis.asyncio.Redis.from_url(server.url)
    await client.set("ff:k", "true")
    assert server.pid is not None
    async with FlagClient(server.url, ["k"], max_staleness=0.2) as flags:
        await flags.wait_loaded()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await wait_until(lambda: (flags.age or 0) > 0.6)
            assert flags.is_on("k", 1)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await wait_until(lambda: (flags.age or 9) < 0.2)
    await client.aclose()


async def test_it_starts_without_redis_and_waits_for_it(server: RedisServer) -> None:
    await server.kill()
    async with FlagClient(server.url, ["k"], max_staleness=0.2, defaults={"k": 100}) as flags:
        assert flags.is_on("k", 1)
        assert not flags.is_loaded
        await server.start()
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.set("ff:k", "true")
        async with asyncio.timeout(10):
            await flags.wait_loaded()


async def test_case_a3_a_process_that_finds_a_declared_flag_missing_is_not_loaded(
    redis_url: str, client: "redis.asyncio.Redis"
) -> None:
    await client.set("ff:write", "true")
    async with FlagClient(redis_url, ["write", "read"], max_staleness=0.2) as flags:
        await wait_until(lambda: flags.snapshot().flags["read"].problem == "missing")
        assert not flags.is_loaded, "the read flag is only a default"
        await client.set("ff:read", "maybe")
        await wait_until(lambda: "maybe" in flags.snapshot().flags["read"].problem)
        assert not flags.is_loaded
        await client.set("ff:read", "false")
        await flags.wait_loaded()
        await client.flushall()
        await wait_until(lambda: flags.snapshot().flags["write"].problem == "missing")
        assert flags.is_loaded, "a process that has read the flags keeps its values and stays in rotation"
        assert flags.is_on("write", 1)


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "unit", ["\ud800", "a\udfffb", 10**5000, None, _Unprintable()], ids=["surrogate", "inside", "long", "none", "error"]
)
def test_d_a_bad_unit_gets_the_default(unit: object) -> None:
    flags = FlagClient("redis://unused", ["half", "on", "off", "sure"], defaults={"sure": 100})
    flags._apply_values(["50", "true", "false", "50"], 0.0)
    assert [flags.is_on(key, unit) for key in ("half", "on", "off", "sure")] == [False, True, False, True]  # type: ignore[arg-type]


def test_ordinary_units_are_as_before() -> None:
    flags = FlagClient("redis://unused", ["half"])
    flags._apply_values(["50"], 0.0)
    for unit in ("ana", "", 7, -1, "\N{SNOWMAN}" * 100_000):
        assert flags.is_on("half", unit) is (bucket("half", str(unit)) < 50)
    with pytest.raises(KeyError):
        flags.is_on("other", "\ud800")

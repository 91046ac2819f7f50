"""Flags on a real Redis: values, fences, and errors that name the place but no secret."""

import asyncio
import contextlib

import pytest
import redis

from zdd_tui.backends.redis_flags import FlagStore, describe_redis_url
from zdd_tui.model.errors import FlagStoreError, StaleEpoch
from zdd_tui.model.flag import OFF, ON, FlagValue

KEYS = ("users_write", "users_read")


@pytest.fixture
async def flags(redis_url: str):  # type: ignore[no-untyped-def]
    async with await FlagStore.connect(redis_url) as store:
        yield store


async def test_values_are_read_as_written(flags: FlagStore) -> None:
    assert await flags.read(KEYS) == {"users_write": None, "users_read": None}
    await flags.set("users_write", ON, epoch=1)
    await flags.set("users_read", FlagValue(25), epoch=1)
    assert await flags.read(KEYS) == {"users_write": ON, "users_read": FlagValue(25)}
    await flags.delete("users_read", epoch=1)
    await flags.delete("users_read", epoch=1)
    assert (await flags.read(KEYS))["users_read"] is None
    assert await flags.read(()) == {}


async def test_an_older_epoch_is_refused_and_changes_nothing(flags: FlagStore) -> None:
    await flags.set("users_write", ON, epoch=7)
    with pytest.raises(StaleEpoch, match="epoch 7; this agent has epoch 6"):
        await flags.set("users_write", OFF, epoch=6)
    with pytest.raises(StaleEpoch):
        await flags.delete("users_write", epoch=6)
    assert (await flags.read(["users_write"]))["users_write"] == ON
    await flags.set("users_write", OFF, epoch=8)
    assert (await flags.read(["users_write"]))["users_write"] == OFF


async def test_a_deleted_flag_keeps_its_fence_for_a_day(flags: FlagStore, redis_url: str) -> None:
    await flags.set("users_write", ON, epoch=9)
    await flags.delete("users_write", epoch=9)
    with pytest.raises(StaleEpoch):
        await flags.set("users_write", ON, epoch=3)
    await flags.expire_fences(KEYS)
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == [b"zdd:epoch:users_write"]
        assert 0 < client.ttl("zdd:epoch:users_write") <= 86_400


async def test_of_two_concurrent_writers_the_newer_one_wins(flags: FlagStore) -> None:
    async def write(epoch: int) -> None:
        with contextlib.suppress(StaleEpoch):
            await flags.set("users_write", FlagValue(epoch), epoch=epoch)

    await asyncio.gather(*(write(epoch) for epoch in range(50, 0, -1)), *(write(epoch) for epoch in range(1, 51)))
    assert (await flags.read(["users_write"]))["users_write"] == FlagValue(50)


async def test_an_invalid_value_is_named(flags: FlagStore, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("ff:users_read", "maybe")
    assert (await flags.read_raw(KEYS))["users_read"] == "maybe"
    with pytest.raises(FlagStoreError, match=r"ff:users_read.*'maybe'"):
        await flags.read(KEYS)


async def test_errors_name_the_address_and_no_secret(redis_url: str) -> None:
    host = redis_url.rsplit("@", 1)[-1]
    with pytest.raises(FlagStoreError, match="refuses the login") as wrong:
        await FlagStore.connect(f"redis://:hunter2@{host}")
    with pytest.raises(FlagStoreError, match="cannot be reached: Connection refused") as away:
        await FlagStore.connect("redis://:hunter2@127.0.0.1:1/0", timeout=1)
    with pytest.raises(FlagStoreError, match="is not a Redis address") as scheme:
        await FlagStore.connect("http://:hunter2@host/0")
    with pytest.raises(FlagStoreError, match="is not a Redis address") as port:
        await FlagStore.connect("redis://user:pass/hunter2@host:6379/0")
    for caught in (wrong, away, scheme, port):
        assert "hunter2" not in repr(caught.getrepr(chain=True, style="long").reprcrash)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.hint
    assert "127.0.0.1:1/0" in str(away.value)


async def test_a_server_that_requires_a_password(redis_url: str) -> None:
    if "@" not in redis_url:
        pytest.skip("this Redis has no password")
    with pytest.raises(FlagStoreError, match=r"password|login"):
        await FlagStore.connect("redis://" + redis_url.rsplit("@", 1)[-1])


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:pw@cache.shop:6380/2", "cache.shop:6380/2"),
        ("rediss://u:pw@cache.shop", "cache.shop:6379/0"),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock"),
        ("redis://u:p/w@h:6379", "an unreadable address"),
    ],
)
def test_describe_keeps_the_password_out(url: str, place: str) -> None:
    assert describe_redis_url(url) == place

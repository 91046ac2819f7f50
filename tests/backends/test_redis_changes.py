"""Changes of flags on a real Redis: a push for each, the interval without one, and who may have written."""

import asyncio
import time
from contextlib import aclosing

import redis.asyncio

from zdd_tui.backends.redis_changes import READ_INTERVAL, find_flag_writer, watch_changes
from zdd_tui.backends.redis_flags import FlagStore


async def test_a_change_and_a_loss_wake_the_reader_long_before_the_interval(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client, aclosing(watch_changes(redis_url)) as changes:
        await anext(changes)
        await anext(changes)  # the tracking has started
        fastest = READ_INTERVAL
        for change in (client.set("ff:w", "true"), client.delete("ff:w"), client.flushall()):
            began = time.monotonic()
            await change
            await anext(changes)
            fastest = min(fastest, time.monotonic() - began)
        assert fastest < READ_INTERVAL / 2


async def test_without_tracking_the_interval_is_left(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-client")
        try:
            url = f"redis://plain:pw@{redis_url.partition('@')[2]}"
            async with asyncio.timeout(10), aclosing(watch_changes(url)) as changes:
                for _ in range(3):
                    await anext(changes)
            async with await FlagStore.connect(url) as flags:
                assert (
                    await find_flag_writer(flags)
                    == "by whom is unknown: the agent's Redis user may not run CLIENT LIST"
                )
        finally:
            await client.execute_command("ACL", "DELUSER", "plain")


async def test_the_client_whose_last_command_wrote_is_named(redis_url: str) -> None:
    async with await FlagStore.connect(redis_url) as flags:
        assert "by whom is unknown" in await find_flag_writer(flags)
        async with redis.asyncio.Redis.from_url(
            redis_url, client_name="cleanup-job", single_connection_client=True
        ) as c:
            await c.delete("ff:w")
            text = await find_flag_writer(flags)
    assert text.startswith("probably by client ")
    assert "name cleanup-job" in text
    assert text.endswith("last command DEL")

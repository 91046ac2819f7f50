"""Changes of flags in Redis: a wake-up per change by client-side tracking, and who may have made it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from redis.asyncio import ConnectionPool
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.model.flag import PREFIX

READ_INTERVAL = 1.0
"""Seconds between two readings without a change: the age of a value while Redis responds."""

RETRY_SECONDS = (0.2, 2.0)

_WRITING_COMMANDS = frozenset(
    {"del", "unlink", "getdel", "flushall", "flushdb", "set", "getset", "mset", "setex", "expire", "rename"}
)
RECENT_IDLE_SECONDS = 3
"""A client that has been idle for longer is not named as the one that wrote."""


async def watch_changes(url: str) -> AsyncGenerator[None, None]:
    """Yields at once, after every change of any flag, and every `READ_INTERVAL` seconds, without end.

    Where tracking is refused (Redis before 6, or an ACL without CLIENT) only the interval is left. It raises no errors:
    the caller reads the flags and sees a lost Redis.
    """
    changed = asyncio.Event()
    task = asyncio.create_task(_track(url, changed))
    try:
        while True:
            yield
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_INTERVAL):
                    await changed.wait()
            changed.clear()
    finally:
        while not task.done():
            # Repeated: wait_for of Python 3.11, which the Redis client uses, can lose a cancellation.
            task.cancel()
            await asyncio.wait([task], timeout=0.05)


async def _track(url: str, changed: asyncio.Event) -> None:
    """Sets the event when a flag changes (client-side caching in broadcast mode)."""
    pool = ConnectionPool.from_url(url, protocol=3, socket_timeout=None, socket_connect_timeout=5.0)
    backoff = Backoff(*RETRY_SECONDS)
    while True:
        connection: Any = pool.connection_class(**pool.connection_kwargs)
        began = time.monotonic()
        try:
            await connection.connect()
            await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", PREFIX)
            await connection.read_response()
            changed.set()  # for changes before the tracking started
            while True:
                await connection.read_response(push_request=True)
                changed.set()
        except ResponseError:
            return
        except (RedisError, OSError):
            if time.monotonic() - began > RETRY_SECONDS[1]:
                backoff.reset()
        finally:
            with suppress(Exception):
                await connection.disconnect(nowait=True)
        await backoff.sleep()


async def find_flag_writer(flags: FlagStore) -> str:
    """Who may have written a flag just now, by CLIENT LIST: Redis itself records no writer."""
    try:
        clients = await flags.list_clients()
    except NoPermissionError:
        return "by whom is unknown: the agent's Redis user may not run CLIENT LIST"
    except (RedisError, OSError):
        return "by whom is unknown: CLIENT LIST failed"
    recent = [client for client in clients if _may_have_written(client)]
    if not recent:
        return "by whom is unknown: Redis does not record it, and no connected client has just written"
    client = min(recent, key=lambda each: int(each.get("idle", 0)))
    name = f", name {client['name']}" if client.get("name") else ""
    user = f", user {client['user']}" if client.get("user") else ""
    return f"probably by client {client.get('addr', '?')}{name}{user}, last command {client.get('cmd', '?').upper()}"


def _may_have_written(client: Mapping[str, str]) -> bool:
    command = str(client.get("cmd", "")).partition("|")[0].lower()
    idle = str(client.get("idle", ""))
    is_recent = idle.isdigit() and int(idle) <= RECENT_IDLE_SECONDS
    return is_recent and command in _WRITING_COMMANDS and not str(client.get("name", "")).startswith("zdd")

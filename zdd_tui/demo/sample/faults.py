"""Faults that can be injected into a running version by writing a fault's name to a file.

Only versions above 1 have them: version 1 is the one that a rollback restores.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

from zdd_tui.demo.sample.database import ConnectionPool
from zdd_tui.demo.sample.settings import Settings

ERROR_SHARE = 0.3
SLOW_SECONDS = 0.5
POLL_INTERVAL = 0.2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def install_faults(app: web.Application, settings: Settings, database: ConnectionPool) -> None:
    """Adds the faults to versions above 1 where the environment variable INJECT_FILE is set.

    Call it after the service library was attached, so that its counters see the effects.
    """
    file = os.environ.get("INJECT_FILE")
    if not file or settings.version == 1:
        return

    faults = Faults(Path(file), database, settings.redis_url)
    app.middlewares.append(faults.apply)
    app.cleanup_ctx.append(faults.follow)


class Faults:
    """Applies the fault whose name ``file`` contains, if it exists."""

    def __init__(self, file: Path, database: ConnectionPool, redis_url: str) -> None:
        self._file = file
        self._database = database
        self._redis_url = redis_url
        self.active_fault = ""

    async def follow(self, _app: web.Application) -> AsyncIterator[None]:
        """Polls the file while the application runs (for aiohttp's ``cleanup_ctx``)."""
        task = asyncio.create_task(self._poll())
        yield
        task.cancel()

    async def _poll(self) -> None:
        while True:
            try:
                self.active_fault = self._file.read_text().strip()
            except FileNotFoundError:
                self.active_fault = ""
            if self.active_fault == "crash-loop":
                os._exit(1)
            await asyncio.sleep(POLL_INTERVAL)

    @web.middleware
    async def apply(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Applies the fault to requests for users and to /metrics."""
        if request.path == "/metrics" and self.active_fault == "metrics-gone":
            raise web.HTTPNotFound
        if request.path.startswith("/users") and (error := await self._apply_fault()) is not None:
            return error
        return await handler(request)

    async def _apply_fault(self) -> web.Response | None:
        match self.active_fault:
            case "errors" if random.random() < ERROR_SHARE:  # noqa: S311
                return web.json_response({"error": "injected"}, status=500)
            case "latency":
                await asyncio.sleep(SLOW_SECONDS)
            case "db-slow":
                await self._database.read(lambda connection: connection.execute(f"SELECT pg_sleep({SLOW_SECONDS})"))
            case "redis-down":
                # A common bug: every request needs Redis.
                try:
                    async with asyncio.timeout(SLOW_SECONDS):
                        await self._ping_redis()
                except Exception:
                    return web.json_response({"error": "no Redis"}, status=500)
        return None

    async def _ping_redis(self) -> None:
        from redis.asyncio import Redis  # noqa: PLC0415 - versions without faults start sooner without it

        async with Redis.from_url(self._redis_url, socket_connect_timeout=SLOW_SECONDS) as client:
            await client.ping()

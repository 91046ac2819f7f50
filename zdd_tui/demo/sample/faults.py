"""What can be wrong with a new version: switched on while it runs, by writing a fault's name into a file.

Only versions above 1 have these faults: the version before them is the one that a rollback goes back to.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from zdd_tui.demo.sample.database import ConnectionPool
from zdd_tui.demo.sample.settings import Settings

FAULTS = ("errors", "latency", "crash-loop", "redis-down", "db-slow", "metrics-gone")

ERROR_SHARE = 0.3
SLOW_SECONDS = 0.5
POLL_INTERVAL = 0.2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def install_faults(app: web.Application, settings: Settings, database: ConnectionPool) -> None:
    """Makes a version vulnerable, where the environment variable INJECT_FILE asks for it.

    Call it after the service library was attached: its counters must see what the faults do.
    """
    file = os.environ.get("INJECT_FILE")
    if not file or settings.version == 1:
        return

    async def slow_query() -> None:
        await database.read(lambda connection: connection.execute(f"SELECT pg_sleep({SLOW_SECONDS})"))

    async def ask_redis() -> None:
        from redis.asyncio import Redis  # noqa: PLC0415 - versions without faults start sooner without it

        async with Redis.from_url(settings.redis_url, socket_connect_timeout=SLOW_SECONDS) as client:
            await client.ping()

    faults = Faults(Path(file), slow_query, ask_redis)
    app.middlewares.append(faults.middleware)
    app.cleanup_ctx.append(faults.follow)


class Faults:
    """The fault that is on, if any.

    Args:
        file: holds the name of a fault, or does not exist.
        slow_query: a query that takes ``SLOW_SECONDS``.
        ask_redis: fails when Redis does not answer.
    """

    def __init__(
        self, file: Path, slow_query: Callable[[], Awaitable[object]], ask_redis: Callable[[], Awaitable[object]]
    ) -> None:
        self._file = file
        self._slow_query = slow_query
        self._ask_redis = ask_redis
        self.active_fault = ""

    async def follow(self, _app: web.Application) -> AsyncIterator[None]:
        """Looks at the file for as long as the application runs (for aiohttp's ``cleanup_ctx``)."""
        watching = asyncio.create_task(self._watch())
        yield
        watching.cancel()

    async def _watch(self) -> None:
        while True:
            try:
                self.active_fault = self._file.read_text().strip()
            except FileNotFoundError:
                self.active_fault = ""
            if self.active_fault == "crash-loop":
                os._exit(1)
            await asyncio.sleep(POLL_INTERVAL)

    @property
    def middleware(self) -> Middleware:
        """Hurts the requests that come through it."""

        @web.middleware
        async def hurt(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path == "/metrics" and self.active_fault == "metrics-gone":
                raise web.HTTPNotFound
            if request.path.startswith("/users"):
                refused = await self._apply_fault()
                if refused is not None:
                    return refused
            return await handler(request)

        return hurt

    async def _apply_fault(self) -> web.Response | None:
        match self.active_fault:
            case "errors" if random.random() < ERROR_SHARE:  # noqa: S311
                return web.json_response({"error": "injected"}, status=500)
            case "latency":
                await asyncio.sleep(SLOW_SECONDS)
            case "db-slow":
                await self._slow_query()
            case "redis-down":
                # What a careless version does: every request waits for Redis.
                try:
                    async with asyncio.timeout(SLOW_SECONDS):
                        await self._ask_redis()
                except Exception:
                    return web.json_response({"error": "no Redis"}, status=500)
        return None

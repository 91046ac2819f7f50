"""Small HTTP servers that stand for pods with metrics, and for a Prometheus."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass
class ServerAnswer:
    """What a server says next; change it while it runs. NOW in the body becomes the time at which it is asked."""

    status: int = 200
    body: str = ""
    wait: float = 0.0
    request_count: int = 0
    headers: dict[str, str] | None = None
    form: dict[str, str] | None = None


@asynccontextmanager
async def serve_answer(answer: ServerAnswer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """``http://host:port`` of a server that gives one answer to everything."""

    async def handle(request: web.Request) -> web.Response:
        answer.request_count += 1
        answer.headers = dict(request.headers)
        answer.form = {key: str(value) for key, value in (await request.post()).items()}
        await asyncio.sleep(answer.wait)
        return web.Response(status=answer.status, text=answer.body.replace("NOW", str(time.time())))

    async with serve_handler(handle, host) as url:
        yield url


@asynccontextmanager
async def serve_handler(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """A server of one handler for every path and method."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        assert site._server is not None
        yield f"http://{host}:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()

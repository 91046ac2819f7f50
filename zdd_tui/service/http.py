"""The aiohttp adapter: /health, /ready, /metrics, counting, ``Connection: close`` while draining, SIGTERM."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from zdd_tui.service.lifecycle import Lifecycle
from zdd_tui.service.metrics import CONTENT_TYPE, RequestMetrics

PROBE_PATHS = frozenset({"/health", "/ready", "/metrics"})

_RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def attach(app: web.Application, lifecycle: Lifecycle, *extra_metrics: Callable[[], str]) -> None:
    """Adds the probes and the middleware to an application. Probes are not counted and do not delay a drain.

    Args:
        extra_metrics: more text for /metrics in Prometheus' text format, such as ``ShadowComparison.render``.
    """
    metrics = RequestMetrics()

    @web.middleware
    async def count(request: web.Request, handler: _RequestHandler) -> web.StreamResponse:
        if request.path in PROBE_PATHS:
            return _close_if_draining(await handler(request))
        started_at = time.perf_counter()
        code = 500
        with lifecycle.track_request():
            try:
                response = await handler(request)
                code = response.status
            except web.HTTPException as error:
                code = error.status
                _close_if_draining(error)
                raise
            finally:
                metrics.observe(request.method, code, time.perf_counter() - started_at)
            return _close_if_draining(response)

    def _close_if_draining(response: web.StreamResponse) -> web.StreamResponse:
        if lifecycle.is_draining:
            response.force_close()
        return response

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"ok": True, "stage": lifecycle.stage})

    async def ready(_: web.Request) -> web.Response:
        state = await lifecycle.check_readiness()
        checks = {
            check.name: "ok" if check.ok else f"{check.error}{' (tolerated)' if check.tolerated else ''}"
            for check in state.checks
        }
        body = {"ready": state.ready, "stage": state.stage, "checks": checks}
        return web.json_response(body, status=200 if state.ready else 503)

    async def show_metrics(_: web.Request) -> web.Response:
        text = metrics.render(lifecycle.in_flight) + "".join(render() for render in extra_metrics)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    app.middlewares.append(count)
    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    app.router.add_get("/metrics", show_metrics)


async def serve(app: web.Application, lifecycle: Lifecycle, host: str, port: int) -> bool:
    """Serves until SIGTERM or SIGINT, then drains. Returns whether every request ended within the grace period."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifecycle.start_draining)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port, backlog=512).start()
        lifecycle.mark_started()
        return await lifecycle.serve_until_drained()
    finally:
        await runner.cleanup()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

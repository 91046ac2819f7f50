"""An admission webhook in front of the embedded API server: a proxy that rewrites images in what is written.

Dry runs pass through it like real writes, as they do in a real cluster.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

Rewrite = Callable[[str], str]


@asynccontextmanager
async def mutating_webhook(
    kubeconfig: str, folder: Path, rewrite: Rewrite, *, resource: str = "deployments"
) -> AsyncIterator[str]:
    """Yields a kubeconfig whose server is the proxy.

    Args:
        rewrite: from the image that was written to the image that is stored.
        resource: the resource whose writes it sees.
    """
    config = _read_config(kubeconfig)
    cluster = config["clusters"][0]["cluster"]
    token, server = config["users"][0]["user"]["token"], cluster["server"]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if body and request.method in ("PATCH", "POST", "PUT") and f"/{resource}" in request.path:
            body = json.dumps(_rewritten(json.loads(body), rewrite)).encode()
        headers = {"Authorization": f"Bearer {token}"}
        if body:
            headers["Content-Type"] = request.headers["Content-Type"]
        async with session.request(
            request.method, server + request.path_qs, data=body or None, headers=headers, ssl=context
        ) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        path = folder / "webhook.kubeconfig"
        _write_config(path, config)
        try:
            yield str(path)
        finally:
            await runner.cleanup()


def _read_config(path: str) -> Any:
    return yaml.safe_load(Path(path).read_text())


def _write_config(path: Path, config: Any) -> None:
    path.write_text(yaml.safe_dump(config))


def _rewritten(value: Any, rewrite: Rewrite) -> Any:
    if isinstance(value, dict):
        return {
            key: rewrite(item) if key == "image" and isinstance(item, str) else _rewritten(item, rewrite)
            for key, item in value.items()
        }
    return [_rewritten(item, rewrite) for item in value] if isinstance(value, list) else value

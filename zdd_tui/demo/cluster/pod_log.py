"""`kubectl logs`: the file that the node agent names in an annotation of the pod."""

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import web

from zdd_tui.demo.cluster import request as requests
from zdd_tui.demo.cluster.errors import bad_request
from zdd_tui.demo.cluster.meta import Json, annotations_of, name_of

# The node agent writes the log's path here; it must lie below the cluster's log root.
LOG_ANNOTATION = "zdd.local/log-file"
POLL = 0.25  # seconds between looks at a followed file


def _log_file(pod: Json, root: Path) -> Path:
    named = annotations_of(pod).get(LOG_ANNOTATION)
    if not named:
        raise bad_request(f'no log is kept for pod "{name_of(pod)}"')
    path = Path(named).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise bad_request(f'the log of pod "{name_of(pod)}" is not available')
    return path


def _tail(data: bytes, lines: int | None) -> bytes:
    if lines is None:
        return data
    return b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""


async def serve_log(request: web.Request, pod: Json, root: Path, closing: asyncio.Event) -> web.StreamResponse:
    """The log so far, and with follow=true what is added until the client leaves. Raises ApiError 400."""
    path = _log_file(pod, root)
    first = _tail(path.read_bytes(), requests.int_query(request, "tailLines"))
    if not requests.is_true(request, "follow"):
        return web.Response(body=first, content_type="text/plain")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write(first)
    position = path.stat().st_size
    while not closing.is_set() and path.exists():
        added, position = _read_from(path, position)
        if added:
            await response.write(added)
        await _pause(closing)
    return response


def _read_from(path: Path, position: int) -> tuple[bytes, int]:
    with path.open("rb") as file:
        file.seek(position)
        added: Any = file.read()
    return added, position + len(added)


async def _pause(closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL):
            await closing.wait()
    except TimeoutError:
        return

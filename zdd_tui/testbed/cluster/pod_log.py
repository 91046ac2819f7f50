"""`kubectl logs`: the file that the node agent names in an annotation of the pod.

The file holds what the process wrote and no times. With timestamps=true a followed line gets the moment at which it was
seen; what was there before gets the moment of the file's last write, which is the newest that it can be.
"""

import asyncio
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from aiohttp import web

from zdd_tui.model.json_access import get_objects, get_text
from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.errors import bad_request
from zdd_tui.testbed.cluster.meta import Json, annotations_of, name_of

# The node agent writes the log's path here; it must lie below the cluster's log root.
LOG_ANNOTATION = "zdd.local/log-file"

PREVIOUS_SUFFIX = ".previous"
"""In place of the file's own: the log of the container that ran before."""

POLL_INTERVAL = 0.25  # seconds between reads of a followed file


async def serve_log(request: web.Request, pod: Json, root: Path, closing: asyncio.Event) -> web.StreamResponse:
    """The log so far, and with follow=true what is added until the container ends or the client leaves.

    Taken from the query: container, follow, previous, tailLines, timestamps, sinceSeconds, sinceTime, limitBytes.

    Raises:
        ApiError: 400 for a container that the pod has not, and where there is no log.
    """
    with _open_log(request, pod, root) as file:
        written = os.fstat(file.fileno()).st_mtime
        first = file.read() if written >= _since_time(request) else b""
        file.seek(0, os.SEEK_END)
        first = _last_lines(first, requests.read_int_query(request, "tailLines"))
        line = _TimestampedLines(requests.is_true(request, "timestamps"))
        first = line.stamp(first, written)[: requests.read_int_query(request, "limitBytes")]
        if not requests.is_true(request, "follow"):
            return web.Response(body=first, content_type="text/plain")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(first)
        while not closing.is_set():
            # Checked before the file is read, so that the last output of a container is not lost.
            over = _is_superseded(file)
            if added := file.read():
                await response.write(line.stamp(added, time.time()))
            if over:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL):
                    await closing.wait()
        return response


def _open_log(request: web.Request, pod: Json, root: Path) -> IO[bytes]:
    wanted = request.query.get("container", "")
    known = [get_text(each, "name") for each in get_objects(pod, "spec", "containers")]
    if wanted and wanted not in known:
        raise bad_request(f"container {wanted} is not valid for pod {name_of(pod)}")
    named = annotations_of(pod).get(LOG_ANNOTATION)
    if not named:
        raise bad_request(f'no log is kept for pod "{name_of(pod)}"')
    path = Path(named).resolve()
    if requests.is_true(request, "previous"):
        path = path.with_suffix(PREVIOUS_SUFFIX)
        if not path.is_file():
            container = wanted or (known or [""])[0]
            raise bad_request(f'previous terminated container "{container}" in pod "{name_of(pod)}" not found')
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise bad_request(f'the log of pod "{name_of(pod)}" is not available')
    return path.open("rb")


def _since_time(request: web.Request) -> float:
    """Seconds since 1970 before which nothing is wanted."""
    seconds = requests.read_int_query(request, "sinceSeconds")
    if seconds is not None:
        return time.time() - seconds
    stamp = request.query.get("sinceTime", "")
    if not stamp:
        return 0.0
    try:
        # The API counts whole seconds here.
        return float(int(datetime.fromisoformat(stamp).timestamp()))
    except ValueError as error:
        raise bad_request(f"invalid value for sinceTime: {stamp!r}") from error


def _last_lines(data: bytes, lines: int | None) -> bytes:
    if lines is None:
        return data
    return b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""


class _TimestampedLines:
    """Puts a time before each line, also where a line comes in pieces."""

    def __init__(self, stamped: bool) -> None:
        self._stamped = stamped
        self._begins = True

    def stamp(self, data: bytes, at: float) -> bytes:
        if not self._stamped or not data:
            return data
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
        *lines, rest = data.split(b"\n")
        text = [(stamp if number or self._begins else b"") + each + b"\n" for number, each in enumerate(lines)]
        if rest:
            text.append((stamp if lines or self._begins else b"") + rest)
        self._begins = not rest
        return b"".join(text)


def _is_superseded(file: IO[bytes]) -> bool:
    """Whether the container whose log this is has been followed by another, or its pod is gone."""
    try:
        return not os.path.samestat(Path(file.name).stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return True

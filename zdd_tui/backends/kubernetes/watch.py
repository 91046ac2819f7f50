"""List and watch, as a chain of small async generators.

    list_and_watch               never ends: lists, watches, and retries after a failure
      └─ _watch_until_expired    ends when the server no longer has our version (410): the caller lists again
          └─ _watch_once         one connection; ends when the server closes it or is silent, raises when it breaks

The design follows kopf (`clients/watching.py`); the rules are in the Kubernetes documentation, "API concepts",
efficient detection of changes.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.errors import ApiUnreachable, KubeApiError, build_stream_error
from zdd_tui.backends.kubernetes.list_reader import ListReader
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_object, get_text

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.http import KubeHttp

T = TypeVar("T")

PAGE_SIZE = 500
"""Objects per page of a list."""

YIELD_EVERY = 25
"""Objects of a list between two yields to the event loop: some 3 ms of pods."""

SILENCE_TIMEOUT = 10.0
"""Seconds without event or bookmark before reconnecting. The server sends a bookmark once a minute, so an idle watch is
renewed before that: one cheap request, and the proof that the data of an idle source is not stale."""

WATCH_FRACTION = 0.8
"""Share of the silence timeout that the server gets as the timeout of a watch. The server then ends it itself, and the
next watch uses the same connection; a watch that we abort costs a connection and its TLS."""

MIN_WATCH_SECONDS = 0.5
"""Seconds. A watch that ends earlier counts as refused, whatever its status."""

RETRY_PAUSES = (0.4, 4.0)
"""First and longest pause in seconds after a failure."""


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """All objects: whatever is not in `items` does not exist."""

    items: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """One change; `kind` is ADDED, MODIFIED or DELETED."""

    kind: str
    item: T


@dataclass(frozen=True, slots=True)
class Connected:
    """The server has accepted a watch or sent a bookmark: the known objects are up to date."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The known objects may be stale from now on. `reason` is one line; the watch retries."""

    reason: str


WatchEvent = Listed[T] | Changed[T] | Connected | Disconnected


class _ResourceVersion:
    """The version up to which all changes are known."""

    def __init__(self, version: str) -> None:
        self.version = version


async def list_all(
    http: "KubeHttp", path: str, project: Callable[[Any], T], params: Mapping[str, str] | None = None
) -> tuple[tuple[T, ...], str]:
    """Lists all objects at `path` page by page; returns them and the version of the list.

    Raises:
        ClusterError: as `KubeHttp.request_bytes`.
    """
    items: list[T] = []
    page: dict[str, str | int] = {**(params or {}), "limit": PAGE_SIZE}
    while True:
        try:
            payload = await http.request_bytes("GET", path, page)
        except KubeApiError as error:
            if not error.is_expired or "continue" not in page:
                raise
            # The snapshot of the pages was compacted: list again, without pages.
            items.clear()
            page = {**(params or {})}
            continue
        try:
            listed = ListReader(payload)
            for number, item in enumerate(listed):
                if isinstance(item, dict):
                    items.append(project(item))
                if number % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        except ValueError as error:
            raise ApiUnreachable(f"the list of {path} is not JSON") from error
        token = get_text(listed.metadata, "metadata", "continue")
        if not token:
            return tuple(items), get_text(listed.metadata, "metadata", "resourceVersion")
        page["continue"] = token


async def list_and_watch(
    http: "KubeHttp",
    path: str,
    project: Callable[[Any], T],
    params: Mapping[str, str] | None = None,
    *,
    silence_timeout: float = SILENCE_TIMEOUT,
) -> AsyncGenerator[WatchEvent[T], None]:
    """Yields the events of a collection without end. Close it (`aclosing`) to end it.

    Args:
        project: extracts the needed parts of a raw object, which is dropped at once.
        params: `labelSelector`, `fieldSelector`.
        silence_timeout: see `SILENCE_TIMEOUT`.
    """
    backoff = Backoff(*RETRY_PAUSES)
    while True:
        try:
            items, version = await list_all(http, path, project, params)
            yield Listed(items)
            position = _ResourceVersion(version)
            async with aclosing(
                _watch_until_expired(http, path, project, params or {}, position, silence_timeout)
            ) as events:
                async for event in events:
                    yield event
                    if isinstance(event, Disconnected):
                        await backoff.sleep()
                    else:
                        backoff.reset()
        except ClusterError as error:
            yield Disconnected(error.title)
            await backoff.sleep()


async def _watch_until_expired(
    http: "KubeHttp",
    path: str,
    project: Callable[[Any], T],
    params: Mapping[str, str],
    position: _ResourceVersion,
    silence_timeout: float,
) -> AsyncGenerator[WatchEvent[T], None]:
    """Connects again and again, each time from the last known version; ends on 410."""
    seconds = max(1, int(WATCH_FRACTION * silence_timeout))
    while True:
        began = time.monotonic()
        try:
            async with aclosing(_watch_once(http, path, project, params, position, silence_timeout, seconds)) as events:
                async for event in events:
                    yield event
        except KubeApiError as error:
            if error.is_expired:
                return
            yield Disconnected(error.title)
        except ApiUnreachable as error:
            yield Disconnected(error.title)
        else:
            # Do not spin on a server that accepts a watch and closes it at once.
            if time.monotonic() - began < MIN_WATCH_SECONDS:
                await Backoff(MIN_WATCH_SECONDS / 2, MIN_WATCH_SECONDS / 2).sleep()


async def _watch_once(
    http: "KubeHttp",
    path: str,
    project: Callable[[Any], T],
    params: Mapping[str, str],
    position: _ResourceVersion,
    silence_timeout: float,
    seconds: int,
) -> AsyncGenerator[WatchEvent[T], None]:
    """Watches over one connection. Silence ends it like a close by the server: renewing an idle watch is no failure.

    Args:
        seconds: how long the server keeps it open.
    """
    query: dict[str, str | int] = {
        **params,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": position.version,
        "timeoutSeconds": seconds,
    }
    async with aclosing(http.stream_lines(path, query, silence_timeout=silence_timeout)) as lines:
        async for line in lines:
            if line is None:
                yield Connected()
                continue
            try:
                event = json.loads(line)
            except ValueError as error:
                raise ApiUnreachable(f"the watch of {path} sent something that is not JSON") from error
            kind, raw = get_text(event, "type"), get_object(event, "object")
            if kind == "ERROR":
                raise build_stream_error(raw, path)
            position.version = get_text(raw, "metadata", "resourceVersion") or position.version
            if kind == "BOOKMARK":
                yield Connected()
            elif kind in ("ADDED", "MODIFIED", "DELETED"):
                yield Changed(kind, project(raw))

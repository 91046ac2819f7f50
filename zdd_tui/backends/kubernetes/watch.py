"""List and watch for ever, as a chain of small async generators that each say when they end.

    list_and_watch    never ends: lists, follows, and after a failure waits with jitter and goes on
      └─ _follow      ends when the server no longer knows our version (410): the caller lists again
          └─ _stream  one connection; ends when the server closes it, raises when it breaks or falls silent

The manner is kopf's (`clients/watching.py`). Rules: Kubernetes documentation, "API concepts", efficient detection of
changes.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

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
"""Objects of a list that are taken in before others get a turn: some 3 ms of pods."""

SILENCE_TIMEOUT = 10.0
"""Seconds without event or bookmark after which we connect anew. The server sends bookmarks once a minute, so an idle
watch is renewed before that: one cheap request, and the proof that keeps an idle source from looking stale."""

WATCH_TIMEOUT_SECONDS = 300

IDLE_FRACTION = 0.8
"""Of the time that may be silent the server is asked to keep a watch when the one before had nothing to tell. It ends
it by itself then, and the next one goes over the same connection; one that we leave costs a connection, and its TLS."""

MIN_WATCH_SECONDS = 0.5
"""Seconds; a watch that ends earlier was refused, whatever the server's status says."""

INITIAL_BACKOFF, MAX_BACKOFF = 0.2, 4.0


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """The whole truth: whatever is not in `items` does not exist."""

    items: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """One change; `kind` is ADDED, MODIFIED or DELETED."""

    kind: str
    item: T


@dataclass(frozen=True, slots=True)
class Connected:
    """The server has accepted a watch, or has sent a bookmark: what was told so far is all there is to tell."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """What is known may be old from now on. `reason` is one line; the watch goes on trying."""

    reason: str


WatchEvent = Listed[T] | Changed[T] | Connected | Disconnected


class _ResourceVersion:
    """The version up to which everything was told."""

    def __init__(self, version: str) -> None:
        self.version = version


async def list_all(
    http: "KubeHttp", path: str, project: Callable[[Any], T], params: Mapping[str, str] | None = None
) -> tuple[tuple[T, ...], str]:
    """All objects at `path` page by page, and the version of the list.

    Raises:
        ClusterError: as `KubeHttp.json`.
    """
    items: list[T] = []
    page: dict[str, str | int] = {**(params or {}), "limit": PAGE_SIZE}
    while True:
        try:
            payload = await http.request_bytes("GET", path, page)
        except KubeApiError as error:
            if not error.is_expired or "continue" not in page:
                raise
            # The snapshot that the pages come from was compacted away: take a new one, in one piece.
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
    """Events of a collection, for ever. Close it (`aclosing`) to end it.

    Args:
        project: keeps what is needed of a raw object; the raw object is dropped at once.
        params: `labelSelector`, `fieldSelector`.
        silence_timeout: see `SILENCE`.
    """
    attempt = 0
    while True:
        try:
            items, version = await list_all(http, path, project, params)
            yield Listed(items)
            position = _ResourceVersion(version)
            async with aclosing(
                _watch_until_expired(http, path, project, params or {}, position, silence_timeout)
            ) as events:
                async for event in events:
                    attempt = attempt + 1 if isinstance(event, Disconnected) else 0
                    yield event
                    if isinstance(event, Disconnected):
                        await asyncio.sleep(backoff_seconds(attempt))
        except ClusterError as error:
            attempt += 1
            yield Disconnected(error.title)
            await asyncio.sleep(backoff_seconds(attempt))


def backoff_seconds(attempt: int) -> float:
    """Seconds before the next attempt: doubling, capped, and jittered so that many clients do not return at once."""
    ceiling = min(INITIAL_BACKOFF * 2 ** min(attempt, 20), MAX_BACKOFF)
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter


async def _watch_until_expired(
    http: "KubeHttp",
    path: str,
    project: Callable[[Any], T],
    params: Mapping[str, str],
    position: _ResourceVersion,
    silence_timeout: float,
) -> AsyncGenerator[WatchEvent[T], None]:
    """Connection after connection from where the last one stood; ends on 410."""
    heard = False
    while True:
        seconds = WATCH_TIMEOUT_SECONDS if heard else max(1, int(IDLE_FRACTION * silence_timeout))
        heard, began = False, time.monotonic()
        try:
            async with aclosing(_watch_once(http, path, project, params, position, silence_timeout, seconds)) as events:
                async for event in events:
                    heard = heard or not isinstance(event, Connected)
                    yield event
        except KubeApiError as error:
            if error.is_expired:
                return
            yield Disconnected(error.title)
        except ApiUnreachable as error:
            yield Disconnected(error.title)
        else:
            if (
                time.monotonic() - began < MIN_WATCH_SECONDS
            ):  # a server that accepts and closes at once must not make us spin
                await asyncio.sleep(backoff_seconds(0))


async def _watch_once(
    http: "KubeHttp",
    path: str,
    project: Callable[[Any], T],
    params: Mapping[str, str],
    position: _ResourceVersion,
    silence_timeout: float,
    seconds: int,
) -> AsyncGenerator[WatchEvent[T], None]:
    """One connection. Falling silent ends it like a close by the server: to renew an idle watch is no failure.

    Args:
        seconds: how long the server is asked to keep it.
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

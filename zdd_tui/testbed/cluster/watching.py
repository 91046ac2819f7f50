"""The watch verb: events since a resourceVersion as lines of JSON, bookmarks, and an end."""

import asyncio
import json
import random
from contextlib import suppress

from aiohttp import web

from zdd_tui.testbed.cluster import kinds, tables
from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.errors import ApiError
from zdd_tui.testbed.cluster.meta import Json
from zdd_tui.testbed.cluster.request import RequestInfo
from zdd_tui.testbed.cluster.store import ObjectChange, ObjectStore, Watcher

BOOKMARK_INTERVAL = 60.0  # seconds, as in the real server
BOOKMARK_BEFORE_END = 2.0  # seconds before the deadline of the watch
# A watch without timeoutSeconds ends after 30 to 60 minutes (--min-request-timeout).
MIN_TIMEOUT = 1800.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class WatchStream:
    """One watch request from its first event to its end."""

    def __init__(self, store: ObjectStore, request: web.Request, target: RequestInfo) -> None:
        self._store = store
        self._request = request
        self._kind = target.kind
        self._match = requests.read_selectors(request, target.name)
        self._wake = asyncio.Event()
        self._watcher = Watcher(target.storage_type, target.namespace, self._wake.set)
        self._encode = self._table_line if requests.wants_table(request) else self._plain_line
        self._has_table_header = False

    async def run(self, closing: asyncio.Event) -> web.StreamResponse:
        """Serve until the client leaves, the timeout, or `closing`, after which the store wakes the watchers."""
        request = self._request
        initial = self._initial_lines()
        headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            if initial:
                await response.write(b"".join(initial))
            await self._follow(response, closing)
        finally:
            self._store.unwatch(self._watcher)
        return response

    def _initial_lines(self) -> list[bytes]:
        """Register with the store; the lines that come before any news. Raises ApiError 400."""
        marked = requests.is_true(self._request, "sendInitialEvents")
        if marked or self._request.query.get("resourceVersion", "") in ("", "0"):
            self._store.watch(self._watcher, None)
            lines = [
                self._encode("ADDED", obj, None)
                for obj in filter(self._match, self._store.items(self._watcher.kind, self._watcher.namespace))
            ]
            if marked:
                lines.append(self._bookmark({INITIAL_EVENTS_END: "true"}))
            return lines
        since = requests.read_int_query(self._request, "resourceVersion")
        try:
            self._store.watch(self._watcher, since)
        except ApiError as error:
            # The real server opens the stream and says it there.
            self._watcher.is_overrun = True
            return [_line("ERROR", error.status())]
        return []

    async def _follow(self, response: web.StreamResponse, closing: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        requested = requests.read_int_query(self._request, "timeoutSeconds")
        end = start + (requested or MIN_TIMEOUT * (1 + random.random()))  # noqa: S311 - spreads reconnects
        bookmarks = requests.is_true(self._request, "allowWatchBookmarks")
        bookmark_at = _next_bookmark(start, end)
        while not closing.is_set() and not self._watcher.is_overrun:
            self._wake.clear()
            lines = self._drain()
            now = loop.time()
            if now >= end:
                break
            if bookmarks and now >= bookmark_at:
                lines.append(self._bookmark({}))
                bookmark_at = _next_bookmark(now, end)
            if lines:
                await response.write(b"".join(lines))
            if not self._watcher.pending:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(end, bookmark_at) if bookmarks else end):
                        await self._wake.wait()

    def _drain(self) -> list[bytes]:
        lines = []
        while self._watcher.pending:
            change = self._watcher.pending.popleft()
            if (type_ := change.event_type_for(self._match)) is not None:
                lines.append(self._encode(type_, change.object_for(type_), change))
        return lines

    def _plain_line(self, type_: str, obj: Json, change: ObjectChange | None) -> bytes:
        if change is None or self._kind is not self._watcher.kind:
            return _line(type_, kinds.to_requested_kind(self._kind, obj))
        return change.event_line(type_)

    def _table_line(self, type_: str, obj: Json, change: ObjectChange | None) -> bytes:
        table = tables.render_table(
            self._watcher.kind, [obj], self._request.query.get("includeObject"), headers=not self._has_table_header
        )
        self._has_table_header = True
        return _line(type_, table)

    def _bookmark(self, annotations: dict[str, str]) -> bytes:
        metadata: Json = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        return _line("BOOKMARK", {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata})


def _next_bookmark(now: float, end: float) -> float:
    regular, last = now + BOOKMARK_INTERVAL, end - BOOKMARK_BEFORE_END
    return last if now < last < regular else regular


def _line(type_: str, obj: Json) -> bytes:
    return json.dumps({"type": type_, "object": obj}, separators=(",", ":")).encode() + b"\n"

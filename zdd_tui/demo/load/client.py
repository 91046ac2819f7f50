"""HTTP/1.1 over pooled connections, without retries.

General clients repeat a request when a pooled connection turns out to be closed (aiohttp does, for idempotent methods,
without an option to disable it). A load that counts failures must not.
"""

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from zdd_tui.demo.load.endpoints import Address

REQUEST_TIMEOUT = 5.0
"""Seconds for connecting, sending and receiving together."""

MAX_IDLE_SECONDS = 20.0
"""An idle connection older than this is not used again: well below the servers' keep-alive (aiohttp: 75 s)."""


class RequestFailed(Exception):
    """No response. ``kind`` is ``connect``, ``broken``, ``timeout`` or ``no endpoint``."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    body: Any


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0

    @property
    def is_usable(self) -> bool:
        fresh = time.monotonic() - self.idle_since < MAX_IDLE_SECONDS
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()


class HttpClient:
    """Sends requests; keeps connections to endpoints until they leave."""

    def __init__(self) -> None:
        self._idle: defaultdict[Address, list[_Connection]] = defaultdict(list)
        self._left_rotation: set[Address] = set()

    def close_endpoint(self, address: Address) -> None:
        """The endpoint has left rotation: closes its idle connections, and each busy one after its response."""
        self._left_rotation.add(address)
        for connection in self._idle.pop(address, []):
            connection.writer.close()

    async def request(self, address: Address, method: str, path: str, body: Any = None) -> HttpResponse:
        """
        Raises:
            RequestFailed: no complete response within ``REQUEST_TIMEOUT``.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await self._request(address, method, path, body)
        except TimeoutError:
            raise RequestFailed("timeout", f"no response within {REQUEST_TIMEOUT:g} s") from None

    async def close(self) -> None:
        connections = [connection for idle in self._idle.values() for connection in idle]
        self._idle.clear()
        for connection in connections:
            connection.writer.close()
        for connection in connections:
            try:
                await connection.writer.wait_closed()
            except OSError:
                continue

    async def _request(self, address: Address, method: str, path: str, body: Any) -> HttpResponse:
        connection = self._checkout(address)
        if connection is None:
            self._left_rotation.discard(address)  # picked again, so it is back in rotation
            try:
                connection = _Connection(*await asyncio.open_connection(*address))
            except OSError as error:
                raise RequestFailed("connect", str(error)) from None
        keep = False
        try:
            payload = b"" if body is None else json.dumps(body).encode()
            kind = "Content-Type: application/json\r\n" if payload else ""
            head = f"{method} {path} HTTP/1.1\r\nHost: users-api\r\n{kind}Content-Length: {len(payload)}\r\n\r\n"
            connection.writer.write(head.encode() + payload)
            response, keep = await _read_response(connection.reader)
            return response
        except (OSError, EOFError, ValueError) as error:
            raise RequestFailed("broken", repr(error)) from None
        finally:
            if keep and address not in self._left_rotation:
                connection.idle_since = time.monotonic()
                self._idle[address].append(connection)
            else:
                connection.writer.close()

    def _checkout(self, address: Address) -> _Connection | None:
        idle = self._idle[address]
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
            connection.writer.close()
        return None


async def _read_response(reader: asyncio.StreamReader) -> tuple[HttpResponse, bool]:
    """One response, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    payload = await reader.readexactly(int(headers.get("content-length", "0")))
    body = json.loads(payload) if payload else None
    return HttpResponse(status, body), headers.get("connection", "").lower() != "close"

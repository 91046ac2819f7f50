"""HTTP/1.1 over pooled connections, without any retry.

General clients repeat a request by themselves when a pooled connection turns out to be closed (aiohttp does, for
idempotent methods, and cannot be told not to): a load that counts failures must not.
"""

import asyncio
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from zdd_tui.demo.load.endpoints import Address

REQUEST_TIMEOUT = 5.0
"""Seconds for connecting, sending and the whole answer together."""

MAX_IDLE_SECONDS = 20.0
"""Seconds after which an idle connection is not used again: well below the keep-alive of servers (aiohttp: 75)."""


class RequestFailed(Exception):
    """No answer came. ``kind`` is ``connect``, ``broken`` or ``timeout``."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class HttpAnswer:
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
        """This endpoint has left rotation: close idle connections, keep none that comes back."""
        self._left_rotation.add(address)
        for connection in self._idle.pop(address, []):
            connection.writer.close()

    async def request(self, address: Address, method: str, path: str, body: Any = None) -> HttpAnswer:
        """
        Raises:
            RequestFailed: no whole answer within the time.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await self._request(address, method, path, body)
        except TimeoutError:
            raise RequestFailed("timeout", f"no answer within {REQUEST_TIMEOUT:g} s") from None

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

    async def _request(self, address: Address, method: str, path: str, body: Any) -> HttpAnswer:
        connection = self._checkout(address)
        if connection is None:
            self._left_rotation.discard(address)  # chosen again, so it is back
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
            answer, keep = await _read_answer(connection.reader)
            return answer
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


async def _read_answer(reader: asyncio.StreamReader) -> tuple[HttpAnswer, bool]:
    """One answer, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    payload = await reader.readexactly(int(headers.get("content-length", "0")))
    body = json.loads(payload) if payload else None
    return HttpAnswer(status, body), headers.get("connection", "").lower() != "close"

"""LISTEN for the changes of one release, on a connection of its own."""

import asyncio

import asyncpg

from zdd_tui.backends.postgres import FAILURES

PING_SECONDS = 5.0
"""A listener that heard nothing for this long asks whether the server is still there: TCP would not tell."""


class Listener:
    """LISTEN on one connection; notifications that pile up are one."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", release_id: int) -> None:
        self._connection = connection
        self._payload = str(release_id)
        self._news = asyncio.Event()

    async def start(self) -> None:
        self._connection.add_termination_listener(lambda *_: self._news.set())
        await self._connection.add_listener("zdd", self._notified)

    def close(self) -> None:
        self._connection.terminate()

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._payload:
            self._news.set()

    async def heard(self, quiet: float | None) -> bool:
        """True after a change, or after `quiet` seconds without one; False when the connection is gone."""
        loop = asyncio.get_running_loop()
        until = None if quiet is None else loop.time() + quiet
        while not self._connection.is_closed():
            left = PING_SECONDS if until is None else min(PING_SECONDS, max(0.0, until - loop.time()))
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                if until is None or loop.time() < until:
                    if not await self._alive():
                        return False
                    continue
                return True
            self._news.clear()
            return not self._connection.is_closed()
        return False

    async def _alive(self) -> bool:
        try:
            await self._connection.execute("SELECT 1", timeout=PING_SECONDS)
        except FAILURES:
            return False
        return True

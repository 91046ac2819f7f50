"""A small pooling proxy that speaks PostgreSQL's protocol: enough of pgbouncer to be caught by.

Clients authenticate through it at the real server; the server's session then joins a pool. In transaction mode a
client gets a session of the pool with its first message and gives it back when the server says it idles.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

SSL_REQUEST = (80877103).to_bytes(4, "big")
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PoolingProxy:
    """In front of `host:port`.

    Args:
        size: how many sessions the pool holds.
        newest_first: which idle session is handed out: the one used last (pgbouncer's default), or in turn.
        mode: `transaction` or `session`.
    """

    def __init__(self, host: str, port: int, *, size: int, newest_first: bool, mode: str = "transaction") -> None:
        self._address = (host, port)
        self._size = size
        self._newest_first = newest_first
        self._mode = mode
        self._idle: list[Stream] = []
        self._opened_count = 0
        self._free = asyncio.Condition()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.append(writer)
        try:
            server = await self._log_in((reader, writer))
            if self._mode == "session":
                await self._relay_session((reader, writer), server)
            else:
                await self._return_connection(server)
                await self._relay_transactions((reader, writer))
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # one of the two hung up, or the proxy closes
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    async def _log_in(self, client: Stream) -> Stream:
        startup = await _startup(client[0])
        while startup[4:8] == SSL_REQUEST:
            client[1].write(b"N")
            startup = await _startup(client[0])
        server = await asyncio.open_connection(*self._address)
        self._writers.append(server[1])
        server[1].write(startup)
        while True:
            message = await _message(server[0])
            client[1].write(message)
            if message[:1] == b"Z":
                return server
            if message[:1] == b"E":
                raise ConnectionError("refused")
            if message[:1] == b"R" and message[5:9] not in (bytes(4), (12).to_bytes(4, "big")):
                server[1].write(await _message(client[0]))

    async def _relay_session(self, client: Stream, server: Stream) -> None:
        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)

        async with asyncio.TaskGroup() as group:
            back = group.create_task(pump(server[0], client[1]))
            await pump(client[0], server[1])
            back.cancel()
        server[1].close()

    async def _relay_transactions(self, client: Stream) -> None:
        requested = asyncio.create_task(_message(client[0]))
        try:
            while (await requested)[:1] != b"X":
                server = await self._take_connection()
                answers = asyncio.create_task(_until_idle(server[0], client[1]))
                try:
                    while not answers.done():
                        await asyncio.wait({requested, answers}, return_when=asyncio.FIRST_COMPLETED)
                        if requested.done():
                            server[1].write(requested.result())
                            requested = asyncio.create_task(_message(client[0]))
                    await answers
                finally:
                    answers.cancel()
                    await self._return_connection(server, again=True)
        finally:
            requested.cancel()

    async def _take_connection(self) -> Stream:
        async with self._free:
            await self._free.wait_for(lambda: bool(self._idle))
            return self._idle.pop(-1 if self._newest_first else 0)

    async def _return_connection(self, server: Stream, *, again: bool = False) -> None:
        async with self._free:
            if not again:
                if self._opened_count == self._size:
                    server[1].close()
                    return
                self._opened_count += 1
            self._idle.append(server)
            self._free.notify()


async def _startup(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(4)
    return length + await reader.readexactly(int.from_bytes(length, "big") - 4)


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


async def _until_idle(server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    """Relays up to the ReadyForQuery that says that no transaction is open."""
    while True:
        message = await _message(server)
        client.write(message)
        if message[:1] == b"Z" and message[5:6] == b"I":
            return


@asynccontextmanager
async def pooling_proxy(
    dsn: str, *, size: int = 2, newest_first: bool = True, mode: str = "transaction"
) -> AsyncIterator[str]:
    """The DSN by which to reach the server of `dsn` through a proxy."""
    parts = urlsplit(dsn)
    assert parts.hostname
    assert parts.port
    proxy = PoolingProxy(parts.hostname, parts.port, size=size, newest_first=newest_first, mode=mode)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}"
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()

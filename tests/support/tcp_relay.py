"""A TCP port in front of a server that can be shut, or stop passing data on: the server "goes away" or freezes."""

import asyncio
import contextlib


class Relay:
    """In front of `host:port`; shut at first. Its own port stays the same."""

    def __init__(self, host: str, port: int, own_port: int) -> None:
        self._target = (host, port)
        self.port = own_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.flows = asyncio.Event()
        """While it is clear, connections are accepted and nothing passes."""
        self.flows.set()

    async def open_port(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close_port(self) -> None:
        """Refuses new connections and cuts off the old ones."""
        if self._server is not None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> "Relay":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_port()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._server is None:  # accepted right before the port was closed, which has cut the others off
            writer.transport.abort()
            return
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            there, far = await asyncio.open_connection(*self._target)
            ways = ((reader, far), (there, writer))
            pumps = [asyncio.create_task(_copy_stream(*way, self.flows)) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except asyncio.CancelledError:
            pass  # cut off: an end like any other
        finally:
            self._tasks.discard(task)
            for end in (writer, far):
                if end is not None:
                    end.close()
                    with contextlib.suppress(OSError):
                        end.transport.abort()


async def _copy_stream(source: asyncio.StreamReader, target: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    while data := await source.read(65536):
        await flows.wait()
        target.write(data)

"""The Kubernetes API as raw JSON over HTTP: requests, watch streams, errors, the server's clock.

Typed decoding costs twenty times as much as JSON, so this module knows no resource types.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp

from zdd_tui.backends.kubernetes.auth import ApiSession
from zdd_tui.backends.kubernetes.errors import ApiUnreachable, build_api_error
from zdd_tui.model.errors import ClusterError

REQUEST_TIMEOUT = 10.0
"""Seconds."""

Params = Mapping[str, str | int]


class ServerClock:
    """Estimates how far the server's clock is ahead of ours, from Date headers (whole seconds).

    Each response bounds the difference to one second plus its own duration; these bounds are intersected.
    """

    def __init__(self) -> None:
        self._low = float("-inf")
        self._high = float("inf")

    def add_observation(self, server_second: float, sent: float, received: float) -> None:
        """Record one response. All three are seconds since 1970, the last two by our clock."""
        low, high = server_second - received, server_second + 1.0 - sent
        self._low, self._high = max(self._low, low), min(self._high, high)
        if self._low > self._high:  # one of the clocks was set
            self._low, self._high = low, high

    @property
    def skew(self) -> float:
        """Server clock minus ours in seconds; 0 while the two may be equal."""
        if self._low <= 0.0 <= self._high:
            return 0.0
        return (self._low + self._high) / 2


class KubeHttp:
    """Requests to one API server. Safe to use from many tasks."""

    def __init__(self, session: ApiSession) -> None:
        self._session = session
        self.clock = ServerClock()

    @property
    def server(self) -> str:
        """The server's base address."""
        return self._session.server

    async def request_json(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
    ) -> Any:
        """Sends a request and returns the decoded response; as `request_bytes`."""
        return _decode_json(await self.request_bytes(method, path, params, body, content_type, timeout))

    async def request_bytes(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
    ) -> bytes:
        """Sends a request and returns the response body.

        Raises:
            KubeApiError: any status of 400 and above.
            ApiUnreachable: no response within `timeout` seconds, or no connection.
        """
        for attempt in (0, 1):
            renewals = self._session.renewal_count
            try:
                async with asyncio.timeout(timeout):
                    response = await self._send(method, path, params, body, content_type)
                    async with response:
                        if response.status == HTTPStatus.UNAUTHORIZED and attempt == 0:
                            await self._session.renew_credentials(renewals)
                            continue
                        payload = await response.read()
            except (aiohttp.ClientError, OSError) as error:
                raise self._unreachable_error(error) from error
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise build_api_error(response.status, _decode_json(payload), method, path, self._session)
            return payload
        raise AssertionError("the second attempt returns or raises")

    async def stream_lines(
        self, path: str, params: Params, *, silence_timeout: float, connect_timeout: float = REQUEST_TIMEOUT
    ) -> AsyncGenerator[bytes | None, None]:
        """Streams a watch, line by line; None first, once the server has accepted it.

        Ends when the server ends the stream, or after `silence_timeout` seconds without a byte.

        Raises:
            KubeApiError, ApiUnreachable: as `request_bytes`.
        """
        rest = b""
        async with aclosing(
            self.stream_chunks(path, params, silence_timeout=silence_timeout, connect_timeout=connect_timeout)
        ) as chunks:
            async for chunk in chunks:
                if chunk is None:
                    yield None
                    continue
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if line:
                        yield line

    async def stream_chunks(
        self,
        path: str,
        params: Params,
        *,
        silence_timeout: float,
        connect_timeout: float = REQUEST_TIMEOUT,
        verb: str = "WATCH",
    ) -> AsyncGenerator[bytes | None, None]:
        """As `stream_lines`, in chunks as they arrive."""
        renewals = self._session.renewal_count
        try:
            async with asyncio.timeout(connect_timeout):
                response = await self._send("GET", path, params, None, "application/json")
            async with response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    if response.status == HTTPStatus.UNAUTHORIZED:
                        await self._session.renew_credentials(renewals)
                    body = _decode_json(await response.read())
                    raise build_api_error(response.status, body, verb, path, self._session)
                try:
                    yield None
                    chunks = response.content.iter_any()
                    while True:
                        try:
                            async with asyncio.timeout(silence_timeout):
                                chunk = await anext(chunks, b"")
                        except TimeoutError:
                            return
                        if not chunk:
                            return
                        yield chunk
                finally:
                    _abort_stream(response)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise self._unreachable_error(error) from error

    async def _send(
        self, method: str, path: str, params: Params | None, body: Any, content_type: str
    ) -> aiohttp.ClientResponse:
        options = await self._session.request_options()
        if body is not None:
            options["data"] = json.dumps(body).encode()
            options["headers"]["Content-Type"] = content_type
        options["headers"]["Accept"] = "application/json"
        sent = time.time()
        # The library's session reads proxies and .netrc from the environment. Callers set their own time limit.
        response = await self._session.session.request(
            method, self.server + path, params=params, timeout=aiohttp.ClientTimeout(total=None), **options
        )
        try:
            server_second = parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return response
        self.clock.add_observation(server_second, sent, time.time())
        return response

    def _unreachable_error(self, error: BaseException) -> ClusterError:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return ClusterError(  # no outage: it stays so until a person changes it
                f"the certificate of {self.server} is not trusted: {_short_reason(error)}",
                f"check certificate-authority and server in {self._session.source}",
            )
        if isinstance(error, TimeoutError):
            return ApiUnreachable(f"{self.server} does not respond", "check the network and the VPN")
        if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
            return ApiUnreachable(
                f"{self.server} refuses the connection",
                f"check that the cluster runs, and the server in {self._session.source}",
            )
        return ApiUnreachable(
            f"no connection to {self.server}: {_short_reason(error)}", "check the network and the VPN"
        )


def _abort_stream(response: aiohttp.ClientResponse) -> None:
    """Closes an unfinished stream at once: TLS would wait half a minute for the close of the other side."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _decode_json(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload else {}
    except ValueError:
        return {}


def _short_reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]

"""Feature flags in Redis.

Each flag of a release has two keys: ``ff:<key>`` holds the value that applications read, ``zdd:epoch:<key>`` the epoch
of the agent that wrote it last. A write carries its epoch; one atomic script refuses it when a newer epoch has
written (architecture.md, invariant 2).
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from zdd_tui.model.errors import FlagStoreError, FlagStoreUnavailable, StaleEpoch
from zdd_tui.model.flag import OFF, ON, FlagValue, flag_key, parse_flag
from zdd_tui.model.masking import is_readable_address

T = TypeVar("T")

# KEYS: value, fence. ARGV: epoch, then the value (absent: delete). Returns the newer epoch, or -1 when written.
_FENCED_WRITE = """
local fence = tonumber(redis.call('GET', KEYS[2]) or '-1')
if fence > tonumber(ARGV[1]) then return fence end
redis.call('SET', KEYS[2], ARGV[1])
if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('DEL', KEYS[1]) end
return -1
"""

AGENT_COMMANDS = ("PING", "GET", "MGET", "SET", "DEL", "EVAL", "EXPIRE")
"""What steps and undos use, on ``ff:*`` and ``zdd:epoch:*``; ``config/redis/acl`` grants it (a test compares them).
GET, SET and DEL are called by the script of EVAL."""

FENCE_TTL_SECONDS = 86_400
REQUIRED_RIGHTS = " ".join(("~ff:*", "~zdd:epoch:*", *(f"+{command.lower()}" for command in AGENT_COMMANDS)))
"""The same in the words of ACL SETUSER."""
CONNECTIONS = 4
"""A burst of writes waits for one of these connections, to protect a server that may be overloaded."""
_UNREACHABLE_HINT = "check that it runs and that flags.url names the right host and port"


def fence_key(key: str) -> str:
    """Returns the key that holds the epoch of a flag's last writer."""
    return f"zdd:epoch:{key}"


def describe_redis_url(url: str) -> str:
    """Returns ``host:port/db`` (or the path of the socket) without user and password, safe for screens."""
    if not is_readable_address(url):
        return "an unreadable address"
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path or "?"
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}/{parts.path.strip('/') or '0'}"


@dataclass(frozen=True, slots=True)
class RedisServerFacts:
    """What a Redis says about itself; None for what this user may not read.

    Attributes:
        role: ``master`` or ``slave``.
        max_memory: in bytes; 0 for no limit.
        eviction: the maxmemory-policy.
        keeps_data: whether anything is written to disk, so that a restart keeps the flags.
    """

    role: str | None
    max_memory: int | None
    eviction: str | None
    keeps_data: bool | None


class FlagStore:
    """The flags in a Redis. Create it with :meth:`connect`; it reconnects automatically.

    Every method raises FlagStoreError when Redis is unreachable or refuses, with host and port and without password.
    """

    def __init__(self, client: Redis, address: str) -> None:
        self._client = client
        self.address = address

    @classmethod
    async def connect(cls, url: str, *, timeout: float = 5.0) -> Self:
        """Connects and sends a PING.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``.
            timeout: seconds for connecting and for each response.

        Raises:
            FlagStoreError: the address is invalid, unreachable, or refuses the login.
        """
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=2 * timeout,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                decode_responses=True,
                encoding_errors="replace",
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 2),
            )
            if not is_readable_address(url):
                raise ValueError
            # Connects to nothing: an unknown setting in the query, such as ?sslmode=, fails here.
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError):
            # Not chained: that error may quote the URL with its password.
            raise FlagStoreError(
                "the plan's flags.url is not a Redis address",
                "write it as redis://[user:password@]host:6379/0, rediss:// for TLS, unix:// for a socket",
            ) from None
        client = Redis.from_pool(pool)
        store = cls(client, describe_redis_url(url))
        try:
            with store._translate_errors():
                await client.ping()
        except BaseException:
            await client.aclose()
            raise
        return store

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def read_raw(self, keys: Sequence[str]) -> dict[str, str | None]:
        """Reads the values as they are stored; None for a flag that does not exist."""
        if not keys:
            return {}
        with self._translate_errors():
            # The client's types do not know that decode_responses makes every value a str.
            values = cast("list[str | None]", await self._client.mget([flag_key(key) for key in keys]))
        return dict(zip(keys, values, strict=True))

    async def read(self, keys: Sequence[str]) -> dict[str, FlagValue | None]:
        """Reads the values; None for a flag that does not exist.

        Raises:
            FlagStoreError: also when a value is not valid for a flag.
        """
        values: dict[str, FlagValue | None] = {}
        for key, raw in (await self.read_raw(keys)).items():
            try:
                values[key] = None if raw is None else parse_flag(raw)
            except ValueError as error:
                raise FlagStoreError(
                    f"flag {flag_key(key)} in Redis {self.address}: {error}", "set it to true, false or a percentage"
                ) from None
        return values

    async def set(self, key: str, value: FlagValue, *, epoch: int) -> None:
        """Writes a flag.

        Raises:
            StaleEpoch: an agent with a newer epoch has written it.
        """
        await self._write(key, epoch, value.to_redis)

    async def delete(self, key: str, *, epoch: int) -> None:
        """Deletes a flag; one that does not exist is no error. The fence stays until :meth:`expire_fences`.

        Raises:
            StaleEpoch: an agent with a newer epoch has written it.
        """
        await self._write(key, epoch)

    async def expire_fences(self, keys: Iterable[str]) -> None:
        """Lets the fences expire after the end of the release: after a day, so that an agent that was suspended still
        finds them."""
        with self._translate_errors():
            for key in keys:
                await self._client.expire(fence_key(key), FENCE_TTL_SECONDS)

    async def list_clients(self) -> list[dict[str, str]]:
        """Lists the connected clients, as CLIENT LIST does; the errors are those of the client library."""
        return await self._client.client_list()

    async def try_writes(self, prefix: str) -> None:
        """Does with a scratch flag what steps and undos do with flags: fenced write, refusal of an older epoch, read,
        deletion, expiry. Deletes it afterwards.

        Args:
            prefix: a flag of the plan; the scratch flag's name begins with it, as rules of an ACL may expect.

        Raises:
            FlagStoreError: one of it is refused, with the command; or the fence does not hold.
        """
        key = f"{prefix}.zdd-check-{secrets.token_hex(8)}"
        try:
            await self._try("EVAL, GET and SET", self.set(key, ON, epoch=2))
            if (await self._try("MGET", self.read([key])))[key] != ON:
                raise FlagStoreError(
                    f"Redis {self.address} does not return what was written",
                    "point flags.url at one Redis that serves reads and writes",
                )
            try:
                await self.set(key, OFF, epoch=1)
            except StaleEpoch:
                pass
            else:
                raise FlagStoreError(
                    f"Redis {self.address}: the write of an older epoch is not refused",
                    "use a Redis that runs Lua scripts as a whole",
                )
            await self._try("EVAL and DEL", self.delete(key, epoch=2))
            await self._try("EXPIRE", self.expire_fences([key]))
        finally:
            with contextlib.suppress(RedisError, OSError):
                await self._client.delete(flag_key(key), fence_key(key))

    async def _try(self, commands: str, call: Awaitable[T]) -> T:
        try:
            return await call
        except FlagStoreError as error:
            raise FlagStoreError(f"{commands} of a scratch flag: {error.title}", error.hint) from None

    async def read_server_facts(self) -> RedisServerFacts:
        """Reads what the server says about role, memory and persistence.

        Raises:
            FlagStoreError: as always, but not for a command that this user may not use.
        """
        replication, memory, persistence = [await self._info(name) for name in ("replication", "memory", "persistence")]
        keeps_data: bool | None = None
        if persistence:
            keeps_data = bool(persistence.get("aof_enabled"))
        if not keeps_data:
            saves = await self._read_config("save")
            keeps_data = bool(saves.strip()) if saves is not None else None
        return RedisServerFacts(
            role=replication.get("role"),
            max_memory=memory.get("maxmemory"),
            eviction=memory.get("maxmemory_policy"),
            keeps_data=keeps_data,
        )

    async def _info(self, section: str) -> dict[str, Any]:
        with self._translate_errors():
            try:
                return dict(await self._client.info(section))
            except ResponseError:  # a missing right, or a renamed command
                return {}

    async def _read_config(self, name: str) -> str | None:
        with self._translate_errors():
            try:
                found = await self._client.config_get(name)
            except ResponseError:
                return None
        return str(found.get(name, ""))

    async def _write(self, key: str, epoch: int, *value: str) -> None:
        with self._translate_errors():
            newer = await self._client.eval(_FENCED_WRITE, 2, flag_key(key), fence_key(key), str(epoch), *value)
        if int(newer) >= 0:
            raise StaleEpoch(
                f"flag {flag_key(key)} was written by epoch {newer}; this agent has epoch {epoch} and stops"
            )

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise _to_flag_store_error(error, self.address) from None
        except OSError as error:
            raise FlagStoreUnavailable(
                f"Redis {self.address} cannot be reached: {_error_reason(error)}", _UNREACHABLE_HINT
            ) from None


def _to_flag_store_error(error: RedisError, address: str) -> FlagStoreError:
    match error:
        # Inside a script Redis has another text for it.
        case _ if isinstance(error, NoPermissionError) or "user executing the script" in str(error):
            return FlagStoreError(
                f"Redis {address} forbids a command: {error}",
                f"the agent's user needs these rights: {REQUIRED_RIGHTS}; see config/redis/acl",
            )
        case AuthenticationError() | AuthorizationError():
            return FlagStoreError(f"Redis {address} refuses the login", "check user and password in flags.url")
        case TimeoutError():
            return FlagStoreUnavailable(f"Redis {address} does not respond in time", _UNREACHABLE_HINT)
        case ReadOnlyError():
            return FlagStoreError(f"Redis {address} is a read-only replica", "point flags.url at the primary")
        case ConnectionError():
            return FlagStoreUnavailable(f"Redis {address} cannot be reached: {_error_reason(error)}", _UNREACHABLE_HINT)
        case _ if "NOAUTH" in str(error) or "Authentication required" in str(error):
            return FlagStoreError(f"Redis {address} requires a password", "put it into flags.url")
        case _:
            return FlagStoreError(f"Redis {address} refuses: {error}")


def _error_reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return cause.strerror or "unknown host"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)  # asyncio's own text repeats the address
        cause = cause.__cause__ or cause.__context__
    return "no connection"

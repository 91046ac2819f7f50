"""Feature flags for an application: read from memory, fresh within a second, and kept when Redis is lost.

**Values.** ``ff:<key>`` in Redis holds ``true``, ``false``, or a percentage ``0``..``100`` (also ``25%``).
A percentage is decided per unit (a user's id, for example) by a stable hash: a unit that is on at 10 % is also on at
20 %, and every pod decides alike.

**Freshness.** A decision reads memory only. Polling limits the age of a value to ``max_staleness`` seconds while Redis
responds; Redis's client-side tracking usually brings a change within milliseconds. A change is in effect everywhere
after ``max_staleness`` plus the time of the longest request.

**Fail static.** When Redis is lost, every pod keeps the last value, without limit: if half of the pods fell back to a
default in the middle of a release, they would write different data, and a wrong guess is worse than an old value. For
the same reason a flag that *disappears* (a Redis that restarted empty) or becomes unreadable keeps its last value and
is reported. To switch a flag off, set it to ``false``; deleting it has no effect.
A process that has never read a flag uses the default, and could write other data than its neighbours: make readiness
depend on :attr:`FlagClient.is_loaded`, which is false until every declared flag has been read. So a new pod takes no
traffic while a flag of the release is missing; zdd creates the flags before it rolls out the image that declares them,
and restores a flag that somebody deletes. Declare a flag as optional only where its default is always right.
"""

import asyncio
import contextlib
import logging
import random
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

PREFIX = "ff:"
MAX_BACKOFF = 2.0
"""The longest pause between attempts to reach a lost Redis, in seconds."""

_PERCENT = re.compile(r"(\d{1,3})\s*%?")
_log = logging.getLogger(__name__)


def bucket(key: str, unit: str) -> int:
    """0 to 99; always the same for a key and a unit, and evenly distributed over units."""
    return zlib.crc32(f"{key}:{unit}".encode()) % 100


def parse_percent(text: str) -> int | None:
    """The percentage of a stored value; None if it is not a flag's value."""
    word = text.strip().lower()
    if word in ("true", "false"):
        return 100 if word == "true" else 0
    match = _PERCENT.fullmatch(word)
    return int(match[1]) if match is not None and int(match[1]) <= 100 else None


@dataclass(frozen=True, slots=True)
class FlagState:
    """One flag as this process uses it now.

    Attributes:
        percent: 0 (off) to 100 (on).
        problem: why the current value in Redis is not used; empty if it is used.
    """

    percent: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FlagSnapshot:
    """All flags at one time.

    Attributes:
        age: seconds since the last successful read was sent; None before the first.
    """

    flags: Mapping[str, FlagState]
    age: float | None


class FlagClient:
    """Keeps a fixed set of flags in memory. An async context manager, or ``start`` and ``stop``.

    Args:
        url: Redis, with password.
        keys: the flags, without ``ff:``.
        max_staleness: the greatest age of a value in seconds while Redis responds.
        defaults: percentages for flags that this process has never read; 0 if not given.
        optional: those of the keys that may be missing: their default is always right, as for the share of requests
            that a dark launch compares. Readiness does not wait for them.
    """

    def __init__(
        self,
        url: str,
        keys: Sequence[str],
        *,
        max_staleness: float = 1.0,
        defaults: Mapping[str, int] | None = None,
        optional: Sequence[str] = (),
    ) -> None:
        if not keys or max_staleness <= 0:
            raise ValueError("a FlagClient needs at least one key, and a max_staleness above 0")
        if unknown := sorted(set(optional) - set(keys)):
            raise ValueError(f"optional names flags that are not declared: {', '.join(unknown)}")
        self.keys = tuple(keys)
        # A poll starts half of max_staleness after the last one and takes at most the other half.
        self._period = max_staleness / 2
        self._url = url
        self._defaults = {key: (defaults or {}).get(key, 0) for key in self.keys}
        self._flags = {key: FlagState(percent, "not read yet") for key, percent in self._defaults.items()}
        self._unread = set(keys) - set(optional)
        self._read_at: float | None = None
        self._loaded = asyncio.Event()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Starts to read in the background until :meth:`stop`. Does not wait for Redis.

        Raises:
            ValueError: the URL is invalid.
        """
        client = Redis.from_url(
            self._url,
            socket_timeout=self._period,
            socket_connect_timeout=self._period,
            retry=Retry(NoBackoff(), 0),  # the loop retries with jitter
        )
        pool = ConnectionPool.from_url(self._url, protocol=3, socket_timeout=None)
        self._tasks = [
            asyncio.create_task(self._poll_loop(client)),
            asyncio.create_task(self._watch_invalidations(pool)),
        ]

    async def stop(self) -> None:
        pending = set(self._tasks)
        while pending:
            # Repeated: wait_for of Python 3.11, which the Redis client uses, can lose a cancellation.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.05)
        self._tasks = []

    def is_on(self, key: str, unit: str | int) -> bool:
        """Whether the flag is on for this unit. Reads memory only; never fails for a declared key.

        A unit that cannot be hashed (None, a lone surrogate, a number without end) gets the default: a default of 100
        is on, any other is off. A flag that is fully on or off is so for every unit.

        Two calls without an ``await`` between them read the same values.

        Raises:
            KeyError: the key was not declared in the constructor.
        """
        percent = self._flags[key].percent
        if percent in (0, 100):
            return percent == 100
        try:
            return bucket(key, str(unit)) < percent if unit is not None else self._defaults[key] == 100
        except Exception:  # whatever the unit's own str() raises
            return self._defaults[key] == 100

    def snapshot(self) -> FlagSnapshot:
        return FlagSnapshot(dict(self._flags), self.age)

    @property
    def age(self) -> float | None:
        """Seconds since the last successful read was sent; None before the first."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    @property
    def is_loaded(self) -> bool:
        """Whether every declared flag was read at least once, so that none of them is only a default."""
        return self._loaded.is_set()

    async def wait_loaded(self) -> None:
        await self._loaded.wait()

    async def _poll_loop(self, client: Redis) -> None:
        failures = 0
        try:
            while True:
                self._wake.clear()
                sent_at = time.monotonic()
                try:
                    async with asyncio.timeout(self._period):
                        values = await client.mget([PREFIX + key for key in self.keys])
                except Exception as error:
                    # Any error of the client: a loop that ends here would freeze the flags without a report.
                    failures += 1
                    if failures == 1:
                        _log.warning("flags: Redis is lost (%s); keeping the last values", type(error).__name__)
                    await asyncio.sleep(_backoff_seconds(self._period, failures))
                    continue
                if failures:
                    _log.warning("flags: Redis is back after %d failed attempts", failures)
                failures = 0
                self._apply_values(values, sent_at)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, sent_at + self._period - time.monotonic())):
                        await self._wake.wait()
        finally:
            await client.aclose()

    def _apply_values(self, values: Sequence[bytes | str | None], sent_at: float) -> None:
        flags = {}
        for key, value in zip(self.keys, values, strict=True):
            known = self._flags[key]
            if value is None:
                flags[key] = FlagState(known.percent, "missing")
            else:
                text = value.decode(errors="replace") if isinstance(value, bytes) else value
                percent = parse_percent(text)
                flags[key] = (
                    FlagState(known.percent, f"not a flag's value: {text[:40]!r}")
                    if percent is None
                    else FlagState(percent)
                )
            if not flags[key].problem:
                self._unread.discard(key)
            if flags[key] != known:
                _log.warning("flags: %s is %d%% %s", key, flags[key].percent, flags[key].problem)
        self._flags = flags
        self._read_at = sent_at
        if not self._unread:
            self._loaded.set()

    async def _watch_invalidations(self, pool: ConnectionPool) -> None:
        """Wakes the poll when any flag changes (client-side caching in broadcast mode, Redis 6 and later)."""
        failures = 0
        while True:
            connection: Any = pool.connection_class(**pool.connection_kwargs)
            try:
                await connection.connect()
                await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", PREFIX)
                await connection.read_response()
                failures = 0
                self._wake.set()  # for changes before the tracking started
                while True:
                    await connection.read_response(push_request=True)
                    self._wake.set()
            except ResponseError as error:
                _log.warning("flags: this Redis has no tracking (%s); polling only", error)
                return
            except Exception:
                failures += 1  # the poll reports a lost Redis
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(_backoff_seconds(self._period, failures))


def _backoff_seconds(first: float, failures: int) -> float:
    """Doubles up to MAX_BACKOFF, with jitter, so that pods do not reconnect all at once."""
    return float(min(first * 2 ** min(failures - 1, 10), MAX_BACKOFF) * random.uniform(0.5, 1.0))  # noqa: S311

"""Requests of our own: is the service there, and how fast?"""

import asyncio
import importlib
import math
import re
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import aiohttp

from zdd_tui.model.guard.series import CounterSample
from zdd_tui.model.plan.guard import Probe
from zdd_tui.model.plan.strategies import SmokeCheck

MAX_CONCURRENT_PROBES = 50
_SMALLEST_BUCKET = 0.001
_BUCKET_GROWTH = 1.25
"""From one bucket's bound to the next: a quantile is off by at most a quarter."""


class Prober:
    """Probes targets once each round, and keeps their counters."""

    def __init__(self, session: aiohttp.ClientSession, spec: Probe) -> None:
        self._session = session
        self._config = spec
        self._expected_status = re.compile(spec.expect)
        self._counters: dict[str, CounterSample] = {}
        self._bucket_bounds = _build_bucket_bounds(spec.timeout)

    async def probe_all(self, urls: Mapping[str, str]) -> dict[str, CounterSample | str]:
        """One request to each; the counters of all that came so far.

        Args:
            urls: by key, the whole URL. A target that is no longer among them is forgotten.
        """
        turn = asyncio.Semaphore(MAX_CONCURRENT_PROBES)

        async def one(key: str, url: str) -> None:
            async with turn:
                seconds = await self._probe_once(url)
            self._counters[key] = self._add_observation(self._counters.get(key), seconds)

        self._counters = {key: counts for key, counts in self._counters.items() if key in urls}
        await asyncio.gather(*(one(key, url) for key, url in urls.items()))
        return dict(self._counters)

    async def _probe_once(self, url: str) -> float | None:
        """Seconds, None for an error."""
        began = perf_counter()
        try:
            async with (
                asyncio.timeout(self._config.timeout),
                self._session.get(url, allow_redirects=False, headers={"User-Agent": "zdd-probe"}) as response,
            ):
                await response.read()
                good = self._expected_status.fullmatch(str(response.status))
        except (aiohttp.ClientError, OSError, ValueError):  # a timeout is an OSError
            return None
        return perf_counter() - began if good else None

    def _add_observation(self, before: CounterSample | None, seconds: float | None) -> CounterSample:
        old = before or CounterSample(buckets=dict.fromkeys(self._bucket_bounds, 0.0))
        # No answer in time is an error, and slower than every bound.
        took = math.inf if seconds is None else seconds
        return CounterSample(
            requests=old.requests + 1,
            errors=old.errors + (seconds is None),
            buckets={bound: count + (took <= bound) for bound, count in old.buckets.items()},
            available=frozenset({"requests", "duration"}),
        )


def _build_bucket_bounds(timeout: float) -> tuple[float, ...]:
    bounds = [timeout]
    while bounds[-1] / _BUCKET_GROWTH > _SMALLEST_BUCKET:
        bounds.append(bounds[-1] / _BUCKET_GROWTH)
    return (*reversed(bounds), math.inf)


# --- Smoke checks: a few GET requests, straight to a pod, judged by status and by text in the body.


MAX_BODY_BYTES = 1 << 20
"""Bytes of an answer that are looked at."""
MAX_CONCURRENT_CHECKS = 8


async def run_smoke_checks(
    addresses: Sequence[tuple[str, int]], checks: Sequence[SmokeCheck], timeout: float
) -> list[str]:
    """Asks every address everything; nothing is asked twice, and redirects are answers like others.

    Args:
        addresses: host and port of each pod.
        timeout: seconds for one whole answer.

    Returns:
        what went wrong, a line for each request; empty when every answer was as expected. Bodies are not quoted:
        they may hold data.
    """
    # aiohttp costs a quarter of a second to import: not before the first paint.
    aiohttp: Any = await asyncio.to_thread(importlib.import_module, "aiohttp")
    gate = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

    async def one(session: Any, host: str, port: int, check: SmokeCheck) -> str:
        place = f"[{host}]" if ":" in host else host
        async with gate:
            try:
                async with asyncio.timeout(timeout):
                    url = f"http://{place}:{port}{check.path}"
                    async with session.get(url, allow_redirects=False) as response:
                        status, body = response.status, await _read_body(response)
            except TimeoutError:
                return f"{place}:{port} GET {check.path}: no answer within {timeout:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return f"{place}:{port} GET {check.path}: {type(error).__name__}"
        if status != check.status:
            return f"{place}:{port} GET {check.path}: {status} instead of {check.status}"
        if check.contains is not None and check.contains not in body:
            return f"{place}:{port} GET {check.path}: {check.contains!r} is not in the body"
        return ""

    async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        asked = (one(session, host, port, check) for host, port in addresses for check in checks)
        found = await asyncio.gather(*asked)
    return [line for line in found if line]


async def _read_body(response: Any) -> str:
    payload = bytearray()
    async for chunk in response.content.iter_any():
        payload += chunk
        if len(payload) >= MAX_BODY_BYTES:
            break
    return payload.decode(response.charset or "utf-8", errors="replace")

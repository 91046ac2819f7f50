"""HTTP requests to the service: probes of the guard, and smoke checks of new pods."""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from time import perf_counter

import aiohttp

from zdd_tui.model.guard.series import CounterSample
from zdd_tui.model.plan.guard import Probe
from zdd_tui.model.plan.strategies import SmokeCheck

MAX_CONCURRENT_PROBES = 50
_SMALLEST_BUCKET = 0.001
_BUCKET_GROWTH = 1.25
"""Ratio of two neighbouring bounds: a quantile is off by at most a quarter."""


class Prober:
    """Probes targets once per round, and counts their results."""

    def __init__(self, session: aiohttp.ClientSession, spec: Probe) -> None:
        self._session = session
        self._config = spec
        self._expected_status = re.compile(spec.expect)
        self._counters: dict[str, CounterSample] = {}
        self._bucket_bounds = _build_bucket_bounds(spec.timeout)

    async def probe_all(self, urls: Mapping[str, str]) -> dict[str, CounterSample | str]:
        """Sends one request to each target; returns the counters of all rounds.

        Args:
            urls: by key, the whole URL. Counters of targets that are not in it are dropped.
        """
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_PROBES)

        async def probe_one(key: str, url: str) -> None:
            async with semaphore:
                seconds = await self._probe_once(url)
            self._counters[key] = self._add_observation(self._counters.get(key), seconds)

        self._counters = {key: counts for key, counts in self._counters.items() if key in urls}
        await asyncio.gather(*(probe_one(key, url) for key, url in urls.items()))
        return dict(self._counters)

    async def _probe_once(self, url: str) -> float | None:
        """Returns the duration in seconds; None for an error."""
        began = perf_counter()
        try:
            async with (
                asyncio.timeout(self._config.timeout),
                self._session.get(url, allow_redirects=False, headers={"User-Agent": "zdd-probe"}) as response,
            ):
                await response.read()
                is_expected = self._expected_status.fullmatch(str(response.status))
        except (aiohttp.ClientError, OSError, ValueError):  # a timeout is an OSError
            return None
        return perf_counter() - began if is_expected else None

    def _add_observation(self, before: CounterSample | None, seconds: float | None) -> CounterSample:
        old = before or CounterSample(buckets=dict.fromkeys(self._bucket_bounds, 0.0))
        # An error counts as slower than every bound.
        duration = math.inf if seconds is None else seconds
        return CounterSample(
            requests=old.requests + 1,
            errors=old.errors + (seconds is None),
            buckets={bound: count + (duration <= bound) for bound, count in old.buckets.items()},
            available=frozenset({"requests", "duration"}),
        )


def _build_bucket_bounds(timeout: float) -> tuple[float, ...]:
    bounds = [timeout]
    while bounds[-1] / _BUCKET_GROWTH > _SMALLEST_BUCKET:
        bounds.append(bounds[-1] / _BUCKET_GROWTH)
    return (*reversed(bounds), math.inf)


# --- smoke checks: GET requests to a pod, checked by status and by text in the body

MAX_BODY_BYTES = 1 << 20
"""Bytes of a response that are searched."""
MAX_CONCURRENT_CHECKS = 8


async def run_smoke_checks(
    addresses: Sequence[tuple[str, int]], checks: Sequence[SmokeCheck], timeout: float
) -> list[str]:
    """Sends every check once to every address. Redirects are not followed.

    Args:
        addresses: host and port of each pod.
        timeout: seconds for one whole response.

    Returns:
        one line for each failed request; empty when every response was as expected. Bodies are not quoted: they may
        hold data.
    """
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_CHECKS)

    async def check_one(session: aiohttp.ClientSession, host: str, port: int, check: SmokeCheck) -> str:
        place = f"[{host}]" if ":" in host else host
        async with semaphore:
            try:
                async with asyncio.timeout(timeout):
                    url = f"http://{place}:{port}{check.path}"
                    async with session.get(url, allow_redirects=False) as response:
                        status, body = response.status, await _read_body(response)
            except TimeoutError:
                return f"{place}:{port} GET {check.path}: no response within {timeout:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return f"{place}:{port} GET {check.path}: {type(error).__name__}"
        if status != check.status:
            return f"{place}:{port} GET {check.path}: {status} instead of {check.status}"
        if check.contains is not None and check.contains not in body:
            return f"{place}:{port} GET {check.path}: {check.contains!r} is not in the body"
        return ""

    async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        lines = await asyncio.gather(
            *(check_one(session, host, port, check) for host, port in addresses for check in checks)
        )
    return [line for line in lines if line]


async def _read_body(response: aiohttp.ClientResponse) -> str:
    payload = bytearray()
    async for chunk in response.content.iter_any():
        payload += chunk
        if len(payload) >= MAX_BODY_BYTES:
            break
    return payload.decode(response.charset or "utf-8", errors="replace")

"""Requests of our own: is the service there, and how fast?"""

import asyncio
import math
import re
from collections.abc import Mapping
from time import perf_counter

import aiohttp

from zdd_tui.model.guard_series import Counts
from zdd_tui.model.plan_guard_sources import Probe

PARALLEL = 50
_FASTEST = 0.001
_GROWTH = 1.25
"""From one bucket's bound to the next: a quantile is off by at most a quarter."""


class Prober:
    """Probes targets once each round, and keeps their counters."""

    def __init__(self, session: aiohttp.ClientSession, spec: Probe) -> None:
        self._session = session
        self._spec = spec
        self._expected = re.compile(spec.expect)
        self._counts: dict[str, Counts] = {}
        self._bounds = _bounds(spec.timeout)

    async def round(self, addresses: Mapping[str, str]) -> dict[str, Counts | str]:
        """One request to each; the counters of all that came so far.

        Args:
            addresses: by key, the whole URL. A target that is no longer among them is forgotten.
        """
        turn = asyncio.Semaphore(PARALLEL)

        async def one(key: str, url: str) -> None:
            async with turn:
                seconds = await self._probe(url)
            self._counts[key] = self._plus(self._counts.get(key), seconds)

        self._counts = {key: counts for key, counts in self._counts.items() if key in addresses}
        await asyncio.gather(*(one(key, url) for key, url in addresses.items()))
        return dict(self._counts)

    async def _probe(self, url: str) -> float | None:
        """Seconds, None for an error."""
        began = perf_counter()
        try:
            async with (
                asyncio.timeout(self._spec.timeout),
                self._session.get(url, allow_redirects=False, headers={"User-Agent": "zdd-probe"}) as response,
            ):
                await response.read()
                good = self._expected.fullmatch(str(response.status))
        except (aiohttp.ClientError, OSError, ValueError):  # a timeout is an OSError
            return None
        return perf_counter() - began if good else None

    def _plus(self, before: Counts | None, seconds: float | None) -> Counts:
        old = before or Counts(buckets=dict.fromkeys(self._bounds, 0.0))
        # No answer in time is an error, and slower than every bound.
        took = math.inf if seconds is None else seconds
        return Counts(
            requests=old.requests + 1,
            errors=old.errors + (seconds is None),
            buckets={bound: count + (took <= bound) for bound, count in old.buckets.items()},
            known=frozenset({"requests", "duration"}),
        )


def _bounds(timeout: float) -> tuple[float, ...]:
    bounds = [timeout]
    while bounds[-1] / _GROWTH > _FASTEST:
        bounds.append(bounds[-1] / _GROWTH)
    return (*reversed(bounds), math.inf)

"""Reads the counters of shadow reads from the pods' /metrics."""

import asyncio
from collections.abc import Mapping

from zdd_tui.model.errors import MetricsError
from zdd_tui.model.shadow import FAMILIES, ShadowCounts

TIMEOUT = 3.0
"""Seconds for one pod's page; a gate may look for five."""
AT_ONCE = 16


async def read_shadows(addresses: Mapping[str, str], path: str) -> dict[str, ShadowCounts]:
    """The counters of every pod.

    Args:
        addresses: by key, ``host:port``.
        path: of the dark launch, as the pods' metrics name it.

    Raises:
        MetricsError: a pod gives none: what is not known must not open a gate.
    """
    import aiohttp  # noqa: PLC0415  # a quarter of a second: not before the first paint

    from zdd_tui.backends.scrape import scrape_samples  # noqa: PLC0415

    turn = asyncio.Semaphore(AT_ONCE)

    async def one(session: aiohttp.ClientSession, address: str) -> ShadowCounts:
        async with turn:
            try:
                samples = await scrape_samples(session, f"http://{address}/metrics", FAMILIES, TIMEOUT)
            except MetricsError as error:
                raise MetricsError(f"metrics of {address}: {error.title}") from None
        counts = ShadowCounts.of(samples, path)
        if not counts.results:
            raise MetricsError(
                f"metrics of {address} have no shadow_comparisons_total for path {path!r}",
                "check dark.path, and that the image runs a Shadow of that name",
            )
        return counts

    async with aiohttp.ClientSession(trust_env=False) as session:
        found = await asyncio.gather(*(one(session, address) for address in addresses.values()))
    return dict(zip(addresses, found, strict=True))

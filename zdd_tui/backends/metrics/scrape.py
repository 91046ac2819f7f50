"""Scrapes the metrics of pods, in Prometheus' text format 0.0.4 or OpenMetrics 1.0."""

import asyncio
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from zdd_tui.model.errors import MetricsError
from zdd_tui.model.guard.series import CounterSample
from zdd_tui.model.plan.guard import Scrape
from zdd_tui.model.shadow import METRIC_FAMILIES, ShadowCounters

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Larger pages of metrics are refused."""

PROCESS_START = "process_start_time_seconds"
"""The standard metric of Prometheus' client libraries ("Process metrics")."""

ACCEPT_HEADERS = {"Accept": "text/plain;version=0.0.4"}


async def scrape_all(
    session: aiohttp.ClientSession, addresses: Mapping[str, str], spec: Scrape
) -> dict[str, CounterSample | str]:
    """Reads the counters of many targets in parallel; the reason instead where one has none.

    Args:
        addresses: by key, ``http://host:port``.
    """
    semaphore = asyncio.Semaphore(spec.parallel)
    read = build_reader(spec)

    async def scrape_one(key: str, address: str) -> tuple[str, CounterSample | str]:
        async with semaphore:
            try:
                return key, read(await _fetch(session, address + spec.path, spec.timeout))
            except MetricsError as error:
                return key, error.title

    return dict(await asyncio.gather(*(scrape_one(key, address) for key, address in addresses.items())))


async def _fetch(session: aiohttp.ClientSession, url: str, timeout: float) -> str:
    try:
        async with (
            asyncio.timeout(timeout),
            session.get(url, headers=ACCEPT_HEADERS, allow_redirects=False) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise MetricsError(f"status {response.status}")
            body = await response.content.read(MAX_PAGE_BYTES + 1)
            while len(body) <= MAX_PAGE_BYTES and (more := await response.content.read(MAX_PAGE_BYTES)):
                body += more
    except TimeoutError:
        raise MetricsError(f"no response within {timeout:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise MetricsError(describe_unreachable(error)) from None
    if len(body) > MAX_PAGE_BYTES:
        raise MetricsError(f"more than {MAX_PAGE_BYTES // 1024 // 1024} MB of metrics")
    return body.decode("utf-8", "replace")


def describe_unreachable(error: BaseException) -> str:
    """Describes an error in a few words, without the address, which may hold a password."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "connection closed"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return type(error).__name__


def build_reader(spec: Scrape) -> Callable[[str], CounterSample]:
    """Builds a function that parses one page, and raises MetricsError where the page holds no metrics.

    A page of a real service has thousands of lines, and the parser takes some 10 µs for each: it gets only the lines
    of the two families that the guard uses.
    """
    families = "|".join((re.escape(spec.requests), f"{re.escape(spec.duration)}_bucket", PROCESS_START))
    wanted = re.compile(rf"^(?:{families})[{{ ].*$", re.MULTILINE)
    kinds = re.compile(r"^# TYPE (\S+) ", re.MULTILINE)
    errors = re.compile(spec.errors)

    def read(page: str) -> CounterSample:
        if "\x00" in page or page.lstrip()[:1] == "<":
            raise MetricsError("not a page of metrics")
        types = set(kinds.findall(page))
        lines = "\n".join(match[0] for match in wanted.finditer(page))
        available = {"duration"} if spec.duration in types else set()
        if spec.requests in types or spec.requests.removesuffix("_total") in types:
            available.add("requests")
        try:
            return _parse_counters(lines, spec, errors, available)
        except (ValueError, KeyError, IndexError) as error:
            raise MetricsError(f"not a page of metrics: {error}"[:120]) from None

    return read


def _parse_counters(lines: str, spec: Scrape, errors: "re.Pattern[str]", available: set[str]) -> CounterSample:
    requests = failed = started = 0.0
    has_codes = False
    buckets: dict[float, float] = {}
    for name, labels, value in _parse_samples(lines):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} is {value}, which is not a valid counter")
        if name == spec.requests:
            has_codes |= spec.code in labels
            requests += value
            failed += value if errors.fullmatch(labels.get(spec.code, "")) else 0.0
        elif name == PROCESS_START:
            started = value
        elif "le" in labels:
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    if requests and not has_codes:
        available.discard("requests")  # without status codes errors cannot be recognised
    elif has_codes:
        available.add("requests")
    if buckets:
        available.add("duration")
    return CounterSample(
        requests=requests, errors=failed, buckets=buckets, available=frozenset(available), process_started=started
    )


def _parse_samples(lines: str) -> Iterable[tuple[str, Mapping[str, str], float]]:
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            yield sample.name, sample.labels, float(sample.value)


async def scrape_samples(
    session: aiohttp.ClientSession, url: str, families: Iterable[str], timeout: float
) -> list[tuple[str, Mapping[str, str], float]]:
    """Reads name, labels and value of every line that starts with one of these names.

    Args:
        families: such as ``shadow_duration_seconds``; buckets, sum and count come with it.
        timeout: seconds for the whole page.

    Raises:
        MetricsError: the page cannot be read, or holds no metrics.
    """
    page = await _fetch(session, url, timeout)
    names = tuple(families)
    lines = "\n".join(line for line in page.splitlines() if line.startswith(names))
    try:
        return list(_parse_samples(lines))
    except (ValueError, KeyError, IndexError) as error:
        raise MetricsError(f"not a page of metrics: {error}"[:120]) from None


# --- counters of shadow reads

READ_TIMEOUT = 3.0
"""Seconds, for the page of one pod; a gate has five."""
MAX_CONCURRENT_READS = 16


async def read_shadow_counters(addresses: Mapping[str, str], path: str) -> dict[str, ShadowCounters]:
    """Reads the counters of every pod.

    Args:
        addresses: by key, ``host:port``.
        path: name of the path in the metrics, from the dark launch.

    Raises:
        MetricsError: a pod has none: unknown counters must not open a gate.
    """
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def read_one(session: aiohttp.ClientSession, address: str) -> ShadowCounters:
        async with semaphore:
            try:
                samples = await scrape_samples(session, f"http://{address}/metrics", METRIC_FAMILIES, READ_TIMEOUT)
            except MetricsError as error:
                raise MetricsError(f"metrics of {address}: {error.title}") from None
        counts = ShadowCounters.from_samples(samples, path)
        if not counts.results:
            raise MetricsError(
                f"metrics of {address} have no shadow_comparisons_total for path {path!r}",
                "check dark.path, and that the image runs a Shadow of that name",
            )
        return counts

    async with aiohttp.ClientSession(trust_env=False) as session:
        counters = await asyncio.gather(*(read_one(session, address) for address in addresses.values()))
    return dict(zip(addresses, counters, strict=True))

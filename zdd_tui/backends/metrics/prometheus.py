"""One number from a Prometheus server's HTTP API, or why there is none.

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
"""

import asyncio
import json
import math
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from zdd_tui.backends.metrics.scrape import describe_unreachable
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.plan.guard import PrometheusServer


async def query_value(session: aiohttp.ClientSession, server: PrometheusServer, query: str, *, now: float) -> float:
    """The value of an instant query that gives one number.

    Args:
        now: seconds since the epoch; an answer for another moment than this is refused.

    Raises:
        MetricsError: the server is away, slow, refuses us or is none; PromQL that it cannot read; no element, or more
            than one; NaN; a moment too far from now. The title is one line without a secret.
    """
    answer = await _fetch_result(session, server, query)
    at, value = _single_value(answer, query)
    skew = now - at
    if abs(skew) > server.max_skew:
        where = "in the past" if skew > 0 else "in the future"
        raise MetricsError(f"Prometheus answers for a moment {format_duration(abs(skew))} {where}: compare the clocks")
    if not math.isfinite(value):
        raise MetricsError(f"the query gives {value}", "where it divides by zero without traffic: add `or vector(0)`")
    return value


def server_address(server: PrometheusServer) -> str:
    """``host:port``, for messages."""
    parts = urlsplit(server.url.get_secret_value())
    return parts.netloc.rpartition("@")[2]


async def _fetch_result(session: aiohttp.ClientSession, server: PrometheusServer, query: str) -> Any:
    url = server.url.get_secret_value().rstrip("/") + "/api/v1/query"
    headers = {"Authorization": f"Bearer {server.token.get_secret_value()}"} if server.token else {}
    form = {"query": query, "timeout": f"{server.timeout * 1000:.0f}ms"}
    try:
        async with asyncio.timeout(server.timeout), session.post(url, data=form, headers=headers) as response:
            status, body = response.status, await response.read()
    except TimeoutError:
        raise MetricsError(f"Prometheus {server_address(server)}: no answer within {server.timeout:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise MetricsError(f"Prometheus {server_address(server)} is away: {describe_unreachable(error)}") from None
    if status in (401, 403):
        raise MetricsError(f"Prometheus {server_address(server)} does not let us in: status {status}")
    try:
        answer = json.loads(body)
        if not isinstance(answer, dict) or "status" not in answer:
            raise ValueError
    except ValueError:
        raise MetricsError(
            f"{server_address(server)} is no Prometheus: status {status}, and no answer of its API"
        ) from None
    if answer["status"] != "success":
        told = " ".join(str(answer.get("error", "")).split())[:200]
        raise MetricsError(
            f"Prometheus refuses the query: {answer.get('errorType', '')}: {told}", "try it in its own page"
        )
    return answer.get("data")


def _single_value(data: Any, query: str) -> tuple[float, float]:
    """Moment and value."""
    shown = query if len(query) <= 60 else f"{query[:57]}..."
    try:
        kind, result = data["resultType"], data["result"]
        if kind == "scalar":
            return float(result[0]), float(result[1])
        if kind != "vector":
            raise MetricsError(f"the query gives a {kind}, not one number: {shown}", "put rate() or sum() around it")
        if not result:
            raise MetricsError(f"the query finds nothing: {shown}", "compare its names and labels with the server's")
        if len(result) > 1:
            raise MetricsError(
                f"the query gives {len(result)} series, not one: {shown}", "put sum() or max() around it"
            )
        at, value = result[0]["value"]
        return float(at), float(value)
    except (KeyError, TypeError, ValueError, IndexError):
        raise MetricsError("Prometheus gives an answer that its API does not have") from None

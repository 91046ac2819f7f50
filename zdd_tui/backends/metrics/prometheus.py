"""One number from the HTTP API of a Prometheus server, or the reason why there is none.

https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
"""

import asyncio
import json
import math
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from zdd_tui.backends.metrics.scrape import describe_unreachable
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import MetricsError
from zdd_tui.model.plan.guard import PrometheusServer


async def query_value(session: aiohttp.ClientSession, server: PrometheusServer, query: str, *, now: float) -> float:
    """Runs an instant query that returns one number.

    Args:
        now: seconds since 1970; a result for another time is refused.

    Raises:
        MetricsError: the server is unreachable, slow, refuses access or is not Prometheus; invalid PromQL; no series,
            or more than one; NaN; a time too far from now. The title is one line without secrets.
    """
    data = await _fetch_data(session, server, query)
    at, value = _single_value(data, query)
    skew = now - at
    if abs(skew) > server.max_skew:
        where = "in the past" if skew > 0 else "in the future"
        # The guard shows only the title.
        raise MetricsError(f"the result of Prometheus is {format_duration(abs(skew))} {where}: compare the clocks")
    if not math.isfinite(value):
        raise MetricsError(f"the query returns {value}", "if it divides by zero without traffic, add `or vector(0)`")
    return value


def server_address(server: PrometheusServer) -> str:
    """Returns ``host:port``, for messages."""
    parts = urlsplit(server.url.get_secret_value())
    return parts.netloc.rpartition("@")[2]


async def _fetch_data(session: aiohttp.ClientSession, server: PrometheusServer, query: str) -> Any:
    url = server.url.get_secret_value().rstrip("/") + "/api/v1/query"
    headers = {"Authorization": f"Bearer {server.token.get_secret_value()}"} if server.token else {}
    form = {"query": query, "timeout": f"{server.timeout * 1000:.0f}ms"}
    try:
        async with asyncio.timeout(server.timeout), session.post(url, data=form, headers=headers) as response:
            status, body = response.status, await response.read()
    except TimeoutError:
        raise MetricsError(f"Prometheus {server_address(server)}: no response within {server.timeout:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise MetricsError(
            f"Prometheus {server_address(server)} is unreachable: {describe_unreachable(error)}"
        ) from None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise MetricsError(f"Prometheus {server_address(server)} refuses access: status {status}")
    try:
        answer = json.loads(body)
        if not isinstance(answer, dict) or "status" not in answer:
            raise ValueError
    except ValueError:
        raise MetricsError(f"{server_address(server)} is not a Prometheus API: status {status}") from None
    if answer["status"] != "success":
        message = " ".join(str(answer.get("error", "")).split())[:200]
        raise MetricsError(
            f"Prometheus refuses the query: {answer.get('errorType', '')}: {message}",
            "test the query in the Prometheus web page",
        )
    return answer.get("data")


def _single_value(data: Any, query: str) -> tuple[float, float]:
    """Returns the time and the value."""
    shown = query if len(query) <= 60 else f"{query[:57]}..."
    try:
        kind, result = data["resultType"], data["result"]
        if kind == "scalar":
            return float(result[0]), float(result[1])
        if kind != "vector":
            raise MetricsError(f"the query returns a {kind}, not one number: {shown}", "put rate() or sum() around it")
        if not result:
            raise MetricsError(f"the query returns no series: {shown}", "check its metric names and labels")
        if len(result) > 1:
            raise MetricsError(
                f"the query returns {len(result)} series, not one: {shown}", "put sum() or max() around it"
            )
        at, value = result[0]["value"]
        return float(at), float(value)
    except (KeyError, TypeError, ValueError, IndexError):
        raise MetricsError("the result of Prometheus does not match its API") from None

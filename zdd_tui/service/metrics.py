"""Request metrics in Prometheus' text format (version 0.0.4): one counter, one histogram, one gauge.

The official client would add a tenth to the start-up time of every pod for three series.
"""

from bisect import bisect_left
from collections import Counter

BUCKET_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds, inclusive; +Inf follows."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class DurationHistogram:
    """Durations in seconds, counted by BUCKET_BOUNDS."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BUCKET_BOUNDS) + 1)
        self._seconds = 0.0

    def observe(self, seconds: float) -> None:
        self._buckets[bisect_left(BUCKET_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def lines(self, name: str, labels: str = "") -> list[str]:
        """The samples of a metric; ``labels`` such as ``path="users"``."""
        lines, total = [], 0
        for bound, count in zip((*map(str, BUCKET_BOUNDS), "+Inf"), self._buckets, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{labels}{"," if labels else ""}le="{bound}"}} {total}')
        braces = f"{{{labels}}}" if labels else ""
        return [*lines, f"{name}_sum{braces} {self._seconds}", f"{name}_count{braces} {total}"]


class RequestMetrics:
    """Counts requests by method and status code, and their durations."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._durations = DurationHistogram()

    def observe(self, method: str, code: int, seconds: float) -> None:
        self._requests[method, code] += 1
        self._durations.observe(seconds)

    def render(self, in_flight: int) -> str:
        lines = ["# HELP http_requests_total Requests by method and status code."]
        lines.append("# TYPE http_requests_total counter")
        for (method, code), count in sorted(self._requests.items()):
            lines.append(f'http_requests_total{{method="{method}",code="{code}"}} {count}')
        lines.append("# HELP http_request_duration_seconds Time from the request's head to the response's.")
        lines.append("# TYPE http_request_duration_seconds histogram")
        lines += self._durations.lines("http_request_duration_seconds")
        lines.append("# HELP http_requests_in_flight Requests that are being served now.")
        lines.append("# TYPE http_requests_in_flight gauge")
        lines.append(f"http_requests_in_flight {in_flight}")
        return "\n".join(lines) + "\n"

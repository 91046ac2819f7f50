"""Limits how often an event may happen."""


class RateLimiter:
    """At most one event per interval on average, and immediately after an idle time.

    An event that is slightly early is allowed and delays the next one, so that a steady stream of exactly this rate is
    never delayed: the generic cell rate algorithm (ITU-T I.371).

    Args:
        interval: seconds between two events.
        slack: seconds that an event may be early.
    """

    def __init__(self, interval: float, slack: float = 0.0) -> None:
        self._interval = interval
        self._slack = slack
        self._next_at = float("-inf")

    def seconds_until_allowed(self, now: float) -> float:
        """Seconds until the next event is allowed; 0 where it is allowed now."""
        return max(0.0, self._next_at - self._slack - now)

    def record(self, now: float) -> None:
        """Records an event, also one that was not allowed yet: a request must not delay automatic events."""
        self._next_at = min(max(self._next_at, now) + self._interval, now + self._interval + self._slack)

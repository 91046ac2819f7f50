"""How often something that could happen all the time may happen."""


class RateLimiter:
    """At most once in so many seconds on average, and at once after a rest.

    What comes a little early is let through and the next one pays for it, so that a steady stream of just this rate is
    never held up: the generic cell rate algorithm (ITU-T I.371).

    Args:
        interval: seconds from one to the next.
        slack: seconds that one may come early.
    """

    def __init__(self, interval: float, slack: float = 0.0) -> None:
        self._interval = interval
        self._slack = slack
        self._next_at = float("-inf")

    def seconds_until_allowed(self, now: float) -> float:
        """Seconds until the next one may happen; 0 where it may now."""
        return max(0.0, self._next_at - self._slack - now)

    def record(self, now: float) -> None:
        """It did, also where it was not due: what somebody asked for is not held against what comes by itself."""
        self._next_at = min(max(self._next_at, now) + self._interval, now + self._interval + self._slack)

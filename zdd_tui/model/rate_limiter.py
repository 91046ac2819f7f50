"""How often something that could happen all the time may happen."""


class Cadence:
    """At most once in so many seconds on average, and at once after a rest.

    What comes a little early is let through and the next one pays for it, so that a steady stream of just this rate is
    never held up: the generic cell rate algorithm (ITU-T I.371).

    Args:
        every: seconds from one to the next.
        slack: seconds that one may come early.
    """

    def __init__(self, every: float, slack: float = 0.0) -> None:
        self._every = every
        self._slack = slack
        self._due = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next one may happen; 0 where it may now."""
        return max(0.0, self._due - self._slack - now)

    def happened(self, now: float) -> None:
        """It did, also where it was not due: what somebody asked for is not held against what comes by itself."""
        self._due = min(max(self._due, now) + self._every, now + self._every + self._slack)

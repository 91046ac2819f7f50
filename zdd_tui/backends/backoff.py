"""The pauses between attempts: exponential, capped, with jitter.

Tenacity and stamina retry a function that either fails or returns. The loops here follow a watch, a LISTEN or a log:
they run forever, yield between the attempts, and start again from the first pause after a good spell. So only the
schedule is shared; each loop reports the reason of a failure itself.
"""

import asyncio
import random
import time


class Backoff:
    """A pause before each retry. It doubles from `first` to `longest`; :meth:`reset` starts again from `first`.

    Args:
        first: seconds, the upper bound of the first pause.
        longest: seconds, the upper bound of every pause.
        jitter: share of a pause that is random, so that many clients do not return at once.
        reset_after: an attempt that ran for this many seconds counts as a success.
    """

    def __init__(self, first: float, longest: float, *, jitter: float = 0.5, reset_after: float | None = None) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._reset_after = reset_after
        self._failures = 0
        self._attempt_began = time.monotonic()

    def reset(self) -> None:
        """Call it after a success."""
        self._failures = 0

    def next_delay(self) -> float:
        """Counts a failure and returns the seconds to wait, for a caller with a sleep of its own."""
        longest = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return random.uniform(longest * (1 - self._jitter), longest)  # noqa: S311

    async def sleep(self) -> None:
        """Waits before the next attempt. Can be cancelled."""
        if self._reset_after is not None and time.monotonic() - self._attempt_began > self._reset_after:
            self.reset()
        await asyncio.sleep(self.next_delay())
        self._attempt_began = time.monotonic()

"""Gates: a verdict with a reason and an age. Only pass opens a gate."""

from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.duration import format_duration


class Verdict(StrEnum):
    """The result of a gate or a check. Only ``pass`` opens a gate.

    ``pending`` is neutral: what is checked has not finished yet (a soak, a backfill, a rollout). It opens nothing and
    is no failure. ``inconclusive`` has too little data; ``unknown`` could not be read.
    """

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    PENDING = "pending"
    INCONCLUSIVE = "inconclusive"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class GateReading:
    """The verdict of a gate at a time.

    Attributes:
        observed_at: time of the oldest data that it rests on, not that of the check; seconds since the epoch, by the
            database's clock.
        max_age: seconds after which the reading counts as unknown.
        since: when the verdict last changed, as `observed_at`; 0 where that is not known.
    """

    name: str
    verdict: Verdict
    reason: str
    observed_at: float
    max_age: float = 10.0
    since: float = 0.0

    def age(self, now: float) -> float:
        return max(0.0, now - self.observed_at)

    def as_of(self, now: float) -> "GateReading":
        """The reading as it counts now: a stale one is unknown."""
        if self.age(now) <= self.max_age or self.verdict is Verdict.UNKNOWN:
            return self
        return replace(self, verdict=Verdict.UNKNOWN, reason=f"STALE {format_duration(self.age(now))}: {self.reason}")

    def withdrawn(self, why: str) -> "GateReading":
        """The reading of an agent that is not known to work: unknown, with the last verdict in its reason.

        Args:
            why: what is known of the agent.
        """
        if self.verdict is Verdict.UNKNOWN:
            return self
        return replace(self, verdict=Verdict.UNKNOWN, reason=describe_withdrawn(why, self.verdict, self.reason))


def describe_withdrawn(why: str, verdict: Verdict, reason: str) -> str:
    """``no agent; last: pass, 4 of 4 pods``."""
    return f"{why}; last: {verdict}{f', {reason}' if reason else ''}"


def unread_gate(name: str, now: float) -> GateReading:
    """The reading of a gate that was not checked yet."""
    return GateReading(name, Verdict.UNKNOWN, "not checked yet", now)

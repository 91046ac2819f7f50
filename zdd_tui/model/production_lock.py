"""What an operator may change from one dashboard: everything, nothing, or what an unlock allows for a while.

Production opens locked, so that a key pressed in the wrong window changes nothing. The way back stays open while it is
locked; only ``--read-only`` takes that away too. Times are monotonic seconds.
"""

from dataclasses import dataclass, replace

from zdd_tui.model.actions import Action

UNLOCK_SECONDS = 900.0
"""How long an unlock lasts unless plan or command line say otherwise."""


@dataclass(frozen=True, slots=True)
class ProductionLock:
    """What may be changed.

    Attributes:
        read_only: nothing, for as long as the dashboard lives.
        guarded: the environment is production: it opens locked.
        unlock_seconds: how long an unlock lasts.
        unlocked_until: when the present unlock runs out; None where there is none.
    """

    read_only: bool = False
    guarded: bool = False
    unlock_seconds: float = UNLOCK_SECONDS
    unlocked_until: float | None = None

    def is_locked(self, now: float) -> bool:
        """It can be unlocked, and is not."""
        return self.guarded and not self.read_only and self.seconds_left(now) <= 0

    def seconds_left(self, now: float) -> float:
        """Seconds of the unlock that are left; 0 where there is none."""
        return 0.0 if self.unlocked_until is None else max(0.0, self.unlocked_until - now)

    def is_unlocked(self, now: float) -> bool:
        """It was locked, and is open for a while."""
        return self.guarded and not self.read_only and self.seconds_left(now) > 0

    def unlock(self, now: float) -> "ProductionLock":
        """Opens it for :attr:`unlock_seconds`; one that cannot be opened stays as it is."""
        return replace(self, unlocked_until=now + self.unlock_seconds) if self.guarded and not self.read_only else self

    def lock(self) -> "ProductionLock":
        return replace(self, unlocked_until=None)

    def is_available(self, action: Action, now: float) -> bool:
        """Whether an action exists for the operator now."""
        if action.id == "unlock":
            return self.is_locked(now)
        if action.id == "lock":
            return self.is_unlocked(now)
        if not action.mutating:
            return True
        return not self.read_only and (action.available_while_locked or not self.is_locked(now))


UNRESTRICTED = ProductionLock()
"""No lock: what is not production."""

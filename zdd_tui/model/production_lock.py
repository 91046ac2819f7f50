"""Which environments are production, and the lock of a production dashboard.

Production opens locked, so that a key pressed in the wrong window changes nothing. Rollback stays available while it is
locked; only ``--read-only`` hides it too. Times are monotonic seconds.
"""

import re
from dataclasses import dataclass, replace

from zdd_tui.model.actions import Action

_PRODUCTION_WORDS = frozenset({"prod", "production", "prd", "live"})
_NEGATING_PREFIXES = frozenset({"pre", "non", "not", "no", "pseudo"})
_NEGATING_SUFFIXES = frozenset({"like", "copy", "clone"})
_SPLIT = re.compile(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])")


def is_production(name: str, declared: bool | None = None) -> bool:
    """Whether an environment is production: what the plan declares; its name decides only where the plan is silent.

    A name suggests production with ``prod``, ``production``, ``prd`` or ``live`` as a word of it, in any case, such as
    ``prod-eu`` or ``shop_Production2``; but not ``preprod``, ``non-prod`` or ``prod-like``.
    """
    if declared is not None:
        return declared
    words = [word.lower() for word in _SPLIT.split(name) if word]
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        if word in _PRODUCTION_WORDS and before not in _NEGATING_PREFIXES and after not in _NEGATING_SUFFIXES:
            return True
    return False


# --- the lock

UNLOCK_SECONDS = 900.0
"""Default duration of an unlock, in seconds."""


@dataclass(frozen=True, slots=True)
class ProductionLock:
    """Which actions the dashboard offers.

    Attributes:
        read_only: no action that changes anything, and no unlock.
        guarded: the environment is production: it opens locked.
        unlock_seconds: duration of an unlock.
        unlocked_until: end of the current unlock; None where there is none.
    """

    read_only: bool = False
    guarded: bool = False
    unlock_seconds: float = UNLOCK_SECONDS
    unlocked_until: float | None = None

    def is_locked(self, now: float) -> bool:
        """Whether it can be unlocked, and is not."""
        return self.guarded and not self.read_only and self.seconds_left(now) <= 0

    def seconds_left(self, now: float) -> float:
        """Seconds left of the unlock; 0 where there is none."""
        return 0.0 if self.unlocked_until is None else max(0.0, self.unlocked_until - now)

    def is_unlocked(self, now: float) -> bool:
        """Whether it is unlocked for a limited time."""
        return self.guarded and not self.read_only and self.seconds_left(now) > 0

    def unlock(self, now: float) -> "ProductionLock":
        """Unlocks it for :attr:`unlock_seconds`; no effect where it is read-only or not guarded."""
        return replace(self, unlocked_until=now + self.unlock_seconds) if self.guarded and not self.read_only else self

    def lock(self) -> "ProductionLock":
        return replace(self, unlocked_until=None)

    def is_available(self, action: Action, now: float) -> bool:
        """Whether an action is available to the operator now."""
        if action.id == "unlock":
            return self.is_locked(now)
        if action.id == "lock":
            return self.is_unlocked(now)
        if not action.mutating:
            return True
        return not self.read_only and (action.available_while_locked or not self.is_locked(now))


UNRESTRICTED = ProductionLock()
"""The lock of an environment that is not production."""

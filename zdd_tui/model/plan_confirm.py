"""How the dashboard and the command line ask before something is changed: the plan's `confirm` section."""

from enum import StrEnum

from pydantic import Field

from zdd_tui.model.access import UNLOCK_SECONDS
from zdd_tui.model.duration import Duration
from zdd_tui.model.plan_guard_sources import Section


class Reasoned(StrEnum):
    """Commands that a reason can be asked for."""

    ADVANCE = "advance"
    PAUSE = "pause"
    RESUME = "resume"
    TUNE = "tune"
    ROLLBACK = "rollback"


class Confirm(Section):
    """What is asked of whoever gives a command."""

    reason: tuple[Reasoned, ...] = Field(
        (),
        description="commands that want a reason, such as [advance]; rollback asks for one, and goes without it too",
    )
    unlock: Duration = Field(
        UNLOCK_SECONDS,
        gt=0,
        description="how long an unlock of production lasts in the dashboard before it locks again",
    )

    def wants_reason(self, kind: str, reason: str) -> bool:
        """A command is refused for want of a reason. Rollback never is: the way back waits for no words."""
        return kind in self.reason and kind != Reasoned.ROLLBACK and not reason.strip()

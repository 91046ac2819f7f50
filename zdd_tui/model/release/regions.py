"""One region after the other: when the release of the next region may start.

The release of a region is stored in that region's own database. It may start when every earlier region has completed
the same plan and the last of them has soaked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import ReleaseState

REGION_GATE = "region"

REGION_ROLLED_BACK = "ROLLED BACK: the release stops at region "
"""Before the region's name: the gate's reason where it never passes again."""


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """The release of one plan in a region's database.

    Attributes:
        state: of the newest release of that plan; None where there is none, or where it could not be read.
        phase: its current phase, or empty.
        seconds_since_end: by that database's clock; None while it has not ended.
        was_rolled_back: a release of that plan was rolled back there at some time, or is being rolled back.
        runs_other_plan: the release of that name runs another version of the plan file.
        error: why the region could not be read, in one line; else empty.
    """

    region: str
    state: ReleaseState | None = None
    phase: str = ""
    is_paused: bool = False
    seconds_since_end: float | None = None
    was_rolled_back: bool = False
    runs_other_plan: bool = False
    error: str = ""

    def has_soaked(self, soak: float) -> bool:
        """Done for so many seconds; never true for a region that could not be read or was rolled back."""
        is_done = self.state is ReleaseState.DONE and not self.was_rolled_back and not self.error
        return is_done and self.seconds_since_end is not None and self.seconds_since_end >= soak

    def describe(self, soak: float) -> str:
        """The state, for people."""
        if self.error:
            return f"unreachable: {self.error}"
        if self.was_rolled_back:
            if self.state is ReleaseState.DONE:
                return "was ROLLED BACK before"
            return "ROLLED BACK" if self.state in (ReleaseState.ROLLED_BACK, None) else "rolling back"
        if self.runs_other_plan:
            return "not started with this plan: its release runs another version of the plan"
        if self.state is None or self.state is ReleaseState.PLANNED:
            return "not started"
        if self.state is ReleaseState.DONE:
            left = soak - (self.seconds_since_end or 0.0)
            return f"done, soaking: {format_duration(left)} left" if left > 0 else "done"
        text = f"{self.state} in {self.phase}" if self.phase else str(self.state)
        return f"{text}, PAUSED" if self.is_paused else text


def evaluate_regions(earlier: Sequence[RegionStatus], soak_seconds: float) -> tuple[Verdict, str]:
    """Whether a release may start, as far as the earlier regions are concerned.

    Args:
        earlier: those regions, in order; none for the first.
        soak_seconds: seconds for which the last of them must have been done.

    Returns:
        verdict and reason: pass only where all are done and the last has soaked; fail where one was rolled back or has
        failed; pending where one has not finished; unknown where one could not be read.
    """
    for status in earlier:
        if status.was_rolled_back and not status.error:
            return Verdict.FAIL, f"{REGION_ROLLED_BACK}{status.region}"
    for number, status in enumerate(earlier, 1):
        needed = soak_seconds if number == len(earlier) else 0.0
        if not status.has_soaked(needed):
            failed = status.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED)
            verdict = Verdict.UNKNOWN if status.error else Verdict.FAIL if failed else Verdict.PENDING
            return verdict, f"region {status.region} is {status.describe(needed)}"
    if not earlier:
        return Verdict.PASS, "the first region waits for no other"
    return Verdict.PASS, f"region {earlier[-1].region} is done and has soaked {format_duration(soak_seconds)}"


def find_current_region(statuses: Sequence[RegionStatus], soak: float) -> RegionStatus:
    """The first region that has not soaked or could not be read; the last one where all have soaked."""
    return next((status for status in statuses if not status.has_soaked(soak)), statuses[-1])


def require_same_region(plan: BasePlan, region: str) -> None:
    """
    Args:
        region: of a release of this plan, as stored in its database.

    Raises:
        PlanError: the release belongs to another region: two addresses lead to one database.
    """
    if region != plan.region:
        raise PlanError(
            f"the database of region {plan.region or '(none)'} holds the release of region {region or '(none)'}",
            "each region needs a database of its own: check database.dsn of both",
        )

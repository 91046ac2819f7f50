"""One region after the other: which plan each has, and when the next may begin. Pure.

A release in one region stands in that region's own database, and knows nothing of the others but this: it begins
when every region before it has carried the very same plan to its end, and the last of them has soaked.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import ReleaseState

REGION_GATE = "region"
KeyPath = tuple[str | int, ...]

# --- when the next may begin ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """What a region's database says of the release of one plan.

    Attributes:
        state: of the newest release of that plan; None where there is none, or where it could not be read.
        phase: its current phase, or empty.
        seconds_since_end: seconds since it ended, by that database's clock; None while it has not.
        was_rolled_back: a release of that plan was rolled back there at some time, or is on its way back.
        runs_other_plan: there is none of that plan, but one of its name with another: the file was changed since.
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
        """Done for so many seconds. What could not be read, or was rolled back, never is."""
        done = self.state is ReleaseState.DONE and not self.was_rolled_back and not self.error
        return done and self.seconds_since_end is not None and self.seconds_since_end >= soak

    def describe(self, soak: float) -> str:
        """Where it stands, for people."""
        if self.error:
            return f"unreachable: {self.error}"
        if self.was_rolled_back:
            rolled = (
                "ROLLED BACK" if self.state in (ReleaseState.ROLLED_BACK, ReleaseState.DONE, None) else "rolling back"
            )
            return "was ROLLED BACK before" if self.state is ReleaseState.DONE else rolled
        if self.runs_other_plan:
            return "not begun with this plan: its release is of another version of it"
        if self.state is None or self.state is ReleaseState.PLANNED:
            return "not begun"
        if self.state is ReleaseState.DONE:
            left = soak - (self.seconds_since_end or 0.0)
            return f"done, soaking: {format_duration(left)} left" if left > 0 else "done"
        place = f"{self.state} in {self.phase}" if self.phase else str(self.state)
        return f"{place}, PAUSED" if self.is_paused else place


def evaluate_regions(earlier: Sequence[RegionStatus], soak_seconds: float) -> tuple[Verdict, str]:
    """May a release begin, as far as the regions before its own are concerned?

    Args:
        earlier: those regions, in order; none for the first.
        soak_seconds: seconds that the last of them must have been done.

    Returns:
        pass only where every one of them is done and the last has soaked; fail for good where one was rolled back.
    """
    for stand in earlier:
        if stand.was_rolled_back and not stand.error:
            return Verdict.FAIL, f"ROLLED BACK: the release stops at region {stand.region}"
    for number, stand in enumerate(earlier, 1):
        needed = soak_seconds if number == len(earlier) else 0.0
        if stand.has_soaked(needed):
            continue
        told = f"region {stand.region} is {stand.describe(needed)}"
        return (Verdict.UNKNOWN if stand.error else Verdict.FAIL), told
    if not earlier:
        return Verdict.PASS, "the first region waits for nobody"
    return Verdict.PASS, f"region {earlier[-1].region} is done and has soaked {format_duration(soak_seconds)}"


def find_current_region(statuses: Sequence[RegionStatus], soak: float) -> RegionStatus:
    """The first that is not done and soaked; the last one where all are. One that could not be read is not."""
    return next((stand for stand in statuses if not stand.has_soaked(soak)), statuses[-1])


def require_same_region(plan: BasePlan, region: str) -> None:
    """
    Args:
        region: of a release of this plan, as its database says.

    Raises:
        PlanError: the release is another region's: two addresses lead to one database.
    """
    if region != plan.region:
        raise PlanError(
            f"the database of region {plan.region or '(none)'} holds the release of region {region or '(none)'}",
            "each region has a database of its own: check the dsn of both",
        )

"""Was the way back walked, and how much did it carry?"""

from zdd_tui.model.doctor.facts import Facts, WayBack
from zdd_tui.model.doctor.finding import Observation, failed, passed, unsure
from zdd_tui.model.duration import human_duration
from zdd_tui.model.gate import Verdict

_MEND = "zdd rehearse PLAN"


def rehearsed(facts: Facts) -> Observation:
    """Whether this version of the plan was walked forward and back."""
    history = facts.history.value
    if history is None:
        return facts.history.failure
    newest = newest_of(history.rehearsals, facts.plan_hash)
    if newest is None:
        if other := max(history.rehearsals, key=lambda each: each.at, default=None):
            age = human_duration(max(0.0, facts.now - other.at))
            return failed(f"rehearsed {age} ago, but for another version of the plan ({other.plan_hash[:8]})", _MEND)
        return failed("never rehearsed", _MEND)
    age = human_duration(max(0.0, facts.now - newest.at))
    if newest.verdict == Verdict.PASS:
        return passed(f"this version of the plan was rolled back on {newest.where} {age} ago")
    return failed(
        f"the rehearsal of {age} ago on {newest.where} says {newest.verdict}", "read it, mend, rehearse again"
    )


def at_production_volume(facts: Facts) -> Observation:
    """Whether the rehearsal carried as much as production holds."""
    history = facts.history.value
    if history is None:
        return facts.history.failure
    good = [each for each in history.rehearsals if each.plan_hash == facts.plan_hash and each.verdict == Verdict.PASS]
    if not good:
        return unsure("no rehearsal of this version of the plan", f"{_MEND}, at full volume")
    best = max(good, key=lambda each: each.scale or 0.0)
    told = f"rehearsed on {best.where}" + (f" with {best.rows:,} rows" if best.rows is not None else "")
    if best.scale is None:
        return unsure(f"{told}; production's volume was not compared", _MEND)
    if best.scale >= 1.0:
        return passed(f"{told}, all of production's volume")
    return unsure(f"{told}, {best.scale:.0%} of production's volume", f"{_MEND} --scale 1")


def newest_of(rehearsals: tuple[WayBack, ...], plan_hash: str) -> WayBack | None:
    """The newest one of a version of the plan."""
    return max((each for each in rehearsals if each.plan_hash == plan_hash), key=lambda each: each.at, default=None)

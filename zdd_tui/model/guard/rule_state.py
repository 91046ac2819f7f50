"""A rule over time: `for`, `no_data`, and the strip of its last values. One finding after the other goes in, and a
reading comes out.

Time in which nobody looked proves nothing: it counts neither towards `for` nor towards `no_data`, and it ends neither.
An agent that takes over goes on with the course of the one before it.
"""

import math
from dataclasses import dataclass, replace

from zdd_tui.model.duration import human_duration
from zdd_tui.model.guard.reading import SERIES_POINTS, GuardReading
from zdd_tui.model.guard.rules import Finding, Look
from zdd_tui.model.plan.guard import Rule
from zdd_tui.model.release.gate import Verdict

LOOKS_MISSED = 3
"""Between two looks at most this many intervals count; the rest of a longer gap was slept away."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a rule remembers from look to look.

    Attributes:
        broken: seconds for which the limit has been broken.
        dark: seconds for which there have been no data.
        last: what the last look found.
        at: when, by a clock that never jumps; None before the first.
        series: the last values.
        acted: what the guard has done about the present breach, or empty.
        anew: when this agent took over from one before it; None once it has seen a whole window by itself. Until then
            it may be too early to say that a breach is over.
    """

    broken: float = 0.0
    dark: float = 0.0
    last: Look = Look.IDLE
    at: float | None = None
    series: tuple[float | None, ...] = ()
    acted: str = ""
    anew: float | None = None


def resumed(stored: GuardReading | None, kept: Course | None = None, now: float | None = None) -> Course:
    """Where a new agent begins: where the one before it was.

    Args:
        stored: the last reading; what was done is written there together with the doing.
        kept: the last course, its `at` by this process's clock.
    """
    course = replace(kept, anew=now) if kept else Course()
    return replace(course, series=stored.series, acted=stored.acted) if stored else course


def step(rule: Rule, course: Course, found: Finding, now: float, interval: float) -> tuple[Course, GuardReading]:
    """The course after one more look, and the reading that is stored and shown.

    Args:
        interval: seconds between two looks, as planned.
    """
    before = course.at if course.anew is None or course.at is None else max(course.at, course.anew)
    gone = 0.0 if before is None else min(max(0.0, now - before), LOOKS_MISSED * interval)
    # What a new agent has not seen for a whole window may be thin or fine because it is new, and ends nothing that
    # the one before it saw.
    trial = course.anew is not None and now - course.anew < max(rule.windows)
    unproven = trial and found.look is Look.FINE and (course.broken > 0 or course.acted != "")
    thin = trial and found.look in (Look.IDLE, Look.THIN)
    waits = thin or (unproven and course.last is Look.OVER)
    # Thin and dark looks neither prove a breach nor end it; only a value that is fine ends it.
    broken = course.broken + (gone if course.last is Look.OVER else 0.0) if found.look is Look.OVER else course.broken
    dark = course.dark + (gone if course.last is Look.DARK else 0.0) if found.look is Look.DARK else 0.0
    if thin:
        dark = course.dark
    if dark > max(rule.windows):
        broken = 0.0  # what was seen before is outside of every window by now
    fine = found.look is Look.FINE and not unproven
    after = Course(
        broken=0.0 if fine else broken,
        dark=dark,
        last=course.last if waits else found.look,
        at=course.at if waits else now,
        series=(*course.series, _finite(found.value))[-SERIES_POINTS:],
        acted="" if fine else course.acted,
        anew=course.anew if trial else None,
    )
    reading = _reading(rule, after, found)
    if unproven:
        told = f"{found.reason}; too early to call a breach over: the agent was away"
        reading = replace(reading, verdict=Verdict.INCONCLUSIVE, reason=told)
    return after, reading


def _reading(rule: Rule, course: Course, found: Finding) -> GuardReading:
    reading = GuardReading(
        rule=rule.name,
        verdict=_VERDICTS[found.look],
        reason=found.reason,
        unit=rule.unit,
        value=_finite(found.value),
        baseline=_finite(found.baseline),
        limit=_finite(found.limit),
        samples=found.samples,
        series=course.series,
        action=rule.action,
        applies=found.look is not Look.IDLE,
        acted=course.acted,
    )
    if found.look is Look.OVER:
        if course.broken < rule.for_:
            waited = f"for {human_duration(course.broken)} of {human_duration(rule.for_)}"
            return replace(reading, verdict=Verdict.INCONCLUSIVE, reason=f"{found.reason}, {waited}")
        lasting = f", for {human_duration(course.broken)}" if rule.for_ else ""
        return replace(reading, acting=True, reason=found.reason + lasting)
    if found.look is Look.DARK and rule.no_data is not None and course.dark >= rule.no_data.after:
        told = f"no data for {human_duration(course.dark)}: {found.reason}"
        return replace(reading, acting=True, action=rule.no_data.action, reason=told)
    return reading


_VERDICTS = {
    Look.IDLE: Verdict.INCONCLUSIVE,
    Look.FINE: Verdict.PASS,
    Look.THIN: Verdict.INCONCLUSIVE,
    Look.DARK: Verdict.UNKNOWN,
    Look.OVER: Verdict.FAIL,
}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

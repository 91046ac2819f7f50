"""A rule over time: `for`, `no_data`, and the strip of its last values. One finding after the other goes in, and a
reading comes out.

Time in which nobody looked proves nothing: it counts neither towards `for` nor towards `no_data`, and it ends neither.
An agent that takes over goes on with the course of the one before it.
"""

import math
from dataclasses import dataclass, replace

from zdd_tui.model.duration import format_duration
from zdd_tui.model.guard.reading import SERIES_POINTS, GuardReading
from zdd_tui.model.guard.rules import RuleEvaluation, RuleOutcome
from zdd_tui.model.plan.guard import GuardRule
from zdd_tui.model.release.gate import Verdict

MAX_MISSED_INTERVALS = 3
"""Between two looks at most this many intervals count; the rest of a longer gap was slept away."""


@dataclass(frozen=True, slots=True)
class RuleState:
    """What a rule remembers from look to look.

    Attributes:
        breached_seconds: seconds for which the limit has been broken.
        no_data_seconds: seconds for which there have been no data.
        last_outcome: what the last look found.
        observed_at: when, by a clock that never jumps; None before the first.
        series: the last values.
        action_taken: what the guard has done about the present breach, or empty.
        taken_over_at: when this agent took over from one before it; None once it has seen a whole window by itself. Until then
            it may be too early to say that a breach is over.
    """

    breached_seconds: float = 0.0
    no_data_seconds: float = 0.0
    last_outcome: RuleOutcome = RuleOutcome.IDLE
    observed_at: float | None = None
    series: tuple[float | None, ...] = ()
    action_taken: str = ""
    taken_over_at: float | None = None


def resume_rule_state(
    stored: GuardReading | None, saved: RuleState | None = None, now: float | None = None
) -> RuleState:
    """Where a new agent begins: where the one before it was.

    Args:
        stored: the last reading; what was done is written there together with the doing.
        saved: the last course, its `at` by this process's clock.
    """
    course = replace(saved, taken_over_at=now) if saved else RuleState()
    return replace(course, series=stored.series, action_taken=stored.action_taken) if stored else course


def update_rule_state(
    rule: GuardRule, state: RuleState, evaluation: RuleEvaluation, now: float, interval: float
) -> tuple[RuleState, GuardReading]:
    """The course after one more look, and the reading that is stored and shown.

    Args:
        interval: seconds between two looks, as planned.
    """
    before = (
        state.observed_at
        if state.taken_over_at is None or state.observed_at is None
        else max(state.observed_at, state.taken_over_at)
    )
    gone = 0.0 if before is None else min(max(0.0, now - before), MAX_MISSED_INTERVALS * interval)
    # What a new agent has not seen for a whole window may be thin or fine because it is new, and ends nothing that
    # the one before it saw.
    trial = state.taken_over_at is not None and now - state.taken_over_at < max(rule.windows)
    unproven = (
        trial and evaluation.outcome is RuleOutcome.FINE and (state.breached_seconds > 0 or state.action_taken != "")
    )
    thin = trial and evaluation.outcome in (RuleOutcome.IDLE, RuleOutcome.THIN)
    waits = thin or (unproven and state.last_outcome is RuleOutcome.OVER)
    # Thin and dark looks neither prove a breach nor end it; only a value that is fine ends it.
    broken = (
        state.breached_seconds + (gone if state.last_outcome is RuleOutcome.OVER else 0.0)
        if evaluation.outcome is RuleOutcome.OVER
        else state.breached_seconds
    )
    dark = (
        state.no_data_seconds + (gone if state.last_outcome is RuleOutcome.DARK else 0.0)
        if evaluation.outcome is RuleOutcome.DARK
        else 0.0
    )
    if thin:
        dark = state.no_data_seconds
    if dark > max(rule.windows):
        broken = 0.0  # what was seen before is outside of every window by now
    fine = evaluation.outcome is RuleOutcome.FINE and not unproven
    after = RuleState(
        breached_seconds=0.0 if fine else broken,
        no_data_seconds=dark,
        last_outcome=state.last_outcome if waits else evaluation.outcome,
        observed_at=state.observed_at if waits else now,
        series=(*state.series, _finite_or_none(evaluation.value))[-SERIES_POINTS:],
        action_taken="" if fine else state.action_taken,
        taken_over_at=state.taken_over_at if trial else None,
    )
    reading = _build_reading(rule, after, evaluation)
    if unproven:
        told = f"{evaluation.reason}; too early to call a breach over: the agent was away"
        reading = replace(reading, verdict=Verdict.INCONCLUSIVE, reason=told)
    return after, reading


def _build_reading(rule: GuardRule, state: RuleState, evaluation: RuleEvaluation) -> GuardReading:
    reading = GuardReading(
        rule=rule.name,
        verdict=_OUTCOME_VERDICTS[evaluation.outcome],
        reason=evaluation.reason,
        unit=rule.unit,
        value=_finite_or_none(evaluation.value),
        baseline=_finite_or_none(evaluation.baseline),
        limit=_finite_or_none(evaluation.limit),
        samples=evaluation.samples,
        series=state.series,
        action=rule.action,
        is_applicable=evaluation.outcome is not RuleOutcome.IDLE,
        action_taken=state.action_taken,
    )
    if evaluation.outcome is RuleOutcome.OVER:
        if state.breached_seconds < rule.for_:
            waited = f"for {format_duration(state.breached_seconds)} of {format_duration(rule.for_)}"
            return replace(reading, verdict=Verdict.INCONCLUSIVE, reason=f"{evaluation.reason}, {waited}")
        lasting = f", for {format_duration(state.breached_seconds)}" if rule.for_ else ""
        return replace(reading, should_act=True, reason=evaluation.reason + lasting)
    if (
        evaluation.outcome is RuleOutcome.DARK
        and rule.no_data is not None
        and state.no_data_seconds >= rule.no_data.after
    ):
        told = f"no data for {format_duration(state.no_data_seconds)}: {evaluation.reason}"
        return replace(reading, should_act=True, action=rule.no_data.action, reason=told)
    return reading


_OUTCOME_VERDICTS = {
    RuleOutcome.IDLE: Verdict.INCONCLUSIVE,
    RuleOutcome.FINE: Verdict.PASS,
    RuleOutcome.THIN: Verdict.INCONCLUSIVE,
    RuleOutcome.DARK: Verdict.UNKNOWN,
    RuleOutcome.OVER: Verdict.FAIL,
}


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

"""The state of a rule over time: `for`, `no_data` and its last values.

:func:`update_rule_state` takes one evaluation and returns the new state with the reading that is stored and shown.
Time without observation counts neither towards `for` nor towards `no_data`, and resets neither. An agent that takes
over continues with the state that the one before it saved.
"""

import math
from dataclasses import dataclass, replace

from zdd_tui.model.duration import format_duration
from zdd_tui.model.guard.rules import RuleEvaluation, RuleOutcome
from zdd_tui.model.plan.guard import GuardRule
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading

SERIES_POINTS = 60
"""How many of its last values a reading carries, for a sparkline on the screen."""

MAX_MISSED_INTERVALS = 3
"""Between two evaluations at most this many intervals count; in the rest of a longer gap nothing was observed."""


@dataclass(frozen=True, slots=True)
class RuleState:
    """What is kept of a rule from one evaluation to the next.

    Attributes:
        breached_seconds: seconds for which the limit has been broken.
        no_data_seconds: seconds for which there have been no data.
        last_outcome: of the last evaluation.
        observed_at: its time by a monotonic clock, seconds; None before the first.
        series: the last values.
        action_taken: what the guard has done about the present breach, or empty.
        taken_over_at: when this agent took over from one before it; None once it has observed a whole window itself.
            Until then it is too early to call a breach over.
    """

    breached_seconds: float = 0.0
    no_data_seconds: float = 0.0
    last_outcome: RuleOutcome = RuleOutcome.NOT_APPLICABLE
    observed_at: float | None = None
    series: tuple[float | None, ...] = ()
    action_taken: str = ""
    taken_over_at: float | None = None


def resume_rule_state(
    stored: GuardReading | None, saved: RuleState | None = None, now: float | None = None
) -> RuleState:
    """The state with which a new agent starts.

    Args:
        stored: the last reading; it is stored in one transaction with the action, so it decides about ``action_taken``.
        saved: the last state, its ``observed_at`` by this process's clock.
    """
    state = replace(saved, taken_over_at=now) if saved else RuleState()
    return replace(state, series=stored.series, action_taken=stored.action_taken) if stored else state


def update_rule_state(
    rule: GuardRule, state: RuleState, evaluation: RuleEvaluation, now: float, interval: float
) -> tuple[RuleState, GuardReading]:
    """The state after one more evaluation, and the reading that is stored and shown.

    Args:
        interval: planned seconds between two evaluations.
    """
    outcome = evaluation.outcome
    before = state.observed_at
    if before is not None and state.taken_over_at is not None:
        before = max(before, state.taken_over_at)
    elapsed = 0.0 if before is None else min(max(0.0, now - before), MAX_MISSED_INTERVALS * interval)
    # Until a new agent has observed a whole window, few samples or good values may only mean that it is new. They do
    # not end what the agent before it saw.
    warming_up = state.taken_over_at is not None and now - state.taken_over_at < max(rule.windows)
    unproven = warming_up and outcome is RuleOutcome.OK and (state.breached_seconds > 0 or state.action_taken != "")
    too_few = warming_up and outcome in (RuleOutcome.NOT_APPLICABLE, RuleOutcome.TOO_FEW)
    keeps_outcome = too_few or (unproven and state.last_outcome is RuleOutcome.BREACHED)
    # TOO_FEW and NO_DATA neither prove a breach nor end it; only an OK value ends it.
    breached = state.breached_seconds
    if outcome is RuleOutcome.BREACHED and state.last_outcome is RuleOutcome.BREACHED:
        breached += elapsed
    no_data = state.no_data_seconds if too_few or outcome is RuleOutcome.NO_DATA else 0.0
    if outcome is RuleOutcome.NO_DATA and state.last_outcome is RuleOutcome.NO_DATA:
        no_data += elapsed
    if no_data > max(rule.windows):
        breached = 0.0  # the breach lies outside of every window by now
    is_ok = outcome is RuleOutcome.OK and not unproven
    after = RuleState(
        breached_seconds=0.0 if is_ok else breached,
        no_data_seconds=no_data,
        last_outcome=state.last_outcome if keeps_outcome else outcome,
        observed_at=state.observed_at if keeps_outcome else now,
        series=(*state.series, _finite_or_none(evaluation.value))[-SERIES_POINTS:],
        action_taken="" if is_ok else state.action_taken,
        taken_over_at=state.taken_over_at if warming_up else None,
    )
    reading = _build_reading(rule, after, evaluation)
    if unproven:
        reason = f"{evaluation.reason}; too early to say that the breach has ended: the agent was not running"
        reading = replace(reading, verdict=Verdict.INCONCLUSIVE, reason=reason)
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
        is_applicable=evaluation.outcome is not RuleOutcome.NOT_APPLICABLE,
        action_taken=state.action_taken,
    )
    lasted = format_duration(state.breached_seconds)
    if evaluation.outcome is RuleOutcome.BREACHED and state.breached_seconds < rule.for_:
        reason = f"{evaluation.reason}, for {lasted} of {format_duration(rule.for_)}"
        return replace(reading, verdict=Verdict.INCONCLUSIVE, reason=reason)
    if evaluation.outcome is RuleOutcome.BREACHED:
        return replace(
            reading, should_act=True, reason=f"{evaluation.reason}, for {lasted}" if rule.for_ else evaluation.reason
        )
    no_data = rule.no_data
    if evaluation.outcome is RuleOutcome.NO_DATA and no_data is not None and state.no_data_seconds >= no_data.after:
        reason = f"no data for {format_duration(state.no_data_seconds)}: {evaluation.reason}"
        return replace(reading, should_act=True, action=no_data.action, reason=reason)
    return reading


_OUTCOME_VERDICTS = {
    RuleOutcome.NOT_APPLICABLE: Verdict.INCONCLUSIVE,
    RuleOutcome.OK: Verdict.PASS,
    RuleOutcome.TOO_FEW: Verdict.INCONCLUSIVE,
    RuleOutcome.NO_DATA: Verdict.UNKNOWN,
    RuleOutcome.BREACHED: Verdict.FAIL,
}


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

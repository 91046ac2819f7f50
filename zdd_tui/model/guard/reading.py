"""The guard: what a rule said last, and what the guard does about it.

A rule's verdict comes from :mod:`zdd_tui.model.guard.rules`; here is what is stored and shown, and the decision to
act: once for each breach, and a rollback once for a whole release.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zdd_tui.model.plan.guard import GuardAction, MetricUnit
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, is_irreversible

__all__ = [
    "SERIES_POINTS",
    "GuardAction",
    "GuardDecision",
    "GuardReading",
    "MetricUnit",
    "decide_actions",
    "evaluate_guard_gate",
]

SERIES_POINTS = 60
"""How many of its last values a reading carries, for a strip on the screen."""


@dataclass(frozen=True, slots=True)
class GuardReading:
    """What a rule said, with the numbers that it saw.

    Attributes:
        reason: one line with the numbers, for people.
        unit: of value, baseline and limit.
        value: None where there was none.
        baseline: the old version's value at the same moment, for a rule that compares; else None.
        limit: what the value must stay under, in the same unit; of a comparison it follows the baseline.
        samples: requests (or what else is counted) behind the value.
        series: the last values, oldest first; None where there was none.
        action: what the rule asks for when it fails.
        should_act: the guard should act on this reading: the limit was broken for as long as the rule says, or there
            were no data for as long as its no_data says. `action` is then what it asks for.
        is_applicable: False while there is nothing to judge, such as a comparison while one version runs alone; such a
            reading closes no gate.
        action_taken: what the guard has done about the present breach: `rollback`, `pause`, `alert` or empty.
        observed_at: seconds since the epoch, by the database's clock.
        max_age: seconds after which the reading counts as unknown.
    """

    rule: str
    verdict: Verdict
    reason: str
    unit: MetricUnit = MetricUnit.NUMBER
    value: float | None = None
    baseline: float | None = None
    limit: float | None = None
    samples: int = 0
    series: tuple[float | None, ...] = ()
    action: GuardAction = GuardAction.ALERT
    should_act: bool = False
    is_applicable: bool = True
    action_taken: str = ""
    observed_at: float = 0.0
    max_age: float = 10.0

    def age(self, now: float) -> float:
        return max(0.0, now - self.observed_at)

    def as_of(self, now: float) -> "GuardReading":
        """The reading as it counts now: a stale one is unknown, whatever it said, and nobody acts on it."""
        if self.age(now) <= self.max_age:
            return self
        return replace(
            self,
            verdict=Verdict.UNKNOWN,
            reason=f"STALE {self.age(now):.0f}s: {self.reason}",
            should_act=False,
            is_applicable=True,
        )


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """What the guard does now, on behalf of one rule.

    Attributes:
        command: what it asks of the release; None for an alert, which is only said.
        reason: with the numbers; stored as the release's cause where there is a command.
    """

    rule: str
    action: GuardAction
    command: CommandKind | None
    reason: str


_ACTIVE_STATES = (ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.FAILED)


def decide_actions(
    release: Release, readings: Sequence[GuardReading], *, rolled_back: bool
) -> tuple[GuardDecision, ...]:
    """What the guard does about its newest readings, the most drastic first; empty almost always.

    Args:
        rolled_back: the guard has asked for this release's rollback before.

    It acts on a release that has begun and has not ended, and never on one that is on its way back. A rule acts
    once for a breach (``action_taken``); one rollback is enough for all of them. Where the way back is lost, a rollback
    becomes a pause: it stops what is still to come, and calls for a person.
    """
    if release.state not in _ACTIVE_STATES:
        return ()
    due = [reading for reading in readings if reading.should_act and not reading.action_taken]
    acts: list[GuardDecision] = []
    for reading in sorted(due, key=lambda one: list(GuardAction).index(one.action)):
        act = _decide_action(release, reading, rolled_back=rolled_back)
        if act.command is CommandKind.ROLLBACK:
            return (act,)
        if not any(other.command is act.command is CommandKind.PAUSE for other in acts):
            acts.append(act)
    return tuple(acts)


def _decide_action(release: Release, reading: GuardReading, *, rolled_back: bool) -> GuardDecision:
    reason = f"{reading.rule}: {reading.reason}"
    if reading.action is GuardAction.ALERT:
        return GuardDecision(reading.rule, reading.action, None, reason)
    if reading.action is GuardAction.ROLLBACK and not rolled_back and not is_irreversible(release):
        return GuardDecision(reading.rule, reading.action, CommandKind.ROLLBACK, reason)
    if reading.action is GuardAction.ROLLBACK:
        why = "its rollback was asked for before" if rolled_back else "there is no way back any more"
        reason = f"{reason}; {why}"
    pause = None if release.paused else CommandKind.PAUSE
    return GuardDecision(reading.rule, reading.action, pause, reason)


def evaluate_guard_gate(
    rule_actions: Mapping[str, GuardAction], readings: Mapping[str, GuardReading], now: float
) -> tuple[Verdict, str]:
    """What the gate ``guard`` says: pass only while every rule passes that is more than an alert.

    Args:
        rule_actions: the plan's rules, with what each asks for.
        readings: the newest reading of each rule.
    """
    judged = {
        name: readings[name].as_of(now) if name in readings else GuardReading(name, Verdict.UNKNOWN, "not judged yet")
        for name, action in rule_actions.items()
        if action is not GuardAction.ALERT
    }
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE):
        shut = [one for one in judged.values() if one.is_applicable and one.verdict is verdict]
        if shut:
            return verdict, "; ".join(f"{one.rule}: {one.reason}" for one in shut)
    idle = [one.rule for one in judged.values() if not one.is_applicable]
    passed = len(judged) - len(idle)
    nothing = f"; nothing to judge yet: {', '.join(idle)}" if idle else ""
    return Verdict.PASS, f"{passed} rule{'' if passed == 1 else 's'} pass{'es' if passed == 1 else ''}{nothing}"

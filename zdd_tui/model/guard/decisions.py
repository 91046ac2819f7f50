"""What the guard does about its readings: each rule acts once per breach, and a release is rolled back once.

A rule's verdict comes from :mod:`zdd_tui.model.guard.rules`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading
from zdd_tui.model.release.state import CommandKind, Release, ReleaseState, is_irreversible


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """What the guard does now for one rule.

    Attributes:
        command: sent to the release; None for an alert, which is only recorded.
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
    """What the guard does about its newest readings, the most drastic action first; empty almost always.

    The guard acts only on a release that has started, has not ended and is not being rolled back. A rule acts once per
    breach (``action_taken``); one rollback covers all rules. Where rollback is no longer possible it becomes a pause,
    which stops what is still to run until a person decides.

    Args:
        rolled_back: the guard has requested the rollback of this release before.
    """
    if release.state not in _ACTIVE_STATES:
        return ()
    due = [reading for reading in readings if reading.should_act and not reading.action_taken]
    decisions: list[GuardDecision] = []
    for reading in sorted(due, key=lambda one: list(GuardAction).index(one.action)):
        decision = _decide_action(release, reading, rolled_back=rolled_back)
        if decision.command is CommandKind.ROLLBACK:
            return (decision,)
        if not any(other.command is decision.command is CommandKind.PAUSE for other in decisions):
            decisions.append(decision)
    return tuple(decisions)


def _decide_action(release: Release, reading: GuardReading, *, rolled_back: bool) -> GuardDecision:
    reason = f"{reading.rule}: {reading.reason}"
    if reading.action is GuardAction.ALERT:
        return GuardDecision(reading.rule, reading.action, None, reason)
    if reading.action is GuardAction.ROLLBACK and not rolled_back and not is_irreversible(release):
        return GuardDecision(reading.rule, reading.action, CommandKind.ROLLBACK, reason)
    if reading.action is GuardAction.ROLLBACK:
        why = "the guard requested a rollback before" if rolled_back else "rollback is no longer possible"
        reason = f"{reason}; {why}"
    pause = None if release.paused else CommandKind.PAUSE
    return GuardDecision(reading.rule, reading.action, pause, reason)


def evaluate_guard_gate(
    rule_actions: Mapping[str, GuardAction], readings: Mapping[str, GuardReading], now: float
) -> tuple[Verdict, str]:
    """The verdict of the gate ``guard``: pass only while every rule passes whose action is more than an alert.

    Args:
        rule_actions: the plan's rules with their actions.
        readings: the newest reading of each rule.
    """
    current = {
        name: readings[name].as_of(now) if name in readings else GuardReading(name, Verdict.UNKNOWN, "not checked yet")
        for name, action in rule_actions.items()
        if action is not GuardAction.ALERT
    }
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PENDING):
        closed = [one for one in current.values() if one.is_applicable and one.verdict is verdict]
        if closed:
            return verdict, "; ".join(f"{one.rule}: {one.reason}" for one in closed)
    not_applicable = [one.rule for one in current.values() if not one.is_applicable]
    passed = len(current) - len(not_applicable)
    rest = f"; not applicable yet: {', '.join(not_applicable)}" if not_applicable else ""
    rest += "".join(f"; {one.rule}: {one.reason}" for one in current.values() if one.is_old_above_limit)
    return Verdict.PASS, f"{passed} rule{'' if passed == 1 else 's'} pass{'es' if passed == 1 else ''}{rest}"

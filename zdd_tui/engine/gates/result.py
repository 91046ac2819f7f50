"""The result of a gate's evaluation, and the rule for pending."""

from collections.abc import Awaitable, Callable, Sequence

from zdd_tui.engine.context import Context
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus

GateResult = tuple[Verdict, str]
GateEvaluator = Callable[[Context, ReleaseRecord], Awaitable[GateResult]]


def pass_or_fail(condition: bool, reason: str) -> GateResult:
    return (Verdict.PASS if condition else Verdict.FAIL), reason


def pass_or_pending(condition: bool, reason: str) -> GateResult:
    return (Verdict.PASS if condition else Verdict.PENDING), reason


def pass_after(record: ReleaseRecord, steps: Sequence[str], condition: bool, reason: str) -> GateResult:
    """Pass when the condition holds. Otherwise pending while one of the steps has not finished, and fail after that.

    Args:
        steps: registry keys of the steps that bring the condition about. Those of other phases do not count.
    """
    release = record.release
    phase_steps = release.current_phase.steps if release.current_phase else ()
    unfinished = any(
        step.registry_key in steps and release.status(step.name) is not StepStatus.DONE for step in phase_steps
    )
    return (pass_or_pending if unfinished else pass_or_fail)(condition, reason)


def describe_flag(key: str, value: FlagValue | None, expected: FlagValue) -> str:
    current = f"flag {key} is {'not set' if value is None else value}"
    return current if value == expected else f"{current}, expected {expected}"


def describe_leftovers(left: Sequence[str]) -> str:
    return f"still there: {', '.join(left)}" if left else "nothing is left behind"

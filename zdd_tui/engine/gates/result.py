"""What every judge of a gate uses."""

from collections.abc import Awaitable, Callable, Sequence

from zdd_tui.engine.context import Context
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.strategy import StepSpec

GateResult = tuple[Verdict, str]
GateEvaluator = Callable[[Context, ReleaseRecord], Awaitable[GateResult]]


def pass_or_fail(condition: bool, reason: str) -> GateResult:
    return (Verdict.PASS if condition else Verdict.FAIL), reason


def format_list(items: Sequence[object], max_shown: int = 3) -> str:
    """The first few, and how many more there are."""
    text = "; ".join(str(blocker) for blocker in items[:max_shown])
    return text + (f"; and {len(items) - max_shown} more" if len(items) > max_shown else "")


def find_step_record(record: ReleaseRecord, name: str) -> StepRecord | None:
    """What is stored of a step."""
    return next((step for step in record.steps if step.name == name), None)


def find_current_step(record: ReleaseRecord, key: str) -> StepSpec | None:
    """The present phase's step that does this work: several phases may have one."""
    phase = record.release.current_phase
    return next((step for step in phase.steps if step.registry_key == key), None) if phase else None

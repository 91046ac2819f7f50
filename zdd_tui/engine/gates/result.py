"""What every judge of a gate uses."""

from collections.abc import Awaitable, Callable, Sequence

from zdd_tui.engine.context import Context
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.strategy import StepSpec

Finding = tuple[Verdict, str]
Judge = Callable[[Context, ReleaseRecord], Awaitable[Finding]]


def passes(ok: bool, reason: str) -> Finding:
    return (Verdict.PASS if ok else Verdict.FAIL), reason


def listed(blockers: Sequence[object], shown: int = 3) -> str:
    """The first few, and how many more there are."""
    text = "; ".join(str(blocker) for blocker in blockers[:shown])
    return text + (f"; and {len(blockers) - shown} more" if len(blockers) > shown else "")


def step_record(record: ReleaseRecord, name: str) -> StepRecord | None:
    """What is stored of a step."""
    return next((step for step in record.steps if step.name == name), None)


def own_step(record: ReleaseRecord, key: str) -> StepSpec | None:
    """The present phase's step that does this work: several phases may have one."""
    phase = record.release.current
    return next((step for step in phase.steps if step.key == key), None) if phase else None

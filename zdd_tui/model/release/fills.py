"""The fills of a release in their order, each with its progress."""

from dataclasses import dataclass

from zdd_tui.model.release.records import BackfillRecord, ReleaseRecord
from zdd_tui.model.release.state import StepStatus


@dataclass(frozen=True, slots=True)
class FillProgress:
    """One step that fills a table.

    Attributes:
        name: of the step.
        label: what an operator reads, such as ``fill users.token``.
        phase: its name.
        progress: None before its upper bound is fixed.
        is_current: it is the one that runs; the others wait for it, or have ended.
    """

    name: str
    label: str
    phase: str
    progress: BackfillRecord | None
    is_current: bool


def list_fills(record: ReleaseRecord) -> tuple[FillProgress, ...]:
    """All fills; empty where the strategy has none."""
    found = {fill.job: fill for fill in record.fills}
    running = {step.name for step in record.steps if step.status is StepStatus.STARTED}
    return tuple(
        FillProgress(step.name, step.label, phase.name, found.get(step.name), step.name in running)
        for phase in record.release.strategy.phases
        for step in phase.steps
        if step.registry_key == "fill-rows"
    )

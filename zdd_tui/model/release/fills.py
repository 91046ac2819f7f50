"""The fills of a release in their order, each with its progress."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.release.claims import FRESH_SECONDS, is_current, overdue_after
from zdd_tui.model.release.records import BackfillRecord, ReleaseRecord
from zdd_tui.model.release.state import StepStatus, find_table_pause, held_steps
from zdd_tui.model.release.table_pause import TablePause
from zdd_tui.model.tuning import LimitValue, limits_of_table, own_limits, pause_seconds


@dataclass(frozen=True, slots=True)
class FillProgress:
    """One step that fills a table.

    Attributes:
        name: of the step.
        label: what an operator reads, such as ``fill users.token``.
        phase: its name.
        progress: None before its upper bound is fixed.
        is_current: it is the one that runs; the others wait for it, or have ended.
        table: that it fills; empty where the release was registered by a version that did not record it.
        own_limits: of the table, by name, beside those of the release; empty for none.
        pause: of the table; None where it is not paused by itself.
        waits_for: the paused table for which it waits; empty for none.
    """

    name: str
    label: str
    phase: str
    progress: BackfillRecord | None
    is_current: bool
    table: str = ""
    own_limits: Mapping[str, LimitValue] = field(default_factory=dict)
    pause: TablePause | None = None
    waits_for: str = ""


def list_fills(record: ReleaseRecord) -> tuple[FillProgress, ...]:
    """All fills; empty where the strategy has none."""
    found, release = {fill.job: fill for fill in record.fills}, record.release
    held = held_steps(release)
    limits = record.limits
    running = {step.name for step in record.steps if step.status is StepStatus.STARTED}
    return tuple(
        FillProgress(
            step.name,
            step.label,
            phase.name,
            found.get(step.name),
            step.name in running and step.name not in held,
            step.table,
            own_limits(limits, step.table) if limits is not None else {},
            find_table_pause(release, step.table),
            next((each.table for each in release.table_pauses if step.name in held and step.name in each.waits), ""),
        )
        for phase in release.strategy.phases
        for step in phase.steps
        if step.fills_rows
    )


def limits_now(record: ReleaseRecord) -> Backfill | None:
    """The limits in effect, with those of the table that is filled now; None where the strategy has no backfill."""
    current = next((fill.table for fill in list_fills(record) if fill.is_current), "")
    return None if record.limits is None else limits_of_table(record.limits, current)


LARGEST_GROWTH = 1.25
"""The next batch may be larger than the last one by as much."""


def silence_limit(backfill: BackfillRecord, limits: Backfill | None) -> float:
    """Seconds after a batch within which the next one is due, at the pace that the limits ask for."""
    if limits is None or not backfill.recent:
        return FRESH_SECONDS
    last = backfill.recent[-1]
    pause = max(0.0, pause_seconds(last.rows * limits.workers, last.seconds, limits))
    return overdue_after(LARGEST_GROWTH * (last.seconds + pause))


def late_seconds(backfill: BackfillRecord, limits: Backfill | None, now: float) -> float | None:
    """Seconds since the last batch where the next one is late; None where it is not, or none is due.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    idle = backfill.idle_seconds(now)
    is_late = backfill.status == "running" and not is_current(idle, limit=silence_limit(backfill, limits))
    return idle if is_late else None

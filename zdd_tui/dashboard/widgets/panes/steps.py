"""The steps of every phase: what has run, what runs and what follows. In the place of the pods where there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import describe_step_status
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, sanitize
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.claims import Activity, describe_step_note
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import StepStatus


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step.

    Attributes:
        number: its place in the release.
        note: what it does now, or its error.
        seconds: how long it took; None while it has not ended.
    """

    number: int
    phase: str
    name: str
    label: str
    status: StepStatus
    note: str
    seconds: float | None
    glyph: str
    style: TextStyle
    text: str


class StepPane(TablePane[StepRow, float]):
    """One row per step, in the order of the release."""

    pane_name = "steps"
    focused_as = "pods"
    title_action = "details"
    is_final_at_end = True

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, StepRow] = {}
        self._followed: tuple[str, int] | None = None

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record = board.release.value
        return board.release.error, (record.steps, record.release, record.lease) if record else None, self.is_maximised

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        record = board.release.value
        if record is None:
            return ""
        steps = record.release.strategy.steps
        return f"{sum(record.release.status(each.name) is StepStatus.DONE for each in steps)} of {len(steps)} done"

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[StepRow]:
        record = board.release.value
        if record is None:
            return ()
        rows = [self._reuse_row(row) for row in build_step_rows(record, board.activity(context.now))]
        self._known = {row.name: row for row in rows}
        return rows

    def _reuse_row(self, row: StepRow) -> StepRow:
        known = self._known.get(row.name)
        return known if known == row else row

    def update_scroll(self) -> None:
        """Once another step is the current one, it is scrolled to, unless the operator works in the pane."""
        current = _find_current(self._store.shown)
        if current is None or self._followed == (current.name, self._store.visible_rows):
            return
        self._followed = current.name, self._store.visible_rows
        self._store.show(current)

    def columns(
        self, board: DashboardState, rows: Sequence[StepRow], cells: int
    ) -> Sequence[PaneColumn[StepRow, float]]:
        return step_columns(rows)

    def cell_context(self, board: DashboardState, context: RenderContext) -> float:
        return board.server_now(context.now) or 0.0

    def identity(self, row: StepRow) -> str:
        return row.name

    def labels(self, row: StepRow) -> Mapping[str, str]:
        return {"phase": row.phase, "status": row.text}

    def empty_line(self, board: DashboardState) -> Line:
        return (("the release has no steps", TextStyle.DIM),)


def _find_current(rows: Sequence[StepRow]) -> StepRow | None:
    """The step that runs, is undone or has failed; else one that is suspended; else the last one that is done. None
    before the first."""
    ended = (StepStatus.PENDING, StepStatus.DONE, StepStatus.UNDONE)
    left = [row for row in rows if row.status not in ended]
    current = next((row for row in left if row.status is not StepStatus.SUSPENDED), left[0] if left else None)
    done = (row for row in rows if row.status is StepStatus.DONE)
    return current or max(done, key=lambda row: row.number, default=None)


def build_step_rows(record: ReleaseRecord, activity: Activity) -> Sequence[StepRow]:
    """All steps, in the order of the release."""
    release = record.release
    stored = {step.name: step for step in record.steps}
    specs = [(phase.name, spec) for phase in release.strategy.phases for spec in phase.steps]
    rows = []
    for number, (phase, spec) in enumerate(specs):
        step = stored.get(spec.name)
        status = release.status(spec.name)
        glyph, style, text = describe_step_status(release, status, activity)
        seconds = None
        if step is not None and step.started_at is not None and step.ended_at is not None:
            seconds = max(0.0, step.ended_at - step.started_at)
        note = (step.error or describe_step_note(step, activity)) if step is not None else ""
        rows.append(StepRow(number, phase, spec.name, spec.label, status, note, seconds, glyph, style, text))
    return rows


def step_columns(rows: Sequence[StepRow]) -> list[PaneColumn[StepRow, float]]:
    """The columns for these steps. The cell context is not used."""
    phase = max((cell_len(sanitize(row.phase)) for row in rows), default=5)
    label = max((cell_len(sanitize(row.label)) for row in rows), default=4)
    status = max((cell_len(f"{row.glyph} {row.text}") for row in rows), default=1)
    return [
        PaneColumn("phase", "PHASE", lambda row, _: row.phase, min(8, phase), phase, drop_order=3, style=dim_style,
                   find=lambda row: row.phase, sort=lambda row: row.number),
        PaneColumn("status", "STATUS", lambda row, _: f"{row.glyph} {row.text}", max(6, status),
                   style=lambda row, _: row.style, find=lambda row: row.text, sort=lambda row: row.text),
        PaneColumn("step", "STEP", lambda row, _: row.label, min(12, label), label, style=_step_style, weight=6,
                   find=lambda row: f"{row.name} {row.label}", sort=lambda row: row.label),
        PaneColumn("took", "TOOK", lambda row, _: "" if row.seconds is None else format_duration(row.seconds), 6,
                   align_right=True, drop_order=2, style=dim_style, sort=lambda row: row.seconds),
        PaneColumn("note", "NOTE", lambda row, _: row.note, 6, 10_000, drop_order=1, style=_step_style, weight=2,
                   find=lambda row: row.note),
    ]  # fmt: skip


def _step_style(row: StepRow, _now: float) -> TextStyle:
    return TextStyle.DIM if row.status in (StepStatus.PENDING, StepStatus.UNDONE) else TextStyle.NORMAL

"""The gates: query, expected value, result, and changes of the verdict."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, RecordScreen, TextFormatter, is_same_audit_log
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, format_age, justify, sanitize
from zdd_tui.dashboard.widgets.panes.gates import verdict_of
from zdd_tui.model.queries import AuditLog, AuditLogQuery
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.gate_rows import GATE_DESCRIPTIONS, GateRow, PhasePosition, build_gate_rows
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.strategy import GateSpec

LABEL_WIDTH = 12
"""Width in cells of a label and the blanks around it."""

MAX_CHANGES = 6
"""Changes of a verdict that are shown, the newest first."""


class GateScreen(RecordScreen):
    """The gates of the current phase; Tab shows those of every phase."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "turn", "Current phase, or all phases", show=False, id="gate.turn"),
    ]

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._query = self.add_query(AuditLogQuery(), "the audit", is_same_audit_log)
        self._shows_all = False

    def heading(self, board: DashboardState) -> str:
        record = board.release.value
        phase = record.release.current_phase if record else None
        return f"gates of {'every phase' if self._shows_all else phase.name if phase else 'no phase yet'}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("Tab", "this phase" if self._shows_all else "every phase"),)

    def record_body(
        self, board: DashboardState, record: ReleaseRecord, now: float, context: RenderContext, cells: int
    ) -> Sequence[Line]:
        phases = record.release.strategy.phases
        current = record.release.current_phase
        shown = phases if self._shows_all or current is None else (current,)
        lines = self.query_error_lines(self._query, cells)
        if current is None and (entry := record.release.strategy.entry):
            lines += [(("before the first phase", TextStyle.STRONG),)]
            for gate in entry:
                reading = record.gates.get(gate.name)
                lines += gate_detail_lines(
                    gate, reading, record, now, context, cells, self.format_text, self._query.value
                )
        for phase in shown:
            if len(shown) > 1:
                lines += [(), ((phase.name, TextStyle.STRONG),)]
            is_current = phase == current
            for gate in phase.gates:
                reading = record.gates.get(gate.name) if is_current else None
                lines += gate_detail_lines(
                    gate, reading, record, now, context, cells, self.format_text, self._query.value
                )
        return lines

    def action_turn(self) -> None:
        self._shows_all = not self._shows_all
        self.redraw()


class GateDetailScreen(RecordScreen):
    """One gate of one phase in full."""

    def __init__(self, source: StateSource, get_context: ContextSource, phase: str, gate: str) -> None:
        super().__init__(source, get_context)
        self._phase, self._gate = phase, gate
        self._query = self.add_query(AuditLogQuery(), "the audit", is_same_audit_log)

    def heading(self, board: DashboardState) -> str:
        return f"gate {self._gate} of {self._phase}"

    def record_body(
        self, board: DashboardState, record: ReleaseRecord, now: float, context: RenderContext, cells: int
    ) -> Sequence[Line]:
        key = f"{self._phase}/{self._gate}"
        row = next((each for each in build_gate_rows(record, now) if each.key == key), None)
        if row is None:
            return [(("the release has no such gate", TextStyle.WARN),)]
        lines = gate_row_lines(row, record, now, cells, self.format_text)
        lines += [
            (),
            (("changes of the verdict, in any phase", TextStyle.DIM),),
            *self.query_error_lines(self._query, cells),
        ]
        if self._query.value is not None:
            changes = gate_change_lines(self._gate, self._query.value, context, cells, self.format_text, indent="  ")
            lines += changes or [(("  none in this release", TextStyle.DIM),)]
        return lines


_POSITION_TEXTS = {
    PhasePosition.PAST: "finished, this gate no longer counts",
    PhasePosition.PRESENT: "current phase, this gate counts",
    PhasePosition.AHEAD: "not started, this gate is not checked yet",
}


def gate_row_lines(
    row: GateRow, record: ReleaseRecord, now: float, cells: int, format_text: TextFormatter
) -> list[Line]:
    """The row of the gates' table in full."""
    glyph, word, style = verdict_of(row)
    reading = row.reading
    age = "" if reading is None else f"{format_age(reading.age(now))} old"
    if reading is not None and row.position is PhasePosition.PRESENT:
        age += f", counts for {format_age(reading.max_age)}"
    head: Line = (
        (f"{glyph} {word}  ", style),
        (row.gate.label, TextStyle.STRONG),
        (f"  {row.gate.name}", TextStyle.DIM),
    )
    state = record.release.state
    phase = f"{row.phase}: {_POSITION_TEXTS[row.position]}"
    if state.has_ended or state.is_rolling_back:
        phase = f"{row.phase}: " + (
            "the release has ended" if state.has_ended else "the release is rolling back, no gate counts"
        )
    lines = [justify(clip(head, cells), ((age, TextStyle.DIM),), cells)]
    lines += labelled_lines("phase", phase, cells, format_text)
    lines += _query_lines(row.gate.name, cells, format_text)
    if row.superseded_by or reading is not None:
        lines += labelled_lines(
            "result", row.reason_text, cells, format_text, style if style is TextStyle.BAD else TextStyle.NORMAL
        )
    return lines


def gate_detail_lines(
    gate: GateSpec,
    reading: GateReading | None,
    record: ReleaseRecord,
    now: float,
    context: RenderContext,
    cells: int,
    format_text: TextFormatter,
    audit_log: AuditLog | None,
) -> list[Line]:
    """One gate.

    Args:
        reading: None where it was not checked in the current phase.
    """
    shown = reading if reading is None or record.release.state.has_ended else reading.as_of(now)
    glyph, style = VERDICT_GLYPHS[shown.verdict] if shown else ("○", TextStyle.DIM)
    age = "" if reading is None else f"{format_age(reading.age(now))} old, counts for {format_age(reading.max_age)}"
    head: Line = (
        (f"{glyph} {shown.verdict if shown else 'not checked'}  ", style),
        (gate.label, TextStyle.STRONG),
        (f"  {gate.name}", TextStyle.DIM),
    )
    lines: list[Line] = [(), justify(clip(head, cells), ((age, TextStyle.DIM),), cells)]
    lines += _query_lines(gate.name, cells, format_text)
    if shown is not None:
        lines += labelled_lines(
            "result", shown.reason, cells, format_text, style if style is TextStyle.BAD else TextStyle.NORMAL
        )
    if reading is not None and audit_log is not None:
        lines += gate_change_lines(gate.name, audit_log, context, cells, format_text, indent=" " * LABEL_WIDTH)
    return lines


def _query_lines(gate: str, cells: int, format_text: TextFormatter) -> list[Line]:
    description = GATE_DESCRIPTIONS.get(gate)
    if description is None:
        return []
    return [
        *labelled_lines("query", f"{description.system}: {description.query}", cells, format_text),
        *labelled_lines("expected", description.expected, cells, format_text),
    ]


def gate_change_lines(
    gate: str, audit_log: AuditLog, context: RenderContext, cells: int, format_text: TextFormatter, *, indent: str
) -> list[Line]:
    """Changes of the verdict of gates with this name, with their reasons, the newest first."""
    prefix = f"{gate}: "
    changes = [event for event in audit_log.events if event.kind == "gate" and event.message.startswith(prefix)]
    lines: list[Line] = []
    for event in reversed(changes[-MAX_CHANGES:]):
        when, verdict = context.clock.time_of_day(event.at), sanitize(event.message.removeprefix(prefix))
        lines += format_text(f"{when} {verdict}: {event.reason}", cells, TextStyle.DIM, indent=indent)
    return lines


def labelled_lines(
    name: str, text: str, cells: int, format_text: TextFormatter, style: TextStyle = TextStyle.NORMAL
) -> list[Line]:
    """A text beside its label; further lines are aligned with the first."""
    first, *rest = format_text(text, max(10, cells - LABEL_WIDTH), style)
    return [
        ((f"  {name:<{LABEL_WIDTH - 2}}", TextStyle.DIM), *first),
        *(((" " * LABEL_WIDTH, TextStyle.NORMAL), *line) for line in rest),
    ]

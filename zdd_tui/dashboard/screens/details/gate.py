"""The gates: query, expected value, result, and changes of the verdict."""

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import (
    LABEL_WIDTH,
    ContextSource,
    RecordScreen,
    TextFormatter,
    verdict_change_lines,
)
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, format_data_age
from zdd_tui.dashboard.widgets.panes.gates import verdict_of
from zdd_tui.model.release.gate_rows import (
    BEFORE_FIRST_PHASE,
    GATE_DESCRIPTIONS,
    GateRow,
    PhasePosition,
    build_gate_rows,
    complete_gate_rows,
)
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.strategy import GateSpec


class GateScreen(RecordScreen):
    """The gates of the current phase; Tab shows those of every phase, past ones with their last result and its time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "turn", "Current phase, or all phases", show=False, id="gate.turn"),
    ]

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._shows_all = False

    def heading(self, board: DashboardState) -> str:
        phase = self._current_phase(board)
        return f"gates of {phase if phase and not self._shows_all else 'every phase'}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        """Before the first phase and after the last one there are only the gates of all."""
        if not self._current_phase(self._source.state()):
            return ()
        return (("Tab", "this phase" if self._shows_all else "every phase"),)

    def _current_phase(self, board: DashboardState) -> str:
        """Empty for none."""
        record = board.release.value
        phase = record.release.current_phase if record else None
        return phase.name if phase else ""

    def record_body(
        self, board: DashboardState, record: ReleaseRecord, now: float, context: RenderContext, formatter: TextFormatter
    ) -> Sequence[Line]:
        current = record.release.current_phase
        rows = build_gate_rows(record, now)
        if self._audit.value is not None:
            rows = complete_gate_rows(rows, record.release.strategy, self._audit.value.events)
        lines = self.query_error_lines(self._audit, formatter)
        if record.release.state.is_rolling_back:
            lines += formatter("verdicts from before the rollback, which undoes what they checked", TextStyle.WARN)
        for phase, gates in groupby(rows, key=lambda row: row.phase):
            is_start = phase == BEFORE_FIRST_PHASE
            if not self._shows_all and current is not None and phase != current.name:
                continue
            if self._shows_all or current is None:
                lines += [(), (("before the first phase" if is_start else phase, TextStyle.STRONG),)]
            for row in gates:
                lines += [(), *gate_row_lines(row, record, now, context, formatter, with_phase=False)]
                if row.position is PhasePosition.PRESENT and row.reading is not None and self._audit.value is not None:
                    lines += verdict_change_lines(
                        "gate",
                        row.gate.name,
                        self._audit.value,
                        context,
                        formatter,
                        TextStyle.DIM,
                        indent=" " * LABEL_WIDTH,
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

    def heading(self, board: DashboardState) -> str:
        return f"gate {self._gate} of {self._phase}"

    def record_body(
        self, board: DashboardState, record: ReleaseRecord, now: float, context: RenderContext, formatter: TextFormatter
    ) -> Sequence[Line]:
        key = f"{self._phase}/{self._gate}"
        rows = build_gate_rows(record, now)
        if self._audit.value is not None:
            rows = complete_gate_rows(rows, record.release.strategy, self._audit.value.events)
        row = next((each for each in rows if each.key == key), None)
        if row is None:
            return [(("the release has no such gate", TextStyle.WARN),)]
        lines = gate_row_lines(row, record, now, context, formatter)
        lines += [
            (),
            (("changes of the verdict, in any phase", TextStyle.DIM),),
            *self.query_error_lines(self._audit, formatter),
        ]
        if self._audit.value is not None:
            lines += verdict_change_lines(
                "gate", self._gate, self._audit.value, context, formatter, TextStyle.DIM, indent="  "
            ) or [(("  none in this release", TextStyle.DIM),)]
        return lines


_POSITION_TEXTS = {
    PhasePosition.PAST: "finished, this gate no longer counts",
    PhasePosition.PRESENT: "current phase, this gate counts",
    PhasePosition.AHEAD: "not started, this gate is not checked yet",
}


def gate_row_lines(
    row: GateRow,
    record: ReleaseRecord,
    now: float,
    context: RenderContext,
    formatter: TextFormatter,
    *,
    with_phase: bool = True,
) -> list[Line]:
    """The row of the gates' table in full.

    Args:
        with_phase: the page does not show the gate's phase elsewhere.
    """
    reading, state = row.reading, record.release.state
    age = "" if reading is None else f"{format_data_age(reading.age(now))} old"
    if reading is not None and row.position is PhasePosition.PRESENT:
        age += f", valid for {format_age(reading.max_age)}"
    elif reading is not None:
        age = f"checked at {context.clock.time_of_day(reading.observed_at)}, {format_age(reading.age(now))} ago"
    phase = _POSITION_TEXTS[row.position]
    if state.has_ended:
        phase = "the release has ended"
    elif state.is_rolling_back:
        phase = "the release is rolling back, no gate counts"
    result = row.reason_text if row.superseded_by or reading is not None else None
    text = f"{row.phase}: {phase}" if with_phase else ""
    return gate_detail_lines(row.gate, verdict_of(row), age, formatter, phase=text, result=result)


def gate_detail_lines(
    gate: GateSpec,
    verdict: tuple[str, str, TextStyle],
    age: str,
    formatter: TextFormatter,
    *,
    phase: str = "",
    result: str | None,
) -> list[Line]:
    """One gate.

    Args:
        verdict: glyph, word and style.
        phase: the gate's phase and its position; empty where the page shows it.
        result: None where it was not checked.
    """
    glyph, word, style = verdict
    head: Line = (
        (f"{glyph} {word}  ", style),
        (gate.label, TextStyle.STRONG),
        (f"  {gate.name}", TextStyle.DIM),
    )
    lines = [formatter.heading(head, age)]
    lines += formatter.labelled("phase", phase) if phase else []
    if (description := GATE_DESCRIPTIONS.get(gate.name)) is not None:
        lines += formatter.labelled("query", f"{description.system}: {description.query}")
        lines += formatter.labelled("expected", description.expected)
    if result is not None:
        lines += formatter.labelled("result", result, style if style is TextStyle.BAD else TextStyle.NORMAL)
    return lines

"""The release from its beginning: phases, every try of every step, and what people and the guard did in between."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter, is_same_audit_log
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, fit, line_width, sanitize
from zdd_tui.dashboard.widgets.panes.events import event_line
from zdd_tui.model.duration import format_duration
from zdd_tui.model.queries import AuditLog, AuditLogQuery
from zdd_tui.model.release.records import Event, ReleaseRecord
from zdd_tui.model.release.timeline import PhaseSpan, StepAttempt, build_timeline

WIDE_FROM = 100
"""Cells from which on each phase has a bar."""

BAR_WIDTH = 36

_OUTCOMES = {
    "running": ("▶", TextStyle.RUNNING),
    "done": ("✔", TextStyle.GOOD),
    "failed": ("✗", TextStyle.BAD),
    "cut off": ("~", TextStyle.WARN),
    "stopped": ("◁", TextStyle.WARN),
}


class TimelineScreen(DetailScreen):
    """Absolute and relative times; the newest is at the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "gates", "Show verdicts of gates and guard too, or not", show=False, id="timeline.gates"),
    ]

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._query = self.add_query(AuditLogQuery(), "the audit", is_same_audit_log)
        self._shows_gates = False

    def heading(self, board: DashboardState) -> str:
        return f"timeline of {board.plan.name}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("g", "without verdicts" if self._shows_gates else "verdicts"),)

    def body(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        lines = self.query_error_lines(self._query, cells)
        record, now = board.release.value, board.server_now(context.now)
        if self._query.value is None or record is None or now is None:
            return lines
        return lines + timeline_lines(
            record, self._query.value, now, context, cells, self.format_text, gates=self._shows_gates
        )

    def action_gates(self) -> None:
        self._shows_gates = not self._shows_gates
        self.redraw()


def timeline_lines(
    record: ReleaseRecord,
    audit_log: AuditLog,
    now: float,
    context: RenderContext,
    cells: int,
    format_text: TextFormatter,
    *,
    gates: bool,
) -> list[Line]:
    """One line a phase and a try, and one an act.

    Args:
        now: by the database's clock.
    """
    spans = build_timeline(record.release.strategy, audit_log.events, include_gates=gates)
    end = record.finished_at or now
    lines: list[Line] = []
    if audit_log.earlier_count:
        lines.append(((f"… {audit_log.earlier_count:,} earlier lines of the audit are left out", TextStyle.WARN),))
    if audit_log.recorded_since is not None:
        when = context.clock.time_of_day(audit_log.recorded_since)
        lines += format_text(
            f"… the audit is recorded from {when} on; what came before is not there", cells, TextStyle.WARN
        )
    begun = context.clock.time_of_day(record.created_at)
    over = f", over after {format_duration(end - record.created_at)}" if record.finished_at else ""
    lines += format_text(
        f"registered {begun}, {format_duration(now - record.created_at)} ago{over}", cells, TextStyle.DIM
    )
    before: float | None = None
    for span in spans:
        if before is not None and span.started_at - before >= 1:
            lines.append(
                (
                    (
                        f"{'':9}waited {format_duration(span.started_at - before)} for gates and a person",
                        TextStyle.DIM,
                    ),
                )
            )
        lines += [(), _phase_line(span, record.created_at, end, context, cells)]
        for item in span.items:
            if isinstance(item, StepAttempt):
                lines += _attempt_lines(item, record, now, context, cells, format_text)
            else:
                lines += _event_lines(item, context, cells, format_text)
        before = span.ended_at
    rest = [phase.name for phase in record.release.strategy.phases[record.release.phase + 1 :]]
    if rest and not record.release.state.has_ended and not record.release.state.is_rolling_back:
        lines += [(), *format_text(f"○ still to come: {', '.join(rest)}", cells, TextStyle.DIM)]
    return lines


def _phase_line(span: PhaseSpan, first: float, end: float, context: RenderContext, cells: int) -> Line:
    took = (span.ended_at or end) - span.started_at
    backwards = span.name == "rollback"
    glyph = "◀" if backwards else "▶" if span.ended_at is None else "■"
    head: Line = (
        (f"{context.clock.time_of_day(span.started_at)} ", TextStyle.DIM),
        (f"{glyph} {fit(span.name, 12)} ", TextStyle.ROLLED_BACK if backwards else TextStyle.STRONG),
        (f"{_offset_text(span.started_at, first):>8}", TextStyle.DIM),
        (f"  took {format_duration(took)}" + (" so far" if span.ended_at is None else ""), TextStyle.NORMAL),
    )
    if cells < WIDE_FROM:
        return clip(head, cells)
    blank = " " * max(1, cells - BAR_WIDTH - line_width(head))
    return (*head, (blank, TextStyle.NORMAL), *bar(span.started_at, span.ended_at or end, first, end))


def bar(began: float, ended: float, first: float, end: float) -> Line:
    """Where in the release's time a stretch lies; however short, it takes one cell."""
    span = max(end - first, 0.001)
    start = min(BAR_WIDTH - 1, int(BAR_WIDTH * max(0.0, began - first) / span))
    stop = min(BAR_WIDTH, max(start + 1, round(BAR_WIDTH * (ended - first) / span)))
    return (
        ("·" * start, TextStyle.DIM),
        ("█" * (stop - start), TextStyle.RUNNING),
        ("·" * (BAR_WIDTH - stop), TextStyle.DIM),
    )


def _attempt_lines(
    attempt: StepAttempt,
    record: ReleaseRecord,
    now: float,
    context: RenderContext,
    cells: int,
    format_text: TextFormatter,
) -> list[Line]:
    glyph, style = _OUTCOMES[attempt.outcome]
    took = format_duration(
        (attempt.ended_at if attempt.ended_at is not None else record.finished_at or now) - attempt.started_at
    )
    verb = "undo " if attempt.is_undo else ""
    again = f"  {_ordinal_text(attempt.number)} try" if attempt.number > 1 else ""
    cut = {"cut off": "  cut off: the agent was lost", "stopped": "  stopped by the rollback"}.get(attempt.outcome, "")
    line: Line = (
        (f"{context.clock.time_of_day(attempt.started_at)}   ", TextStyle.DIM),
        (f"{glyph} ", style),
        (f"{took:>6}  ", TextStyle.NORMAL),
        (f"{verb}{sanitize(attempt.label)}", TextStyle.NORMAL),
        (again + cut, TextStyle.WARN),
    )
    return [
        clip(line, cells),
        *(format_text(f"✗ {attempt.error}", cells, TextStyle.BAD, indent=" " * 21) if attempt.error else []),
    ]


def _event_lines(event: Event, context: RenderContext, cells: int, format_text: TextFormatter) -> list[Line]:
    spans = event_line(event, context.clock)
    text = "".join(part for part, _ in spans)
    style = (
        TextStyle.BAD
        if event.kind in ("refused", "error")
        else TextStyle.WARN
        if event.kind == "guard"
        else TextStyle.KEY
    )
    return format_text(text, cells, style if event.kind not in ("lease", "gate", "release") else TextStyle.DIM)


def _offset_text(at: float, first: float) -> str:
    return f"+{format_duration(max(0.0, at - first))}"


def _ordinal_text(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if 10 < number % 100 < 14 else endings.get(number % 10, 'th')}"

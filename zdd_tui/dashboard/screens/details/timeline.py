"""The release from its start: phases, every attempt of every step, commands and actions of the guard."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.glyphs import describe_step_status
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, fit, line_width, sanitize
from zdd_tui.dashboard.widgets.panes.events import event_line
from zdd_tui.model.duration import format_duration
from zdd_tui.model.queries import AuditLog
from zdd_tui.model.release.claims import ACTIVE, Activity, Progress, ProgressState, assess_progress
from zdd_tui.model.release.records import Event, ReleaseRecord
from zdd_tui.model.release.state import TABLE_PAUSED, CommandKind, Release, ReleaseState, StepStatus
from zdd_tui.model.release.timeline import BEFORE_FIRST_STEP, ROLLBACK, PhaseSpan, StepAttempt, build_timeline

WIDE_FROM = 100
"""Width in cells from which each phase has a bar."""

BAR_WIDTH = 36

_OUTCOMES = {
    "done": ("✔", TextStyle.GOOD),
    "failed": ("✗", TextStyle.BAD),
    "cut off": ("~", TextStyle.WARN),
    "breached": ("✗", TextStyle.BAD),
    "stopped": ("◁", TextStyle.WARN),
    "suspended": ("‖", TextStyle.WARN),
}
_EVENT_STYLES = {
    **dict.fromkeys(("refused", "error"), TextStyle.BAD),
    **dict.fromkeys(("lease", "gate", "release"), TextStyle.DIM),
    "guard": TextStyle.WARN,
}
_ENDINGS = {
    "cut off": "  interrupted: the agent was lost",
    "breached": "  stopped: breach",
    "stopped": "  stopped by the rollback",
    "suspended": "  suspended: its table was paused",
}


class TimelineScreen(DetailScreen):
    """Absolute and relative times, the newest last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "gates", "Toggle verdicts of gates and guard", show=False, id="timeline.gates"),
    ]

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._query = self.add_audit_query()
        self._shows_gates = False

    def heading(self, board: DashboardState) -> str:
        return "timeline"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("g", f"{'hide' if self._shows_gates else 'show'} verdicts"),)

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        lines = self.query_error_lines(self._query, formatter)
        record, now = board.release.value, board.server_now(context.now)
        if self._query.value is None or record is None or now is None:
            return lines
        activity = board.activity(context.now)
        return lines + timeline_lines(
            record, self._query.value, now, context, formatter, gates=self._shows_gates, activity=activity
        )

    def action_gates(self) -> None:
        self._shows_gates = not self._shows_gates
        self.redraw()


def timeline_lines(
    record: ReleaseRecord,
    audit_log: AuditLog,
    now: float,
    context: RenderContext,
    formatter: TextFormatter,
    *,
    gates: bool,
    activity: Activity = ACTIVE,
) -> list[Line]:
    """One line per phase, attempt and event.

    Args:
        now: seconds since the epoch, by the database's clock.
        gates: verdicts of gates and guard were included.
        activity: whether an agent is known to work. No duration is counted on of what does not move.
    """
    progress = assess_progress(record.release, activity)
    until = _moved_until(record.release, audit_log.events, progress, activity, now)
    spans = build_timeline(record.release.strategy, audit_log.events, include_gates=gates)
    end = record.finished_at or until
    lines: list[Line] = []
    if audit_log.earlier_count:
        lines.append(((f"… {audit_log.earlier_count:,} earlier audit events are not shown", TextStyle.WARN),))
    if audit_log.recorded_since is not None:
        when = context.clock.time_of_day(audit_log.recorded_since)
        lines += formatter(f"… the recording starts at {when}; earlier events are not available", TextStyle.WARN)
    registered = context.clock.time_of_day(record.created_at)
    finished = f", finished after {format_duration(end - record.created_at)}" if record.finished_at else ""
    lines += formatter(
        f"registered {registered}, {format_duration(now - record.created_at)} ago{finished}", TextStyle.DIM
    )
    previous_end: float | None = None
    for each in spans:
        span = _whole_rollback(_end_before_start(each, record), record)
        if previous_end is not None and span.started_at - previous_end >= 1:
            waited = format_duration(span.started_at - previous_end)
            lines.append(((f"{'':9}waited {waited} for gates and approval", TextStyle.DIM),))
        phase = record.release.current_phase if record.release.state is ReleaseState.RUNNING else None
        has_steps_left = each is spans[-1] and phase is not None and phase.name == span.name
        is_open = span.ended_at is None or (has_steps_left and not progress.moves)
        # The time before the start passes whether or not an agent works.
        span_end = now if span.name == BEFORE_FIRST_STEP else end
        lines += [(), _phase_line(span, record.created_at, span_end, context, formatter, progress, is_open=is_open)]
        for item in span.items:
            if isinstance(item, StepAttempt):
                lines += _attempt_lines(item, record, until, context, formatter, activity)
            else:
                lines += _event_lines(item, context, formatter)
        previous_end = span.ended_at
    next_phases = [phase.name for phase in record.release.strategy.phases[record.release.phase + 1 :]]
    if next_phases and not record.release.state.has_ended and not record.release.state.is_rolling_back:
        lines += [(), *formatter(f"○ not started: {', '.join(next_phases)}", TextStyle.DIM)]
    return lines


def _end_before_start(span: PhaseSpan, record: ReleaseRecord) -> PhaseSpan:
    """The time before the first step, with its end where no step began: when the release ended, else the last event
    that is known, because a recording may begin later."""
    if span.name != BEFORE_FIRST_STEP or span.ended_at is not None or record.release.state is ReleaseState.PLANNED:
        return span
    known = max((item.at for item in span.items if isinstance(item, Event)), default=span.started_at)
    return replace(span, ended_at=record.finished_at or known)


def _whole_rollback(span: PhaseSpan, record: ReleaseRecord) -> PhaseSpan:
    """The rollback from its command to the end of the release, as the summary counts it."""
    if span.name != ROLLBACK or record.rollback is None or record.release.state is not ReleaseState.ROLLED_BACK:
        return span
    return replace(span, started_at=record.rollback.started_at, ended_at=record.finished_at)


def _moved_until(
    release: Release, events: Sequence[Event], progress: Progress, activity: Activity, now: float
) -> float:
    """When the release was last known to move: until then durations of running work are counted."""
    if progress.state is ProgressState.STOPPED and release.breach is not None:
        return min(now, release.breach.since or now)
    if progress.state is not ProgressState.PAUSED:
        return activity.worked_until(now)
    if not release.paused:
        steps = (each.at for each in events if each.kind == "step")
        return max((*steps, *(pause.since for pause in release.table_pauses)), default=now)
    commands = (each for each in events if each.kind == "command" and each.message.startswith(CommandKind.PAUSE))
    pauses = [each.at for each in commands if not each.message.startswith(TABLE_PAUSED)]
    return max(pauses, default=events[0].at if events else now)


def _phase_line(
    span: PhaseSpan,
    first: float,
    end: float,
    context: RenderContext,
    formatter: TextFormatter,
    progress: Progress,
    *,
    is_open: bool,
) -> Line:
    """
    Args:
        is_open: a step of it runs, or would run if nothing held the release.
    """
    duration = (span.ended_at or end) - span.started_at
    offset = f"+{format_duration(max(0.0, span.started_at - first))}"
    is_rollback = span.name == ROLLBACK
    name = "before start" if span.name == BEFORE_FIRST_STEP else span.name
    glyph = "◀" if is_rollback else "■"
    if is_open and not (is_rollback and progress.moves):
        glyph = progress.glyph
    verb = (
        "duration" if not is_open or span.name == BEFORE_FIRST_STEP else "running for" if progress.moves else "ran for"
    )
    ending = f"; {progress.reason}" if is_open and progress.reason else ""
    head: Line = (
        (f"{context.clock.time_of_day(span.started_at)} ", TextStyle.DIM),
        (f"{glyph} {fit(name, 12)} ", TextStyle.ROLLED_BACK if is_rollback else TextStyle.STRONG),
        (f"{offset:>8}", TextStyle.DIM),
        (f"  {verb} {format_duration(duration)}{ending}", TextStyle.NORMAL),
    )
    if formatter.cells < WIDE_FROM:
        return formatter.clip(head)
    blank = " " * max(1, formatter.cells - BAR_WIDTH - line_width(head))
    return (*head, (blank, TextStyle.NORMAL), *bar(span.started_at, span.ended_at or end, first, end))


def bar(started: float, ended: float, first: float, end: float) -> Line:
    """A phase's place in the release's time; at least one cell."""
    span = max(end - first, 0.001)
    start = min(BAR_WIDTH - 1, int(BAR_WIDTH * max(0.0, started - first) / span))
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
    formatter: TextFormatter,
    activity: Activity,
) -> list[Line]:
    if attempt.outcome == "running":
        status = StepStatus.UNDOING if attempt.is_undo else StepStatus.STARTED
        glyph, style, _ = describe_step_status(record.release, status, activity)
    else:
        glyph, style = _OUTCOMES[attempt.outcome]
    duration = format_duration(
        (attempt.ended_at if attempt.ended_at is not None else record.finished_at or now) - attempt.started_at
    )
    verb = "revert " if attempt.is_undo else ""
    number = f"  attempt {attempt.number}" if attempt.number > 1 else ""
    ending = _ENDINGS.get(attempt.outcome, "")
    line: Line = (
        (f"{context.clock.time_of_day(attempt.started_at)}   ", TextStyle.DIM),
        (f"{glyph} ", style),
        (f"{duration:>6}  ", TextStyle.NORMAL),
        (f"{verb}{sanitize(attempt.label)}", TextStyle.NORMAL),
        (number + ending, TextStyle.WARN),
    )
    return [
        formatter.clip(line),
        *(formatter(f"✗ {attempt.error}", TextStyle.BAD, indent=" " * 21) if attempt.error else []),
    ]


def _event_lines(event: Event, context: RenderContext, formatter: TextFormatter) -> list[Line]:
    spans = event_line(event, context.clock)
    text = "".join(part for part, _ in spans)
    return formatter(text, _EVENT_STYLES.get(event.kind, TextStyle.KEY))

"""Errors, refused commands, gates, sources and events in full."""

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.dialog import FollowingDialog, key_hints_line
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress, command_progress_lines
from zdd_tui.dashboard.widgets.bars.health import health_style, health_text
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS, describe_step_status
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    error_lines,
    format_age,
    format_data_age,
    sanitize,
    wrap,
)
from zdd_tui.dashboard.widgets.panes.events import event_line
from zdd_tui.dashboard.widgets.panes.guard import guard_readings
from zdd_tui.model.release.claims import Activity, describe_step_note
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import Release
from zdd_tui.model.release.summary import list_current_gates, summarize_release
from zdd_tui.model.release.system import System


class StatusDetailsScreen(FollowingDialog[None]):
    """A page that follows the state.

    Args:
        get_progress: the newest progress of the last command; None where there is none to show.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,e,q,enter", "dismiss", "Close", show=False, id="details.close"),
    ]

    def __init__(
        self, board: DashboardState, context: RenderContext, get_progress: Callable[[], CommandProgress | None]
    ) -> None:
        super().__init__(board, context)
        self._get_progress = get_progress

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return status_detail_lines(board, context, cells, self._get_progress())

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [key_hints_line((("↑ ↓ PgUp PgDn", "scroll"), ("Esc", "close")))]


def status_detail_lines(
    board: DashboardState, context: RenderContext, cells: int, progress: CommandProgress | None = None
) -> list[Line]:
    lines: list[Line] = []
    record, now = board.release.value, board.server_now(context.now)
    if progress is not None:
        lines += [*command_progress_lines(progress, board, context, cells), ()]
    if record is not None and now is not None:
        activity = board.activity(context.now)
        summary = summarize_release(record, now, context.key_names, activity)
        lines += wrap(f"✗ {summary.cause}", cells, TextStyle.BAD) if summary.cause else []
        lines += wrap(f"{summary.glyph} {summary.state_label}  {summary.text}", cells, TextStyle.STRONG)
        lines += [line for note in summary.notes for line in wrap(note, cells, indent="  ")]
        lines += wrap(f"Fix: {summary.fix}", cells) if summary.fix else []
        lines += [(), *_gate_lines(record, now, cells), *_guard_lines(board, now, cells)]
        lines += [*_step_lines(record, activity, cells), *_refused_command_lines(record, context, cells)]
    lines += _source_lines(board, context, cells)
    if record is not None:
        lines += [(), (("events", TextStyle.DIM),)]
        for event in sorted(record.events, key=lambda each: each.id, reverse=True):
            text = "".join(part for part, _ in event_line(event, context.clock, full=True))
            lines += wrap(text, cells, TextStyle.BAD if event.kind in ("refused", "error") else TextStyle.NORMAL)
    return lines


def _gate_lines(record: ReleaseRecord, now: float, cells: int) -> list[Line]:
    lines: list[Line] = []
    state = record.release.state
    is_past = state.has_ended or state.is_rolling_back
    title = "gates before the rollback" if state.is_rolling_back else "gates at the end" if is_past else "gates"
    for label, reading in list_current_gates(record, now):
        glyph, style = VERDICT_GLYPHS[reading.verdict]
        style = TextStyle.DIM if is_past else style
        age = f"{format_age(reading.age(now))} ago" if is_past else f"{format_data_age(reading.age(now))} old"
        age = f"  {age}" if reading.name in record.gates else ""
        word = "passed" if is_past and reading.verdict is Verdict.PASS else str(reading.verdict)
        lines.append(((f"{glyph} {word}  ", style), (label, TextStyle.STRONG), (age, TextStyle.DIM)))
        lines += wrap(f"{reading.name}: {reading.reason}", cells, indent="    ")
    return [((title, TextStyle.DIM),), *lines, ()] if lines else []


def _guard_lines(board: DashboardState, now: float, cells: int) -> list[Line]:
    """Verdict, age of its data and reason of each rule."""
    lines: list[Line] = []
    has_ended = board.release.value is not None and board.release.value.release.state.has_ended
    for reading in guard_readings(board, now):
        glyph, style = VERDICT_GLYPHS[reading.verdict]
        style = TextStyle.DIM if has_ended else style
        rule = sanitize(reading.rule)
        acted = f", the guard triggered {reading.action_taken}" if reading.action_taken else ""
        age = f"  {format_data_age(reading.age(now))} old" if reading.observed_at and not has_ended else ""
        head: Line = ((f"{glyph} {reading.verdict}  ", style), (rule, TextStyle.STRONG), (acted, TextStyle.WARN))
        lines.append((*head, (age, TextStyle.DIM)))
        lines += wrap(reading.reason, cells, indent="    ")
    title = "guard, which has ended" if has_ended else "guard"
    return [((title, TextStyle.DIM),), *lines, ()] if lines else []


def _step_lines(record: ReleaseRecord, activity: Activity, cells: int) -> list[Line]:
    labels = {spec.name: spec.label for spec in record.release.strategy.steps}
    release = record.release
    lines = [
        line
        for step in record.steps
        for line in _step_line(release, step, labels.get(step.name, step.name), activity, cells)
    ]
    return [(("steps", TextStyle.DIM),), *lines, ()] if lines else []


def _step_line(release: Release, step: StepRecord, label: str, activity: Activity, cells: int) -> list[Line]:
    glyph, style, text = describe_step_status(release, step.status, activity)
    lines: list[Line] = [((f"{glyph} ", style), (f"{text:<12} ", TextStyle.NORMAL), (label, TextStyle.NORMAL))]
    note = describe_step_note(step, activity)
    lines += wrap(note, cells, TextStyle.DIM, indent="    ") if note else []
    lines += wrap(f"✗ {step.error}", cells, TextStyle.BAD, indent="    ") if step.error else []
    return lines


def _refused_command_lines(record: ReleaseRecord, context: RenderContext, cells: int) -> list[Line]:
    lines: list[Line] = []
    for command in record.commands:
        if command.status == "refused":
            when = context.clock.time_of_day(command.created_at)
            lines += wrap(f"✗ {when} {command.kind} by {command.actor}: {command.outcome}", cells, TextStyle.BAD)
    return [(("refused commands", TextStyle.DIM),), *lines, ()] if lines else []


def _source_lines(board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    plan = board.plan
    places = {
        System.POSTGRESQL: plan.database,
        System.KUBERNETES: plan.cluster,
        System.REDIS: plan.flags,
        System.AGENT: describe_holder(board),
    }
    lines: list[Line] = [(("sources", TextStyle.DIM),)]
    for health in board.health(context.now):
        lines += wrap(f"{health_text(health)}  {places.get(health.name, '')}".rstrip(), cells, health_style(health))
        lines += wrap(health.error, cells, TextStyle.BAD, indent="    ") if health.error else []
        lines += error_lines("", health.hint, cells, indent="    ")
    return lines


def describe_holder(board: DashboardState) -> str:
    """Who holds the lease, or held it last."""
    lease = board.release.value.lease if board.release.value is not None else None
    return f"{lease.holder}@{lease.host}, pid {lease.pid}" if lease is not None and lease.holder else ""

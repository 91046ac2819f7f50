"""What the release does now, what it waits for, and which key comes next."""

from dataclasses import replace

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, error_lines, format_age, hang, line_width, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import ReleaseSummary, Severity, has_no_agent, summarize_release

SEVERITY_STYLES = {
    Severity.IDLE: TextStyle.STRONG,
    Severity.WORKING: TextStyle.RUNNING,
    Severity.WAITING: TextStyle.WARN,
    Severity.PAUSED: TextStyle.WARN,
    Severity.ROLLING_BACK: TextStyle.WARN,
    Severity.ERROR: TextStyle.ALARM,
    Severity.SUCCESS: TextStyle.GOOD,
}

_BADGE_STYLES = {
    Severity.ERROR: TextStyle.ALARM,
    Severity.SUCCESS: TextStyle.DONE,
}
"""Badges of failed and finished releases, so that they differ from running ones; a rolled-back one has its own."""

GRACE_SECONDS = 1.5
"""Seconds without a connection that are not reported: most connections recover within that time."""


class SummaryLines(ReleaseView):
    """Up to eight lines; the rest is in the details."""

    click_action = "details"

    auto_height = 8

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return summary_lines(board, context, cells)


def summary_lines(board: DashboardState, context: RenderContext, cells: int, limit: int = 8) -> list[Line]:
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return _no_record_lines(board, cells)
    lines: list[Line] = []
    age = board.release.age(context.now) or 0.0
    stale = is_connection_lost(board, context)
    if stale:
        word = "STALE" if age > RELEASE_STALE_SECONDS else "LOST"
        silence = f"no data from the database for {format_age(age)} ({board.release.error or 'no response'})"
        lines += wrap(f"✗ {word}: {silence}; showing the last known state", cells, TextStyle.BAD)
    summary = summarize_release(record, now, context.key_names)
    lines += _state_lines(record, summary, cells, stale=stale)
    tail: list[Line] = []
    queued = [requested for requested in record.commands if requested.status == "queued"]
    if has_no_agent(record.lease) and not record.release.state.has_ended and not stale:
        waiting = f"; {len(queued)} command{'s wait' if len(queued) > 1 else ' waits'}" if queued else ""
        tail += wrap(f"✗ No agent is running this release{waiting}. Fix: zdd agent PLAN", cells, TextStyle.BAD)
    elif stale:
        hint = f"Fix: {board.release.hint}; " if board.release.hint else ""
        text = f"→ {hint}this screen reconnects automatically, the agent is not affected"
        tail += wrap(text, cells, TextStyle.STRONG)
    elif summary.next_action:
        action = wrap(_next_action_text(summary, context), cells - 2, TextStyle.STRONG)
        tail += [(("→ ", TextStyle.KEY), *line) for line in action]
    note_style = TextStyle.BAD if summary.severity is Severity.ERROR else TextStyle.WARN
    notes = [line for note in summary.notes for line in wrap(note, cells, note_style, indent="  ")]
    room = max(1, limit - len(lines) - len(tail))
    if len(notes) > room:
        key = (context.key_names["details"], TextStyle.KEY)
        notes = [*notes[: room - 1], (("  … ", TextStyle.DIM), key, (" shows all", TextStyle.DIM))]
    return [*lines, *notes, *tail]


def _next_action_text(summary: ReleaseSummary, context: RenderContext) -> str:
    """The next action: after the key that unlocks where production is locked; marked as impossible where read-only."""
    mutating = tuple(f"{context.key_names[each]} " for each in ("advance", "pause", "resume", "rollback"))
    if not summary.next_action.startswith(mutating):
        return summary.next_action
    if context.production_lock.read_only:
        return f"read-only session: {summary.next_action}"
    locked = context.production_lock.is_locked(context.now) and not summary.next_action.startswith(mutating[-1])
    return f"{context.key_names['unlock']} unlocks, then {summary.next_action}" if locked else summary.next_action


def is_connection_lost(board: DashboardState, context: RenderContext) -> bool:
    """The release is stale, or cannot be read and will be."""
    age = board.release.age(context.now)
    has_error = bool(board.release.error) and age is not None and age > GRACE_SECONDS
    return has_error or board.release.is_stale(context.now, RELEASE_STALE_SECONDS)


def _state_lines(record: ReleaseRecord, summary: ReleaseSummary, cells: int, *, stale: bool) -> list[Line]:
    """The badge, the guard's cause, and what is done now."""
    if summary.severity in (Severity.WORKING, Severity.ROLLING_BACK) and has_no_agent(record.lease) and not stale:
        summary = replace(summary, severity=Severity.ERROR, glyph="✗", state_label="STALLED")
    label = f"{summary.glyph} {summary.state_label}"
    badge: Line = ((label, SEVERITY_STYLES[summary.severity]), ("  ", TextStyle.NORMAL))
    is_rolled_back = record.release.state is ReleaseState.ROLLED_BACK
    if badge_style := TextStyle.ROLLED_BACK if is_rolled_back else _BADGE_STYLES.get(summary.severity):
        badge = ((f" {label} ", badge_style), (" ", TextStyle.NORMAL))
    room = cells - line_width(badge)
    first = wrap(summary.cause, room, TextStyle.BAD) if summary.cause else []
    first += wrap(summary.text, room, TextStyle.STRONG)
    return hang(badge, first)


def _no_record_lines(board: DashboardState, cells: int) -> list[Line]:
    source = board.release
    if not source.error:
        return wrap(f"… connecting to PostgreSQL {board.plan.database}", cells, TextStyle.DIM)
    return error_lines(source.error, source.hint, cells)

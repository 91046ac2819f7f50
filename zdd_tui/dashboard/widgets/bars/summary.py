"""What the release does now, what it waits for, and what to press: the lines to read first at three in the morning."""

from dataclasses import replace

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, line_width, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
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
    "rolled back": TextStyle.ROLLED_BACK,
}
"""Ends and failures stand on a coloured plate, so that none is taken for another or for work under way."""


GRACE_SECONDS = 1.5
"""Seconds of silence that are not worth a word: a connection that was cut is mostly back within that."""


class SummaryLines(LineView):
    """Grows with what there is to say, up to eight lines; the rest is in the details."""

    auto_height = 8

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: DashboardState, moment: RenderContext, cells: int) -> list[Line]:
        return summary_lines(board, moment, cells)


def summary_lines(board: DashboardState, context: RenderContext, cells: int, limit: int = 8) -> list[Line]:
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return _no_record_lines(board, cells)
    lines: list[Line] = []
    age = board.release.age(context.now) or 0.0
    stale = is_connection_lost(board, context)
    if stale:
        word = "STALE" if age > RELEASE_STALE_SECONDS else "LOST"
        silence = f"no news from the database for {format_age(age)} ({board.release.error or 'no answer'})"
        lines += wrap(f"✗ {word}: {silence}; this is the last known state", cells, TextStyle.BAD)
    text = summarize_release(record, now, context.key_names)
    lines += _state_lines(record, text, cells, stale=stale)
    tail: list[Line] = []
    queued = [requested for requested in record.commands if requested.status == "queued"]
    if has_no_agent(record.lease) and not record.release.state.has_ended and not stale:
        waiting = f"; {len(queued)} command{'s wait' if len(queued) > 1 else ' waits'}" if queued else ""
        tail += wrap(
            f"✗ nobody carries this release out{waiting}. Start an agent: zdd agent PLAN", cells, TextStyle.BAD
        )
    elif stale:
        hint = f"{board.release.hint}; " if board.release.hint else ""
        tail += wrap(f"→ {hint}this screen reconnects by itself, the agent does not need it", cells, TextStyle.STRONG)
    elif text.next_action:
        tail += [
            (("→ ", TextStyle.KEY), *line)
            for line in wrap(_next_action_text(text, context), cells - 2, TextStyle.STRONG)
        ]
    notes = [line for note in text.notes for line in wrap(note, cells, _note_style(text.severity), indent="  ")]
    room = max(1, limit - len(lines) - len(tail))
    if len(notes) > room:
        key = (context.key_names["details"], TextStyle.KEY)
        notes = [*notes[: room - 1], (("  … ", TextStyle.DIM), key, (" shows all of it", TextStyle.DIM))]
    return [*lines, *notes, *tail]


def _next_action_text(summary: ReleaseSummary, context: RenderContext) -> str:
    """What to press: the key that unlocks first where production is locked; read-only, that it is not from here."""
    hidden = tuple(f"{context.key_names[each]} " for each in ("advance", "pause", "resume", "rollback"))
    if not summary.next_action.startswith(hidden):
        return summary.next_action
    if context.production_lock.read_only:
        return f"not from here (read-only): {summary.next_action}"
    locked = context.production_lock.is_locked(context.now) and not summary.next_action.startswith(hidden[-1])
    return f"{context.key_names['unlock']} unlocks, then {summary.next_action}" if locked else summary.next_action


def is_connection_lost(board: DashboardState, context: RenderContext) -> bool:
    """The release is not being read: it is old, or it is known why it will be."""
    age = board.release.age(context.now)
    troubled = bool(board.release.error) and age is not None and age > GRACE_SECONDS
    return troubled or board.release.is_stale(context.now, RELEASE_STALE_SECONDS)


def _state_lines(record: ReleaseRecord, summary: ReleaseSummary, cells: int, *, stale: bool) -> list[Line]:
    """The plate and what is done now; what the guard saw comes before that."""
    if summary.severity in (Severity.WORKING, Severity.ROLLING_BACK) and has_no_agent(record.lease) and not stale:
        summary = replace(summary, severity=Severity.ERROR, glyph="✗", state_label="STANDS STILL")
    badge: Line = (
        (f"{summary.glyph} {summary.state_label}", SEVERITY_STYLES[summary.severity]),
        ("  ", TextStyle.NORMAL),
    )
    badge_style = _BADGE_STYLES.get(
        "rolled back" if record.release.state is ReleaseState.ROLLED_BACK else summary.severity
    )
    if badge_style:
        badge = ((f" {summary.glyph} {summary.state_label} ", badge_style), (" ", TextStyle.NORMAL))
    room = cells - line_width(badge)
    first = wrap(summary.cause, room, TextStyle.BAD) if summary.cause else []
    first += wrap(summary.text, room, TextStyle.STRONG)
    return [(*badge, *first[0]), *(((" " * line_width(badge), TextStyle.NORMAL), *line) for line in first[1:])]


def _note_style(severity: Severity) -> TextStyle:
    return TextStyle.BAD if severity is Severity.ERROR else TextStyle.WARN


def _no_record_lines(board: DashboardState, cells: int) -> list[Line]:
    source = board.release
    if not source.error:
        return wrap(f"… connecting to PostgreSQL {board.plan.database}", cells, TextStyle.DIM)
    lines = wrap(f"✗ {source.error}", cells, TextStyle.BAD)
    return lines + (wrap(f"→ {source.hint}", cells, TextStyle.STRONG) if source.hint else [])

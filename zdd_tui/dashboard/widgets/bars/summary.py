"""What the release does now, what it waits for, and which key comes next."""

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import agent_start_disabled_reason
from zdd_tui.dashboard.widgets.drawing.glyphs import SEVERITY_STYLES
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, error_lines, format_age, hang, line_width, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.actions import find_action
from zdd_tui.model.agent_start import describe_start
from zdd_tui.model.release.claims import SourceName, format_silence
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import ReleaseSummary, Severity, summarize_release

_BADGE_STYLES = {
    Severity.ERROR: TextStyle.ALARM,
    Severity.SUCCESS: TextStyle.DONE,
}
"""Badges of failed and finished releases, so that they differ from running ones; a rolled-back one has its own."""


class SummaryLines(ReleaseView):
    """Up to eight lines; the rest is in the details."""

    click_action = "details"

    auto_height = 8

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return summary_lines(board, context, cells)


def summary_lines(board: DashboardState, context: RenderContext, cells: int, limit: int = 8) -> list[Line]:
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return _no_record_lines(board, context, cells)
    lines: list[Line] = []
    activity = board.activity(context.now)
    age = board.release.age(context.now) or 0.0
    stale = not activity.is_known
    if stale:
        word = "STALE" if age > RELEASE_STALE_SECONDS else "LOST"
        silence = f"no data from the database for {format_age(age)} ({board.release.error or 'no response'})"
        lines += wrap(f"✗ {word}: {silence}; showing the last known state", cells, TextStyle.BAD)
    lines += _lost_source_lines(board, context, cells)
    following = following_region(board, context)
    summary = summarize_release(record, now, context.key_names, activity, following_region=following)
    lines += _state_lines(record, summary, cells)
    tail: list[Line] = []
    queued = [requested for requested in record.commands if requested.status == "queued"]
    if not activity.is_active and not record.release.state.has_ended and not stale:
        waiting = f"; {len(queued)} command{'s wait' if len(queued) > 1 else ' waits'}" if queued else ""
        seen = "" if activity.idle_seconds is None else f" (last seen {format_silence(activity.idle_seconds)} ago)"
        text = f"✗ No agent is running this release{seen}{waiting}. {_agent_hint(board, context)}"
        tail += wrap(text, cells, TextStyle.BAD)
    elif stale:
        hint = f"Fix: {board.release.hint}; " if board.release.hint else ""
        text = f"→ {hint}this screen reconnects automatically"
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


def _lost_source_lines(board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    """The lost sources on which the phase relies, besides PostgreSQL and the agent, which have their own lines."""
    own_lines = (SourceName.POSTGRESQL, SourceName.AGENT)
    lost = [each for each in board.lost_sources(context.now) if each.name not in own_lines]
    if not lost:
        return []
    if len(lost) > 1:
        text = f"✗ LOST: {', '.join(each.name for each in lost)}; this phase relies on them"
    else:
        hint = f". Fix: {lost[0].hint}" if lost[0].hint else ""
        text = f"✗ LOST: {lost[0].description}; this phase relies on it{hint}"
    return wrap(text, cells, TextStyle.BAD)


def following_region(board: DashboardState, context: RenderContext) -> str:
    """The region that is released after this one, once this one is done and where it can be opened from here."""
    record = board.release.value
    is_done = record is not None and record.release.state is ReleaseState.DONE
    return board.plan.region_beside(1) if is_done and context.has_fleet else ""


def _agent_hint(board: DashboardState, context: RenderContext) -> str:
    """What became of the agent that was started here; else what starts one."""
    started = describe_start(board.agent_start, context.now)
    if started and agent_start_disabled_reason(board, context):
        return started
    can_start = context.production_lock.is_available(find_action("start-agent"), context.now)
    fix = f"{context.key_names['start-agent']} starts one" if can_start else "Fix: zdd agent PLAN"
    return f"{started}. {fix}" if started else fix


def _next_action_text(summary: ReleaseSummary, context: RenderContext) -> str:
    """The next action: after the key that unlocks where production is locked; marked as impossible where read-only."""
    mutating = tuple(f"{context.key_names[each]} " for each in ("advance", "pause", "resume", "rollback"))
    if not summary.next_action.startswith(mutating):
        return summary.next_action
    if context.production_lock.read_only:
        return f"read-only session: {summary.next_action}"
    locked = context.production_lock.is_locked(context.now) and not summary.next_action.startswith(mutating[-1])
    return f"{context.key_names['unlock']} unlocks, then {summary.next_action}" if locked else summary.next_action


def _state_lines(record: ReleaseRecord, summary: ReleaseSummary, cells: int) -> list[Line]:
    """The badge, the guard's cause, and what is done now."""
    label = f"{summary.glyph} {summary.state_label}"
    badge: Line = ((label, SEVERITY_STYLES[summary.severity]), ("  ", TextStyle.NORMAL))
    is_rolled_back = record.release.state is ReleaseState.ROLLED_BACK
    if badge_style := TextStyle.ROLLED_BACK if is_rolled_back else _BADGE_STYLES.get(summary.severity):
        badge = ((f"{label} ", badge_style), (" ", TextStyle.NORMAL))
    room = cells - line_width(badge)
    first = wrap(summary.cause, room, TextStyle.BAD) if summary.cause else []
    first += wrap(summary.text, room, TextStyle.STRONG)
    return hang(badge, first)


def _no_record_lines(board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    source = board.release
    if not source.error:
        return wrap(f"… connecting to PostgreSQL {board.plan.database}", cells, TextStyle.DIM)
    if source.age(context.now) is None or source.is_stale(context.now, RELEASE_STALE_SECONDS):
        return error_lines(source.error, source.hint, cells)
    where = f" in region {board.plan.region.split(' ')[0]}" if board.plan.region else ""
    text = f"✗ NOT STARTED{where}: {source.error}, and no agent is running. {_agent_hint(board, context)}"
    return wrap(text, cells, TextStyle.BAD)

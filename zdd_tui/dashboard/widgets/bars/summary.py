"""What the release does now, what it waits for, and which key comes next."""

import re
from dataclasses import replace

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import agent_hint
from zdd_tui.dashboard.widgets.drawing.glyphs import SEVERITY_STYLES
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    error_lines,
    format_age,
    hang,
    line_width,
    sanitize,
    truncate_middle,
    with_plan_file,
    wrap,
)
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.counting import count_noun
from zdd_tui.model.release.claims import format_silence
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import (
    NextAction,
    ReleaseSummary,
    Severity,
    describe_return,
    join_actions,
    summarize_release,
)
from zdd_tui.model.release.system import System

_BADGE_STYLES = {
    Severity.ERROR: TextStyle.ALARM,
    Severity.SUCCESS: TextStyle.DONE,
}
"""Badges of failed and finished releases, so that they differ from running ones; a rolled-back one has its own."""


_MIN_FIX = 60
"""Cells of a fix that are shown at least."""

_ACTION_KEYS = ("advance", "pause", "resume", "rollback", "unlock", "start-agent", "details", "topology", "quit",
                "next-region", "pause-table")  # fmt: skip
"""Actions that the line with the arrow names by their keys."""


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
        lines += _alarm_lines(f"{word}: {silence}; showing the last known state", cells)
    lines += _lost_source_lines(board, context, cells)
    following = following_region(board, context)
    summary = summarize_release(record, now, context.key_names, activity, following_region=following)
    lines += _state_lines(record, summary, cells)
    tail: list[Line] = []
    queued = [requested for requested in record.commands if requested.status == "queued"]
    if not activity.is_active and not record.release.state.has_ended and not stale:
        waiting = f"; {count_noun(len(queued), 'command waits', 'commands wait')} for one" if queued else ""
        is_told = activity.idle_seconds is None or activity.description in summary.text
        seen = "" if is_told else f" (last seen {format_silence(activity.idle_seconds or 0.0)} ago)"
        tail += _alarm_lines(f"No agent is running this release{seen}{waiting}", cells)
        tail += _action_lines(agent_hint(board, context), context, cells)
    elif stale:
        hint = f"Fix: {board.release.hint}; " if board.release.hint else ""
        tail += _action_lines(f"{hint}this screen reconnects automatically", context, cells)
    elif summary.next_action:
        needed = [each.name for each in board.lost_systems(context.now) if each.name is not System.PROMETHEUS]
        if summary.is_automatic and needed:
            summary = replace(summary, actions=(NextAction(describe_return(needed)),))
        summary = _with_production_lock(summary, context)
        tail += _fix_lines(summary, limit - len(lines), context, cells)
    # What a person can do now is never cut, nor are the first words of what has failed.
    lines = lines[: max(1, limit - len(tail) - bool(summary.notes))]
    note_style = TextStyle.BAD if summary.severity is Severity.ERROR else TextStyle.WARN
    notes = [line for note in summary.notes for line in wrap(note, cells, note_style, indent="  ")]
    room = max(1, limit - len(lines) - len(tail))
    if len(notes) > room:
        key = (context.key_names["details"], TextStyle.KEY)
        rest: Line = (("  ", TextStyle.DIM), key, (" shows all", TextStyle.DIM))
        last = clip((*notes[room - 1], (" …", note_style)), cells - line_width(rest))
        notes = [*notes[: room - 1], (*last, *rest)]
    return [*lines, *notes, *tail]


def _lost_source_lines(board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    lost = board.lost_systems(context.now)
    if not lost:
        return []
    if len(lost) > 1:
        text = f"LOST: {', '.join(each.name for each in lost)}; this phase relies on them"
    else:
        hint = f". Fix: {lost[0].hint}" if lost[0].hint else ""
        text = f"LOST: {lost[0].description}; this phase relies on it{hint}"
    return _alarm_lines(text, cells)


def _alarm_lines(text: str, cells: int) -> list[Line]:
    return hang((("✗ ", TextStyle.BAD),), wrap(text, cells - 2, TextStyle.BAD))


def following_region(board: DashboardState, context: RenderContext) -> str:
    """The region that is released after this one, once this one is done and where it can be opened from here."""
    record = board.release.value
    is_done = record is not None and record.release.state is ReleaseState.DONE
    return board.plan.region_beside(1) if is_done and context.has_fleet else ""


def _with_production_lock(summary: ReleaseSummary, context: RenderContext) -> ReleaseSummary:
    """Where production is locked, the key that unlocks comes before those that need it, and a rollback is said to need
    none. Where the session is read-only, keys are marked as impossible."""
    keys, actions = context.key_names, summary.actions
    blocked = [each for each in actions if each.action in ("advance", "pause", "resume", "pause-table")]
    if context.production_lock.read_only:
        first = next((each for each in actions if each in blocked or each.action == "rollback"), None)
        marked = (replace(each, text=f"read-only session: {each.text}") if each is first else each for each in actions)
        return replace(summary, actions=tuple(marked))
    if not blocked or not context.production_lock.is_locked(context.now):
        return summary
    unlock = NextAction(f"{keys['unlock']} unlocks, then {join_actions(blocked)}", "unlock")
    others = [
        replace(each, text=f"{each.text} without unlock") if each.text == f"{keys['rollback']} rolls back" else each
        for each in actions
        if each not in blocked
    ]
    facts = [each for each in others if not each.action]  # such as that it is paused, too
    return replace(summary, actions=(*facts, unlock, *(each for each in others if each.action)))


def _fix_lines(summary: ReleaseSummary, room: int, context: RenderContext, cells: int) -> list[Line]:
    """The line with the arrow, in so many lines where that is possible: a long fix loses its middle, no action."""
    lines = _action_lines(summary.next_action, context, cells)
    fix, length = summary.fix, len(summary.fix)
    if not summary.actions or not fix:
        return lines
    # No longer one has room. It is not tried, because wrapping is slow and this runs with every paint.
    rest = len(summary.next_action) - length
    length = min(length, max(_MIN_FIX + 1, room * cells - rest))
    while len(lines) > room and length > _MIN_FIX:
        length -= 1
        lines = _action_lines(replace(summary, fix=truncate_middle(fix, length)).next_action, context, cells)
    return lines


def _action_lines(text: str, context: RenderContext, cells: int) -> list[Line]:
    """The line with the arrow. A key differs from the words around it: ``a runs cutover`` begins with no article."""
    arrow: Line = (("→ ", TextStyle.KEY),)
    text = with_plan_file(text)
    lines = wrap(text, cells - line_width(arrow), TextStyle.STRONG)
    keys = "|".join(re.escape(context.key_names[each]) for each in _ACTION_KEYS)
    found = {match.start(1): match[1] for match in re.finditer(rf"(?:^|[,;:] |then )({keys})(?= )", sanitize(text))}
    at, shown = 0, []
    for ((piece, style),) in lines:
        at = max(at, sanitize(text).find(piece, at))
        spans, start = [], 0
        for place, key in found.items():
            if at <= place < at + len(piece):
                spans += [(piece[start : place - at], style), (key, TextStyle.KEY)]
                start = place - at + len(key)
        shown.append((*(span for span in spans if span[0]), (piece[start:], style)))
        at += len(piece)
    return hang(arrow, shown)


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
    if not board.is_not_started or source.is_stale(context.now, RELEASE_STALE_SECONDS):
        return error_lines(source.error, source.hint, cells)
    where = f" in region {board.plan.region.split(' ')[0]}" if board.plan.region else ""
    text = f"✗ NOT STARTED{where}: {source.error}, and no agent is running. {agent_hint(board, context)}"
    return wrap(text, cells, TextStyle.BAD)

"""Diagram of expand/contract: both sides of the schema, their readers and writers now and after each phase."""

from collections import Counter
from collections.abc import Sequence

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.diagrams.sources import aged_lines, flag_sources, pod_sources, read_flag_percent
from zdd_tui.dashboard.widgets.drawing.glyphs import phase_glyph, progress_glyph
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, fit, sanitize, wrap
from zdd_tui.dashboard.widgets.panes.backfill import done_percent
from zdd_tui.dashboard.widgets.panes.pod_rows import shown_version
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.phase import Phase
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.release.claims import Activity, assess_backfill, is_current
from zdd_tui.model.release.condition import ConditionStatus
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import Release, StepStatus
from zdd_tui.model.workload.pod import PodState

_ARROW_WIDTH = 15
"""Width of the arrows between the boxes."""

_MAX_COLUMNS = 4
"""Columns listed in a box."""

_ROLES_BY_PHASE = {
    Phase.EXPAND: ("application", "all", "-", "-"),
    Phase.DUAL_WRITE: ("application", "all", "application", "-"),
    Phase.BACKFILL: ("application", "all", "application", "-"),
    Phase.CUTOVER: ("trigger", "-", "application", "all"),
    Phase.CONTRACT: ("archived", "-", "application", "all"),
    Phase.CLEANUP: ("dropped", "-", "application", "all"),
}
"""After each phase: who writes and who reads the old side, who writes and who reads the new side."""


def schema_diagram_lines(
    board: DashboardState, record: ReleaseRecord, context: RenderContext, cells: int
) -> list[Line]:
    """Boxes for both sides as they are now, then a table of the roles after each phase."""
    release, change, activity = record.release, board.plan.change, board.activity(context.now)
    lines: list[Line] = []
    if change is not None:
        server_now = board.server_now(context.now) or record.now
        lines += _side_boxes(record, change, _data_movement(record, activity, server_now), cells)
        # After the rollout of V3 no flag is read any more.
        flags = () if _is_step_done(release, "rollout-v3") else flag_sources(board)
        lines += [*aged_lines(_side_users(board, release, cells), flags, context.now, cells), ()]
    if board.plan.has_workload:
        lines += [*aged_lines([_versions(board, cells)], pod_sources(board), context.now, cells), ()]
    lines += _table(release, change, activity)
    if change is not None:
        lines += [(), (("each side is computed from the other", TextStyle.DIM),)]
        for name, expression in (*change.new_columns, *change.old_columns):
            lines += wrap(f"{name} = {' '.join(expression.split())}", cells)
    return lines


def _side_boxes(
    record: ReleaseRecord, change: ChangeView, arrows: Sequence[tuple[str, TextStyle]], cells: int
) -> list[Line]:
    room = (cells - _ARROW_WIDTH) // 2
    release = record.release
    old = _side_box("OLD SIDE", change.old_table, change.old_columns, describe_old_state(release), room)
    new = _side_box("NEW SIDE", change.new_table, change.new_columns, describe_new_state(release), room)
    height = max(len(old), len(new), 3 + len(arrows))
    lines: list[Line] = []
    for at in range(height):
        arrow = arrows[at - 2] if 2 <= at < 2 + len(arrows) else ("", TextStyle.NORMAL)
        left = old[at] if at < len(old) else ((" " * room, TextStyle.NORMAL),)
        right = new[at] if at < len(new) else ()
        lines.append((*left, (f"{arrow[0]:^{_ARROW_WIDTH}}", arrow[1]), *right))
    return [clip(line, cells) for line in lines]


def _side_users(board: DashboardState, release: Release, cells: int) -> list[Line]:
    """Who writes and who reads each side, below its box."""
    room = (cells - _ARROW_WIDTH) // 2
    uses = [describe_old_users(board, release), describe_new_users(board, release)]
    lines: list[Line] = []
    for word, of_sides in zip(("writes:", "reads: "), zip(*uses, strict=True), strict=True):
        texts = (fit(f"{word} {each}", room) for each in of_sides)
        lines.append((((" " * _ARROW_WIDTH).join(texts), TextStyle.NORMAL),))
    return [clip(line, cells) for line in lines]


def _side_box(title: str, table: str, columns: Sequence[tuple[str, str]], state: str, room: int) -> list[Line]:
    shown = [name for name, _ in columns[:_MAX_COLUMNS]]
    more = [f"… and {len(columns) - _MAX_COLUMNS} more"] if len(columns) > _MAX_COLUMNS else []
    exists = state == _EXISTS
    body: list[tuple[str, TextStyle]] = [(f"{title}  {sanitize(table)}", TextStyle.STRONG)]
    body += [(text, TextStyle.NORMAL if exists else TextStyle.DIM) for text in (*shown, *more)]
    if not exists:
        body.append((state, TextStyle.WARN if state == _ARCHIVED else TextStyle.DIM))
    return draw_box(body, room)


def draw_box(body: Sequence[tuple[str, TextStyle]], room: int) -> list[Line]:
    """Lines in a box of a width in cells."""
    inside = max(4, room - 4)
    lines: list[Line] = [((f"╭{'─' * (inside + 2)}╮", TextStyle.DIM),)]
    lines += [(("│ ", TextStyle.DIM), (fit(text, inside), style), (" │", TextStyle.DIM)) for text, style in body]
    return [*lines, ((f"╰{'─' * (inside + 2)}╯", TextStyle.DIM),)]


def _data_movement(record: ReleaseRecord, activity: Activity, now: float) -> list[tuple[str, TextStyle]]:
    """The arrows for triggers and backfill. What does not move now has no head, but says why.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    arrows: list[tuple[str, TextStyle]] = []
    if _is_step_done(release, "sync-forward") and not _is_step_done(release, "rollout-v3"):
        arrows.append(_trigger_arrow("── trigger ─▶", "── trigger {}", release, "_fwd", activity))
    state = record.backfill
    percent = done_percent(state)
    moves = state is not None and state.status != "cancelled" and not _is_step_done(release, "archive-old-side")
    if moves and state is not None and percent is not None:
        progress = assess_backfill(release, activity, state)
        glyph, style = ("✔", TextStyle.GOOD) if state.status == "done" else progress_glyph(progress)
        if progress.moves and state.status == "running":
            glyph, style = ("▶", style) if is_current(state.idle_seconds(now)) else ("", TextStyle.WARN)
        arrows.append(("backfill", TextStyle.DIM))
        arrows.append((f"━━ {percent}% ━━{glyph}", style))
    if _is_step_done(release, "sync-reverse") and not _is_step_done(release, "archive-old-side"):
        arrows.append(_trigger_arrow("◀─ trigger ──", "{} trigger ──", release, "_rev", activity))
    return arrows


def _trigger_arrow(
    arrow: str, without_head: str, release: Release, suffix: str, activity: Activity
) -> tuple[str, TextStyle]:
    """A trigger that a step has installed. It needs no agent; that it is still there only an agent says.

    Args:
        suffix: of its name.
    """
    if not activity.is_active:
        return without_head.format("?"), TextStyle.DIM
    unmet = (each for each in release.unmet if each.name.startswith("trigger ") and each.name.endswith(suffix))
    match next((each.status for each in unmet), None):
        case ConditionStatus.BREACHED:
            return without_head.format("✗"), TextStyle.BAD
        case ConditionStatus.UNKNOWN:
            return without_head.format("?"), TextStyle.WARN
    return arrow, TextStyle.RUNNING


_EXISTS, _ARCHIVED, _DROPPED, _NOT_CREATED = "exists", "archived", "dropped", "not created yet"
_ROLLED_BACK = "dropped by the rollback"


def describe_old_state(release: Release) -> str:
    if _is_step_done(release, "drop-archive"):
        return _DROPPED
    return _ARCHIVED if _is_step_done(release, "archive-old-side") else _EXISTS


def describe_new_state(release: Release) -> str:
    if _is_step_done(release, "expand-schema"):
        return _EXISTS
    is_undone = _has_step(release, "expand-schema") and release.status("expand-schema") is StepStatus.UNDONE
    return _ROLLED_BACK if is_undone else _NOT_CREATED


def describe_old_users(board: DashboardState, release: Release) -> tuple[str, str]:
    """Current writers and readers of the old side, as far as they are known."""
    if describe_old_state(release) != _EXISTS:
        return "none", "none"
    only_new = _is_step_done(release, "rollout-v3")
    writers = [] if only_new else ["application"]
    if _is_step_done(release, "sync-reverse"):
        writers.append("trigger")
    new = _read_share(board, release)
    return " + ".join(writers) or "none", _format_share(None if new is None else 100 - new)


def describe_new_users(board: DashboardState, release: Release) -> tuple[str, str]:
    """Current writers and readers of the new side, as far as they are known."""
    if describe_new_state(release) != _EXISTS:
        return "none", "none"
    writers = []
    if _is_step_done(release, "rollout-v3"):
        writers.append("application")
    elif _is_step_done(release, "write-flag-on"):
        percent = read_flag_percent(board, "write", was_set=True) if board.plan.has_flags else 100
        if percent != 0:
            flag = "flag ?" if percent is None else f"flag {FlagValue(percent)}"
            writers.append(f"V2 ({flag}{'' if _may_have_pods(board, '2') else ', no pods'})")
    if _is_step_done(release, "sync-forward") and not _is_step_done(release, "rollout-v3"):
        writers.append("trigger")
    return " + ".join(writers) or "none", _format_share(_read_share(board, release))


def _may_have_pods(board: DashboardState, version: str) -> bool:
    """Whether a pod has this version, or the pods are not known."""
    snapshot = board.workload.value
    return snapshot is None or any(pod.version == version and not pod.is_terminal for pod in snapshot.pods)


def _format_share(percent: int | None) -> str:
    return "unknown" if percent is None else f"{percent}%" if percent else "none"


def _read_share(board: DashboardState, release: Release) -> int | None:
    """Percent of reads from the new side: by the flag until V3 is rolled out, which reads nothing else; None where the
    flag is not known."""
    if _is_step_done(release, "rollout-v3"):
        return 100
    if not board.plan.has_flags:
        return 100 if _is_step_done(release, "read-flag-on") else 0
    was_set = any(step.moves_reads and release.status(step.name).has_effect for step in release.strategy.steps)
    return read_flag_percent(board, "read", was_set=was_set)


def _has_step(release: Release, step: str) -> bool:
    return any(spec.name == step for spec in release.strategy.steps)


def _is_step_done(release: Release, step: str) -> bool:
    return any(
        spec.name == step and status is StepStatus.DONE
        for spec, status in zip(release.strategy.steps, release.statuses, strict=True)
    )


def _versions(board: DashboardState, cells: int) -> Line:
    snapshot = board.workload.value
    if snapshot is None:
        return clip(((f"pods: {board.workload.error or 'unknown'}", TextStyle.WARN),), cells)
    versions = [(shown_version(board.plan, pod), pod) for pod in snapshot.pods]
    counts = Counter(key for key, pod in versions if pod.state is not PodState.GONE and not pod.is_terminal)
    serving = Counter(key for key, pod in versions if pod.state is PodState.SERVING)
    text = ", ".join(f"{count} of version {key} ({serving[key]} serving)" for key, count in sorted(counts.items()))
    return clip((("pods  ", TextStyle.DIM), (sanitize(text) or "none", TextStyle.NORMAL)), cells)


def _table(release: Release, change: ChangeView | None, activity: Activity) -> list[Line]:
    """Operations have no two sides: only the phases. A recording does not hold the change."""
    if not _has_step(release, "expand-schema"):
        glyphs = (phase_glyph(release, number, activity) for number in range(len(release.strategy.phases)))
        named = zip(glyphs, release.strategy.phases, strict=True)
        return [((f"{glyph} ", style), (phase.name, TextStyle.NORMAL)) for (glyph, style), phase in named]
    head = f"  {'AFTER':<12}{'OLD WRITTEN':<13}{'OLD READ':<10}{'NEW WRITTEN':<13}NEW READ"
    lines: list[Line] = [((head, TextStyle.DIM),)]
    trigger = change is not None and change.writes_by_trigger
    for number, phase in enumerate(release.strategy.phases):
        if phase.name not in _ROLES_BY_PHASE:
            continue
        old_written, old_read, new_written, new_read = _ROLES_BY_PHASE[Phase(phase.name)]
        if trigger and phase.name in (Phase.EXPAND, Phase.DUAL_WRITE, Phase.BACKFILL):
            new_written = "trigger"
        glyph, style = phase_glyph(release, number, activity)
        row = f"{phase.name:<12}{old_written:<13}{old_read:<10}{new_written:<13}{new_read}"
        lines.append(((f"{glyph} ", style), (row, TextStyle.STRONG if number == release.phase else TextStyle.NORMAL)))
    return lines

"""Diagram of expand/contract: both sides of the schema, their readers and writers now and after each phase."""

from collections import Counter
from collections.abc import Sequence

from zdd_tui.dashboard.state import DashboardState
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, fit, sanitize, wrap
from zdd_tui.dashboard.widgets.panes.backfill import done_percent
from zdd_tui.model.phase import Phase
from zdd_tui.model.queries import ChangeView
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


def schema_diagram_lines(board: DashboardState, record: ReleaseRecord, cells: int) -> list[Line]:
    """Boxes for both sides as they are now, then a table of the roles after each phase."""
    release, change = record.release, board.plan.change
    lines: list[Line] = []
    if change is not None:
        lines += [*_side_boxes(board, record, change, cells), ()]
    lines += [_versions(board, cells), ()]
    lines += _table(release, change)
    if change is not None:
        lines += [(), (("each side is computed from the other", TextStyle.DIM),)]
        for name, expression in (*change.new_columns, *change.old_columns):
            lines += wrap(f"{name} = {' '.join(expression.split())}", cells)
    return lines


def _side_boxes(board: DashboardState, record: ReleaseRecord, change: ChangeView, cells: int) -> list[Line]:
    room = (cells - _ARROW_WIDTH) // 2
    release = record.release
    old = _side_box("OLD SIDE", change.old_table, change.old_columns, describe_old_state(release), room)
    new = _side_box("NEW SIDE", change.new_table, change.new_columns, describe_new_state(release), room)
    uses = [describe_old_users(board, release), describe_new_users(board, release)]
    arrows = _data_movement(record)
    height = max(len(old), len(new), 3 + len(arrows))
    lines: list[Line] = []
    for at in range(height):
        arrow = arrows[at - 2] if 2 <= at < 2 + len(arrows) else ("", TextStyle.NORMAL)
        left = old[at] if at < len(old) else ((" " * room, TextStyle.NORMAL),)
        right = new[at] if at < len(new) else ()
        lines.append((*left, (f"{arrow[0]:^{_ARROW_WIDTH}}", arrow[1]), *right))
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


def _data_movement(record: ReleaseRecord) -> list[tuple[str, TextStyle]]:
    """The arrows for triggers and backfill that move data now."""
    release = record.release
    arrows: list[tuple[str, TextStyle]] = []
    if _is_step_done(release, "sync-forward") and not _is_step_done(release, "rollout-v3"):
        arrows.append(("── trigger ─▶", TextStyle.RUNNING))
    state = record.backfill
    percent = done_percent(state)
    moves = state is not None and state.status != "cancelled" and not _is_step_done(release, "archive-old-side")
    if moves and state is not None and percent is not None:
        done = state.status == "done"
        arrows.append(("backfill", TextStyle.DIM))
        arrows.append((f"━━ {percent}% ━━▶", TextStyle.GOOD if done else TextStyle.RUNNING))
    if _is_step_done(release, "sync-reverse") and not _is_step_done(release, "archive-old-side"):
        arrows.append(("◀─ trigger ──", TextStyle.RUNNING))
    return arrows


_EXISTS, _ARCHIVED, _DROPPED, _NOT_CREATED = "exists", "archived", "dropped", "not created yet"
_ROLLED_BACK = "dropped by the rollback"


def describe_old_state(release: Release) -> str:
    if _is_step_done(release, "drop-archive"):
        return _DROPPED
    return _ARCHIVED if _is_step_done(release, "archive-old-side") else _EXISTS


def describe_new_state(release: Release) -> str:
    if _is_step_done(release, "expand-schema"):
        return _EXISTS
    has_step = any(spec.name == "expand-schema" for spec in release.strategy.steps)
    is_undone = has_step and release.status("expand-schema") is StepStatus.UNDONE
    return _ROLLED_BACK if is_undone else _NOT_CREATED


def describe_old_users(board: DashboardState, release: Release) -> tuple[str, str]:
    """Current writers and readers of the old side."""
    if describe_old_state(release) != _EXISTS:
        return "none", "none"
    only_new = _is_step_done(release, "rollout-v3")
    writers = [] if only_new else ["application"]
    if _is_step_done(release, "sync-reverse"):
        writers.append("trigger")
    share = 0 if only_new else 100 - _read_share(board, release)
    return " + ".join(writers) or "none", f"{share}%" if share else "none"


def describe_new_users(board: DashboardState, release: Release) -> tuple[str, str]:
    """Current writers and readers of the new side."""
    if describe_new_state(release) != _EXISTS:
        return "none", "none"
    writers = []
    if _is_step_done(release, "rollout-v3"):
        writers.append("application")
    elif _is_step_done(release, "write-flag-on"):
        writers.append("V2 (flag on)")
    if _is_step_done(release, "sync-forward") and not _is_step_done(release, "rollout-v3"):
        writers.append("trigger")
    share = 100 if _is_step_done(release, "rollout-v3") else _read_share(board, release)
    return " + ".join(writers) or "none", f"{share}%" if share else "none"


def _read_share(board: DashboardState, release: Release) -> int:
    """Percent of reads from the new side: by the flag where it is known, else by the completed steps."""
    flag = next((each for each in board.flags.value or () if each.role == "read"), None)
    if flag is not None and flag.value is not None:
        return flag.value.percent
    return 100 if _is_step_done(release, "read-flag-on") else 0


def _is_step_done(release: Release, step: str) -> bool:
    return any(
        spec.name == step and status is StepStatus.DONE
        for spec, status in zip(release.strategy.steps, release.statuses, strict=True)
    )


def _versions(board: DashboardState, cells: int) -> Line:
    snapshot = board.workload.value
    if snapshot is None:
        return clip(((f"pods: {board.workload.error or 'unknown'}", TextStyle.WARN),), cells)
    counts = Counter(pod.version for pod in snapshot.pods if pod.state is not PodState.GONE and not pod.is_terminal)
    serving = Counter(pod.version for pod in snapshot.pods if pod.state is PodState.SERVING)
    text = ", ".join(f"{count} of version {key} ({serving[key]} serving)" for key, count in sorted(counts.items()))
    return clip((("pods  ", TextStyle.DIM), (sanitize(text) or "none", TextStyle.NORMAL)), cells)


def _table(release: Release, change: ChangeView | None) -> list[Line]:
    head = f"  {'AFTER':<12}{'OLD WRITTEN':<13}{'OLD READ':<10}{'NEW WRITTEN':<13}NEW READ"
    lines: list[Line] = [((head, TextStyle.DIM),)]
    trigger = change is not None and change.writes_by_trigger
    for number, phase in enumerate(release.strategy.phases):
        if phase.name not in _ROLES_BY_PHASE:
            continue
        old_written, old_read, new_written, new_read = _ROLES_BY_PHASE[Phase(phase.name)]
        if trigger and phase.name in (Phase.EXPAND, Phase.DUAL_WRITE, Phase.BACKFILL):
            new_written = "trigger"
        glyph, style = _phase_glyph(release, number)
        row = f"{phase.name:<12}{old_written:<13}{old_read:<10}{new_written:<13}{new_read}"
        lines.append(((f"{glyph} ", style), (row, TextStyle.STRONG if number == release.phase else TextStyle.NORMAL)))
    return lines


def _phase_glyph(release: Release, number: int) -> tuple[str, TextStyle]:
    statuses = [release.status(step.name) for step in release.strategy.phases[number].steps]
    if any(status in (StepStatus.UNDONE, StepStatus.UNDOING) for status in statuses):
        return "◁", TextStyle.WARN
    if statuses and all(status is StepStatus.DONE for status in statuses):
        return "✔", TextStyle.GOOD
    return ("▶", TextStyle.RUNNING) if number == release.phase else ("○", TextStyle.DIM)

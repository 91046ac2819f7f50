"""The picture of expand/contract: two sides of a schema, who writes and reads each, and how that moves by phase."""

from collections import Counter
from collections.abc import Sequence

from zdd_tui.dashboard.state import Board
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, fit, outside, wrap
from zdd_tui.dashboard.widgets.panes.backfill import done_percent
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import Release, StepStatus
from zdd_tui.model.release.strategy import Phase
from zdd_tui.model.workload.pod import PodState

_MIDDLE = 15
"""Cells between the two boxes, for the arrows."""

_COLUMNS = 4
"""Columns that a box names."""

# Old side written, old side read, new side written, new side read: when the phase is over.
_PHASES = {
    Phase.EXPAND: ("application", "all", "-", "-"),
    Phase.DUAL_WRITE: ("application", "all", "application", "-"),
    Phase.BACKFILL: ("application", "all", "application", "-"),
    Phase.CUTOVER: ("trigger", "-", "application", "all"),
    Phase.CONTRACT: ("kept aside", "-", "application", "all"),
    Phase.CLEANUP: ("gone", "-", "application", "all"),
}


def schema_lines(board: Board, record: ReleaseRecord, cells: int) -> list[Line]:
    """Boxes for both sides as they are now, then a table of what each phase makes of them."""
    release, change = record.release, board.plan.change
    lines: list[Line] = []
    if change is not None:
        lines += [*_boxes(board, record, change, cells), ()]
    lines += [_versions(board, cells), ()]
    lines += _table(release, change)
    if change is not None:
        lines += [(), (("each side is computed from the other", Tone.DIM),)]
        for name, expression in (*change.new_columns, *change.old_columns):
            lines += wrap(f"{name} = {' '.join(expression.split())}", cells)
    return lines


def _boxes(board: Board, record: ReleaseRecord, change: ChangeView, cells: int) -> list[Line]:
    room = (cells - _MIDDLE) // 2
    release = record.release
    old = _box("OLD SIDE", change.old_table, [name for name, _ in change.old_columns], old_state(release), room)
    new = _box("NEW SIDE", change.new_table, [name for name, _ in change.new_columns], new_state(release), room)
    uses = [old_uses(board, release), new_uses(board, release)]
    arrows = _arrows(record)
    height = max(len(old), len(new), 3 + len(arrows))
    lines: list[Line] = []
    for at in range(height):
        arrow = arrows[at - 2] if 2 <= at < 2 + len(arrows) else ("", Tone.NORMAL)
        left = old[at] if at < len(old) else ((" " * room, Tone.NORMAL),)
        right = new[at] if at < len(new) else ()
        lines.append((*left, (f"{arrow[0]:^{_MIDDLE}}", arrow[1]), *right))
    for word, told in zip(("written by", "read by"), zip(*uses, strict=True), strict=True):
        texts = [fit(f"{word} {each}", room) for each in told]
        lines.append(((texts[0], Tone.NORMAL), (" " * _MIDDLE, Tone.NORMAL), (texts[1], Tone.NORMAL)))
    return [clip(line, cells) for line in lines]


def _box(title: str, table: str, columns: list[str], state: str, room: int) -> list[Line]:
    shown = columns[:_COLUMNS]
    more = [f"… and {len(columns) - _COLUMNS} more"] if len(columns) > _COLUMNS else []
    there = state == "there"
    body: list[tuple[str, Tone]] = [(f"{title}  {outside(table)}", Tone.STRONG)]
    body += [(text, Tone.NORMAL if there else Tone.DIM) for text in (*shown, *more)]
    if not there:
        body.append((state, Tone.WARN if "aside" in state else Tone.DIM))
    return frame(body, room)


def frame(body: Sequence[tuple[str, Tone]], room: int) -> list[Line]:
    """Lines in a box of so many cells."""
    inside = max(4, room - 4)
    made: list[Line] = [((f"╭{'─' * (inside + 2)}╮", Tone.DIM),)]
    made += [(("│ ", Tone.DIM), (fit(text, inside), tone), (" │", Tone.DIM)) for text, tone in body]
    return [*made, ((f"╰{'─' * (inside + 2)}╯", Tone.DIM),)]


def _arrows(record: ReleaseRecord) -> list[tuple[str, Tone]]:
    """What moves data from one side to the other now."""
    release = record.release
    arrows: list[tuple[str, Tone]] = []
    if _did(release, "sync-forward") and not _did(release, "rollout-v3"):
        arrows.append(("── trigger ─▶", Tone.BUSY))
    state = record.backfill
    percent = done_percent(state)
    if state is not None and percent is not None and not _did(release, "set-aside"):
        done = state.status == "done"
        arrows.append(("backfill", Tone.DIM))
        arrows.append((f"━━ {percent}% ━━▶", Tone.GOOD if done else Tone.BUSY))
    if _did(release, "sync-reverse") and not _did(release, "set-aside"):
        arrows.append(("◀─ trigger ──", Tone.BUSY))
    return arrows


def old_state(release: Release) -> str:
    """``there``, or what became of it."""
    if _did(release, "drop-aside"):
        return "gone"
    return "set aside, data kept" if _did(release, "set-aside") else "there"


def new_state(release: Release) -> str:
    return "there" if _did(release, "expand-schema") else "not there yet"


def old_uses(board: Board, release: Release) -> tuple[str, str]:
    """Who writes and who reads the old side now."""
    if old_state(release) != "there":
        return "nobody", "nobody"
    only_new = _did(release, "rollout-v3")
    writers = [] if only_new else ["the application"]
    if _did(release, "sync-reverse"):
        writers.append("the trigger")
    share = 0 if only_new else 100 - _read_share(board, release)
    return " and ".join(writers) or "nobody", f"{share}% of reads" if share else "nobody"


def new_uses(board: Board, release: Release) -> tuple[str, str]:
    """Who writes and who reads the new side now."""
    if new_state(release) != "there":
        return "nobody", "nobody"
    writers = []
    if _did(release, "rollout-v3"):
        writers.append("the application")
    elif _did(release, "write-flag-on"):
        writers.append("V2, its flag is on")
    if _did(release, "sync-forward") and not _did(release, "rollout-v3"):
        writers.append("the trigger")
    share = 100 if _did(release, "rollout-v3") else _read_share(board, release)
    return " and ".join(writers) or "nobody", f"{share}% of reads" if share else "nobody"


def _read_share(board: Board, release: Release) -> int:
    """By the flag itself where it is known, else by the steps that are done."""
    flag = next((each for each in board.flags.value or () if each.role == "read"), None)
    if flag is not None and flag.value is not None:
        return flag.value.percent
    return 100 if _did(release, "read-flag-on") else 0


def _did(release: Release, step: str) -> bool:
    return any(
        spec.name == step and status is StepStatus.DONE
        for spec, status in zip(release.strategy.steps, release.statuses, strict=True)
    )


def _versions(board: Board, cells: int) -> Line:
    snapshot = board.pods.value
    if snapshot is None:
        return clip(((f"pods: {board.pods.error or 'not known'}", Tone.WARN),), cells)
    counts = Counter(pod.version for pod in snapshot.pods if pod.state is not PodState.GONE)
    serving = Counter(pod.version for pod in snapshot.pods if pod.state is PodState.SERVING)
    each = (f"{count} of version {version} ({serving[version]} serving)" for version, count in sorted(counts.items()))
    told = ", ".join(each)
    return clip((("pods  ", Tone.DIM), (outside(told) or "none", Tone.NORMAL)), cells)


def _table(release: Release, change: ChangeView | None) -> list[Line]:
    head = f"  {'AFTER':<12}{'OLD WRITTEN':<13}{'OLD READ':<10}{'NEW WRITTEN':<13}NEW READ"
    lines: list[Line] = [((head, Tone.DIM),)]
    trigger = change is not None and change.by_trigger
    for number, phase in enumerate(release.strategy.phases):
        if phase.name not in _PHASES:
            continue
        old_written, old_read, new_written, new_read = _PHASES[Phase(phase.name)]
        if trigger and phase.name in (Phase.EXPAND, Phase.DUAL_WRITE, Phase.BACKFILL):
            new_written = "trigger"
        glyph, tone = _sign(release, number)
        row = f"{phase.name:<12}{old_written:<13}{old_read:<10}{new_written:<13}{new_read}"
        lines.append(((f"{glyph} ", tone), (row, Tone.STRONG if number == release.phase else Tone.NORMAL)))
    return lines


def _sign(release: Release, number: int) -> tuple[str, Tone]:
    statuses = [release.status(step.name) for step in release.strategy.phases[number].steps]
    if any(status in (StepStatus.UNDONE, StepStatus.UNDOING) for status in statuses):
        return "◁", Tone.WARN
    if statuses and all(status is StepStatus.DONE for status in statuses):
        return "✔", Tone.GOOD
    return ("▶", Tone.BUSY) if number == release.phase else ("○", Tone.DIM)

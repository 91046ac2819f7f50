"""The backfill: how far, how fast, what holds it back, and what the verification found."""

import math

from zdd_tui.board import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.model.duration import human_duration
from zdd_tui.model.records import BackfillRecord
from zdd_tui.widgets.line import Line, Tone, human_count
from zdd_tui.widgets.pane import Pane

_STATES = {
    "prepared": ("○", Tone.DIM),
    "running": ("▶", Tone.BUSY),
    "paused": ("‖", Tone.WARN),
    "done": ("✔", Tone.GOOD),
    "cancelled": ("✗", Tone.BAD),
}


class BackfillPane(Pane):
    """Progress in four lines."""

    name_of_pane = "backfill"
    tells_error = False
    limit = RELEASE_STALE

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def body(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        record = board.release.value
        return backfill_lines(record.backfill if record else None, cells)


def done_percent(backfill: BackfillRecord | None) -> int | None:
    """Whole percent, and 100 only when it is over: the total is an estimate until then."""
    if backfill is None:
        return None
    if backfill.status == "done":
        return 100
    if backfill.rows_total <= 0:
        return 0
    return min(99, int(100 * backfill.rows_done / backfill.rows_total))


def backfill_lines(backfill: BackfillRecord | None, cells: int) -> list[Line]:
    percent = done_percent(backfill)
    if backfill is None or percent is None:
        return [(("○ not begun", Tone.DIM),)]
    glyph, tone = _STATES.get(backfill.status, ("?", Tone.WARN))
    room = max(4, cells - 5)
    full = room * percent // 100
    lines: list[Line] = [
        (("█" * full, tone), ("░" * (room - full), Tone.DIM), (f"{percent:>4}%", Tone.STRONG)),
        (
            (f"{glyph} {backfill.status} ", tone),
            (f" {human_count(backfill.rows_done)} / {_total(backfill)}", Tone.NORMAL),
        ),
    ]
    if backfill.failed_rows:
        lines.append(((f"✗ {backfill.failed_rows} rows failed (ledger)", Tone.BAD),))
    throttle = (backfill.throttle, Tone.WARN) if backfill.throttle else ("-", Tone.NORMAL)
    lines += [_pace(backfill), (("throttle: ", Tone.NORMAL), throttle), _verified(backfill)]
    return lines


def _total(backfill: BackfillRecord) -> str:
    return ("" if backfill.status == "done" else "~") + human_count(max(backfill.rows_total, backfill.rows_done))


def _pace(backfill: BackfillRecord) -> Line:
    """Rate, time left, size of the next batch."""
    batch = (f"batch {backfill.batch_rows}", Tone.NORMAL)
    if backfill.status == "done":
        return ((f"in {human_duration(backfill.seconds)} ", Tone.NORMAL), (f"{backfill.batches} batches", Tone.NORMAL))
    if backfill.status != "running":
        return (batch,)
    rate = (f"{human_count(backfill.rate)}/s ", Tone.NORMAL)
    left = backfill.rows_total - backfill.rows_done
    if backfill.rate <= 0 or left <= 0:
        return (rate, batch)
    seconds = math.ceil(left / backfill.rate)
    eta = f"{seconds}s" if seconds < 60 else human_duration(seconds)
    return (rate, (f"ETA {eta} ", Tone.STRONG), batch)


def _verified(backfill: BackfillRecord) -> Line:
    if backfill.mismatches:
        return ((f"✗ {backfill.mismatches} mismatches", Tone.BAD),)
    rows = human_count(backfill.verified_rows)
    if backfill.verified:
        return ((f"✔ verified {rows}, 0 wrong", Tone.GOOD),)
    return ((f"▶ verifying {rows}", Tone.BUSY),) if backfill.verified_rows else (("○ not verified yet", Tone.DIM),)

"""The backfill: how far, how fast, what holds it back, and what the verification found."""

from zdd_tui.board import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.model.duration import human_duration
from zdd_tui.model.records import BackfillRecord
from zdd_tui.widgets.line import Line, Tone, cut, human_count
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

    limit = RELEASE_STALE

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def heading(self, board: Board, moment: Moment) -> str:
        return "backfill"

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
            (f"{glyph} {backfill.status}", tone),
            (f"  {human_count(backfill.rows_done)} / {_total(backfill)}", Tone.NORMAL),
            (f"  {human_count(backfill.rate)}/s" if backfill.status == "running" else "", Tone.NORMAL),
            (_eta(backfill), Tone.STRONG),
        ),
        (
            (f"batch {backfill.batch_rows}", Tone.NORMAL),
            ("  throttle ", Tone.NORMAL),
            (backfill.throttle or "-", Tone.WARN if backfill.throttle else Tone.NORMAL),
        ),
        _failed(backfill),
        _verified(backfill),
    ]
    return lines


def _total(backfill: BackfillRecord) -> str:
    return ("" if backfill.status == "done" else "~") + human_count(max(backfill.rows_total, backfill.rows_done))


def _eta(backfill: BackfillRecord) -> str:
    if backfill.status == "done":
        return f"  in {human_duration(backfill.seconds)}"
    left = backfill.rows_total - backfill.rows_done
    if backfill.status != "running" or backfill.rate <= 0 or left <= 0:
        return ""
    seconds = left / backfill.rate
    return f"  ETA {int(seconds) if seconds < 60 else human_duration(seconds)}{'s' if seconds < 60 else ''}"


def _failed(backfill: BackfillRecord) -> Line:
    if backfill.failed_rows:
        return ((f"✗ {backfill.failed_rows} rows failed (in the ledger)", Tone.BAD),)
    return (("0 rows failed", Tone.NORMAL),)


def _verified(backfill: BackfillRecord) -> Line:
    if backfill.mismatches:
        return ((cut(f"✗ {backfill.mismatches} mismatches", 60), Tone.BAD),)
    if backfill.verified:
        return ((f"✔ verified {human_count(backfill.verified_rows)} rows, 0 mismatches", Tone.GOOD),)
    if backfill.verified_rows:
        return ((f"▶ verifying: {human_count(backfill.verified_rows)} rows, 0 mismatches", Tone.BUSY),)
    return (("○ not verified yet", Tone.DIM),)

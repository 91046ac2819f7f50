"""The backfill: how far, how fast, what holds it back, and what the verification found."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, Tone, cut, human_count, join, spread, width, wrap
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowChosen
from zdd_tui.model.duration import human_duration
from zdd_tui.model.release.records import BackfillRecord, BatchRecord
from zdd_tui.model.tuning import told

# --- How fast the backfill has been, and what that says about its end: a range, because the pace is no constant.


REMEMBERED = 120
"""Readings of the rate that are kept, one a second."""

_FEW = 5
"""With fewer readings than this the batches themselves tell more."""

_SLOW, _FAST = 0.2, 0.8
"""Shares of the readings that were slower: the range leaves out the worst and the best fifth."""

_ALIKE = 1.15
"""Ends of a range that differ by less are one figure."""


class Pace:
    """The rate of one backfill over time, as this dashboard has seen it."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def see(self, backfill: BackfillRecord | None) -> None:
        """Takes a reading; one a second is kept, and none while it does not run."""
        if backfill is None or backfill.status != "running":
            return
        second = int(backfill.updated_at)
        if self._seconds and second < self._seconds[-1][0]:
            self._seconds.clear()  # another backfill
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds.pop()
        self._seconds.append((second, backfill.rate))

    def rates(self, backfill: BackfillRecord) -> tuple[float, ...]:
        """Rows a second, oldest first."""
        seen = tuple(rate for _, rate in self._seconds)
        return seen if len(seen) >= _FEW else batch_rates(backfill.recent) or seen


def batch_rates(batches: Sequence[BatchRecord]) -> tuple[float, ...]:
    """Rows a second from batch to batch, the waits between them included."""
    return tuple(after.rows / (after.at - before.at) for before, after in pairwise(batches) if after.at > before.at)


def eta_range(left: float, rate: float, rates: Sequence[float]) -> tuple[float, float] | None:
    """The least and the most seconds that so many rows may take; None where nothing moves.

    Args:
        rate: of now.
        rates: of the time before; without any, the range is one figure.
    """
    if left <= 0 or rate <= 0:
        return None
    known = sorted(rates)
    slow = fast = rate
    if len(known) >= _FEW:
        slow = min(rate, known[int(_SLOW * (len(known) - 1))])
        fast = max(rate, known[math.ceil(_FAST * (len(known) - 1))])
    return left / fast, left / slow if slow > 0 else math.inf


def eta_text(found: tuple[float, float] | None) -> str:
    """``11-19s``, ``50s-2m``, ``~3m``, ``>5m``; ``?`` where nothing moves."""
    if found is None:
        return "?"
    least, most = found
    if math.isinf(most):
        return f">{_rough(least)}"
    if most <= least * _ALIKE or _rough(least) == _rough(most):
        return f"~{_rough(most)}"
    first, last = _rough(least), _rough(most)
    if first[-1] == last[-1] and first[:-1].isdigit() and last[:-1].isdigit():
        return f"{first[:-1]}-{last}"
    return f"{first}-{last}"


def _rough(seconds: float) -> str:
    """As exact as an estimate can be."""
    if seconds < 100:
        return f"{math.ceil(seconds)}s"
    if seconds < 100 * 60:
        return f"{math.ceil(seconds / 60)}m"
    return human_duration(seconds)


# --- end


_STATES = {
    "prepared": ("○", Tone.DIM),
    "running": ("▶", Tone.BUSY),
    "paused": ("‖", Tone.WARN),
    "done": ("✔", Tone.GOOD),
    "cancelled": ("✗", Tone.BAD),
}

_STRIP = 12
"""Cells of the rate's history at most, beside the rate."""


class BackfillPane(Pane):
    """Progress in five lines, and more where there is room."""

    name_of_pane = "backfill"
    tells_error = False
    limit = RELEASE_STALE

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._pace = Pace()

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def watched(self, board: Board) -> tuple[object, ...]:
        record, error = board.release.value, board.release.error
        return error, (record.backfill, record.tuning, record.plan_limits) if record else None, self.maximised

    def body(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        record = board.release.value
        backfill = record.backfill if record else None
        self._pace.see(backfill)
        rates = self._pace.rates(backfill) if backfill else ()
        workers = record.limits.workers if record is not None and record.limits is not None else 1
        tuned = tuple(told(record.plan_limits, record.tuning)) if record is not None and record.plan_limits else ()
        strip = rates if self.histories else ()
        lines = backfill_lines(backfill, cells, strip, eta_from=rates, workers=workers, tuned=tuned)
        return lines if backfill is None else [*lines, *_further(backfill, tuned, strip, cells)]

    def action_filter(self) -> None:
        """Its rows are on its screen: there they are searched."""
        self.post_message(RowChosen(self.name_of_pane, "", search=True))


def done_percent(backfill: BackfillRecord | None) -> int | None:
    """Whole percent, and 100 only when it is over: the total is an estimate until then."""
    if backfill is None:
        return None
    if backfill.status == "done":
        return 100
    if backfill.rows_total <= 0:
        return 0
    return min(99, int(100 * backfill.rows_done / backfill.rows_total))


def backfill_lines(
    backfill: BackfillRecord | None,
    cells: int,
    rates: Sequence[float] = (),
    *,
    eta_from: Sequence[float] = (),
    workers: int = 1,
    tuned: Sequence[str] = (),
) -> list[Line]:
    """Bar, rows, pace, throttle, verification.

    Args:
        rates: rows a second over time, oldest first, for a strip; empty for none.
        eta_from: the same, for the range of the time left.
        workers: batches at a time.
        tuned: limits that were changed while it ran; told first where nothing throttles, because they may be why it
            is slow.
    """
    percent = done_percent(backfill)
    if backfill is None or percent is None:
        return [(("○ not begun", Tone.DIM),)]
    glyph, tone = _STATES.get(backfill.status, ("?", Tone.WARN))
    room = max(4, cells - 5)
    full = room * percent // 100
    rows: Line = (
        (f"{glyph} {backfill.status} ", tone),
        (f" {human_count(backfill.rows_done)} / {_total(backfill)}", Tone.NORMAL),
    )
    lines: list[Line] = [
        (("█" * full, tone), ("░" * (room - full), Tone.DIM), (f"{percent:>4}%", Tone.STRONG)),
    ]
    failed = (f"✗ {backfill.failed_rows} rows failed (ledger)", Tone.BAD)
    if backfill.failed_rows and width((*rows, (" ", tone), failed)) <= cells:
        lines.append(spread(rows, (failed,), cells))
    else:
        lines += [rows, (failed,)] if backfill.failed_rows else [rows]
    batch = f"batch {backfill.batch_rows}" + (f"×{workers}" if workers > 1 else "")
    lines += [
        _pace(backfill, cells, rates, eta_from, (batch, Tone.NORMAL)),
        _held_back(backfill, tuned, cells),
        _verified(backfill),
    ]
    return lines


def _tells_tuned(backfill: BackfillRecord, tuned: Sequence[str]) -> bool:
    """What is tuned stands where the throttle would: not once it is over, when it holds nothing back."""
    return bool(tuned) and not backfill.throttle and backfill.status not in ("done", "cancelled")


def _held_back(backfill: BackfillRecord, tuned: Sequence[str], cells: int) -> Line:
    """The throttle in force; where there is none, what an operator has changed."""
    if backfill.throttle:
        return (("throttle: ", Tone.NORMAL), (cut(backfill.throttle, cells - 10), Tone.WARN))
    nothing: Line = (("throttle: -", Tone.NORMAL),)
    if not _tells_tuned(backfill, tuned):
        return nothing
    changed: Line = ((cut(f"tuned: {tuned[0]}", cells), Tone.WARN),)
    both = join((nothing, changed), ("  ", Tone.NORMAL))
    return both if width(both) <= cells else changed


def _further(backfill: BackfillRecord, tuned: Sequence[str], rates: Sequence[float], cells: int) -> list[Line]:
    """What is in sight only where there is room: changed limits, batches, the rate over time."""
    told_above = _tells_tuned(backfill, tuned) and len(f"tuned: {tuned[0]}") <= cells
    lines: list[Line] = [line for text in tuned[told_above:] for line in wrap(f"tuned: {text}", cells, Tone.WARN)]
    last = f", the last {human_duration(backfill.recent[-1].seconds)}" if backfill.recent else ""
    lines.append(
        ((cut(f"{backfill.batches} batches in {human_duration(backfill.seconds)}{last}", cells), Tone.NORMAL),)
    )
    if rates:
        strip = sparkline(rates, None, cells - 12)
        lines.append((("rate ", Tone.DIM), *strip, (f" {human_count(max(rates))}/s", Tone.DIM)))
    lines.append(((cut("Enter: ranges, batches, SQL and failed rows", cells), Tone.DIM),))
    return lines


def _total(backfill: BackfillRecord) -> str:
    return ("" if backfill.status == "done" else "~") + human_count(max(backfill.rows_total, backfill.rows_done))


def _pace(backfill: BackfillRecord, cells: int, rates: Sequence[float], eta_from: Sequence[float], batch: Span) -> Line:
    """Rate, where it has been, time left, size of the next batch."""
    if backfill.status == "done":
        return ((f"in {human_duration(backfill.seconds)} ", Tone.NORMAL), (f"{backfill.batches} batches", Tone.NORMAL))
    if backfill.status != "running":
        return (batch,)
    rate = (f"{human_count(backfill.rate)}/s ", Tone.NORMAL)
    left = backfill.rows_total - backfill.rows_done
    if left <= 0:
        return (rate, batch)
    eta = (f"ETA {eta_text(eta_range(left, backfill.rate, eta_from))} ", Tone.STRONG)
    room = min(_STRIP, cells - width((rate, eta, batch)) - 1)
    strip: Line = (*sparkline(rates, None, room), (" ", Tone.NORMAL)) if rates and room >= 4 else ()
    return (rate, *strip, eta, batch)


def _verified(backfill: BackfillRecord) -> Line:
    if backfill.mismatches:
        return ((f"✗ {backfill.mismatches} mismatches", Tone.BAD),)
    rows = human_count(backfill.verified_rows)
    if backfill.verified:
        return ((f"✔ verified {rows}, 0 wrong", Tone.GOOD),)
    return ((f"▶ verifying {rows}", Tone.BUSY),) if backfill.verified_rows else (("○ not verified yet", Tone.DIM),)

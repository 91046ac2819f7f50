"""The backfill: how far, how fast, what holds it back, and what the verification found."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Span,
    TextStyle,
    format_count,
    join,
    justify,
    line_width,
    truncate,
    wrap,
)
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowSelected
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.records import BackfillRecord, BatchRecord
from zdd_tui.model.tuning import describe_tuning

# --- How fast the backfill has been, and what that says about its end: a range, because the pace is no constant.


MAX_SAMPLES = 120
"""Readings of the rate that are kept, one a second."""

_MIN_SAMPLES = 5
"""With fewer readings than this the batches themselves tell more."""

_SLOW_QUANTILE, _FAST_QUANTILE = 0.2, 0.8
"""Shares of the readings that were slower: the range leaves out the worst and the best fifth."""

_SAME_RATIO = 1.15
"""Ends of a range that differ by less are one figure."""


class EtaEstimator:
    """The rate of one backfill over time, as this dashboard has seen it."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, float]] = deque(maxlen=MAX_SAMPLES)

    def add_reading(self, backfill: BackfillRecord | None) -> None:
        """Takes a reading; one a second is kept, and none while it does not run."""
        if backfill is None or backfill.status != "running":
            return
        second = int(backfill.updated_at)
        if self._samples and second < self._samples[-1][0]:
            self._samples.clear()  # another backfill
        if self._samples and self._samples[-1][0] == second:
            self._samples.pop()
        self._samples.append((second, backfill.rate))

    def rates(self, backfill: BackfillRecord) -> tuple[float, ...]:
        """Rows a second, oldest first."""
        seen = tuple(rate for _, rate in self._samples)
        return seen if len(seen) >= _MIN_SAMPLES else batch_rates(backfill.recent) or seen


def batch_rates(batches: Sequence[BatchRecord]) -> tuple[float, ...]:
    """Rows a second from batch to batch, the waits between them included."""
    return tuple(after.rows / (after.at - before.at) for before, after in pairwise(batches) if after.at > before.at)


def estimate_eta(left: float, rate: float, rates: Sequence[float]) -> tuple[float, float] | None:
    """The least and the most seconds that so many rows may take; None where nothing moves.

    Args:
        rate: of now.
        rates: of the time before; without any, the range is one figure.
    """
    if left <= 0 or rate <= 0:
        return None
    known = sorted(rates)
    slow = fast = rate
    if len(known) >= _MIN_SAMPLES:
        slow = min(rate, known[int(_SLOW_QUANTILE * (len(known) - 1))])
        fast = max(rate, known[math.ceil(_FAST_QUANTILE * (len(known) - 1))])
    return left / fast, left / slow if slow > 0 else math.inf


def format_eta(eta: tuple[float, float] | None) -> str:
    """``11-19s``, ``50s-2m``, ``~3m``, ``>5m``; ``?`` where nothing moves."""
    if eta is None:
        return "?"
    least, most = eta
    if math.isinf(most):
        return f">{_round_estimate(least)}"
    if most <= least * _SAME_RATIO or _round_estimate(least) == _round_estimate(most):
        return f"~{_round_estimate(most)}"
    first, last = _round_estimate(least), _round_estimate(most)
    if first[-1] == last[-1] and first[:-1].isdigit() and last[:-1].isdigit():
        return f"{first[:-1]}-{last}"
    return f"{first}-{last}"


def _round_estimate(seconds: float) -> str:
    """As exact as an estimate can be."""
    if seconds < 100:
        return f"{math.ceil(seconds)}s"
    if seconds < 100 * 60:
        return f"{math.ceil(seconds / 60)}m"
    return format_duration(seconds)


# --- end


_STATES = {
    "prepared": ("○", TextStyle.DIM),
    "running": ("▶", TextStyle.RUNNING),
    "paused": ("‖", TextStyle.WARN),
    "done": ("✔", TextStyle.GOOD),
    "cancelled": ("✗", TextStyle.BAD),
}

_SPARKLINE_WIDTH = 12
"""Cells of the rate's history at most, beside the rate."""


class BackfillPane(Pane):
    """Progress in five lines, and more where there is room."""

    pane_name = "backfill"
    shows_error = False
    stale_after = RELEASE_STALE_SECONDS

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._eta_estimator = EtaEstimator()

    def source(self, board: DashboardState) -> Observed[object]:
        return board.release

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record, error = board.release.value, board.release.error
        return error, (record.backfill, record.tuning, record.plan_limits) if record else None, self.is_maximised

    def body(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        record = board.release.value
        backfill = record.backfill if record else None
        self._eta_estimator.add_reading(backfill)
        rates = self._eta_estimator.rates(backfill) if backfill else ()
        workers = record.limits.workers if record is not None and record.limits is not None else 1
        tuned = (
            tuple(describe_tuning(record.plan_limits, record.tuning))
            if record is not None and record.plan_limits
            else ()
        )
        strip = rates if self.shows_history else ()
        lines = backfill_lines(backfill, cells, strip, eta_from=rates, workers=workers, tuned=tuned)
        return lines if backfill is None else [*lines, *_extra_lines(backfill, tuned, strip, cells)]

    def action_filter(self) -> None:
        """Its rows are on its screen: there they are searched."""
        self.post_message(RowSelected(self.pane_name, "", search=True))


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
        return [(("○ not begun", TextStyle.DIM),)]
    glyph, style = _STATES.get(backfill.status, ("?", TextStyle.WARN))
    room = max(4, cells - 5)
    full = room * percent // 100
    rows: Line = (
        (f"{glyph} {backfill.status} ", style),
        (f" {format_count(backfill.rows_done)} / {_rows_text(backfill)}", TextStyle.NORMAL),
    )
    lines: list[Line] = [
        (("█" * full, style), ("░" * (room - full), TextStyle.DIM), (f"{percent:>4}%", TextStyle.STRONG)),
    ]
    failed = (f"✗ {backfill.failed_rows} rows failed (ledger)", TextStyle.BAD)
    if backfill.failed_rows and line_width((*rows, (" ", style), failed)) <= cells:
        lines.append(justify(rows, (failed,), cells))
    else:
        lines += [rows, (failed,)] if backfill.failed_rows else [rows]
    batch = f"batch {backfill.batch_rows}" + (f"×{workers}" if workers > 1 else "")
    lines += [
        _rate_line(backfill, cells, rates, eta_from, (batch, TextStyle.NORMAL)),
        _throttle_line(backfill, tuned, cells),
        _verification_line(backfill),
    ]
    return lines


def _shows_tuning(backfill: BackfillRecord, tuned: Sequence[str]) -> bool:
    """What is tuned stands where the throttle would: not once it is over, when it holds nothing back."""
    return bool(tuned) and not backfill.throttle and backfill.status not in ("done", "cancelled")


def _throttle_line(backfill: BackfillRecord, tuned: Sequence[str], cells: int) -> Line:
    """The throttle in force; where there is none, what an operator has changed."""
    if backfill.throttle:
        return (("throttle: ", TextStyle.NORMAL), (truncate(backfill.throttle, cells - 10), TextStyle.WARN))
    nothing: Line = (("throttle: -", TextStyle.NORMAL),)
    if not _shows_tuning(backfill, tuned):
        return nothing
    changed: Line = ((truncate(f"tuned: {tuned[0]}", cells), TextStyle.WARN),)
    both = join((nothing, changed), ("  ", TextStyle.NORMAL))
    return both if line_width(both) <= cells else changed


def _extra_lines(backfill: BackfillRecord, tuned: Sequence[str], rates: Sequence[float], cells: int) -> list[Line]:
    """What is in sight only where there is room: changed limits, batches, the rate over time."""
    shown_above = _shows_tuning(backfill, tuned) and len(f"tuned: {tuned[0]}") <= cells
    lines: list[Line] = [line for text in tuned[shown_above:] for line in wrap(f"tuned: {text}", cells, TextStyle.WARN)]
    last = f", the last {format_duration(backfill.recent[-1].seconds)}" if backfill.recent else ""
    lines.append(
        (
            (
                truncate(f"{backfill.batches} batches in {format_duration(backfill.seconds)}{last}", cells),
                TextStyle.NORMAL,
            ),
        )
    )
    if rates:
        strip = sparkline(rates, None, cells - 12)
        lines.append((("rate ", TextStyle.DIM), *strip, (f" {format_count(max(rates))}/s", TextStyle.DIM)))
    lines.append(((truncate("Enter: ranges, batches, SQL and failed rows", cells), TextStyle.DIM),))
    return lines


def _rows_text(backfill: BackfillRecord) -> str:
    return ("" if backfill.status == "done" else "~") + format_count(max(backfill.rows_total, backfill.rows_done))


def _rate_line(
    backfill: BackfillRecord, cells: int, rates: Sequence[float], eta_from: Sequence[float], batch: Span
) -> Line:
    """Rate, where it has been, time left, size of the next batch."""
    if backfill.status == "done":
        return (
            (f"in {format_duration(backfill.seconds)} ", TextStyle.NORMAL),
            (f"{backfill.batches} batches", TextStyle.NORMAL),
        )
    if backfill.status != "running":
        return (batch,)
    rate = (f"{format_count(backfill.rate)}/s ", TextStyle.NORMAL)
    left = backfill.rows_total - backfill.rows_done
    if left <= 0:
        return (rate, batch)
    eta = (f"ETA {format_eta(estimate_eta(left, backfill.rate, eta_from))} ", TextStyle.STRONG)
    room = min(_SPARKLINE_WIDTH, cells - line_width((rate, eta, batch)) - 1)
    strip: Line = (*sparkline(rates, None, room), (" ", TextStyle.NORMAL)) if rates and room >= 4 else ()
    return (rate, *strip, eta, batch)


def _verification_line(backfill: BackfillRecord) -> Line:
    if backfill.mismatches:
        return ((f"✗ {backfill.mismatches} mismatches", TextStyle.BAD),)
    rows = format_count(backfill.verified_rows)
    if backfill.verified:
        return ((f"✔ verified {rows}, 0 wrong", TextStyle.GOOD),)
    return (
        ((f"▶ verifying {rows}", TextStyle.RUNNING),)
        if backfill.verified_rows
        else (("○ not verified yet", TextStyle.DIM),)
    )

"""The backfill: progress, rate, time left, throttle and verification."""

from collections.abc import Sequence

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
from zdd_tui.model.backfill import EtaEstimator, estimate_eta, format_eta
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.records import BackfillRecord
from zdd_tui.model.release.witness import MAX_SHOWN_WRITERS, WitnessRecord
from zdd_tui.model.tuning import describe_tuning

_STATES = {
    "prepared": ("○", TextStyle.DIM),
    "running": ("▶", TextStyle.RUNNING),
    "paused": ("‖", TextStyle.WARN),
    "done": ("✔", TextStyle.GOOD),
    "cancelled": ("✗", TextStyle.BAD),
}

_SPARKLINE_WIDTH = 12
"""Maximum width in cells of the rate's history, beside the rate."""


class BackfillPane(Pane):
    """Five lines, and more where there is room."""

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
        seen = (record.backfill, record.witness, record.tuning, record.plan_limits) if record else None
        return error, seen, self.is_maximised

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
        if record is not None:
            lines = [*writer_lines(record.witness, cells), *lines]
        return lines if backfill is None else [*lines, *_extra_lines(backfill, tuned, strip, cells)]

    def action_filter(self) -> None:
        """Opens the search of its screen: the pane has no rows to filter."""
        self.post_message(RowSelected(self.pane_name, "", search=True))


def writer_lines(found: WitnessRecord, cells: int) -> list[Line]:
    """Who wrote only one side, one line each; the first lines of the pane, because somebody must act on them."""
    glyph, style = ("✗", TextStyle.BAD) if found.open_rows else ("!", TextStyle.WARN)
    shown = found.writers[:MAX_SHOWN_WRITERS]
    lines: list[Line] = [((truncate(f"{glyph} one side only: {writer}", cells), style),) for writer in shown]
    if more := len(found.writers) - len(shown):
        lines.append(((truncate(f"  and {more} more writers", cells), style),))
    return lines


def done_percent(backfill: BackfillRecord | None) -> int | None:
    """Whole percent; 100 only when it is done, because the total is an estimate until then."""
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
    """Bar, rows, rate, throttle, verification.

    Args:
        rates: rows per second over time, the oldest first, for a sparkline; empty for none.
        eta_from: the same, for the time left.
        workers: number of concurrent batches.
        tuned: limits changed while it runs; shown instead of the throttle where there is none.
    """
    percent = done_percent(backfill)
    if backfill is None or percent is None:
        return [(("○ not started", TextStyle.DIM),)]
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
    failed = (f"✗ {backfill.failed_rows} rows failed", TextStyle.BAD)
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
    """Changed limits are shown in the throttle's line while they have an effect."""
    return bool(tuned) and not backfill.throttle and backfill.status not in ("done", "cancelled")


def _throttle_line(backfill: BackfillRecord, tuned: Sequence[str], cells: int) -> Line:
    """The current throttle; where there is none, the limits that an operator has changed."""
    if backfill.throttle:
        return (("throttle: ", TextStyle.NORMAL), (truncate(backfill.throttle, cells - 10), TextStyle.WARN))
    nothing: Line = (("throttle: -", TextStyle.NORMAL),)
    if not _shows_tuning(backfill, tuned):
        return nothing
    changed: Line = ((truncate(f"tuned: {tuned[0]}", cells), TextStyle.WARN),)
    both = join((nothing, changed), ("  ", TextStyle.NORMAL))
    return both if line_width(both) <= cells else changed


def _extra_lines(backfill: BackfillRecord, tuned: Sequence[str], rates: Sequence[float], cells: int) -> list[Line]:
    """Shown where there is room: changed limits, batches, the rate over time."""
    is_shown_above = _shows_tuning(backfill, tuned) and len(f"tuned: {tuned[0]}") <= cells
    lines: list[Line] = [
        line for text in tuned[is_shown_above:] for line in wrap(f"tuned: {text}", cells, TextStyle.WARN)
    ]
    last = f", last {format_duration(backfill.recent[-1].seconds)}" if backfill.recent else ""
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
    """Rate, its history, time left, size of the next batch."""
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
        return ((f"✔ verified {rows}, 0 mismatches", TextStyle.GOOD),)
    return (
        ((f"▶ verifying {rows}", TextStyle.RUNNING),)
        if backfill.verified_rows
        else (("○ not verified yet", TextStyle.DIM),)
    )

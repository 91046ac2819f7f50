"""The backfill: progress, rate, time left, throttle and verification; and the rows that it could not copy."""

import math
from collections.abc import Sequence

from zdd_tui.dashboard.state import Clock, DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.glyphs import PROGRESS_STYLES, progress_glyph
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Span,
    TextStyle,
    dim,
    format_count,
    join,
    justify,
    line_width,
    sanitize,
    truncate,
    wrap,
)
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.pane import Pane, RowSelected, unread_source_lines
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.backfill import EtaEstimator, estimate_eta, format_eta, max_rate
from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.claims import (
    MOVING,
    PROGRESS_GLYPHS,
    Progress,
    ProgressState,
    assess_backfill,
    format_silence,
    is_current,
    verification_doubt,
)
from zdd_tui.model.release.condition import ConditionStatus
from zdd_tui.model.release.fills import FillProgress, late_seconds, limits_now, list_fills
from zdd_tui.model.release.records import BackfillRecord, FailedRow
from zdd_tui.model.release.witness import MAX_SHOWN_WRITERS, WitnessRecord
from zdd_tui.model.tuning import describe_tuning, format_own_limits

_STATES = {
    "prepared": ("○", TextStyle.DIM),
    "running": ("▶", TextStyle.RUNNING),
    "paused": ("‖", TextStyle.WARN),
    "done": ("✔", TextStyle.GOOD),
    "cancelled": ("◁", TextStyle.DIM),
}

_RATES_FROM = 40
"""Width in cells from which the rates have a line of their own: a narrower one only repeats the one beside the rate."""

_MIN_FILL_LABEL = 12
"""Width in cells below which a fill's label does not say which table it is: its rows are left out then."""

_SPARKLINE_WIDTH = 12
"""Maximum width in cells of the rate's history, beside the rate."""


class BackfillPane(Pane):
    """Five lines, and more where there is room."""

    pane_name = "backfill"
    title_action = "backfill-detail"

    def __init__(self) -> None:
        super().__init__()
        self._eta_estimator = EtaEstimator()

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record, error = board.release.value, board.release.error
        if record is None:
            return error, None, self.is_maximised
        seen = (record.backfill, record.witness, record.release, record.plan_limits, record.lease)
        return error, seen, list_fills(record), self.is_maximised

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        record = board.release.value
        if record is None:
            return unread_source_lines(board, board.release, cells)
        backfill = record.backfill
        limits = limits_now(record)
        self._eta_estimator.add_reading(backfill, limits)
        rates = self._eta_estimator.rates(backfill) if backfill else ()
        workers = limits.workers if limits is not None else 1
        tuned = tuple(describe_tuning(record.plan_limits, record.tuning)) if record.plan_limits else ()
        strip = rates if self.shows_history else ()
        lines = backfill_lines(
            backfill,
            cells,
            strip,
            eta_from=rates,
            workers=workers,
            tuned=tuned,
            progress=backfill_progress(board, context),
            ceiling=max_rate(limits),
            fills=list_fills(record),
            idle=idle_seconds(board, context),
            late=late_batch_seconds(board, context),
            doubt=verification_doubt(record.release),
        )
        writers = writer_lines(record.witness, cells)
        # Rows that differ now, or may be lost, come first, because somebody must act; writers of the past come last.
        is_urgent = record.witness.open_rows or record.witness.replaced_rows
        lines = [*writers, *lines] if is_urgent else [*lines, *writers]
        lines += _extra_lines(backfill, tuned, strip, cells) if backfill is not None else []
        return [dim(line) for line in lines] if self.is_uncertain(board, context) else lines

    def action_filter(self) -> None:
        """Opens the search of its screen: the pane has no rows to filter."""
        self.post_message(RowSelected(self.pane_name, "", search=True))


def backfill_progress(board: DashboardState, context: RenderContext) -> Progress:
    """Whether rows are written now."""
    record = board.release.value
    if record is None or record.backfill is None:
        return Progress(ProgressState.NOT_STARTED)
    return assess_backfill(record.release, board.activity(context.now), record.backfill)


def idle_seconds(board: DashboardState, context: RenderContext) -> float:
    """Seconds since the backfill has written something; 0 where it is not known."""
    record, now = board.release.value, board.server_now(context.now)
    return record.backfill.idle_seconds(now) if record and record.backfill and now is not None else 0.0


def late_batch_seconds(board: DashboardState, context: RenderContext) -> float | None:
    """Seconds since the last batch where the next one is late; else None."""
    record, now = board.release.value, board.server_now(context.now)
    if record is None or record.backfill is None or now is None:
        return None
    return late_seconds(record.backfill, limits_now(record), now)


def writer_lines(found: WitnessRecord, cells: int) -> list[Line]:
    """Which writes may have been overwritten, and who wrote only one side, one line each."""
    replaced = [f"✗ may have been overwritten: {write}" for write in found.replaced]
    if more := found.replaced_rows - len(replaced):
        replaced.append(f"  and {count_noun(more, 'more write')}")
    lines: list[Line] = [((truncate(text, cells), TextStyle.BAD),) for text in replaced]
    glyph, style = ("✗", TextStyle.BAD) if found.open_rows else ("!", TextStyle.WARN)
    shown = found.writers[:MAX_SHOWN_WRITERS]
    lines += [((truncate(f"{glyph} wrote one side: {writer}", cells), style),) for writer in shown]
    if more := len(found.writers) - len(shown):
        lines.append(((truncate(f"  and {more} more {'writer' if more == 1 else 'writers'}", cells), style),))
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
    progress: Progress = MOVING,
    ceiling: float = math.inf,
    fills: Sequence[FillProgress] = (),
    idle: float = 0.0,
    late: float | None = None,
    doubt: ConditionStatus | None = None,
) -> list[Line]:
    """Bar, rows, rate, throttle; then the verification, or a line for each table that operations fill.

    Args:
        rates: rows per second over time, the oldest first, for a sparkline; empty for none.
        eta_from: the same, for the time left.
        workers: number of concurrent batches.
        tuned: limits changed while it runs; shown instead of the throttle where there is none.
        progress: whether rows are written now; without that there is no rate and no time left.
        ceiling: rows per second that the limits allow, for the time left.
        fills: one after the other; ``backfill`` is their sum.
        idle: seconds since something was written last.
        late: the same where the next batch is late: then there is neither a rate nor a time left; else None.
        doubt: why a verification does not count now, see
            :func:`zdd_tui.model.release.claims.verification_doubt`.
    """
    percent = done_percent(backfill)
    if backfill is None or percent is None:
        return [(("○ not started", TextStyle.DIM),), *(fill_line(fill, cells, progress) for fill in fills)]
    glyph, style = _STATES.get(backfill.status, ("?", TextStyle.WARN))
    word = backfill.status
    if not progress.moves and word == "running":
        glyph, style = progress_glyph(progress)
        word = "was running" if progress.state is ProgressState.UNKNOWN else progress.state.value
    elif late is not None and word == "running":
        glyph, style, word = PROGRESS_GLYPHS[ProgressState.WAITING], TextStyle.WARN, "waiting"
    room = max(4, cells - 5)
    full = room * percent // 100
    rows: Line = (
        (f"{glyph} {word} ", style),
        (f" {format_count(backfill.rows_done)} / {_rows_text(backfill)}", TextStyle.NORMAL),
    )
    lines: list[Line] = [
        (("█" * full, style), ("░" * (room - full), TextStyle.DIM), (f"{percent:>4}%", TextStyle.STRONG)),
    ]
    failed = (f"✗ {count_noun(backfill.failed_rows, 'row')} failed", TextStyle.BAD)
    if backfill.failed_rows and line_width((*rows, (" ", style), failed)) <= cells:
        lines.append(justify(rows, (failed,), cells))
    else:
        lines += [rows, (failed,)] if backfill.failed_rows else [rows]
    # Fills have no verification: the end of each one is that no row is left.
    last = [fill_line(fill, cells, progress) for fill in fills] or [_verification_line(backfill, progress, idle, doubt)]
    if backfill.status == "cancelled":
        return [*lines, *last]
    if backfill.status == "done":
        return [*lines, *_end_lines(backfill, cells), *last]
    batch = f"batch {backfill.batch_rows}" + (f"×{workers}" if workers > 1 else "")
    if progress.state in (ProgressState.MOVING, ProgressState.PAUSED, ProgressState.NOT_STARTED):
        time_left = _format_time_left(backfill, eta_from, ceiling) if progress.moves else ""
        lines.append(_rate_line(backfill, cells, rates, time_left, (batch, TextStyle.NORMAL), late))
        return [*lines, _throttle_line(backfill, tuned, cells), *last]
    reason = (truncate(progress.reason, cells), PROGRESS_STYLES[progress.state])
    return [*lines, *([(reason,)] if progress.reason else []), (("throttle: ?", TextStyle.DIM),), *last]


def fill_line(fill: FillProgress, cells: int, overall: Progress) -> Line:
    """``▶ fill users.token  speed 50%   45% 1.2k/~3k``: the step, who has paused its table or the table's own limits
    where there is room, and how far it is."""
    progress = fill.progress
    glyph, style = _STATES.get(progress.status, ("?", TextStyle.WARN)) if progress else ("○", TextStyle.DIM)
    if fill.pause is not None and (progress is None or progress.status in ("prepared", "paused")):
        glyph, style = _STATES["paused"]
    elif progress is not None and progress.status in ("running", "paused") and not overall.moves:
        glyph, style = progress_glyph(overall)
    if progress is None or progress.status == "prepared":
        amount = f"~{format_count(progress.rows_total)} rows" if progress else f"in {fill.phase}"
    else:
        amount = f"{done_percent(progress)}% {format_count(progress.rows_done)}/{_rows_text(progress)}"
    if fill.pause is not None:
        amount = "paused" if progress is None else f"paused {amount}"
    elif fill.waits_for:
        amount = f"waits for {sanitize(fill.waits_for)}"
    failed = f" ✗ {progress.failed_rows} failed" if progress and progress.failed_rows else ""
    if cells - len(amount) - len(failed) - 1 < _MIN_FILL_LABEL and progress is not None:
        if fill.pause is not None:
            amount = f"paused {done_percent(progress)}%"
        elif failed:
            amount = f"{done_percent(progress)}%"
    label = truncate(f"{glyph} {sanitize(fill.label)}", max(4, cells - len(amount) - len(failed) - 1))
    bold = TextStyle.STRONG if fill.is_current else TextStyle.NORMAL
    has_ended = progress is not None and progress.status in ("done", "cancelled")
    own = f"  {format_own_limits(fill.own_limits)}" if fill.own_limits and not has_ended else ""
    own = f"  by {sanitize(fill.pause.by)}" if fill.pause is not None and not has_ended else own
    left: Line = ((label[:1], style), (label[1:], bold), (own, TextStyle.DIM))
    right: Line = ((amount, TextStyle.NORMAL), (failed, TextStyle.BAD))
    return justify(left if line_width((*left, *right)) < cells else left[:2], right, cells)


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
    lines = [] if backfill.status == "cancelled" else lines
    lines.append(_batches_line(backfill, cells))
    if rates and cells > _RATES_FROM:
        strip = sparkline(rates, None, cells - len("rates  max ") - 6)
        highest = f" max {format_count(max(rates))}/s"
        lines.append((("rates ", TextStyle.DIM), *strip, (highest, TextStyle.DIM)))
    lines.append(((truncate("Enter: ranges, batches, SQL and failed rows", cells), TextStyle.DIM),))
    return lines


def _batches_line(backfill: BackfillRecord, cells: int) -> Line:
    last = f", last {format_duration(backfill.recent[-1].seconds)}" if backfill.recent else ""
    batches = count_noun(backfill.batches, "batch", "batches")
    return ((truncate(f"{batches}, {format_duration(backfill.seconds)} of writing{last}", cells), TextStyle.NORMAL),)


def _end_lines(backfill: BackfillRecord, cells: int) -> list[Line]:
    """Once every row is copied: how long it took, and waited for what, where that is known."""
    duration = backfill.describe_duration()
    return [((truncate(duration, cells), TextStyle.NORMAL),)] if duration else []


def _rows_text(backfill: BackfillRecord) -> str:
    return ("" if backfill.status == "done" else "~") + format_count(max(backfill.rows_total, backfill.rows_done))


def _format_time_left(backfill: BackfillRecord, rates: Sequence[float], ceiling: float) -> str:
    return format_eta(estimate_eta(backfill.rows_total - backfill.rows_done, backfill.rate, rates, ceiling))


def _rate_line(
    backfill: BackfillRecord, cells: int, rates: Sequence[float], time_left: str, batch: Span, late: float | None
) -> Line:
    """Rate, its history, time left, size of the next batch; without batches, since when.

    Args:
        time_left: empty where no batches are committed.
    """
    if backfill.status != "running" or not time_left:
        return (batch,)
    if late is not None:
        return (("0/s ", TextStyle.NORMAL), (f"no batch for {format_silence(late)} ", TextStyle.WARN), batch)
    rate = (f"{format_count(backfill.rate)}/s ", TextStyle.NORMAL)
    left = backfill.rows_total - backfill.rows_done
    if left <= 0:
        return (rate, batch)
    eta = (f"ETA {time_left} ", TextStyle.STRONG)
    room = min(_SPARKLINE_WIDTH, cells - line_width((rate, eta, batch)) - 1)
    strip: Line = (*sparkline(rates, None, room), (" ", TextStyle.NORMAL)) if rates and room >= 4 else ()
    return (rate, *strip, eta, batch)


def _verification_line(
    backfill: BackfillRecord, progress: Progress, idle: float, doubt: ConditionStatus | None
) -> Line:
    if backfill.status == "cancelled":
        return (("○ not verified: the copy is undone", TextStyle.DIM),)
    if backfill.mismatches:
        return ((f"✗ {count_noun(backfill.mismatches, 'mismatch', 'mismatches')}", TextStyle.BAD),)
    rows = format_count(backfill.verified_rows)
    if backfill.verified and doubt is not None:
        unknown = doubt is ConditionStatus.UNKNOWN
        return ((f"? verified {rows}, not known now" if unknown else "○ to be verified again", TextStyle.WARN),)
    if backfill.verified:
        return ((f"✔ verified {rows}, 0 mismatches", TextStyle.GOOD),)
    if backfill.verified_rows and not progress.moves:
        glyph, style = progress_glyph(progress)
        return ((f"{glyph} verified {rows} so far", style),)
    if backfill.verified_rows and not is_current(idle):
        return ((f"? verified {rows} so far, nothing for {format_silence(idle)}", TextStyle.WARN),)
    if backfill.verified_rows:
        return ((f"▶ verifying {rows}", TextStyle.RUNNING),)
    return (("○ not verified yet", TextStyle.DIM),)


# --- failed rows ---------------------------------------------------------------------------------------------------


class FailedRowsPane(TablePane[FailedRow, Clock]):
    """One row per failed row. They are not part of the dashboard's state: :meth:`set_failed_rows` provides them."""

    pane_name = "failed rows"
    shows_error = True
    titles_from_height = 2

    def __init__(self) -> None:
        super().__init__()
        self._failed_rows: Observed[Sequence[FailedRow]] = Observed()

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        count = len(self._failed_rows.value or ())
        return f"{count_noun(count, 'row')} failed"

    def set_failed_rows(self, failed_rows: Observed[Sequence[FailedRow]]) -> None:
        self._failed_rows = failed_rows
        self.redraw()

    def source(self, board: DashboardState) -> Observed[object]:
        return self._failed_rows

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[FailedRow]:
        return self._failed_rows.value or ()

    def columns(
        self, board: DashboardState, rows: Sequence[FailedRow], cells: int
    ) -> Sequence[PaneColumn[FailedRow, Clock]]:
        return failed_rows_columns(rows)

    def cell_context(self, board: DashboardState, context: RenderContext) -> Clock:
        return context.clock

    def identity(self, row: FailedRow) -> str:
        return key_text(row)

    def empty_line(self, board: DashboardState) -> Line:
        return (("✔ no failed rows", TextStyle.GOOD),)


def key_text(row: FailedRow) -> str:
    """The key, after the step where operations fill several tables."""
    return f"{row.job}: {', '.join(row.key)}" if row.job else ", ".join(row.key)


def failed_rows_columns(rows: Sequence[FailedRow]) -> list[PaneColumn[FailedRow, Clock]]:
    """The columns for these rows. The cell context is a clock."""
    longest = min(36, max((len(sanitize(key_text(row))) for row in rows), default=3))
    return [
        PaneColumn("key", "KEY", lambda row, _: key_text(row), min(8, longest), longest, find=key_text),
        PaneColumn("reason", "REASON", lambda row, _: row.reason, 16, 10_000, style=lambda _row, _: TextStyle.BAD,
               weight=3, find=lambda row: row.reason),
        PaneColumn("time", "AT", lambda row, clock: clock.time_of_day(row.at), 8, drop_order=1,
               style=dim_style, sort=lambda row: row.at),
    ]  # fmt: skip

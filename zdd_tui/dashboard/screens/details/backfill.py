"""The backfill in full: ranges, batches, SQL, its query plan, and failed rows."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.glyphs import progress_glyph
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    dim,
    format_age,
    format_count,
    justify,
    sanitize,
    wrap,
)
from zdd_tui.dashboard.widgets.drawing.line_chart import ChartLines, draw_line_chart
from zdd_tui.dashboard.widgets.panes.backfill import (
    FailedRowsPane,
    backfill_lines,
    backfill_progress,
    idle_seconds,
    late_batch_seconds,
)
from zdd_tui.model.backfill import RateHistory, max_rate
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.registry import strategy_title
from zdd_tui.model.queries import BackfillDetail, BackfillQuery, RangeView
from zdd_tui.model.release.claims import FRESH_SECONDS, MOVING, Progress, is_current, verification_doubt
from zdd_tui.model.release.fills import limits_now, list_fills
from zdd_tui.model.release.records import BackfillRecord

SHOWN_BATCHES = 5

CHART_ROWS = 8
"""Height of the chart in lines."""

FAILED_ROWS_HEIGHT = 6
"""Failed rows that are visible at once."""


class BackfillScreen(DetailScreen):
    """Counters from the state, everything else by query.

    Args:
        rates: the rate over time, which somebody else collects; None for no chart.
        search: open with the search field.
    """

    DEFAULT_CSS = """
    BackfillScreen FailedRowsPane { border: round $error; }
    """

    refresh_interval: ClassVar[float] = 5.0

    def __init__(
        self,
        source: StateSource,
        get_context: ContextSource,
        rates: RateHistory | None = None,
        *,
        search: bool = False,
    ) -> None:
        super().__init__(source, get_context)
        self._rates = rates
        self._query = self.add_query(BackfillQuery(), "the backfill")
        self._search = search

    def on_mount(self) -> None:
        if self._search:
            self.call_next(self.action_search)  # after the page got the focus

    def heading(self, board: DashboardState) -> str:
        return "backfill"

    def redraw(self) -> None:
        """Draws the page, and the failed rows below it."""
        super().redraw()
        failed = self._query.value.failed if self._query.value is not None else ()
        failed_rows = next(iter(self.query(FailedRowsPane)), None)
        if failed_rows is None:
            if not failed:
                return
            failed_rows = FailedRowsPane()
            failed_rows.stale_after = self._query.stale_after
            self.mount(failed_rows, after="#detail")
        failed_rows.display = bool(failed)
        failed_rows.styles.height = min(len(failed), FAILED_ROWS_HEIGHT) + 3
        result = self._query.result
        failed_rows.set_failed_rows(Observed(failed, result.observed_at, result.error, result.hint))
        failed_rows.show(self._source.state(), self._get_context())

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        if not board.has_backfill:
            return wrap(f"a {strategy_title(board.plan.strategy)} release has no backfill", formatter.cells)
        record = board.release.value
        state = record.backfill if record else None
        progress, now = backfill_progress(board, context), board.server_now(context.now)
        ceiling = max_rate(limits_now(record) if record else None)
        fills = list_fills(record) if record else ()
        idle = idle_seconds(board, context)
        lines = [
            *backfill_lines(
                state,
                formatter.cells,
                progress=progress,
                ceiling=ceiling,
                fills=fills,
                idle=idle,
                late=late_batch_seconds(board, context),
                doubt=verification_doubt(record.release) if record else None,
            ),
            *_batch_lines(state, context, formatter),
            (),
        ]
        if self._rates is not None and self._rates.samples and now is not None:
            lines += [*rate_chart_lines(self._rates, now, formatter.cells), ()]
        lines += self.query_error_lines(self._query, formatter)
        if self._query.value is None:
            return lines
        return lines + backfill_detail_lines(self._query.value, formatter, progress)


def rate_chart_lines(rates: RateHistory, now: float, cells: int) -> list[Line]:
    """The rate over time; grey once the next value is late, because nothing is written any more.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    age = now - rates.samples[-1][0]
    title: Line = (("rate since this dashboard was opened; a gap is a time without batches", TextStyle.DIM),)
    chart = draw_line_chart(
        ChartLines(rates.samples, max_gap=rates.max_gap), now, cells, CHART_ROWS, lambda rate: f"{format_count(rate)}/s"
    )
    chart = chart if is_current(age, limit=max(FRESH_SECONDS, rates.max_gap)) else [dim(line) for line in chart]
    return [justify(clip(title, cells - 20), ((f"last value {format_age(age)} ago", TextStyle.DIM),), cells), *chart]


def _batch_lines(state: BackfillRecord | None, context: RenderContext, formatter: TextFormatter) -> list[Line]:
    """Average time and size of a batch without pauses, and the last batches, the newest first."""
    if state is None or not state.batches:
        return []
    each = state.seconds / state.batches
    rows = state.rows_done / state.batches
    writing = format_duration(state.seconds)
    text = f"{state.batches:,} batches, {writing} of writing: {1000 * each:.0f} ms and {rows:,.0f} rows each"
    lines: list[Line] = [formatter.clip(((text, TextStyle.NORMAL),))]
    for batch in reversed(state.recent[-SHOWN_BATCHES:]):
        when = (f"  {context.clock.time_of_day(batch.at)} ", TextStyle.DIM)
        lines.append((when, (f"{batch.rows:>7,} rows {1000 * batch.seconds:>6.0f} ms", TextStyle.NORMAL)))
    return lines


def backfill_detail_lines(detail: BackfillDetail, formatter: TextFormatter, progress: Progress = MOVING) -> list[Line]:
    """Ranges, limits, mismatches, SQL and its query plan."""
    lines: list[Line] = [(("ranges", TextStyle.DIM),)]
    lines += [line for each in detail.ranges for line in _range_lines(each, formatter, progress)]
    lines += [] if detail.ranges else [(("none yet", TextStyle.DIM),)]
    if detail.limits:
        limits = ", ".join(f"{name} {value}" for name, value in sorted(detail.limits.items()))
        lines += [(), (("limits changed at run time", TextStyle.DIM),), *formatter(limits)]
    if detail.mismatches:
        lines += [(), (("mismatched rows (key: reason)", TextStyle.BAD),)]
        for row in detail.mismatches:
            columns = f" [{', '.join(row.columns)}]" if row.columns else ""
            lines += formatter(f"{', '.join(row.key)}: {row.reason}{columns}")
    lines += [(), (("statement of a batch", TextStyle.DIM),)]
    lines += formatter(detail.statement)
    if detail.statement and (detail.query_plan or detail.explain_error):
        lines += [(), (("EXPLAIN (not executed)", TextStyle.DIM),)]
    lines += formatter(f"? {detail.explain_error}", TextStyle.WARN) if detail.explain_error else []
    return lines + [line for text in detail.query_plan for line in formatter(text, _plan_line_style(text))]


def _range_lines(range_view: RangeView, formatter: TextFormatter, progress: Progress) -> list[Line]:
    glyph, style = progress_glyph(progress) if range_view.cursor else ("○", TextStyle.DIM)
    if range_view.done:
        glyph, style = "✔", TextStyle.GOOD
    place = f"({_key_text(range_view.lo, 'start')} … {_key_text(range_view.hi, 'end')}]"
    at = "" if range_view.done else f" at {_key_text(range_view.cursor, 'its start')}"
    return formatter.beside(
        ((f"{glyph} ", style),),
        f"{range_view.job or range_view.kind} {range_view.id} {sanitize(place)}{at}, {range_view.rows:,} rows",
    )


def _key_text(key: tuple[str, ...] | None, none: str) -> str:
    return none if key is None else ", ".join(key)


def _plan_line_style(line: str) -> TextStyle:
    return TextStyle.BAD if "Seq Scan" in line else TextStyle.NORMAL

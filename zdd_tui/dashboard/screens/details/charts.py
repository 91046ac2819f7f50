"""The charts of all rules of the guard, over the whole screen."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age
from zdd_tui.dashboard.widgets.drawing.line_chart import LIMIT_GLYPH, NEW_GLYPH, NEW_STYLE, OLD_GLYPH, OLD_STYLE
from zdd_tui.dashboard.widgets.panes.charts import (
    CHART_INTERVAL,
    ChartDrawings,
    chart_end,
    charts_stale_limit,
    end_label,
    ended_text,
    final_at_end,
    first_known_at,
    last_point_observed,
    rule_interval,
)
from zdd_tui.dashboard.widgets.panes.guard import guard_readings
from zdd_tui.model.guard.history import last_known_at
from zdd_tui.model.queries import MetricHistoryQuery

MIN_CHART_ROWS = 8
"""Lines of one chart; where all charts have less, the page scrolls."""


class ChartScreen(DetailScreen):
    """One chart for each rule, in the order of the plan."""

    refresh_interval: ClassVar[float] = CHART_INTERVAL

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._query = self.add_query(MetricHistoryQuery(), "the history of the guard")
        self._drawings = ChartDrawings()

    def heading(self, board: DashboardState) -> str:
        ended = ended_text(board, self._get_context().now)
        return f"charts, {ended}" if ended else "charts"

    def age_source(self, board: DashboardState) -> tuple[Observed[object], float]:
        now = self._get_context().now
        observed = last_point_observed(self._query.result, board.server_now(now), now)
        return final_at_end(board, observed), charts_stale_limit(board, board.plan.rule_names, now)

    def page_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return board.plan, board.release, self._query.result

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        if not board.plan.rule_names:
            return formatter("the plan has no guard: there is nothing to draw")
        now, end = board.server_now(context.now), chart_end(board, context.now)
        if now is None or end is None or self._query.value is None:
            return self.query_error_lines(self._query, formatter)
        lines = self.query_error_lines(self._query, formatter)
        lines.append(
            formatter.clip(
                (
                    (f"{NEW_GLYPH}{NEW_GLYPH} new version  ", NEW_STYLE),
                    (f"{OLD_GLYPH} old version  ", OLD_STYLE),
                    (f"{LIMIT_GLYPH}{LIMIT_GLYPH} limit of the rule", TextStyle.WARN),
                )
            )
        )
        readings = {reading.rule: reading for reading in guard_readings(board, now)}
        names = [name for name in board.plan.rule_names if name in readings]
        height = self.query_one(PageView).content_size.height
        rows = max(MIN_CHART_ROWS, (height - len(lines)) // max(1, len(names)) - 1)
        since = first_known_at(self._query.value.points.get(name, ()) for name in names)
        for name in names:
            reading, points = readings[name], self._query.value.points.get(name, ())
            head, *chart = self._drawings.lines(
                reading, points, rule_interval(board, name), end, formatter.cells, rows, end_label(board), since
            )
            glyph, style = VERDICT_GLYPHS[reading.verdict]
            at = last_known_at(points)
            age = "no value yet" if at is None else f"last value {format_age(now - at)} ago"
            word = (
                f"last: {glyph} {reading.verdict}" if ended_text(board, context.now) else f"{glyph} {reading.verdict}"
            )
            lines += [formatter.heading(((f"{word}  ", style), *head), age), *chart, ()]
        return lines[:-1]

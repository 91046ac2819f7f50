"""Charts of the guard's error rate and latency: the new version against the old one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, dim, format_age, line_width, sanitize, wrap
from zdd_tui.dashboard.widgets.drawing.line_chart import (
    LIMIT_GLYPH,
    NEW_GLYPH,
    NEW_STYLE,
    OLD_GLYPH,
    OLD_STYLE,
    ChartLines,
    draw_line_chart,
)
from zdd_tui.dashboard.widgets.panes.guard import rule_ages
from zdd_tui.dashboard.widgets.panes.pane import Pane
from zdd_tui.model.guard.history import HISTORY_SPACING, last_known_at
from zdd_tui.model.guard.rules import format_value
from zdd_tui.model.plan.guard import MetricUnit
from zdd_tui.model.queries import MetricHistory, MetricPoint
from zdd_tui.model.release.claims import FRESH_SECONDS
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading

CHART_INTERVAL = 5.0
"""Seconds between two readings of the history, and between two drawings of a chart."""

_MAX_GAP_INTERVALS = 2.5
"""Evaluations further apart than so many intervals are not connected: one may be late, not missing."""

_SIDE_BY_SIDE_CELLS = 20
"""Width from which a chart may share the lines of the pane with another one."""

_GAP_CELLS = 2


class ChartPane(Pane):
    """Error rate and latency side by side. The screen provides the history: it is not part of the state."""

    pane_name = "charts"
    title_action = "charts"

    def __init__(self) -> None:
        super().__init__()
        self._history: Observed[MetricHistory] = Observed()
        self._drawn: tuple[tuple[object, ...], list[Line]] = ((), [])

    def set_history(self, history: Observed[MetricHistory]) -> None:
        self._history = history
        self.redraw()

    def source(self, board: DashboardState) -> Observed[object]:
        return final_at_end(board, self._history)

    def stale_limit(self, board: DashboardState, context: RenderContext) -> float:
        record = board.release.value
        shown = pick_readings(board.plan.rule_names, record.guard) if record is not None else ()
        return charts_stale_limit(board, [reading.rule for reading in shown], context.now)

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        legend = f"{NEW_GLYPH}{NEW_GLYPH} new version  {OLD_GLYPH} old"
        ended = ended_text(board, context.now)
        return f"{ended}  {legend}" if ended else legend

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        now, record = chart_end(board, context.now), board.release.value
        if now is None or record is None:
            return []
        if self._history.value is None:
            error = self._history.error
            return wrap(f"✗ {error}", cells, TextStyle.BAD) if error else [(("… reading", TextStyle.DIM),)]
        rows = self.content_size.height
        shown = pick_readings(board.plan.rule_names, record.guard)
        unknown = [reading.rule for reading in shown if reading.verdict is Verdict.UNKNOWN]
        is_old = self.is_uncertain(board, context)
        drawn_for = (int(now / CHART_INTERVAL), id(self._history.value), cells, rows, len(shown), *unknown, is_old,
                     end_label(board))  # fmt: skip
        if self._drawn[0] != drawn_for:
            lines = self._draw_charts(board, shown, now, cells)
            self._drawn = drawn_for, [dim(line) for line in lines] if is_old else lines
        return self._drawn[1]

    def _draw_charts(
        self, board: DashboardState, readings: Sequence[GuardReading], now: float, cells: int
    ) -> list[Line]:
        history, rows = self._history.value or MetricHistory(), self.content_size.height
        count = max(1, min(len(readings), (cells + _GAP_CELLS) // (_SIDE_BY_SIDE_CELLS + _GAP_CELLS)))
        width = (cells - _GAP_CELLS * (count - 1)) // count
        since = first_known_at(history.points.get(reading.rule, ()) for reading in readings[:count])
        charts = [
            _mark_unknown(reading, rule_chart_lines(
                reading, history.points.get(reading.rule, ()), rule_interval(board, reading.rule), now, width, rows,
                end_label(board), since,
            ), width)
            for reading in readings[:count]
        ]  # fmt: skip
        if not charts:
            return [(("no value yet", TextStyle.DIM),)]
        return [
            _side_by_side([chart[at] if at < len(chart) else () for chart in charts], width)
            for at in range(max(map(len, charts)))
        ]


def chart_end(board: DashboardState, now: float) -> float | None:
    """Where the time axis ends, in seconds since the epoch by the database's clock: now, or the end of a release that
    has ended. None before the first reading.

    Args:
        now: monotonic seconds.
    """
    record, server_now = board.release.value, board.server_now(now)
    has_ended = record is not None and record.release.state.has_ended
    return record.finished_at if has_ended and record.finished_at is not None else server_now  # type: ignore[union-attr]


def charts_stale_limit(board: DashboardState, rules: Iterable[str], now: float) -> float:
    """Seconds after which the charts of these rules are stale.

    A value is late once the guard's interval and that of the reading are over. Where it is known that none follows, a
    chart is as any other source: the database or the agent is silent, or an evaluation is overdue.

    Args:
        now: monotonic seconds.
    """
    record, ages, rules = board.release.value, rule_ages(board, now), tuple(rules)
    readings = [reading for reading in record.guard if reading.rule in rules] if record is not None else []
    if not board.activity(now).is_active or any(ages.is_old(reading) for reading in readings):
        return FRESH_SECONDS
    longest = max((rule_interval(board, rule) for rule in rules), default=HISTORY_SPACING)
    return longest + CHART_INTERVAL + FRESH_SECONDS


def end_label(board: DashboardState) -> str:
    """What the end of the time axis is."""
    record = board.release.value
    return "end" if record is not None and record.release.state.has_ended else "now"


def ended_text(board: DashboardState, now: float) -> str:
    """``ended 3m ago``; empty while the release has not ended."""
    record, server_now = board.release.value, board.server_now(now)
    if record is None or server_now is None or not record.release.state.has_ended:
        return ""
    return (
        "ended" if record.finished_at is None else f"ended {format_age(max(0.0, server_now - record.finished_at))} ago"
    )


def final_at_end(board: DashboardState, history: Observed[MetricHistory]) -> Observed[MetricHistory]:
    """The history; that of a release that has ended is final, and as old as the reading that says so."""
    record = board.release.value
    if record is None or not record.release.state.has_ended or history.value is None:
        return history
    return replace(history, observed_at=board.release.observed_at)


def pick_readings(rule_names: Sequence[str], readings: Sequence[GuardReading]) -> list[GuardReading]:
    """The rules that are drawn on the main screen: the first error rate and the first latency of the plan."""
    known = {reading.rule: reading for reading in readings}
    ordered = [known[name] for name in rule_names if name in known]
    first = [
        next((each for each in ordered if each.unit is unit), None) for unit in (MetricUnit.RATIO, MetricUnit.SECONDS)
    ]
    return [each for each in first if each is not None] or ordered[:2]


def rule_interval(board: DashboardState, rule: str) -> float:
    """Seconds between two points of a rule."""
    view = next((each for each in board.plan.guard_rules if each.name == rule), None)
    return max(HISTORY_SPACING, view.interval if view is not None else 0.0)


def first_known_at(histories: Iterable[Sequence[MetricPoint]]) -> float:
    """The time of the first value of several rules; infinite without one."""
    firsts = (next((each.at for each in points if each.new is not None or each.old is not None), math.inf)
              for points in histories)  # fmt: skip
    return min(firsts, default=math.inf)


def rule_chart_lines(
    reading: GuardReading,
    points: Sequence[MetricPoint],
    interval: float,
    now: float,
    cells: int,
    rows: int,
    end_label: str = "now",
    since: float = math.inf,
) -> list[Line]:
    """Name and last values of a rule, and its chart below.

    Args:
        now: end of the time axis, in seconds since the epoch by the database's clock.
        rows: height, the first line included.
        end_label: what that end is.
        since: the first value of the charts beside it, which have the same time axis.
    """

    def show(value: float) -> str:
        return format_value(value, reading.unit)

    head: Line = ((sanitize(reading.rule), TextStyle.STRONG),)
    last = points[-1] if points else MetricPoint(now, None, None)
    for glyph, style, value in ((NEW_GLYPH, NEW_STYLE, last.new), (OLD_GLYPH, OLD_STYLE, last.old)):
        part: Line = (("  ", TextStyle.NORMAL), (f"{glyph} {'-' if value is None else show(value)}", style))
        head = (*head, *part)
    if reading.limit is not None:
        part = ((f"  {LIMIT_GLYPH} {show(reading.limit)}", TextStyle.WARN),)
        head = (*head, *part) if line_width((*head, *part)) <= cells else head
    if line_width(head) > cells:
        head = tuple((text.replace("  ", " "), style) for text, style in head)
    at = last_known_at(points)
    if points and at is None:
        return [clip(head, cells), *wrap("no values by version", cells, TextStyle.DIM)]
    lines = ChartLines(
        [(point.at, point.new) for point in points],
        [(point.at, point.old) for point in points],
        reading.limit,
        _MAX_GAP_INTERVALS * interval,
    )
    return [clip(head, cells), *draw_line_chart(lines, now, cells, rows - 1, show, end_label, since)]


class ChartDrawings:
    """The charts of rules as drawn last. One is drawn again for a new reading of its points, or where there is none
    for two :data:`CHART_INTERVAL`, not for each state of the release: a drawing costs more than its bytes.
    """

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[tuple[object, ...], Sequence[MetricPoint], float, list[Line]]] = {}

    def lines(
        self,
        reading: GuardReading,
        points: Sequence[MetricPoint],
        interval: float,
        now: float,
        cells: int,
        rows: int,
        end_label: str,
        since: float,
    ) -> list[Line]:
        """As :func:`rule_chart_lines`."""
        drawn_for = reading.limit, reading.unit, interval, cells, rows, end_label, since
        known = self._drawn.get(reading.rule)
        is_new = known is None or known[0] != drawn_for or known[1] is not points
        if known is None or is_new or not 0 <= now - known[2] < 2 * CHART_INTERVAL:
            lines = rule_chart_lines(reading, points, interval, now, cells, rows, end_label, since)
            known = self._drawn[reading.rule] = drawn_for, points, now, lines
        return known[3]


def _mark_unknown(reading: GuardReading, lines: list[Line], cells: int) -> list[Line]:
    """The guard has no data of this rule now: what is drawn was so."""
    if reading.verdict is not Verdict.UNKNOWN:
        return lines
    head, *chart = lines
    return [clip((("? ", TextStyle.WARN), *dim(head)), cells), *map(dim, chart)]


def _side_by_side(lines: Sequence[Line], width: int) -> Line:
    joined: Line = ()
    for at, line in enumerate(lines):
        joined = (*joined, *line)
        missing = (width + _GAP_CELLS) * (at + 1) - line_width(joined)
        if at + 1 < len(lines):
            joined = (*joined, (" " * missing, TextStyle.NORMAL))
    return joined


def last_point_observed(
    result: Observed[MetricHistory], server_now: float | None, now: float
) -> Observed[MetricHistory]:
    """The history with the age of its last point, not that of its reading: the agent may be gone. A point without a
    value is one too: nothing was measured then.

    Args:
        server_now: the database's clock in seconds since the epoch; None before the first reading of the release.
        now: monotonic seconds.
    """
    if result.value is None or server_now is None:
        return result
    times = [points[-1].at for points in result.value.points.values() if points]
    observed_at = now - max(0.0, server_now - max(times)) if times else None
    return Observed(result.value, observed_at, result.error, result.hint)

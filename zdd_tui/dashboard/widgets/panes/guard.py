"""The guard: verdict, value, limit, headroom and trend of each rule."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS, VERDICT_ORDER
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Span,
    TextStyle,
    format_age,
    format_data_age,
    sanitize,
    truncate,
)
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.counting import count_noun
from zdd_tui.model.guard.rules import format_value
from zdd_tui.model.release.claims import FRESH_SECONDS, SourceStatus, count_verdicts, overdue_after, rests_on_old_data
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.system import System

_WIDE_FROM = 60
"""Width in cells from which every verdict is written out; narrower, only those that decide nothing are."""

_VERDICT_TITLE = "VERDICT"

_VERDICT_CELLS = max(len(f"✔ {verdict}") for verdict in Verdict)

_VALUE_CELLS = 6
"""Width of a value: ``0.12%``, ``118ms``, ``82.5ms``."""


@dataclass(frozen=True, slots=True)
class RuleAges:
    """How old the data of the rules are.

    Attributes:
        now: seconds since the epoch by the database's clock; None for a release that has ended: its readings are final.
        intervals: by rule, the seconds between two evaluations.
        lost_rules: the rules whose source does not answer any more.
    """

    now: float | None
    intervals: Mapping[str, float]
    lost_rules: Collection[str] = ()

    def text(self, reading: GuardReading) -> str:
        """Empty where it was not evaluated."""
        if self.now is None or not reading.observed_at:
            return ""
        age = reading.age(self.now)
        return format_age(age) if self.is_old(reading) else format_data_age(age)

    def is_old(self, reading: GuardReading) -> bool:
        """A rule that is evaluated rarely is current until the next evaluation is overdue, or its source is lost."""
        is_lost = reading.rule in self.lost_rules
        limit = FRESH_SECONDS if is_lost else overdue_after(self.intervals.get(reading.rule, 0.0))
        return self.now is not None and rests_on_old_data(reading, self.now, limit)


class GuardPane(TablePane[GuardReading, RuleAges]):
    """Two lines per rule, or one where the screen is low; the most urgent first."""

    pane_name = "guard"
    fixed_columns = frozenset({"verdict", "rule"})
    title_action = "charts"
    is_final_at_end = True
    is_compact = False
    _lines_per_row = 2

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record, error = board.release.value, board.release.error
        state = (record.guard, record.release.state) if record else ()
        return board.plan.rule_names, error, state, self.is_compact, self.is_maximised

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        record, now = board.release.value, board.server_now(context.now)
        if record is None or now is None:
            return ""
        if record.release.state.has_ended:
            applicable = [reading for reading in guard_readings(board, now) if reading.is_applicable]
            return f"ended; last: {guard_heading(applicable)}" if applicable else "ended"
        activity = board.activity(context.now)
        if not activity.is_active:
            return f"off: {activity.description}"
        return guard_heading(guard_readings(board, now), self.cell_context(board, context))

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[GuardReading]:
        now = board.server_now(context.now)
        return () if now is None else guard_readings(board, now)

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        return super().is_uncertain(board, context) or not board.activity(context.now).is_active

    def columns(
        self, board: DashboardState, rows: Sequence[GuardReading], cells: int
    ) -> Sequence[PaneColumn[GuardReading, RuleAges]]:
        high = self.content_size.height
        self._lines_per_row = 1 if high < 2 * len(rows) or (self.is_compact and not self.is_maximised) else 2
        return guard_columns(
            rows, cells, with_sparklines=self.shows_history, with_titles=self.has_room_for_titles(len(rows), high)
        )

    def has_room_for_titles(self, rows: int, lines: int) -> bool:
        """Only where they hide no rule."""
        return lines > rows * self._lines_per_row

    def position_text(self) -> str:
        """Also how many rules are not visible: each of them may be the one that fails."""
        position, hidden = super().position_text(), len(self._store.shown) - self._store.visible_rows
        return f"{hidden} hidden, {position}" if hidden > 0 else position

    def cell_context(self, board: DashboardState, context: RenderContext) -> RuleAges:
        return rule_ages(board, context.now)

    def is_row_old(self, row: GuardReading, cell_context: RuleAges) -> bool:
        return cell_context.is_old(row)

    def identity(self, row: GuardReading) -> str:
        return row.rule

    def labels(self, row: GuardReading) -> Mapping[str, str]:
        return {"action": str(row.action), "verdict": str(row.verdict)}

    def empty_line(self, board: DashboardState) -> Line:
        return (("the plan has no rules", TextStyle.DIM),)

    def second_line(self, row: GuardReading, cell_context: RuleAges, cells: int) -> Line:
        age = f"{cell_context.text(row)} ago" if cell_context.is_old(row) else ""
        return second_line(row, {column.key for column, _ in self._fitted}, cells, age)

    @property
    def lines_per_row(self) -> int:
        return self._lines_per_row


def rule_ages(board: DashboardState, now: float) -> RuleAges:
    """How old the data of the rules are.

    Args:
        now: monotonic seconds.
    """
    record = board.release.value
    has_ended = record is not None and record.release.state.has_ended
    is_lost = any(each.name is System.PROMETHEUS and each.status is SourceStatus.LOST for each in board.health(now))
    return RuleAges(
        None if has_ended else board.server_now(now),
        {view.name: view.interval for view in board.plan.guard_rules},
        board.plan.queried_rules if is_lost else (),
    )


def guard_readings(board: DashboardState, now: float) -> tuple[GuardReading, ...]:
    """The reading of each rule of the plan as of now, the worst first; of a release that has ended, the last reading.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    record = board.release.value
    if record is None:
        return ()
    known = {reading.rule: reading for reading in count_verdicts(record, now, board.release.error).guard}
    names = dict.fromkeys((*board.plan.rule_names, *known))
    readings = [
        known.get(name) or GuardReading(name, Verdict.UNKNOWN, "not checked yet", max_age=now) for name in names
    ]
    if ended := describe_guard_end(record.release.state):
        readings = [each if each.is_applicable else replace(each, reason=ended) for each in readings]
    else:
        readings = [reading.as_of(now) for reading in readings]
    return tuple(sorted(readings, key=lambda reading: VERDICT_ORDER[reading.verdict]))


def describe_guard_end(state: ReleaseState) -> str:
    """That the guard has ended, and why; empty while it evaluates."""
    return f"the guard has ended: the release is {state.text}" if state.has_ended else ""


def guard_heading(readings: Sequence[GuardReading], ages: RuleAges | None = None) -> str:
    """``all 2 pass``, or how many rules have another verdict; ``all 2 passed 6s ago`` where their data are old."""
    counts = {verdict: sum(reading.verdict is verdict for reading in readings) for verdict in VERDICT_ORDER}
    old = [reading for reading in readings if ages is not None and ages.is_old(reading)]
    if counts[Verdict.PASS] == len(readings) and old and ages is not None:
        many = f"all {len(readings)} " if len(readings) > 1 else ""
        return f"{many}passed {ages.text(min(old, key=lambda reading: reading.observed_at))} ago"
    if counts[Verdict.PASS] == len(readings):
        return f"all {len(readings)} pass" if len(readings) > 1 else "passes"
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count and verdict is not Verdict.PASS)


def guard_columns(
    readings: Sequence[GuardReading], cells: int, *, with_sparklines: bool = True, with_titles: bool = True
) -> list[PaneColumn[GuardReading, RuleAges]]:
    """The columns for these rules and a width in cells.

    They depend on the names of the rules and on the width alone: a column that comes, goes or moves with the readings
    would make the pane unreadable while they change.

    Args:
        with_sparklines: adds the trend column.
        with_titles: the titles are visible; without them only columns that need none are shown.
    """
    wide = cells >= _WIDE_FROM
    name = max((cell_len(sanitize(reading.rule)) for reading in readings), default=4)
    columns: list[PaneColumn[GuardReading, RuleAges]] = [
        PaneColumn("verdict", _VERDICT_TITLE if wide else "", lambda row, _: _verdict_text(row, wide),
               _VERDICT_CELLS if wide else 1, style=lambda row, _: VERDICT_GLYPHS[row.verdict][1],
               find=lambda row: str(row.verdict), sort=lambda row: VERDICT_ORDER[row.verdict]),
        PaneColumn("rule", "RULE", lambda row, _: row.rule, min(10 if wide or with_titles else 6, name), min(name, 40),
               keep_ends=True, find=lambda row: row.rule, style=lambda _row, _: TextStyle.STRONG, weight=2),
        PaneColumn("value", "VALUE", lambda row, _: _value_text(row), _VALUE_CELLS, align_right=True,
               style=_value_style, sort=lambda row: row.value,
               group_label=None if wide else _undecided_text, group_span=1),
        PaneColumn("limit", "LIMIT", lambda row, ages: _limit_text(row) if with_titles else _of_limit_text(row, ages),
               _VALUE_CELLS + (0 if with_titles else 3),
               align_right=with_titles, drop_order=2, style=dim_style, sort=lambda row: row.limit),
        PaneColumn("age", "AGE", lambda row, ages: ages.text(row), 4, align_right=True, drop_order=3, style=dim_style,
               sort=lambda row: -row.observed_at),
        PaneColumn("headroom", "HEADROOM", lambda row, _: _headroom_text(row), 8, align_right=True, drop_order=4,
               style=_headroom_style, sort=headroom),
        PaneColumn("old", "OLD", lambda row, _: _baseline_text(row), _VALUE_CELLS, align_right=True, drop_order=6,
               style=dim_style, sort=lambda row: row.baseline),
        PaneColumn("trend", "TREND", lambda _row, _: "", 6, 40, drop_order=5,
               draw=lambda row, _, cells: () if _is_withdrawn(row) else sparkline(row.series, row.limit, cells)),
    ]  # fmt: skip
    shown = {
        "age": with_titles,
        "headroom": with_titles,
        "old": with_titles,
        "trend": with_sparklines and with_titles,
    }
    return [column for column in columns if shown.get(column.key, True)]


def headroom(reading: GuardReading) -> float | None:
    """The unused share of the limit: 1 to 0, negative beyond the limit; None where value or limit is unknown."""
    if reading.value is None or reading.limit is None or reading.limit <= 0:
        return None
    return 1 - reading.value / reading.limit


def _is_withdrawn(reading: GuardReading) -> bool:
    """It has a last value, from which nothing follows for now: how far it is from the limit, and where it goes."""
    return reading.verdict is Verdict.UNKNOWN and reading.value is not None


def _headroom_text(reading: GuardReading) -> str:
    left = None if _is_withdrawn(reading) else headroom(reading)
    return "" if left is None else f"{int(100 * max(0.0, left))}%"


def _headroom_style(reading: GuardReading, _ages: RuleAges) -> TextStyle:
    left = headroom(reading)
    if left is None or left >= 0.1:
        return TextStyle.NORMAL
    return TextStyle.BAD if left < 0 else TextStyle.WARN


def _verdict_text(reading: GuardReading, wide: bool) -> str:
    """Glyph and word; in a narrow pane the glyph only."""
    glyph, _ = VERDICT_GLYPHS[reading.verdict]
    return f"{glyph} {reading.verdict}" if wide else glyph


def _undecided_text(reading: GuardReading, ages: RuleAges) -> Span | None:
    """In a narrow pane the word is in place of value and limit where these decide nothing."""
    if reading.verdict in (Verdict.PASS, Verdict.FAIL):
        return None
    if reading.is_old_above_limit:
        return f"old {_baseline_text(reading)}", TextStyle.WARN
    has_ended = ages.now is None and not reading.is_applicable
    return "ended" if has_ended else str(reading.verdict), VERDICT_GLYPHS[reading.verdict][1]


def _value_text(reading: GuardReading) -> str:
    return "-" if reading.value is None else format_value(reading.value, reading.unit)


def _value_style(reading: GuardReading, _ages: RuleAges) -> TextStyle:
    return {Verdict.FAIL: TextStyle.BAD, Verdict.UNKNOWN: TextStyle.DIM}.get(reading.verdict, TextStyle.STRONG)


def _limit_text(reading: GuardReading) -> str:
    return "" if reading.limit is None else format_value(reading.limit, reading.unit)


def _of_limit_text(reading: GuardReading, ages: RuleAges) -> str:
    """In place of the limit the age, where it has no column of its own and the data are old."""
    if ages.is_old(reading):
        return f"{ages.text(reading)} ago"
    return "" if reading.limit is None else f"of {_limit_text(reading)}"


def _baseline_text(reading: GuardReading) -> str:
    return "" if reading.baseline is None else format_value(reading.baseline, reading.unit)


def second_line(reading: GuardReading, columns: Collection[str], cells: int, age: str = "") -> Line:
    """What the visible columns do not show of a rule; its reason where there is no verdict.

    Args:
        age: how old its data are, where they are old.
    """
    if reading.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE) or not reading.is_applicable:
        style = TextStyle.WARN if reading.is_applicable or reading.is_old_above_limit else TextStyle.DIM
        return ((truncate(f"  {sanitize(reading.reason)}", cells), style),)
    text = [age] if age and "age" not in columns else []
    text += [f"limit {_limit_text(reading)}"] if reading.limit is not None and "limit" not in columns else []
    if reading.baseline is not None and "old" not in columns:
        text.append(f"old {_baseline_text(reading)}")
    if reading.action_taken:
        text.append(f"triggered {reading.action_taken}")
    many = count_noun(reading.samples, "sample")
    if reading.samples and len("  ".join([*text, many])) + 2 <= cells:
        text.append(many)  # the first to go where it does not fit
    style = TextStyle.WARN if reading.verdict is Verdict.FAIL else TextStyle.DIM
    return ((truncate("  " + ("  ".join(text) or sanitize(reading.reason)), cells), style),)

"""The guard: each rule's value beside its limit, where it has been, and the verdict."""

from collections.abc import Collection, Mapping, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.gates import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, sanitize, truncate
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.guard.reading import GuardReading
from zdd_tui.model.guard.rules import format_value
from zdd_tui.model.release.gate import Verdict

_ORDER = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PENDING, Verdict.PASS)
_WIDE_FROM = 40
"""Cells from which on the word of the verdict stands beside good news too."""


class GuardPane(TablePane[GuardReading, bool]):
    """Two lines a rule, or one where rows are scarce; those that need eyes first."""

    pane_name = "guard"
    shows_error = False
    stale_after = RELEASE_STALE_SECONDS
    is_compact = False
    _lines_per_row = 2

    def source(self, board: DashboardState) -> Observed[object]:
        return board.release

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record, error = board.release.value, board.release.error
        state = (record.guard, record.release.state) if record else ()
        return board.plan.rule_names, error, state, self.is_compact, self.is_maximised

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        record, now = board.release.value, board.server_now(context.now)
        if record is None or now is None:
            return ""
        last = "at the end: " if record.release.state.has_ended else ""
        return last + guard_heading(guard_readings(board, now))

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[GuardReading]:
        now = board.server_now(context.now)
        return () if now is None else guard_readings(board, now)

    def columns(
        self, board: DashboardState, rows: Sequence[GuardReading], cells: int
    ) -> Sequence[PaneColumn[GuardReading, bool]]:
        high = self.content_size.height
        self._lines_per_row = 1 if high < 2 * len(rows) or (self.is_compact and not self.is_maximised) else 2
        return guard_columns(
            rows, cells, with_sparklines=self.shows_history, with_titles=self.has_room_for_titles(len(rows), high)
        )

    def has_room_for_titles(self, rows: int, lines: int) -> bool:
        """Only where they hide no rule."""
        return lines > rows * self._lines_per_row

    def cell_context(self, board: DashboardState, context: RenderContext) -> bool:
        return self.lines_per_row > 1

    def identity(self, row: GuardReading) -> str:
        return row.rule

    def labels(self, row: GuardReading) -> Mapping[str, str]:
        return {"action": str(row.action), "verdict": str(row.verdict)}

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        record = board.release.value
        return super().is_uncertain(board, context) or (record is not None and record.release.state.has_ended)

    def empty_line(self, board: DashboardState) -> Line:
        return (("the plan has no rules", TextStyle.DIM),)

    def second_line(self, row: GuardReading, cell_context: bool, cells: int) -> Line:
        return second_line(row, {column.key for column, _ in self._fitted}, cells)

    @property
    def lines_per_row(self) -> int:
        return self._lines_per_row


def guard_readings(board: DashboardState, now: float) -> tuple[GuardReading, ...]:
    """What each rule of the plan says now, the worst first. Of a release that has ended: what it said last.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    record = board.release.value
    if record is None:
        return ()
    known = {reading.rule: reading for reading in record.guard}
    names = dict.fromkeys((*board.plan.rule_names, *known))
    found = [known.get(name) or GuardReading(name, Verdict.UNKNOWN, "not judged yet", max_age=now) for name in names]
    if not record.release.state.has_ended:
        found = [reading.as_of(now) for reading in found]
    return tuple(sorted(found, key=lambda reading: _ORDER.index(reading.verdict)))


def guard_heading(readings: Sequence[GuardReading]) -> str:
    """``all 2 pass``, or how many do not."""
    counts = {verdict: sum(reading.verdict is verdict for reading in readings) for verdict in _ORDER}
    if counts[Verdict.PASS] == len(readings):
        return f"all {len(readings)} pass" if len(readings) > 1 else "passes"
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count and verdict is not Verdict.PASS)


def guard_columns(
    readings: Sequence[GuardReading], cells: int, *, with_sparklines: bool = True, with_titles: bool = True
) -> list[PaneColumn[GuardReading, bool]]:
    """The columns of these rules, for a width; with or without strips of what each has read.

    Args:
        with_titles: there are titles; without them only what can be understood alone is shown.
    """
    wide = cells >= _WIDE_FROM
    words = max((cell_len(_verdict_text(reading, wide)) for reading in readings), default=1)
    value = max((len(_value_text(reading)) for reading in readings), default=1)
    limit = max(
        (len(_limit_text(reading) if with_titles else _of_limit_text(reading)) for reading in readings), default=1
    )
    old = max((len(_baseline_text(reading)) for reading in readings), default=0)
    name = max((cell_len(sanitize(reading.rule)) for reading in readings), default=4)
    series = max((len(reading.series) for reading in readings), default=0)
    columns: list[PaneColumn[GuardReading, bool]] = [
        PaneColumn("verdict", "SAYS" if wide else "", lambda row, _: _verdict_text(row, wide), words,
               style=lambda row, _: VERDICT_GLYPHS[row.verdict][1], find=lambda row: str(row.verdict),
               sort=lambda row: _ORDER.index(row.verdict)),
        PaneColumn("rule", "RULE", lambda row, _: row.rule, min(6, name), min(name, 40), find=lambda row: row.rule,
               style=lambda _row, _: TextStyle.STRONG),
        PaneColumn("value", "NOW", lambda row, _: _value_text(row), max(3, value), align_right=True, style=_value_style,
               sort=lambda row: row.value),
        PaneColumn("limit", "LIMIT", lambda row, _: _limit_text(row) if with_titles else _of_limit_text(row), max(5, limit), align_right=with_titles,
               drop_order=2, style=lambda _row, _: TextStyle.DIM, sort=lambda row: row.limit),
        PaneColumn("left", "LEFT", lambda row, _: _headroom_text(row), 4, align_right=True, drop_order=3, style=_headroom_style,
               sort=headroom),
    ]  # fmt: skip
    columns = columns if with_titles else columns[:-1]
    if old and with_titles:
        columns.append(
            PaneColumn(
                "old",
                "OLD",
                lambda row, _: _baseline_text(row),
                max(3, old),
                align_right=True,
                drop_order=4,
                style=lambda _row, _: TextStyle.DIM,
                sort=lambda row: row.baseline,
            )
        )
    if with_sparklines and series:
        columns.append(
            PaneColumn(
                "strip",
                "LATELY",
                lambda _row, _: "",
                6,
                min(series, 40),
                drop_order=5,
                draw=lambda row, _, cells: sparkline(row.series, row.limit, cells),
            )
        )
    return columns


def headroom(reading: GuardReading) -> float | None:
    """The share of the limit that is left, from 1 down to 0 at the limit and below it beyond; None without numbers."""
    if reading.value is None or reading.limit is None or reading.limit <= 0:
        return None
    return 1 - reading.value / reading.limit


def _headroom_text(reading: GuardReading) -> str:
    left = headroom(reading)
    return "" if left is None else f"{max(0, int(100 * left))}%"


def _headroom_style(reading: GuardReading, _two: bool) -> TextStyle:
    left = headroom(reading)
    return (
        TextStyle.BAD
        if left is not None and left < 0
        else TextStyle.WARN
        if left is not None and left < 0.1
        else TextStyle.NORMAL
    )


def _verdict_text(reading: GuardReading, wide: bool) -> str:
    """Glyph and word; where it is narrow, the word only says bad news."""
    glyph, _ = VERDICT_GLYPHS[reading.verdict]
    return f"{glyph} {reading.verdict}" if wide or reading.verdict is not Verdict.PASS else glyph


def _value_text(reading: GuardReading) -> str:
    return "-" if reading.value is None else format_value(reading.value, reading.unit)


def _value_style(reading: GuardReading, _two: bool) -> TextStyle:
    return {Verdict.FAIL: TextStyle.BAD, Verdict.UNKNOWN: TextStyle.DIM}.get(reading.verdict, TextStyle.STRONG)


def _limit_text(reading: GuardReading) -> str:
    return "" if reading.limit is None else format_value(reading.limit, reading.unit)


def _of_limit_text(reading: GuardReading) -> str:
    return "" if reading.limit is None else f"of {_limit_text(reading)}"


def _baseline_text(reading: GuardReading) -> str:
    return "" if reading.baseline is None else format_value(reading.baseline, reading.unit)


def second_line(reading: GuardReading, columns: Collection[str], cells: int) -> Line:
    """What the columns in sight do not say of a rule; in its place why there is no verdict."""
    if reading.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE) or not reading.is_applicable:
        return (
            (
                truncate(f"  {sanitize(reading.reason)}", cells),
                TextStyle.WARN if reading.is_applicable else TextStyle.DIM,
            ),
        )
    text = [f"limit {_limit_text(reading)}"] if reading.limit is not None and "limit" not in columns else []
    if reading.baseline is not None and "old" not in columns:
        text.append(f"old {_baseline_text(reading)}")
    if reading.action_taken:
        text.append(f"asked: {reading.action_taken}")
    many = f"{reading.samples:,} sample{'s' if reading.samples > 1 else ''}"
    if reading.samples and len("  ".join([*text, many])) + 2 <= cells:
        text.append(many)  # what does not fit is the least of it
    failing = reading.verdict is Verdict.FAIL
    return (
        (
            truncate("  " + ("  ".join(text) or sanitize(reading.reason)), cells),
            TextStyle.WARN if failing else TextStyle.DIM,
        ),
    )

"""The guard: each rule's value beside its limit, where it has been, and the verdict."""

from collections.abc import Collection, Mapping, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.dashboard.widgets.bars.gates import GLYPHS
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, cut, outside
from zdd_tui.dashboard.widgets.panes.columns import Column
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.guard.reading import GuardReading
from zdd_tui.model.guard.rules import show
from zdd_tui.model.release.gate import Verdict

_ORDER = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PASS)
_WIDE = 40
"""Cells from which on the word of the verdict stands beside good news too."""


class GuardPane(TablePane[GuardReading, bool]):
    """Two lines a rule, or one where rows are scarce; those that need eyes first."""

    name_of_pane = "guard"
    tells_error = False
    limit = RELEASE_STALE
    compact = False
    _each = 2

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def watched(self, board: Board) -> tuple[object, ...]:
        record, error = board.release.value, board.release.error
        state = (record.guard, record.release.state) if record else ()
        return board.plan.rules, error, state, self.compact, self.maximised

    def heading(self, board: Board, moment: Moment) -> str:
        record, now = board.release.value, board.server_now(moment.now)
        if record is None or now is None:
            return ""
        last = "at the end: " if record.release.state.ended else ""
        return last + guard_heading(guard_readings(board, now))

    def rows(self, board: Board, moment: Moment) -> Sequence[GuardReading]:
        now = board.server_now(moment.now)
        return () if now is None else guard_readings(board, now)

    def columns(self, board: Board, rows: Sequence[GuardReading], cells: int) -> Sequence[Column[GuardReading, bool]]:
        high = self.content_size.height
        self._each = 1 if high < 2 * len(rows) or (self.compact and not self.maximised) else 2
        return guard_columns(rows, cells, strips=self.histories, titles=self.room_for_titles(len(rows), high))

    def room_for_titles(self, rows: int, lines: int) -> bool:
        """Only where they hide no rule."""
        return lines > rows * self._each

    def context(self, board: Board, moment: Moment) -> bool:
        return self.lines_a_row > 1

    def identity(self, row: GuardReading) -> str:
        return row.rule

    def labels(self, row: GuardReading) -> Mapping[str, str]:
        return {"action": str(row.action), "verdict": str(row.verdict)}

    def doubtful(self, board: Board, moment: Moment) -> bool:
        record = board.release.value
        return super().doubtful(board, moment) or (record is not None and record.release.state.ended)

    def nothing(self, board: Board) -> Line:
        return (("the plan has no rules", Tone.DIM),)

    def under(self, row: GuardReading, context: bool, cells: int) -> Line:
        return under_line(row, {column.key for column, _ in self._fitted}, cells)

    @property
    def lines_a_row(self) -> int:
        return self._each


def guard_readings(board: Board, now: float) -> tuple[GuardReading, ...]:
    """What each rule of the plan says now, the worst first. Of a release that has ended: what it said last.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    record = board.release.value
    if record is None:
        return ()
    known = {reading.rule: reading for reading in record.guard}
    names = dict.fromkeys((*board.plan.rules, *known))
    found = [known.get(name) or GuardReading(name, Verdict.UNKNOWN, "not judged yet", max_age=now) for name in names]
    if not record.release.state.ended:
        found = [reading.at(now) for reading in found]
    return tuple(sorted(found, key=lambda reading: _ORDER.index(reading.verdict)))


def guard_heading(readings: Sequence[GuardReading]) -> str:
    """``all 2 pass``, or how many do not."""
    counts = {verdict: sum(reading.verdict is verdict for reading in readings) for verdict in _ORDER}
    if counts[Verdict.PASS] == len(readings):
        return f"all {len(readings)} pass" if len(readings) > 1 else "passes"
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count and verdict is not Verdict.PASS)


def guard_columns(
    readings: Sequence[GuardReading], cells: int, *, strips: bool = True, titles: bool = True
) -> list[Column[GuardReading, bool]]:
    """The columns of these rules, for a width; with or without strips of what each has read.

    Args:
        titles: there are titles; without them only what can be understood alone is shown.
    """
    wide = cells >= _WIDE
    words = max((cell_len(_verdict(reading, wide)) for reading in readings), default=1)
    value = max((len(_value(reading)) for reading in readings), default=1)
    limit = max((len(_limit(reading) if titles else _of(reading)) for reading in readings), default=1)
    old = max((len(_old(reading)) for reading in readings), default=0)
    name = max((cell_len(outside(reading.rule)) for reading in readings), default=4)
    series = max((len(reading.series) for reading in readings), default=0)
    columns: list[Column[GuardReading, bool]] = [
        Column("verdict", "SAYS" if wide else "", lambda row, _: _verdict(row, wide), words,
               tone=lambda row, _: GLYPHS[row.verdict][1], find=lambda row: str(row.verdict),
               sort=lambda row: _ORDER.index(row.verdict)),
        Column("rule", "RULE", lambda row, _: row.rule, min(6, name), min(name, 40), find=lambda row: row.rule,
               tone=lambda _row, _: Tone.STRONG),
        Column("value", "NOW", lambda row, _: _value(row), max(3, value), right=True, tone=_value_tone,
               sort=lambda row: row.value),
        Column("limit", "LIMIT", lambda row, _: _limit(row) if titles else _of(row), max(5, limit), right=titles,
               gives_way=2, tone=lambda _row, _: Tone.DIM, sort=lambda row: row.limit),
        Column("left", "LEFT", lambda row, _: _left(row), 4, right=True, gives_way=3, tone=_left_tone,
               sort=budget_left),
    ]  # fmt: skip
    columns = columns if titles else columns[:-1]
    if old and titles:
        columns.append(
            Column(
                "old",
                "OLD",
                lambda row, _: _old(row),
                max(3, old),
                right=True,
                gives_way=4,
                tone=lambda _row, _: Tone.DIM,
                sort=lambda row: row.baseline,
            )
        )
    if strips and series:
        columns.append(
            Column(
                "strip",
                "LATELY",
                lambda _row, _: "",
                6,
                min(series, 40),
                gives_way=5,
                draw=lambda row, _, cells: sparkline(row.series, row.limit, cells),
            )
        )
    return columns


def budget_left(reading: GuardReading) -> float | None:
    """The share of the limit that is left, from 1 down to 0 at the limit and below it beyond; None without numbers."""
    if reading.value is None or reading.limit is None or reading.limit <= 0:
        return None
    return 1 - reading.value / reading.limit


def _left(reading: GuardReading) -> str:
    left = budget_left(reading)
    return "" if left is None else f"{max(0, int(100 * left))}%"


def _left_tone(reading: GuardReading, _two: bool) -> Tone:
    left = budget_left(reading)
    return Tone.BAD if left is not None and left < 0 else Tone.WARN if left is not None and left < 0.1 else Tone.NORMAL


def _verdict(reading: GuardReading, wide: bool) -> str:
    """Glyph and word; where it is narrow, the word only says bad news."""
    glyph, _ = GLYPHS[reading.verdict]
    return f"{glyph} {reading.verdict}" if wide or reading.verdict is not Verdict.PASS else glyph


def _value(reading: GuardReading) -> str:
    return "-" if reading.value is None else show(reading.value, reading.unit)


def _value_tone(reading: GuardReading, _two: bool) -> Tone:
    return {Verdict.FAIL: Tone.BAD, Verdict.UNKNOWN: Tone.DIM}.get(reading.verdict, Tone.STRONG)


def _limit(reading: GuardReading) -> str:
    return "" if reading.limit is None else show(reading.limit, reading.unit)


def _of(reading: GuardReading) -> str:
    return "" if reading.limit is None else f"of {_limit(reading)}"


def _old(reading: GuardReading) -> str:
    return "" if reading.baseline is None else show(reading.baseline, reading.unit)


def under_line(reading: GuardReading, columns: Collection[str], cells: int) -> Line:
    """What the columns in sight do not say of a rule; in its place why there is no verdict."""
    if reading.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE) or not reading.applies:
        return ((cut(f"  {outside(reading.reason)}", cells), Tone.WARN if reading.applies else Tone.DIM),)
    told = [f"limit {_limit(reading)}"] if reading.limit is not None and "limit" not in columns else []
    if reading.baseline is not None and "old" not in columns:
        told.append(f"old {_old(reading)}")
    if reading.acted:
        told.append(f"asked: {reading.acted}")
    many = f"{reading.samples:,} sample{'s' if reading.samples > 1 else ''}"
    if reading.samples and len("  ".join([*told, many])) + 2 <= cells:
        told.append(many)  # what does not fit is the least of it
    failing = reading.verdict is Verdict.FAIL
    return ((cut("  " + ("  ".join(told) or outside(reading.reason)), cells), Tone.WARN if failing else Tone.DIM),)

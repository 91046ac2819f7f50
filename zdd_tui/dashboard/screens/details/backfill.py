"""The backfill in full: how far each range is, what it runs, how the server would run it, and which rows it left."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look, Told
from zdd_tui.dashboard.state import Board, BoardSource, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, outside, wrap
from zdd_tui.dashboard.widgets.panes.backfill import backfill_lines
from zdd_tui.dashboard.widgets.panes.failed_rows import LedgerPane
from zdd_tui.model.duration import human_duration
from zdd_tui.model.queries import BackfillDetail, BackfillQuery, RangeView
from zdd_tui.model.release.records import BackfillRecord

LAST_BATCHES = 5

LEDGER_ROWS = 6
"""Failed rows in sight at once."""


class BackfillScreen(DetailScreen):
    """Counters from the board, everything else asked for.

    Args:
        search: begin with the search open.
    """

    DEFAULT_CSS = """
    BackfillScreen LedgerPane { border: round $error; }
    """

    every: ClassVar[float] = 5.0

    def __init__(self, source: BoardSource, look: Look, *, search: bool = False) -> None:
        super().__init__(source, look)
        self._asked = self.will_ask(BackfillQuery(), "the backfill")
        self._search = search

    def on_mount(self) -> None:
        if self._search:
            self.call_next(self.action_search)  # after the page has taken the focus

    def heading(self, board: Board) -> str:
        return f"backfill of {board.plan.name}"

    def redraw(self) -> None:
        """The page, and below it the rows that failed, where there are any."""
        super().redraw()
        failed = self._asked.value.failed if self._asked.value is not None else ()
        ledger = next(iter(self.query(LedgerPane)), None)
        if ledger is None:
            if not failed:
                return
            ledger = LedgerPane()
            self.mount(ledger, after="#detail")
        ledger.display = bool(failed)
        ledger.styles.height = min(len(failed), LEDGER_ROWS) + 3
        answer = self._asked.answer
        ledger.give(Sourced(failed, answer.observed_at, answer.error, answer.mend))
        ledger.show(self._source.board(), self._look())

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        if not board.plan.backfills:
            return wrap(f"a {board.plan.strategy} release moves no rows: there is no backfill to look at", cells)
        record = board.release.value
        state = record.backfill if record else None
        lines = [*backfill_lines(state, cells), *_batches(state, moment, cells), ()]
        lines += self.missing(self._asked, cells)
        if self._asked.value is None:
            return lines
        return lines + detail_lines(self._asked.value, cells, self.text)


def _batches(state: BackfillRecord | None, moment: Moment, cells: int) -> list[Line]:
    """What a batch took on average, pauses left out, and the last ones, the newest first."""
    if state is None or not state.batches:
        return []
    each = state.seconds / state.batches
    rows = state.rows_done / state.batches
    told = (
        f"{state.batches:,} batches in {human_duration(state.seconds)}: {1000 * each:.0f} ms and {rows:,.0f} rows each"
    )
    lines: list[Line] = [clip(((told, Tone.NORMAL),), cells)]
    for batch in reversed(state.recent[-LAST_BATCHES:]):
        when = moment.clock.time_of_day(batch.at)
        lines.append(
            ((f"  {when} ", Tone.DIM), (f"{batch.rows:>7,} rows {1000 * batch.seconds:>6.0f} ms", Tone.NORMAL))
        )
    return lines


def detail_lines(detail: BackfillDetail, cells: int, told: Told) -> list[Line]:
    """Ranges, limits, mismatches, SQL and its plan."""
    lines: list[Line] = [(("ranges", Tone.DIM),)]
    lines += [line for each in detail.ranges for line in _range(each, cells, told)] or [(("none yet", Tone.DIM),)]
    if detail.limits:
        limits = ", ".join(f"{name} {value}" for name, value in sorted(detail.limits.items()))
        lines += [(), (("limits changed while it runs", Tone.DIM),), *told(limits, cells)]
    if detail.mismatches:
        lines += [(), (("rows whose two sides differ (key: what)", Tone.BAD),)]
        for found in detail.mismatches:
            columns = f" [{', '.join(found.columns)}]" if found.columns else ""
            lines += told(f"{', '.join(found.key)}: {found.what}{columns}", cells)
    lines += [(), (("a batch runs", Tone.DIM),)]
    lines += [line for text in detail.statement.splitlines() for line in told(text, cells)]
    lines += [(), (("the server would run it so (EXPLAIN alone: nothing is run)", Tone.DIM),)]
    lines += told(f"? {detail.explain_error}", cells, Tone.WARN) if detail.explain_error else []
    return lines + [line for text in detail.explained for line in told(text, cells, _plan_tone(text))]


def _range(each: RangeView, cells: int, told: Told) -> list[Line]:
    glyph, tone = ("✔", Tone.GOOD) if each.done else ("▶", Tone.BUSY) if each.cursor else ("○", Tone.DIM)
    place = f"({_key(each.lo, 'start')} … {_key(each.hi, 'end')}]"
    at = "" if each.done else f" at {_key(each.cursor, 'its start')}"
    first, *rest = told(f"{each.kind} {each.id} {outside(place)}{at}, {each.rows:,} rows", max(10, cells - 2))
    return [((f"{glyph} ", tone), *first), *((("  ", Tone.NORMAL), *line) for line in rest)]


def _key(key: tuple[str, ...] | None, none: str) -> str:
    return none if key is None else ", ".join(key)


def _plan_tone(line: str) -> Tone:
    return Tone.BAD if "Seq Scan" in line else Tone.NORMAL

"""The gates of every phase: what each says, how old that is, and why; those that are not asked yet too."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.dashboard.widgets.bars.gates import GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, outside
from zdd_tui.dashboard.widgets.panes.columns import Column
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.gate_rows import BEFORE, GateRow, Place, gate_rows
from zdd_tui.model.release.summary import current_gates

_WIDE = 40
"""Cells from which on a verdict has its word beside it whatever it is."""

_ORDER = ("fail", "unknown", "inconclusive", "pass", "not asked", "none", "passed")
"""Of verdicts, when they sort the table: what needs eyes first."""


class GatePane(TablePane[GateRow, float]):
    """A row a gate, in the order of the phases. The present phase is marked, and in sight when it begins.

    Whoever sorts or filters looks for something else.
    """

    name_of_pane = "gates"
    tells_error = False
    limit = RELEASE_STALE

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._known: dict[str, GateRow] = {}
        self._revealed: tuple[str, int] | None = None
        """The phase that was brought into sight, and the rows that there was room for."""
        self._put = ""
        """The row that the cursor was put on by itself."""

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def watched(self, board: Board) -> tuple[object, ...]:
        record = board.release.value
        return board.release.error, (record.gates, record.release) if record else None, self.maximised

    def heading(self, board: Board, moment: Moment) -> str:
        return gates_heading(board, moment)

    def rows(self, board: Board, moment: Moment) -> Sequence[GateRow]:
        record, now = board.release.value, board.server_now(moment.now)
        if record is None or now is None:
            return ()
        made = [self._same(row) for row in gate_rows(record, now)]
        self._known = {row.key: row for row in made}
        return made

    def _same(self, row: GateRow) -> GateRow:
        """The very row of before where it has not changed."""
        known = self._known.get(row.key)
        return known if known is not None and known == row else row

    def columns(self, board: Board, rows: Sequence[GateRow], cells: int) -> Sequence[Column[GateRow, float]]:
        return gate_columns(rows, cells)

    def context(self, board: Board, moment: Moment) -> float:
        return board.server_now(moment.now) or 0.0

    def identity(self, row: GateRow) -> str:
        return row.key

    def labels(self, row: GateRow) -> Mapping[str, str]:
        return {"phase": row.phase, "verdict": row.word, "place": str(row.place)}

    def doubtful(self, board: Board, moment: Moment) -> bool:
        record = board.release.value
        return super().doubtful(board, moment) or (record is not None and record.release.state.ended)

    def nothing(self, board: Board) -> Line:
        return (("the strategy has no gates", Tone.DIM),)

    def lines(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        """Also brings a phase that has begun into sight, unless the operator has moved the cursor to a row."""
        store = self._store
        fresh = not store.cursor
        made = super().lines(board, moment, cells)
        self._put = store.cursor if fresh else self._put
        place = next((at for at, row in enumerate(store.shown) if row.place is Place.PRESENT), None)
        if place is None or self._filter.there or self._sort:
            return made
        reveal = store.shown[place].phase, store.room
        if reveal == self._revealed:
            return made
        self._revealed = reveal
        if not self._focused or store.cursor == self._put:
            store.scroll(place - store.top)
            store.point(place)
            self._put = store.cursor
        return made


def gates_heading(board: Board, moment: Moment) -> str:
    """``cutover: 1 of 3 pass``, or why none counts."""
    record, now = board.release.value, board.server_now(moment.now)
    if record is None or now is None:
        return ""
    if record.release.state.ended:
        return "as they were at the end"
    if record.release.state.backwards:
        return "not asked on the way back"
    gates, phase = current_gates(record, now), record.release.current
    passing = sum(reading.verdict is Verdict.PASS for _, reading in gates)
    return f"{phase.name if phase else BEFORE}: {passing} of {len(gates)} pass" if gates else ""


def verdict_of(row: GateRow) -> tuple[str, str, Tone]:
    """Glyph, word and tone. Only what counts now has the tone of a verdict."""
    if row.passed:
        return "✔", row.word, Tone.DIM
    if row.verdict is None:
        return "○", row.word, Tone.DIM
    glyph, tone = GLYPHS[row.verdict]
    return glyph, row.word, tone if row.place is Place.PRESENT else Tone.DIM


def gate_columns(rows: Sequence[GateRow], cells: int) -> list[Column[GateRow, float]]:
    """The columns of these gates, for a width. Cells get the database's clock."""
    wide = cells >= _WIDE
    phase = max((cell_len(outside(row.phase)) for row in rows), default=5)
    name = max((cell_len(outside(row.gate.name)) for row in rows), default=4)
    says = max((cell_len(_verdict(row, wide)) for row in rows), default=1)
    return [
        Column("mark", "", lambda row, _: "▶" if row.place is Place.PRESENT else "", 1, tone=lambda _row, _: Tone.BUSY),
        Column("phase", "PHASE", lambda row, _: row.phase, min(8, phase), phase, gives_way=2, tone=_phase_tone,
               find=lambda row: row.phase, sort=lambda row: row.number),
        Column("gate", "GATE", lambda row, _: row.gate.name, min(8, name), name, tone=_gate_tone,
               find=lambda row: f"{row.gate.name} {row.gate.label}", sort=lambda row: row.gate.name),
        Column("verdict", "SAYS" if wide else "", lambda row, _: _verdict(row, wide), says,
               tone=lambda row, _: verdict_of(row)[2], find=lambda row: row.word,
               sort=lambda row: _ORDER.index(row.word)),
        Column("age", "AGE", _age, 4, right=True, gives_way=3, tone=lambda _row, _: Tone.DIM,
               sort=lambda row: -row.reading.observed_at if row.reading is not None else None),
        # What a gate will want is no answer: a filter does not find it, or `fail` would keep gates that do not.
        Column("reason", "REASON", lambda row, _: row.reason, 10, 10_000, gives_way=1, tone=_reason_tone,
               find=lambda row: row.answer),
    ]  # fmt: skip


def _verdict(row: GateRow, wide: bool) -> str:
    """Glyph and word; where it is narrow, the word only says bad news."""
    glyph, word, _ = verdict_of(row)
    good = row.verdict is None or row.verdict is Verdict.PASS
    return glyph if good and not wide else f"{glyph} {word}"


def _age(row: GateRow, now: float) -> str:
    return "" if row.reading is None else human_age(row.reading.age(now))


def _phase_tone(row: GateRow, _now: float) -> Tone:
    return Tone.STRONG if row.place is Place.PRESENT else Tone.DIM


def _gate_tone(row: GateRow, _now: float) -> Tone:
    if row.place is not Place.PRESENT:
        return Tone.DIM
    return Tone.NORMAL if row.verdict is Verdict.PASS else Tone.STRONG


def _reason_tone(row: GateRow, _now: float) -> Tone:
    return Tone.NORMAL if row.place is Place.PRESENT and row.reading is not None else Tone.DIM

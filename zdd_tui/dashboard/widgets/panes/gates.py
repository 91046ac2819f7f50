"""The gates of every phase: what each says, how old that is, and why; those that are not asked yet too."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.gates import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, sanitize
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.gate_rows import BEFORE_FIRST_PHASE, GateRow, PhasePosition, build_gate_rows
from zdd_tui.model.release.summary import list_current_gates

_WIDE_FROM = 40
"""Cells from which on a verdict has its word beside it whatever it is."""

_ORDER = ("fail", "unknown", "inconclusive", "pending", "pass", "not asked", "none", "passed")
"""Of verdicts, when they sort the table: what needs eyes first."""


class GatePane(TablePane[GateRow, float]):
    """A row a gate, in the order of the phases. The present phase is marked, and in sight when it begins.

    Whoever sorts or filters looks for something else.
    """

    pane_name = "gates"
    shows_error = False
    stale_after = RELEASE_STALE_SECONDS

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._known: dict[str, GateRow] = {}
        self._revealed: tuple[str, int] | None = None
        """The phase that was brought into sight, and the rows that there was room for."""
        self._put = ""
        """The row that the cursor was put on by itself."""

    def source(self, board: DashboardState) -> Observed[object]:
        return board.release

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record = board.release.value
        return board.release.error, (record.gates, record.release) if record else None, self.is_maximised

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        return gates_heading(board, context)

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[GateRow]:
        record, now = board.release.value, board.server_now(context.now)
        if record is None or now is None:
            return ()
        made = [self._same(row) for row in build_gate_rows(record, now)]
        self._known = {row.key: row for row in made}
        return made

    def _same(self, row: GateRow) -> GateRow:
        """The very row of before where it has not changed."""
        known = self._known.get(row.key)
        return known if known is not None and known == row else row

    def columns(
        self, board: DashboardState, rows: Sequence[GateRow], cells: int
    ) -> Sequence[PaneColumn[GateRow, float]]:
        return gate_columns(rows, cells)

    def cell_context(self, board: DashboardState, context: RenderContext) -> float:
        return board.server_now(context.now) or 0.0

    def identity(self, row: GateRow) -> str:
        return row.key

    def labels(self, row: GateRow) -> Mapping[str, str]:
        return {"phase": row.phase, "verdict": row.status_text, "place": str(row.position)}

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        record = board.release.value
        return super().is_uncertain(board, context) or (record is not None and record.release.state.has_ended)

    def empty_line(self, board: DashboardState) -> Line:
        return (("the strategy has no gates", TextStyle.DIM),)

    def lines(self, board: DashboardState, moment: RenderContext, cells: int) -> Sequence[Line]:
        """Also brings a phase that has begun into sight, unless the operator has moved the cursor to a row."""
        store = self._store
        fresh = not store.cursor_identity
        made = super().lines(board, moment, cells)
        self._put = store.cursor_identity if fresh else self._put
        place = next((at for at, row in enumerate(store.shown) if row.position is PhasePosition.PRESENT), None)
        if place is None or self._filter.is_visible or self._sort:
            return made
        reveal = store.shown[place].phase, store.visible_rows
        if reveal == self._revealed:
            return made
        self._revealed = reveal
        if not self._focused or store.cursor_identity == self._put:
            store.scroll(place - store.first_visible)
            store.move_cursor(place)
            self._put = store.cursor_identity
        return made


def gates_heading(board: DashboardState, context: RenderContext) -> str:
    """``cutover: 1 of 3 pass``, or why none counts."""
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return ""
    if record.release.state.has_ended:
        return "as they were at the end"
    if record.release.state.is_rolling_back:
        return "not asked on the way back"
    gates, phase = list_current_gates(record, now), record.release.current_phase
    passing = sum(reading.verdict is Verdict.PASS for _, reading in gates)
    return f"{phase.name if phase else BEFORE_FIRST_PHASE}: {passing} of {len(gates)} pass" if gates else ""


def verdict_of(row: GateRow) -> tuple[str, str, TextStyle]:
    """Glyph, word and tone. Only what counts now has the tone of a verdict."""
    if row.has_passed:
        return "✔", row.status_text, TextStyle.DIM
    if row.verdict is None:
        return "○", row.status_text, TextStyle.DIM
    glyph, style = VERDICT_GLYPHS[row.verdict]
    return glyph, row.status_text, style if row.position is PhasePosition.PRESENT else TextStyle.DIM


def gate_columns(rows: Sequence[GateRow], cells: int) -> list[PaneColumn[GateRow, float]]:
    """The columns of these gates, for a width. Cells get the database's clock."""
    wide = cells >= _WIDE_FROM
    phase = max((cell_len(sanitize(row.phase)) for row in rows), default=5)
    name = max((cell_len(sanitize(row.gate.name)) for row in rows), default=4)
    says = max((cell_len(_verdict(row, wide)) for row in rows), default=1)
    return [
        PaneColumn("mark", "", lambda row, _: "▶" if row.position is PhasePosition.PRESENT else "", 1, style=lambda _row, _: TextStyle.RUNNING),
        PaneColumn("phase", "PHASE", lambda row, _: row.phase, min(8, phase), phase, drop_order=2, style=_phase_style,
               find=lambda row: row.phase, sort=lambda row: row.number),
        PaneColumn("gate", "GATE", lambda row, _: row.gate.name, min(8, name), name, style=_gate_style,
               find=lambda row: f"{row.gate.name} {row.gate.label}", sort=lambda row: row.gate.name),
        PaneColumn("verdict", "SAYS" if wide else "", lambda row, _: _verdict(row, wide), says,
               style=lambda row, _: verdict_of(row)[2], find=lambda row: row.status_text,
               sort=lambda row: _ORDER.index(row.status_text)),
        PaneColumn("age", "AGE", _age, 4, align_right=True, drop_order=3, style=lambda _row, _: TextStyle.DIM,
               sort=lambda row: -row.reading.observed_at if row.reading is not None else None),
        # What a gate will want is no answer: a filter does not find it, or `fail` would keep gates that do not.
        PaneColumn("reason", "REASON", lambda row, _: row.reason_text, 10, 10_000, drop_order=1, style=_reason_style,
               find=lambda row: row.result_text),
    ]  # fmt: skip


def _verdict(row: GateRow, wide: bool) -> str:
    """Glyph and word; where it is narrow, the word only says bad news."""
    glyph, word, _ = verdict_of(row)
    good = row.verdict is None or row.verdict is Verdict.PASS
    return glyph if good and not wide else f"{glyph} {word}"


def _age(row: GateRow, now: float) -> str:
    return "" if row.reading is None else format_age(row.reading.age(now))


def _phase_style(row: GateRow, _now: float) -> TextStyle:
    return TextStyle.STRONG if row.position is PhasePosition.PRESENT else TextStyle.DIM


def _gate_style(row: GateRow, _now: float) -> TextStyle:
    if row.position is not PhasePosition.PRESENT:
        return TextStyle.DIM
    return TextStyle.NORMAL if row.verdict is Verdict.PASS else TextStyle.STRONG


def _reason_style(row: GateRow, _now: float) -> TextStyle:
    return TextStyle.NORMAL if row.position is PhasePosition.PRESENT and row.reading is not None else TextStyle.DIM

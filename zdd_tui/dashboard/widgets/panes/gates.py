"""The gates of every phase: verdict, age and reason; those that are not checked yet too."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS, VERDICT_ORDER
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, format_data_age, sanitize
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.claims import rests_on_old_data
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.gate_rows import BEFORE_FIRST_PHASE, GateRow, PhasePosition, build_gate_rows
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import list_current_gates

_WIDE_FROM = 40
"""Width in cells from which every verdict is written out; narrower, only those that do not pass are."""

_VERDICT_TITLE = "VERDICT"


class GatePane(TablePane[GateRow, float]):
    """One row per gate, in the order of the phases. The current phase is marked, and scrolled into view when it starts.

    It is not scrolled to while the rows are sorted or filtered.
    """

    pane_name = "gates"
    fixed_columns = frozenset({"gate", "verdict"})
    title_action = "gates"
    is_final_at_end = True

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, GateRow] = {}
        self._revealed: tuple[str, int] | None = None
        """The phase that was scrolled into view, and the number of visible rows at that time."""
        self._auto_cursor = ""
        """Identity of the row that the cursor was placed on automatically."""

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record = board.release.value
        return board.release.error, (record.gates, record.release) if record else None, self.is_maximised

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        return gates_heading(board, context)

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[GateRow]:
        record, now = board.release.value, board.server_now(context.now)
        if record is None or now is None:
            return ()
        rows = [self._reuse_row(row) for row in build_gate_rows(record, now)]
        self._known = {row.key: row for row in rows}
        return rows

    def _reuse_row(self, row: GateRow) -> GateRow:
        """The object of the last call where the row has not changed: then its line is not drawn again."""
        known = self._known.get(row.key)
        return known if known is not None and known == row else row

    def columns(
        self, board: DashboardState, rows: Sequence[GateRow], cells: int
    ) -> Sequence[PaneColumn[GateRow, float]]:
        return gate_columns(rows, cells)

    def cell_context(self, board: DashboardState, context: RenderContext) -> float:
        return board.server_now(context.now) or 0.0

    def is_row_old(self, row: GateRow, cell_context: float) -> bool:
        is_present = row.position is PhasePosition.PRESENT
        return is_present and row.reading is not None and rests_on_old_data(row.reading, cell_context)

    def identity(self, row: GateRow) -> str:
        return row.key

    def labels(self, row: GateRow) -> Mapping[str, str]:
        return {"phase": row.phase, "verdict": row.status_text, "place": str(row.position)}

    def empty_line(self, board: DashboardState) -> Line:
        return (("the strategy has no gates", TextStyle.DIM),)

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        """Also scrolls to a phase that has started, unless the operator has moved the cursor."""
        store = self._store
        had_no_cursor = not store.cursor_identity
        lines = super().lines(board, context, cells)
        self._auto_cursor = store.cursor_identity if had_no_cursor else self._auto_cursor
        place = next((at for at, row in enumerate(store.shown) if row.position is PhasePosition.PRESENT), None)
        if place is None or self._filter.is_visible or self._sort:
            return lines
        reveal = store.shown[place].phase, store.visible_rows
        if reveal == self._revealed:
            return lines
        self._revealed = reveal
        if not self._focused or store.cursor_identity == self._auto_cursor:
            store.scroll(place - store.first_visible)
            store.move_cursor(place)
            self._auto_cursor = store.cursor_identity
        return lines


def gates_heading(board: DashboardState, context: RenderContext) -> str:
    """``cutover: 1 of 3 pass``, or why no gate counts."""
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return ""
    if record.release.state is ReleaseState.ROLLED_BACK:
        return "before the rollback"
    if record.release.state.has_ended:
        return "at the end of the release"
    if record.release.state.is_rolling_back:
        return "not checked during rollback"
    if not (activity := board.activity(context.now)).is_active:
        return f"not checked, {activity.description}"
    gates, phase = list_current_gates(record, now), record.release.current_phase
    if not gates:
        return ""
    passing = sum(reading.verdict is Verdict.PASS for _, reading in gates)
    ages = [reading.age(now) for _, reading in gates if rests_on_old_data(reading, now)]
    old = f", data {format_age(max(ages))} old" if ages else ""
    return f"{phase.name if phase else BEFORE_FIRST_PHASE}: {passing} of {len(gates)} pass{old}"


def verdict_of(row: GateRow) -> tuple[str, str, TextStyle]:
    """Glyph, word and style. Only a gate of the current phase is coloured by its verdict."""
    if row.has_passed:
        return "✔", row.status_text, TextStyle.DIM
    if row.verdict is None:
        return "○", row.status_text, TextStyle.DIM
    glyph, style = VERDICT_GLYPHS[row.verdict]
    return glyph, row.status_text, style if row.position is PhasePosition.PRESENT else TextStyle.DIM


def gate_columns(rows: Sequence[GateRow], cells: int) -> list[PaneColumn[GateRow, float]]:
    """The columns for these gates and a width in cells. The cell context is the time by the database's clock."""
    wide = cells >= _WIDE_FROM
    phase = max((cell_len(sanitize(row.phase)) for row in rows), default=5)
    name = max((cell_len(sanitize(row.gate.name)) for row in rows), default=4)
    words = max((cell_len(_verdict(row, wide)) for row in rows), default=1)
    verdict = max(len(_VERDICT_TITLE), words) if wide else words
    return [
        PaneColumn("mark", "", lambda row, _: "→" if row.position is PhasePosition.PRESENT else "", 1,
               style=lambda _row, _: TextStyle.STRONG),
        PaneColumn("phase", "PHASE", lambda row, _: row.phase, min(8, phase), phase, drop_order=2, style=_phase_style,
               find=lambda row: row.phase, sort=lambda row: row.number),
        PaneColumn("gate", "GATE", lambda row, _: row.gate.name, min(8, name), name, style=_gate_style, weight=12,
               find=lambda row: f"{row.gate.name} {row.gate.label}", sort=lambda row: row.gate.name),
        PaneColumn("verdict", _VERDICT_TITLE if wide else "", lambda row, _: _verdict(row, wide), verdict,
               style=lambda row, _: verdict_of(row)[2], find=lambda row: row.status_text, sort=_urgency),
        PaneColumn("age", "AGE", _age, 4, align_right=True, drop_order=3, style=dim_style,
               sort=lambda row: -row.reading.observed_at if row.reading is not None else None),
        # A filter searches results only: the expectation of an unchecked gate may contain words such as `fail`.
        PaneColumn("reason", "REASON", lambda row, _: row.reason_text, 10, 10_000, drop_order=1, style=_reason_style,
               weight=4, find=lambda row: row.result_text),
    ]  # fmt: skip


def _urgency(row: GateRow) -> int:
    """Sorts by verdict, the most urgent first; then gates that are not checked yet, then those of past phases."""
    if row.verdict is not None and not row.has_passed:
        return VERDICT_ORDER[row.verdict]
    return len(VERDICT_ORDER) + (0 if row.position is PhasePosition.AHEAD else 2 if row.has_passed else 1)


def _verdict(row: GateRow, wide: bool) -> str:
    """Glyph and word; in a narrow pane a pass has its glyph only."""
    glyph, word, _ = verdict_of(row)
    good = row.verdict is None or row.verdict is Verdict.PASS
    return glyph if good and not wide else f"{glyph} {word}"


def _age(row: GateRow, now: float) -> str:
    if row.reading is None:
        return ""
    age = row.reading.age(now)
    return format_data_age(age) if row.position is PhasePosition.PRESENT else format_age(age)


def _phase_style(row: GateRow, _now: float) -> TextStyle:
    return TextStyle.STRONG if row.position is PhasePosition.PRESENT else TextStyle.DIM


def _gate_style(row: GateRow, _now: float) -> TextStyle:
    if row.position is not PhasePosition.PRESENT:
        return TextStyle.DIM
    return TextStyle.NORMAL if row.verdict is Verdict.PASS else TextStyle.STRONG


def _reason_style(row: GateRow, _now: float) -> TextStyle:
    return TextStyle.NORMAL if row.position is PhasePosition.PRESENT and row.reading is not None else TextStyle.DIM

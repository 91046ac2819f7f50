"""The gates of the current phase: one line while it runs, one line each while the release waits."""

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS, VERDICT_ORDER
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    dim,
    format_age,
    format_data_age,
    join,
    justify,
    line_width,
    sanitize,
    truncate,
)
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.release.claims import rests_on_old_data
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import list_current_gates

_MAX_GATES = ((0, 4), (32, 6), (44, 12))
"""Height of the screen from which the gates may have so many lines."""

_AGE_CELLS = 9
"""Cells of ``10s ago``, with a gap before them."""

_GAP = ("  ", TextStyle.NORMAL)

Gates = Sequence[tuple[str, GateReading]]
"""Labels and readings."""


class GateSummary(ReleaseView):
    """Verdict, reason and age of each gate."""

    click_action = "gates"

    auto_height = _MAX_GATES[-1][1]

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return gate_lines(board, context, cells, max_gate_lines(self.screen.size.height))


def max_gate_lines(rows: int) -> int:
    """Lines for the gates on a screen of so many rows."""
    return next(lines for height, lines in reversed(_MAX_GATES) if rows >= height)


def gate_lines(board: DashboardState, context: RenderContext, cells: int, limit: int = _MAX_GATES[0][1]) -> list[Line]:
    """One line where steps run; else up to `limit`. Where the gates need more, the most urgent ones come first, and
    the last line counts the others."""
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return []
    gates = list_current_gates(record, now)
    release = record.release
    if not gates or release.state.has_ended or release.state.is_rolling_back:
        return []
    following = f"{release.next_phase.name} waits for" if release.next_phase else "the end waits for"
    if release.state is ReleaseState.WAITING and release.last_breach is None:  # a breach closes all of them
        shown = gates if len(gates) <= limit else _most_urgent_first(gates)[: limit - 1]
        more = [_hidden_gates_line(_most_urgent_first(gates)[limit - 1 :], context)] if len(gates) > limit else []
        column = max(len(reading.verdict) for _, reading in shown)
        lines = [_gate_line(label, reading, now, cells - _AGE_CELLS, column) for label, reading in shown]
        ages = max(map(line_width, lines)) + _AGE_CELLS
        ages_of = [_age_text(reading, now) if reading.name in record.gates else () for _, reading in shown]
        dated = [justify(line, age, ages) for line, age in zip(lines, ages_of, strict=True)]
        return [*dated, *(clip(line, cells) for line in more)]
    for reasons in (True, False):  # names alone where the reasons do not fit
        short = join([_summary_text(reading, now, reasons) for _, reading in gates], ("  ", TextStyle.NORMAL))
        line = ((f"{following}: ", TextStyle.DIM), *short)
        if line_width(line) <= cells:
            break
    else:
        closed = [
            gate
            for gate in _most_urgent_first(gates)
            if gate[1].verdict is not Verdict.PASS or rests_on_old_data(gate[1], now)
        ]
        glyph, style = VERDICT_GLYPHS[Verdict.PASS]
        counted: Line = ((f"{glyph} ", style), (f"{len(gates) - len(closed)} pass", TextStyle.NORMAL))
        short = join([*(_summary_text(reading, now, False) for _, reading in closed), counted], _GAP)
        line = ((f"{following}: ", TextStyle.DIM), *short)
    return [clip(line, cells)]


def _most_urgent_first(gates: Gates) -> Gates:
    return tuple(sorted(gates, key=lambda gate: VERDICT_ORDER[gate[1].verdict]))


def _hidden_gates_line(hidden: Gates, context: RenderContext) -> Line:
    """``… 8 more: 3 fail, 5 pass (G shows all)``."""
    counts = Counter(reading.verdict for _, reading in hidden)
    text = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICT_ORDER if counts[verdict])
    key = (context.key_names["gates"], TextStyle.KEY)
    return (f"… {len(hidden)} more: {text}  ", TextStyle.NORMAL), key, (" shows all", TextStyle.DIM)


def _age_text(reading: GateReading, now: float) -> Line:
    """The age of its data. The reason of a stale reading contains it."""
    is_told = reading.reason.startswith("STALE ")
    return (("" if is_told else f"{format_data_age(reading.age(now)):>{_AGE_CELLS - 5}} ago", TextStyle.DIM),)


def _gate_line(label: str, reading: GateReading, now: float, cells: int, column: int) -> Line:
    """A gate without its age."""
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    is_repeated = reading.reason.casefold() == label.casefold()
    reason = f": {sanitize(reading.reason)}" if reading.reason and not is_repeated else ""
    head = f"{glyph} {reading.verdict:<{column}} "
    room = cells - len(head)
    if reason and cell_len(label + reason) > room:
        label = reading.name  # the reason matters more than the long label
    label = truncate(label, room)
    line = (
        (head, style),
        (label, TextStyle.NORMAL if reading.verdict is Verdict.PASS else TextStyle.STRONG),
        (truncate(reason, max(0, room - cell_len(label))), TextStyle.NORMAL),
    )
    return dim(line) if rests_on_old_data(reading, now) else line


def _summary_text(reading: GateReading, now: float, reasons: bool) -> Line:
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    reason = f": {sanitize(reading.reason)}" if reasons and reading.reason else ""
    if not rests_on_old_data(reading, now):
        return ((f"{glyph} ", style), (reading.name, TextStyle.NORMAL), (reason, TextStyle.DIM))
    return ((f"{glyph} {reading.name} {format_age(reading.age(now))} ago{reason}", TextStyle.DIM),)

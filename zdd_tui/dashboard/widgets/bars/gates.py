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
    hang,
    join,
    justify,
    line_width,
    sanitize,
    truncate,
    wrap,
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

_MIN_REASON = 20
"""Cells beside the name of a gate from which its reason is wrapped there."""

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
        spare, found = limit - len(shown) - len(more), []
        for label, reading in shown:
            rows = 1 if reading.verdict is Verdict.PASS else 1 + spare
            found.append(_gate_lines(label, reading, now, cells - _AGE_CELLS, column, rows))
            spare -= len(found[-1]) - 1
        ages = max(line_width(lines[0]) for lines in found) + _AGE_CELLS
        ages_of = [_age_text(reading, now) if reading.name in record.gates else () for _, reading in shown]
        dated = [
            line
            for (first, *rest), age in zip(found, ages_of, strict=True)
            for line in (justify(first, age, ages), *rest)
        ]
        return [*dated, *(clip(line, cells) for line in more)]
    waited_for = [
        gate
        for gate in _most_urgent_first(gates)
        if gate[1].verdict is not Verdict.PASS or rests_on_old_data(gate[1], now)
    ]
    return [clip(_waited_line(following, waited_for, len(gates), now, cells), cells)]


def _waited_line(following: str, waited_for: Gates, total: int, now: float, cells: int) -> Line:
    """``cutover waits for: ? witness-empty  ✔ 2 pass``: what is waited for, with its reasons where they fit; the count
    of the others is last. Where names do not fit, the least urgent ones are counted."""
    glyph, style = VERDICT_GLYPHS[Verdict.PASS]
    passing = total - len(waited_for)
    counted: Line = ((f"{glyph} ", style), (f"{passing} pass", TextStyle.NORMAL)) if passing else ()
    head: Line = ((f"{following}{'' if waited_for else ' no gate'}: ", TextStyle.DIM),)
    line: Line = ()
    for shown in range(len(waited_for), -1, -1):
        hidden = len(waited_for) - shown
        more: Line = ((f"… {hidden} more", TextStyle.NORMAL),) if hidden else ()
        for reasons in (False,) if hidden else (True, False):
            parts = [_summary_text(reading, now, reasons) for _, reading in waited_for[:shown]]
            line = (*head, *join([*parts, *filter(None, (more, counted))], _GAP))
            if line_width(line) <= cells:
                return line
    return line


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


def _gate_lines(label: str, reading: GateReading, now: float, cells: int, column: int, rows: int) -> list[Line]:
    """A gate without its age: one line, or up to so many rows where its reason needs more."""
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    is_repeated = reading.reason.casefold() == label.casefold()
    reason = f": {sanitize(reading.reason)}" if reading.reason and not is_repeated else ""
    head = f"{glyph} {reading.verdict:<{column}} "
    room = cells - len(head)
    if reason and cell_len(label + reason) > room:
        label = reading.name  # the reason matters more than the long label
    label = truncate(label, room)
    name: Line = ((head, style), (label, TextStyle.NORMAL if reading.verdict is Verdict.PASS else TextStyle.STRONG))
    left = max(0, room - cell_len(label))
    lines: list[Line] = [(*name, (truncate(reason, left), TextStyle.NORMAL))]
    if rows > 1 and cell_len(reason) > left > _MIN_REASON:
        pieces = wrap(reason[2:], left - 2)
        if len(pieces) > rows:
            pieces[rows - 1] = clip((*pieces[rows - 1], (" …", TextStyle.NORMAL)), left - 2)
        lines = hang((*name, (": ", TextStyle.NORMAL)), pieces[:rows])
    return [dim(line) for line in lines] if rests_on_old_data(reading, now) else lines


def _summary_text(reading: GateReading, now: float, reasons: bool) -> Line:
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    reason = f": {sanitize(reading.reason)}" if reasons and reading.reason else ""
    if not rests_on_old_data(reading, now):
        return ((f"{glyph} ", style), (reading.name, TextStyle.NORMAL), (reason, TextStyle.DIM))
    return ((f"{glyph} {reading.name} {format_age(reading.age(now))} ago{reason}", TextStyle.DIM),)

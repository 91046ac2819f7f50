"""The gates of the current phase: one line while it runs, one line each while the release waits."""

from rich.cells import cell_len

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    format_age,
    join,
    line_width,
    sanitize,
    truncate,
)
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import list_current_gates


class GateSummary(ReleaseView):
    """Verdict, reason and age of each gate."""

    click_action = "gates"

    auto_height = 4

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return gate_lines(board, context, cells)


def gate_lines(board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return []
    gates = list_current_gates(record, now)
    release = record.release
    if not gates or release.state.has_ended or release.state.is_rolling_back:
        return []
    following = f"{release.next_phase.name} waits for" if release.next_phase else "the end waits for"
    if release.state is ReleaseState.WAITING:
        column = max(len(reading.verdict) for _, reading in gates)
        return [_gate_line(label, reading, now, cells, column) for label, reading in gates]
    for reasons in (True, False):  # names alone where the reasons do not fit
        short = join([_summary_text(reading, reasons) for _, reading in gates], ("  ", TextStyle.NORMAL))
        line = ((f"{following}: ", TextStyle.DIM), *short)
        if line_width(line) <= cells:
            break
    return [clip(line, cells)]


def _gate_line(label: str, reading: GateReading, now: float, cells: int, column: int) -> Line:
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    # The reason of a stale reading contains its age.
    age = "" if reading.age(now) > reading.max_age else f" {format_age(reading.age(now))}"
    reason = f": {sanitize(reading.reason)}" if reading.reason else ""
    head = f"{glyph} {reading.verdict:<{column}} "
    room = cells - len(head) - len(age)
    if reason and cell_len(label + reason) > room:
        label = reading.name  # the reason matters more than the long label
    label = truncate(label, room)
    return (
        (head, style),
        (label, TextStyle.NORMAL if reading.verdict is Verdict.PASS else TextStyle.STRONG),
        (truncate(reason, max(0, room - cell_len(label))), TextStyle.NORMAL),
        (age, TextStyle.DIM),
    )


def _summary_text(reading: GateReading, reasons: bool) -> Line:
    glyph, style = VERDICT_GLYPHS[reading.verdict]
    reason = f": {sanitize(reading.reason)}" if reasons and reading.reason else ""
    return ((f"{glyph} ", style), (reading.name, TextStyle.NORMAL), (reason, TextStyle.DIM))

"""The gates of the current phase: one line while it runs, one line each while the release waits for them."""

from rich.cells import cell_len

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, cut, human_age, join, outside, width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import State
from zdd_tui.model.release.summary import current_gates

GLYPHS = {
    Verdict.PASS: ("✔", Tone.GOOD),
    Verdict.FAIL: ("✗", Tone.BAD),
    Verdict.INCONCLUSIVE: ("~", Tone.WARN),
    Verdict.UNKNOWN: ("?", Tone.WARN),
}


class GateLine(LineView):
    """Verdict by glyph and word, reason and age."""

    auto_height = 4

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return gate_lines(board, moment, cells)


def gate_lines(board: Board, moment: Moment, cells: int) -> list[Line]:
    record, now = board.release.value, board.server_now(moment.now)
    if record is None or now is None:
        return []
    gates = current_gates(record, now)
    release = record.release
    if not gates or release.state.ended or release.state.backwards:
        return []
    following = f"{release.next.name} waits for" if release.next else "the end waits for"
    if release.state is State.WAITING:
        column = max(len(reading.verdict) for _, reading in gates)
        return [_gate_line(label, reading, now, cells, column) for label, reading in gates]
    for reasons in (True, False):
        # Reasons where they fit; the names alone must do where they do not.
        short = join([_short(reading, reasons) for _, reading in gates], ("  ", Tone.NORMAL))
        line = ((f"{following}: ", Tone.DIM), *short)
        if width(line) <= cells:
            break
    return [clip(line, cells)]


def _gate_line(label: str, reading: GateReading, now: float, cells: int, column: int) -> Line:
    glyph, tone = GLYPHS[reading.verdict]
    # A stale reading tells its age in its reason.
    age = "" if reading.age(now) > reading.max_age else f" {human_age(reading.age(now))}"
    reason = f": {outside(reading.reason)}" if reading.reason else ""
    head = f"{glyph} {reading.verdict:<{column}} "
    room = cells - len(head) - len(age)
    if reason and cell_len(label + reason) > room:
        label = reading.name  # the reason matters more than the long label
    label = cut(label, room)
    return (
        (head, tone),
        (label, Tone.NORMAL if reading.verdict is Verdict.PASS else Tone.STRONG),
        (cut(reason, max(0, room - cell_len(label))), Tone.NORMAL),
        (age, Tone.DIM),
    )


def _short(reading: GateReading, reasons: bool) -> Line:
    glyph, tone = GLYPHS[reading.verdict]
    reason = f": {outside(reading.reason)}" if reasons and reading.reason else ""
    return ((f"{glyph} ", tone), (reading.name, Tone.NORMAL), (reason, Tone.DIM))

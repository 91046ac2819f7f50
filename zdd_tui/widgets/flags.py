"""The release's flags."""

from zdd_tui.board import FLAGS_STALE, Board, FlagView, Moment, Sourced
from zdd_tui.widgets.line import Line, Tone, cut, cut_start, fit
from zdd_tui.widgets.pane import Pane


class FlagPane(Pane):
    """Role, value and name of each flag."""

    name_of_pane = "flags"
    limit = FLAGS_STALE

    def source(self, board: Board) -> Sourced[object]:
        return board.flags

    def body(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        flags = board.flags.value or ()
        room = max((len(flag.role) for flag in flags), default=0)
        return [line for flag in flags for line in flag_lines(flag, cells, room)]


def flag_lines(flag: FlagView, cells: int, room: int = 5) -> list[Line]:
    """``write ● on   users_full_name_write``; a second line where the value cannot be understood."""
    if flag.problem:
        glyph, word, tone = "✗", "bad", Tone.BAD
    elif flag.value is None:
        glyph, word, tone = "·", "unset", Tone.DIM
    elif flag.value.off:
        glyph, word, tone = "○", "off", Tone.NORMAL
    else:
        glyph, word, tone = ("●" if flag.value.on else "◐"), str(flag.value), Tone.GOOD
    head = f"{flag.role:<{room}} "
    state = f"{glyph} {fit(word, 5)} "
    lines: list[Line] = [
        ((head, Tone.NORMAL), (state, tone), (cut_start(flag.key, cells - len(head) - len(state)), Tone.DIM))
    ]
    if flag.problem:
        lines.append(((cut(f"  {flag.problem}", cells), Tone.BAD),))
    return lines

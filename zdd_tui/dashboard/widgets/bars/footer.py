"""The last line: the keys that do something now. A key that would be refused is not offered."""

from collections.abc import Sequence
from itertools import groupby

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.pane import missing
from zdd_tui.model.actions import ACTIONS, Action
from zdd_tui.model.release.state import CommandKind, State
from zdd_tui.model.release.summary import refusal

_GAP = ("  ", Tone.NORMAL)
_DIGITS = tuple("0123456789")


class Footer(LineView):
    """``a advance  p pause  R rollback  ? help``."""

    plated = True

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [footer(board, moment, cells)]


def footer(board: Board, moment: Moment, cells: int) -> Line:
    """As many keys as there is room for, whole ones only; help and palette name the others."""
    hints = [
        _hint(tuple(together), moment)
        for _, together in groupby(_told(board, moment), key=lambda each: each.group or each.id)
    ]
    line: Line = ()
    for hint in hints:
        longer = (*line, _GAP, *hint) if line else hint
        if width(longer) <= cells:
            line = longer
    return line


def _told(board: Board, moment: Moment) -> tuple[Action, ...]:
    return tuple(each for each in available(board, moment) if not each.quiet)


def _hint(actions: tuple[Action, ...], moment: Moment) -> Line:
    keys = in_short([moment.keys[each.id] for each in actions])
    return ((keys, Tone.KEY), (f" {actions[0].group or actions[0].label}", Tone.NORMAL))


def in_short(keys: Sequence[str]) -> str:
    """``1-4 6`` for ``1 2 3 4 6``: three digits or more that follow each other are told by the first and the last."""
    runs: list[list[str]] = []
    for key in keys:
        follows = key in _DIGITS and runs and runs[-1][-1] in _DIGITS and int(key) == int(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(key)
        else:
            runs.append([key])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(run) for run in runs)


def offered(board: Board, moment: Moment) -> tuple[Action, ...]:
    """The actions that exist for the operator; some of them may be refused now. Those that share a key take turns."""
    record = board.release.value
    paused = record is not None and record.release.paused
    hidden = "pause" if paused else "resume"
    return tuple(each for each in ACTIONS if each.id != hidden and moment.access.shows(each, moment.now))


def available(board: Board, moment: Moment) -> tuple[Action, ...]:
    """The actions that would have an effect now."""
    return tuple(each for each in offered(board, moment) if not why_not_now(board, moment, each))


def why_not_now(board: Board, moment: Moment, each: Action) -> str:
    """Why an action would have no effect by what is on the board; empty when it would."""
    if each.mutating:
        return why_not(board, moment, CommandKind(each.sends))
    return missing(board.plan, each.pane)


def why_not(board: Board, moment: Moment, kind: CommandKind) -> str:
    """Why a command would be refused by what is on the board; empty when it would not."""
    record, now = board.release.value, board.server_now(moment.now)
    if record is None or now is None:
        return board.release.error or "the release has not been read yet"
    if board.release.error and kind is not CommandKind.ROLLBACK:  # the way back is offered from anywhere, always
        return f"{board.release.error}; nothing can be sent until it is back"
    if kind is CommandKind.ROLLBACK and record.release.state is State.ROLLING_BACK:
        return "the release is being rolled back already"  # the rules take it, but it would change nothing
    return refusal(record.release, kind, record.gates, now)

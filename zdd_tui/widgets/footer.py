"""The last line: the keys that do something now. A key that would be refused is not offered."""

from zdd_tui.board import Board, Moment
from zdd_tui.model.action import ACTIONS, Action
from zdd_tui.model.release import CommandKind, State
from zdd_tui.model.situation import refusal
from zdd_tui.widgets.line import Line, Tone, clip, join
from zdd_tui.widgets.line_view import LineView

KEY_NAMES = {"question_mark": "?"}


class Footer(LineView):
    """``a advance  p pause  R rollback  ? help``."""

    read_only = False

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        offered = available(board, moment, read_only=self.read_only)
        return [clip(join([_hint(action) for action in offered], ("  ", Tone.NORMAL)), cells)]


def _hint(action: Action) -> Line:
    return ((KEY_NAMES.get(action.key, action.key), Tone.KEY), (f" {action.label}", Tone.NORMAL))


def available(board: Board, moment: Moment, *, read_only: bool = False) -> tuple[Action, ...]:
    """The actions that would have an effect now."""
    return tuple(
        action
        for action in ACTIONS
        if not action.mutating or (not read_only and not why_not(board, moment, CommandKind(action.id)))
    )


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

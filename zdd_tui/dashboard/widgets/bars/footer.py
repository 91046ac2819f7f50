"""The last line: the keys that do something now. A key that would be refused is not offered."""

from collections.abc import Sequence
from itertools import groupby

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, line_width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.pane import missing_pane_reason
from zdd_tui.model.actions import ACTIONS, Action
from zdd_tui.model.release.next_commands import explain_refusal, pause_or_resume
from zdd_tui.model.release.state import CommandKind

_GAP = ("  ", TextStyle.NORMAL)
_DIGITS = tuple("0123456789")


class Footer(LineView):
    """``a advance  p pause  R rollback  ? help``."""

    is_coloured_in_production = True

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: DashboardState, moment: RenderContext, cells: int) -> list[Line]:
        return [footer_line(board, moment, cells)]


def footer_line(board: DashboardState, context: RenderContext, cells: int) -> Line:
    """As many keys as there is room for, whole ones only; help and palette name the others."""
    hints = [
        _hint(tuple(together), context)
        for _, together in groupby(_shown_actions(board, context), key=lambda each: each.group or each.id)
    ]
    line: Line = ()
    for hint in hints:
        longer = (*line, _GAP, *hint) if line else hint
        if line_width(longer) <= cells:
            line = longer
    return line


def _shown_actions(board: DashboardState, context: RenderContext) -> tuple[Action, ...]:
    return tuple(each for each in available_actions(board, context) if not each.hidden_in_footer)


def _hint(actions: tuple[Action, ...], context: RenderContext) -> Line:
    keys = shorten_keys([context.key_names[each.id] for each in actions])
    return ((keys, TextStyle.KEY), (f" {actions[0].group or actions[0].label}", TextStyle.NORMAL))


def shorten_keys(keys: Sequence[str]) -> str:
    """``1-4 6`` for ``1 2 3 4 6``: three digits or more that follow each other are told by the first and the last."""
    runs: list[list[str]] = []
    for key in keys:
        follows = key in _DIGITS and runs and runs[-1][-1] in _DIGITS and int(key) == int(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(key)
        else:
            runs.append([key])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else " ".join(run) for run in runs)


def offered_actions(board: DashboardState, context: RenderContext) -> tuple[Action, ...]:
    """The actions that exist for the operator; some of them may be refused now. Those that share a key take turns."""
    record = board.release.value
    hidden = {CommandKind.PAUSE, CommandKind.RESUME} - {pause_or_resume(record.release if record else None)}
    return tuple(
        each for each in ACTIONS if each.id not in hidden and context.production_lock.is_available(each, context.now)
    )


def available_actions(board: DashboardState, context: RenderContext) -> tuple[Action, ...]:
    """The actions that would have an effect now."""
    return tuple(each for each in offered_actions(board, context) if not action_disabled_reason(board, context, each))


def action_disabled_reason(board: DashboardState, context: RenderContext, each: Action) -> str:
    """Why an action would have no effect by what is on the board; empty when it would."""
    if each.mutating:
        return disabled_reason(board, context, CommandKind(each.command_kind))
    return missing_pane_reason(board.plan, each.pane)


def disabled_reason(board: DashboardState, context: RenderContext, kind: CommandKind) -> str:
    """Why a command would be refused by what is on the board; empty when it would not."""
    record, now = board.release.value, board.server_now(context.now)
    if record is None or now is None:
        return board.release.error or "the release has not been read yet"
    if board.release.error and kind is not CommandKind.ROLLBACK:  # the way back is offered from anywhere, always
        return f"{board.release.error}; nothing can be sent until it is back"
    return explain_refusal(record.release, kind, record.gates, now)

"""Which panes there are, and which give way where rows are scarce."""

from dataclasses import dataclass

from zdd_tui.board import Board
from zdd_tui.model.strategy import Phase

ROWS_FOR_ALL = 32
"""From this height on nothing has to give way."""

_CROWDED_RULES = 3
"""So many rules are in sight beside the backfill on a low screen, the worst first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is shown at the right of the pods.

    Attributes:
        compact: the guard has one line a rule.
        guard_rows: lines that the guard may take.
        flag_rows: lines that the flags take.
    """

    backfill: bool
    flags: bool
    guard: bool
    compact: bool
    guard_rows: int
    flag_rows: int = 3

    @property
    def right(self) -> bool:
        return self.backfill or self.flags or self.guard


def layout(board: Board, rows: int) -> Layout:
    """What a plan has gets a pane. On a low screen there is no room for three: the backfill gives way to the guard
    except while it is at work, and then the flags do, which nobody switches meanwhile; but never to hide an error.
    """
    plan = board.plan
    guard = bool(plan.rules)
    low = rows < ROWS_FOR_ALL
    backfill = plan.backfills and (not low or not guard or _backfilling(board))
    crowded = low and guard and backfill
    rules = len(plan.rules)
    guard_rows = min(rules, _CROWDED_RULES) if crowded else 2 * rules + 1
    flags = plan.flagged and (not crowded or bool(board.flags.error))
    return Layout(backfill, flags, guard, crowded, guard_rows, _flag_rows(board, low))


def _flag_rows(board: Board, low: bool) -> int:
    """Titles, a line a flag, and what is wrong with them."""
    flags = board.flags.value or ()
    wrong = sum(bool(flag.problem) for flag in flags)
    if not flags:
        return 3 if board.flags.error else 2
    return min(1 + len(flags) + wrong + bool(board.flags.error), 4 if low else 9)


def _backfilling(board: Board) -> bool:
    record = board.release.value
    if record is None or record.release.state.ended or record.release.state.backwards:
        return False
    phase = record.release.current
    return phase is not None and phase.name == Phase.BACKFILL

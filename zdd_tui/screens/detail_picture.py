"""The strategy's own picture, over the whole screen."""

from collections.abc import Sequence

from zdd_tui.board import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.screens.detail import DetailScreen
from zdd_tui.widgets.line import Line
from zdd_tui.widgets.picture import picture_lines


class PictureScreen(DetailScreen):
    """Drawn from the board alone."""

    def heading(self, board: Board) -> str:
        return f"{board.plan.strategy} of {board.plan.name}"

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        return board.release, RELEASE_STALE

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        return picture_lines(board, moment, cells)

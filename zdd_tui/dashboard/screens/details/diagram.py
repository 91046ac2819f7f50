"""The strategy's own picture, over the whole screen."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look
from zdd_tui.dashboard.state import RELEASE_STALE, Board, BoardSource, Moment, Sourced
from zdd_tui.dashboard.widgets.diagrams.shadow import shadow_lines
from zdd_tui.dashboard.widgets.diagrams.strategy import picture_lines
from zdd_tui.dashboard.widgets.drawing.line import Line
from zdd_tui.model.shadow import ShadowQuery


class PictureScreen(DetailScreen):
    """Drawn from the board alone; of a dark launch also which answers differ, from the pods' logs."""

    every: ClassVar[float] = 5.0

    def __init__(self, source: BoardSource, look: Look) -> None:
        super().__init__(source, look)
        dark = source.board().plan.strategy == "dark-launch"
        self._samples = self.will_ask(ShadowQuery(), "the pods' logs") if dark else None
        self.wrapped = self._samples is None  # else: old beside new, each cut where it must be

    def heading(self, board: Board) -> str:
        return f"{board.plan.strategy} of {board.plan.name}"

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        return board.release, RELEASE_STALE

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        asked = self._samples
        if asked is None:
            return picture_lines(board, moment, cells)
        told = shadow_lines(asked.answer, asked.limit, moment, cells, whole=self.wrapped)
        return picture_lines(board, moment, cells, told)

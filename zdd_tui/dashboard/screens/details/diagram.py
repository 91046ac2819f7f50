"""The topology of a release, over the whole screen."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter
from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, Observed, RenderContext, StateSource
from zdd_tui.dashboard.widgets.diagrams.shadow import shadow_sample_lines
from zdd_tui.dashboard.widgets.diagrams.sources import oldest_source
from zdd_tui.dashboard.widgets.diagrams.strategy import diagram_lines
from zdd_tui.dashboard.widgets.drawing.line import Line
from zdd_tui.model.plan.registry import strategy_title
from zdd_tui.model.shadow import ShadowQuery


class DiagramScreen(DetailScreen):
    """Drawn from the state; of a dark launch also the different results, from the pods' logs."""

    refresh_interval: ClassVar[float] = 5.0

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        is_dark_launch = source.state().plan.strategy == "dark-launch"
        self._samples = self.add_query(ShadowQuery(), "the pods' logs") if is_dark_launch else None
        self.is_wrapped = self._samples is None  # old and new values side by side are truncated

    def heading(self, board: DashboardState) -> str:
        return f"topology ({strategy_title(board.plan.strategy)})"

    def age_source(self, board: DashboardState) -> tuple[Observed[object], float]:
        return oldest_source(board, self._get_context().now), RELEASE_STALE_SECONDS

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        query = self._samples
        if query is None:
            return diagram_lines(board, context, formatter.cells)
        samples = shadow_sample_lines(
            query.result, query.stale_after, context, formatter.cells, in_full=self.is_wrapped
        )
        return diagram_lines(board, context, formatter.cells, samples)

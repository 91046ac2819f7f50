"""The lines of the demo's tour, above everything else."""

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, hang, line_width, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.model.tour import TOUR_STEPS, current_tour_step


class TourLines(ReleaseView):
    """``TOUR 2 of 6  …``, as many lines as the text needs."""

    auto_height = 5

    DEFAULT_CSS = """
    TourLines { padding: 0 1; }
    """

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        record = board.release.value
        step = current_tour_step(record.release if record is not None else None)
        badge = f" TOUR {step.number} of {len(TOUR_STEPS)} " if step.number else " TOUR "
        head: Line = ((badge, TextStyle.DONE), ("  ", TextStyle.NORMAL))
        text = f"{step.format(context.key_names)} (Esc ends the tour.)"
        return hang(head, wrap(text, cells - line_width(head)))
